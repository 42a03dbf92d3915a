"""Trains the network.

Reads `data/processed` (uses "train" and "validation"). Writes `models/classifier.keras`,
`models/classifier.json` (what `predict` needs beside the network: class names, temperature,
provenance), `models/novelty.npz` (what the training images look like),
`metrics/details/train.json`, `metrics/plots/history.json` (a record per epoch), and, for
`dvc metrics show`, accuracy and loss in `metrics/train.json` and `metrics/val.json`.
"""

from pathlib import Path

from stages.common import files, params, stage
from stages.learning import dataset, network, novelty, temperature
from stages.learning.settings import Preprocess, Train

DETAILS = Path("metrics/details/train.json")
HISTORY = Path("metrics/plots/history.json")
METRICS = Path("metrics")


def main() -> None:
    """Runs the stage."""
    settings = params.load(Train)
    provenance = {
        "data": dataset.provenance()["data"],
        "protocol": params.load(Preprocess).validation,
    }
    train, validation = dataset.load(["train"]), dataset.load(["validation"])
    network.start(settings.threads)
    trained, history, kept = network.fit(train, validation, settings, "train")
    probabilities = network.probabilities(trained, validation.pixels)
    network.save(trained, network.MODEL)
    novelty.fit(train.pixels, train.table["group"].to_numpy()).save()
    files.write_json(
        network.METADATA,
        {
            "provenance": provenance,
            "classes": train.classes,
            "threads": settings.threads,
            "temperature": temperature.fit(probabilities, validation.labels),
        },
    )
    files.write_json(HISTORY, history)
    final = {name: value for name, value in history[kept - 1].items() if name != "epoch"}
    files.write_json(
        DETAILS,
        {
            "provenance": provenance,
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
