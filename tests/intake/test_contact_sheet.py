from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from stages.intake import contact_sheet
from tests import made

LONG = f"train/Covid/{'long-' * 12}"


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """For sheets of many rows."""
    monkeypatch.setattr(contact_sheet, "_THUMBNAIL", 24)


def sheet(tmp_path: Path, groups: int, members: int, folder: str = "") -> Image.Image:
    grey = Image.new("L", (50, 40), 90)
    rows = [[f"{folder}{row}-{place}.jpeg" for place in range(members)] for row in range(groups)]
    target = tmp_path / "pictures" / f"{groups}-{members}.png"
    contact_sheet.write(target, "Near copies", rows, lambda _: grey)
    with Image.open(target) as image:
        assert image.format == "PNG"
        return image.copy()


def thumbnails(image: Image.Image) -> int:
    """How many grey squares there are."""
    from scipy import ndimage

    grey = (np.asarray(image)[::4, ::4] == 90).all(axis=2)
    labels, _ = ndimage.label(grey)
    return int((np.bincount(labels[grey]) > contact_sheet._THUMBNAIL**2 / 32).sum())


def test_the_contact_sheet_has_a_row_per_group(tmp_path):
    two, five = sheet(tmp_path, 2, 3), sheet(tmp_path, 5, 3)
    assert thumbnails(two) == 6
    assert thumbnails(five) == 15
    assert five.width == two.width
    none = sheet(tmp_path, 0, 0)
    assert (five.height - none.height) * 2 == (two.height - none.height) * 5
    assert none.height < 100


def test_a_thumbnail_has_its_path_beneath(tmp_path):
    picture = np.asarray(sheet(tmp_path, 1, 1, LONG).convert("L"))
    grey_rows = np.flatnonzero((picture == 90).sum(axis=1) > 100)
    beneath = picture[grey_rows[-1] + 1 :]
    assert (beneath < 60).sum() > 200
    heading = picture[grey_rows[0] - 21 : grey_rows[0]]
    assert (heading < 60).sum() > 50


def texts_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written from now on."""
    texts: list[str] = []
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda _self, _place, text, *_rest: texts.append(text)
    )
    return texts


@pytest.mark.usefixtures("_small")
def test_what_the_text_says(tmp_path, monkeypatch):
    texts = texts_of(monkeypatch)
    sheet(tmp_path, 0, 0)
    assert texts == ["Near copies", "No near copies were found."]
    texts.clear()
    sheet(tmp_path, 1, 7)
    assert texts[0] == "Group 1: 7 files, 1 not drawn"
    texts.clear()
    sheet(tmp_path, 61, 1)
    assert texts[-2:] == ["Near copies", "61 groups of near copies; 1 more than are drawn here"]


def test_a_long_path_is_broken_into_lines(tmp_path, monkeypatch):
    texts = texts_of(monkeypatch)
    sheet(tmp_path, 1, 1, LONG)
    assert texts[0] == "Group 1: 1 files"
    lines = texts[1:-2]
    assert len(lines) > 1
    assert "".join(lines) == f"{LONG}0-0.jpeg"
    font = ImageFont.load_default(12)
    assert all(font.getlength(line) <= 240 for line in lines)


@pytest.mark.usefixtures("_small")
def test_the_contact_sheet_is_bounded(tmp_path):
    full, more = sheet(tmp_path, 60, 1), sheet(tmp_path, 61, 1)
    assert more.size == full.size
    assert thumbnails(more) == 60
    assert more.tobytes() != full.tobytes()  # a line says how many are left out
    assert thumbnails(sheet(tmp_path, 1, 9)) == 6


@pytest.mark.usefixtures("_small")
def test_only_the_pictures_that_are_drawn_are_asked_for(tmp_path):
    asked = []

    def picture_of(path):
        asked.append(path)
        return made.picture(1)

    groups = [[f"{group}-{member}" for member in range(9)] for group in range(70)]
    contact_sheet.write(tmp_path / "sheet.png", "Near copies", groups, picture_of)
    assert asked == [f"{group}-{member}" for group in range(60) for member in range(6)]


def test_the_contact_sheet_is_the_same_bytes_twice(tmp_path):
    pictures = {"a.png": made.picture(1), "b.png": made.picture(1).convert("RGB")}
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    contact_sheet.write(first, "Near copies", [list(pictures)], pictures.__getitem__)
    contact_sheet.write(second, "Near copies", [list(pictures)], pictures.__getitem__)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["first.png", "second.png"]
