"""How well do simple baselines classify, without a neural network?

Reads `data/processed` and `data/audit.csv`. Writes `metrics/details/baselines.json`: the accuracy
of the baselines of `stages/judging/baselines.py`, trained on the images that the network was
trained on and judged on the same test images.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.common import files, params, stage
from stages.common.errors import InputError
from stages.judging import baselines, scores
from stages.learning import dataset
from stages.learning.settings import Preprocess

AUDIT = Path("data/audit.csv")
DETAILS = Path("metrics/details/baselines.json")


def judge(predicted: np.ndarray, test: dataset.Images) -> dict[str, dict[str, Any]]:
    """`all_test` and `leak_free`: images and accuracy with its interval.

    Args:
        predicted: int64, (n,), a class for each of the n test images.
        test: The test images.
    """
    correct, groups = predicted == test.labels, test.table["group"].to_numpy()
    return {
        headline: scores.accuracy_with_interval(correct[positions], groups[positions])
        for headline, positions in scores.headline_positions(test).items()
    }


def main() -> None:
    """Runs the stage."""
    protocol = params.load(Preprocess).validation
    if not AUDIT.is_file():
        raise InputError(
            f"{AUDIT} is not there; the stage `audit` writes it. Run `dvc repro audit`."
        )
    audit = pd.read_csv(
        AUDIT,
        dtype={"path": str, "format": str, "mode": str},
        keep_default_na=False,
        index_col="path",
    )
    train, test = dataset.load(["train"]), dataset.load(["test"])
    predictions = baselines.predictions(train, test, audit)
    results = {name: judge(predicted, test) for name, predicted in predictions.items()}
    provenance = {"data": dataset.provenance()["data"], "protocol": protocol}
    files.write_json(DETAILS, {"provenance": provenance, **results})
    for name, result in results.items():
        print(f"{name}: {scores.in_words(result['all_test'])}")


if __name__ == "__main__":
    stage.script("baselines", main, __doc__)
