import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from stages.learning import temperature


def drawn(images: int, off_by: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose temperature is off, and labels that follow the true ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (images, 3))
    true = softmax(logits, axis=1)
    labels = (true.cumsum(axis=1) < generator.random((images, 1))).sum(axis=1)
    return softmax(logits * off_by, axis=1), labels


@pytest.mark.parametrize("known", [0.3, 1.0, 4.0])
def test_a_known_temperature_is_recovered(known: float) -> None:
    probabilities, labels = drawn(20_000, known, seed=1)
    assert temperature.fit(probabilities, labels) == pytest.approx(known, rel=0.05)


class Network(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What scikit-learn calls a classifier: it gives logits as they are."""

    classes_ = np.arange(3)

    def fit(self, logits: np.ndarray, labels: np.ndarray) -> "Network":
        """It is trained already."""
        del logits, labels
        return self

    def decision_function(self, logits: np.ndarray) -> np.ndarray:
        """The logits."""
        return logits

    def __sklearn_is_fitted__(self) -> bool:
        """It is."""
        return True

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """The class with the largest."""
        return np.asarray(logits.argmax(axis=1))


@pytest.mark.parametrize("known", [0.5, 1.0, 3.0])
def test_it_is_that_of_scikit_learn_where_the_prior_is_negligible(known: float) -> None:
    probabilities, labels = drawn(3000, known, seed=5)
    machine = CalibratedClassifierCV(FrozenEstimator(Network()), method="temperature")
    machine.fit(np.log(probabilities), labels)
    fresh, _ = drawn(50, known, seed=6)
    ours = temperature.scaled(fresh, temperature.fit(probabilities, labels))
    assert ours == pytest.approx(machine.predict_proba(np.log(fresh)), abs=2e-3)


def test_it_makes_the_log_loss_less_of_an_overconfident_network() -> None:
    probabilities, labels = drawn(300, 5.0, seed=2)
    fitted = temperature.fit(probabilities, labels)
    after = temperature.scaled(probabilities, fitted)
    assert log_loss(labels, after) < 0.7 * log_loss(labels, probabilities)


def test_a_calibrated_network_is_left_alone_on_average() -> None:
    fitted = [temperature.fit(*drawn(66, 1.0, seed)) for seed in range(100)]
    assert np.exp(np.mean(np.log(fitted))) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_of_the_images_it_is_fitted_on_does_not_rise(seed: int) -> None:
    probabilities, labels = drawn(66, 1.0, seed)
    fitted = temperature.fit(probabilities, labels)
    scaled = temperature.scaled(probabilities, fitted)
    assert log_loss(labels, scaled) <= log_loss(labels, probabilities) + 1e-6


def test_a_small_set_without_a_mistake_does_not_make_every_answer_certain() -> None:
    probabilities = np.full((50, 3), 0.1)
    labels = np.arange(50) % 3
    probabilities[np.arange(50), labels] = 0.8
    fitted = temperature.fit(probabilities, labels)
    assert 0.2 < fitted < 0.5
    assert 0.99 < temperature.scaled(probabilities, fitted).max() < 0.999


def test_probabilities_that_say_nothing_are_borne() -> None:
    certain = np.eye(3)[[0, 1, 2, 0]]  # float32 softmax underflows to 0
    for labels in ([0, 1, 2, 0], [1, 2, 0, 1]):
        fitted = temperature.fit(certain, np.array(labels))
        assert 0.05 <= fitted <= 20
        assert np.isfinite(np.log(temperature.scaled(certain, fitted))).all()


@given(
    st.lists(
        st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.01),
        min_size=1,
        max_size=8,
    ),
    st.floats(0.05, 20),
)
def test_scaling_keeps_the_order_and_the_sum(rows: list[list[float]], value: float) -> None:
    probabilities = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    scaled = temperature.scaled(probabilities, value)
    assert scaled.dtype == np.float64
    assert scaled.sum(axis=1) == pytest.approx(1)
    top = np.arange(len(rows)), probabilities.argmax(axis=1)
    assert (scaled[top] == scaled.max(axis=1)).all()


def test_a_temperature_of_one_changes_nothing() -> None:
    probabilities, _ = drawn(20, 1.0, seed=3)
    assert temperature.scaled(probabilities, 1.0) == pytest.approx(probabilities)


def test_softmax_is_what_the_temperature_scales() -> None:
    probabilities = softmax([[1.0, 2.0, 4.0]], axis=1)
    assert temperature.scaled(probabilities, 2.0) == pytest.approx(
        softmax([[0.5, 1.0, 2.0]], axis=1)
    )


def test_it_is_the_largest_posterior_density_under_a_standard_normal_prior() -> None:
    """Against a search over a grid of the temperature's logarithm."""
    probabilities, labels = drawn(5, 2.0, seed=4)
    grid = np.arange(-2, 2, 1e-3)
    picked = np.arange(len(labels)), labels
    densities = [
        -np.log(softmax(np.log(probabilities) / np.exp(logarithm), axis=1)[picked]).sum()
        + logarithm**2 / 2
        for logarithm in grid
    ]
    best = np.exp(grid[int(np.argmin(densities))])
    assert temperature.fit(probabilities, labels) == pytest.approx(best, rel=2e-3)


@pytest.mark.parametrize(("shift", "limit"), [(0, 0.05), (1, 20)])
def test_it_is_held_within_limits(shift: int, limit: float) -> None:
    probabilities = np.full((100_000, 3), 0.1)
    labels = np.arange(100_000) % 3
    probabilities[np.arange(100_000), (labels + shift) % 3] = 0.8
    probabilities **= 2 if shift else 0.05  # ever more than what the limits allow
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert temperature.fit(probabilities, labels) == pytest.approx(limit, rel=0.01)


def test_a_probability_of_0_counts_as_1e_12() -> None:
    scaled = temperature.scaled(np.array([[1.0, 0.0, 0.0]]), 1.0)
    assert scaled[0].tolist() == pytest.approx([1, 1e-12, 1e-12], rel=1e-6, abs=0)
