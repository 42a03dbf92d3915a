"""Simple classifiers, to hold the network against. None of them can know a disease by its look.

- low_resolution_8, _16, _32: so many grey pixels a side;
- frame_5, _10, _20, _40: a frame of that many of 200 pixels, as grey cells of 5 x 5 pixels. The
  centre is not looked at, though outer parts of lungs can show in the wider frames;
- histogram: how often each of 32 ranges of grey values occurs, wherever in the picture;
- file_properties: what the file says of itself, without a look at the picture;
- source: the class that most training images of the same source have;
- majority_class: the class that most training images have.

All but the last two are support vector machines (RBF kernel) on standardised values. Their settings
are chosen by cross-validation among the training images, grouped and stratified. A kernel machine
takes time as the square of its images; with more than MOST_EXACT to train on, it is a least-squares
one (Suykens and Vandewalle 1999: ridge regression on the classes) on a kernel approximated by
Nystroem's method (Williams and Seeger 2001).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from stages.common import parallel
from stages.common.errors import InputError
from stages.learning import splits
from stages.learning.dataset import SIZE, Images, Pixels

if TYPE_CHECKING:  # slow to import, and `predict` does without
    import pandas as pd

FRAME = 40
"""Width of the widest frame in pixels; the rest of the image is its central region."""
FRAMES = (5, 10, 20, FRAME)
CELL = 5
SIDES = (8, 16, 32)
BINS = 32
PENALTIES = (1.0, 10.0, 100.0)
GAMMAS = (0.25, 1.0, 4.0)
"""Of the kernel, in units of 1 / number of values, which suits standardised values."""
INNER_FOLDS = (3, 2)
"""How many folds choose the settings; the second where a class is too small for the first."""
INNER_SEED = 0
MOST_TO_CHOOSE_BY = 1000
"""Images, drawn from larger training sets: a support vector machine takes time as their square."""
MOST_EXACT = 5000
"""Training images up to which the kernel is exact: with so many a machine takes ten seconds."""
COMPONENTS = 1000
"""Of the approximated kernel, which cost one to two points of accuracy where both were tried."""
MOST_TRAINED = 10_000
"""Images, a stratified sample of larger training sets, that are trained on where the kernel is
approximated: a machine takes 20 kB of memory for each, so that one is trained at a time."""
_AT_ONCE = 1000  # images that are looked at, or judged, together

Split = tuple[np.ndarray, np.ndarray]
"""The positions (int64) of the images to train on, and of those to judge."""


@dataclass(frozen=True)
class Judged:
    """What the baselines made of the images of one split.

    Attributes:
        settings: `C` and `gamma` of each support vector machine, by the name of the baseline;
            and what `approximation` gives.
        predicted: int64, (n,), for each baseline its class of each of the n judged images.
    """

    settings: dict[str, dict[str, float]]
    predicted: dict[str, np.ndarray]


def grey_values(pixels: Pixels) -> np.ndarray:
    """uint8 images (n, height, width, 3) as grey ones, uint8, (n, height, width)."""
    return np.array([np.asarray(Image.fromarray(image).convert("L")) for image in pixels])


def low_resolution(grey: np.ndarray, side: int) -> np.ndarray:
    """Grey images, uint8, (n, height, width), reduced by a mean; uint8, (n, side * side)."""
    size, how = (side, side), Image.Resampling.BOX
    return np.array([np.asarray(Image.fromarray(one).resize(size, how)).ravel() for one in grey])


def frame(grey: np.ndarray, width: int) -> np.ndarray:
    """The sums of the cells in the frame of `width` pixels; no pixel inside it takes part.

    Args:
        grey: uint8, (n, SIZE, SIZE).
        width: A multiple of CELL.

    Returns:
        uint16, (n, cells), 0 to 255 * CELL * CELL.
    """
    side, edge = SIZE // CELL, width // CELL
    in_frame = np.ones((side, side), bool)
    in_frame[edge:-edge, edge:-edge] = False
    cells = grey.reshape(-1, side, CELL, side, CELL).sum(axis=(2, 4), dtype=np.uint16)
    return np.asarray(cells[:, in_frame])


def histogram(grey: np.ndarray) -> np.ndarray:
    """float64, (n, BINS): the share of grey values, uint8, (n, height, width), in each range."""
    bins = grey.reshape(len(grey), -1) // (256 // BINS)
    return np.array([np.bincount(values, minlength=BINS) / len(values) for values in bins])


def file_properties(paths: Sequence[str], audit: pd.DataFrame) -> np.ndarray:
    """What files say of themselves.

    Args:
        paths: n images.
        audit: The audit's table, indexed by path.

    Returns:
        float64, (n, properties): width and height in pixels, aspect, bytes per pixel, one column
        for each format and each mode.
    """
    rows = audit.loc[list(paths)]
    width, height = rows["width"].to_numpy(float), rows["height"].to_numpy(float)
    columns = [width, height, width / height, rows["bytes"].to_numpy(float) / (width * height)]
    for name in ("format", "mode"):
        columns += [(rows[name] == value).to_numpy(float) for value in sorted(set(audit[name]))]
    return np.column_stack(columns)


def features(images: Images, audit: pd.DataFrame) -> dict[str, np.ndarray]:
    """What each support vector machine sees of n images, by its name.

    Memory: 6 kB per image; the pixels are taken in slices.

    Returns:
        (n, values), of the least dtype that holds them.
    """
    values: dict[str, np.ndarray] = {}
    for begin in range(0, len(images), _AT_ONCE):
        here = slice(begin, begin + _AT_ONCE)
        grey = grey_values(images.pixels[here])
        seen = {
            **{f"low_resolution_{side}": low_resolution(grey, side) for side in SIDES},
            **{f"frame_{width}": frame(grey, width) for width in FRAMES},
            "histogram": histogram(grey),
            "file_properties": file_properties(images.table["path"][here], audit),
        }
        for name, some in seen.items():
            if begin == 0:
                values[name] = np.empty((len(images), some.shape[1]), some.dtype)
            values[name][here] = some
    return values


def inner_folds(classes: Sequence[str], groups: Sequence[int]) -> list[Split]:
    """The folds of the training images by which settings are chosen; none in too small a set."""
    drawn = np.zeros(len(classes), bool)
    drawn[np.random.default_rng(INNER_SEED).permutation(len(classes))[:MOST_TO_CHOOSE_BY]] = True
    for count in INNER_FOLDS:
        with contextlib.suppress(InputError):
            return [
                (outside[drawn[outside]], inside[drawn[inside]])
                for outside, inside in splits.folds(classes, groups, count, INNER_SEED)
            ]
    return []


def approximation(images: int) -> dict[str, int]:
    """How the kernel of machines is approximated that have so many images to train on.

    Returns:
        `components`, and `trained_on`: how many of the images. Nothing where the kernel is exact.
    """
    if images <= MOST_EXACT:
        return {}
    return {"components": COMPONENTS, "trained_on": min(images, MOST_TRAINED)}


def in_words(approximated: Mapping[str, int]) -> str:
    """What `approximation` gave, in a sentence."""
    return (
        f"With more than {MOST_EXACT:,} images to train on, a support vector machine is a "
        "least-squares one on a kernel approximated by Nystroem's method "
        f"({approximated['components']:,} components), and is trained on a stratified sample of at "
        f"most {MOST_TRAINED:,}."
    )


def sample(labels: np.ndarray) -> np.ndarray:
    """The positions (int64, sorted) of MOST_TRAINED images, stratified, or of all if they are few.

    Args:
        labels: int64, (n,), each of them twice or more.
    """
    from sklearn.model_selection import train_test_split

    positions = np.arange(len(labels))
    if len(labels) <= MOST_TRAINED:
        return positions
    drawn, _ = train_test_split(
        positions, train_size=MOST_TRAINED, stratify=labels, random_state=INNER_SEED
    )
    return np.sort(drawn)


def support_vector_machine(
    values: np.ndarray, labels: np.ndarray, split: Split, folds: Sequence[Split]
) -> tuple[dict[str, float], np.ndarray]:
    """Chooses the settings, trains and predicts.

    Args:
        values: What it sees of all images, see `features`.
        labels: int64, (n,).
        split: The positions of the images to train on, and of m to judge.
        folds: Of the training images. Without any, the settings are the middle of the grid.

    Returns:
        `C`, `gamma` and what `approximation` gives, and the predicted classes, int64, (m,).
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = make_pipeline(StandardScaler(), SVC(kernel="rbf"))
    grid = {"C": PENALTIES, "gamma": [factor / values.shape[1] for factor in GAMMAS]}
    settings = {name: choices[1] for name, choices in grid.items()}
    if folds:
        named = {f"svc__{name}": choices for name, choices in grid.items()}
        search = GridSearchCV(machine, named, cv=folds, refit=False).fit(values, labels)
        settings = {name: search.best_params_[f"svc__{name}"] for name in grid}
    machine.set_params(**{f"svc__{name}": value for name, value in settings.items()})
    train, judged = split
    approximated = approximation(len(train))
    if approximated:
        train = train[sample(labels[train])]
        kernel = Nystroem(gamma=settings["gamma"], n_components=COMPONENTS, random_state=INNER_SEED)
        least_squares = RidgeClassifier(alpha=1 / settings["C"])
        machine = make_pipeline(StandardScaler(), kernel, least_squares)
    dtype = np.float32 if approximated else np.float64
    machine.fit(values[train].astype(dtype), labels[train])
    predicted = [
        machine.predict(values[judged[begin : begin + _AT_ONCE]].astype(dtype))
        for begin in range(0, len(judged), _AT_ONCE)
    ]
    return settings | approximated, np.concatenate(predicted)


def majority(labels: np.ndarray) -> int:
    """The most frequent of labels, int64, (n,); of equally frequent ones the first."""
    return int(np.bincount(labels).argmax())


def by_source(
    train_sources: np.ndarray, train_labels: np.ndarray, sources: np.ndarray
) -> np.ndarray:
    """The most frequent class of each image's source among the training images.

    Args:
        train_sources: str, (n,); "" where unknown.
        train_labels: int64, (n,).
        sources: str, (m,).

    Returns:
        int64, (m,); the majority class where the source is unknown or has no training image.
    """
    known = {
        source: majority(train_labels[train_sources == source])
        for source in set(train_sources) - {""}
    }
    otherwise = majority(train_labels)
    return np.array([known.get(source, otherwise) for source in sources], np.int64)


def judge(images: Images, audit: pd.DataFrame, parts: Sequence[Split]) -> list[Judged]:
    """Trains every baseline on the one side of each split and lets it judge the other.

    Args:
        images: Those of all splits.
        audit: The audit's table, indexed by path.
        parts: The splits.

    Returns:
        For each split settings and predictions; `source` is missing where no image has a source.
    """
    from threadpoolctl import threadpool_limits

    table, values = images.table, features(images, audit)
    classes, groups = table["class"].to_numpy(), table["group"].to_numpy()
    sources = table["source"].to_numpy()
    folds = [
        [
            (train[outside], train[inside])
            for outside, inside in inner_folds(classes[train].tolist(), groups[train].tolist())
        ]
        for train, _ in parts
    ]

    def machine(task: tuple[int, str]) -> tuple[dict[str, float], np.ndarray]:
        part, name = task
        return support_vector_machine(values[name], images.labels, parts[part], folds[part])

    tasks = [(part, name) for part in range(len(parts)) for name in values]
    large = any(approximation(len(train)) for train, _ in parts)
    # scikit-learn's support vector machines release the interpreter lock
    with threadpool_limits(1):  # the last bits of an approximated kernel depend on it
        judgements = parallel.each(
            machine, tasks, "baselines", threads=1 if large else None, unit="baseline"
        )
    done = dict(zip(tasks, judgements, strict=True))
    results = []
    for part, (train, judged) in enumerate(parts):
        labels = images.labels[train]
        predicted = {name: done[part, name][1] for name in values}
        if any(sources):
            predicted["source"] = by_source(sources[train], labels, sources[judged])
        predicted["majority_class"] = np.full(len(judged), majority(labels))
        results.append(Judged({name: done[part, name][0] for name in values}, predicted))
    return results
