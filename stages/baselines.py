"""How much can be told without lungs, or without a network.

Reads `data/processed` and `data/audit.csv`. Writes `metrics/details/baselines.json`: the accuracy
of the baselines of `stages/judging/baselines.py`, trained on the images that the network was
trained on and judged on the same test images.
"""

from pathlib import Path

import pandas as pd

from stages.common import files, params, stage
from stages.common.errors import InputError
from stages.judging import baselines, scores
from stages.learning import dataset
from stages.learning.settings import Preprocess

AUDIT = Path("data/audit.csv")
DETAILS = Path("metrics/details/baselines.json")


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
    chosen = scores.headline_positions(test)
    results = {
        name: {
            headline: scores.accuracy_with_interval(predicted[positions] == test.labels[positions])
            for headline, positions in chosen.items()
        }
        for name, predicted in baselines.predictions(train, test, audit).items()
    }
    provenance = {"data": dataset.provenance()["data"], "protocol": protocol}
    files.write_json(DETAILS, {"provenance": provenance, **results})
    for name, result in results.items():
        print(f"{name}: {scores.in_words(result['all_test'])}")


if __name__ == "__main__":
    stage.script("baselines", main, __doc__)
