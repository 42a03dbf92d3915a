"""Is one classifier better than another? Both have judged the same images, so pairs are compared.

Functions of arrays alone: nothing is read or written.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.judging import scores

LEVEL = 0.05
"""A difference is told from chance where Holm's p is below."""


def paired(network: np.ndarray, baseline: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """The difference of two accuracies on the same images, with its 95 % interval.

    The test takes images for independent, also those of one group; the interval does not.

    Args:
        network: bool, (n,): which images it judges right.
        baseline: bool, (n,), the same of the other classifier.
        groups: int64, (n,); images of one group show the same radiograph or the same patient.

    Returns:
        `difference` (network minus baseline), `difference_low`, `difference_high`; `network_only`
        and `baseline_only`, how many images one alone judges right; `p`, two-sided, of McNemar's
        exact test of whether these are equally likely.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    ours, theirs = int((network & ~baseline).sum()), int((baseline & ~network).sum())
    low, high = score_interval(network, baseline, groups)
    return {
        "difference": float(network.mean() - baseline.mean()),
        "difference_low": low,
        "difference_high": high,
        "network_only": ours,
        "baseline_only": theirs,
        "p": float(mcnemar([[0, ours], [theirs, 0]], exact=True).pvalue),
    }


def score_interval(network: np.ndarray, baseline: np.ndarray, groups: np.ndarray) -> list[float]:
    """The 95 % interval of the difference of paired proportions, [low, high].

    Method 10 of Newcombe (1998, Statistics in Medicine 17, 2635-2650), which never has zero width:
    square-and-add of two Wilson intervals, the correlation corrected for continuity. The images
    count as so many as `scores.effective_number` says for the differences. In simulations it holds
    its 95 %, where a BCa bootstrap over groups of images is too narrow.

    Args:
        network: bool, (n,).
        baseline: bool, (n,).
        groups: int64, (n,).
    """
    number = scores.effective_number(network.astype(np.float64) - baseline, groups)
    first, second = network.mean(), baseline.mean()
    below_first, above_first = np.abs(np.array(scores.wilson(first * number, number)) - first)
    below_second, above_second = np.abs(np.array(scores.wilson(second * number, number)) - second)
    covariance = (network & baseline).mean() - first * second
    if covariance > 0:
        covariance = max(0.0, covariance - 1 / (2 * number))
    spread = np.sqrt(first * (1 - first) * second * (1 - second))
    correlation = covariance / spread if spread else 0.0

    def add(one: float, other: float) -> float:
        return float(np.sqrt(one**2 - 2 * correlation * one * other + other**2))

    difference = float(first - second)
    return [
        difference - add(below_first, above_second),
        difference + add(above_first, below_second),
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of one or more tests, corrected for their number (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def resampled_t(differences: np.ndarray, judged: float, trained_on: float) -> dict[str, float]:
    """The corrected resampled t test (Nadeau and Bengio 2003) over the folds of all seeds.

    The folds' networks share training images; the variance is therefore that of the mean of J
    independent differences times 1 + J judged / trained_on, with J - 1 degrees of freedom.

    Args:
        differences: float64, (J,): of the accuracies in each fold, -1 to 1.
        judged: The number of images that are judged in a fold.
        trained_on: The number of images that are trained on.

    Returns:
        `difference` (the mean), its 95 % interval `low` and `high`, and `p`, two-sided. Where the
        differences are all equal, or there is one alone, their spread is unknown: then the
        interval is all that is possible, -1 to 1, and p is 1.
    """
    from scipy.stats import t

    mean, count = float(np.mean(differences)), len(differences)
    if np.allclose(differences, mean):
        return {"difference": mean, "low": -1.0, "high": 1.0, "p": 1.0}
    error = np.std(differences, ddof=1) * np.sqrt(1 / count + judged / trained_on)
    freedom = count - 1
    half = float(t.ppf((1 + scores.CONFIDENCE) / 2, freedom) * error)
    p = float(2 * t.sf(abs(mean) / error, freedom))
    return {"difference": mean, "low": mean - half, "high": mean + half, "p": p}


def verdict(difference: float, p_holm: float) -> str:
    """What a comparison comes to: "better", "worse" or "not distinguishable"."""
    if p_holm >= LEVEL:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"
