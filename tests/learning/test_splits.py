import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common.errors import InputError
from stages.learning import splits

LABELS = ["A", "B", "C"] * 20
GROUPS = list(range(60))


@st.composite
def dealable(draw: st.DrawFn) -> tuple[list[str], list[int], int]:
    """Labels and groups that can be dealt into so many shares, by construction.

    Every class has at least one group of its own for each share; there may also be groups with
    images of several classes, as real copies may have.
    """
    count, classes = draw(st.integers(2, 6)), "ABC"[: draw(st.integers(1, 3))]
    sizes = st.lists(st.integers(1, 4), min_size=count, max_size=count + 5)
    of_one_class = [[name] * size for name in classes for size in draw(sizes)]
    of_several = st.lists(st.sampled_from(classes), min_size=2, max_size=5)
    members = of_one_class + draw(st.lists(of_several, max_size=4))
    images = [(label, group) for group, labels in enumerate(members) for label in labels]
    random.Random(draw(st.integers(0, 99))).shuffle(images)
    labels, groups = zip(*images, strict=True)
    return list(labels), list(groups), count


def check(labels: list[str], groups: list[int], kept: np.ndarray, held: np.ndarray) -> None:
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert {groups[n] for n in kept}.isdisjoint(groups[n] for n in held)
    for side in (kept, held):
        assert {labels[n] for n in side} == set(labels)


@settings(max_examples=50, deadline=None)
@given(dealable(), st.integers(0, 2**32 - 1))
def test_no_group_on_both_sides_and_every_class_on_each(
    dealt: tuple[list[str], list[int], int], seed: int
) -> None:
    labels, groups, count = dealt
    kept, held = splits.hold_out(labels, groups, 1 / count, seed)
    check(labels, groups, kept, held)
    again = splits.hold_out(labels, groups, 1 / count, seed)
    assert (again[0].tolist(), again[1].tolist()) == (kept.tolist(), held.tolist())


@settings(max_examples=40, deadline=None)
@given(dealable(), st.integers(0, 100))
def test_every_image_is_in_one_fold(dealt: tuple[list[str], list[int], int], seed: int) -> None:
    labels, groups, count = dealt
    folds = list(splits.folds(labels, groups, count, seed))
    assert len(folds) == count
    assert sorted(n for _, inside in folds for n in inside) == list(range(len(labels)))
    for outside, inside in folds:
        check(labels, groups, outside, inside)


@pytest.mark.parametrize(("share", "images"), [(0.5, 30), (0.25, 15), (0.2, 12), (0.1, 6)])
def test_the_share_is_what_was_asked_for(share: float, images: int) -> None:
    assert len(splits.hold_out(LABELS, GROUPS, share, 0)[1]) == images


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
        "of 5 parts gets one. Add images, raise preprocess.validation_share, or lower "
        "crossvalidate.folds."
    )


def test_a_class_that_only_stands_beside_another_can_leave_a_side_without_it() -> None:
    with pytest.raises(InputError) as caught:
        list(splits.folds(["A", "A", "B", "B"], [0, 1, 1, 2], 2, 0))
    assert str(caught.value) == (
        "class 'B' can't be dealt onto both sides of a split, because copies of one radiograph "
        "must stay together. Take another seed, or add images of this class."
    )
