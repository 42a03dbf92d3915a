"""Phantoms changed as other collections change their radiographs are found, and no others."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from stages.common import parallel
from stages.intake import copies, matching
from stages.intake.matching import Match, Prints
from stages.sources import phantom

COUNT = 6


def radiograph(number: int) -> Image.Image:
    """A phantom, grey, upright."""
    drawn = replace(phantom.make_original(4, number, "train/Normal/x"), size=(420, 400))
    with Image.open(io.BytesIO(phantom.render(replace(drawn, orientation=1)))) as image:
        return image.convert("L")


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    return [radiograph(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def ours(originals: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> list[Prints]:
    return prints_of(tmp_path_factory.mktemp("ours"), originals)


def prints_of(folder: Path, images: Sequence[Image.Image]) -> list[Prints]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:02d}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path, compress_level=1)
    readable, fingerprints, faults = matching.prints(paths, "test", folder / "prints")
    assert (readable, faults) == (paths, [])
    return [fingerprints[number] for number in range(len(fingerprints))]


def pairs(matches: Sequence[Match]) -> list[tuple[int, int]]:
    return [(match.ours, match.theirs) for match in matches]


def cropped(
    image: Image.Image, left: float, top: float, right: float, bottom: float
) -> Image.Image:
    width, height = image.size
    return image.crop(
        (
            round(left * width),
            round(top * height),
            round(width - right * width),
            round(height - bottom * height),
        )
    )


def scaled(image: Image.Image, across: float, down: float) -> Image.Image:
    return image.resize((round(image.width * across), round(image.height * down)))


def windowed(image: Image.Image, low: int, high: int, gamma: float) -> Image.Image:
    shares = np.clip((np.arange(256) - low) / (high - low), 0, 1)
    return image.point(np.rint(255 * shares**gamma).astype(int).tolist())


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "equalised": ImageOps.equalize,
    "windowed": lambda image: windowed(image, 20, 235, 0.6),
    "a tenth off all round": lambda image: cropped(image, 0.1, 0.1, 0.1, 0.1),
    "a sixth off all round": lambda image: cropped(image, 0.17, 0.16, 0.15, 0.17),
    "small": lambda image: scaled(image, 0.4, 0.4),
    "large, aspect lost": lambda image: scaled(image, 2.0, 1.6),
    "JPEG of low quality": lambda image: jpeg(image, 30),
    "all of it": lambda image: jpeg(
        scaled(ImageOps.equalize(cropped(image, 0.08, 0.02, 0.05, 0.1)), 0.5, 0.6), 40
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_radiograph_matches_its_original_alone(kind, originals, ours, tmp_path):
    theirs = prints_of(tmp_path, [CHANGES[kind](image) for image in originals[:3]])
    found = matching.matches(ours, theirs)
    assert pairs(found) == [(0, 0), (1, 1), (2, 2)]
    assert all(copies.SIMILAR <= match.similarity <= 1 for match in found)
    assert pairs(matching.matches(theirs, ours)) == pairs(found)


def test_a_copy_that_lost_more_than_a_tenth_is_found_in_either_set(originals, ours, tmp_path):
    """The middle of either picture is compared with all of the other."""
    theirs = prints_of(tmp_path, [cropped(originals[0], 0.16, 0.17, 0.16, 0.15)])
    assert pairs(matching.matches(ours, theirs)) == [(0, 0)]
    wholes = [(whole, whole) for whole, _ in ours], [(whole, whole) for whole, _ in theirs]
    assert matching.matches(*wholes) == []
    assert pairs(matching.matches(ours, wholes[1])) == [(0, 0)]


def test_equalised_grey_values_are_compared(originals, tmp_path):
    """Whatever keeps the order of the grey values changes no fingerprint, but for rounding."""
    image = originals[0].point([value // 2 for value in range(256)])
    brighter = image.point(
        [round(255 * (value / 127) ** 0.5) for value in range(128)] + [255] * 128
    )
    (one, _), (other, _) = prints_of(tmp_path, [image, brighter])
    assert np.abs(one.fine.astype(int) - other.fine).max() <= 12
    plain = [copies.fingerprint(each) for each in (image, brighter)]
    assert np.abs(plain[0].fine.astype(int) - plain[1].fine).max() > 24


def test_other_and_mirrored_radiographs_do_not_match(originals, ours, tmp_path):
    others = [radiograph(number) for number in range(COUNT, COUNT + 4)]
    turned = [ImageOps.mirror(originals[0]), originals[1].rotate(180)]
    assert matching.matches(ours, prints_of(tmp_path, [*others, *turned])) == []


def test_every_pair_across_the_sets_is_listed_the_most_similar_first(originals, ours, tmp_path):
    rough = jpeg(scaled(originals[2], 0.5, 0.5), 30)
    theirs = prints_of(tmp_path, [rough, originals[5], originals[2]])
    twice = [ours[2], ours[5], ours[2]]
    found = matching.matches(twice, theirs)
    assert pairs(found) == [(0, 2), (0, 0), (1, 1), (2, 2), (2, 0)]
    assert found[0].similarity == 1 > found[1].similarity


def test_copies_within_a_set_do_not_keep_any_from_being_found(ours):
    random = np.random.default_rng(0)
    frames = [
        tuple(
            replace(each, fine=each.fine + random.integers(-3, 4, each.fine.shape, np.int8))
            for each in ours[3]
        )
        for _ in range(12)
    ]
    assert sorted(pairs(matching.matches(ours, frames))) == [(3, number) for number in range(12)]
    assert pairs(matching.matches(frames, ours)) == [(number, 3) for number in range(12)]


def test_no_picture_is_compared_within_its_own_set(ours, monkeypatch):
    seen = []

    def recorded(_prints, candidates, _label):
        seen.append(candidates)
        return np.ones(len(candidates.first))

    monkeypatch.setattr(copies, "similarities", recorded)
    assert pairs(matching.matches([ours[0]] * 3, [ours[0]] * 2)) == [
        (one, other) for one in range(3) for other in range(2)
    ]
    ((first, second, _),) = seen
    assert (first < 6).all()
    assert (second >= 6).all()


def test_what_cannot_be_read_is_named_and_the_rest_compared(tmp_path):
    good = tmp_path / "b.png"
    radiograph(0).save(good)
    text = tmp_path / "text.jpg"
    text.write_text("no image", "utf-8")
    missing = tmp_path / "miss\ning.png"
    file = tmp_path / "prints"
    readable, fingerprints, faults = matching.prints([text, good, missing], "test", file)
    assert readable == [good]
    assert len(fingerprints) == 1
    assert faults == [
        f"{text}: it is text, not an image",
        f"{tmp_path}/miss\\ning.png: it can't be read (No such file or directory)",
    ]


def test_nothing_matches_nothing_and_blank_pictures_match_none(ours, tmp_path):
    blank = prints_of(tmp_path, [Image.new("L", (60, 50), grey) for grey in (0, 200)])
    assert matching.matches([], []) == []
    assert matching.matches(ours, []) == matching.matches([], ours) == []
    assert matching.matches(blank, blank) == []
    assert pairs(matching.matches([*blank, ours[0]], [*blank, ours[0]])) == [(2, 2)]


def test_the_number_of_threads_changes_nothing(ours, monkeypatch):
    found = matching.matches(ours, ours)
    assert pairs(found) == [(number, number) for number in range(COUNT)]
    monkeypatch.setattr(parallel, "available_cores", lambda: 1)
    assert matching.matches(ours, ours) == found
