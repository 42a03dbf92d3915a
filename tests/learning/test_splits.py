from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.learning import splits
from stages.common.errors import InputError

LABELS = ["A", "B", "C"] * 20
GROUPS = list(range(60))

# few groups for many images, some with images of several classes, as real copies may have
IMAGES = st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 25)), min_size=1, max_size=80)


def check(labels: list[str], groups: list[int], kept: np.ndarray, held: np.ndarray) -> None:
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert {groups[n] for n in kept}.isdisjoint(groups[n] for n in held)
    for side in (kept, held):
        assert {labels[n] for n in side} == set(labels)


@settings(max_examples=80, deadline=None)
@given(IMAGES, st.floats(0.05, 0.5), st.integers(0, 2**32 - 1))
def test_no_group_on_both_sides_and_every_class_on_each(
    dealt: list[tuple[str, int]], share: float, seed: int
) -> None:
    labels, groups = [label for label, _ in dealt], [group for _, group in dealt]
    try:
        kept, held = splits.hold_out(labels, groups, share, seed)
    except InputError:
        return
    check(labels, groups, kept, held)
    again = splits.hold_out(labels, groups, share, seed)
    assert (again[0].tolist(), again[1].tolist()) == (kept.tolist(), held.tolist())


@settings(max_examples=40, deadline=None)
@given(IMAGES, st.integers(2, 6), st.integers(0, 100))
def test_every_image_is_in_one_fold(dealt: list[tuple[str, int]], count: int, seed: int) -> None:
    labels, groups = [label for label, _ in dealt], [group for _, group in dealt]
    try:
        folds = list(splits.folds(labels, groups, count, seed))
    except InputError:
        return
    assert len(folds) == count
    assert sorted(n for _, inside in folds for n in inside) == list(range(len(labels)))
    for outside, inside in folds:
        check(labels, groups, outside, inside)


def test_the_share_is_stratified() -> None:
    _, held = splits.hold_out(LABELS, GROUPS, 0.2, 0)
    assert Counter(LABELS[n] for n in held) == {"A": 4, "B": 4, "C": 4}


def test_copies_stay_together_and_the_share_stays_near() -> None:
    groups = [number // 2 for number in range(60)]
    kept, held = splits.hold_out(LABELS, groups, 0.2, 0)
    check(LABELS, groups, kept, held)
    assert 8 <= len(held) <= 16


def test_another_seed_deals_anew() -> None:
    dealt = {tuple(splits.hold_out(LABELS, GROUPS, 0.2, seed)[1]) for seed in range(10)}
    assert len(dealt) == 10


def test_too_few_radiographs_of_a_class() -> None:
    groups = [*range(30), *([99] * 30)]  # half of the images are copies of one radiograph
    labels = ["A"] * 30 + ["B"] * 30
    with pytest.raises(InputError) as caught:
        splits.hold_out(labels, groups, 0.2, 0)
    assert str(caught.value) == (
        "class 'B': found 1 different radiographs to train on, expected at least 5, so that each "
        "of 5 shares gets one. Add images, or lower the number of shares "
        "(preprocess.validation_share, crossvalidate.folds)."
    )
