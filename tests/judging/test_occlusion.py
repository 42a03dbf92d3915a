import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.judging import occlusion
from stages.learning.dataset import SIZE

PARTS = occlusion.parts()
both_fillings = pytest.mark.parametrize("filling", occlusion.FILLINGS)


def random_images(seed: int, count: int = 2) -> np.ndarray:
    shape = (count, SIZE, SIZE, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def auroc(low: float) -> dict[str, object]:
    return {"intervals": {"macro_auroc": [low, 0.9]}}


def test_the_parts() -> None:
    assert list(PARTS) == [
        *("frame_5", "frame_10", "frame_20", "frame_40", "centre", "lungs", "all_but_lungs"),
    ]
    for width in (5, 10, 20, 40):
        assert PARTS[f"frame_{width}"].sum() == SIZE**2 - (SIZE - 2 * width) ** 2
        assert not PARTS[f"frame_{width}"][width, width]
        assert PARTS[f"frame_{width}"][width - 1, SIZE // 2]
    for one, other in (("centre", "frame_40"), ("lungs", "all_but_lungs")):
        assert (PARTS[one] ^ PARTS[other]).all()


def test_the_region_of_the_lungs_is_two_equal_ones_beside_the_spine() -> None:
    lungs = PARTS["lungs"]
    assert np.array_equal(lungs, lungs[:, ::-1])
    assert not lungs[:, 97:103].any()
    assert lungs[10:177].any(axis=1).all()
    assert not lungs[[*range(10), *range(177, SIZE)]].any()
    corner = 22  # where a letter may stand
    assert not lungs[:corner, :corner].any()
    assert 0.55 < lungs.mean() < 0.65


@both_fillings
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(PARTS)))
def test_nothing_is_left_of_what_is_covered_and_the_rest_is_as_it_was(
    filling: str, seed: int, part: str
) -> None:
    one, other = random_images(seed), random_images(seed + 1)
    covered = PARTS[part]
    other[:, ~covered] = one[:, ~covered]
    before = one.copy()
    result = occlusion.occluded(one, covered, filling)
    assert result.dtype == np.uint8
    assert result.shape == one.shape
    assert np.array_equal(result[:, ~covered], one[:, ~covered])
    assert np.array_equal(result, occlusion.occluded(other, covered, filling))
    assert np.array_equal(one, before)


@both_fillings
def test_an_image_is_covered_alike_alone_and_among_others(filling: str) -> None:
    images = random_images(3, 5)
    together = occlusion.occluded(images, PARTS["lungs"], filling)
    for image, covered in zip(images, together, strict=True):
        assert np.array_equal(occlusion.occluded(image[None], PARTS["lungs"], filling)[0], covered)


def test_grey_is_mid_grey() -> None:
    covered = PARTS["centre"]
    assert (occlusion.occluded(random_images(0), covered, "grey")[:, covered] == 128).all()


@pytest.mark.parametrize("part", PARTS)
def test_blurred_goes_on_at_the_border_from_what_is_around(part: str) -> None:
    level = np.full((1, SIZE, SIZE, 3), 77, np.uint8)
    assert (occlusion.occluded(level, PARTS[part], "blurred") == 77).all()
    slope = np.repeat(np.tile(np.arange(SIZE, dtype=np.uint8), (SIZE, 1))[..., None], 3, axis=2)
    (filled,) = occlusion.occluded(slope[None], PARTS[part], "blurred").astype(int)
    (grey,) = occlusion.occluded(slope[None], PARTS[part], "grey").astype(int)
    border = PARTS[part][:, 1:] != PARTS[part][:, :-1]
    step, hard = (np.abs(np.diff(image[..., 0], axis=1))[border].max() for image in (filled, grey))
    assert step <= 15 < 25 < hard
    assert filled.min() >= 0
    assert filled.max() < SIZE


def test_blurred_is_grey_in_colour_pictures_too() -> None:
    red = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    red[..., 0] = 90
    filled = occlusion.occluded(red, PARTS["lungs"], "blurred")
    assert (filled[:, PARTS["lungs"]] == 30).all()


@pytest.mark.parametrize(
    ("low", "says"),
    [
        ((0.51, 0.6), occlusion.ABOVE),
        ((0.51, 0.5), occlusion.BY_FILLING),
        ((0.4, 0.51), occlusion.BY_FILLING),
        ((0.5, 0.5), occlusion.NOT_ABOVE),
        ((0.2, 0.4), occlusion.NOT_ABOVE),
    ],
)
def test_the_verdict_wants_the_whole_interval_under_both_fillings(
    low: tuple[float, float], says: str
) -> None:
    results = dict(zip(occlusion.FILLINGS, map(auroc, low), strict=True))
    assert occlusion.verdict(results) == says


def test_the_verdicts_differ() -> None:
    words = (occlusion.ABOVE, occlusion.BY_FILLING, occlusion.NOT_ABOVE)
    assert all(one != other for one, other in itertools.combinations(words, 2))


def test_the_picture_has_a_row_for_each_filling(tmp_path: Path) -> None:
    pixels = random_images(0, 1)[0]
    for name in ("one.png", "other.png"):
        occlusion.draw(pixels, "SYNTHETIC PHANTOM $1", tmp_path / name)
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"
        assert image.width > 2.5 * image.height > 1000
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
