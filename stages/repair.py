"""Moves aside a file of DVC's own that DVC was killed while writing.

usage: python -m stages.repair

DVC writes `dvc.lock` and `.dvc/tmp/rwlock` in place. Killed at that moment, it leaves half a file,
with which no `dvc` command runs any more. Such a half gets the ending `.cut-short`, which loses
nothing: the next `dvc repro` writes the file anew, and restores from the run-cache what had been
done. A file that DVC can read is left alone, and so is one that is broken in another way, with a
message and exit status 1. `make repro` begins with this.
"""

import argparse
import itertools
import json
import re
import sys
import time
from pathlib import Path
from typing import Literal

from dvc.dvcfile import Lockfile
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

LOCK = Path("dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
_MOMENT = 0.5  # seconds, in which a DVC that is alive has finished writing
_BEGINNING = b"schema: '2.0'\nstages:\n"  # of every dvc.lock
_STAGE = re.compile(rb"^  \S", re.MULTILINE)  # where a stage begins in it
_CONFLICT = re.compile(rb"^(<{7} |={7}$|>{7} )", re.MULTILINE)


def _readable(path: Path, text: bytes) -> bool:
    try:
        if path == RWLOCK:
            json.loads(text)
        else:
            Lockfile.SCHEMA(YAML(typ="safe").load(text.decode()))
    except (ValueError, YAMLError, Invalid):
        return False
    return True


def _is_yaml(text: bytes) -> bool:
    try:
        YAML(typ="safe").load(text.decode())
    except (ValueError, YAMLError):
        return False
    return True


def fault(path: Path) -> Literal["conflict", "cut short", "damaged"] | None:
    """What is wrong with a file of DVC's; None where DVC can read it, or it is not there."""
    if not path.exists() or _readable(path, text := path.read_bytes()):
        return None
    if path == RWLOCK or _BEGINNING.startswith(text):
        return "cut short"
    if _CONFLICT.search(text):
        return "conflict"
    # what was cut short is sound up to its last stage, and YAML up to its last line
    stages = [match.start() for match in _STAGE.finditer(text)]
    sound = len(stages) < 2 or _readable(path, text[: stages[-1]])
    lines = text[: text.rfind(b"\n") + 1]
    if text.startswith(_BEGINNING) and sound and _is_yaml(lines) and b"\0" not in text:
        return "cut short"
    return "damaged"


def move_aside(path: Path) -> Path:
    """Gives a file a name that is not taken yet, and returns it."""
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (path.with_name(f"{path.name}.cut-short{ending}") for ending in endings)
    return path.rename(next(name for name in names if not name.exists()))


def main() -> None:
    """Moves aside what was cut short, and says so; exit status 1 for any other damage."""
    argparse.ArgumentParser(
        prog="python -m stages.repair",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    if any(fault(path) for path in (LOCK, RWLOCK)):
        time.sleep(_MOMENT)
    for path in (RWLOCK, LOCK):
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
                print(
                    f"{path} was cut short, by a DVC that was killed while it wrote it. It is "
                    f"now {move_aside(path)}; `dvc repro` writes {path} anew."
                )


if __name__ == "__main__":
    main()
