"""What is done to images in training, where recipes are tried."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import recipes
from benchmarks.recipes import Recipe
from stages.learning.dataset import SIZE

PLAIN = Recipe()
OF_IMAGES: dict[str, Any] = {
    "rotation": 10.0,
    "shift": 0.1,
    "zoom": 0.1,
    "crop": 0.1,
    "flip": True,
    "brightness": 0.2,
    "blur": 3.0,
    "mask": 20,
}


def picture(seed: int = 0) -> np.ndarray:
    """A smooth grey picture, brighter to the right than to the left; uint8, (SIZE, SIZE, 3)."""
    phase = np.random.default_rng(seed).uniform(0, 6)
    across, down = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    grey = 60 + across / 2 + 30 * np.sin(down / 20 + phase)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def test_an_image_stays_as_it_is_where_nothing_is_asked_for() -> None:
    seen = recipes.changed(picture(), PLAIN, np.random.default_rng(0))
    assert (seen == picture()).all()
    assert (recipes.normalised(picture(), PLAIN) == picture()).all()


def test_moving_by_nothing_moves_nothing() -> None:
    seen = recipes.moved(picture(), PLAIN, np.random.default_rng(0))
    assert abs(seen.astype(int) - picture()).max() <= 1


@pytest.mark.parametrize(("name", "value"), OF_IMAGES.items())
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_every_change_keeps_shape_and_dtype_and_repeats(name: str, value: Any, seed: int) -> None:
    recipe = replace(PLAIN, **{name: value})
    first, second = (
        recipes.augmented(picture(seed)[None], recipe, np.random.default_rng(seed))[0]
        for _ in range(2)
    )
    assert first.shape == picture().shape
    assert first.dtype == np.uint8
    assert (first == second).all()


@pytest.mark.parametrize(("name", "value"), OF_IMAGES.items())
def test_every_change_changes_some_images(name: str, value: Any) -> None:
    pixels = np.array([picture(seed) for seed in range(8)])
    recipe = replace(PLAIN, **{name: value})
    assert (recipes.augmented(pixels, recipe, np.random.default_rng(0)) != pixels).any()


def test_a_colour_picture_is_moved_like_a_grey_one() -> None:
    coloured = picture()
    coloured[0, 0] = (255, 0, 0)
    recipe = replace(PLAIN, rotation=5)
    grey, colour = (
        recipes.moved(pixels, recipe, np.random.default_rng(3)) for pixels in (picture(), coloured)
    )
    assert (grey[40:160, 40:160] == colour[40:160, 40:160]).all()


def test_a_mask_leaves_the_middle_alone_and_blackens_the_border() -> None:
    seen = recipes.changed(picture(), replace(PLAIN, mask=20), np.random.default_rng(1))
    assert not seen[0].any()
    assert (seen[20:-20, 20:-20] == picture()[20:-20, 20:-20]).all()


@pytest.mark.parametrize("grey", ["percentiles", "standardised"])
def test_grey_values_are_the_same_whatever_the_exposure(grey: str) -> None:
    recipe = replace(PLAIN, grey=grey)
    darker = (picture() * 0.7).astype(np.uint8)
    one, other = (recipes.normalised(pixels, recipe) for pixels in (picture(), darker))
    assert abs(one.astype(int) - other).max() <= 4
    assert (one != darker).any()


def test_every_recipe_differs_from_the_others_and_tells_what_it_changes() -> None:
    settings_of = {
        tuple(getattr(recipe, field.name) for field in fields(recipe))
        for recipe in recipes.RECIPES.values()
    }
    assert len(settings_of) == len(recipes.RECIPES)


def test_the_difference_is_that_of_the_means_with_its_interval_around() -> None:
    ours, theirs = np.array([[0.9, 0.8], [1.0, 0.9]]), np.full((2, 2), 0.8)
    words = recipes.difference(ours, theirs, 100)
    middle, low, high = (float(word.strip("[],")) for word in words.split())
    assert middle == pytest.approx(0.1)
    assert low < middle < high
