"""How good a classifier is, each figure with its 95 % interval. scikit-learn and SciPy compute.

Proportions of independent images (accuracy, sensitivity, specificity, precision) have Wilson's
interval (Wilson 1927). The rest has the percentile interval of a bootstrap (Efron 1979) that
draws groups, not images, because copies of one radiograph are not independent; it draws within
each class, so that no replicate lacks one.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from stages.common import calibration
from stages.common.dataset import Images
from stages.common.errors import InputError

OF_A_CLASS = ("sensitivity", "specificity", "precision", "f1", "auroc")
PROPORTIONS = ("sensitivity", "specificity", "precision")


def wilson(successes: int, trials: int) -> list[float]:
    """Wilson's 95 % interval of a proportion, [low, high]; [0, 1] where nothing was tried."""
    from scipy.stats import binomtest

    if trials == 0:
        return [0.0, 1.0]
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def accuracy_with_interval(right: np.ndarray) -> dict[str, Any]:
    """`images`, `accuracy`, `accuracy_low` and `accuracy_high` from a bool array, (n,)."""
    low, high = wilson(int(right.sum()), len(right))
    return {
        "images": len(right),
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
    }


def point_figures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Every figure without its interval.

    Args:
        labels: int64, (n,), each of the classes at least once and not alone.
        probabilities: float64, (n, classes), rows sum to 1.

    Returns:
        `loss` (cross-entropy, nats), `brier` (0 to 2, summed over classes), `macro_<figure>`,
        and under <figure> for each of OF_A_CLASS an array (classes,). A precision of which
        nothing was predicted counts as 0.
    """
    from sklearn import metrics

    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    precision, sensitivity, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    counts = metrics.multilabel_confusion_matrix(labels, predicted, labels=classes)
    of_a_class = {
        "sensitivity": sensitivity,
        "specificity": counts[:, 0, 0] / counts[:, 0].sum(axis=1),
        "precision": precision,
        "f1": f1,
        "auroc": np.array(
            [
                metrics.roc_auc_score(labels == number, probabilities[:, number])
                for number in classes
            ]
        ),
    }
    return {
        "loss": float(metrics.log_loss(labels, probabilities, labels=classes)),
        "brier": float(
            metrics.brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
        ),
        **{f"macro_{name}": float(values.mean()) for name, values in of_a_class.items()},
        **of_a_class,
    }


def _replicate_figures(
    labels: np.ndarray, probabilities: np.ndarray, losses: np.ndarray, briers: np.ndarray
) -> dict[str, Any]:
    """The same as `point_figures`, in a third of the time: two calls of scikit-learn, not seven.

    Args:
        labels: int64, (n,).
        probabilities: float64, (n, classes).
        losses: float64, (n,), the cross-entropy of each image alone.
        briers: float64, (n,), the Brier score of each image alone.
    """
    from sklearn import metrics

    classes = np.arange(probabilities.shape[1])
    counts = metrics.multilabel_confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=classes
    )
    negative, false_alarm = counts[:, 0].T
    missed, hit = counts[:, 1].T
    of_a_class = {
        "sensitivity": hit / (hit + missed),
        "specificity": negative / (negative + false_alarm),
        "precision": hit / np.maximum(hit + false_alarm, 1),
        "f1": 2 * hit / (2 * hit + missed + false_alarm),
        "auroc": metrics.roc_auc_score(labels[:, None] == classes, probabilities, average=None),
    }
    return {
        "loss": losses.mean(),
        "brier": briers.mean(),
        **{f"macro_{name}": values.mean() for name, values in of_a_class.items()},
        **of_a_class,
    }


def _bootstrap(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, samples: int, seed: int
) -> dict[str, np.ndarray]:
    """For each of the point figures its values over the replicates, (samples, ...)."""
    from sklearn import metrics

    classes = np.arange(probabilities.shape[1])
    alone = [(labels[n : n + 1], probabilities[n : n + 1]) for n in range(len(labels))]
    losses = np.array([metrics.log_loss(*image, labels=classes) for image in alone])
    briers = np.array(
        [metrics.brier_score_loss(*image, labels=classes, scale_by_half=False) for image in alone]
    )
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, (label, group) in enumerate(zip(labels, groups, strict=True)):
        members[int(label), int(group)].append(position)
    strata = [
        [np.array(found) for (label, _), found in sorted(members.items()) if label == wanted]
        for wanted in np.unique(labels)
    ]
    generator = np.random.default_rng(seed)
    values: dict[str, list[Any]] = defaultdict(list)
    for _ in tqdm(range(samples), "bootstrap", unit="sample", disable=None):
        drawn = np.concatenate(
            [
                stratum[number]
                for stratum in strata
                for number in generator.integers(len(stratum), size=len(stratum))
            ]
        )
        replicate = _replicate_figures(
            labels[drawn], probabilities[drawn], losses[drawn], briers[drawn]
        )
        for name, value in replicate.items():
            values[name].append(value)
    return {name: np.array(found) for name, found in values.items()}


def figures(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Every figure with its 95 % interval, as it goes into a metrics file.

    Args:
        labels: int64, (n,), positions in `classes`.
        probabilities: float64, (n, classes).
        groups: int64, (n,); images of one group show the same radiograph.
        classes: Their names.
        samples: Replicates of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        `images`, `accuracy`, `accuracy_low`, `accuracy_high`, the macro means, `loss`, `brier`,
        `intervals` ([low, high] by figure) and `classes` (the same for each class).
    """
    from sklearn import config_context, metrics

    predicted = probabilities.argmax(axis=1)
    with config_context(skip_parameter_validation=True, assume_finite=True):
        point = point_figures(labels, probabilities)
        replicates = _bootstrap(labels, probabilities, groups, samples, seed)
    bounds = {
        name: np.percentile(values, [2.5, 97.5], axis=0).tolist()
        for name, values in replicates.items()
    }
    counts = metrics.multilabel_confusion_matrix(
        labels, predicted, labels=np.arange(len(classes))
    ).tolist()
    overall = [name for name in point if name not in OF_A_CLASS]
    by_class = {}
    for number, name in enumerate(classes):
        (negative, false_alarm), (missed, hit) = counts[number]
        by_class[name] = {
            "images": hit + missed,
            **{figure: float(point[figure][number]) for figure in OF_A_CLASS},
            "intervals": {
                "sensitivity": wilson(hit, hit + missed),
                "specificity": wilson(negative, negative + false_alarm),
                "precision": wilson(hit, hit + false_alarm),
                **{
                    figure: [bounds[figure][0][number], bounds[figure][1][number]]
                    for figure in OF_A_CLASS
                    if figure not in PROPORTIONS
                },
            },
        }
    accuracy = accuracy_with_interval(predicted == labels)
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
    """The positions (int64) of the images that can be judged without a leak.

    Args:
        groups: int64, (n,).
        leaked: bool, (n,): whether a copy stands in train or validation.

    Returns:
        The first image of each group of which no copy was trained on, in order.
    """
    _, first = np.unique(groups, return_index=True)
    return np.sort(first[~np.isin(groups[first], groups[leaked])])


def clean_positions(images: Images) -> np.ndarray:
    """`leak_free` of test images.

    Raises:
        InputError: a class has no image left.
    """
    clean = leak_free(images.table["group"].to_numpy(), images.table["leaked"].to_numpy())
    missing = set(range(len(images.classes))) - set(images.labels[clean].tolist())
    if missing:
        name = images.classes[min(missing)]
        raise InputError(
            f"class {name!r}: every test image has a copy in train/, so nothing can be said of "
            "it without a leak. Add test images that are no copies; metrics/data.json lists them."
        )
    return clean


def calibration_figures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """`loss`, `brier` and `expected_calibration_error` of probabilities (n, classes)."""
    from sklearn.metrics import brier_score_loss, log_loss

    classes = np.arange(probabilities.shape[1])
    return {
        "loss": float(log_loss(labels, probabilities, labels=classes)),
        "brier": float(
            brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
        ),
        "expected_calibration_error": calibration.expected_error(
            calibration.reliability(probabilities, labels)
        ),
    }
