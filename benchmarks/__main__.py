"""Measures the pipeline against what a person would otherwise use, and prints ratios.

usage: python -m benchmarks [--archive ZIP] [NAME ...]

The names: epoch, whole, idle, decoding, predict, copies, serving, cluster.

All of them without a name. Needs about twenty minutes on two idle cores. The images are those of
the zip given, or of the one zip in data/archive/, or else phantoms. What is compared is measured
in turn, on one machine; a bound that is missed is marked, and the exit status is then 1.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from benchmarks.scratch import PROJECT, given_zip, project, record, run

EPOCHS = 30
ROUNDS = 3
SETTINGS = {
    "preprocess.validation": "original",
    "train.epochs": EPOCHS,
    "train.patience": EPOCHS,
}
Row = tuple[str, float, float | None]
"""What was measured, the ratio or figure, and the bound that it is to keep below or None."""


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def epoch(here: Path, _: Path | None) -> Iterator[Row]:
    """One training epoch; the least of some, because a busy machine can only add."""
    ours = record("benchmarks.epoch", folder=here)
    theirs = min(
        record("benchmarks.notebook", "data/raw", "--epochs", "6", folder=here)["seconds_per_epoch"]
        for _round in range(ROUNDS)
    )
    yield "one epoch, to model.fit on arrays in memory", ours["pipeline"] / ours["plain"], 1.05
    yield "one epoch, to the notebook's", ours["pipeline"] / theirs, 0.4


def whole(here: Path, archive: Path | None) -> Iterator[Row]:
    """The whole job, from nothing; in turn, the least of each."""
    notebook = ("-m", "benchmarks.notebook", str(here / "data/raw"), "--epochs", str(EPOCHS))
    theirs, same_job, rest = [], [], []
    for _round in range(ROUNDS):
        theirs.append(seconds(partial(run, sys.executable, *notebook, folder=here)))
        with tempfile.TemporaryDirectory() as scratch:
            fresh = project(Path(scratch), archive, SETTINGS)
            same_job.append(seconds(partial(run, "dvc", "repro", "evaluate", folder=fresh)))
            rest.append(seconds(partial(run, "dvc", "repro", folder=fresh)))
    yield (
        f"dvc repro evaluate from nothing, {EPOCHS} epochs, to the notebook",
        min(same_job) / min(theirs),
        0.7,
    )
    yield (
        "the same with cross-validation and report, to the notebook",
        (min(same_job) + min(rest)) / min(theirs),
        None,
    )


def idle(here: Path, _: Path | None) -> Iterator[Row]:
    """Nothing to do."""
    with tempfile.TemporaryDirectory() as scratch:
        single = Path(scratch)
        run("git", "init", "--quiet", ".", folder=single)
        run("dvc", "init", "--quiet", folder=single)
        (single / "in").write_text("in", encoding="utf-8")
        (single / "dvc.yaml").write_text(
            "stages:\n  one:\n    cmd: cp in out\n    deps: [in]\n    outs: [out]\n",
            encoding="utf-8",
        )
        for folder in (here, single):
            run("dvc", "repro", folder=folder)
        ratios = []
        for _round in range(9):
            ours, theirs = (
                seconds(partial(run, "dvc", "repro", folder=folder)) for folder in (here, single)
            )
            ratios.append(ours / theirs)
    yield "dvc repro with nothing to do, to a one-stage repository", statistics.median(ratios), 1.3


def decoding(here: Path, _: Path | None) -> Iterator[Row]:
    """Images of 2.5 megapixels."""
    with tempfile.TemporaryDirectory() as enlarged:
        folder = Path(enlarged)
        sources = sorted((here / "data/raw/train").rglob("*.jp*g"))[:60]
        for source in tqdm(sources, "enlarging", disable=None):
            with Image.open(source) as image:
                image.convert("RGB").resize((1780, 1404), Image.Resampling.LANCZOS).save(
                    folder / f"{source.parent.name} {source.stem}.jpg", quality=90
                )
        rates = record("benchmarks.decoding", "speed", enlarged, "60", folder=here)
        few, many = (
            record("benchmarks.decoding", "memory", enlarged, str(count), folder=here)["bytes"]
            for count in (500, 5000)
        )
    yield (
        "plain Pillow with nearest neighbour, images per second, to preprocess",
        rates["plain"] / rates["pipeline"],
        1 / 1.4,
    )
    yield "peak memory of preprocess at 5,000 images, to that at 500", many / few, 1.2


def peak_memory(*command: str, folder: Path) -> int:
    """The most memory, in bytes, that a command takes, whose output is not looked at."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024


def predict(here: Path, _: Path | None) -> Iterator[Row]:
    """One image from a cold start, and a folder of many, 640 pixels wide."""
    ours = (sys.executable, "-m", "stages.predict", "--json")
    with tempfile.TemporaryDirectory() as scratch:
        few, many, why = (Path(scratch) / name for name in ("few", "many", "why"))
        few.mkdir()
        many.mkdir()
        sources = sorted((here / "data/raw").rglob("*.jp*g"))[:300]
        for number, source in enumerate(tqdm(sources, "scaling", disable=None)):
            with Image.open(source) as image:
                size = 640, round(640 * image.height / image.width)
                image.convert("L").resize(size, Image.Resampling.LANCZOS).save(
                    few / f"{number}.jpg", quality=90
                )
        for number in range(10_000):
            os.link(few / f"{number % len(sources)}.jpg", many / f"{number}.jpg")
        one = str(few / "0.jpg")
        commands = {
            "plain": (*ours, one),
            "explained": (*ours, "--explain", str(why), one),
            "TensorFlow": (sys.executable, "-m", "benchmarks.with_tensorflow", one),
        }
        spent: dict[str, list[float]] = {name: [] for name in commands}
        for _round in range(2 * ROUNDS):
            for name, command in commands.items():
                spent[name].append(seconds(partial(run, *command, folder=here)))
        # the medians, because the first of each finds no file in memory
        plain, explained, theirs = (statistics.median(spent[name]) for name in commands)
        yield "predict one image from a cold start, to TensorFlow", plain / theirs, 0.25
        yield "predict one image from a cold start, in seconds", plain, 1
        yield "predict --explain one image from a cold start, in seconds", explained, 1
        taken = seconds(partial(run, *ours, str(many), folder=here))
        yield "predict 10,000 images, seconds for 150 of them", 150 * taken / 10_000, 1
        most, least = (peak_memory(*ours, str(folder), folder=here) for folder in (many, few))
        yield "peak memory of predict at 10,000 images, to that at 300", most / least, 1.2


def copies(here: Path, archive: Path | None) -> Iterator[Row]:
    """The copy finder's own tables are printed by its module."""
    for given in ([], ["--archive", str(archive)])[: 2 if archive else 1]:
        print(run(sys.executable, "-m", "benchmarks.copies", *given, folder=here))
    yield from ()


def serving(here: Path, _: Path | None) -> Iterator[Row]:
    """The page's server."""
    best = min(
        (record("benchmarks.serving", folder=here) for _round in range(ROUNDS)),
        key=lambda each: float(each["median"]),
    )
    yield "the page's server, 8 clients, 500 images: median seconds", best["median"], 0.06
    yield "99th percentile of the seconds", best["99th"], 0.3
    yield "requests that failed", best["failed"], 0
    yield "memory at the end, to that after 100 images", best["memory"], 1.1
    yield "a look-up of copies: median seconds", best["copies"], None
    uploads = record("tests.serving.fuzz_uploads", "1", "2000", folder=PROJECT)
    yield "2,000 mutated uploads: most seconds", uploads["slowest"], 5
    yield "most gigabytes", uploads["memory"] / 1e9, 1


def cluster(here: Path, _: Path | None) -> Iterator[Row]:
    """Its module also prints what more workers would give."""
    output = run(sys.executable, "-m", "benchmarks.cluster", folder=here)
    *lines, last = output.splitlines()
    print("\n".join(lines))
    yield "preprocess by two Dask workers of one thread, to one", json.loads(last)["two"], 0.6


MEASUREMENTS = {
    function.__name__: function
    for function in (epoch, whole, idle, decoding, predict, copies, serving, cluster)
}


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--archive", type=Path, metavar="ZIP")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(MEASUREMENTS)}")
    archive = given_zip(chosen.archive, "data/archive")
    print(f"Images: {archive.name if archive else 'phantoms'}")
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        here = project(Path(scratch), archive, SETTINGS)
        run("dvc", "repro", folder=here)
        for name in tqdm(chosen.names or list(MEASUREMENTS), "benchmarks", disable=None):
            for what, ratio, bound in MEASUREMENTS[name](here, archive):
                held = bound is None or ratio <= bound
                missed += not held
                wanted = "" if bound is None else f"   at most {bound:.2f}"
                tqdm.write(f"{what}: {ratio:.2f}{wanted}{'' if held else '   MISSED'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
