"""Which pictures of one set show the same radiograph as which of another.

A copy in another data set has often had its histogram equalised, or was windowed, re-cropped,
re-scaled and re-encoded. So grey values are equalised here before a picture gets its fingerprint:
any change of grey values that keeps their order drops out. The rest is as in
`stages.intake.copies`, but for pairs across the two sets alone. A mirrored or turned radiograph
is not found.
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


def _print(path: Path) -> Fingerprint | str:
    """The fingerprint of a file's picture with its grey values equalised, or why there is none."""
    try:
        picture, _ = decode.decode(path, at_least=_ENOUGH)
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{shown(path)}: it can't be read ({error.strerror or error})"
    return copies.fingerprint(ImageOps.equalize(picture.convert("L")))


def prints(paths: Sequence[Path], label: str) -> tuple[list[Path], list[Fingerprint], list[str]]:
    """Makes the fingerprints that `matches` compares.

    Args:
        paths: The image files.
        label: Stands before the progress bar.

    Returns:
        The paths that could be read, their fingerprints, and a message for each of the others.
    """
    results = parallel.each(_print, paths, label)
    pairs = zip(paths, results, strict=True)
    readable = [path for path, result in pairs if isinstance(result, Fingerprint)]
    fingerprints = [result for result in results if isinstance(result, Fingerprint)]
    return readable, fingerprints, [result for result in results if isinstance(result, str)]


def matches(ours: Sequence[Fingerprint], theirs: Sequence[Fingerprint]) -> list[Match]:
    """Finds the pictures of two sets that show the same radiograph.

    The work per picture is bounded, see `copies.candidates_among`. Blank pictures match none.

    Args:
        ours: The fingerprints of one set, from `prints`.
        theirs: Those of the other.

    Returns:
        The matches, sorted by the number of ours, its most similar first.
    """
    union = [*ours, *theirs]
    shown = np.array([number for number, each in enumerate(union) if not each.blank], np.int64)
    comparable = [union[number] for number in shown]
    if not comparable:
        return []
    candidates = copies.candidates_among(comparable, np.where(shown < len(ours), 0, 1))
    similarities = copies.similarities(comparable, candidates, "compare")
    found = [
        Match(int(shown[first]), int(shown[second]) - len(ours), round(float(similarity), 4))
        for first, second, similarity in zip(*candidates[:2], similarities, strict=True)
        if similarity >= copies.SIMILAR
    ]
    return sorted(found, key=lambda match: (match.ours, -match.similarity, match.theirs))
