"""Which pictures of one set show the same radiograph as which of another.

A copy in another data set has often had its histogram equalised, or was windowed, re-cropped,
re-scaled and re-encoded. So grey values are equalised here before a picture gets its fingerprint:
any change of grey values that keeps their order drops out. And each picture has a second
fingerprint, of its middle, so that many copies are found that lost up to 20 % at their borders.
The rest is as in `stages.intake.copies`, but for pairs across the two sets alone. Not found are
mirrored and turned radiographs, and copies that lost more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import ImageOps

from stages.common import parallel
from stages.common.errors import InputError, shown
from stages.intake import copies, decode, stored
from stages.intake.copies import Fingerprint

_ENOUGH = 400  # pixels of a side; more add nothing
_OUTSIDE = 0.1  # of each side, not in the middle: the loss at a border that `copies` bears

Prints = tuple[Fingerprint, Fingerprint]
"""Of a whole picture, and of its middle."""


class Collection(Protocol):
    """The fingerprints of one set: a list of `Prints`, or what reads them from a file."""

    def __len__(self) -> int:
        """How many pictures there are."""

    def __getitem__(self, number: int, /) -> Prints:
        """The fingerprints of a picture by its number, from 0."""


@dataclass(frozen=True)
class Match:
    """Two pictures that show the same radiograph.

    Attributes:
        ours: Number of a picture of the one set.
        theirs: Number of a picture of the other.
        similarity: Correlation of the local detail, from 0 to 1.
    """

    ours: int
    theirs: int
    similarity: float


class _Stored:
    """A collection in a file of `stored`: picture n under 2 n, its middle under 2 n + 1."""

    def __init__(self, file: Path, numbers: Sequence[int]) -> None:
        self._prints = [stored.Stored(file, [2 * n + part for n in numbers]) for part in (0, 1)]
        self._length = len(numbers)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> Prints:
        whole, inner = (prints[number] for prints in self._prints)
        return whole, inner


def _write(place: tuple[Path, int, Path]) -> str:
    """Writes the fingerprints of a file's picture with equalised grey values, or tells why not."""
    file, number, path = place
    try:
        picture, _ = decode.decode(path, at_least=_ENOUGH)
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{shown(path)}: it can't be read ({error.strerror or error})"
    grey = picture.convert("L")
    x, y = round(_OUTSIDE * grey.width), round(_OUTSIDE * grey.height)
    middle = grey.crop((x, y, grey.width - x, grey.height - y))
    for record, part in enumerate((grey, middle), start=2 * number):
        stored.write(file, record, copies.fingerprint(ImageOps.equalize(part)))
    return ""


def prints(
    paths: Sequence[Path], label: str, file: Path, anywhere: bool = False
) -> tuple[list[Path], Collection, list[str]]:
    """Makes the fingerprints that `matches` compares.

    Args:
        paths: The image files.
        label: Stands before the progress bar.
        file: Where the fingerprints are kept, 49 kB each, as long as they are needed.
        anywhere: The images are in the project's folder, see `parallel.ahead`.

    Returns:
        The paths that could be read, their fingerprints, and a message for each of the others.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    places = [(file, number, path) for number, path in enumerate(paths)]
    faults = parallel.each(_write, places, label, anywhere=anywhere)
    readable = [number for number, fault in enumerate(faults) if not fault]
    return [paths[number] for number in readable], _Stored(file, readable), [*filter(None, faults)]


class _Shown:
    """Of the pictures of some collections and their middles those that are not blank."""

    def __init__(self, *collections: Collection) -> None:
        self._collections = collections
        self.numbers = np.array(
            [
                (side, number, part)
                for side, collection in enumerate(collections)
                for number in range(len(collection))
                for part, each in enumerate(collection[number])
                if not each.blank
            ],
            np.int64,
        ).reshape(-1, 3)

    def __getitem__(self, place: int) -> Fingerprint:
        side, number, part = map(int, self.numbers[place])
        whole_and_inner: Prints = self._collections[side][number]
        return whole_and_inner[part]


def matches(ours: Collection, theirs: Collection) -> list[Match]:
    """Finds the pictures of two sets that show the same radiograph.

    The work per picture is bounded, see `copies.candidates_among`. Blank pictures match none.

    Args:
        ours: The fingerprints of one set, from `prints`.
        theirs: Those of the other.

    Returns:
        The matches, sorted by the number of ours, its most similar first.
    """
    shown = _Shown(ours, theirs)
    sides, numbers, _ = shown.numbers.T
    if not len(numbers):
        return []
    hashes = copies.hashes_of(shown, range(len(numbers)))
    candidates = copies.candidates_among(hashes, sides)
    similarities = copies.similarities(shown, candidates, "compare").tolist()
    best: dict[tuple[int, int], float] = {}
    for *ends, similarity in zip(candidates.first, candidates.second, similarities, strict=True):
        pair = int(numbers[ends[0]]), int(numbers[ends[1]])
        best[pair] = max(best.get(pair, 0), round(similarity, 4))
    found = [Match(*pair, similarity) for pair, similarity in best.items()]
    found = [match for match in found if match.similarity >= copies.SIMILAR]
    return sorted(found, key=lambda match: (match.ours, -match.similarity, match.theirs))
