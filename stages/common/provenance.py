"""Where the images come from, as `download` wrote it down; it goes into every metric file."""

from pathlib import Path
from typing import Any

from stages.common import files

FILE = Path("data/raw/provenance.json")


def read() -> dict[str, Any]:
    """`source`, `data` (a line for people), `licence` and `files`, as `download` wrote them.

    Raises:
        InputError: the file is missing or damaged.
    """
    origin: dict[str, Any] = files.read_json(FILE, "download")
    return origin
