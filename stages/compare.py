"""Is the network better than crude baselines, with every radiograph judged once?

Reads `data/processed/index.csv` and the predictions that `crossvalidate`, `baselines` and
`evaluate` wrote. Writes `metrics/details/compare.json` and
`metrics.json`, the few numbers that `dvc metrics show` prints.

The network's probabilities are calibrated: those of a fold with a temperature that was fitted to
the other folds of its seed, so that no image calibrates itself; those of test/ as `evaluate` did.

A radiograph of which train/ has a file is judged by the first of these, out of fold, under the
first seed; one that is in test/ alone by its first file and the network that ships. If its patient
is in train/, that network is no stranger to it, and it is left out.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.common import files, params, stage
from stages.common.errors import InputError
from stages.judging import comparison, scores
from stages.judging.settings import Evaluate
from stages.learning import dataset, temperature

INDEX = dataset.PROCESSED / "index.csv"
BASELINES = Path("metrics/details/baselines.json")
CROSSVALIDATION = Path("metrics/details/crossvalidate.json")
TEST = Path("metrics/plots/predictions.json")
EXTERNAL = Path("metrics/details/external.json")
DETAILS = Path("metrics/details/compare.json")
METRICS = Path("metrics.json")
NETWORK = "network"
_CORRECT = "correct "

Records = Sequence[Mapping[str, Any]]


def check(first: Path, found: Iterable[Any], second: Path, expected: Iterable[Any]) -> None:
    """Compares which images two files are of, each given with its class and how it was used.

    Raises:
        InputError: They are not the same.
    """
    one, other = Counter(found), Counter(expected)
    odd = (one - other) + (other - one)
    if odd:
        raise InputError(
            f"{first} and {second} are not of the same images: {' '.join(min(odd))} is in one of "
            "them and not in the other, or more often. Run `dvc repro compare`."
        )


def joined(index: pd.DataFrame, network: Records, baselines: Records) -> pd.DataFrame:
    """The images that both the network and the baselines predicted.

    Args:
        index: index.csv, every path once.
        network: Its predictions, see `dataset.prediction_records`.
        baselines: Theirs: `file`, `actual`, and a class by the name of each baseline.

    Returns:
        Their rows of `index`, in its order, with the columns `probability <class>` and, bool,
        `correct network` and `correct <baseline>`.
    """
    ours = pd.DataFrame(network).set_index("file")
    theirs = pd.DataFrame(baselines).set_index("file").drop(columns="actual")
    rows = index[index["path"].isin(ours.index)]
    columns = {name: ours[name] for name in ours if name.startswith(dataset.PROBABILITY)}
    for name, predicted in {NETWORK: ours["predicted"], **theirs}.items():
        columns[f"{_CORRECT}{name}"] = predicted.eq(ours["actual"])
    return rows.assign(**{name: values[rows["path"]].array for name, values in columns.items()})


def read(crossvalidation: Any, baselines: Any) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """The images of each fold and those of test/, see `joined`; all probabilities calibrated.

    Args:
        crossvalidation: The details of `crossvalidate`.
        baselines: Those of `baselines`.

    Raises:
        InputError: The files are not of the same images.
    """
    index = dataset.read_index()
    test = index[index["use"] == "test"]
    # under the original protocol the test images are in the table once more, for validation
    train = index[~index["path"].isin(test["path"])]
    shipped, crude = files.read_json(TEST, "evaluate"), baselines["test"]["predictions"]

    def rows(table: pd.DataFrame) -> list[tuple[str, str]]:
        return list(zip(table["path"], table["class"], strict=True))

    def images(records: Records) -> list[tuple[str, str]]:
        return [(record["file"], record["actual"]) for record in records]

    def dealt(details: Any) -> list[tuple[str, ...]]:
        return [
            (f"seed {fold['seed']} fold {fold['fold']}", *image)
            for fold in details["folds"]
            for image in images(fold["predictions"])
        ]

    check(TEST, images(shipped), INDEX, rows(test))
    check(BASELINES, images(crude), INDEX, rows(test))
    check(BASELINES, dealt(baselines), CROSSVALIDATION, dealt(crossvalidation))
    ours, theirs = (
        {(fold["seed"], fold["fold"]): fold["predictions"] for fold in details["folds"]}
        for details in (crossvalidation, baselines)
    )
    for seed in {seed for seed, _ in ours}:
        of_seed = [one for key in ours if key[0] == seed for one in images(ours[key])]
        check(CROSSVALIDATION, of_seed, INDEX, rows(train))
    folds = {key: joined(train, ours[key], theirs[key]) for key in ours}
    for seed in {seed for seed, _ in ours}:
        keys = [key for key in ours if key[0] == seed]
        folds |= zip(keys, calibrated([folds[key] for key in keys]), strict=True)
    return list(folds.values()), joined(test, shipped, crude)


def once(images: pd.DataFrame) -> pd.DataFrame:
    """The first image of each radiograph."""
    return images.drop_duplicates("radiograph")


def calibrated(folds: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The same images, their probabilities calibrated, each fold by the others.

    Args:
        folds: The images of each fold of one seed, see `joined`.
    """
    results = []
    for number, fold in enumerate(folds):
        labels, probabilities, _ = arrays(once(pd.concat([*folds[:number], *folds[number + 1 :]])))
        fitted = temperature.fit(probabilities, labels)
        _, own, classes = arrays(fold)
        scaled = temperature.scaled(own, fitted)
        columns = [f"{dataset.PROBABILITY}{name}" for name in classes]
        results.append(fold.assign(**dict(zip(columns, scaled.T, strict=True))))
    return results


def choose(folds: Iterable[pd.DataFrame], test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The images that count: of train/, and of test/.

    Args:
        folds: The images of each fold of one seed, see `joined`.
        test: Those of test/.
    """
    clean = scores.leak_free(test["radiograph"].to_numpy(), test["leaked"].to_numpy())
    return once(pd.concat(folds).sort_index()), test.iloc[clean]


def arrays(images: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels (int64, (n,)), probabilities (float64, (n, classes)) and the names of the classes."""
    columns = [name for name in images if name.startswith(dataset.PROBABILITY)]
    classes = [name.removeprefix(dataset.PROBABILITY) for name in columns]
    labels = np.array([classes.index(name) for name in images["class"]], np.int64)
    return labels, images[columns].to_numpy(), classes


def every_metric(images: pd.DataFrame, settings: Evaluate) -> dict[str, Any]:
    """The network's `scores.metrics_with_intervals` on these images."""
    labels, probabilities, classes = arrays(images)
    return scores.metrics_with_intervals(
        labels,
        probabilities,
        images["group"].to_numpy(),
        classes,
        settings.bootstrap_samples,
        settings.seed,
    )


def accuracy(images: pd.DataFrame, name: str) -> dict[str, Any]:
    """`scores.accuracy_with_interval` of the network or a baseline on these images."""
    return scores.accuracy_with_interval(
        images[f"{_CORRECT}{name}"].to_numpy(), images["group"].to_numpy()
    )


def of_all(images: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """The accuracy of the `network` and of the `baselines` with these names."""
    return {
        NETWORK: accuracy(images, NETWORK),
        "baselines": {name: accuracy(images, name) for name in names},
    }


def fold_metrics(images: pd.DataFrame) -> dict[str, float]:
    """`accuracy` and the metrics of `scores.point_metrics` over all classes, of one fold."""
    labels, probabilities, _ = arrays(images)
    point = scores.point_metrics(labels, probabilities)
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        **{name: value for name, value in point.items() if name not in scores.PER_CLASS},
    }


def spread(records: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """For every metric `mean`, `standard_deviation` (n - 1), `lowest` and `highest`.

    Args:
        records: Two or more, one per fold.
    """
    table = pd.DataFrame(records)
    return {
        name: {
            "mean": float(table[name].mean()),
            "standard_deviation": float(table[name].std()),
            "lowest": float(table[name].min()),
            "highest": float(table[name].max()),
        }
        for name in table
    }


def comparisons(
    names: Sequence[str],
    pooled: pd.DataFrame,
    folds: Sequence[pd.DataFrame],
    trained_on: Sequence[int],
) -> dict[str, dict[str, Any]]:
    """The network compared with each baseline: paired over radiographs, and over the folds.

    Args:
        names: The baselines'.
        pooled: The images that count, one of each radiograph.
        folds: The images of each fold and seed.
        trained_on: How many images the network of each of them was trained on.
    """
    ours = f"{_CORRECT}{NETWORK}"
    judged = [once(fold) for fold in folds]
    results = {
        name: comparison.paired(
            pooled[ours].to_numpy(),
            pooled[f"{_CORRECT}{name}"].to_numpy(),
            pooled["group"].to_numpy(),
        )
        for name in names
    }
    corrected = comparison.holm([result["p"] for result in results.values()])
    for (name, result), p_holm in zip(results.items(), corrected, strict=True):
        theirs = f"{_CORRECT}{name}"
        result["p_holm"] = p_holm
        result["verdict"] = comparison.verdict(result["difference"], p_holm)
        result["resampled_t"] = comparison.resampled_t(
            np.array([fold[ours].mean() - fold[theirs].mean() for fold in judged]),
            float(np.mean([len(fold) for fold in judged])),
            float(np.mean(trained_on)),
        )
    return results


def main() -> None:
    """Runs the stage."""
    settings = params.load(Evaluate)
    crossvalidation = files.read_json(CROSSVALIDATION, "crossvalidate")
    baselines = files.read_json(BASELINES, "baselines")
    records, provenance = crossvalidation["folds"], crossvalidation["provenance"]
    folds, test = read(crossvalidation, baselines)
    of_first_seed = [record["seed"] == records[0]["seed"] for record in records]
    train, clean = choose(itertools.compress(folds, of_first_seed), test)
    pooled = pd.concat([train, clean])
    names = [name for name in baselines["test"]["predictions"][0] if name not in ("file", "actual")]

    trained_on = [record["trained_on"] for record in records]
    compared = comparisons(names, pooled, folds, trained_on)
    judged, cross_validated = (every_metric(images, settings) for images in (pooled, train))
    accuracies = of_all(pooled, names)["baselines"]
    best = max(names, key=lambda name: accuracies[name]["accuracy"])
    difference = compared[best]
    radiographs = len(set(train["radiograph"]) | set(test["radiograph"]))
    by_label = {} if set(pooled["label"]) == {"unknown"} else dict(list(pooled.groupby("label")))
    by_source = {source: images for source, images in pooled.groupby("source") if source}
    files.write_json(
        DETAILS,
        {
            "provenance": provenance,
            "radiographs": radiographs,
            "judged": len(pooled),
            "pooled": judged,
            "cross_validated": cross_validated,
            "by_label": {label: of_all(images, names) for label, images in by_label.items()},
            "by_source": {
                source: {
                    "classes": images["class"].value_counts().sort_index().to_dict(),
                    **of_all(images, names),
                }
                for source, images in by_source.items()
            },
            "baselines": {
                name: {
                    **{key: value for key, value in accuracies[name].items() if key != "images"},
                    "test": accuracy(test, name),
                    "leak_free": accuracy(clean, name),
                    "cross_validated": accuracy(train, name),
                    **compared[name],
                }
                for name in names
            },
            # where the baselines say that their kernels are approximated
            **{key: baselines[key] for key in ("approximation",) if key in baselines},
            "best": best,
            "verdict": difference["verdict"],
            "folds": len({record["fold"] for record in records}),
            "seeds": len({record["seed"] for record in records}),
            "images": sum(map(len, folds)),
            "spread": spread([fold_metrics(fold) for fold in folds]),
        },
    )
    numbers = {
        # names in the order in which DVC prints them, which is the alphabet's: what may be chosen
        # by comes before what comes from test images
        "acc": cross_validated["accuracy"],
        "loss": cross_validated["loss"],
        "test": accuracy(test, NETWORK)["accuracy"],
        "test_leak_free": accuracy(clean, NETWORK)["accuracy"],
        "verdict": difference["verdict"],
        "vs_baseline": difference["difference"],
    }
    if rate := files.read_json(EXTERNAL, "external")["false_positive_rate"]:
        numbers["outside_fpr"] = rate["share"]
    files.write_metrics(METRICS, provenance, dict(sorted(numbers.items())))
    print(
        f"{len(pooled)} of {radiographs} radiographs, each judged once: {scores.in_words(judged)}\n"
        f"Best baseline, {best}: {scores.in_words(accuracies[best])}\n"
        f"Network minus {best}: {difference['difference']:+.3f} "
        f"[{difference['difference_low']:+.3f}, {difference['difference_high']:+.3f}], "
        f"p = {difference['p_holm']:.3g} (McNemar, Holm): {difference['verdict']}"
    )


if __name__ == "__main__":
    stage.script("compare", main, __doc__)
