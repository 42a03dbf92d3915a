"""How far the network can be trusted: probabilities that hold, sets of classes, a refusal.

Reads `metrics/details/crossvalidate.json`, `data/processed` (the images of train/ alone) and
`models/classifier.json`. Writes `models/calibration.json` (the temperature; how odd each radiograph
of train/ was to a network that had not seen it, which sets of classes are made of) and
`models/novelty.npz` (what the radiographs of train/ look like: others are refused).

The first file of each radiograph counts, under the first seed, as in `compare`: another seed tells
how much depends on it, and changes nothing that ships.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files, stage
from stages.learning import calibrated, classifier, dataset, novelty, prediction_sets, temperature

CROSSVALIDATION = Path("metrics/details/crossvalidate.json")


def out_of_fold(details: Any) -> dict[str, Any]:
    """The predictions under the first seed, by path.

    Args:
        details: Those of `crossvalidate`.
    """
    folds = details["folds"]
    return {
        record["file"]: record
        for fold in folds
        if fold["seed"] == folds[0]["seed"]
        for record in fold["predictions"]
    }


def main() -> None:
    """Runs the stage."""
    metadata = classifier.read_metadata()
    predictions = out_of_fold(files.read_json(CROSSVALIDATION, "crossvalidate"))
    images = dataset.load(dataset.uses_of_train(metadata["provenance"]["protocol"]))
    table = images.table.drop_duplicates("radiograph")
    columns = [f"{dataset.PROBABILITY}{name}" for name in images.classes]
    probabilities = np.array(
        [[predictions[path][column] for column in columns] for path in table["path"]]
    )
    labels = images.labels[table.index]
    fitted = temperature.fit(probabilities, labels)
    novelty.fit(images.pixels, images.table["group"].to_numpy()).save()
    files.write_json(
        calibrated.CALIBRATION,
        {
            "provenance": metadata["provenance"],
            "temperature": fitted,
            "scores": prediction_sets.scores(probabilities, labels).tolist(),
            "sha256": metadata["sha256"],
        },
    )
    print(f"temperature {fitted:.3f}, from {len(labels)} radiographs judged out of fold")


if __name__ == "__main__":
    stage.script("calibrate", main, __doc__)
