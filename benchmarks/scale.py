"""How time and memory of every stage grow with the number of images.

usage: python -m benchmarks.scale [--images N ...] [--chart PNG] [--kill]

By default 300, 3,000 and 30,000 images of 320 x 300 pixels, which takes twenty minutes on two
cores; 300 are the fewest. They are made, each another mixture of a phantom and of smooth random
fields, and put as a folder into data/archive/ of a scratch project. Its stages are then run one
after the other, with two epochs a training, and at last DVC with nothing to do. Prints a table in
Markdown. From the last size but one to the last no stage's time may grow faster than n^1.1, and no
stage's memory, less what the table of the images takes, to more than 1.5 times; else the exit
status is 1.

With --kill every stage is then run by DVC once more at the largest size, and killed with SIGKILL at
a seeded random moment, which takes ten minutes more; where `dvc repro` then ends with other bytes,
the exit status is 1, too.
"""

import argparse
import csv
import io
import math
import random
import signal
import sys
import tempfile
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.scratch import measured, project, run
from benchmarks.torture import Kill, repaired, strike
from stages.common import files, parallel
from stages.judging import drawing
from stages.sources import phantom

SIZES = (300, 3_000, 30_000)
SETTINGS = {
    "recipes.tuned.epochs": 2,
    "recipes.tuned.warmup_epochs": 1,
    "crossvalidate.folds": 2,
    "download.source": "archive",
    "download.max_files": 1_000_000,
}
COMMANDS = {
    **{
        name: ("-m", f"stages.{name}")
        for name in (
            *("download", "audit", "preprocess", "train", "crossvalidate", "calibrate"),
            *("baselines", "evaluate", "external", "occlusion", "compare", "report"),
        )
    },
    "dvc commit": ("-m", "dvc", "commit", "--force", "--quiet"),
    "dvc repro, nothing to do": ("-m", "dvc", "repro", "--quiet"),
}
FASTEST_GROWTH = 1.1
MOST_MEMORY = 1.5
SAME = "same bytes"
_WIDTH, _HEIGHT = 320, 300
_CELLS = ((5, 5), (20, 19), (64, 60))  # of the random fields, so that no two are near copies
_BASES = 0.1  # the share of the phantoms that are drawn


class Cost(NamedTuple):
    """What a command took, and, in bytes, what the table of the images takes in memory."""

    seconds: float
    memory: int
    table: int


def bases() -> dict[str, list[np.ndarray]]:
    """By class some phantoms, float32, (300, 320)."""
    drawn: dict[str, list[np.ndarray]] = {}
    for planned in tqdm(phantom.plan(0, _BASES), "phantoms", unit="image", disable=None):
        with Image.open(io.BytesIO(phantom.render(planned))) as image:
            small = np.asarray(image.convert("L").resize((_WIDTH, _HEIGHT)), np.float32)
        drawn.setdefault(planned.path.split("/")[1], []).append(small)
    return drawn


def picture(base: np.ndarray, number: int) -> Image.Image:
    """The picture of that number, grey: a third `base`, two thirds random fields."""
    random = np.random.default_rng(number)
    fields = np.zeros_like(base)
    for cells in _CELLS:
        field = Image.fromarray(random.normal(0, 1, cells[::-1]).astype(np.float32))
        fields += np.asarray(field.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC))
    mixed = base / 3 + (128 + 45 * fields) * 2 / 3
    return Image.fromarray(np.uint8(np.clip(mixed, 0, 255)))


def make(folder: Path, images: int, drawn: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Writes images as {train,test}/<class>/*.jpeg, one of five to test/."""
    names = sorted(drawn)
    for split in ("train", "test"):
        for name in names:
            (folder / split / name).mkdir(parents=True)

    def write(number: int) -> None:
        turn, which = divmod(number, len(names))
        some = drawn[names[which]]
        split = "train" if turn % 5 else "test"
        target = folder / split / names[which] / f"{number:06d}.jpeg"
        picture(some[turn % len(some)], number).save(target, quality=85)

    parallel.each(write, range(images), "making images")


def table_memory(path: Path) -> int:
    """The bytes that the rows of a CSV file take in memory."""
    tracemalloc.start()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del rows  # held until it was measured
    return taken


def costs(here: Path, images: int, drawn: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Cost]:
    """What each of COMMANDS takes for so many images; `here` is an empty folder for the project."""
    project(here, None, SETTINGS)
    make(here / "data/archive/made", images, drawn)
    taken = {
        name: measured(sys.executable, *command, folder=here)
        for name, command in tqdm(COMMANDS.items(), f"{images:,} images", disable=None)
    }
    table = table_memory(here / "data/audit.csv")
    return {name: Cost(*both, table) for name, both in taken.items()}


def kill(folder: Path, stage: str, seconds: float) -> str:
    """Kills a stage that takes so many seconds, and runs `dvc repro`; a line on what came of it.

    It begins with SAME where the stage was struck and every output has its former bytes.
    """
    lock = folder / "dvc.lock"
    before = lock.read_bytes()
    files.remove(folder / ".dvc/tmp/folds")  # else no fold would be trained
    after = random.Random(stage).uniform(0, seconds)
    struck = strike(folder, Kill(stage, "stage", signal.SIGKILL, after))
    repaired(folder)
    run("dvc", "repro", "--quiet", folder=folder)
    same = lock.read_bytes() == before and "up to date" in run("dvc", "status", folder=folder)
    when = (
        f"killed after at most {after:.1f} of {seconds:.1f} s" if struck else "not killed in time"
    )
    return f"{SAME if struck and same else 'OTHER BYTES'}: {stage}, {when}"


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The k with which values grow as n^k from the last size but one to the last."""
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def memory_growth(before: Cost, after: Cost) -> float:
    """The ratio of the memory of the two, each without the table of the images."""
    return (after.memory - after.table) / (before.memory - before.table)


def table(sizes: Sequence[int], found: Mapping[str, Sequence[Cost]]) -> str:
    """A table in Markdown: by command milliseconds per image, memory, and how both grow."""
    heads = [
        "stage",
        *(f"ms per image, {size:,}" for size in sizes),
        *(f"MB, {size:,}" for size in sizes),
        *(("time grows as", "memory grows to") if len(sizes) > 1 else ()),
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, by_size in found.items():
        cells = [f"`{name}`"]
        cells += [
            f"{1000 * cost.seconds / size:.2f}" for size, cost in zip(sizes, by_size, strict=True)
        ]
        cells += [f"{cost.memory / 1e6:,.0f}" for cost in by_size]
        if len(sizes) > 1:
            cells.append(f"n^{exponent(sizes, [cost.seconds for cost in by_size]):.2f}")
            cells.append(f"{memory_growth(*by_size[-2:]):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def missed(sizes: Sequence[int], found: Mapping[str, Sequence[Cost]]) -> list[str]:
    """A line for each stage whose time or memory grows faster than it may."""
    lines = []
    for name in stages(found):
        by_size = found[name]
        time_grows = exponent(sizes, [cost.seconds for cost in by_size])
        memory_grows = memory_growth(*by_size[-2:])
        if time_grows > FASTEST_GROWTH:
            lines.append(f"{name}: time grows as n^{time_grows:.2f}, at most n^{FASTEST_GROWTH}")
        if memory_grows > MOST_MEMORY:
            lines.append(f"{name}: memory grows to {memory_grows:.2f}, at most {MOST_MEMORY}")
    return lines


def stages(commands: Iterable[str]) -> list[str]:
    """Those of the commands that are stages, and not DVC's own."""
    return [name for name in commands if not name.startswith("dvc ")]


def draw(sizes: Sequence[int], found: Mapping[str, Sequence[Cost]], target: Path) -> None:
    """Draws seconds and memory over the number of images, both axes logarithmic, as a PNG."""
    seconds = [[cost.seconds for cost in by_size] for by_size in found.values()]
    megabytes = [[cost.memory / 1e6 for cost in by_size] for by_size in found.values()]
    first = max(line[0] for line in seconds)
    with drawing.drawing(target, (11, 5)) as figure:
        left, right = figure.subplots(1, 2)
        left.loglog(sizes, [first * size / sizes[0] for size in sizes], "k:", label="as the images")
        for axes, title, lines in (
            (left, "seconds", seconds),
            (right, "peak memory, MB", megabytes),
        ):
            for name, line, mark in zip(found, lines, "os^vDPX*<>hp", strict=False):
                axes.loglog(sizes, line, marker=mark, label=name)
            axes.set(xlabel="images", ylabel=title)
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.yaxis.set_major_formatter("{x:,g}")
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        figure.legend(*left.get_legend_handles_labels(), loc="outside right upper")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--chart", type=Path, metavar="PNG")
    parser.add_argument("--kill", action="store_true")
    chosen = parser.parse_args()
    sizes = sorted(chosen.images)
    drawn = bases()
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(size) for size in sizes]
        measurements = []
        for size, folder in zip(sizes, folders, strict=True):
            folder.mkdir()
            measurements.append(costs(folder, size, drawn))
        found = {name: [each[name] for each in measurements] for name in COMMANDS}
        print(table(sizes, found))
        if chosen.chart:
            draw(sizes, found, chosen.chart)
        faults = missed(sizes, found) if len(sizes) > 1 else []
        print("\n".join(["", *faults]), flush=True)
        for name in tqdm(stages(COMMANDS) if chosen.kill else [], "kills", disable=None):
            line = kill(folders[-1], name, found[name][-1].seconds)
            print(line, flush=True)
            faults += [] if line.startswith(SAME) else [line]
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
