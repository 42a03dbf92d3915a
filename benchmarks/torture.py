"""Kills the pipeline at many moments and compares what is left after the next `dvc repro`.

usage: python -m benchmarks.torture [--kills N] [--seed S]

A shrunken pipeline on phantoms is run once undisturbed. Then, in copies of it, every stage in
turn is run by DVC again and killed: with SIGINT, SIGTERM or SIGKILL; the stage alone, DVC alone
(which leaves the stage an orphan) or both; at a seeded random moment. After one to three kills
`dvc repro` is run to its end, and every output is compared byte by byte with the undisturbed run;
no half-written file may be left, no stage may be left running and `dvc status` must be clean.
Where DVC, killed while it wrote a file of its own, `.dvc/tmp/rwlock` or `dvc.lock`, has left that
broken, it is removed or brought back first, as the README advises.
Prints the number of kills, of those that came before the stage had ended, and of differences;
exit status 1 if there was a difference.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from tqdm import tqdm

from benchmarks.compare import differences
from benchmarks.scratch import project, run

SMALL = {
    "download.phantom_share": 0.1,
    "preprocess.validation_share": 0.5,
    "train.batch_size": 4,
    "train.epochs": 2,
    "evaluate.bootstrap_samples": 100,
    "evaluate.gradcam_images": 2,
    "crossvalidate.folds": [1, 2],
    "crossvalidate.epochs": 1,
}
STAGES = {
    # how many seconds it takes, about: a kill comes at a moment within that
    "download": 0.9,
    "audit": 1.1,
    "preprocess": 1.1,
    "train": 5.0,
    "evaluate": 6.0,
    "shortcuts": 2.0,
    "crossvalidate@0-1": 5.0,
    "stability": 0.5,
    "report": 2.0,
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
TARGETS = ("stage", "dvc", "both")
PATIENCE = 120.0


@dataclass(frozen=True)
class Kill:
    """One kill: of which stage, which process, with which signal, how many seconds in."""

    stage: str
    target: str
    signal: signal.Signals
    after: float


def plan(kills: int, seed: int) -> list[list[Kill]]:
    """Trials of one to three kills each of one stage, `kills` in all; every stage in turn."""
    draw = random.Random(seed)
    trials: list[list[Kill]] = []
    left = kills
    while left > 0:
        stage, seconds = list(STAGES.items())[len(trials) % len(STAGES)]
        count = min(left, draw.randint(1, 3))
        trials.append(
            [
                Kill(
                    stage,
                    draw.choice(TARGETS),
                    draw.choice(SIGNALS),
                    draw.uniform(0, seconds),
                )
                for _ in range(count)
            ]
        )
        left -= count
    return trials


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def _stages_below(process: psutil.Process) -> list[psutil.Process]:
    """The processes that run a stage for this `dvc`."""
    with contextlib.suppress(psutil.Error):
        return [
            child
            for child in process.children(recursive=True)
            if any(word.startswith("stages.") for word in child.cmdline())
        ]
    return []


def strike(folder: Path, kill: Kill) -> bool:
    """Runs the stage by DVC and kills what is to be killed; waits until DVC is gone.

    Returns:
        Whether there was something left to kill at that moment.
    """
    shutil.rmtree(folder / ".dvc/cache/runs", ignore_errors=True)  # else nothing would run
    started = subprocess.Popen(
        ["dvc", "repro", "--force", "--single-item", kill.stage],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    dvc = psutil.Process(started.pid)
    until = time.monotonic() + PATIENCE
    while not _stages_below(dvc) and started.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(kill.after)
    victims = _stages_below(dvc) if kill.target in ("stage", "both") else []
    if kill.target in ("dvc", "both") and started.poll() is None:
        victims.append(dvc)
    struck = False
    for victim in victims:
        with contextlib.suppress(psutil.Error):
            victim.send_signal(kill.signal)
            struck = True
    try:
        started.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        raise
    return struck


def repro(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs `dvc repro` to its end."""
    return subprocess.run(
        ["dvc", "repro"],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def mended(base: Path, folder: Path, output: str) -> bool:
    """Mends, as the README advises, a file of its own that DVC was killed while writing."""
    if "Unable to read RWLock-file" in output:
        (folder / ".dvc/tmp/rwlock").unlink()
        return True
    if "dvc.lock" in output and ("corrupted" in output or "invalid" in output):
        shutil.copyfile(base / "dvc.lock", folder / "dvc.lock")  # git checkout dvc.lock
        return True
    return False


def left_running(folder: Path) -> list[str]:
    """Stages that still run in the folder after a moment of grace."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        found = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            command = " ".join(process.info["cmdline"] or [])
            if process.info["cwd"] == str(folder) and "stages." in command:
                found.append(f"still running: {command}")
        if not found:
            return []
        time.sleep(0.1)
    return found


def trial(base: Path, scratch: Path, kills: list[Kill]) -> tuple[int, list[str]]:
    """Kills, runs `dvc repro` to its end and compares.

    Returns:
        How many kills struck something, and what is wrong, a line each.
    """
    folder = scratch / "project"
    shutil.copytree(base, folder, symlinks=True)
    try:
        struck = sum(strike(folder, kill) for kill in kills)
        done = repro(folder)
        if mended(base, folder, done.stdout + done.stderr):
            done = repro(folder)
        if done.returncode:
            return struck, [f"dvc repro ended with {done.returncode}: {done.stdout}{done.stderr}"]
        status = run("dvc", "status", folder=folder)
        wrong = differences(base, folder) + left_running(folder)
        return struck, wrong + ([] if "up to date" in status else [f"dvc status: {status}"])
    except subprocess.TimeoutExpired as error:
        return 0, [f"not ended after {error.timeout:.0f} s: {error.cmd}"]
    finally:
        shutil.rmtree(folder)


def torture(kills: int, seed: int, workers: int = 2) -> tuple[int, list[str]]:
    """Runs all trials, some at once; gives how many kills struck, and what was wrong."""
    trials = plan(kills, seed)
    struck = 0
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        base = project(Path(scratch).resolve() / "base", None, SMALL)
        run("dvc", "repro", folder=base)

        def one(numbered: tuple[int, list[Kill]]) -> tuple[int, list[str]]:
            number, chosen = numbered
            place = Path(scratch).resolve() / f"trial {number}"
            place.mkdir()
            count, lines = trial(base, place, chosen)
            return count, [f"{chosen}: {line}" for line in lines]

        with ThreadPoolExecutor(workers) as pool:
            results = pool.map(one, enumerate(trials))
            for count, lines in tqdm(results, "torture", len(trials), unit="trial", disable=None):
                struck += count
                wrong += lines
    return struck, wrong


def main() -> None:
    """Tortures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    struck, wrong = torture(chosen.kills, chosen.seed)
    print("\n".join(wrong))
    print(f"torture: {chosen.kills} kills, of which {struck} struck; {len(wrong)} differences")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
