"""Runs the whole pipeline for several seeds, both protocols and both kinds of labels.

usage: python -m benchmarks.results [--archive ZIP] [--external ZIP] [--seeds 0 1 2 3 4]

The images are those of the zip given, or of the one zip in data/archive/, or else phantoms; the
external set likewise, from data/external/. The seed is that of the hold-out split, of the folds
and of training. Takes about two minutes per run on two idle cores, and there are four
times as many runs as seeds. Prints the tables of README.md and docs/results.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.scratch import given_zip, project, run, set_params
from stages import compare
from stages.judging import comparison, gradcam
from stages.learning import dataset
from stages.reporting.words import BASELINES

FOLDS = 5
PROTOCOLS = {
    "`holdout`": {"train.recipe": "holdout"},
    "`original`": {"train.recipe": "original"},
}
LABELS = ("filed", "verified")
CALIBRATION = {
    "expected_calibration_error": "expected calibration error",
    "brier": "Brier score",
    "loss": "log loss",
}
Run = dict[str, Any]
"""The contents of metrics/details/*.json after a run, by their stems, and of index.csv."""


def spread(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f}\N{EN DASH}{max(values):.3f})"


def over_seeds(runs: Sequence[Run], value: Callable[[Run], float]) -> str:
    """Mean and range of what `value` takes from each run."""
    return spread([value(details) for details in runs])


def interval(result: dict[str, Any]) -> str:
    """Accuracy with its 95 % interval and the number of images."""
    return (
        f"{result['accuracy']:.3f} [{result['accuracy_low']:.3f}, {result['accuracy_high']:.3f}] "
        f"of {result['images']}"
    )


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
    """The column of the README's table for one protocol and kind of labels."""
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
            f"{t['difference']:+.3f} [{t['low']:+.3f}, {t['high']:+.3f}], p = {t['p']:.2g}"
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
    if median["external"]["false_positive_rate"]:
        lines |= external(runs)
    return lines


def median_run(runs: Sequence[Run]) -> Run:
    """The run of median accuracy over every radiograph."""
    ordered = sorted(runs, key=lambda details: details["compare"]["pooled"]["accuracy"])
    return ordered[len(runs) // 2]


def resampled_t(runs: Sequence[Run], baseline: str) -> dict[str, float]:
    """Network against a baseline over the folds of all runs, by the corrected t test."""
    differences, judged, trained_on = [], [], []
    for details in runs:
        for ours, theirs in zip(
            details["crossvalidate"]["folds"], details["baselines"]["folds"], strict=True
        ):
            images = compare.once(
                compare.joined(details["index"], ours["predictions"], theirs["predictions"])
            )
            correct = images[["correct network", f"correct {baseline}"]].mean()
            differences.append(correct.iloc[0] - correct.iloc[1])
            judged.append(len(images))
            trained_on.append(ours["trained_on"])
    return comparison.resampled_t(
        np.array(differences), float(np.mean(judged)), float(np.mean(trained_on))
    )


def within(runs: Sequence[Run], source: str) -> dict[str, str]:
    """Accuracy within one source, of the network and of the baseline that does best there."""
    results = [details["compare"]["by_source"][source] for details in runs]
    best = max(
        results[0]["baselines"],
        key=lambda name: statistics.mean(
            result["baselines"][name]["accuracy"] for result in results
        ),
    )
    return {
        f"within {source}": spread([result["network"]["accuracy"] for result in results])
        + f" of {results[0]['network']['images']}",
        f"best baseline within {source}, {BASELINES[best]}": spread(
            [result["baselines"][best]["accuracy"] for result in results]
        ),
    }


def external(runs: Sequence[Run]) -> dict[str, str]:
    """How many external images that are not of a class are called it, for the worst class."""
    rates = [details["external"]["false_positive_rate"] for details in runs]
    name = statistics.mode(rate["class"] for rate in rates)
    called = [rate["called"] for rate in rates if rate["class"] == name]
    return {
        f"external, wrongly called {name}": (
            f"{min(called)}\N{EN DASH}{max(called)} of {rates[0]['images']:,}"
        )
    }


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
    for name, words in (("all_test", "test/"), ("leak_free", "test/ without leaks")):
        lines[f"balanced accuracy, {words}"] = spread(
            [result[name]["macro_sensitivity"] for result in evaluations]
        )
    lines["every radiograph once: median seed, 95 % interval"] = interval(
        median_run(runs)["compare"]["pooled"]
    )
    best = best_baseline(runs)
    lines["network minus best baseline: p (McNemar, Holm), by seed"] = ", ".join(
        f"{details['compare']['baselines'][best]['p_holm']:.2g}" for details in runs
    )
    lines["every radiograph once: log loss"] = over_seeds(
        runs, lambda details: details["compare"]["pooled"]["loss"]
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
    epochs = [details["train"]["epochs"] for details in runs]
    kept = [details["train"]["kept_epoch"] for details in runs]
    lines["epochs run; epoch kept"] = f"{min(epochs)} to {max(epochs)}; {min(kept)} to {max(kept)}"
    return lines


def print_table(what: str, columns: dict[str, dict[str, str]]) -> None:
    """Prints one column per protocol and kind of labels as Markdown."""
    print(f"| {what} | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    names = dict.fromkeys(name for column in columns.values() for name in column)
    for name in names:
        print(f"| {name} | {' | '.join(column.get(name, '') for column in columns.values())} |")


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
    chosen = parser.parse_args()
    archive = given_zip(chosen.archive, "data/archive")
    outside = given_zip(chosen.external, "data/external")
    shown = [file.name if file else "phantoms" for file in (archive, outside)]
    print(f"Images: {shown[0]}; external: {shown[1]}; seeds {chosen.seeds}; {FOLDS} folds\n")
    collected: dict[str, list[Run]] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        tqdm(total=4 * len(chosen.seeds), unit="run", disable=None) as bar,
    ):
        here = project(Path(scratch), archive, {"crossvalidate.folds": FOLDS}, outside)
        for labels in LABELS:
            for protocol, settings in PROTOCOLS.items():
                runs = collected.setdefault(f"{protocol}, {labels}", [])
                for seed in chosen.seeds:
                    seeds = {
                        "preprocess.seed": seed,
                        "train.seed": seed,
                        "crossvalidate.seeds": [seed],
                    }
                    set_params(here, settings | seeds | {"audit.labels": labels})
                    run("dvc", "repro", "compare", "external", folder=here)
                    index = dataset.read_index(here / dataset.PROCESSED)
                    runs.append(
                        {
                            path.stem: json.loads(path.read_text(encoding="utf-8"))
                            for path in (here / "metrics/details").glob("*.json")
                        }
                        | {"index": index.drop_duplicates("path")}
                    )
                    bar.update()
                    accuracy = runs[-1]["compare"]["pooled"]["accuracy"]
                    print(f"{protocol} {labels} seed {seed}: {accuracy:.4f}", file=sys.stderr)
    print_table("accuracy", {name: headline(runs) for name, runs in collected.items()})
    print("\nBeside these (docs/results.md):\n")
    print_table("metric", {name: more(runs) for name, runs in collected.items()})


if __name__ == "__main__":
    main()
