"""Whether a probability of 0.9 is right nine times in ten."""

from typing import Any

import numpy as np

BINS = 10
_LEAST = 1e-12
"""Float32 softmax can underflow to 0, of which there is no logarithm."""


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Temperature scaling (Guo et al. 2017): softmax(log p / T), float64, (n, classes)."""
    from scipy.special import softmax

    logits = np.log(np.maximum(probabilities, _LEAST))
    return np.asarray(softmax(logits / temperature, axis=1), np.float64)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, from 0.05 to 20, that fits best: the largest posterior density.

    That is the least log loss (Guo et al. 2017) with a weak prior, a standard normal one on the
    temperature's logarithm. Without it a small set of which every image is told right would give
    the lowest temperature there is, and every answer for certain; it does not draw the
    temperature of a calibrated network away from 1.

    Args:
        probabilities: (n, classes), of images that the network was not trained on.
        labels: int64, (n,).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logits = np.log(np.maximum(probabilities, _LEAST))
    of_the_class = np.arange(len(labels)), labels

    def cost(logarithm: float) -> float:
        loss = -log_softmax(logits / np.exp(logarithm), axis=1)[of_the_class].sum()
        return float(loss + logarithm**2 / 2)

    found = minimize_scalar(cost, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """The reliability diagram's bins: ten of equal width over the top probability.

    Returns:
        For each bin that is not empty: `from`, `to`, `images`, `confidence` (mean top
        probability) and `accuracy`.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "images": int(inside.sum()),
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(right[inside].mean()),
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
