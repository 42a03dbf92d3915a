"""A scratch repository with the whole project in it, shrunken so that a run takes seconds."""

import functools
import operator
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from benchmarks.torture import SMALL

PROJECT = Path(__file__).parents[2]


def environment(home: Path) -> dict[str, str]:
    """A stranger's environment: an empty home, and this interpreter's folder first on PATH."""
    home.mkdir(exist_ok=True)
    passed_on = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return passed_on | {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }


class Scratch:
    """A copy of the project in which commands can be run."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.environment = environment(home)

    def run(self, *command: str, status: int = 0) -> str:
        """Runs a command, checks its exit status, and gives what it printed, errors included."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def commit(self) -> None:
        """Commits everything that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def set(self, **values: object) -> None:
        """Sets parameters, written `group__key=value`, and keeps the comments out of it."""
        self.set_all({name.replace("__", "."): value for name, value in values.items()})

    def set_all(self, values: Mapping[str, object]) -> None:
        """Sets parameters by their dotted names."""
        path = self.folder / "params.yaml"
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, value in values.items():
            *groups, key = name.split(".")
            place = functools.reduce(operator.getitem, groups, tree)
            assert key in place, name
            place[key] = value
        path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        """Adds text to the end of a file."""
        path = self.folder / name
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")

    def copy(self, folder: Path) -> "Scratch":
        """A copy with all outputs, the cache and the history."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Scratch(folder, Path(self.environment["HOME"]))


def make_venv(folder: Path) -> None:
    """Makes a .venv that stands for the one which `make` would install."""
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "dvc").symlink_to(Path(sys.executable).parent / "dvc")
    # no link: Python would look for its packages beside that
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    (folder / ".venv/installed").touch()  # last, so that it is newer than what it is made from


def stages_run(output: str) -> list[str]:
    """The stages that `dvc repro` ran, in order."""
    return re.findall(r"Running stage '([^']+)'", output)


def tracked_files() -> list[Path]:
    """What is in the project's git, or, in a copy without git, what it consists of."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        return [Path(name) for name in listed.stdout.split("\0") if name]
    return [
        path.relative_to(PROJECT)
        for part in (
            ".dvc/config",
            ".dvcignore",
            ".gitignore",
            "README.md",
            "data/archive/README.md",
            "data/external/README.md",
            "data/kaggle-manifest.csv",
            "data/kaggle-records.csv",
            "dvc.yaml",
            "params.yaml",
            "requirements.txt",
            "stages",
        )
        for path in [PROJECT / part, *(PROJECT / part).rglob("*.py")]
        if path.is_file()
    ]


def make(folder: Path, home: Path) -> Scratch:
    """Copies the project's own files, not its outputs, and shrinks the run."""
    for name in tracked_files():
        if (PROJECT / name).is_file() and not name.is_relative_to("tests"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    scratch = Scratch(folder, home)
    scratch.set_all(SMALL)
    scratch.run("git", "init", "--quiet", ".")
    return scratch
