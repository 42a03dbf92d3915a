import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from stages.judging import scores

CLASSES = ("Covid", "Normal", "Viral Pneumonia")


def made(images: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels with every class at least twice, and probabilities that know something of them."""
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    generator.shuffle(labels)
    probabilities = generator.dirichlet(np.full(classes, 0.7), images)
    probabilities[np.arange(images), labels] += generator.random(images)
    if seed % 2:  # ties, as a confident network has them
        probabilities = np.round(probabilities, 1) + 1e-3
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (60, 66, 0.8155, 0.9577),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_against_published_values(
    successes: int, trials: int, low: float, high: float
) -> None:
    # the last is Newcombe's example (1998, table I)
    assert scores.wilson(successes, trials) == pytest.approx([low, high], abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_against_the_formula(counts: tuple[int, int]) -> None:
    successes, trials = counts
    z, p = 1.959963984540054, successes / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    low, high = scores.wilson(successes, trials)
    assert [low, high] == pytest.approx([centre - half, centre + half], abs=1e-9)
    assert 0 <= low <= p <= high <= 1


def test_wilson_of_nothing_tried() -> None:
    assert scores.wilson(0, 0) == [0.0, 1.0]


def test_accuracy_with_its_interval() -> None:
    result = scores.accuracy_with_interval(np.array([True] * 60 + [False] * 6))
    assert result["images"] == 66
    assert result["accuracy"] == pytest.approx(60 / 66)
    assert round(result["accuracy_low"], 2) == 0.82
    assert round(result["accuracy_high"], 2) == 0.96


@settings(max_examples=12, deadline=None)
@given(st.integers(6, 40), seeds, st.sampled_from([2, 3, 4]))
def test_point_metrics_against_their_definitions(images: int, seed: int, classes: int) -> None:
    labels, probabilities = made(max(images, 2 * classes), seed, classes)
    result = scores.point_metrics(labels, probabilities)
    picked = probabilities[np.arange(len(labels)), labels]
    one_hot = np.eye(classes)[labels]
    assert result["loss"] == pytest.approx(-np.log(picked).mean())
    assert result["brier"] == pytest.approx(((probabilities - one_hot) ** 2).sum(axis=1).mean())
    predicted = probabilities.argmax(axis=1)
    for number in range(classes):
        actual, called = labels == number, predicted == number
        own, other = probabilities[actual, number], probabilities[~actual, number]
        expected = {
            "sensitivity": (actual & called).sum() / actual.sum(),
            "specificity": (~actual & ~called).sum() / (~actual).sum(),
            "precision": (actual & called).sum() / called.sum() if called.any() else 0,
            "f1": 2 * (actual & called).sum() / (actual.sum() + called.sum()),
            # the share of pairs in the right order, ties counting half (Mann and Whitney 1947)
            "auroc": ((own[:, None] > other).mean() + (own[:, None] == other).mean() / 2),
        }
        for name, value in expected.items():
            assert result[name][number] == pytest.approx(value), name
    for name in scores.PER_CLASS:
        assert result[f"macro_{name}"] == pytest.approx(np.mean(result[name]))


@settings(max_examples=12, deadline=None)
@given(st.integers(6, 40), seeds, st.sampled_from([2, 3, 4]))
def test_replicates_have_the_point_metrics_of_scikit_learn(
    images: int, seed: int, classes: int
) -> None:
    labels, probabilities = made(max(images, 2 * classes), seed, classes)
    times = 1 + np.random.default_rng(seed).integers(3, size=(4, len(labels)))
    times[0, :classes] = [5] * classes
    quick = scores._replicate_metrics(labels, probabilities, times.astype(float))
    for replicate, row in enumerate(times):
        drawn = np.repeat(np.arange(len(labels)), row)
        point = scores.point_metrics(labels[drawn], probabilities[drawn])
        assert quick.keys() == point.keys()
        for name, value in point.items():
            assert quick[name][replicate] == pytest.approx(value, abs=1e-12), name


def test_the_replicates_hold_every_class_and_draw_groups_whole() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    groups = np.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 6])
    drawn = np.concatenate(list(scores._draw(labels, groups, 250, 0)))
    assert drawn.shape == (250, 10)
    for times in drawn:
        assert times[0] == times[1] == times[2]
        assert times[4] == times[5]
        # as many groups a class as there are
        assert [times[0] + times[3], times[4] + times[6], times[7:].sum()] == [2, 2, 3]
    assert len({tuple(times) for times in drawn}) > 20


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others() -> None:
    labels, probabilities = made(30, 4)
    groups = np.arange(30)
    first, again, other = (
        scores.metrics_with_intervals(labels, probabilities, groups, CLASSES, 40, seed)
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first["intervals"]["loss"] != other["intervals"]["loss"]
    assert first["accuracy"] == other["accuracy"]


def test_the_interval_of_the_bootstrap_is_one_of_95_percent() -> None:
    """Against the normal interval of a mean, which log loss is; one of 90 % is 16 % narrower."""
    labels, probabilities = made(600, 12)
    result = scores.metrics_with_intervals(labels, probabilities, np.arange(600), CLASSES, 4000, 0)
    losses = -np.log(probabilities[np.arange(600), labels])
    low, high = result["intervals"]["loss"]
    assert high - low == pytest.approx(2 * 1.959964 * losses.std() / np.sqrt(600), rel=0.05)
    assert (low + high) / 2 == pytest.approx(losses.mean(), rel=0.02)
    for name, of_class in result["classes"].items():
        low, high = of_class["intervals"]["auroc"]
        standard_error = hanley_mcneil(of_class["auroc"], of_class["images"], 600)
        assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.3), name


def hanley_mcneil(area: float, positive: int, images: int) -> float:
    """The standard error of an AUROC (Hanley and McNeil 1982)."""
    negative = images - positive
    both = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    spread = area * (1 - area) + (positive - 1) * both[0] + (negative - 1) * both[1]
    return float(np.sqrt(spread / (positive * negative)))


def test_an_interval_over_groups_is_wider_than_one_over_their_copies() -> None:
    labels, probabilities = made(24, 6)
    copied = np.repeat(np.arange(24), 4)
    groups = copied, np.arange(96)
    widths = []
    for group in groups:
        result = scores.metrics_with_intervals(
            labels[copied], probabilities[copied], group, CLASSES, 80, 0
        )
        low, high = result["intervals"]["loss"]
        widths.append(high - low)
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.35)  # the root of four


def test_every_metric_stands_in_its_interval_and_goes_into_json() -> None:
    labels, probabilities = made(45, 8)
    result = scores.metrics_with_intervals(labels, probabilities, np.arange(45), CLASSES, 60, 0)
    json.dumps(result, allow_nan=False)
    assert set(result["intervals"]) == {
        "accuracy",
        "loss",
        "brier",
        *(f"macro_{name}" for name in scores.PER_CLASS),
    }
    assert result["accuracy"] == metrics.accuracy_score(labels, probabilities.argmax(axis=1))
    for name, (low, high) in result["intervals"].items():
        assert low <= result[name] <= high, name
    assert list(result["classes"]) == list(CLASSES)
    for number, of_class in enumerate(result["classes"].values()):
        assert of_class["images"] == (labels == number).sum()
        assert set(of_class["intervals"]) == set(scores.PER_CLASS)
        for name, (low, high) in of_class["intervals"].items():
            assert low <= of_class[name] <= high, name
        trials = int((labels == number).sum())
        hits = int(((labels == number) & (probabilities.argmax(axis=1) == number)).sum())
        assert of_class["intervals"]["sensitivity"] == scores.wilson(hits, trials)


def test_a_class_that_is_never_predicted_has_precision_zero_and_no_interval() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.tile([0.5, 0.3, 0.2], (6, 1))
    result = scores.metrics_with_intervals(labels, probabilities, np.arange(6), CLASSES, 20, 0)
    json.dumps(result, allow_nan=False)
    never = result["classes"]["Normal"]
    assert (never["precision"], never["f1"], never["auroc"]) == (0.0, 0.0, 0.5)
    assert never["intervals"]["precision"] == [0.0, 1.0]


def test_certain_and_wrong_is_still_a_number() -> None:
    probabilities = np.eye(3)[[1, 2, 0, 0, 1, 2]]
    labels = np.array([0, 0, 1, 1, 2, 2])
    result = scores.metrics_with_intervals(labels, probabilities, np.arange(6), CLASSES, 20, 0)
    json.dumps(result, allow_nan=False)
    assert result["loss"] > 10
    json.dumps(scores.calibration_metrics(labels, probabilities), allow_nan=False)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40))
def test_leak_free_has_one_image_of_every_group_that_was_not_trained_on(
    drawn: list[tuple[int, bool]],
) -> None:
    groups = np.array([group for group, _ in drawn])
    leaked = np.array([flag for _, flag in drawn])
    chosen = scores.leak_free(groups, leaked)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == sorted(chosen.tolist())
    clean = set(groups.tolist()) - set(groups[leaked].tolist())
    assert sorted(groups[chosen].tolist()) == sorted(clean)
    first = [groups.tolist().index(group) for group in clean]
    assert chosen.tolist() == sorted(first)


def test_calibration_metrics() -> None:
    labels, probabilities = made(60, 10)
    result = scores.calibration_metrics(labels, probabilities)
    point = scores.point_metrics(labels, probabilities)
    assert set(result) == {"loss", "brier", "expected_calibration_error"}
    assert (result["loss"], result["brier"]) == (point["loss"], point["brier"])
    assert 0 < result["expected_calibration_error"] < 1


def test_the_bootstrap_cuts_off_a_fortieth_at_either_end() -> None:
    generator = np.random.default_rng(5)
    labels = np.repeat([0, 1, 2], 20)
    probabilities = generator.dirichlet([2, 1, 1], 60)
    groups = np.arange(60)
    losses = np.concatenate(
        [
            scores._replicate_metrics(labels, probabilities, times)["loss"]
            for times in scores._draw(labels, groups, 400, 7)
        ]
    )
    result = scores.metrics_with_intervals(labels, probabilities, groups, "abc", 400, 7)
    low, high = result["intervals"]["loss"]
    assert (losses < low).sum() == (losses > high).sum() == 10
    assert (low, high) == pytest.approx(tuple(np.quantile(losses, [0.025, 0.975])))


def test_an_accuracy_in_words() -> None:
    result = scores.accuracy_with_interval(np.arange(66) < 60)
    assert scores.in_words(result) == "accuracy 0.909 [0.816, 0.958] on 66 test images"
