"""How well do simple baselines classify, without a neural network?

Reads `data/processed` and `data/audit.csv`. Writes `metrics/details/baselines.json`: what each of
the baselines of `stages/judging/baselines.py` takes an image for. They are trained on exactly the
images that the network may use: for each fold of `crossvalidate` on the images of train/ outside
it, for the test images on all of train/.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.common import files, params, stage
from stages.common.errors import InputError
from stages.judging import baselines
from stages.learning import dataset, splits
from stages.learning.settings import Crossvalidate, Training

AUDIT = Path("data/audit.csv")
DETAILS = Path("metrics/details/baselines.json")


def read_audit() -> pd.DataFrame:
    """What the audit found out about the files, indexed by path.

    Raises:
        InputError: the table is missing or damaged.
    """
    columns = {"path": str, "bytes": int, "format": str, "mode": str, "width": int, "height": int}
    try:
        return pd.read_csv(
            AUDIT, usecols=list(columns), dtype=columns, keep_default_na=False, index_col="path"
        )
    except (FileNotFoundError, ValueError) as error:
        raise InputError(
            f"{AUDIT} is not the table that the stage `audit` writes ({error}). "
            "Run `dvc repro --force audit`."
        ) from None


def record(
    images: dataset.Images, positions: np.ndarray, judged: baselines.Judged
) -> dict[str, Any]:
    """The settings, and one record per judged image: file, actual class, that of each baseline."""
    table = images.table.iloc[positions]
    named = pd.DataFrame(
        {
            "file": table["path"].to_numpy(),
            "actual": table["class"].to_numpy(),
            **{
                name: np.array(images.classes, object)[predicted]
                for name, predicted in judged.predicted.items()
            },
        }
    )
    return {"settings": judged.settings, "predictions": named.to_dict("records")}


def main() -> None:
    """Runs the stage."""
    settings, protocol = params.load(Crossvalidate), params.load(Training).validation
    images = dataset.load([*dataset.uses_of_train(protocol), "test"])
    in_test = images.table["use"] == "test"
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    table = images.table.iloc[train]
    labels, groups = table["class"].tolist(), table["group"].tolist()
    deals = [
        (seed, fold, train[outside], train[inside])
        for seed in settings.seeds
        for fold, (outside, inside) in enumerate(
            splits.folds(labels, groups, settings.folds, seed), start=1
        )
    ]
    parts = [(outside, inside) for _, _, outside, inside in deals]
    *of_folds, of_test = baselines.judge(images, read_audit(), [*parts, (train, test)])
    approximated = baselines.approximation(len(train))
    files.write_json(
        DETAILS,
        {
            "provenance": {"data": dataset.provenance()["data"], "protocol": protocol},
            **({"approximation": approximated} if approximated else {}),
            "folds": [
                {"seed": seed, "fold": fold, **record(images, inside, judged)}
                for (seed, fold, _, inside), judged in zip(deals, of_folds, strict=True)
            ],
            "test": record(images, test, of_test),
        },
    )
    print(f"Accuracy of the baselines on the {len(test)} test images:")
    for name, predicted in of_test.predicted.items():
        print(f"  {name:<17} {(predicted == images.labels[test]).mean():.3f}")
    if approximated:
        print(baselines.in_words(approximated))


if __name__ == "__main__":
    stage.script("baselines", main, __doc__)
