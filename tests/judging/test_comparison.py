import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from stages.judging import comparison

Judged = tuple[np.ndarray, np.ndarray]


def table(both: int, network_only: int, baseline_only: int, none: int) -> Judged:
    """Which images the network and the baseline judge right, so many of each kind."""
    kinds = np.repeat([0, 1, 2, 3], [both, network_only, baseline_only, none])
    return kinds < 2, kinds % 2 == 0


pairs = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.integers(0, 20)), min_size=1, max_size=60
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))
"""Which images the network and the baseline judge right, and the images' groups."""


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe 1998, table II
        ((54, 0, 0, 0), -0.0664, 0.0664),
        ((14, 5, 0, 22), 0.0115, 0.2265),  # Altman et al. 2000, table 6.2
    ],
)
def test_the_score_interval_against_published_values(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    judged = table(*counts)
    interval = comparison.score_interval(*judged, np.arange(len(judged[0])))
    assert interval == pytest.approx([low, high], abs=5e-5)


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_a_comparison_has_an_interval_with_a_width_around_the_difference(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    network, baseline, groups = drawn
    result = comparison.paired(network, baseline, groups)
    json.dumps(result, allow_nan=False)
    difference = network.mean() - baseline.mean()
    assert result["difference"] == pytest.approx(difference, abs=1e-12)
    assert result["difference_low"] <= difference + 1e-12
    assert result["difference_high"] >= difference - 1e-12
    assert result["difference_high"] - result["difference_low"] > 1e-6
    assert result["difference_low"] >= -1 - 1e-12
    assert result["difference_high"] <= 1 + 1e-12
    one_sided = not (result["network_only"] and result["baseline_only"])
    if one_sided and 0 < abs(difference) < 1:  # where resampling alone would end at it
        assert result["difference_low"] < difference < result["difference_high"]


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_mcnemar_is_a_binomial_test_of_the_images_that_one_alone_has_right(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    network, baseline, groups = drawn
    result = comparison.paired(network, baseline, groups)
    ours, theirs = result["network_only"], result["baseline_only"]
    assert ours == sum(a and not b for a, b in zip(network, baseline, strict=True))
    assert theirs == sum(b and not a for a, b in zip(network, baseline, strict=True))
    expected = binomtest(ours, ours + theirs).pvalue if ours + theirs else 1
    assert result["p"] == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_the_other_way_round_the_score_interval_is_mirrored(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    network, baseline, groups = drawn
    low, high = comparison.score_interval(network, baseline, groups)
    mirrored = comparison.score_interval(baseline, network, groups)
    assert mirrored == pytest.approx([-high, -low], abs=1e-12)
    order = np.argsort(groups, kind="stable")
    again = comparison.score_interval(network[order], baseline[order], groups[order])
    assert again == pytest.approx([low, high], abs=1e-9)


@pytest.mark.parametrize(
    ("counts", "p"), [((53, 0, 0, 0), 1.0), ((0, 0, 0, 53), 1.0), ((30, 0, 0, 23), 1.0)]
)
def test_two_that_never_differ_are_not_proven_equal(
    counts: tuple[int, int, int, int], p: float
) -> None:
    result = comparison.paired(*table(*counts), np.arange(53))
    assert (result["difference"], result["network_only"], result["p"]) == (0, 0, p)
    assert result["difference_low"] == pytest.approx(-result["difference_high"])
    assert 0.01 < result["difference_high"] < 0.1


def test_all_differences_one_way_leave_an_end_beyond_resampling() -> None:
    result = comparison.paired(*table(49, 4, 0, 0), np.arange(53))
    assert result["difference_low"] < 0.01
    assert result["difference_high"] > 0.13
    assert result["p"] == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("count", "each", "kinds"),
    [
        (55, 1, (0.7, 0.12, 0.06, 0.12)),
        (300, 1, (0.85, 0.06, 0.04, 0.05)),
        (150, 2, (0.7, 0.12, 0.06, 0.12)),
    ],
)
def test_95_percent_of_the_intervals_hold_the_true_difference(
    count: int, each: int, kinds: tuple[float, ...]
) -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(count), each)
    difference = kinds[1] - kinds[2]
    held = 0
    for _ in range(500):
        shared = np.repeat(generator.choice(4, count, p=kinds), each)
        own = generator.choice(4, count * each, p=kinds)
        drawn = np.where(generator.random(count * each) < 0.8, shared, own)
        result = comparison.paired(drawn < 2, drawn % 2 == 0, groups)
        held += result["difference_low"] <= difference <= result["difference_high"]
    assert 0.93 <= held / 500 <= 0.995


@settings(deadline=None, max_examples=20)  # statsmodels collects garbage each time
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_against_its_definition(p_values: list[float]) -> None:
    expected, largest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        expected[position] = largest
    assert comparison.holm(p_values) == pytest.approx(expected)


folds = st.lists(st.integers(-100, 100).map(lambda each: each / 100), min_size=2, max_size=30)


@settings(max_examples=50, deadline=None)
@given(folds)
def test_the_resampled_t_test_without_shared_images_is_the_plain_one(
    differences: list[float],
) -> None:
    result = comparison.resampled_t(np.array(differences), 0, 100)
    json.dumps(result, allow_nan=False)
    assert result["difference"] == pytest.approx(np.mean(differences))
    if len(set(differences)) == 1:
        assert (result["low"], result["high"], result["p"]) == (-1, 1, 1)
        return
    plain = ttest_1samp(differences, 0)
    low, high = plain.confidence_interval()
    assert [result["low"], result["high"]] == pytest.approx([low, high])
    assert result["p"] == pytest.approx(plain.pvalue, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(folds, st.integers(1, 100), st.integers(1, 1000))
def test_shared_images_widen_the_resampled_t_test(
    differences: list[float], judged: int, trained_on: int
) -> None:
    values = np.array(differences)
    plain = comparison.resampled_t(values, 0, trained_on)
    result = comparison.resampled_t(values, judged, trained_on)
    if np.ptp(values) == 0:
        assert result == plain
        return
    factor = np.sqrt(1 + len(values) * judged / trained_on)
    assert result["high"] - result["low"] == pytest.approx(factor * (plain["high"] - plain["low"]))
    assert result["p"] >= plain["p"] - 1e-12
    assert (result["p"] < 0.05) == (not result["low"] <= 0 <= result["high"])


def test_a_single_fold_tells_nothing() -> None:
    assert comparison.resampled_t(np.array([0.2]), 50, 200) == {
        "difference": 0.2,
        "low": -1,
        "high": 1,
        "p": 1,
    }


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [
        (0.1, 0.049, "better"),
        (-0.1, 0.049, "worse"),
        (0.1, 0.05, "not distinguishable"),
        (-0.1, 1.0, "not distinguishable"),
    ],
)
def test_a_verdict_needs_a_p_below_a_twentieth(difference: float, p: float, words: str) -> None:
    assert comparison.verdict(difference, p) == words
