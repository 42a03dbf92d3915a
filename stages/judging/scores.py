"""How good a classifier is, each metric with its 95 % interval.

scikit-learn and SciPy compute; only the replicates of the bootstrap are NumPy's, for speed.

Proportions (accuracy, sensitivity, specificity, precision) have Wilson's interval (Wilson 1927),
which takes images for independent: without leaks they are, among all test images there may be
copies, which make it a little too narrow. The rest has the percentile interval of a bootstrap
(Efron 1979) that draws groups, not images, because copies of one radiograph are not independent;
it draws within each class, so that no replicate lacks one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from stages.common.errors import InputError
from stages.judging import calibration
from stages.learning.dataset import Images

PER_CLASS = ("sensitivity", "specificity", "precision", "f1", "auroc")
CONFIDENCE = 0.95
_PERCENTILES = (2.5, 97.5)
_AT_ONCE = 100  # replicates, so that memory does not grow with their number


def wilson(successes: int, trials: int) -> list[float]:
    """Wilson's 95 % interval of a proportion, [low, high]; [0, 1] where nothing was tried."""
    from scipy.stats import binomtest

    if trials == 0:
        return [0.0, 1.0]
    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return [float(interval.low), float(interval.high)]


def accuracy_with_interval(correct: np.ndarray) -> dict[str, Any]:
    """`images`, `accuracy`, `accuracy_low` and `accuracy_high` from a bool array, (n,)."""
    low, high = wilson(int(correct.sum()), len(correct))
    return {
        "images": len(correct),
        "accuracy": float(correct.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
    }


def in_words(result: Mapping[str, Any]) -> str:
    """A line on what `accuracy_with_interval` gave."""
    return (
        f"accuracy {result['accuracy']:.3f} [{result['accuracy_low']:.3f}, "
        f"{result['accuracy_high']:.3f}] on {result['images']} test images"
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


def _auroc(actual: np.ndarray, scores: np.ndarray, times: np.ndarray) -> np.ndarray:
    """float64, (replicates,): the share of ordered pairs (Mann and Whitney 1947), ties count half.

    All sums are of integers and halves, and so exact in any order. `actual`, bool, (n,), marks
    the images of the class; `scores`, (n,), gives its probability.
    """
    order = np.argsort(scores, kind="stable")
    ties = np.flatnonzero(np.diff(scores[order], prepend=-1))  # where a new value begins
    own, other = (
        np.add.reduceat(np.where(of_it[order], times[:, order], 0), ties, axis=1)
        for of_it in (actual, ~actual)
    )
    below = np.cumsum(other, axis=1) - other / 2
    return np.asarray((own * below).sum(axis=1) / (own.sum(axis=1) * other.sum(axis=1)))


def _replicate_metrics(
    labels: np.ndarray, probabilities: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    """The same as `point_metrics`, with a first axis for the replicates.

    scikit-learn computes one replicate per call, a thousand in seconds; this takes milliseconds.
    `times`, float64, (replicates, n), is how often a replicate has an image.
    """
    one_hot = np.eye(probabilities.shape[1])
    actual, predicted = one_hot[labels], one_hot[probabilities.argmax(axis=1)]
    images = times.sum(axis=1, keepdims=True)
    positive, called, hit = times @ actual, times @ predicted, times @ (actual * predicted)
    per_class = {
        "sensitivity": hit / positive,
        "specificity": (images - positive - called + hit) / (images - positive),
        "precision": hit / np.maximum(called, 1),
        "f1": 2 * hit / (positive + called),
        "auroc": np.column_stack(
            [_auroc(labels == c, probabilities[:, c], times) for c in range(len(one_hot))]
        ),
    }
    least = np.finfo(np.float64).eps
    losses = -np.log(np.clip((probabilities * actual).sum(axis=1), least, 1 - least))
    briers = ((probabilities - actual) ** 2).sum(axis=1)
    # no matrix product here: the order in which BLAS adds, and so the last bit, is the machine's
    return {
        "loss": (times * losses).sum(axis=1) / images[:, 0],
        "brier": (times * briers).sum(axis=1) / images[:, 0],
        **{f"macro_{name}": values.mean(axis=1) for name, values in per_class.items()},
        **per_class,
    }


def _draw(labels: np.ndarray, groups: np.ndarray, samples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each replicate has each image, float64, (at most _AT_ONCE, n) at a time."""
    strata = []
    for label in np.unique(labels):
        positions = np.flatnonzero(labels == label)
        names, group_of = np.unique(groups[positions], return_inverse=True)
        strata.append((positions, len(names), group_of))
    generator = np.random.default_rng(seed)
    for begin in tqdm(range(0, samples, _AT_ONCE), "bootstrap", disable=None):
        times = np.zeros((min(_AT_ONCE, samples - begin), len(labels)))
        for replicate in times:
            for positions, count, group_of in strata:
                drawn = generator.integers(count, size=count)
                replicate[positions] = np.bincount(drawn, minlength=count)[group_of]
        yield times


def _bootstrap(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, samples: int, seed: int
) -> dict[str, Any]:
    """The 95 % interval of each of the point metrics: [low, high], of numbers or of lists."""
    parts = [
        _replicate_metrics(labels, probabilities, times)
        for times in _draw(labels, groups, samples, seed)
    ]
    return {
        name: np.percentile(
            np.concatenate([part[name] for part in parts]), _PERCENTILES, axis=0
        ).tolist()
        for name in parts[0]
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
        labels: int64, (n,), positions in `classes`.
        probabilities: float64, (n, classes).
        groups: int64, (n,); images of one group show the same radiograph.
        classes: Their names.
        samples: Replicates of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        `images`, `accuracy`, `accuracy_low`, `accuracy_high`, the macro means, `loss`, `brier`,
        `intervals` ([low, high] by metric) and `classes` (the same for each class).
    """
    point = point_metrics(labels, probabilities)
    bounds = _bootstrap(labels, probabilities, groups, samples, seed)
    predicted = probabilities.argmax(axis=1)
    by_class = {}
    for number, name in enumerate(classes):
        actual, called = labels == number, predicted == number
        hits = int((actual & called).sum())
        by_class[name] = {
            "images": int(actual.sum()),
            **{metric: float(point[metric][number]) for metric in PER_CLASS},
            "intervals": {
                "sensitivity": wilson(hits, int(actual.sum())),
                "specificity": wilson(int((~actual & ~called).sum()), int((~actual).sum())),
                "precision": wilson(hits, int(called.sum())),
                "f1": [end[number] for end in bounds["f1"]],
                "auroc": [end[number] for end in bounds["auroc"]],
            },
        }
    accuracy = accuracy_with_interval(predicted == labels)
    overall = [name for name in point if name not in PER_CLASS]
    return {
        **accuracy,
        **{name: point[name] for name in overall},
        "intervals": {
            "accuracy": [accuracy["accuracy_low"], accuracy["accuracy_high"]],
            **{name: bounds[name] for name in overall},
        },
        "classes": by_class,
    }


def leak_free(groups: np.ndarray, leaked: np.ndarray) -> np.ndarray:
    """The first image of each group of which no copy was trained on: positions (int64), sorted.

    Args:
        groups: int64, (n,).
        leaked: bool, (n,): whether train/ has a copy.
    """
    _, first = np.unique(groups, return_index=True)
    return np.sort(first[~np.isin(groups[first], groups[leaked])])


def headline_positions(images: Images) -> dict[str, np.ndarray]:
    """Which test images count (positions, int64) for each of the two evaluation sets.

    `all_test` is every test image, as everybody reports it; `leak_free` one image per radiograph,
    none with a copy in train/.

    Raises:
        InputError: without the leaks, a class has no image left.
    """
    clean = leak_free(images.table["group"].to_numpy(), images.table["leaked"].to_numpy())
    missing = set(range(len(images.classes))) - set(images.labels[clean].tolist())
    if missing:
        name = images.classes[min(missing)]
        raise InputError(
            f"class {name!r}: every test image has a copy in train/, so it can't be judged without "
            "a leak. Add other test images of this class; metrics/details/audit.json lists the "
            "copies."
        )
    return {"all_test": np.arange(len(images)), "leak_free": clean}


def calibration_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """`loss`, `brier` and `expected_calibration_error` of probabilities (n, classes)."""
    point = point_metrics(labels, probabilities)
    error = calibration.expected_error(calibration.reliability(probabilities, labels))
    return {name: point[name] for name in ("loss", "brier")} | {"expected_calibration_error": error}
