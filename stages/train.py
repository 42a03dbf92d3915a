"""Trains the network.

Reads `data/processed` (uses "train" and "validation"). Writes `models/classifier.keras`,
`models/classifier.json` (what `predict` needs beside the network: class names, temperature,
provenance), `metrics/train.json` (the original's four figures) and `metrics/history.json` (a
record an epoch).
"""

from pathlib import Path

from stages.common import calibration, dataset, files, network, params, provenance, stage

METRICS = Path("metrics/train.json")
HISTORY = Path("metrics/history.json")


def main() -> None:
    """Runs the stage."""
    settings = params.load()
    origin = provenance.read()
    train, validation = dataset.load(["train"]), dataset.load(["validation"])
    network.start(settings.train.seed, settings.train.threads)
    trained, history, kept = network.fit(train, validation, settings.train, "train")
    said = network.probabilities(trained, validation.pixels)
    where = {"data": origin["data"], "protocol": settings.preprocess.validation}
    network.save(trained, network.MODEL)
    files.write_json(
        network.COMPANION,
        {
            "provenance": where,
            "classes": train.classes,
            "threads": settings.train.threads,
            "temperature": calibration.fit_temperature(said, validation.labels),
        },
    )
    files.write_json(HISTORY, history)
    final = {name: value for name, value in history[kept - 1].items() if name != "epoch"}
    files.write_json(
        METRICS,
        {
            "provenance": where,
            "images": {"train": len(train), "validation": len(validation)},
            "parameters": trained.count_params(),
            "epochs": len(history),
            "kept_epoch": kept,
            **final,
        },
    )
    print(
        f"{len(train)} images, {len(history)} epochs; the weights are those of epoch {kept}: "
        f"accuracy {final['accuracy']:.4f}, val_accuracy {final['val_accuracy']:.4f}"
    )


if __name__ == "__main__":
    stage.script("train", main, __doc__)
