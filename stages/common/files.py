"""Files that are complete or absent: written under a temporary name, then renamed."""

import contextlib
import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.common.errors import InputError

_DVC = Path(".dvc")
_PLACES = 4  # `dvc metrics show` prints every digit of a number


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_code(folder: Path) -> str:
    """The same as `sha256_of_folder`, over the Python files alone."""
    return sha256_of_folder(folder, "*.py")


def sha256_of_folder(folder: Path, pattern: str = "*") -> str:
    """A SHA-256 over the paths and the contents of the files in a folder, as `sha256_of`."""
    inside = (path for path in folder.rglob(pattern) if path.is_file())
    places = sorted(path.relative_to(folder).as_posix() for path in inside)
    lines = [f"{sha256_of(folder / place)}  {place}\n" for place in places]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def partial_name(target: Path) -> Path:
    """Where `target`, whose folder exists, is written until it is complete.

    That is in DVC's scratch folder, so that a killed run leaves nothing among the outputs even
    where DVC restores them without running the stage again. Outside of a DVC project, and where
    the scratch folder is on another file system, it is beside the target.
    """
    folder = target.parent.resolve()
    # where the folder can't be written to, that is to be known before the work, not after it
    if _DVC.is_dir() and folder.is_relative_to(Path.cwd()) and os.access(folder, os.W_OK):
        scratch = _DVC / "tmp/partial"
        scratch.mkdir(parents=True, exist_ok=True)
        if scratch.stat().st_dev == folder.stat().st_dev:
            return scratch / hashlib.sha256(os.fsencode(folder / target.name)).hexdigest()
    return _beside(target)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def _rename(source: Path, target: Path) -> None:
    """Renames; between mounts, where that can't be done in one step, copies beside it first."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = _beside(target)
        remove(beside)
        shutil.move(source, beside)
        os.replace(beside, target)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with all that is in it; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Gives a temporary path to write a file or a folder to; renames it to `target` at the end.

    If the block raises, the temporary path is removed and whatever was at `target` stays: not
    even a failing removal leaves half of a folder under the final name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(target)
    former = partial_name(target.with_name(f"{target.name}.former"))
    remove(partial)
    remove(former)
    try:
        yield partial
        if target.exists() and (partial.is_dir() or target.is_dir()):
            # a rename replaces a file, but not a folder that has something in it
            _rename(target, former)
        _rename(partial, target)
        remove(former)
    except BaseException:
        with contextlib.suppress(OSError):
            if former.exists() and not target.exists():
                _rename(former, target)
            remove(partial)
        raise


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Gives a path in DVC's scratch folder for what is removed at the end.

    What a killed run left there is removed first, so a path is for one run at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(path)
    try:
        yield path
    finally:
        remove(path)


def write_text(target: Path, text: str) -> None:
    """Writes `text` as UTF-8 with plain line feeds, atomically."""
    with atomic_write(target) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(target: Path, value: Any) -> None:
    """Writes `value` as indented JSON; NaN and Infinity, which JSON lacks, raise ValueError."""
    with (
        atomic_write(target) as partial,
        partial.open("w", encoding="utf-8", newline="\n") as file,
    ):
        # piece by piece: as one text, 100,000 images and all their baselines take half a gigabyte
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def write_metrics(
    target: Path, provenance: Mapping[str, str], numbers: Mapping[str, float | str]
) -> None:
    """Writes a row of `dvc metrics show`, with numbers to four places."""
    write_json(
        target,
        {
            # a list, because `dvc metrics show` would make columns of anything else
            "provenance": list(provenance.values()),
            **{
                key: value if isinstance(value, str) else round(value, _PLACES)
                for key, value in numbers.items()
            },
        },
    )


def write_csv(target: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Writes `rows` as CSV with a header line, in the order of `columns`."""
    with (
        atomic_write(target) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path, made_by: str) -> Any:
    """Reads a JSON file that the stage `made_by` wrote.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path} is not there; the stage `{made_by}` writes it. Run `dvc repro {made_by}`."
        ) from None
    except ValueError as error:
        raise InputError(
            f"{path} is not the JSON that the stage `{made_by}` writes ({error}). "
            f"Run `dvc repro --force {made_by}`."
        ) from None
