import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from stages.judging import calibration


def drawn(images: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose temperature is off, and labels that follow the right ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (images, 3))
    right = softmax(logits, axis=1)
    labels = (right.cumsum(axis=1) < generator.random((images, 1))).sum(axis=1)
    return softmax(logits * temperature, axis=1), labels


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    probabilities, labels = drawn(20_000, temperature, seed=1)
    assert calibration.fit_temperature(probabilities, labels) == pytest.approx(
        temperature, rel=0.05
    )


def test_it_makes_the_log_loss_less_where_the_network_is_too_sure() -> None:
    probabilities, labels = drawn(300, 5.0, seed=2)
    found = calibration.fit_temperature(probabilities, labels)
    after = calibration.scaled(probabilities, found)
    assert log_loss(labels, after) < 0.7 * log_loss(labels, probabilities)


def test_a_calibrated_network_is_left_alone_on_average() -> None:
    found = [calibration.fit_temperature(*drawn(66, 1.0, seed)) for seed in range(100)]
    assert np.exp(np.mean(np.log(found))) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_of_the_images_it_is_fitted_on_does_not_rise(seed: int) -> None:
    probabilities, labels = drawn(66, 1.0, seed)
    found = calibration.fit_temperature(probabilities, labels)
    scaled = calibration.scaled(probabilities, found)
    assert log_loss(labels, scaled) <= log_loss(labels, probabilities) + 1e-6


def test_a_small_set_without_a_mistake_does_not_make_every_answer_certain() -> None:
    probabilities = np.full((50, 3), 0.1)
    labels = np.arange(50) % 3
    probabilities[np.arange(50), labels] = 0.8
    found = calibration.fit_temperature(probabilities, labels)
    assert 0.2 < found < 0.5
    assert 0.99 < calibration.scaled(probabilities, found).max() < 0.999


def test_probabilities_that_say_nothing_are_borne() -> None:
    certain = np.eye(3)[[0, 1, 2, 0]]  # float32 softmax underflows to 0
    for labels in ([0, 1, 2, 0], [1, 2, 0, 1]):
        found = calibration.fit_temperature(certain, np.array(labels))
        assert 0.05 <= found <= 20
        assert np.isfinite(np.log(calibration.scaled(certain, found))).all()


@given(
    st.lists(
        st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.01),
        min_size=1,
        max_size=8,
    ),
    st.floats(0.05, 20),
)
def test_scaling_keeps_the_order_and_the_sum(rows: list[list[float]], temperature: float) -> None:
    probabilities = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    scaled = calibration.scaled(probabilities, temperature)
    assert scaled.dtype == np.float64
    assert scaled.sum(axis=1) == pytest.approx(1)
    top = np.arange(len(rows)), probabilities.argmax(axis=1)
    assert (scaled[top] == scaled.max(axis=1)).all()


def test_a_temperature_of_one_changes_nothing() -> None:
    probabilities, _ = drawn(20, 1.0, seed=3)
    assert calibration.scaled(probabilities, 1.0) == pytest.approx(probabilities)


def test_the_expected_calibration_error_of_a_known_example() -> None:
    # five images at 0.95, three of them right; four at 0.55, three right; one at 1.0, wrong
    top = np.array([0.95] * 5 + [0.55] * 4 + [1.0])
    probabilities = np.column_stack([top, 1 - top])
    labels = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 1])
    bins = calibration.reliability(probabilities, labels)
    assert [(b["from"], b["to"], b["images"]) for b in bins] == [(0.5, 0.6, 4), (0.9, 1.0, 6)]
    assert bins[0]["confidence"] == pytest.approx(0.55)
    assert bins[0]["accuracy"] == pytest.approx(0.75)
    assert bins[1]["confidence"] == pytest.approx(5.75 / 6)
    assert bins[1]["accuracy"] == pytest.approx(0.5)
    expected = 0.4 * abs(0.75 - 0.55) + 0.6 * abs(0.5 - 5.75 / 6)
    assert calibration.expected_error(bins) == pytest.approx(expected)


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_the_bins_hold_every_image_once_and_the_error_is_a_share(images: int, seed: int) -> None:
    probabilities, labels = drawn(images, 1.5, seed)
    bins = calibration.reliability(probabilities, labels)
    assert sum(record["images"] for record in bins) == images
    right = sum(record["images"] * record["accuracy"] for record in bins)
    assert right == pytest.approx((probabilities.argmax(axis=1) == labels).sum())
    assert all(b["from"] - 1e-9 <= b["confidence"] <= b["to"] + 1e-9 for b in bins)
    assert 0 <= calibration.expected_error(bins) <= 1


def test_softmax_is_what_the_temperature_scales() -> None:
    probabilities = softmax([[1.0, 2.0, 4.0]], axis=1)
    assert calibration.scaled(probabilities, 2.0) == pytest.approx(
        softmax([[0.5, 1.0, 2.0]], axis=1)
    )
