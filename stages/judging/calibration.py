"""Whether a probability of 0.9 is correct nine times in ten."""

from typing import Any

import numpy as np

BINS = 10


def _places(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The top probability of each image, and the number of its bin, both (n,)."""
    confidence = probabilities.max(axis=1)
    return confidence, np.minimum((confidence * BINS).astype(int), BINS - 1)


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """The reliability diagram's bins: ten of equal width over the top probability.

    Returns:
        For each bin that is not empty: `from`, `to`, `images`, `confidence` (mean top
        probability) and `accuracy`.
    """
    confidence, place = _places(probabilities)
    correct = probabilities.argmax(axis=1) == labels
    return [
        {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "images": int(inside.sum()),
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(correct[inside].mean()),
        }
        for number in range(BINS)
        if (inside := place == number).any()
    ]


def expected_error(bins: list[dict[str, Any]]) -> float:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017), 0 to 1, from the bins."""
    images = sum(record["images"] for record in bins)
    return float(
        sum(record["images"] * abs(record["accuracy"] - record["confidence"]) for record in bins)
        / images
    )


def error_by_chance(probabilities: np.ndarray, samples: int, seed: int) -> dict[str, float]:
    """The expected calibration error that chance alone makes of so few images.

    As if the network were perfectly calibrated: whether an answer is right is drawn with the
    probability that the network gives it (consistency resampling, Broecker and Smith 2007).

    Args:
        probabilities: float64, (n, classes).
        samples: How many times it is drawn for all images.
        seed: Of the draws.

    Returns:
        `mean`, and `high`, which 95 % of the draws don't exceed.
    """
    confidence, place = _places(probabilities)
    generator = np.random.default_rng(seed)
    errors = [
        np.abs(
            np.bincount(place, (generator.random(len(confidence)) < confidence) - confidence)
        ).sum()
        / len(confidence)
        for _ in range(samples)
    ]
    return {"mean": float(np.mean(errors)), "high": float(np.quantile(errors, 0.95))}
