"""Sets of classes that hold the true one in, say, 90 of 100 cases: conformal prediction.

Inductive conformal prediction (Vovk, Gammerman and Shafer 2005; Angelopoulos and Bates 2023): how
odd would an image be if it were of this class, compared with images of which the class is known?
Oddness is one minus the probability of the class. The images of known class are the radiographs of
train/, each judged by a network that has not seen it (cross-conformal prediction, Vovk 2015).

The coverage is that of all images together, so that it can be less for a class, a hospital or an
image, and it holds for images that could as well have been among those of known class. The most
probable class is always in its set. That makes no set empty, and the coverage more than was asked
for where a set would have been: there even the most probable class is odd.
"""

import math
from collections.abc import Sequence

import numpy as np


def scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How odd images of known class are, 0 to 1, float64, (n,), sorted.

    Args:
        probabilities: (n, classes), each row by a network that has not seen the image.
        labels: int64, (n,).
    """
    return np.sort(1 - probabilities[np.arange(len(labels)), labels])


def sets(probabilities: np.ndarray, known: np.ndarray, coverage: float) -> np.ndarray:
    """Which classes are in the set of each image, bool, (n, classes).

    Args:
        probabilities: (n, classes), of the kind that `known` was made of.
        known: What `scores` gave.
        coverage: The share of the sets that are to hold the true class, 0 to 1.
    """
    as_odd = len(known) - np.searchsorted(known, 1 - probabilities, side="left")
    p_values = (1 + as_odd) / (len(known) + 1)
    inside = p_values >= 1 - coverage
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    return np.asarray(inside)


def names(probabilities: np.ndarray, inside: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The classes in the set of one image, the most probable first.

    Args:
        probabilities: (classes,).
        inside: Which classes are in the set, bool, (classes,).
        classes: Their names.
    """
    order = np.argsort(-probabilities, kind="stable").tolist()
    return [classes[number] for number in order if inside[number]]


def fewest(coverage: float) -> int:
    """How many images of known class it takes to leave a class out of any set."""
    return math.floor(1 / (1 - coverage))
