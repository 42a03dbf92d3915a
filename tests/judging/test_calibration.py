import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.judging import calibration


def test_the_expected_calibration_error_of_a_known_example() -> None:
    # correctly classified: three of five at 0.95, three of four at 0.55, and not the one at 1.0
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
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([0.5, 0.5, 0.5], images)
    labels = generator.integers(3, size=images)
    bins = calibration.reliability(probabilities, labels)
    assert sum(record["images"] for record in bins) == images
    correct = sum(record["images"] * record["accuracy"] for record in bins)
    assert correct == pytest.approx((probabilities.argmax(axis=1) == labels).sum())
    assert all(b["from"] - 1e-9 <= b["confidence"] <= b["to"] + 1e-9 for b in bins)
    assert 0 <= calibration.expected_error(bins) <= 1


def test_the_error_by_chance_is_that_of_a_calibrated_network() -> None:
    generator = np.random.default_rng(3)
    probabilities = generator.dirichlet([0.5, 0.5, 0.5], 66)
    errors = []
    for _ in range(2000):  # of labels that follow the probabilities
        drawn = generator.random((66, 1))
        labels = (probabilities.cumsum(axis=1) < drawn).sum(axis=1)
        errors.append(calibration.expected_error(calibration.reliability(probabilities, labels)))
    chance = calibration.error_by_chance(probabilities, 2000, 0)
    assert chance["mean"] == pytest.approx(np.mean(errors), rel=0.05)
    assert chance["high"] == pytest.approx(np.quantile(errors, 0.95), rel=0.05)
    assert chance == calibration.error_by_chance(probabilities, 2000, 0)
    assert chance != calibration.error_by_chance(probabilities, 2000, 1)


def test_many_images_leave_little_to_chance_and_certain_answers_nothing() -> None:
    probabilities = np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5], 20_000)
    assert calibration.error_by_chance(probabilities, 50, 0)["high"] < 0.01
    assert calibration.error_by_chance(np.eye(3), 50, 0) == {"mean": 0, "high": 0}
