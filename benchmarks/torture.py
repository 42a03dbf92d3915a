"""Kills the pipeline at many moments and compares what is left after the next `dvc repro`.

usage: python -m benchmarks.torture [--kills N] [--seed S]

A shrunken pipeline on phantoms is run once undisturbed. Then, in copies of it, every stage in
turn is run by DVC again and killed: with SIGINT, SIGTERM or SIGKILL; the stage alone, DVC alone
(which leaves the stage an orphan) or both; at a seeded random moment. After one to three kills
`dvc repro` is run to its end, and every output is compared byte by byte with the undisturbed run;
no half-written file may be left, no stage may be left running and `dvc status` must be clean.
A kill that comes after the stage had ended is tried again, earlier. Where DVC, killed while it
wrote a file of its own, has left half of it, `stages.repair` moves that aside first, as in `make
repro`. Prints the number of kills, of those that struck, of repaired files and of differences; exit
status 1 if there was a difference.
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
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tqdm import tqdm

from benchmarks.compare import differences
from benchmarks.scratch import project, run

SMALL = {
    "download.phantom_share": 0.1,
    "preprocess.validation_share": 0.5,
    "recipes.tuned.batch_size": 4,
    "recipes.tuned.epochs": 2,
    "recipes.tuned.warmup_epochs": 1,
    "evaluate.bootstrap_samples": 100,
    "evaluate.gradcam_images": 2,
    "crossvalidate.folds": 2,
}
STAGES = {
    # how many seconds it takes, about: a kill comes at a moment within that
    "download": 0.9,
    "audit": 1.1,
    "preprocess": 1.1,
    "train": 5.0,
    "crossvalidate": 7.0,
    "calibrate": 1.5,
    "baselines": 2.0,
    "evaluate": 6.0,
    "external": 4.0,
    "occlusion": 2.0,
    "compare": 2.0,
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


@dataclass
class Outcome:
    """How many kills struck, how many of DVC's own files were repaired, and a line per fault."""

    struck: int = 0
    repaired: int = 0
    wrong: list[str] = field(default_factory=list)


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
        Whether there was something left to kill. If not, it was tried again at an earlier moment,
        and at last at once.
    """
    return any(_strike(folder, kill, kill.after * share) for share in (1, 1 / 2, 1 / 4, 0))


def _strike(folder: Path, kill: Kill, after: float) -> bool:
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
    time.sleep(after)
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


def repaired(folder: Path) -> int:
    """How many files of its own that DVC was killed while writing had to be moved aside."""
    output = run(sys.executable, "-m", "stages.repair", folder=folder)
    return output.count("was cut short")


def left_running(folder: Path) -> list[str]:
    """Stages that still run in the folder after a moment of grace."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        running = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            command = " ".join(process.info["cmdline"] or [])
            if process.info["cwd"] == str(folder) and "stages." in command:
                running.append(f"still running: {command}")
        if not running:
            return []
        time.sleep(0.1)
    return running


def trial(base: Path, scratch: Path, kills: list[Kill]) -> Outcome:
    """Kills, runs `dvc repro` to its end and compares."""
    folder = scratch / "project"
    shutil.copytree(base, folder, symlinks=True)
    shutil.rmtree(folder / ".dvc/tmp/folds")  # else no fold would be trained
    outcome = Outcome()
    try:
        for kill in kills:
            outcome.struck += strike(folder, kill)
            outcome.repaired += repaired(folder)
        done = subprocess.run(
            ["dvc", "repro"],
            cwd=folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            outcome.wrong = [f"dvc repro ended with {done.returncode}: {done.stdout}{done.stderr}"]
            return outcome
        status = run("dvc", "status", folder=folder)
        outcome.wrong = differences(base, folder) + left_running(folder)
        if "up to date" not in status:
            outcome.wrong.append(f"dvc status: {status}")
    except subprocess.TimeoutExpired as error:
        outcome.wrong.append(f"not ended after {error.timeout:.0f} s: {error.cmd}")
    finally:
        shutil.rmtree(folder)
    return outcome


def torture(kills: int, seed: int, workers: int = 2) -> Outcome:
    """Runs all trials, some at once, and sums up."""
    trials = plan(kills, seed)
    total = Outcome()
    with tempfile.TemporaryDirectory() as scratch:
        base = project(Path(scratch).resolve() / "base", None, SMALL)
        run("dvc", "repro", folder=base)

        def one(numbered: tuple[int, list[Kill]]) -> Outcome:
            number, chosen = numbered
            place = Path(scratch).resolve() / f"trial {number}"
            place.mkdir()
            outcome = trial(base, place, chosen)
            outcome.wrong = [f"{chosen}: {line}" for line in outcome.wrong]
            return outcome

        with ThreadPoolExecutor(workers) as pool:
            outcomes = pool.map(one, enumerate(trials))
            for outcome in tqdm(outcomes, "torture", len(trials), unit="trial", disable=None):
                total.struck += outcome.struck
                total.repaired += outcome.repaired
                total.wrong += outcome.wrong
    return total


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
    total = torture(chosen.kills, chosen.seed)
    for line in total.wrong:
        print(line)
    print(
        f"torture: {chosen.kills} kills, of which {total.struck} struck; {total.repaired} of DVC's "
        f"own files were cut short and moved aside; {len(total.wrong)} differences"
    )
    sys.exit(1 if total.wrong else 0)


if __name__ == "__main__":
    main()
