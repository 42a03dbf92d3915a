"""The pipeline on other people's machines."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.torture import SMALL
from tests.pipeline import scratch


def test_unlike_surroundings_give_the_same_bytes() -> None:
    """What `make verify` does, on the shrunken pipeline."""
    settings = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.verify", *settings],
        cwd=scratch.PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "output files, every one the same to the byte" in done.stdout


def test_a_copy_without_git_runs_and_says_what_needs_git(
    finished: scratch.Scratch, tmp_path: Path
) -> None:
    copy = finished.copy(tmp_path / "downloaded")
    for path in (".git", ".venv"):
        subprocess.run(["rm", "-rf", path], cwd=copy.folder, check=True)
    scratch.make_venv(copy.folder)
    output = copy.run("make", "repro")
    assert "This copy has no git history: dvc metrics diff, dvc plots diff and dvc exp" in output
    assert "Data and pipelines are up to date." in output
    assert "metrics/MODEL_CARD.md" in output
    shown = copy.run("dvc", "metrics", "show")
    assert "metrics.json" in shown
