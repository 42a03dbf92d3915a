"""Runs the pipeline twice in unlike surroundings and compares every output byte by byte.

usage: python -m benchmarks.verify [--set group.key=value ...]

The two runs, from nothing and in two folders, differ in locale, time zone, PYTHONHASHSEED, home,
user name, umask and the number of processors; where the program may, also in the user. Exit
status 1 and a line for each file that differs, and where, if one does. Takes about five minutes.
"""

import argparse
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.compare import differences, outputs
from benchmarks.scratch import given_zip, project

SURROUNDINGS: tuple[dict[str, str], ...] = (
    {"LANG": "C", "LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "0", "USER": "first"},
    {
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "Pacific/Kiritimati",
        "PYTHONHASHSEED": "4242",
        "USER": "second",
        "COLUMNS": "40",
        "OMP_NUM_THREADS": "1",
    },
)
UMASKS = (0o022, 0o077)


def another_user() -> dict[str, Any]:
    """Options to run a program as the user `nobody`, where this program may and it could run."""
    try:
        entry = pwd.getpwnam("nobody")
        options: dict[str, Any] = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        subprocess.run([sys.executable, "-c", "import dvc"], check=True, **options)
    except (KeyError, OSError, subprocess.CalledProcessError):
        return {}
    return options


def run_in(folder: Path, number: int) -> None:
    """Runs the whole pipeline in the surroundings of that number; ends the program if it fails."""
    home = folder.with_name(f"home {number}")
    home.mkdir()
    options = another_user() if number else {}
    if options:
        for path in (home, folder, *folder.rglob("*")):
            os.chown(path, options["user"], options["group"])
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def surround() -> None:
        if number and cores:
            os.sched_setaffinity(0, cores[:1])

    done = subprocess.run(
        ["dvc", "repro"],
        cwd=folder,
        env=SURROUNDINGS[number]
        | {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
        },
        umask=UMASKS[number],
        preexec_fn=surround,
        check=False,
        **options,
    )
    if done.returncode:
        sys.exit(f"verify: run {number + 1} failed, see above")


def main() -> None:
    """Runs twice and compares."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--set", action="append", default=[], metavar="group.key=value")
    chosen = parser.parse_args()
    values = {
        name: yaml.safe_load(value)
        for name, _, value in (text.partition("=") for text in chosen.set)
    }
    archive = given_zip(None, "data/archive")
    print(f"verify: another user for the second run: {'yes' if another_user() else 'not possible'}")
    scratch = Path(tempfile.mkdtemp(prefix="verify-"))
    try:
        scratch.chmod(0o755)
        folders = [scratch / "one", scratch / "the other place"]
        for number, folder in enumerate(folders):
            print(f"verify: run {number + 1} of 2; {archive or 'phantoms'}", flush=True)
            folder.mkdir()
            project(folder, archive, values)
            run_in(folder, number)
        unlike = differences(*folders)
        count = len(outputs(folders[0]))
    finally:
        shutil.rmtree(scratch)
    if unlike:
        print("\n".join(unlike))
        sys.exit(f"verify: {len(unlike)} of {count} output files differ")
    print(f"verify: {count} output files, every one the same to the byte")


if __name__ == "__main__":
    main()
