"""Fingerprints in a file, of as many pictures as there are: memory holds those in use alone.

The file is read, not mapped: mapped pages would count as this process's memory.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.intake.copies import Fingerprint

_RECORD = np.dtype(
    [
        ("hashes", np.uint64, (36, 4)),
        ("fine", np.int8, (128, 128)),
        ("coarse", np.int8, (64, 64)),
        ("blank", np.bool_),
        ("rest", np.void, 2943),
    ]
)
"""Six pages of 4,096 bytes: of machines that share a file system, each may write whole pages."""


def write(file: Path, number: int, fingerprint: Fingerprint) -> None:
    """Writes a fingerprint to its place in a file that is there; many may write at once."""
    record = np.zeros((), _RECORD)
    for name, value in vars(fingerprint).items():
        record[name] = value
    with file.open("r+b") as places:
        places.seek(number * _RECORD.itemsize)
        places.write(record.tobytes())


class Stored:
    """Fingerprints that `write` wrote.

    Args:
        file: Where they are.
        places: The numbers under which they were written, in the order that is wanted.
    """

    def __init__(self, file: Path, places: Sequence[int]) -> None:
        self._file, self._places = file, places

    def __getitem__(self, number: int) -> Fingerprint:
        begin = self._places[number] * _RECORD.itemsize
        (record,) = np.fromfile(self._file, _RECORD, count=1, offset=begin)
        return Fingerprint(
            record["hashes"], record["fine"], record["coarse"], bool(record["blank"])
        )
