"""What is told from chest radiographs, and how many of these are refused with it.

usage: python -m benchmarks.novelty [--archive ZIP] [--external ZIP]

The images are those of the zip given, or of the one zip in data/archive/, or else phantoms; the
external set likewise, from data/external/. Fits as `calibrate` does, on the images of train/.
Prints the false refusals (by class of the test images but for those that leak, by
folder of the external set but for copies of training images) and the misses (of radiographs that
were changed, of pictures from elsewhere by kind), each with Wilson's 95 % interval. That takes
pictures for independent, which the quarters of a photograph are not. Takes a minute or two.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import foreign_pictures
from benchmarks.scratch import given_zip, project, run
from stages import external
from stages.common import parallel, params
from stages.intake import decode
from stages.judging import scores
from stages.learning import dataset, novelty


def line(what: str, counted: np.ndarray) -> None:
    """Prints how many of the pictures count (bool, (n,)), as a row of the table."""
    count, low_high = int(counted.sum()), scores.wilson(counted.sum(), len(counted))
    interval = ", ".join(f"{limit:.3f}" for limit in low_high)
    print(f"  {what:<36}{count:4} of {len(counted):4}   {counted.mean():.3f} [{interval}]")


def external_set(classes: Sequence[str]) -> dict[str, np.ndarray]:
    """The external set without copies of training images, by folder: uint8, (n, SIZE, SIZE, 3)."""
    settings = params.load_all(Path("params.yaml"))
    phantoms = settings.download.source == "phantom"
    if external.fetch(settings.external.classes, settings.download, classes, phantoms) is None:
        return {}
    paths, copied, _ = external.without_copies(sorted(external.SCRATCH.glob("*/*")))
    print(f"external set: {len(copied)} copies of training images left out")
    pixels = parallel.each(
        lambda path: np.asarray(decode.resized(path, dataset.SIZE)), paths, "external"
    )
    folders = np.array([path.parent.name for path in paths])
    return {name: np.array(pixels)[folders == name] for name in sorted(set(folders))}


def measure() -> None:
    """Fits, and prints the table, where `preprocess` has run."""
    train = dataset.load(["train", "validation"])
    judge = novelty.fit(train.pixels, train.table["group"].to_numpy())
    fresh = dataset.load(["test"])
    fresh = fresh.take(np.flatnonzero(~fresh.table["leaked"]))
    elsewhere = external_set(train.classes)
    print(f"fitted on {len(train)} training images; refused of other chest radiographs")
    for (use, name), rows in fresh.table.groupby(["use", "class"], sort=False):
        line(f"{use}, {name}", judge.refused(fresh.pixels[rows.index]))
    for name, pixels in elsewhere.items():
        line(f"external, {name}", judge.refused(pixels))
    print("not refused of what is none, or is not as it should be")
    for kind, pixels in (
        foreign_pictures.changed(fresh.pixels[:]) | foreign_pictures.all_kinds()
    ).items():
        line(kind, ~judge.refused(pixels))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.novelty",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--archive", type=Path, metavar="ZIP")
    parser.add_argument("--external", type=Path, metavar="ZIP")
    chosen = parser.parse_args()
    archive = given_zip(chosen.archive, "data/archive")
    outside = given_zip(chosen.external, "data/external")
    with tempfile.TemporaryDirectory() as scratch:
        here = project(Path(scratch), archive, {}, outside)
        run("dvc", "repro", "preprocess", folder=here)
        with contextlib.chdir(here):
            measure()


if __name__ == "__main__":
    main()
