"""A committed list of files with their sizes and hashes, and whether a folder holds just those."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from stages.common import files
from stages.common.errors import InputError

_COLUMNS = ["path", "size", "sha256"]


@dataclass(frozen=True)
class Entry:
    """What is known of one file: its size in bytes and its SHA-256 in lower-case hexadecimal."""

    size: int
    sha256: str


def read(path: Path) -> dict[str, Entry]:
    """Reads a manifest: CSV with the columns path, size, sha256; paths are relative, with `/`.

    Raises:
        InputError: the manifest is missing, or a line of it is not as it must be.
    """
    restore = f"Bring it back with `git checkout {path}`."
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
    except FileNotFoundError:
        raise InputError(f"{path} is not there. {restore}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 ({error}). {restore}") from None
    header = lines[0] if lines else None
    if header != _COLUMNS:
        raise InputError(f"{path}: the header is {header}, expected {_COLUMNS}. {restore}")
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines[1:], start=2):
        name, size, sha256 = line if len(line) == len(_COLUMNS) else ("", "", "")
        if name in entries or not (size.isdecimal() and re.fullmatch("[0-9a-f]{64}", sha256)):
            raise InputError(
                f"{path}, line {number}: found {line}, expected a path named only once, a size in "
                f"bytes and a SHA-256. {restore}"
            )
        entries[name] = Entry(int(size), sha256)
    if not entries:
        raise InputError(f"{path} lists no file. {restore}")
    return entries


def differences(entries: dict[str, Entry], folder: Path) -> list[str]:
    """One line for each file under `folder` that is missing, extra or different; [] if none is."""
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    lines = [f"missing: {name}" for name in sorted(entries.keys() - paths.keys())]
    lines += [f"extra: {name}" for name in sorted(paths.keys() - entries.keys())]
    for name in tqdm(sorted(entries.keys() & paths.keys()), "verifying", unit="file", disable=None):
        expected, size = entries[name], paths[name].stat().st_size
        if size != expected.size:
            lines.append(f"different: {name} has {size} bytes, expected {expected.size}")
        elif (digest := files.sha256_of(paths[name])) != expected.sha256:
            lines.append(
                f"different: {name} has SHA-256 {digest[:12]}…, expected {expected.sha256[:12]}…"
            )
    return lines
