import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stages import audit
from stages.common import parallel
from stages.common.errors import InputError
from stages.intake import contact_sheet, copies
from tests import made


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder data/raw of a scratch project, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    made.write_params(tmp_path)
    made.make_raw(tmp_path)
    return Path("data/raw")


def table() -> list[dict[str, str]]:
    with audit.TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def details() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(audit.DETAILS.read_text())
    return content


def message() -> str:
    with pytest.raises(InputError) as caught:
        audit.main()
    assert not audit.TABLE.exists()
    assert not audit.DETAILS.exists()
    return str(caught.value)


BAD = {
    "empty.png": b"",
    "text.png": b"no picture here",
    "page.jpg": b"<!DOCTYPE html><title>403</title>",
    "cut.jpg": made.encoded(made.picture(50), "JPEG")[:900],
    "tiny.png": made.encoded(made.picture(50, (5, 5)), "PNG"),
    "animated.gif": made.encoded(
        made.picture(50), "GIF", save_all=True, append_images=[made.picture(51)]
    ),
    '-rf "it\'s" 胸部.png': b"",
    "two\nlines.png": b"",
}
REASONS = {
    "empty.png": "it is empty (0 bytes)",
    "text.png": "it is text, not an image",
    "page.jpg": "it is a web page, not an image; the download probably failed",
    "cut.jpg": "its image data is damaged (image file is truncated (",
    "tiny.png": "it has 5 x 5 pixels; expected at least 32 x 32",
    "animated.gif": "it holds 2 pictures; expected one",
    '-rf "it\'s" 胸部.png': "it is empty (0 bytes)",
    "two\\nlines.png": "it is empty (0 bytes)",
}


def add_bad_files(raw: Path) -> None:
    for name, content in BAD.items():
        (raw / "train" / "Covid" / name).write_bytes(content)


# ------------------------------------------------------------------------------ what comes out


def test_one_row_per_file(raw: Path) -> None:
    path = raw / "train" / "Covid" / "00.png"
    path.unlink()
    name = 'it\'s, "quoted" & größer 胸.jpg'
    picture = made.picture(99, (300, 240)).convert("RGB")
    picture.save(raw / "train" / "Covid" / name, quality=90)
    audit.main()
    rows = table()
    assert len(rows) == 27
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    row = next(row for row in rows if row["path"] == f"train/Covid/{name}")
    data = (raw / "train" / "Covid" / name).read_bytes()
    with Image.open(raw / "train" / "Covid" / name) as image:
        pixels = image.convert("RGB").tobytes()
    assert row == {
        "path": f"train/Covid/{name}",
        "split": "train",
        "class": "Covid",
        "bytes": str(len(data)),
        "format": "JPEG",
        "mode": "RGB",
        "width": "300",
        "height": "240",
        "sha256": hashlib.sha256(data).hexdigest(),
        "pixels_sha256": hashlib.sha256(b"300x240:" + pixels).hexdigest(),
        "group": row["group"],
        "leaked": "no",
    }


def test_counts(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit.main()
    written = details()
    assert written["provenance"] == {"data": "made for a test"}
    assert written["images"] == {
        "train": dict.fromkeys(made.CLASSES, 6),
        "test": dict.fromkeys(made.CLASSES, 3),
    }
    assert written["groups"] == 27
    assert written["unreadable"] == 0
    assert set(written["copies"].values()) == {0}
    assert written["copy_groups"] == []
    assert len({row["group"] for row in table()}) == 27
    assert "27 images of 27 radiographs; 0 radiographs more than once" in capsys.readouterr().out
    assert audit.CONTACT_SHEET.is_file()


def test_copies_within_and_across_the_splits(raw: Path) -> None:
    shutil.copy(raw / "train/Covid/00.png", raw / "test/Covid/other.png")
    shutil.copy(raw / "train/Normal/00.png", raw / "train/Normal/other.png")
    with Image.open(raw / "train/Normal/01.png") as image:
        image.resize((150, 120)).save(raw / "train/Normal/small.png")
    with Image.open(raw / "test/Normal/01.png") as image:
        image.convert("RGB").save(raw / "test/Viral Pneumonia/same.bmp")
    audit.main()
    written = details()
    assert written["groups"] == 27
    assert written["copies"] == {
        "groups_with_copies": 4,
        "within_train": 2,
        "within_test": 1,
        "across_splits": 1,
        "identical_pairs": 2,
        "contradicting_classes": 1,
        "leaked_test_images": 1,
    }
    assert [(group["kinds"], group["files"]) for group in written["copy_groups"]] == [
        (["bytes"], ["test/Covid/other.png", "train/Covid/00.png"]),
        (["pixels"], ["test/Normal/01.png", "test/Viral Pneumonia/same.bmp"]),
        (["bytes"], ["train/Normal/00.png", "train/Normal/other.png"]),
        (["near"], ["train/Normal/01.png", "train/Normal/small.png"]),
    ]
    assert [row["path"] for row in table() if row["leaked"] == "yes"] == ["test/Covid/other.png"]


def test_the_contact_sheet_shows_copies_that_a_person_has_to_judge(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(raw / "train/Covid/00.png", raw / "test/Covid/other.png")  # no doubt about these
    for name in ("a.jpg", "b.png"):
        made.picture(700, (600, 500)).save(raw / "train/Normal" / name)
    drawn: list[Any] = []
    monkeypatch.setattr(contact_sheet, "write", lambda *arguments: drawn.extend(arguments))
    audit.main()
    target, title, groups = drawn
    assert (target, title) == (audit.CONTACT_SHEET, "Near copies: made for a test")
    ((one, other),) = groups
    assert (one[0], other[0]) == ("train/Normal/a.jpg", "train/Normal/b.png")
    assert one[1].size == other[1].size == (240, 200)


def test_the_same_bytes_whatever_the_number_of_threads(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(raw / "train/Covid/00.png", raw / "test/Covid/other.png")
    with Image.open(raw / "train/Normal/00.png") as image:
        image.resize((150, 120)).save(raw / "train/Normal/large.png")
    outputs = []
    for cores in (1, 4):
        monkeypatch.setattr(parallel, "available_cores", lambda cores=cores: cores)
        audit.main()
        places = (audit.TABLE, audit.DETAILS, audit.CONTACT_SHEET)
        outputs.append([place.read_bytes() for place in places])
        for place in places:
            place.unlink()
    assert outputs[0] == outputs[1]


def test_groups_and_leaks_from_pairs() -> None:
    rows: list[dict[str, Any]] = [
        {"path": str(number), "split": split, "class": name}
        for number, (split, name) in enumerate(
            [("test", "A"), ("test", "A"), ("test", "B"), ("train", "A"), ("train", "B")]
        )
    ]
    pairs = [copies.Pair(0, 1, "near", 0.9), copies.Pair(1, 3, "bytes", 1.0)]
    pairs.append(copies.Pair(0, 3, "pixels", 1.0))
    audit.mark_copies(rows, pairs)
    assert [row["leaked"] for row in rows] == ["yes", "yes", "no", "no", "no"]
    assert [rows[n]["group"] == rows[0]["group"] for n in range(5)] == [
        True,
        True,
        False,
        True,
        False,
    ]
    counts = audit.count_copies(rows, pairs)
    assert counts["groups"] == 3
    assert counts["copy_groups"] == [
        {"group": 0, "kinds": ["bytes", "near", "pixels"], "files": ["0", "1", "3"]}
    ]
    assert counts["copies"] == {
        "groups_with_copies": 1,
        "within_train": 0,
        "within_test": 0,
        "across_splits": 1,
        "identical_pairs": 1,
        "contradicting_classes": 0,
        "leaked_test_images": 2,
    }


# ------------------------------------------------------------------------------ unreadable files


def test_fail_lists_every_bad_file_with_its_reason(raw: Path) -> None:
    add_bad_files(raw)
    lines = message().splitlines()
    assert lines[0] == "8 of 35 files can't be used:"
    assert lines[-1] == (
        "Repair or remove them where they come from, or leave them out with "
        "`dvc exp run -S audit.unreadable=quarantine`."
    )
    assert len(lines) == 10
    for name, reason in REASONS.items():
        assert any(line.startswith(f"  data/raw/train/Covid/{name}: {reason}") for line in lines)


def test_quarantine_goes_on_without_them_and_lists_them(raw: Path, tmp_path: Path) -> None:
    add_bad_files(raw)
    made.write_params(tmp_path, unreadable="quarantine")
    audit.main()
    written = details()
    assert written["unreadable"] == 8
    assert written["images"]["train"]["Covid"] == 6
    listed = {record["file"]: record["reason"] for record in written["unreadable_files"]}
    assert listed.keys() == {f"train/Covid/{name}" for name in REASONS}
    for name, reason in REASONS.items():
        assert listed[f"train/Covid/{name}"].startswith(reason)
    assert len(table()) == 27
    assert not any("\n" in row["path"] for row in table())


def test_two_images_are_enough(raw: Path, tmp_path: Path) -> None:
    made.write_params(tmp_path, unreadable="quarantine")
    (raw / "test" / "Normal" / "00.png").write_bytes(b"")
    audit.main()
    assert details()["images"]["test"]["Normal"] == 2


@pytest.mark.parametrize("left", [0, 1])
def test_quarantine_refuses_if_too_few_are_left(raw: Path, tmp_path: Path, left: int) -> None:
    made.write_params(tmp_path, unreadable="quarantine")
    for number in range(left, 3):
        (raw / "test" / "Normal" / f"{number:02d}.png").write_bytes(b"")
    lines = message().splitlines()
    assert lines[0] == (
        f"data/raw/test/Normal: found {left} readable images, expected at least 2. Unreadable are:"
    )
    assert lines[-1] == "  data/raw/test/Normal/02.png: it is empty (0 bytes)"
    assert len(lines) == 1 + 3 - left


@pytest.mark.parametrize("treatment", ["fail", "quarantine"])
def test_too_few_images_to_begin_with(raw: Path, tmp_path: Path, treatment: str) -> None:
    made.write_params(tmp_path, unreadable=treatment)
    for number in (1, 2):
        (raw / "test" / "Normal" / f"{number:02d}.png").unlink()
    assert message() == "data/raw/test/Normal: found 1 readable images, expected at least 2."


def test_an_image_that_may_not_be_read_is_no_bad_image(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quarantine must not leave out what only this machine can't read."""
    made.write_params(tmp_path, unreadable="quarantine")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "data/raw/train/Covid/00.png")

    monkeypatch.setattr(Image, "open", denied)
    with pytest.raises(PermissionError):
        audit.main()


# --------------------------------------------------------------------------------- what goes in


def test_a_class_without_images_in_one_split(raw: Path) -> None:
    shutil.rmtree(raw / "test" / "Normal")
    assert message() == "data/raw/test/Normal: found 0 readable images, expected at least 2."


def test_a_split_without_images(raw: Path) -> None:
    shutil.rmtree(raw / "test")
    assert message() == "data/raw/test/Covid: found 0 readable images, expected at least 2."


def test_what_file_managers_leave_behind_is_passed_over(raw: Path) -> None:
    for place in ("Thumbs.db", "train/.DS_Store", "train/Covid/.DS_Store", "test/Covid/Thumbs.db"):
        (raw / place).write_bytes(b"x")
    audit.main()
    assert len(table()) == 27


def test_dvc_ignores_what_is_passed_over() -> None:
    ignored = (made.PROJECT / ".dvcignore").read_text().split()
    assert set(ignored) >= audit._FILE_MANAGERS


def test_nothing_was_downloaded(raw: Path) -> None:
    shutil.rmtree(raw)
    assert message() == (
        "data/raw/provenance.json is not there; the stage `download` writes it. "
        "Run `dvc repro download`."
    )


def test_as_a_program(raw: Path, tmp_path: Path) -> None:
    """In a locale without UTF-8, too."""
    add_bad_files(raw)
    done = made.run_stage(
        tmp_path, "audit", LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("audit: 8 of 35 files can't be used:\n")
    assert "Traceback" not in done.stderr
    made.write_params(tmp_path, unreadable="quarantine")
    done = made.run_stage(
        tmp_path, "audit", LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("8 unreadable\n")
