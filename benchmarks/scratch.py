"""A copy of the project to run in, and commands run in it."""

import functools
import json
import operator
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[1]
PARTS = (
    ".dvcignore",
    ".gitignore",
    "data/kaggle-manifest.csv",
    "data/kaggle-records.csv",
    "dvc.yaml",
    "params.yaml",
    "requirements.txt",
    "stages",
)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def run(*command: str, folder: Path) -> str:
    """Runs a command with this interpreter first on PATH; gives its standard output.

    A command that fails ends the program with what it printed.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def measured(*command: str, folder: Path) -> tuple[float, int]:
    """The seconds, and the most memory, in bytes, that a command takes; ends where it fails.

    Of a command that takes less than this program, the system tells the memory of this program.
    """
    with tempfile.TemporaryFile() as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode()}")
    return taken, usage.ru_maxrss * 1024


def record(*arguments: str, folder: Path) -> Any:
    """The JSON record that a module of this package prints last."""
    output = run(sys.executable, "-m", *arguments, folder=folder)
    return json.loads(output.splitlines()[-1])


def set_params(folder: Path, values: dict[str, Any]) -> None:
    """Sets parameters by their dotted names."""
    path = folder / "params.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in values.items():
        *groups, key = name.split(".")
        functools.reduce(operator.getitem, groups, tree)[key] = value
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")


def given_zip(named: Path | None, place: str) -> Path | None:
    """The zip that was named, or the one in `place`, such as data/archive; or None."""
    given = named or next(iter(sorted((PROJECT / place).glob("*.zip"))), None)
    return given and given.resolve()


def project(
    folder: Path, archive: Path | None, values: dict[str, Any], external: Path | None = None
) -> Path:
    """Copies the project, without outputs, to an empty folder and sets parameters.

    Args:
        folder: Where to.
        archive: The zip to take the images from; phantoms where it is None.
        values: Parameters by their dotted names.
        external: The zip that goes into data/external/.
    """
    for name in PARTS:
        source, target = PROJECT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    for place, given in (("data/archive", archive), ("data/external", external)):
        (folder / place).mkdir()
        if given is not None:
            shutil.copy(given, folder / place)
    if archive is not None:
        values = values | {"download.source": "archive"}
    set_params(folder, values)
    run("git", "init", "--quiet", ".", folder=folder)
    run("dvc", "init", "--quiet", folder=folder)
    shutil.copyfile(PROJECT / ".dvc/config", folder / ".dvc/config")
    shutil.copytree(PROJECT / ".dvc/plots", folder / ".dvc/plots", dirs_exist_ok=True)
    return folder
