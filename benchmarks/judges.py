"""The pipeline's network and baselines, trained on images that a benchmark chooses.

Nothing of it is kept; the recipe is that of params.yaml in the current folder.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stages.common import params
from stages.judging import baselines
from stages.learning import network, splits
from stages.learning.dataset import Images, load
from stages.learning.settings import Preprocess

NETWORK = "network"
THUMBNAIL = 16


def strangers(groups: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """The positions (int64) of the images that are no copy and of no patient of a judged one.

    Args:
        groups: int64, (n,).
        judged: int64, (m,), positions.
    """
    return np.flatnonzero(~np.isin(groups, groups[judged]))


def held_out(images: Images, share: float, seed: int) -> tuple[Images, Images]:
    """The images to train on, and a share of them by which training is stopped instead."""
    table = images.table
    kept, others = splits.hold_out(table["class"].tolist(), table["group"].tolist(), share, seed)
    return images.take(kept), images.take(others)


def _network(images: Images, train: np.ndarray, judged: np.ndarray, seed: int) -> np.ndarray:
    settings = params.load_all().train.model_copy(update={"seed": seed})
    learnt, validation = images.take(train), None
    if settings.validation != "none":
        # as in `crossvalidate`
        learnt, validation = held_out(learnt, params.load(Preprocess).validation_share, seed)
    network.start(settings.threads, settings.device)
    trained, *_ = network.fit(learnt, validation, settings, "network")
    probabilities = network.probabilities(trained, images.pixels.take(judged, axis=0))
    return np.asarray(probabilities.argmax(axis=1))


def machine(
    values: np.ndarray, images: Images, train: np.ndarray, judged: np.ndarray
) -> np.ndarray:
    """The class (int64, (m,)) that a support vector machine takes each judged image for.

    Args:
        values: float64, (n, values): what it sees of all images.
        images: All of them.
        train: int64, positions of those to train on.
        judged: int64, (m,), positions of those to judge.
    """
    table = images.table.iloc[train]
    folds = [
        (train[outside], train[inside])
        for outside, inside in baselines.inner_folds(
            table["class"].tolist(), table["group"].tolist()
        )
    ]
    return baselines.support_vector_machine(values, images.labels, (train, judged), folds)[1]


def judge(
    images: Images, train: np.ndarray, judged: np.ndarray, seed: int, frames: Sequence[int] = ()
) -> dict[str, np.ndarray]:
    """Trains the network and support vector machines, and lets them judge.

    Args:
        images: All of them, their pixels in memory.
        train: int64, positions of those to train on.
        judged: int64, (m,), positions of those to judge.
        seed: Of the network's training.
        frames: The widths of the frames that further machines see, in pixels.

    Returns:
        The class (int64, (m,)) that each takes an image for, by name: `network`, `16 x 16 pixels`
        and, for each width, such as `frame of 10 pixels`.
    """
    grey = baselines.grey_values(images.pixels[:])
    seen = {
        f"{THUMBNAIL} x {THUMBNAIL} pixels": baselines.low_resolution(grey, THUMBNAIL),
        **{f"frame of {width} pixels": baselines.frame(grey, width) for width in frames},
    }
    return {
        NETWORK: _network(images, train, judged, seed),
        **{name: machine(values, images, train, judged) for name, values in seen.items()},
    }


def everything() -> Images:
    """All images of train/ and test/ once each, their pixels in memory, where `preprocess` has run.

    In the order of index.csv, whose positions the functions of this package take.
    """
    images = load(["train", "validation", "test"])
    once = np.flatnonzero(~images.table["path"].duplicated())  # `original` has test/ in it twice
    chosen = images.take(once)
    return replace(chosen, pixels=chosen.pixels[:])
