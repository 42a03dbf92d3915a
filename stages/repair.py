"""Moves aside a file of DVC's own that DVC was killed while writing.

usage: python -m stages.repair

DVC writes `dvc.lock` and `.dvc/tmp/rwlock` in place. Killed at that moment, it leaves half a file,
with which no `dvc` command runs any more. Such a half gets the ending `.cut-short`, which loses
nothing: the next `dvc repro` writes the file anew, and restores from the run-cache what had been
done. A file that DVC can read is left alone, and so is one that is broken in another way, with a
message and exit status 1. `make repro` begins with this.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from dvc.dvcfile import Lockfile
from ruamel.yaml import YAML, YAMLError
from voluptuous import Invalid

LOCK = Path("dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
_MOMENT = 0.5  # seconds, in which a DVC that is alive has finished writing
_CONFLICT = re.compile(rb"^(<{7}|={7}|>{7})", re.MULTILINE)
_STAGE = re.compile(rb"^  \S", re.MULTILINE)  # the first line of a stage in dvc.lock


def _read_lock(text: bytes) -> Any:
    return Lockfile.SCHEMA(YAML(typ="safe").load(text.decode()))


def _readable(path: Path, text: bytes) -> bool:
    try:
        json.loads(text) if path == RWLOCK else _read_lock(text)
    except (ValueError, YAMLError, Invalid):
        return False
    return True


def fault(path: Path) -> str | None:
    """What is wrong with a file of DVC's: "conflict", "cut short", "damaged", or None."""
    if not path.exists():
        return None
    text = path.read_bytes()
    if _readable(path, text):
        return None
    if _CONFLICT.search(text):
        return "conflict"
    # what was cut short is right up to the last stage in it
    stages = [match.start() for match in _STAGE.finditer(text)]
    if path == RWLOCK or len(stages) < 2 or _readable(path, text[: stages[-1]]):
        return "cut short"
    return "damaged"


def main() -> None:
    """Moves aside what was cut short, and says so; exit status 1 for any other damage."""
    argparse.ArgumentParser(
        prog="python -m stages.repair",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    if any(fault(path) == "cut short" for path in (LOCK, RWLOCK)):
        time.sleep(_MOMENT)
    for path in (LOCK, RWLOCK):
        match fault(path):
            case "conflict":
                sys.exit(
                    f"{path}: found git's merge-conflict markers. Take one side, "
                    f"`git checkout --theirs {path}` or `--ours`, then run `dvc repro`, which "
                    "runs what does not fit it."
                )
            case "damaged":
                sys.exit(
                    f"{path}: DVC can't read it, and it was not cut short by a kill. Bring it "
                    f"back with `git checkout {path}`, then run `dvc repro`."
                )
            case "cut short":
                aside = path.with_name(f"{path.name}.cut-short")
                path.replace(aside)
                print(
                    f"{path} was cut short, by a DVC that was killed while it wrote it. It is "
                    f"now {aside}; `dvc repro` writes {path} anew."
                )


if __name__ == "__main__":
    main()
