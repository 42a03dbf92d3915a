"""What cross-validation says in sum: mean, standard deviation and range over all folds.

Reads `metrics/crossvalidation/`, of which it takes the seeds and folds that params.yaml names.
Writes `metrics/crossvalidation.json`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files, params, stage

FOLDER = Path("metrics/crossvalidation")
METRICS = Path("metrics/crossvalidation.json")
NOT_FIGURES = ("provenance", "seed", "fold", "images", "epochs", "kept_epoch")


def summary(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For every figure `mean`, `standard_deviation` (n - 1), `lowest` and `highest`.

    Args:
        records: Two or more, one a fold.
    """
    found = {}
    for name in (key for key in records[0] if key not in NOT_FIGURES):
        values = np.array([record[name] for record in records])
        found[name] = {
            "mean": float(values.mean()),
            "standard_deviation": float(values.std(ddof=1)),
            "lowest": float(values.min()),
            "highest": float(values.max()),
        }
    return found


def main() -> None:
    """Runs the stage."""
    settings = params.load().crossvalidate
    records = [
        files.read_json(FOLDER / f"seed-{seed}-fold-{fold}.json", "crossvalidate")
        for seed in settings.seeds
        for fold in settings.folds
    ]
    found = summary(records)
    files.write_json(
        METRICS,
        {
            "provenance": records[0]["provenance"],
            "folds": len(settings.folds),
            "seeds": len(settings.seeds),
            **found,
            "records": records,
        },
    )
    accuracy = found["accuracy"]
    print(
        f"{len(records)} folds: accuracy {accuracy['mean']:.3f}, standard deviation "
        f"{accuracy['standard_deviation']:.3f}, {accuracy['lowest']:.3f} to "
        f"{accuracy['highest']:.3f}"
    )


if __name__ == "__main__":
    stage.script("stability", main, __doc__)
