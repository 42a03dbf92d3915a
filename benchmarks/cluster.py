"""What a Dask cluster gives: two workers beside one, and what of the work can't be shared out.

usage: python -m benchmarks.cluster, in a project's folder with data/raw

All workers, with one thread each, run on this machine. Processor time, in milliseconds per image:
what the workers need; the scheduler and the process of the stage, measured with functions that do
nothing but give as many bytes; `alone`, what the stage then does by itself. `sent` bytes travel per
image, `files` are read and written. From these the seconds for 100,000 images on 1, 8 and 64
workers: the longest of what workers, scheduler, stage and a shared folder at 1 Gbit/s need at the
same time, and `alone` after it. The last line is a JSON record.
"""

import contextlib
import itertools
import json
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.copies import fingerprint
from stages import audit, preprocess
from stages.common import parallel
from stages.intake import copies
from tests.dask_cluster import Cluster

COUNT, ROUNDS, MANY = 640, 5, 100_000
LINK = 125_000  # bytes per millisecond


@contextlib.contextmanager
def running(workers: int) -> Iterator[Cluster]:
    """A cluster in this folder."""
    with tempfile.TemporaryDirectory() as scratch:
        begun = Cluster(Path.cwd(), Path(scratch))
        try:
            for _ in range(workers):
                begun.add_worker()
            begun.wait_for(workers)
            yield begun
        finally:
            begun.stop()


def milliseconds(process: psutil.Process) -> float:
    """The processor time that a process has used."""
    times = process.cpu_times()
    return 1000 * float(times.user + times.system)


def spent(
    processes: Sequence[psutil.Process], function: Callable[[Any], object], items: Sequence[Any]
) -> list[float]:
    """The processor time per item that each process uses."""
    parallel.each(function, items[:64], "first", anywhere=True)  # imports, once
    before = list(map(milliseconds, processes))
    parallel.each(function, items, "measured", anywhere=True)
    after = map(milliseconds, processes)
    return [(end - begin) / len(items) for begin, end in zip(before, after, strict=True)]


def costs(
    at_work: Cluster, function: Callable[[Any], object], items: Sequence[Any]
) -> dict[str, float]:
    """Per image: processor time of workers, scheduler and this process, and bytes that travel."""
    result = len(pickle.dumps([function(item) for item in items[:64]])) // 64
    two_others = (at_work.scheduler, psutil.Process())
    scheduler, stage = spent(two_others, os.urandom, [result] * 10 * COUNT)
    return {
        "workers": sum(spent(at_work.workers(), function, items)),
        "scheduler": scheduler,
        "stage": stage,
        "sent": len(pickle.dumps(items[:64])) // 64 + result,
    }


def compared(count: int) -> float:
    """Processor time per image of the audit's look for copies, here among random pictures."""
    prints = [fingerprint(number) for number in range(count)]
    names = [str(number) for number in range(count)]
    begun = time.process_time()
    copies.find(names, names, prints)
    return 1000 * (time.process_time() - begun) / count


def predicted(cost: dict[str, float]) -> str:
    """Seconds for MANY images, and from how many workers on more give nothing, and why."""
    others = {
        "scheduler": cost["scheduler"],
        "stage": cost["stage"],
        "shared folder": cost["files"] / LINK,
    }
    longest = max(others, key=lambda name: others[name])
    times = ", ".join(
        f"{MANY * (max(cost['workers'] / workers, others[longest]) + cost['alone']) / 1000:.0f}"
        for workers in (1, 8, 64)
    )
    most = cost["workers"] / others[longest]
    return f"{times} s on 1, 8, 64 workers; more than {most:.0f} wait for the {longest}"


def main() -> None:
    """Measures and prints."""
    paths = sorted(Path("data/raw").glob("*/*/*"))
    sources = list(itertools.islice(itertools.cycle(paths), COUNT))
    ratios = []
    with (
        tempfile.TemporaryDirectory(dir=".dvc/tmp") as scratch,
        running(1) as alone,
        running(2) as both,
    ):
        folder = Path(".dvc/tmp") / Path(scratch).name
        pairs = [(path, folder / f"{number}.png") for number, path in enumerate(sources)]
        for _ in range(1 + ROUNDS):
            seconds = []
            for cluster in (both, alone):
                os.environ |= cluster.environment
                begun = time.perf_counter()
                preprocess.write_images(pairs)
                seconds.append(time.perf_counter() - begun)
            ratios.append(seconds[0] / seconds[1])
        os.environ |= both.environment
        audit.SCRATCH.touch()
        steps = {
            "audit": costs(both, audit.examine, list(enumerate(sources))),
            "preprocess": costs(both, preprocess.write_image, pairs),
        }
        read, written = (
            sum(pair[side].stat().st_size for pair in pairs) / COUNT for side in (0, 1)
        )
        prints = audit.SCRATCH.stat().st_size / COUNT  # written by workers, read by the stage
    steps["audit"] |= {"files": read + 2 * prints, "alone": compared(MANY // 50)}
    steps["preprocess"] |= {"files": read + written, "alone": 0}
    for name, cost in steps.items():
        figures = ", ".join(f"{what} {value:.3g}" for what, value in cost.items())
        print(f"{name}: {figures}; {MANY} images: {predicted(cost)}")
    # in the first round the workers import what they need
    print(json.dumps({"two": statistics.median(ratios[1:])}))


if __name__ == "__main__":
    main()
