import numpy as np
import pytest
from crepes import ConformalClassifier
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from stages.learning import prediction_sets


def drawn(generator: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too sure of themselves, and labels: exchangeable draws."""
    logits = generator.normal(0, 2, (images, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) < generator.random((images, 1))).sum(axis=1)
    sharp = true**3
    return sharp / sharp.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("known", [58, 197, 240])
def test_so_many_sets_hold_the_true_class(known: int, coverage: float) -> None:
    """A quantile that is off by one image of known class lies outside what chance allows."""
    generator = np.random.default_rng(known)
    scores = prediction_sets.scores(*drawn(generator, known))
    # of exchangeable images the oddness of the next one has any rank with the same chance
    draws = 1_000_000
    odd = np.concatenate([scores, [2.0]])[generator.integers(known + 1, size=draws)]
    # the true class is as odd as that; the most probable one, always in the set, is another
    probabilities = np.column_stack([1 - odd, np.full(draws, 5.0), np.full(draws, -5.0)])
    covered = int(prediction_sets.sets(probabilities, scores, coverage)[:, 0].sum())
    left_out = np.floor((1 - coverage) * (known + 1))
    low, high = binom.interval(0.9999, draws, 1 - left_out / (known + 1))
    assert low <= covered <= high
    assert coverage <= 1 - left_out / (known + 1) <= coverage + 1 / (known + 1)
    assert high - low < draws / (known + 1)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_of_a_network_that_is_too_sure(coverage: float) -> None:
    generator = np.random.default_rng(1)
    repeats, judged = 2000, 20
    covered = np.empty(repeats)
    singles = 0
    for number in range(repeats):
        scores = prediction_sets.scores(*drawn(generator, 199))
        probabilities, labels = drawn(generator, judged)
        sets = prediction_sets.sets(probabilities, scores, coverage)
        covered[number] = sets[np.arange(judged), labels].mean()
        singles += int((sets.sum(axis=1) == 1).sum())
    error = covered.std(ddof=1) / np.sqrt(repeats)
    # as many as were asked for, or more where the most probable class alone is more often right
    assert covered.mean() >= coverage - 4 * error
    assert covered.mean() <= coverage + 1 / 200 + 4 * error + (0.02 if coverage == 0.8 else 0)
    assert 0.05 < singles / (repeats * judged) < 0.95


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("known", [3, 100, 237])
def test_the_sets_are_those_of_crepes(coverage: float, known: int) -> None:
    generator = np.random.default_rng(2)
    of_known, labels = drawn(generator, known)
    probabilities, _ = drawn(generator, 300)
    ours = prediction_sets.sets(probabilities, prediction_sets.scores(of_known, labels), coverage)
    machine = ConformalClassifier()
    machine.fit(1 - of_known[np.arange(known), labels])
    theirs = machine.predict_set(1 - probabilities, confidence=coverage, smoothing=False)
    theirs = theirs.astype(bool)
    theirs[np.arange(300), probabilities.argmax(axis=1)] = True  # as theirs has empty sets
    assert np.array_equal(ours, theirs)


probabilities_of_three = (
    st.lists(st.integers(0, 20), min_size=3, max_size=3)
    .filter(any)
    .map(lambda row: [value / sum(row) for value in row])
)


@given(
    st.lists(probabilities_of_three, min_size=1, max_size=9),
    st.lists(st.floats(0, 1), max_size=40).map(sorted),
    st.floats(0.5, 0.999),
    st.floats(0, 0.4),
)
def test_a_set_is_never_empty_and_grows_with_the_coverage(
    rows: list[list[float]], known: list[float], coverage: float, less: float
) -> None:
    probabilities, scores = np.array(rows), np.array(known, np.float64)
    sets = prediction_sets.sets(probabilities, scores, coverage)
    assert sets.dtype == bool
    assert sets[np.arange(len(rows)), probabilities.argmax(axis=1)].all()
    assert (prediction_sets.sets(probabilities, scores, coverage - less) <= sets).all()
    for row, inside in zip(probabilities, sets, strict=True):  # no class before a likelier one
        assert (row[inside].min() > row[~inside]).all() or row[inside].min() == row.max()


@pytest.mark.parametrize(("coverage", "expected"), [(0.5, 2), (0.75, 4), (0.9, 10), (0.999, 1000)])
def test_it_takes_so_many_to_leave_a_class_out(coverage: float, expected: int) -> None:
    assert prediction_sets.fewest(coverage) == pytest.approx(expected, abs=1)
    fewest = prediction_sets.fewest(coverage)
    certain = np.array([[1.0, 0.0, 0.0]])
    for count, size in ((fewest - 1, 3), (fewest, 1)):
        known = np.zeros(count)  # none of them as odd as what is impossible
        assert prediction_sets.sets(certain, known, coverage).sum() == size
