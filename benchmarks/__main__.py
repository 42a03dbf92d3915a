"""Measures the pipeline against what a person would otherwise use, and prints ratios.

usage: python -m benchmarks [--archive ZIP] [NAME ...]

The names: epoch, whole, idle, decoding, predict, copies, size, serving, stream, cluster.

All of them without a name. Needs about forty minutes on two idle cores. The images are those of
the zip given, or of the one zip in data/archive/, or else phantoms. What is compared is measured
in turn, on one machine; a bound that is missed is marked, and the exit status is then 1.
"""

import argparse
import io
import json
import math
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from benchmarks.scratch import (
    PROJECT,
    given_zip,
    measured,
    project,
    record,
    run,
    seconds,
    set_params,
)
from benchmarks.stream import multiply
from stages.common import parallel

EPOCHS = 30
ROUNDS = 3
JOB = ("download", "audit", "preprocess", "train", "crossvalidate", "calibrate", "evaluate")
"""The stages that `dvc repro evaluate` runs."""
SETTINGS = {
    "train.recipe": "original",
    "recipes.original.epochs": EPOCHS,
    "recipes.original.patience": EPOCHS,
}
Row = tuple[str, float, float | None]
"""What was measured, the ratio or figure, and the bound that it is to keep below or None."""


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
    """The whole job, on the images as they are and enlarged to the size of the real files."""
    yield from job(here / "data/raw", archive, "")
    with tempfile.TemporaryDirectory() as scratch:
        large = Path(scratch) / "large.zip"
        enlarge(here / "data/raw", large)
        with zipfile.ZipFile(large) as zipped:
            zipped.extractall(scratch)
        yield from job(Path(scratch), large, " on 2.5 megapixels")


def job(images: Path, archive: Path | None, on: str) -> Iterator[Row]:
    """The job beside the notebook, in turn, the least of each; prints where its seconds go.

    What the notebook does, `dvc repro train` does: it trains, and tells the accuracy on test/. What
    `dvc repro evaluate` adds, such as the cross-validation that calibrates, the notebook lacks.
    """
    bounds = (0.25, 0.2) if on else (0.65, 0.55)
    notebook = ("-m", "benchmarks.notebook", str(images), "--epochs", str(EPOCHS))
    spent: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS):
        spent["notebook"].append(seconds(partial(run, sys.executable, *notebook, folder=images)))
        with tempfile.TemporaryDirectory() as scratch:
            fresh = project(Path(scratch), archive, SETTINGS)
            whole_job = 0.0
            for stage in ("train", "evaluate", "report"):
                whole_job += seconds(partial(run, "dvc", "repro", stage, folder=fresh))
                spent[stage].append(whole_job)
            set_params(fresh, {"recipes.original.learning_rate": 0.0002})
            spent["again"].append(seconds(partial(run, "dvc", "repro", "train", folder=fresh)))
            if number == ROUNDS - 1:
                tqdm.write(steps(fresh, min(spent["evaluate"])))
    least = {name: min(values) / min(spent["notebook"]) for name, values in spent.items()}
    what = f"{EPOCHS} epochs{on}, to the notebook"
    yield f"dvc repro train from nothing, {what}", least["train"], bounds[0]
    yield f"with another learning rate, {what}", least["again"], bounds[1]
    yield f"dvc repro evaluate from nothing, {what}", least["evaluate"], None
    yield f"dvc repro from nothing, {what}", least["report"], None


def steps(folder: Path, whole_job: float) -> str:
    """A table, in Markdown, of where the seconds of the job go, by stage."""
    lines = ["", "| stage | seconds | of which |", "|---|---|---|"]
    total = 0.0
    for name in JOB:
        begun = time.perf_counter()
        spent = record("benchmarks.steps", name, folder=folder)
        taken = time.perf_counter() - begun
        total += taken
        parts = sorted(spent.items(), key=lambda part: -part[1])
        words = ", ".join(f"{step} {part:.1f}" for step, part in parts if part >= 0.05)
        lines.append(f"| `{name}` | {taken:.1f} | {words} |")
    lines.append(f"| what DVC takes beyond these | {whole_job - total:.1f} | |")
    return "\n".join([*lines, ""])


def enlarge(images: Path, target: Path) -> None:
    """Writes a zip of the images {train,test}/<class>/*, each enlarged to 2.5 megapixels."""

    def large(path: Path) -> bytes:
        file = io.BytesIO()
        with Image.open(path) as image:
            whole_image = image.convert("RGB").resize((1780, 1404), Image.Resampling.LANCZOS)
        whole_image.save(file, "JPEG", quality=90)
        return file.getvalue()

    paths = sorted(images.glob("*/*/*"))
    with zipfile.ZipFile(target, "w") as zipped:
        for path, data in zip(paths, parallel.each(large, paths, "enlarging"), strict=True):
            zipped.writestr(f"{path.relative_to(images).as_posix()}.jpg", data)


def idle(here: Path, _: Path | None) -> Iterator[Row]:
    """Nothing to do."""
    for images, result in record("benchmarks.idle", folder=here).items():
        what = f"dvc repro with nothing to do, {int(images):,} images"
        yield f"{what}, to the same files in one stage", result["ratio"], 1.3
        yield f"{what}, in seconds", result["seconds"], None


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
        most, least = (measured(*ours, str(folder), folder=here)[1] for folder in (many, few))
        yield "peak memory of predict at 10,000 images, to that at 300", most / least, 1.2


def copies(here: Path, archive: Path | None) -> Iterator[Row]:
    """The copy finder's own tables are printed by its module."""
    for given in ([], ["--archive", str(archive)])[: 2 if archive else 1]:
        print(run(sys.executable, "-m", "benchmarks.copies", *given, folder=here))
    yield from ()


def size(here: Path, _: Path | None) -> Iterator[Row]:
    """The audit at two sizes, and what that comes to at 100,000 images."""
    few, many = 1_000, 5_000
    less, more = (record("benchmarks.size", str(count), folder=here) for count in (few, many))
    for count, each in ((few, less), (many, more)):
        yield f"peak memory of audit at {count:,} images, in MB", each["bytes"] / 1e6, None
    slope = (more["bytes"] - less["bytes"]) / (many - few)
    yield "and so at 100,000, in GB", (more["bytes"] + slope * (100_000 - many)) / 1e9, 3
    exponent = math.log(more["seconds"] / less["seconds"]) / math.log(many / few)
    yield "time of audit, the exponent of its growth", exponent, 1.1


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


def stream(here: Path, _: Path | None) -> Iterator[Row]:
    """Ten times as many images, made by hard links."""
    stages = {
        "evaluate": ("stages.evaluate",),  # before `train` writes another network
        "train": ("stages.train",),
        "one fold of crossvalidate": ("benchmarks.stream", "fold"),
    }
    with tempfile.TemporaryDirectory(dir=here) as scratch:
        few, many = (Path(scratch) / str(count) for count in (2_000, 20_000))
        for folder in (few, many):
            multiply(here, folder, int(folder.name))
        for name, arguments in stages.items():
            least, most = (
                measured(sys.executable, "-m", *arguments, folder=folder)[1]
                for folder in (few, many)
            )
            what = f"peak memory of {name} at 20,000 images, to that at 2,000"
            yield f"{what} ({least / 1e9:.2f} GB)", most / least, 1.3
        times = record("benchmarks.stream", "epoch", folder=few)
    ratio = times["disk"] / times["memory"]
    yield "one epoch with the images on disk, to one with them in memory", ratio, 1.2


def cluster(here: Path, _: Path | None) -> Iterator[Row]:
    """Its module also prints what more workers would give."""
    output = run(sys.executable, "-m", "benchmarks.cluster", folder=here)
    *lines, last = output.splitlines()
    print("\n".join(lines))
    yield "preprocess by two Dask workers of one thread, to one", json.loads(last)["two"], None


_ALL = (epoch, whole, idle, decoding, predict, copies, size, serving, stream, cluster)
MEASUREMENTS = {function.__name__: function for function in _ALL}


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
