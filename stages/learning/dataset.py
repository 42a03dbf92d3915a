"""The preprocessed images: their table, and their pixels, read a few at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from stages.common import files, parallel
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

PROBABILITY = "probability "
"""What the columns of probabilities begin with; the class follows."""
_SCRATCH = Path(".dvc/tmp")


class Stored:
    """An array (n, ...) whose rows are read where it is indexed, so that only these are in memory.

    By a slice, by positions or by one position; what that gives is a plain array.
    """

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], positions: np.ndarray) -> None:
        """Takes the function that reads rows, and which rows there are, int64, (n,)."""
        self._read = read
        self._positions = positions

    @classmethod
    def in_file(cls, rows: Iterable[np.ndarray]) -> Stored:
        """Writes rows of one shape and dtype to a file in .dvc/tmp, and reads them from there.

        The file has no name, so that it goes with the process, however that ends.
        """
        _SCRATCH.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=_SCRATCH)  # noqa: SIM115 - it is `read` that needs it
        row = np.empty(1)
        for row in rows:
            file.write(row.tobytes())
        count = file.tell() // row.nbytes
        file.flush()

        def read(positions: np.ndarray) -> np.ndarray:
            found = np.empty((len(positions), *row.shape), row.dtype)
            for target, position in zip(found, positions.tolist(), strict=True):
                # not mapped, because what is mapped counts as memory that the process takes
                os.preadv(file.fileno(), [target.data], position * row.nbytes)
            return found

        return cls(read, np.arange(count))

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, where: slice | np.ndarray | int) -> np.ndarray:
        positions = self._positions[where]
        return self._read(positions) if positions.ndim else self._read(positions[None])[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for begin in range(0, len(self), parallel.AHEAD):
            yield from self[begin : begin + parallel.AHEAD]

    def take(self, positions: np.ndarray, axis: Literal[0] = 0) -> Stored:
        """The rows at `positions` (int64), in that order, none of them read yet."""
        del axis  # as numpy has it
        return Stored(self._read, self._positions[positions])


Pixels = np.ndarray | Stored
"""uint8, (n, SIZE, SIZE, 3)."""


@dataclass(frozen=True)
class Images:
    """Images that are used for the same thing.

    Attributes:
        pixels: uint8, (n, SIZE, SIZE, 3), 0 to 255; read a few at a time.
        labels: int64, (n,), positions in `classes`.
        classes: The names of all classes, sorted.
        table: One row per image, the columns of INDEX_COLUMNS; `radiograph` and `group`
            int64, `leaked` bool.
    """

    pixels: Pixels
    labels: np.ndarray
    classes: tuple[str, ...]
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: np.ndarray) -> Images:
        """The images at `positions` (int64), in that order."""
        return Images(
            self.pixels.take(positions, axis=0),
            self.labels[positions],
            self.classes,
            self.table.iloc[positions].reset_index(drop=True),
        )

    def unpacked(self, gigabytes: float) -> Images:
        """The same images, decoded once, for those who read them many times.

        Decoding an image takes a third as long as training on it. Up to so many gigabytes, at
        120,000 bytes per image, they are kept in memory, and else in a file, see `Stored.in_file`.

        Raises:
            InputError: An image is missing or damaged.
        """
        if len(self) * SIZE * SIZE * 3 > gigabytes * 1e9:
            return replace(self, pixels=Stored.in_file(self.pixels))
        return replace(self, pixels=Stored(self.pixels[:].__getitem__, np.arange(len(self))))

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


def uses_of_train(validation: str) -> list[str]:
    """The uses of the images of train/ under the `validation` of a recipe.

    Where that is "original", those for validation are the images of test/ once more.
    """
    return ["train", "validation"] if validation == "holdout" else ["train"]


def load(uses: Sequence[str], folder: Path = PROCESSED) -> Images:
    """The images for the given uses ("train", "validation", "test").

    Their pixels are decoded each time that they are indexed, which raises InputError where an
    image is missing or damaged.

    Raises:
        InputError: the table is missing or damaged.
    """
    table = read_index(folder)
    classes = tuple(sorted(set(table["class"])))
    table = table[table["use"].isin(uses)].reset_index(drop=True)
    names = table["file"].to_numpy()

    def read(positions: np.ndarray) -> np.ndarray:
        found = np.empty((len(positions), SIZE, SIZE, 3), np.uint8)
        paths = [folder / name for name in names[positions]]
        for image, pixels in zip(found, parallel.ahead(_decoded, paths), strict=True):
            image[:] = pixels
        return found

    labels = np.array([classes.index(name) for name in table["class"]], np.int64)
    return Images(Stored(read, np.arange(len(table))), labels, classes, table)


def _decoded(path: Path) -> np.ndarray:
    """The pixels of one preprocessed image, uint8, (SIZE, SIZE, 3)."""
    try:
        with Image.open(path) as image:
            return np.asarray(image).reshape(SIZE, SIZE, 3)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{path} is not the {SIZE} x {SIZE} RGB image that the stage "
            f"`preprocess` writes ({error}). Run `dvc repro --force preprocess`."
        ) from None


def prediction_records(images: Images, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """One record per image: file, actual and predicted class, probability of each class."""
    columns = [f"{PROBABILITY}{name}" for name in images.classes]
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
