"""Cross-validation: how good is the recipe on radiographs that it has not seen?

Reads `data/processed`: the images of train/ alone, never those of test/. Writes
`metrics/details/crossvalidate.json`: for every seed and fold the probabilities of each image in
the fold, by a network that was trained without it.

Folds are grouped and stratified. Each network is trained as the one that ships. Where the recipe
stops early, a further share of the images outside the fold is held out for that, whatever its
validation, so that the fold is not seen before it is judged.

A finished fold is kept in `.dvc/tmp/folds/` under the hash of all that it depends on: another
seed, or a run after a kill, trains only the folds that are missing.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.common import files, parallel, params, stage
from stages.learning import dataset, network, splits
from stages.learning.settings import Crossvalidate, Machine, Preprocess, Training

DETAILS = Path("metrics/details/crossvalidate.json")
KEPT = Path(".dvc/tmp/folds")


def parts(
    images: dataset.Images, folds: int, share: float | None, seed: int, fold: int
) -> tuple[dataset.Images, dataset.Images | None, dataset.Images]:
    """The images to train on, to stop by and to judge by.

    Args:
        images: All images of train/.
        folds: How many.
        share: Of the images outside the fold, which is held out for early stopping; or None.
        seed: Deals the folds.
        fold: From 1.

    Raises:
        InputError: A class is too small to be dealt.
    """
    labels = images.table["class"].tolist()
    groups = images.table["group"].tolist()
    outside, inside = list(splits.folds(labels, groups, folds, seed))[fold - 1]
    if share is None:
        return images.take(outside), None, images.take(inside)
    kept, held_out = splits.hold_out(
        [labels[position] for position in outside],
        [groups[position] for position in outside],
        share,
        seed,
    )
    return images.take(outside[kept]), images.take(outside[held_out]), images.take(inside)


def run_fold(
    images: dataset.Images, folds: int, share: float, training: Training, fold: int
) -> dict[str, Any]:
    """Trains a network and lets it judge one fold; gives the fold's record.

    Args:
        images: All images of train/.
        folds: How many.
        share: For early stopping, see `parts`; of no matter where the recipe has none.
        training: Whose seed deals the folds, too.
        fold: From 1.
    """
    held_out = None if training.validation == "none" else share
    train, validation, judged = parts(images, folds, held_out, training.seed, fold)
    label = f"seed {training.seed} fold {fold}"
    trained, history, kept = network.fit(train, validation, training, label)
    probabilities = network.probabilities(trained, judged.pixels)
    return {
        "seed": training.seed,
        "fold": fold,
        "epochs": len(history),
        "kept_epoch": kept,
        "trained_on": len(train),
        "computed_by": network.computed_by(training),
        "predictions": dataset.prediction_records(judged, probabilities),
    }


def inputs_hash() -> str:
    """SHA-256 of the files that this stage depends on by dvc.yaml: code, images, libraries."""
    stages = YAML(typ="safe").load(Path("dvc.yaml"))["stages"]
    digest = hashlib.sha256()
    for dependency in map(Path, stages["crossvalidate"]["deps"]):
        of = files.sha256_of_code if dependency.is_dir() else files.sha256_of
        digest.update(f"{dependency} {of(dependency)}\n".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _images(inputs: str, protocol: str) -> dataset.Images:
    """All images of train/. `inputs`, which has their hash in it, tells them from earlier ones."""
    del inputs
    images = dataset.load(dataset.uses_of_train(protocol))
    return images.unpacked(params.load(Machine).memory_gigabytes)


def kept_or_trained(task: tuple[str, int, int, float, Training]) -> tuple[str, dict[str, Any]]:
    """How a fold's record came about, and the record, which is kept as soon as it is there.

    Args:
        task: What `inputs_hash` gives; the fold, from 1; how many; the share for early stopping;
            the recipe, with the seed that deals the folds, too.
    """
    inputs, fold, folds, share, training = task
    depends_on = f"{inputs} {training!r} {share} {fold} of {folds}"
    kept = KEPT / f"{hashlib.sha256(depends_on.encode()).hexdigest()}.json"
    how = "kept from an earlier run" if kept.exists() else "trained"
    if not kept.exists():
        images = _images(inputs, training.validation)
        network.start(training.threads, training.device)
        files.write_json(kept, run_fold(images, folds, share, training, fold))
    return how, files.read_json(kept, "crossvalidate")


def main() -> None:
    """Runs the stage."""
    settings, share = params.load(Crossvalidate), params.load(Preprocess).validation_share
    training, inputs = params.load(Training), inputs_hash()
    tasks = [
        (inputs, fold, settings.folds, share, training.model_copy(update={"seed": seed}))
        for seed in settings.seeds
        for fold in range(1, settings.folds + 1)
    ]
    records = []
    for how, record in parallel.ahead(kept_or_trained, tasks, threads=0, anywhere=True):
        seed, fold, epochs = record["seed"], record["fold"], record["epochs"]
        print(f"seed {seed} fold {fold}: {how}, {epochs} epochs", flush=True)
        records.append(record)
    provenance = {
        "data": dataset.provenance()["data"],
        "protocol": training.validation,
        "recipe": training.recipe,
    }
    files.write_json(DETAILS, {"provenance": provenance, "folds": records})


if __name__ == "__main__":
    stage.script("crossvalidate", main, __doc__)
