"""One fold of the cross-validation: how much do the figures depend on the split and the seed?

Reads `data/processed`: the images of train/ alone, never those of test/. Writes
`metrics/crossvalidation/seed-S-fold-F.json`. DVC runs it once for every seed and fold of
params.yaml and keeps each result, so that finished folds are not run again.

Folds are grouped and stratified. Of the images outside the fold a further share is held out for
early stopping and the temperature, so that the fold is not seen before it is judged.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import dataset, files, network, params, provenance, scores, splits, stage
from stages.common.errors import InputError

FOLDER = Path("metrics/crossvalidation")


def fold_file(seed: int, fold: int) -> Path:
    """Where the record of one fold is written."""
    return FOLDER / f"seed-{seed}-fold-{fold}.json"


def parts(
    images: dataset.Images, settings: params.Params, seed: int, fold: int
) -> tuple[dataset.Images, dataset.Images, dataset.Images]:
    """The images to train on, to stop by and to judge by.

    Args:
        images: All images of train/.
        settings: The number of folds, and the share that is held out for early stopping.
        seed: Deals the folds.
        fold: From 1.

    Raises:
        InputError: A class is too small to be dealt.
    """
    labels = images.table["class"].tolist()
    groups = images.table["group"].tolist()
    count = len(settings.crossvalidate.folds)
    outside, inside = list(splits.folds(labels, groups, count, seed))[fold - 1]
    kept, held_out = splits.hold_out(
        [labels[position] for position in outside],
        [groups[position] for position in outside],
        settings.preprocess.validation_share,
        seed,
    )
    return (
        images.take(outside[kept]),
        images.take(outside[held_out]),
        images.take(inside),
    )


def judge(images: dataset.Images, said: np.ndarray) -> dict[str, float]:
    """Every headline figure of one fold."""
    point = scores.point_figures(images.labels, said)
    return {
        "accuracy": float((said.argmax(axis=1) == images.labels).mean()),
        **{name: value for name, value in point.items() if name not in scores.OF_A_CLASS},
    }


def run_fold(seed: int, fold: int) -> dict[str, Any]:
    """Trains and judges one fold; gives its record.

    Raises:
        InputError: params.yaml has no such seed or fold, or the images are too few.
    """
    settings = params.load()
    for name, found, known in (
        ("seed", seed, settings.crossvalidate.seeds),
        ("fold", fold, settings.crossvalidate.folds),
    ):
        if found not in known:
            raise InputError(
                f"--{name}: found {found}, expected one of crossvalidate.{name}s in params.yaml, "
                f"{known}."
            )
    origin = provenance.read()
    uses = ["train", "validation"] if settings.preprocess.validation == "holdout" else ["train"]
    train, validation, judged = parts(dataset.load(uses), settings, seed, fold)
    network.start(seed, settings.train.threads)
    training = settings.train.model_copy(
        update={"epochs": min(settings.train.epochs, settings.crossvalidate.epochs)}
    )
    trained, history, kept = network.fit(train, validation, training, f"seed {seed} fold {fold}")
    return {
        "provenance": {"data": origin["data"]},
        "seed": seed,
        "fold": fold,
        "images": len(judged),
        "epochs": len(history),
        "kept_epoch": kept,
        **judge(judged, network.probabilities(trained, judged.pixels)),
    }


def main() -> None:
    """Runs the stage."""
    parser = stage.parser("crossvalidate", __doc__)
    parser.add_argument("--seed", type=int, required=True, help="one of crossvalidate.seeds")
    parser.add_argument("--fold", type=int, required=True, help="one of crossvalidate.folds")
    chosen: argparse.Namespace = parser.parse_args()

    def work() -> None:
        record = run_fold(chosen.seed, chosen.fold)
        files.write_json(fold_file(chosen.seed, chosen.fold), record)
        print(
            f"seed {chosen.seed} fold {chosen.fold}: accuracy {record['accuracy']:.3f} "
            f"on {record['images']} images after {record['epochs']} epochs"
        )

    stage.run(f"crossvalidate-{chosen.seed}-{chosen.fold}", work)


if __name__ == "__main__":
    main()
