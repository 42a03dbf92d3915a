"""Is a class known by its look or by its source? One source of it is left out of the training.

usage: python -m benchmarks.sources [--archive ZIP] [--seeds 0 1 2]

The images are those of the zip given, or of the one zip in data/archive/, or else phantoms, of
train/ and test/ alike, since nothing is chosen by them. Of every class that has several sources
(with ten groups or more each) the images of one source are judged, once per radiograph,

- by networks that never saw the source: trained on everything else, but for images whose copy or
  patient is among those judged;
- by networks that saw others of it: the images of the source are dealt in halves by group, and each
  half is judged by a network that was trained with the other one. From its training images of the
  class some are drawn away at random, so that it has as many of them as the first network.

The recipe is that of params.yaml; beside it a support vector machine on 16 x 16 pixels. The seed is
that of the deal, of what is drawn away and of training. Prints the sensitivities as a table in
Markdown. Three trainings per source and seed, half a minute each on two idle cores.
"""

import argparse
import contextlib
import itertools
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks import judges, tables
from benchmarks.scratch import given_zip, project, run
from stages.common import stage
from stages.judging import comparison, scores
from stages.learning import dataset, splits

FEWEST = 10
"""Groups of a source; with fewer the interval would be nearly as wide as can be."""


@dataclass(frozen=True)
class Task:
    """One training: the positions (int64) of the images to train on and of those to judge."""

    saw_others: bool
    train: np.ndarray
    judged: np.ndarray


@dataclass(frozen=True)
class Found:
    """What one seed gave: which radiographs were judged right, bool, (n,), by networks that...

    Attributes:
        never: ...never saw the source.
        saw: ...saw others of it.
        groups: int64, (n,).
    """

    never: np.ndarray
    saw: np.ndarray
    groups: np.ndarray


def several(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Class and source wherever a class has several sources of FEWEST groups or more.

    Args:
        table: One row per image, see `dataset.Images`.
    """
    known = table[table["source"] != ""]
    groups = known.groupby(["class", "source"])["group"].nunique()
    enough = groups[groups >= FEWEST].reset_index()
    return [
        (name, source)
        for name, of_class in enough.groupby("class")
        if len(of_class) > 1
        for source in of_class["source"]
    ]


def drawn_down(
    table: pd.DataFrame, train: np.ndarray, name: str, most: int, seed: int
) -> np.ndarray:
    """Training images of which at most so many are of a class; groups go as a whole.

    Args:
        table: One row per image.
        train: int64, positions.
        name: The class that is too frequent.
        most: How many images of it may stay.
        seed: Draws which.

    Returns:
        int64, positions in the order of `train`.
    """
    of_class = table.iloc[train]["class"].to_numpy() == name
    groups = table["group"].to_numpy()[train]
    kept = ~of_class
    for group in np.random.default_rng(seed).permutation(np.unique(groups[of_class])):
        more = of_class & (groups == group)
        if (kept & of_class).sum() + more.sum() <= most:
            kept |= more
    return np.asarray(train[kept])


def tasks(table: pd.DataFrame, name: str, source: str, seed: int) -> list[Task]:
    """The trainings for one source of a class: one without the source, two with half of it."""
    groups = table["group"].to_numpy()
    of_class = (table["class"] == name).to_numpy()
    left_out = of_class & (table["source"] == source).to_numpy()
    judged = np.flatnonzero(left_out & ~(table["radiograph"].where(left_out)).duplicated())
    without = judges.strangers(groups, np.flatnonzero(left_out))
    found = [Task(False, without, judged)]
    labels, dealt = [name] * len(judged), groups[judged].tolist()
    for _, inside in splits.folds(labels, dealt, 2, seed):
        half = judged[inside]
        others = judges.strangers(groups, half)
        train = drawn_down(table, others, name, int(of_class[without].sum()), seed)
        found.append(Task(True, train, half))
    return found


def measured(images: dataset.Images, name: str, source: str, seed: int) -> dict[str, Found]:
    """What each judge makes of one source of a class under one seed."""
    right: dict[tuple[str, bool], np.ndarray] = {}
    planned = tasks(images.table, name, source, seed)
    judged = planned[0].judged
    for task in planned:
        at = np.searchsorted(judged, task.judged)
        for judge, predicted in judges.judge(images, task.train, task.judged, seed).items():
            of_all = right.setdefault((judge, task.saw_others), np.zeros(len(judged), bool))
            of_all[at] = predicted == images.labels[task.judged]
    groups = images.table["group"].to_numpy()[judged]
    return {
        judge: Found(right[judge, False], right[judge, True], groups)
        for judge in dict.fromkeys(judge for judge, _ in right)
    }


def sensitivity(right: Sequence[np.ndarray], groups: np.ndarray) -> str:
    """Mean and range over the seeds, and Wilson's interval of the mean."""
    low, high = scores.proportion_interval(np.mean(right, axis=0), groups)
    return f"{tables.spread([each.mean() for each in right])} {tables.interval(low, high)}"


def cells(found: Sequence[Found]) -> dict[str, str]:
    """One judge's sensitivities for one source, over the seeds."""
    paired = sorted(
        (comparison.paired(each.never, each.saw, each.groups) for each in found),
        key=lambda each: each["difference"],
    )
    median = paired[len(paired) // 2]
    low, high = median["difference_low"], median["difference_high"]
    differences = [each["difference"] for each in paired]
    groups = found[0].groups
    return {
        "never saw the source": sensitivity([each.never for each in found], groups),
        "saw others of it": sensitivity([each.saw for each in found], groups),
        "difference": f"{tables.spread(differences, '+')} {tables.interval(low, high, '+')}",
    }


def table_of(found: Mapping[tuple[str, str, str], Sequence[Found]]) -> str:
    """The table in Markdown; the keys are class, source and judge."""
    columns: dict[str, dict[str, str]] = {}
    for (name, source, judge), seeds in found.items():
        of = f"{len(seeds[0].never)} radiographs, {len(np.unique(seeds[0].groups))} groups"
        row = f"{name} of {source} ({of}): {judge}"
        for column, cell in cells(seeds).items():
            columns.setdefault(column, {})[row] = cell
    return tables.markdown("sensitivity for", columns)


def meaning(found: Mapping[tuple[str, str, str], Sequence[Found]]) -> str:
    """What the network's differences come to, a sentence for each source."""
    lines = []
    for (name, source, judge), seeds in found.items():
        if judge != judges.NETWORK:
            continue
        never, saw = (
            statistics.mean(float(each.mean()) for each in side)
            for side in ([one.never for one in seeds], [one.saw for one in seeds])
        )
        highs = [
            comparison.paired(each.never, each.saw, each.groups)["difference_high"]
            for each in seeds
        ]
        lower = sum(high < 0 for high in highs)
        lines.append(
            f"- {name}: of {source}, {never:.0%} are found without and {saw:.0%} with others of "
            f"this source in the training; the whole interval of the difference is below 0 in "
            f"{lower} of {len(seeds)} seeds."
        )
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sources",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--archive", type=Path, metavar="ZIP")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen = parser.parse_args()
    archive = given_zip(chosen.archive, "data/archive")
    print(f"Images: {archive.name if archive else 'phantoms'}; seeds {chosen.seeds}\n")
    found: dict[tuple[str, str, str], list[Found]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        here = project(Path(scratch), archive, {})
        run("dvc", "repro", "preprocess", folder=here)
        with contextlib.chdir(here):
            images = judges.everything()
            planned = several(images.table)
            if not planned:
                sys.exit(
                    "sources: found no class with images of two sources, expected one with at "
                    f"least {FEWEST} groups of each. Name a table of records that knows the "
                    "sources, see audit.records in params.yaml."
                )
            parts = list(itertools.product(chosen.seeds, planned))
            for seed, (name, source) in tqdm(parts, "sources", unit="source", disable=None):
                for judge, one in measured(images, name, source, seed).items():
                    found.setdefault((name, source, judge), []).append(one)
    print(f"{table_of(found)}\n")
    print(
        "Mean (range) over the seeds [95 % interval: Wilson's of the mean; of the difference "
        "Newcombe's, for the seed in the middle]. What falls is what the source alone had told.\n"
    )
    print(meaning(found))


if __name__ == "__main__":
    stage.guarded("sources", main)
