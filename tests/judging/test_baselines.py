from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common import parallel
from stages.judging import baselines
from stages.learning.dataset import SIZE, Images
from tests import made_processed
from tests.made_processed import noise

MACHINES = [
    *("low_resolution_8", "low_resolution_16", "low_resolution_32"),
    *("frame_5", "frame_10", "frame_20", "frame_40"),
    *("histogram", "file_properties"),
]
FACTS = {"bytes": 9000, "format": "PNG", "mode": "L", "width": 640, "height": 480}


def audit_of(images: Images) -> pd.DataFrame:
    return pd.DataFrame(FACTS, index=images.table["path"])


def random_images(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE), np.uint8)


# -------------------------------------------------------------------------------- what is looked at


def test_the_frames_end_at_cells() -> None:
    assert baselines.FRAME == max(baselines.FRAMES) == 40
    assert all(width % baselines.CELL == 0 for width in baselines.FRAMES)


def test_grey_values_weigh_the_colours_as_the_eye_does() -> None:
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels[0, 0, 0] = (100, 0, 0)
    pixels[0, 1] = 70
    assert baselines.grey_values(pixels).tolist() == [[[30, 0], [70, 70]]]


def test_low_resolution_is_a_mean() -> None:
    grey = np.zeros((2, SIZE, SIZE), np.uint8)
    grey[1, :, SIZE // 2 :] = 200
    grey[1, :25, :25] = np.arange(25, dtype=np.uint8)
    result = baselines.low_resolution(grey, 8)
    assert result.shape == (2, 64)
    assert result.dtype == np.uint8
    assert not result[0].any()
    assert result[1].reshape(8, 8)[0].tolist() == [12, 0, 0, 0, 200, 200, 200, 200]


@given(st.sampled_from(baselines.FRAMES), st.integers(0, 9), st.integers(10, 19))
@settings(max_examples=12, deadline=None)
def test_no_pixel_inside_a_frame_takes_part(width: int, seed: int, other: int) -> None:
    grey, changed = random_images(seed, 2), random_images(seed, 2)
    changed[:, width:-width, width:-width] = random_images(other, 2)[:, width:-width, width:-width]
    assert (baselines.frame(grey, width) == baselines.frame(changed, width)).all()


@given(st.sampled_from(baselines.FRAMES), st.data())
@settings(max_examples=30, deadline=None)
def test_every_pixel_of_a_frame_takes_part(width: int, data: st.DataObject) -> None:
    across, along = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, SIZE - 1))
    place = data.draw(
        st.sampled_from(
            [
                (across, along),
                (along, across),
                (SIZE - 1 - across, along),
                (along, SIZE - 1 - across),
            ]
        )
    )
    grey = np.zeros((1, SIZE, SIZE), np.uint8)
    grey[0, *place] = 250
    values = baselines.frame(grey, width)
    assert values.shape == (1, 40**2 - (40 - 2 * width // 5) ** 2)
    assert sorted(values[0])[-2:] == [0, 250]  # of one cell


def test_a_histogram_counts_shares_in_32_ranges() -> None:
    grey = np.array([[[0, 7], [8, 255]]], np.uint8)
    result = baselines.histogram(grey)
    assert result.shape == (1, 32)
    assert {place: share for place, share in enumerate(result[0]) if share} == {
        0: 0.5,
        1: 0.25,
        31: 0.25,
    }


@given(st.integers(0, 99), st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_a_histogram_knows_no_positions(seed: int, order: int) -> None:
    grey = random_images(seed, 1)
    shuffled = np.random.default_rng(order).permutation(grey.ravel()).reshape(grey.shape)
    assert (baselines.histogram(grey) == baselines.histogram(shuffled)).all()


def test_file_properties_are_of_the_image_s_own_file() -> None:
    audit = pd.DataFrame(
        {
            "path": ["c", "test/Covid/other.png", "a", "b"],
            "bytes": [500, 1, 100, 300],
            "format": ["JPEG", "TIFF", "PNG", "JPEG"],
            "mode": ["L", "L", "RGBA", "RGB"],
            "width": [50, 40, 10, 20],
            "height": [10, 40, 10, 10],
        }
    ).set_index("path")
    assert baselines.file_properties(["a", "b", "c"], audit).tolist() == [
        # width, height, aspect, bytes per pixel; JPEG, PNG, TIFF; L, RGB, RGBA
        [10, 10, 1, 1, 0, 1, 0, 0, 0, 1],
        [20, 10, 2, 1.5, 1, 0, 0, 0, 1, 0],
        [50, 10, 5, 1, 1, 0, 0, 1, 0, 0],
    ]


# ------------------------------------------------------------------------------- planted shortcuts


def ring(outer: int, inner: int) -> made_processed.Draw:
    """Noise with the class from `outer` to `inner` pixels off the edge: not which grey, but where.

    One half of the ring is bright and the other dark; the class says which.
    """

    def draw(generator: np.random.Generator, label: int) -> np.ndarray:
        pixels = noise(generator, label)
        middle = pixels[inner:-inner, inner:-inner].copy()
        edge, half = SIZE - outer, SIZE // 2
        pixels[outer:edge, outer:edge] = 40
        bright = (
            np.s_[outer:half, outer:edge],
            np.s_[outer:edge, outer:half],
            np.s_[half:edge, outer:edge],
        )
        pixels[bright[label]] = 215
        pixels[inner:-inner, inner:-inner] = middle
        return pixels

    return draw


def grey_range(generator: np.random.Generator, label: int) -> np.ndarray:
    """Pixels in no order, of one mean and one spread; the class has its own grey values."""
    spread = 64
    values = (
        [128 - spread, 128 + spread],
        [128 - spread * 1.5**0.5, 128, 128 + spread * 1.5**0.5],
        np.linspace(128 - spread * 3**0.5, 128 + spread * 3**0.5, 223),
    )[label]
    grey = generator.choice(np.array(values).round().astype(np.uint8), (SIZE, SIZE))
    return np.repeat(grey[..., None], 3, axis=2)


def bytes_by_class(images: Images) -> pd.DataFrame:
    return audit_of(images).assign(bytes=9000 + 500 * images.labels)


SEEN_IN_THE_WHOLE = {"low_resolution_8", "low_resolution_16", "low_resolution_32"}
FRAMES_FROM_20 = {"frame_20", "frame_40"}


@pytest.mark.parametrize(
    ("draw", "audit", "with_sources", "found_by"),
    [
        (ring(0, 10), audit_of, False, SEEN_IN_THE_WHOLE | {f"frame_{n}" for n in (5, 10, 20, 40)}),
        (ring(10, 20), audit_of, False, SEEN_IN_THE_WHOLE | FRAMES_FROM_20),
        (ring(40, 99), audit_of, False, SEEN_IN_THE_WHOLE),
        (grey_range, audit_of, False, {"histogram"}),
        (noise, bytes_by_class, False, {"file_properties"}),
        (noise, audit_of, True, {"source"}),
    ],
    ids=["edge", "20 pixels", "centre", "histogram", "file", "source"],
)
def test_a_shortcut_is_found_by_who_can_see_it_and_by_no_other(
    draw: made_processed.Draw,
    audit: Callable[[Images], pd.DataFrame],
    with_sources: bool,
    found_by: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baselines, "INNER_FOLDS", ())  # chosen settings take time
    pictures = made_processed.many({"train": 15, "test": 10}, draw)
    if with_sources:
        pictures = [replace(picture, source="ABC"[picture.label]) for picture in pictures]
    images = made_processed.images_of(pictures)
    is_test = (images.table["use"] == "test").to_numpy()
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    [result] = baselines.judge(images, audit(images), [(train, test)])
    names = [*MACHINES, *["source"] * with_sources, "majority_class"]
    assert list(result.predicted) == names
    assert list(result.settings) == MACHINES
    accuracy = {
        name: (predicted == images.labels[test]).mean()
        for name, predicted in result.predicted.items()
    }
    assert all(accuracy[name] >= 0.9 for name in found_by), accuracy
    assert all(accuracy[name] <= 0.6 for name in set(names) - found_by), accuracy


# ---------------------------------------------------------------------------------------- settings


def test_settings_are_chosen_by_three_grouped_folds_where_a_class_has_as_many_groups() -> None:
    classes = ["A"] * 9 + ["B"] * 9
    groups = [number // 2 for number in range(18)]
    folds = baselines.inner_folds(classes, groups)
    assert len(folds) == 3
    for train, held_out in folds:
        assert {groups[n] for n in train}.isdisjoint({groups[n] for n in held_out})
    again = baselines.inner_folds(classes, groups)
    assert [held.tolist() for _, held in folds] == [held.tolist() for _, held in again]


@pytest.mark.parametrize(("groups_of_b", "expected"), [(3, 3), (2, 2), (1, 0)])
def test_a_small_class_has_fewer_folds(groups_of_b: int, expected: int) -> None:
    classes, groups = ["A"] * 9 + ["B"] * 4, [*range(9)]
    groups += [100 + number % groups_of_b for number in range(4)]
    assert len(baselines.inner_folds(classes, groups)) == expected


def test_large_sets_are_drawn_from_to_choose_settings_by() -> None:
    classes = ["A"] * 1500 + ["B"] * 500
    folds = baselines.inner_folds(classes, list(range(2000)))
    for outside, inside in folds:
        assert len({*outside, *inside}) == len(outside) + len(inside) == 1000
        for side in (outside, inside):
            assert np.mean(side < 1500) == pytest.approx(0.75, abs=0.04)
    assert len({n for _, inside in folds for n in inside}) == 1000


def values_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Classes that alternate along one of four values: a narrow kernel alone can follow."""
    generator = np.random.default_rng(4)
    values = generator.uniform(0, 8, (90, 4))
    return values, values[:, 0].astype(int) // 2 % 2


def test_the_settings_are_the_best_of_the_grid() -> None:
    from sklearn.svm import SVC

    values, labels = values_and_labels()
    folds = baselines.inner_folds(labels.astype(str).tolist(), list(range(90)))

    def accuracy(penalty: float, gamma: float) -> float:
        right = []
        for train, held_out in folds:
            mean, spread = values[train].mean(axis=0), values[train].std(axis=0)
            seen = (values - mean) / spread
            machine = SVC(C=penalty, gamma=gamma).fit(seen[train], labels[train])
            right.append((machine.predict(seen[held_out]) == labels[held_out]).mean())
        return float(np.mean(right))

    grid = {
        (penalty, factor / 4): accuracy(penalty, factor / 4)
        for penalty in (1.0, 10.0, 100.0)
        for factor in (0.25, 1, 4)
    }
    assert len(set(grid.values())) > 3  # there is something to choose
    split = np.arange(90), np.arange(7)
    chosen, predicted = baselines.support_vector_machine(values, labels, split, folds)
    assert grid[chosen["C"], chosen["gamma"]] == max(grid.values())
    seen = (values - values.mean(axis=0)) / values.std(axis=0)
    machine = SVC(C=chosen["C"], gamma=chosen["gamma"]).fit(seen, labels)
    assert predicted.tolist() == machine.predict(seen[:7]).tolist()


def test_without_folds_the_settings_are_the_middle_of_the_grid() -> None:
    values, labels = values_and_labels()
    chosen, _ = baselines.support_vector_machine(values, labels, (np.arange(90), np.arange(9)), [])
    assert chosen == {"C": 10, "gamma": 1 / 4}


def test_values_that_never_differ_do_no_harm() -> None:
    labels = np.array([0, 1, 1, 0, 1, 1])
    folds = baselines.inner_folds(labels.astype(str).tolist(), list(range(6)))
    split = np.arange(6), np.arange(2)
    _, predicted = baselines.support_vector_machine(np.ones((6, 3)), labels, split, folds)
    assert predicted.tolist() == [1, 1]


# ------------------------------------------------------------------------- many training images


def test_up_to_a_number_of_training_images_the_kernel_is_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, labels = values_and_labels()
    split = np.arange(60), np.arange(60, 90)
    exact, predicted = baselines.support_vector_machine(values, labels, split, [])
    assert list(exact) == ["C", "gamma"]
    monkeypatch.setattr(baselines, "MOST_EXACT", 60)
    monkeypatch.setattr(baselines, "_AT_ONCE", 7)
    same, again = baselines.support_vector_machine(values, labels, split, [])
    assert same == exact
    assert again.tolist() == predicted.tolist()
    monkeypatch.setattr(baselines, "MOST_EXACT", 59)
    monkeypatch.setattr(baselines, "COMPONENTS", 50)
    approximated, others = baselines.support_vector_machine(values, labels, split, [])
    assert approximated == exact | {"components": 50, "trained_on": 60}
    assert others.shape == predicted.shape
    assert (others == labels[60:]).mean() > (predicted == labels[60:]).mean() - 0.15
    assert len(set(others.tolist())) == 2


def test_a_large_set_is_trained_on_a_stratified_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    assert baselines.sample(labels).tolist() == list(range(100))
    monkeypatch.setattr(baselines, "MOST_TRAINED", 40)
    drawn = baselines.sample(labels)
    assert np.bincount(labels[drawn]).tolist() == [24, 12, 4]
    assert drawn.tolist() == sorted(set(drawn.tolist())) == baselines.sample(labels).tolist()
    monkeypatch.setattr(baselines, "MOST_EXACT", 50)
    assert baselines.approximation(50) == {}
    assert baselines.approximation(51) == {"components": baselines.COMPONENTS, "trained_on": 40}
    seen: list[list[int]] = []

    def first_40(these: np.ndarray) -> np.ndarray:
        seen.append(these.tolist())
        return np.arange(40)

    monkeypatch.setattr(baselines, "sample", first_40)
    monkeypatch.setattr(baselines, "COMPONENTS", 20)
    values = np.random.default_rng(0).random((100, 4))
    settings, _ = baselines.support_vector_machine(
        values, labels, (np.arange(99, 39, -1), np.arange(3)), []
    )
    assert seen == [labels[:39:-1].tolist()]
    assert settings["trained_on"] == 40


class Slices:
    """Pixels that are given in slices alone, as those that stay on the disk are."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.most = pixels, 0

    def __getitem__(self, here: slice) -> np.ndarray:
        given = self.pixels[here]
        self.most = max(self.most, len(given))
        return given


def test_pixels_are_taken_in_slices_and_the_values_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = made_processed.images_of(made_processed.many({"train": 4}, noise))
    expected = baselines.features(images, audit_of(images))
    assert list(expected) == MACHINES
    assert sum(values.nbytes for values in expected.values()) < 6_000 * len(images)
    monkeypatch.setattr(baselines, "_AT_ONCE", 5)
    pixels: Any = Slices(images.pixels[:])
    found = baselines.features(replace(images, pixels=pixels), audit_of(images))
    assert pixels.most == 5
    assert list(found) == list(expected)
    assert all((found[name] == expected[name]).all() for name in expected)


def test_one_machine_is_trained_at_a_time_where_each_takes_much_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = made_processed.images_of(made_processed.many({"train": 8}, noise))
    split = np.arange(12), np.arange(12, 24)
    threads: list[int | None] = []
    each = parallel.each

    def spy(*given: Any, **named: Any) -> Any:
        threads.append(named["threads"])
        return each(*given, **named)

    monkeypatch.setattr(parallel, "each", spy)
    monkeypatch.setattr(baselines, "INNER_FOLDS", ())
    baselines.judge(images, audit_of(images), [split])
    monkeypatch.setattr(baselines, "MOST_EXACT", 11)
    monkeypatch.setattr(baselines, "COMPONENTS", 5)
    baselines.judge(images, audit_of(images), [split])
    assert threads == [None, 1]


# ---------------------------------------------------------------------------- the judged stay apart


def test_what_is_judged_changes_nothing_about_the_machines() -> None:
    images = made_processed.images_of(made_processed.many({"train": 8}, grey_range))
    odd = np.arange(1, len(images), 2)
    even = odd - 1
    [result] = baselines.judge(images, audit_of(images), [(even, odd)])
    labels, pixels = images.labels.copy(), images.pixels[:].copy()
    labels[odd[1:]] = 2 - labels[odd[1:]]
    pixels[odd[1:]] = 255 - pixels[odd[1:]] // 3
    wrong = replace(images, labels=labels, pixels=pixels)
    [other] = baselines.judge(wrong, audit_of(wrong), [(even, odd)])
    assert other.settings == result.settings
    for name, predicted in result.predicted.items():
        assert predicted[0] == other.predicted[name][0]


# ---------------------------------------------------------------------------- source and majority


def test_the_source_by_hand() -> None:
    train_sources = np.array(["children", "children", "children", "adults", "tied", "tied", ""])
    train_labels = np.array([1, 2, 2, 0, 2, 1, 2])
    sources = np.array(["adults", "children", "tied", "", "elsewhere"])
    predicted = baselines.by_source(train_sources, train_labels, sources)
    assert predicted.tolist() == [0, 2, 1, 2, 2]
    assert predicted.dtype == np.int64


def test_the_majority_is_that_of_the_training_images() -> None:
    images = made_processed.images_of(made_processed.many({"train": 3, "test": 2}, noise))
    train, test = np.array([0, 1, 3, 4, 5, 6]), np.arange(9, 15)  # Normal is in the majority
    [result] = baselines.judge(images, audit_of(images), [(train, test)])
    assert result.predicted["majority_class"].tolist() == [1] * 6
