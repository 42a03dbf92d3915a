"""Splits in which no radiograph stands on both sides, and every class appears on both."""

from collections.abc import Iterator, Sequence

import numpy as np

from stages.common.errors import InputError


def folds(
    labels: Sequence[str], groups: Sequence[int], count: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Deals images into grouped, stratified folds (scikit-learn's StratifiedGroupKFold).

    Args:
        labels: The class of each image, n of them.
        groups: The group of each image; images of one group stay together.
        count: How many folds.
        seed: Deals anew for each value.

    Yields:
        For each fold the positions (int64) of the images outside and inside it.

    Raises:
        InputError: A class would be missing on one side of a fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.asarray(labels)
    for name in sorted(set(labels)):
        radiographs = len(
            {group for group, label in zip(groups, labels, strict=True) if label == name}
        )
        if radiographs < count:
            raise InputError(
                f"class {name!r}: found {radiographs} different radiographs to train on, expected "
                f"at least {count}, so that each of {count} parts gets one. Add images, raise "
                "preprocess.validation_share, or lower crossvalidate.folds."
            )
    dealer = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    for outside, inside in dealer.split(names, names, groups):
        for side in (outside, inside):
            missing = set(labels) - set(names[side])
            if missing:
                raise InputError(
                    f"class {sorted(missing)[0]!r} can't be dealt onto both sides of a split, "
                    "because copies of one radiograph must stay together. Take another seed, or "
                    "add images of this class."
                )
        yield outside, inside


def hold_out(
    labels: Sequence[str], groups: Sequence[int], share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out a grouped, stratified share: one fold of round(1 / share).

    Returns:
        The positions (int64) of the images that are kept, and of those that are held out.

    Raises:
        InputError: see `folds`.
    """
    return next(folds(labels, groups, round(1 / share), seed))
