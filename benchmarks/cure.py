"""Would other radiographs cure it? Half of the external adults is added to the training.

usage: python -m benchmarks.cure [--archive ZIP] [--external ZIP] [--seeds 0 1 2]

The images are those of the zips given, or of the one zip in data/archive/ and in data/external/;
phantoms won't do. The external set has the folders No_findings and Pneumonia, adults from before
the pandemic, whose file names begin with the patient's number (00012141_013.jpg); a folder of its
own class, such as Covid-19, is only judged. Copies of training images are left out.

For every seed the adults are dealt in halves by patient. Before: a network trained on train/.
After: one trained on train/ and one of the halves, No_findings as Normal and Pneumonia as Viral
Pneumonia (of whose pathogen nothing is known); it judges the other half; then the halves are
swapped. Beside the network stand machines on 16 x 16 pixels and on the frame of 10 pixels, trained
on the same images: what they learn, too, is told by where a radiograph comes from. "Answered" are
those that stages/learning/novelty.py, fitted on the same images, does not refuse.

The recipe is that of params.yaml. Three trainings per seed, of which two on three times as many
images: four minutes on two idle cores. Prints a table in Markdown, and what it does not show.
"""

import argparse
import contextlib
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks import judges, tables
from benchmarks.scratch import given_zip, project, run
from stages import external
from stages.common import files, parallel, params, stage
from stages.intake import decode
from stages.judging import scores
from stages.learning import dataset, novelty, splits

ADDED = {"No_findings": "Normal", "Pneumonia": "Viral Pneumonia"}
"""What the adults of each folder are added as."""
ADULT = "adults"
"""The `use` of images that may be added."""
ELSEWHERE = "elsewhere"
"""The `use` of external images that are only judged."""
FRAME = 10
COVID = "Covid"


def patients(names: Sequence[str]) -> np.ndarray:
    """A number for the patient of each file, int64, (n,): the digits that its name begins with.

    A file without them is a patient of its own.
    """
    keys = [found[1] if (found := re.match(r"(\d+)_", name)) else f"file {name}" for name in names]
    return np.asarray(np.unique(keys, return_inverse=True)[1], np.int64)


def halves(table: pd.DataFrame, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The adults in two halves, no patient in both, each folder in both; and the halves swapped.

    Args:
        table: One row per image.
        seed: Deals.

    Returns:
        Twice the positions (int64) of those to add and of those to judge.
    """
    adults = np.flatnonzero(table["use"] == ADULT)
    rows = table.iloc[adults]
    dealt = splits.folds(rows["source"].tolist(), rows["group"].tolist(), 2, seed)
    return [(adults[added], adults[judged]) for added, judged in dealt]


def joined(images: dataset.Images, paths: Sequence[Path], shows: dict[str, str]) -> dataset.Images:
    """The project's images and, after them, the external ones, whose folder is their `source`.

    Args:
        images: Their pixels in memory.
        paths: <folder>/<image>, n of them.
        shows: The class of each folder.
    """
    first = int(images.table["group"].max()) + 1
    folders = [path.parent.name for path in paths]
    numbers = first + patients([path.name for path in paths])
    rows = pd.DataFrame(
        {
            "file": [path.name for path in paths],
            "path": [f"external/{path.parent.name}/{path.name}" for path in paths],
            "use": [ADULT if folder in ADDED else ELSEWHERE for folder in folders],
            "class": [shows[folder] for folder in folders],
            "radiograph": first + np.arange(len(paths)),
            "group": numbers,
            "leaked": False,
            "source": folders,
            "label": "unknown",
        }
    )
    pixels = parallel.each(
        lambda path: np.asarray(decode.resized(path, dataset.SIZE)), paths, "external"
    )
    labels = [images.classes.index(name) for name in rows["class"]]
    return dataset.Images(
        np.concatenate([images.pixels[:], np.array(pixels)]),
        np.concatenate([images.labels, np.array(labels, np.int64)]),
        images.classes,
        pd.concat([images.table, rows], ignore_index=True),
    )


def everything() -> dataset.Images:
    """All images of train/ and test/ and of the external set, where `preprocess` has run."""
    images, settings = judges.everything(), params.load_all()
    mapping = settings.external.classes | ADDED
    with files.scratch(external.SCRATCH):
        fetched = external.fetch(mapping, settings.download, images.classes, phantoms=False)
        assert fetched is not None  # `project` has put the zip there
        _, shows = fetched
        missing = sorted(set(ADDED) - set(shows))
        if missing:
            sys.exit(
                f"cure: found no folder {missing[0]!r} in the external set, expected "
                f"{' and '.join(ADDED)}, as in NIH ChestX-ray8. Name such a zip with --external."
            )
        kept, copied, _ = external.without_copies(sorted(external.SCRATCH.glob("*/*")))
        of_classes = [path for path in kept if shows[path.parent.name] in images.classes]
        print(f"External set: {len(copied)} copies of training images left out\n")
        return joined(images, of_classes, shows)


@dataclass(frozen=True)
class Judged:
    """What became of the judged images of one training.

    Attributes:
        rows: Their rows in the table, (m,).
        called: The class that each judge takes them for, str, (m,), by its name.
        refused: bool, (m,).
    """

    rows: pd.DataFrame
    called: dict[str, np.ndarray]
    refused: np.ndarray


def judged_after(
    images: dataset.Images, train: np.ndarray, judged: np.ndarray, seed: int
) -> Judged:
    """Trains on the one, int64, positions, and judges the other."""
    named = np.array(images.classes)
    predicted = judges.judge(images, train, judged, seed, [FRAME])
    learnt = images.take(train)
    look = novelty.fit(learnt.pixels, learnt.table["group"].to_numpy())
    return Judged(
        images.table.iloc[judged],
        {name: named[labels] for name, labels in predicted.items()},
        look.refused(images.pixels[judged]),
    )


def trials(images: dataset.Images, seed: int) -> tuple[list[Judged], list[Judged]]:
    """Before and after the adults are added: for each half of them what the judged came to."""
    use = images.table["use"].to_numpy()
    train = np.flatnonzero(np.isin(use, ["train", "validation"]))
    others = np.flatnonzero(np.isin(use, ["test", ELSEWHERE]))
    dealt = halves(images.table, seed)
    adults = np.concatenate([judged for _, judged in dealt])
    both = judged_after(images, train, np.concatenate([adults, others]), seed)
    before, after = [], []
    for added, judged in dealt:
        chosen = np.isin(both.rows.index, np.concatenate([judged, others]))
        called = {name: labels[chosen] for name, labels in both.called.items()}
        before.append(Judged(both.rows[chosen], called, both.refused[chosen]))
        wider = np.concatenate([train, added])
        after.append(judged_after(images, wider, np.concatenate([judged, others]), seed))
    return before, after


def outcomes(judged: Judged) -> pd.DataFrame:
    """The rows of the judged images with what may be counted of them, all of it bool.

    `clean` (counts on test/ without leaks), `refused`, and for each judge `<judge>: right`,
    `<judge>: Covid` and `<judge>: Covid, answered`.
    """
    rows = judged.rows
    test = np.flatnonzero(rows["use"] == "test")
    of_test = rows.iloc[test]
    clean = np.zeros(len(rows), bool)
    clean[
        test[scores.leak_free(of_test["radiograph"].to_numpy(), of_test["leaked"].to_numpy())]
    ] = True
    counted = {"clean": clean, "refused": judged.refused}
    for name, called in judged.called.items():
        covid = called == COVID
        counted[f"{name}: right"] = called == rows["class"].to_numpy()
        counted[f"{name}: {COVID}"] = covid
        counted[f"{name}: {COVID}, answered"] = covid & ~judged.refused
    return rows.assign(**counted)


def share(tried: Sequence[pd.DataFrame], which: str, counted: str) -> str:
    """The share of some images that count: mean, range over the trainings, Wilson's interval.

    An image that several trainings judged counts in the interval with its mean.

    Args:
        tried: What `outcomes` gives of each training.
        which: The images that are meant, as pandas' `query` takes it.
        counted: The column that says which of them count.
    """
    parts = [table.query(which) for table in tried]
    images = pd.concat(parts).groupby("path").agg({counted: "mean", "group": "first"})
    low, high = scores.proportion_interval(images[counted].to_numpy(), images["group"].to_numpy())
    shares = [float(part[counted].mean()) for part in parts]
    return f"{tables.spread(shares)} {tables.interval(low, high)} of {len(images):,}"


def column(judged: Sequence[Judged]) -> dict[str, str]:
    """The cells of one column, before or after, from what became of each training."""
    tried = [outcomes(each) for each in judged]
    adults, test, clean = f"use == '{ADULT}'", "use == 'test'", "clean"
    right = f"{judges.NETWORK}: right"
    wanted = {
        f"adults called {COVID}": (adults, f"{judges.NETWORK}: {COVID}"),
        f"adults called {COVID} and not refused": (adults, f"{judges.NETWORK}: {COVID}, answered"),
        "adults refused": (adults, "refused"),
        **{
            f"{folder} called {name}": (f"source == '{folder}'", right)
            for folder, name in ADDED.items()
        },
        "test/": (test, right),
        "test/ without leaks": (clean, right),
        f"{COVID} found, test/": (f"{test} and `class` == '{COVID}'", right),
        f"{COVID} found, test/ without leaks": (f"{clean} and `class` == '{COVID}'", right),
        "test/ refused": (test, "refused"),
    }
    for source in sorted(set(tried[0].query(f"use == '{ELSEWHERE}'")["source"])):
        wanted[f"{source} (external) called by its class"] = (f"source == '{source}'", right)
    for name in judged[0].called:
        if name != judges.NETWORK:
            wanted[f"{name}: adults called {COVID}"] = (adults, f"{name}: {COVID}")
            wanted[f"{name}: test/ without leaks"] = (clean, f"{name}: right")
    return {row: share(tried, which, counted) for row, (which, counted) in wanted.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--archive", type=Path, metavar="ZIP")
    parser.add_argument("--external", type=Path, metavar="ZIP")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen = parser.parse_args()
    archive = given_zip(chosen.archive, "data/archive")
    outside = given_zip(chosen.external, "data/external")
    if archive is None or outside is None:
        parser.error(
            "expected a zip of the real radiographs and one of adults from elsewhere, since "
            "phantoms won't do: --archive ZIP --external ZIP, see docs/development.md"
        )
    print(f"Images: {archive.name}; external: {outside.name}; seeds {chosen.seeds}")
    with tempfile.TemporaryDirectory() as scratch:
        here = project(Path(scratch), archive, {}, outside)
        run("dvc", "repro", "preprocess", folder=here)
        with contextlib.chdir(here):
            images = everything()
            done = [trials(images, seed) for seed in tqdm(chosen.seeds, "cure", disable=None)]
    before, after = ([each for sides in done for each in sides[which]] for which in (0, 1))
    what = "share: mean (range over seeds and halves) [95 % interval] of images"
    print(tables.markdown(what, {"before": column(before), "after": column(after)}))
    print(
        "\nAfter the cure every adult from elsewhere that is not Covid comes from one collection, "
        "and every Covid image from others: what tells the collections apart still tells the "
        "class. Where the machine on the frame is cured as well, no lung was needed for it. And "
        "nothing is known of adults from a third hospital, nor of Covid from the one that was "
        "added."
    )


if __name__ == "__main__":
    stage.guarded("cure", main)
