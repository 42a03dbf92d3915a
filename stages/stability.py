"""How much depends on the split and the seed: the spread of the metrics over the folds.

Reads `metrics/details/crossvalidate.json`. Writes `metrics/details/stability.json`: for each
metric its mean, standard deviation and range over all folds and seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files, stage
from stages.judging import scores

CROSSVALIDATION = Path("metrics/details/crossvalidate.json")
DETAILS = Path("metrics/details/stability.json")
_PROBABILITY = "probability "


def fold_metrics(predictions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`accuracy` and the metrics of `scores.point_metrics` over all classes, of one fold."""
    columns = [key for key in predictions[0] if key.startswith(_PROBABILITY)]
    probabilities = np.array([[record[key] for key in columns] for record in predictions])
    labels = np.array(
        [columns.index(_PROBABILITY + record["actual"]) for record in predictions], np.int64
    )
    point = scores.point_metrics(labels, probabilities)
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        **{name: value for name, value in point.items() if name not in scores.PER_CLASS},
    }


def summary(records: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """For every metric `mean`, `standard_deviation` (n - 1), `lowest` and `highest`.

    Args:
        records: Two or more, one per fold.
    """
    spread = {}
    for name in records[0]:
        values = np.array([record[name] for record in records])
        spread[name] = {
            "mean": float(values.mean()),
            "standard_deviation": float(values.std(ddof=1)),
            "lowest": float(values.min()),
            "highest": float(values.max()),
        }
    return spread


def main() -> None:
    """Runs the stage."""
    crossvalidation = files.read_json(CROSSVALIDATION, "crossvalidate")
    folds = crossvalidation["folds"]
    spread = summary([fold_metrics(fold["predictions"]) for fold in folds])
    files.write_json(
        DETAILS,
        {
            "data": crossvalidation["data"],
            "folds": len({fold["fold"] for fold in folds}),
            "seeds": len({fold["seed"] for fold in folds}),
            "images": sum(len(fold["predictions"]) for fold in folds),
            **spread,
        },
    )
    accuracy = spread["accuracy"]
    print(
        f"{len(folds)} folds: accuracy {accuracy['mean']:.3f}, standard deviation "
        f"{accuracy['standard_deviation']:.3f}, {accuracy['lowest']:.3f} to "
        f"{accuracy['highest']:.3f}"
    )


if __name__ == "__main__":
    stage.script("stability", main, __doc__)
