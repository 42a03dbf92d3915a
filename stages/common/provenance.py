"""Where the images come from, as `download` wrote it down; it goes into every metric file."""

from pathlib import Path
from typing import Any

from stages.common import files
from stages.common.errors import InputError

FILE = Path("data/raw/provenance.json")
_KEYS = {"source", "data", "licence", "files"}


def read() -> dict[str, Any]:
    """`source`, `data` (a line for people), `licence` and `files`, as `download` wrote them.

    Raises:
        InputError: the file is missing or damaged.
    """
    origin: dict[str, Any] = files.read_json(FILE, "download")
    if not isinstance(origin, dict) or not origin.keys() >= _KEYS:
        raise InputError(
            f"{FILE} is not what the stage `download` writes, expected the keys "
            f"{', '.join(sorted(_KEYS))}. Run `dvc repro --force download`."
        )
    return origin
