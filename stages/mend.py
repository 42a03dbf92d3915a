"""Removes a file of DVC's own that it was killed while writing.

usage: python -m stages.mend

DVC writes `dvc.lock` and `.dvc/tmp/rwlock` in place. Killed at that moment, it leaves half a file,
with which no `dvc` command runs any more. Such a half is removed, which loses nothing: the next
`dvc repro` writes it anew, and restores from the run-cache what had been done. A whole file is
left alone. `make repro` begins with this.
"""

import argparse
import json
import time
from pathlib import Path

from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.utils import strictyaml

LOCK = Path("dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
_MOMENT = 0.5  # seconds, in which a DVC that is alive has finished writing


def whole(path: Path) -> bool:
    """Whether DVC could read this file of its own; one that is not there is no hindrance."""
    try:
        if path == RWLOCK:
            json.loads(path.read_bytes())
        else:
            if not path.read_bytes().endswith(b"\n"):  # within a line: DVC ends with a full one
                return False
            strictyaml.load(str(path), schema=Lockfile.SCHEMA)
    except FileNotFoundError:
        return True
    except (ValueError, DvcException):
        return False
    return True


def main() -> None:
    """Removes what is broken, and says so."""
    argparse.ArgumentParser(
        prog="python -m stages.mend",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    broken = [path for path in (LOCK, RWLOCK) if not whole(path)]
    if broken:
        time.sleep(_MOMENT)
    for path in broken:
        if not whole(path):
            path.unlink(missing_ok=True)
            print(
                f"{path} was cut short, by a DVC that was killed while it wrote it. It has been "
                "removed; `dvc repro` writes it anew."
            )


if __name__ == "__main__":
    main()
