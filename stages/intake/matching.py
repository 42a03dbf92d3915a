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

import numpy as np
from PIL import ImageOps

from stages.common import parallel
from stages.common.errors import InputError, shown
from stages.intake import copies, decode
from stages.intake.copies import Fingerprint

_ENOUGH = 400  # pixels of a side; more add nothing
_OUTSIDE = 0.1  # of each side, not in the middle: the loss at a border that `copies` bears

Prints = tuple[Fingerprint, Fingerprint]
"""Of a whole picture, and of its middle."""


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


def _prints(path: Path) -> Prints | str:
    """The fingerprints of a file's picture with equalised grey values, or why there are none."""
    try:
        picture, _ = decode.decode(path, at_least=_ENOUGH)
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{shown(path)}: it can't be read ({error.strerror or error})"
    grey = picture.convert("L")
    x, y = round(_OUTSIDE * grey.width), round(_OUTSIDE * grey.height)
    middle = grey.crop((x, y, grey.width - x, grey.height - y))
    whole, inner = (copies.fingerprint(ImageOps.equalize(part)) for part in (grey, middle))
    return whole, inner


def prints(
    paths: Sequence[Path], label: str, anywhere: bool = False
) -> tuple[list[Path], list[Prints], list[str]]:
    """Makes the fingerprints that `matches` compares.

    Args:
        paths: The image files.
        label: Stands before the progress bar.
        anywhere: The files are in the project's folder, see `parallel.ahead`.

    Returns:
        The paths that could be read, their fingerprints, and a message for each of the others.
    """
    results = parallel.each(_prints, paths, label, anywhere=anywhere)
    readable = [
        path for path, made in zip(paths, results, strict=True) if not isinstance(made, str)
    ]
    fingerprints = [made for made in results if not isinstance(made, str)]
    return readable, fingerprints, [made for made in results if isinstance(made, str)]


def matches(ours: Sequence[Prints], theirs: Sequence[Prints]) -> list[Match]:
    """Finds the pictures of two sets that show the same radiograph.

    The work per picture is bounded, see `copies.candidates_among`. Blank pictures match none.

    Args:
        ours: The fingerprints of one set, from `prints`.
        theirs: Those of the other.

    Returns:
        The matches, sorted by the number of ours, its most similar first.
    """
    pictures = [(number, each) for number, both in enumerate([*ours, *theirs]) for each in both]
    pictures = [(number, each) for number, each in pictures if not each.blank]
    if not pictures:
        return []
    numbers = np.array([number for number, _ in pictures])
    fingerprints = [each for _, each in pictures]
    candidates = copies.candidates_among(fingerprints, np.where(numbers < len(ours), 0, 1))
    similarities = copies.similarities(fingerprints, candidates, "compare").tolist()
    best: dict[tuple[int, int], float] = {}
    for *ends, similarity in zip(candidates.first, candidates.second, similarities, strict=True):
        pair = int(numbers[ends[0]]), int(numbers[ends[1]]) - len(ours)
        best[pair] = max(best.get(pair, 0), round(similarity, 4))
    found = [Match(*pair, similarity) for pair, similarity in best.items()]
    found = [match for match in found if match.similarity >= copies.SIMILAR]
    return sorted(found, key=lambda match: (match.ours, -match.similarity, match.theirs))
