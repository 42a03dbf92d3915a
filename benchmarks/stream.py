"""Training on images that are not kept in memory: how much memory it takes, and how long.

usage: python -m benchmarks.stream fold | epoch, in a folder that `multiply` has made

`fold` trains and judges one fold of the cross-validation. `epoch` prints a JSON record: `memory`
and `disk`, the seconds of one epoch with the decoded images in memory and on disk (the least of
some, taken in turn in one process).
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scratch import set_params
from stages import crossvalidate
from stages.common import params
from stages.learning import dataset, network
from stages.learning.settings import Crossvalidate, Machine, Preprocess, Training

SETTINGS = {
    "crossvalidate.folds": 3,
    "train.recipe": "holdout",
    "recipes.holdout.epochs": 1,
    "recipes.holdout.patience": 1,
}
SHORT, LONG, ROUNDS = 1, 3, 3


def multiply(source: Path, target: Path, count: int) -> None:
    """Makes a project of so many preprocessed images, hard links to those of another project.

    Two thirds of them are for training, a sixth each for early stopping and for testing; each
    counts as a radiograph of its own. The network is that of the other project.
    """
    for name in ("dvc.yaml", "params.yaml"):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, target)
    shutil.copytree(source / "models", target / "models")
    set_params(target, SETTINGS)
    table = dataset.read_index(source / dataset.PROCESSED)
    table = table.iloc[np.arange(count) % len(table)].reset_index(drop=True)
    old = table["file"]
    uses = np.array(["train"] * 4 + ["validation", "test"])
    table = table.assign(
        file=[f"{number}.png" for number in range(count)],
        path=[f"train/{number}.png" for number in range(count)],
        use=uses[np.arange(count) // len(set(old)) % len(uses)],
        radiograph=np.arange(count),
        group=np.arange(count),
        leaked="no",
    )
    processed = target / dataset.PROCESSED
    processed.mkdir(parents=True)
    for made, new in zip(old, table["file"], strict=True):
        os.link(source / dataset.PROCESSED / made, processed / new)
    table.to_csv(processed / "index.csv", index=False)
    shutil.copy(source / dataset.PROCESSED / "provenance.json", processed)


def fold() -> None:
    """One fold, as `crossvalidate` runs it."""
    settings, training = params.load(Crossvalidate), params.load(Training)
    images = dataset.load(["train", "validation"]).unpacked(params.load(Machine).memory_gigabytes)
    network.start(training.threads, training.device)
    share = params.load(Preprocess).validation_share
    crossvalidate.run_fold(images, settings.folds, share, training, 1)


def epoch() -> None:
    """Measures and prints."""
    settings = params.load(Training)
    network.start(settings.threads, settings.device)
    sets: dict[str, Any] = {
        name: [dataset.load([use]).unpacked(gigabytes) for use in ("train", "validation")]
        for name, gigabytes in (("memory", 1000), ("disk", 0))
    }
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for epochs in (SHORT, LONG):
            update = {"epochs": epochs, "patience": epochs}
            for name, (images, validation) in sets.items():
                begun = time.perf_counter()
                network.fit(images, validation, settings.model_copy(update=update), name)
                seconds.setdefault((name, epochs), []).append(time.perf_counter() - begun)
    least = {which: min(spent) for which, spent in seconds.items()}
    # the difference leaves out building and tracing
    print(json.dumps({n: (least[n, LONG] - least[n, SHORT]) / (LONG - SHORT) for n in sets}))


if __name__ == "__main__":
    {"fold": fold, "epoch": epoch}[sys.argv[1]]()
