"""Trains the network.

Reads `data/processed` (uses "train" and "validation"). Writes `models/classifier.keras`, the same
network as LiteRT in `models/classifier.tflite`, which is what all others run,
`models/classifier.json` (what goes with it: class names, temperature, provenance),
`models/novelty.npz` (what the training images look like), `data/untrained.tflite` (the network
before training),
`metrics/details/train.json`, `metrics/plots/history.json` (a record per epoch), and, for
`dvc metrics show`, accuracy and loss in `metrics/train.json` and `metrics/val.json`.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files, params, stage
from stages.common.errors import InputError
from stages.learning import classifier, dataset, network, novelty, temperature
from stages.learning.settings import Machine, Preprocess, Train

DETAILS = Path("metrics/details/train.json")
HISTORY = Path("metrics/plots/history.json")
METRICS = Path("metrics")
_TOLERANCE = 1e-5  # of a probability


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


def main() -> None:
    """Runs the stage."""
    settings = params.load(Train)
    provenance = {
        "data": dataset.provenance()["data"],
        "protocol": params.load(Preprocess).validation,
    }
    both = dataset.load(["train", "validation"]).unpacked(params.load(Machine).memory_gigabytes)
    train, validation = (
        both.take(np.flatnonzero(both.table["use"] == use)) for use in ("train", "validation")
    )
    network.start(settings.threads, settings.device)
    untrained = network.export(network.untrained(len(train.classes), settings))
    trained, history, kept = network.fit(train, validation, settings, "train")
    exported = network.export(trained)
    metadata = {
        "provenance": provenance,
        "classes": train.classes,
        "threads": settings.threads,
        "temperature": 1.0,  # until it is fitted
        "sha256": hashlib.sha256(exported).hexdigest(),
        "untrained_sha256": hashlib.sha256(untrained).hexdigest(),
    }
    shipped = classifier.Classifier(exported, metadata)
    for images in (train, validation):
        check(shipped, trained, images.pixels)
    probabilities = shipped.probabilities(validation.pixels)
    metadata["temperature"] = temperature.fit(probabilities, validation.labels)
    network.save(trained, network.MODEL)
    for path, content in ((classifier.MODEL, exported), (classifier.UNTRAINED, untrained)):
        with files.atomic_write(path) as partial:
            partial.write_bytes(content)
    files.write_json(classifier.METADATA, metadata)
    novelty.fit(train.pixels, train.table["group"].to_numpy()).save()
    files.write_json(HISTORY, history)
    final = {name: value for name, value in history[kept - 1].items() if name != "epoch"}
    files.write_json(
        DETAILS,
        {
            "provenance": provenance,
            "computed_by": network.computed_by(settings),
            "images": {"train": len(train), "validation": len(validation)},
            "parameters": trained.count_params(),
            "epochs": len(history),
            "kept_epoch": kept,
            **final,
        },
    )
    for name, prefix in (("train", ""), ("val", "val_")):
        numbers = {"acc": final[f"{prefix}accuracy"], "loss": final[f"{prefix}loss"]}
        files.write_metrics(METRICS / f"{name}.json", provenance, numbers)
    print(
        f"{len(train)} images, {len(history)} epochs; the weights are those of epoch {kept}: "
        f"accuracy {final['accuracy']:.4f}, val_accuracy {final['val_accuracy']:.4f}"
    )


if __name__ == "__main__":
    stage.script("train", main, __doc__)
