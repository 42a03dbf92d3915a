"""The preprocessed images as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from stages.common import files
from stages.common.errors import InputError

if TYPE_CHECKING:  # slow to import, and `preprocess` does without
    import pandas as pd

SIZE = 200
"""Width and height, in pixels, of every image that the network gets."""
PROCESSED = Path("data/processed")
INDEX_COLUMNS = (
    *("file", "path", "use", "class"),
    *("radiograph", "group", "leaked"),
    *("source", "label"),
)
"""The columns of index.csv.

`file` is in data/processed, `path` in data/raw. Images of one `radiograph` are copies of it; images
of one `group` are copies or of one patient, and must not stand on both sides of a split; `leaked`
marks a test image whose group is in train/. `source` is the collection that the image came from
("" where unknown), and `label` says whether that agrees with the class: agrees, contradicts or
unknown."""


@dataclass(frozen=True)
class Images:
    """Images that are used for the same thing.

    Attributes:
        pixels: uint8, (n, SIZE, SIZE, 3), 0 to 255.
        labels: int64, (n,), positions in `classes`.
        classes: The names of all classes, sorted.
        table: One row per image, the columns of INDEX_COLUMNS; `radiograph` and `group`
            int64, `leaked` bool.
    """

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: np.ndarray) -> Images:
        """The images at `positions` (int64), in that order."""
        return Images(
            self.pixels[positions],
            self.labels[positions],
            self.classes,
            self.table.iloc[positions].reset_index(drop=True),
        )

    @property
    def one_hot(self) -> np.ndarray:
        """float32, (n, classes): 1 at the label, 0 elsewhere."""
        return np.asarray(np.eye(len(self.classes), dtype=np.float32)[self.labels])


def provenance() -> dict[str, Any]:
    """Where the images come from: `source`, `data` (a line for people), `licence`, `files`.

    And `sha256`, over all that `preprocess` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    origin: dict[str, Any] = files.read_json(PROCESSED / "provenance.json", "preprocess")
    return origin


def read_index(folder: Path = PROCESSED) -> pd.DataFrame:
    """The table of what `preprocess` made, one row per image and use.

    Raises:
        InputError: the table is missing or damaged.
    """
    import pandas as pd

    path = folder / "index.csv"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
        table = table[list(INDEX_COLUMNS)]
        return table.assign(
            radiograph=table["radiograph"].astype(np.int64),
            group=table["group"].astype(np.int64),
            leaked=table["leaked"] == "yes",
        )
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is not the table that the stage `preprocess` writes ({error}). "
            "Run `dvc repro --force preprocess`."
        ) from None


def load(uses: Sequence[str], folder: Path = PROCESSED) -> Images:
    """Loads all images for the given uses ("train", "validation", "test").

    Memory: 120,000 bytes per image.

    Raises:
        InputError: the table is missing or damaged, or an image that it names is.
    """
    table = read_index(folder)
    classes = tuple(sorted(set(table["class"])))
    table = table[table["use"].isin(uses)].reset_index(drop=True)
    pixels = np.empty((len(table), SIZE, SIZE, 3), np.uint8)
    for position, name in enumerate(table["file"]):
        try:
            with Image.open(folder / name) as image:
                pixels[position] = np.asarray(image).reshape(pixels.shape[1:])
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(
                f"{folder / name} is not the {SIZE} x {SIZE} RGB image that the stage "
                f"`preprocess` writes ({error}). Run `dvc repro --force preprocess`."
            ) from None
    labels = np.array([classes.index(name) for name in table["class"]], np.int64)
    return Images(pixels, labels, classes, table)


def prediction_records(images: Images, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """One record per image: file, actual and predicted class, probability of each class."""
    columns = [f"probability {name}" for name in images.classes]
    table = images.table
    return [
        {
            "file": path,
            "actual": actual,
            "predicted": images.classes[int(row.argmax())],
            "leaked": leaked,
            **dict(zip(columns, row.tolist(), strict=True)),
        }
        for path, actual, leaked, row in zip(
            table["path"], table["class"], table["leaked"].tolist(), probabilities, strict=True
        )
    ]
