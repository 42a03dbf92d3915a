"""Trains the network.

Reads `data/processed` (uses "train" and, where the recipe stops early, "validation"). Writes
`models/classifier.keras`, the same network as LiteRT in `models/classifier.tflite`, which is what
all others run, `models/classifier.json` (what goes with it: class names, provenance),
`data/untrained.tflite` (the network before training), `metrics/details/train.json`,
`metrics/plots/history.json` (accuracy and loss by epoch, of the training and of the validation
images), and, for `dvc metrics show`, those of the epoch whose weights are kept, in
`metrics/train.json`.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files, params, stage
from stages.common.errors import InputError
from stages.learning import classifier, dataset, network
from stages.learning.settings import Machine, Training

DETAILS = Path("metrics/details/train.json")
HISTORY = Path("metrics/plots/history.json")
METRICS = Path("metrics/train.json")
_TOLERANCE = 1e-5  # of a probability
_CHECKED = 128  # images, evenly spread: all of a large set would take as long as an epoch


def check(shipped: classifier.Classifier, trained: Any, pixels: dataset.Pixels) -> None:
    """Raises InputError unless LiteRT and Keras say the same of uint8 images (n, SIZE, SIZE, 3)."""
    ours, theirs = shipped.probabilities(pixels), network.probabilities(trained, pixels)
    most = abs(ours - theirs).max()
    others = (ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()
    if most > _TOLERANCE or others:
        raise InputError(
            f"{classifier.MODEL}: found probabilities that differ from the trained network's by up "
            f"to {most:.1g}, and another class for {others} of {len(pixels)} images; expected at "
            f"most {_TOLERANCE} and none. LiteRT and TensorFlow don't fit each other: install what "
            "requirements.txt names (`make setup`), then run `dvc repro train`."
        )


def curves(history: list[dict[str, float]]) -> list[dict[str, float | str]]:
    """A record per epoch and kind of images: `epoch`, `images`, `accuracy`, `loss`.

    Args:
        history: As from `network.fit`. `images` is "training" or "validation".
    """
    return [
        {
            "epoch": record["epoch"],
            "images": images,
            "accuracy": record[f"{prefix}accuracy"],
            "loss": record[f"{prefix}loss"],
        }
        for images, prefix in (("training", ""), ("validation", "val_"))
        for record in history
        if f"{prefix}loss" in record
    ]


def main() -> None:
    """Runs the stage."""
    settings = params.load(Training)
    provenance = {
        "data": dataset.provenance()["data"],
        "protocol": settings.validation,
        "recipe": settings.recipe,
    }
    every = dataset.load(["train", "validation"]).unpacked(params.load(Machine).memory_gigabytes)
    train, rest = (
        every.take(np.flatnonzero(every.table["use"] == use)) for use in ("train", "validation")
    )
    validation = None if settings.validation == "none" else rest
    network.start(settings.threads, settings.device)
    untrained = network.export(network.untrained(len(train.classes), settings))
    trained, history, kept = network.fit(train, validation, settings, "train")
    exported = network.export(trained)
    metadata = {
        "provenance": provenance,
        "classes": train.classes,
        "threads": settings.threads,
        "sha256": hashlib.sha256(exported).hexdigest(),
        "untrained_sha256": hashlib.sha256(untrained).hexdigest(),
    }
    shipped = classifier.Classifier(exported, metadata)
    check(shipped, trained, every.pixels[:: -(-len(every) // _CHECKED)])
    network.save(trained, network.MODEL)
    for path, content in ((classifier.MODEL, exported), (classifier.UNTRAINED, untrained)):
        with files.atomic_write(path) as partial:
            partial.write_bytes(content)
    files.write_json(classifier.METADATA, metadata)
    files.write_json(HISTORY, curves(history))
    final = {name: value for name, value in history[kept - 1].items() if name != "epoch"}
    files.write_json(
        DETAILS,
        {
            "provenance": provenance,
            "computed_by": network.computed_by(settings),
            "images": {"train": len(train), "validation": len(rest)},
            "parameters": trained.count_params(),
            "epochs": len(history),
            "kept_epoch": kept,
            **final,
        },
    )
    numbers = {name.replace("accuracy", "acc"): value for name, value in final.items()}
    files.write_metrics(METRICS, provenance, numbers)
    print(
        f"{len(train)} images, {len(history)} epochs; the weights are those of epoch {kept}: "
        + ", ".join(f"{name} {value:.4f}" for name, value in final.items())
    )


if __name__ == "__main__":
    stage.script("train", main, __doc__)
