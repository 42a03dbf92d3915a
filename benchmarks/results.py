"""Runs the whole pipeline for several seeds, by several recipes and with both kinds of labels.

usage: python -m benchmarks.results [--archive ZIP] [--external ZIP] [--seeds 0 1 2 3 4]
           [--recipes tuned original] [--labels filed verified] [--keep FOLDER]

The images are those of the zip given, or of the one zip in data/archive/, or else phantoms; the
external set likewise, from data/external/. The seed is that of the hold-out split, of the folds
and of training. Prints the tables of README.md and docs/results.md, a column for each recipe and
kind of labels. Takes about two minutes per run on two idle cores, and there are four times as many
runs as seeds. With --keep every finished run stays in FOLDER as JSON, under the hash of images,
code and parameters: the command, called again, runs only what is missing.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from benchmarks.scratch import PROJECT, given_zip, project, run, set_params
from benchmarks.tables import interval, markdown, spread
from stages import compare
from stages.common import files
from stages.judging import comparison, gradcam, scores
from stages.learning import dataset
from stages.reporting.words import BASELINES

FOLDS = 5
RECIPES = ("tuned", "original")
LABELS = ("filed", "verified")
STAGES = ("compare", "external", "occlusion")
"""What is run, with all that they depend on."""
NOT_RUN = ("reporting", "serving")
"""Folders of stages/ whose code makes no number."""
CALIBRATION = {
    "loss": "log loss",
    "brier": "Brier score",
    "expected_calibration_error": "expected calibration error",
}
Run = dict[str, Any]
"""The contents of metrics/details/*.json after a run, by their stems; of predictions.json and, as
records, of index.csv."""


def over_seeds(runs: Sequence[Run], value: Callable[[Run], float]) -> str:
    """Mean and range of what `value` takes from each run."""
    return spread([value(details) for details in runs])


def accuracy(result: dict[str, Any]) -> str:
    """Accuracy with its 95 % interval and the number of images."""
    limits = interval(result["accuracy_low"], result["accuracy_high"])
    return f"{result['accuracy']:.3f} {limits} of {result['images']}"


def best_baseline(runs: Sequence[Run]) -> str:
    """The name of the baseline with the highest accuracy, as a mean over the runs."""
    names: list[str] = list(runs[0]["compare"]["baselines"])
    return max(
        names,
        key=lambda name: statistics.mean(
            details["compare"]["baselines"][name]["accuracy"] for details in runs
        ),
    )


def headline(runs: Sequence[Run]) -> dict[str, str]:
    """The column of the README's table for one recipe and kind of labels."""
    best = best_baseline(runs)
    median = median_run(runs)
    against = Counter(details["compare"]["baselines"][best]["verdict"] for details in runs)
    t = resampled_t(runs, best)
    lines = {
        "every radiograph once": over_seeds(
            runs, lambda details: details["compare"]["pooled"]["accuracy"]
        )
        + f" of {median['compare']['judged']}",
        f"best baseline, {BASELINES[best]}": over_seeds(
            runs, lambda details: details["compare"]["baselines"][best]["accuracy"]
        ),
        "difference, all folds and seeds": (
            f"{t['difference']:+.3f} {interval(t['low'], t['high'], '+')}, p = {t['p']:.2g}"
        ),
        "seeds with the network better, worse": f"{against['better']}, {against['worse']}",
    }
    for name, words in (("all_test", "test/"), ("leak_free", "test/ without leaks")):
        lines[words] = (
            spread([details["evaluate"][name]["accuracy"] for details in runs])
            + f" of {median['evaluate'][name]['images']}"
        )
    for source, result in median["compare"]["by_source"].items():
        if len(result["classes"]) > 1:
            lines |= within(runs, source)
    lines["log loss, every radiograph once"] = over_seeds(
        runs, lambda details: details["compare"]["pooled"]["loss"]
    )
    lines |= sets_and_refusal(runs)
    if median["external"]["false_positive_rate"]:
        lines |= external(runs)
    return lines


def median_run(runs: Sequence[Run]) -> Run:
    """The run of median accuracy over every radiograph."""
    ordered = sorted(runs, key=lambda details: details["compare"]["pooled"]["accuracy"])
    return ordered[len(runs) // 2]


def judged(details: Run) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """The images of each fold and those of test/, see `compare.joined`."""
    index = pd.DataFrame(details["index"])
    ours, theirs = details["crossvalidate"]["folds"], details["baselines"]["folds"]
    folds = [
        compare.joined(index, one["predictions"], other["predictions"])
        for one, other in zip(ours, theirs, strict=True)
    ]
    of_test = details["baselines"]["test"]["predictions"]
    return folds, compare.joined(index, details["predictions"], of_test)


def resampled_t(runs: Sequence[Run], baseline: str) -> dict[str, float]:
    """Network against a baseline over the folds of all runs, by the corrected t test."""
    differences, images, trained_on = [], [], []
    for details in runs:
        folds, _ = judged(details)
        for record, fold in zip(details["crossvalidate"]["folds"], folds, strict=True):
            once = compare.once(fold)
            correct = once[["correct network", f"correct {baseline}"]].mean()
            differences.append(correct.iloc[0] - correct.iloc[1])
            images.append(len(once))
            trained_on.append(record["trained_on"])
    return comparison.resampled_t(
        np.array(differences), float(np.mean(images)), float(np.mean(trained_on))
    )


def best_within(runs: Sequence[Run], source: str) -> str:
    """The baseline that does best within one source, as a mean over the runs."""
    results = [details["compare"]["by_source"][source]["baselines"] for details in runs]
    names: list[str] = list(results[0])
    return max(
        names,
        key=lambda name: statistics.mean(result[name]["accuracy"] for result in results),
    )


def within(runs: Sequence[Run], source: str) -> dict[str, str]:
    """Within one source: the network, and the baseline that does best there."""
    results = [details["compare"]["by_source"][source] for details in runs]
    best = best_within(runs, source)
    return {
        f"within {source}": spread([result["network"]["accuracy"] for result in results])
        + f" of {results[0]['network']['images']}",
        f"best baseline within {source}, {BASELINES[best]}": spread(
            [result["baselines"][best]["accuracy"] for result in results]
        ),
    }


def difference_within(runs: Sequence[Run], source: str) -> dict[str, str]:
    """Within one source: the network and the baseline that does best there, paired."""
    best = best_within(runs, source)
    pairs = [paired_within(details, source, best) for details in runs]
    above = sum(pair["difference_low"] > 0 for pair in pairs)
    below = sum(pair["difference_high"] < 0 for pair in pairs)
    middle = sorted(pairs, key=lambda pair: pair["difference"])[len(pairs) // 2]
    limits = interval(middle["difference_low"], middle["difference_high"], "+")
    return {
        f"difference within {source}, of the median seed": (
            f"{middle['difference']:+.3f} {limits}"
        ),
        f"seeds whose whole interval within {source} is above 0, below 0": f"{above}, {below}",
    }


def paired_within(details: Run, source: str, baseline: str) -> dict[str, Any]:
    """The network compared with a baseline over every radiograph of a source, each judged once."""
    images = pd.concat(compare.choose(*judged(details)))
    images = images[images["source"] == source]
    return comparison.paired(
        images["correct network"].to_numpy(bool),
        images[f"correct {baseline}"].to_numpy(bool),
        images["group"].to_numpy(),
    )


def over_images(shares: Sequence[float], images: int) -> str:
    """Mean and range of a share over the seeds, and Wilson's interval of the mean.

    The seeds judge the same images, so that these count once.
    """
    low, high = scores.wilson(statistics.mean(shares) * images, images)
    return f"{spread(shares)} {interval(low, high)} of {images:,}"


def sets_and_refusal(runs: Sequence[Run]) -> dict[str, str]:
    """What the sets of classes hold, and what is refused, of test/ without leaks."""
    evaluations = [details["evaluate"] for details in runs]
    wanted = evaluations[0]["sets"]["coverage"]
    covered = [result["sets"]["covered"] for result in evaluations]
    refused = [result["refused"] for result in evaluations]
    return {
        f"{100 * wanted:.0f} % sets: true class in it, test/ without leaks": over_images(
            [share["share"] for share in covered], covered[0]["images"]
        ),
        "refused, test/ without leaks": over_images(
            [share["share"] for share in refused], refused[0]["images"]
        ),
    }


def worst_class(runs: Sequence[Run]) -> str:
    """The class that external images which are not of it are called most often."""
    rates = [details["external"]["false_positive_rate"] for details in runs]
    return str(statistics.mode(rate["class"] for rate in rates))


def of_others(runs: Sequence[Run], count: Callable[[dict[str, Any]], int]) -> str:
    """The share that `count` gives of the external images that are not of the worst class."""
    name = worst_class(runs)
    others = [
        [
            folder
            for folder in details["external"]["folders"].values()
            if folder["class"] != name and folder["images"]
        ]
        for details in runs
    ]
    numbers = [sum(folder["images"] for folder in folders) for folders in others]
    shares = [
        sum(map(count, folders)) / number for folders, number in zip(others, numbers, strict=True)
    ]
    return over_images(shares, numbers[0])


def external(runs: Sequence[Run]) -> dict[str, str]:
    """How many external images are wrongly called the worst class, and how many are refused."""
    name = worst_class(runs)
    return {
        f"external, wrongly called {name}": of_others(
            runs, lambda folder: int(folder["called"][name]["images"])
        ),
        "external, refused": of_others(runs, lambda folder: int(folder["refused"]["images"])),
    }


def external_answered(runs: Sequence[Run]) -> dict[str, str]:
    """How many external images are wrongly called the worst class and not refused."""
    name = worst_class(runs)

    def answered(folder: dict[str, Any]) -> int:
        accepted = folder["called_if_accepted"]
        return int(accepted[name]["images"]) if accepted else 0

    return {f"external, wrongly called {name} and not refused": of_others(runs, answered)}


def more(runs: Sequence[Run]) -> dict[str, str]:
    """The column of docs/results.md: calibration, equal class weights, every baseline and more."""
    evaluations = [details["evaluate"] for details in runs]
    lines = {
        f"{words}, {when} temperature scaling": spread(
            [result["calibration"][when][name] for result in evaluations]
        )
        for name, words in CALIBRATION.items()
        for when in ("before", "after")
    }
    lines["expected calibration error of a perfect model, by chance"] = spread(
        [result["calibration"]["by_chance"]["mean"] for result in evaluations]
    )
    lines["temperature"] = spread([result["calibration"]["temperature"] for result in evaluations])
    for name, words in (("all_test", "test/"), ("leak_free", "test/ without leaks")):
        lines[f"balanced accuracy, {words}"] = spread(
            [result[name]["macro_sensitivity"] for result in evaluations]
        )
    lines["every radiograph once: median seed, 95 % interval"] = accuracy(
        median_run(runs)["compare"]["pooled"]
    )
    for source, result in median_run(runs)["compare"]["by_source"].items():
        if len(result["classes"]) > 1:
            lines |= difference_within(runs, source)
    coverage = evaluations[0]["sets"]["coverage"]
    lines[f"{100 * coverage:.0f} % sets: classes in one"] = spread(
        [result["sets"]["mean_size"] for result in evaluations]
    )
    if runs[0]["external"]["false_positive_rate"]:
        lines |= external_answered(runs)
    best = best_baseline(runs)
    lines["network minus best baseline: p (McNemar, Holm), by seed"] = ", ".join(
        f"{details['compare']['baselines'][best]['p_holm']:.2g}" for details in runs
    )
    lines["cross-validated within train/"] = over_seeds(
        runs, lambda details: details["compare"]["cross_validated"]["accuracy"]
    )
    for name in runs[0]["compare"]["baselines"]:
        lines[f"every radiograph once: {BASELINES[name]}"] = spread(
            [details["compare"]["baselines"][name]["accuracy"] for details in runs]
        )
    for name in evaluations[0]["by_label"]:
        lines[f"test/, by label and source: {name}"] = (
            spread([result["by_label"][name]["accuracy"] for result in evaluations])
            + f" of {evaluations[0]['by_label'][name]['images']}"
        )
    evenly = f"evenly spread: {gradcam.UNIFORM_SHARE:.3f}"
    lines[f"heat maps: share outside the central region ({evenly})"] = spread(
        [result["gradcam"]["outside_centre_share"] for result in evaluations]
    )
    compared = [result["gradcam"]["against_untrained"] for result in evaluations]
    if all(compared):
        lines["heat maps: rank correlation with those of random weights"] = spread(
            [each["rank_correlation"] for each in compared]
        )
    epochs = [details["train"]["epochs"] for details in runs]
    kept = [details["train"]["kept_epoch"] for details in runs]
    lines["epochs run; epoch kept"] = f"{min(epochs)} to {max(epochs)}; {min(kept)} to {max(kept)}"
    return lines


def occluded(runs: Sequence[Run]) -> dict[str, str]:
    """The column of docs/results.md on covered parts: accuracy, and AUROC as mean over classes."""

    def cell(results: Sequence[dict[str, Any]]) -> str:
        areas = spread([result["macro_auroc"] for result in results])
        return f"{spread([result['accuracy'] for result in results])}; {areas}"

    details = [run["occlusion"] for run in runs]
    lines = {"nothing": cell([each["untouched"] for each in details])}
    for part, fillings in details[0]["covered"].items():
        for filling in fillings:
            words = f"{part.replace('_', ' ')}, {filling}"
            lines[words] = cell([each["covered"][part][filling] for each in details])
    verdicts = Counter(each["verdict"] for each in details)
    return lines | {
        "verdict (seeds)": "; ".join(f"{words} ({count})" for words, count in verdicts.items())
    }


def inputs_hash(folder: Path) -> str:
    """SHA-256 of what the numbers of a run depend on: images, records, code and parameters.

    Args:
        folder: A project in which nothing has run.
    """
    code = [path for path in (folder / "stages").rglob("*.py") if path.parent.name not in NOT_RUN]
    named = [folder / name for name in ("dvc.yaml", "params.yaml", "requirements.txt")]
    data = [path for path in (folder / "data").rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted([*code, *named, *data]):
        digest.update(f"{path.relative_to(folder)} {files.sha256_of(path)}\n".encode())
    return digest.hexdigest()


def run_once(folder: Path, recipe: str, labels: str, seed: int) -> Run:
    """Runs the pipeline in the project's folder."""
    set_params(
        folder,
        {
            "train.recipe": recipe,
            "audit.labels": labels,
            "preprocess.seed": seed,
            "train.seed": seed,
            "crossvalidate.seeds": [seed],
        },
    )
    run("dvc", "repro", *STAGES, folder=folder)
    predictions = folder / "metrics/plots/predictions.json"
    index = dataset.read_index(folder / dataset.PROCESSED).drop_duplicates("path")
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in [*(folder / "metrics/details").glob("*.json"), predictions]
    } | {"index": index.to_dict("records")}


def kept_or_run(kept: Path, folder: Path, recipe: str, labels: str, seed: int) -> Run:
    """A run's record, from the file `kept`, which is written if it is not there."""
    if not kept.exists():
        files.write_json(kept, run_once(folder, recipe, labels, seed))
    details: Run = json.loads(kept.read_text(encoding="utf-8"))
    return details


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--archive", type=Path, metavar="ZIP")
    parser.add_argument("--external", type=Path, metavar="ZIP")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    recipes = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))["recipes"]
    parser.add_argument("--recipes", nargs="+", choices=recipes, default=list(RECIPES))
    parser.add_argument("--labels", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    archive = given_zip(chosen.archive, "data/archive")
    outside = given_zip(chosen.external, "data/external")
    shown = [file.name if file else "phantoms" for file in (archive, outside)]
    print(f"Images: {shown[0]}; external: {shown[1]}; seeds {chosen.seeds}; {FOLDS} folds\n")
    wanted = list(itertools.product(chosen.labels, chosen.recipes, chosen.seeds))
    collected: dict[str, list[Run]] = {}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keep = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        here = project(scratch, archive, {"crossvalidate.folds": FOLDS}, outside)
        inputs = inputs_hash(here)
        for labels, recipe, seed in tqdm(wanted, "results", unit="run", disable=None):
            kept = keep / f"{recipe} {labels} {seed} {inputs}.json"
            details = kept_or_run(kept, here, recipe, labels, seed)
            collected.setdefault(f"`{recipe}`, {labels}", []).append(details)
            pooled = details["compare"]["pooled"]["accuracy"]
            print(f"{recipe} {labels} seed {seed}: {pooled:.4f}", file=sys.stderr)
    for title, what, cells in (
        ("", "accuracy", headline),
        ("Beside these (docs/results.md):\n\n", "metric", more),
        (
            "With a part of every image covered, on test/ without leaks: accuracy; AUROC\n\n",
            "covered",
            occluded,
        ),
    ):
        columns = {name: cells(runs) for name, runs in collected.items()}
        print(f"{title}{markdown(what, columns)}\n")


if __name__ == "__main__":
    main()
