"""How good a classifier is, each metric with its 95 % interval.

All right is not perfect: 53 of 53 leave an interval below 1. And images of one group (copies of a
radiograph, radiographs of a patient) are alike: they count as so many independent images as the
design effect of the groups leaves (Rao and Scott 1992).

- Proportions (accuracy, sensitivity, specificity, precision): Wilson's interval (Wilson 1927).
- F1: Wilson's interval of the Jaccard index J, as F1 = 2 J / (1 + J).
- AUROC: method 5 of Newcombe (2006, part 2).
- Means over the classes: square-and-add of the classes' intervals (Zou and Donner 2008).
- Log loss and Brier score: bootstrap over groups (Efron 1987).

Where a few groups among many hold most of the images, that is still too narrow.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.common.errors import InputError
from stages.judging import calibration
from stages.learning.dataset import Images

PER_CLASS = ("sensitivity", "specificity", "precision", "f1", "auroc")
CONFIDENCE = 0.95
MOST_BCA = 5000
"""Groups up to which the bootstrap is BCa: that leaves out each of them once, so that its time
grows as their square. Percentiles of so many groups differ from it by less than they vary."""
_AT_ONCE = 100  # replicates, so that memory does not grow with their number


def wilson(successes: float, trials: float) -> list[float]:
    """Wilson's 95 % interval of a proportion, [low, high]; [0, 1] where nothing was tried."""
    from statsmodels.stats.proportion import proportion_confint

    if trials == 0:
        return [0.0, 1.0]
    low, high = proportion_confint(successes, trials, 1 - CONFIDENCE, "wilson")
    share = successes / trials  # inside, whatever the last bit
    return [float(min(low, share)), float(max(high, share))]


def effective_number(values: np.ndarray, groups: np.ndarray) -> float:
    """How many independent images would tell the mean of `values` as well as these do.

    Their number over the design effect (Rao and Scott 1992): the variance of the mean, found from
    the groups, over what it were if the images were independent; 1 or more. A variance found from
    few groups is itself uncertain, which counts as in Korn and Graubard (1998). Where all values
    are equal, and so tell nothing of how alike the images of a group are: the number of groups.

    Args:
        values: float64 or bool, (n,).
        groups: int64, (n,).
    """
    from scipy.stats import t

    _, group_of = np.unique(groups, return_inverse=True)
    residuals = values - values.mean()
    totals = np.bincount(group_of, residuals)
    if len(totals) == 1 or (values == values[0]).all():
        return float(len(totals))
    by_group, by_image = (len(part) * part.var(ddof=1) for part in (totals, residuals))
    far, near = t.ppf((1 + CONFIDENCE) / 2, [len(totals) - 1, len(values) - 1])
    return float(len(values) / max(1.0, by_group / by_image) * (near / far) ** 2)


def proportion_interval(right: np.ndarray, groups: np.ndarray) -> list[float]:
    """Wilson's 95 % interval of the share of `right`, [low, high]; [0, 1] where there is no image.

    Args:
        right: bool, (n,).
        groups: int64, (n,).
    """
    if len(right) == 0:
        return wilson(0, 0)
    trials = effective_number(right, groups)
    return wilson(right.mean() * trials, trials)


def auroc_interval(area: float, positive: float, negative: float) -> list[float]:
    """The 95 % interval of an AUROC, [low, high]: method 5 of Newcombe (2006, part 2).

    It holds the areas of which the one found is no more than 1.96 standard errors away, where the
    standard error is that of the area tried (Hanley and McNeil 1982) and so not 0 below 1.

    Args:
        area: 0 to 1.
        positive: How many (independent) images there are of the class, 1 or more.
        negative: How many there are of the others, 1 or more.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = norm.ppf((1 + CONFIDENCE) / 2)
    pairs, mean = positive * negative, (positive + negative) / 2 - 1

    def low(found: float) -> float:
        def beyond(tried: float) -> float:
            spread = 1 + mean * ((1 - tried) / (2 - tried) + tried / (1 + tried))
            return float(found - tried - z * np.sqrt(tried * (1 - tried) * spread / pairs))

        return float(brentq(beyond, 0, found * (1 - 1e-9)))  # if 1 is found, 1 solves it too

    return [low(area), 1 - low(1 - area)]


def macro_interval(
    values: np.ndarray, intervals: np.ndarray, influences: np.ndarray
) -> list[float]:
    """The 95 % interval of a mean over classes, [low, high], from the intervals of the classes.

    Square-and-add with correlations (MOVER, Zou and Donner 2008): a mistake lowers the F1 of two
    classes. The correlations are those of the images' influences; negative ones count as 0, since
    they would make the interval narrower on the word of few images.

    Args:
        values: float64, (classes,).
        intervals: float64, (classes, 2).
        influences: float64, (classes, n): how far each image moves a class's value, in any unit.
    """
    # no matrix product: the order in which BLAS adds, and so the last bit, is the machine's
    products = (influences[:, None] * influences).sum(axis=2)
    norms = np.sqrt(np.outer(np.diag(products), np.diag(products)))
    correlations = (products / (norms + np.finfo(np.float64).tiny)).clip(0)
    np.fill_diagonal(correlations, 1)
    below, above = (
        np.sqrt((correlations * np.outer(distance, distance)).sum()) / len(values)
        for distance in np.abs(intervals.T - values)
    )
    return [float(values.mean() - below), float(values.mean() + above)]


def mean_interval(values: np.ndarray, groups: np.ndarray, samples: int, seed: int) -> list[float]:
    """The 95 % interval of a mean over images, [low, high]: a bootstrap over groups.

    BCa (Efron 1987), or percentiles where BCa is undefined or there are over MOST_BCA groups. All
    values equal or a single group leave nothing to draw from: the interval is then the mean, twice.

    Args:
        values: float64, (n,).
        groups: int64, (n,).
        samples: Replicates.
        seed: Of the draws.
    """
    from scipy.stats import bootstrap

    _, group_of, images = np.unique(groups, return_inverse=True, return_counts=True)
    if len(images) == 1 or (values == values[0]).all():
        return [float(values.mean())] * 2

    def mean(totals: np.ndarray, images: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(totals.sum(axis=axis) / images.sum(axis=axis))

    for method in ("BCa", "percentile")[len(images) > MOST_BCA :]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says in several ways that BCa is undefined
            interval = bootstrap(
                (np.bincount(group_of, values), images),
                mean,
                paired=True,
                confidence_level=CONFIDENCE,
                n_resamples=samples,
                batch=_AT_ONCE,
                method=method,
                rng=seed,
            ).confidence_interval
        if np.isfinite(interval).all():
            break
    return [float(interval.low), float(interval.high)]


def accuracy_with_interval(correct: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """`images`, `accuracy`, `accuracy_low` and `accuracy_high`.

    Args:
        correct: bool, (n,), n at least 1.
        groups: int64, (n,).
    """
    low, high = proportion_interval(correct, groups)
    return {
        "images": len(correct),
        "accuracy": float(correct.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
    }


def subsets(
    names: Sequence[str], correct: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, Any]]:
    """What `accuracy_with_interval` gives for the images of each name, and how many `classes`.

    Args:
        names: Of the n images, such as their sources; sorted in the result, "" is left out.
        correct: bool, (n,).
        labels: int64, (n,).
        groups: int64, (n,).
    """
    result = {}
    every = np.asarray(names)
    for name in sorted(set(names) - {""}):
        chosen = every == name
        accuracy = accuracy_with_interval(correct[chosen], groups[chosen])
        classes = len(np.unique(labels[chosen]))
        result[name] = {"images": accuracy.pop("images"), "classes": classes, **accuracy}
    return result


def in_words(result: Mapping[str, Any]) -> str:
    """A line on what `accuracy_with_interval` gave."""
    return (
        f"accuracy {result['accuracy']:.3f} [{result['accuracy_low']:.3f}, "
        f"{result['accuracy_high']:.3f}] on {result['images']} images"
    )


def point_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Every metric without its interval.

    Args:
        labels: int64, (n,), each of the classes at least once and not alone.
        probabilities: float64, (n, classes), rows sum to 1.

    Returns:
        `loss` (cross-entropy, nats), `brier` (0 to 2, summed over classes), `macro_<metric>`,
        and under <metric> for each of PER_CLASS an array (classes,). A precision of which
        nothing was predicted counts as 0.
    """
    from sklearn import metrics

    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    precision, sensitivity, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    counts = metrics.multilabel_confusion_matrix(labels, predicted, labels=classes)
    per_class = {
        "sensitivity": sensitivity,
        "specificity": counts[:, 0, 0] / counts[:, 0].sum(axis=1),
        "precision": precision,
        "f1": f1,
        "auroc": np.array(
            [metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in classes]
        ),
    }
    brier = metrics.brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
    return {
        "loss": float(metrics.log_loss(labels, probabilities, labels=classes)),
        "brier": float(brier),
        **{f"macro_{name}": float(values.mean()) for name, values in per_class.items()},
        **per_class,
    }


def placements(actual: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """float64, (n,): of the images on the other side, the share that each is in order with.

    Ties count half. Their mean on either side is the AUROC (DeLong, DeLong and Clarke-Pearson
    1988).

    Args:
        actual: bool, (n,), the images of the class; neither none nor all.
        scores: float64, (n,), the probability of the class.
    """
    from scipy.stats import rankdata

    below = rankdata(scores)
    for side in (actual, ~actual):
        below[side] -= rankdata(scores[side])
    share = np.where(actual, below / (~actual).sum(), 1 - below / actual.sum())
    return np.asarray(share)


def _influences(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """How far each image moves the mean of the `values` that are `counted`: float64, (n,).

    If these are all equal, then as if each moved it alike.
    """
    chosen = values[counted]
    same = (chosen == chosen[:1]).all()
    moved = np.where(counted, 1.0 if same else values - chosen.mean(), 0)
    return np.asarray(moved / max(1, len(chosen)))


def _judge_class(
    actual: np.ndarray, called: np.ndarray, scores: np.ndarray, groups: np.ndarray
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """The interval of each of PER_CLASS, and the influences, (n,), of the images on it."""
    intervals, influences = {}, {}
    for name, counted, right in (
        ("sensitivity", actual, called),
        ("specificity", ~actual, ~called),
        ("precision", called, actual),
        ("f1", actual | called, actual & called),
    ):
        intervals[name] = proportion_interval(right[counted], groups[counted])
        influences[name] = _influences(right, counted)
    intervals["f1"] = [2 * end / (1 + end) for end in intervals["f1"]]
    placed = placements(actual, scores)
    numbers = [effective_number(placed[side], groups[side]) for side in (actual, ~actual)]
    intervals["auroc"] = auroc_interval(float(placed[actual].mean()), *numbers)
    influences["auroc"] = _influences(placed, actual) + _influences(placed, ~actual)
    return intervals, influences


def _losses(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """What each image adds to `loss` and `brier`, float64, (n,)."""
    one_hot = np.eye(probabilities.shape[1])[labels]
    least = np.finfo(probabilities.dtype).eps  # scikit-learn's limit as well
    return {
        "loss": -np.log((probabilities * one_hot).sum(axis=1).clip(least, 1 - least)),
        "brier": ((probabilities - one_hot) ** 2).sum(axis=1),
    }


_Judged = list[tuple[dict[str, list[float]], dict[str, np.ndarray]]]


def _judge_classes(labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray) -> _Judged:
    """What `_judge_class` gives for each class."""
    predicted = probabilities.argmax(axis=1)
    return [
        _judge_class(labels == number, predicted == number, column, groups)
        for number, column in enumerate(probabilities.T)
    ]


def _macro_interval(name: str, point: Mapping[str, Any], judged: _Judged) -> list[float]:
    """The interval of the mean over the classes of one of PER_CLASS."""
    return macro_interval(
        point[name],
        np.array([intervals[name] for intervals, _ in judged]),
        np.array([influences[name] for _, influences in judged]),
    )


def macro_metrics(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Accuracy and a few means over the classes, as in `metrics_with_intervals`, but faster.

    Args:
        labels: int64, (n,), each of the classes at least once.
        probabilities: float64, (n, classes).
        groups: int64, (n,).
        names: Some of PER_CLASS.

    Returns:
        What `accuracy_with_interval` gives, `macro_<name>` for each of `names`, and `intervals`
        ([low, high] by metric).
    """
    point = point_metrics(labels, probabilities)
    judged = _judge_classes(labels, probabilities, groups)
    return {
        **accuracy_with_interval(probabilities.argmax(axis=1) == labels, groups),
        **{f"macro_{name}": point[f"macro_{name}"] for name in names},
        "intervals": {f"macro_{name}": _macro_interval(name, point, judged) for name in names},
    }


def metrics_with_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Every metric with its 95 % interval, as it goes into a details file.

    Args:
        labels: int64, (n,), positions in `classes`; each of them at least once.
        probabilities: float64, (n, classes).
        groups: int64, (n,); images of one group show the same radiograph or the same patient.
        classes: Their names.
        samples: Replicates of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        `images`, `accuracy`, `accuracy_low`, `accuracy_high`, the macro means, `loss`, `brier`,
        `intervals` ([low, high] by metric) and `classes` (the same for each class).
    """
    point = point_metrics(labels, probabilities)
    overall = {name: value for name, value in point.items() if name not in PER_CLASS}
    accuracy = accuracy_with_interval(probabilities.argmax(axis=1) == labels, groups)
    judged = _judge_classes(labels, probabilities, groups)
    intervals = {"accuracy": [accuracy["accuracy_low"], accuracy["accuracy_high"]]}
    for name, values in _losses(labels, probabilities).items():
        intervals[name] = mean_interval(values, groups, samples, seed)
    for name in PER_CLASS:
        intervals[f"macro_{name}"] = _macro_interval(name, point, judged)
    return {
        **accuracy,
        **overall,
        "intervals": intervals,
        "classes": {
            name: {
                "images": int((labels == number).sum()),
                **{metric: float(point[metric][number]) for metric in PER_CLASS},
                "intervals": judged[number][0],
            }
            for number, name in enumerate(classes)
        },
    }


def leak_free(radiographs: np.ndarray, leaked: np.ndarray) -> np.ndarray:
    """The first image of each radiograph that is not leaked: positions (int64), sorted.

    Args:
        radiographs: int64, (n,), equal for copies.
        leaked: bool, (n,): whether train/ has a copy or the patient; the same for all copies.
    """
    _, first = np.unique(radiographs, return_index=True)
    return np.sort(first[~leaked[first]])


def headline_positions(images: Images) -> dict[str, np.ndarray]:
    """Which test images count (positions, int64) for each of the two evaluation sets.

    `all_test` is every test image, as everybody reports it; `leak_free` one image per radiograph,
    none of which train/ has a copy or the patient.

    Raises:
        InputError: without the leaks, a class has no image left.
    """
    clean = leak_free(images.table["radiograph"].to_numpy(), images.table["leaked"].to_numpy())
    missing = set(range(len(images.classes))) - set(images.labels[clean].tolist())
    if missing:
        name = images.classes[min(missing)]
        raise InputError(
            f"class {name!r}: every test image has a copy or its patient in train/, so it can't be "
            "judged without a leak. Add other test images of this class; data/audit.csv tells "
            "which are leaked."
        )
    return {"all_test": np.arange(len(images)), "leak_free": clean}


def calibration_metrics(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, samples: int, seed: int
) -> dict[str, Any]:
    """`loss` and `brier`, with their `intervals`, and `expected_calibration_error`.

    Args:
        labels: int64, (n,).
        probabilities: float64, (n, classes).
        groups: int64, (n,).
        samples: Replicates of the bootstrap.
        seed: Of the bootstrap.
    """
    losses = _losses(labels, probabilities)
    bins = calibration.reliability(probabilities, labels)
    return {
        **{name: float(values.mean()) for name, values in losses.items()},
        "expected_calibration_error": calibration.expected_error(bins),
        "intervals": {
            name: mean_interval(values, groups, samples, seed) for name, values in losses.items()
        },
    }


def share_with_interval(counted: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """`images`, and of these that count their number, `count`, and `share`, with `low` and `high`.

    Args:
        counted: bool, (n,), n at least 1.
        groups: int64, (n,).
    """
    low, high = proportion_interval(counted, groups)
    return {
        "images": len(counted),
        "count": int(counted.sum()),
        "share": float(counted.mean()),
        "low": low,
        "high": high,
    }
