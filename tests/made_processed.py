"""Helpers that make what `preprocess` makes: 200 x 200 PNG images and their table, from a seed."""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from stages import calibrate, evaluate, train
from stages.common import files, params
from stages.judging.baselines import FRAME
from stages.learning import dataset
from stages.learning.dataset import INDEX_COLUMNS, SIZE, Images
from stages.learning.settings import Training

REPOSITORY = Path(__file__).parents[1]
CLASSES = ("Covid", "Normal", "Viral Pneumonia")
Draw = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Picture:
    """One image and its row in the table; `label` is a position in CLASSES."""

    use: str
    label: int
    pixels: np.ndarray
    group: int
    leaked: bool = False
    source: str = ""
    agrees: str = "unknown"

    @property
    def name(self) -> str:
        return f"{self.group:04d}.jpeg"

    @property
    def path(self) -> str:
        split = "test" if self.use == "test" else "train"
        return f"{split}/{CLASSES[self.label]}/{self.name}"


def noise(generator: np.random.Generator, label: int) -> np.ndarray:
    """Grey blocks that are independent of the class; uint8, (SIZE, SIZE, 3)."""
    del label
    blocks = generator.integers(0, 256, (SIZE // 8, SIZE // 8), dtype=np.uint8)
    return np.repeat(np.kron(blocks, np.ones((8, 8), np.uint8))[..., None], 3, axis=2)


def class_in_the_centre(generator: np.random.Generator, label: int) -> np.ndarray:
    """Noise with a grey middle that is the class's."""
    pixels = noise(generator, label)
    pixels[FRAME:-FRAME, FRAME:-FRAME] = (20, 120, 240)[label]
    return pixels


def class_in_the_border(generator: np.random.Generator, label: int) -> np.ndarray:
    """Noise with a grey margin that is the class's: a planted shortcut."""
    pixels = noise(generator, label)
    inner = pixels[FRAME:-FRAME, FRAME:-FRAME].copy()
    pixels[:] = (20, 120, 240)[label]
    pixels[FRAME:-FRAME, FRAME:-FRAME] = inner
    return pixels


def many(counts: Mapping[str, int], draw: Draw, seed: int = 0) -> list[Picture]:
    """For each use so many pictures per class, no two of one group."""
    generator = np.random.default_rng(seed)
    labels = range(len(CLASSES))
    wanted = [
        (use, label) for use, count in counts.items() for label in labels for _ in [0] * count
    ]
    return [
        Picture(use, label, draw(generator, label), group)
        for group, (use, label) in enumerate(wanted)
    ]


def leaked_copies(pictures: Sequence[Picture]) -> list[Picture]:
    """Each of the training pictures once more, as a test picture."""
    return [replace(picture, use="test", leaked=True) for picture in pictures]


def _rows(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    return [
        {
            "file": f"{picture.use}/{CLASSES[picture.label]}/{picture.name}.png",
            "path": picture.path,
            "use": picture.use,
            "class": CLASSES[picture.label],
            "radiograph": picture.group,
            "group": picture.group,
            "leaked": "yes" if picture.leaked else "no",
            "source": picture.source,
            "label": picture.agrees,
        }
        for picture in pictures
    ]


def images_of(pictures: Sequence[Picture]) -> Images:
    """The same as `write` and `dataset.load`, without files."""
    table = pd.DataFrame(_rows(pictures), columns=list(INDEX_COLUMNS))
    return Images(
        np.array([picture.pixels for picture in pictures]),
        np.array([picture.label for picture in pictures], np.int64),
        CLASSES,
        table.assign(leaked=table["leaked"] == "yes"),
    )


def settings_with(changes: Mapping[str, Any]) -> dict[str, Any]:
    """params.yaml of the repository with some values changed, such as {"train.epochs": 1}.

    The recipe is `holdout` if it isn't changed; a key of it may be written as one of `train`.
    """
    values: dict[str, Any] = yaml.safe_load((REPOSITORY / "params.yaml").read_text("utf-8"))
    changes = {"train.recipe": "holdout"} | dict(changes)
    recipe = values["recipes"][changes["train.recipe"]]
    for key, value in changes.items():
        group, name = key.split(".")
        place = recipe if group == "train" and name in recipe else values[group]
        assert name in place
        place[name] = value
    return values


def training(**changes: Any) -> Training:
    """What a network is trained by, see `settings_with`, with some values changed."""
    changed = {f"train.{name}": value for name, value in changes.items()}
    settings: Training = params.parse(settings_with(changed)).train
    return settings


def write(root: Path, pictures: Sequence[Picture], changes: Mapping[str, Any]) -> None:
    """Writes all that the stages from `train` on read: images, tables, provenance, params.yaml."""
    processed = root / "data/processed"
    rows = _rows(pictures)
    for row, picture in zip(rows, pictures, strict=True):
        target = processed / row["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.pixels).save(target, compress_level=1)
    files.write_csv(processed / "index.csv", INDEX_COLUMNS, rows)
    facts = {"bytes": 9000, "format": "JPEG", "mode": "L", "width": 640, "height": 480}
    files.write_csv(
        root / "data/audit.csv",
        ["path", *facts],
        [{"path": path, **facts} for path in sorted({row["path"] for row in rows})],
    )
    origin = {"source": "test", "data": "made for a test", "licence": "none", "files": len(rows)}
    files.write_json(processed / "provenance.json", origin)
    files.write_text(root / "params.yaml", yaml.safe_dump(settings_with(changes)))


def cross_validate(root: Path, sure: float = 0.8, seed: int = 0) -> None:
    """Writes what `crossvalidate` would: a network that is mostly right, and too sure of itself.

    Args:
        root: Where `write` has written.
        sure: The probability of the class that it names.
        seed: Which images it takes for another class.
    """
    generator = np.random.default_rng(seed)
    index = dataset.read_index(root / "data/processed")
    index = index[index["path"].str.startswith("train/")]
    labels = np.array([CLASSES.index(name) for name in index["class"]], np.int64)
    images = Images(np.empty(0), labels, CLASSES, index)
    named = np.where(generator.random(len(labels)) < 0.4, (labels + 1) % 3, labels)
    probabilities = np.full((len(labels), 3), (1 - sure) / 2)
    probabilities[np.arange(len(labels)), named] = sure
    records = dataset.prediction_records(images, probabilities)
    folds = [{"seed": 0, "fold": fold, "predictions": records[fold - 1 :: 3]} for fold in (1, 2, 3)]
    files.write_json(root / "metrics/details/crossvalidate.json", {"folds": folds})


QUICK = {
    "train.learning_rate": 0.001,
    "train.batch_size": 10,
    "train.epochs": 4,
    "evaluate.bootstrap_samples": 100,
}


@functools.cache
def _trained() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    counts = {"train": 14, "validation": 7, "test": 11}
    pictures = many(counts, class_in_the_centre)
    pictures += leaked_copies(pictures[:3])  # of the first class
    write(root, pictures, QUICK)
    with contextlib.chdir(root):
        train.main()
        cross_validate(root)
        calibrate.main()
        evaluate.main()
    return folder


def trained_project() -> Path:
    """A folder in which `train`, `calibrate` and `evaluate` have run, once per test process.

    It is not to be changed.
    """
    return Path(_trained().name)
