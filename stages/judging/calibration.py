"""Whether a probability of 0.9 is correct nine times in ten."""

from typing import Any

import numpy as np

BINS = 10


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """The reliability diagram's bins: ten of equal width over the top probability.

    Returns:
        For each bin that is not empty: `from`, `to`, `images`, `confidence` (mean top
        probability) and `accuracy`.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
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
