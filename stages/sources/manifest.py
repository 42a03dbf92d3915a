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
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise InputError(
                    f"{path}: the header is {reader.fieldnames}, expected {_COLUMNS}. {restore}"
                )
            entries: dict[str, Entry] = {}
            for row in reader:
                well_formed = re.fullmatch(r"\d+", row["size"] or "") and re.fullmatch(
                    r"[0-9a-f]{64}", row["sha256"] or ""
                )
                if not well_formed or row["path"] in entries:
                    raise InputError(
                        f"{path}, line {reader.line_num}: found {list(row.values())}, expected a "
                        f"path named only once, a size in bytes and a SHA-256. {restore}"
                    )
                entries[row["path"]] = Entry(int(row["size"]), row["sha256"])
    except FileNotFoundError:
        raise InputError(f"{path} is not there. {restore}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 ({error}). {restore}") from None
    if not entries:
        raise InputError(f"{path} lists no file. {restore}")
    return entries


def differences(entries: dict[str, Entry], folder: Path) -> list[str]:
    """One line for each file under `folder` that is missing, extra or different; [] if none is."""
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    lines = [f"missing: {name}" for name in sorted(entries.keys() - found.keys())]
    lines += [f"extra: {name}" for name in sorted(found.keys() - entries.keys())]
    for name in tqdm(sorted(entries.keys() & found.keys()), "verifying", unit="file", disable=None):
        size = found[name].stat().st_size
        if size != entries[name].size:
            lines.append(f"different: {name} has {size} bytes, expected {entries[name].size}")
            continue
        digest = files.sha256_of(found[name])
        if digest != entries[name].sha256:
            expected = entries[name].sha256
            lines.append(f"different: {name} has SHA-256 {digest[:12]}…, expected {expected[:12]}…")
    return lines
