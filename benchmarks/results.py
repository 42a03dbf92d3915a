"""Runs the whole pipeline for several seeds in both protocols and prints the README's table.

usage: python -m benchmarks.results [--archive ZIP] [--seeds 0 1 2 3 4]

The images are those of the zip given, or of the one zip in data/archive/, or else phantoms. The
seed is that of the hold-out split and of training. Takes about a minute per run on two idle cores.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.scratch import given_zip, project, run, set_params

RUNS = {
    "`holdout`, best epoch": {"preprocess.validation": "holdout", "train.weights": "best"},
    "`original`, last epoch": {"preprocess.validation": "original", "train.weights": "last"},
}
HEADLINES = {"all_test": "all test images", "leak_free": "without leaks"}
BASELINES = {
    "low_resolution": "low resolution (16 x 16)",
    "border": "border only, centre blacked out",
    "majority_class": "majority class",
}
CALIBRATION = {
    "expected_calibration_error": "expected calibration error",
    "brier": "Brier score",
    "loss": "log loss",
}


def spread(values: list[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def interval(result: dict[str, Any]) -> str:
    """Accuracy with its 95 % interval and the number of images."""
    return (
        f"{result['accuracy']:.3f} [{result['accuracy_low']:.3f}, {result['accuracy_high']:.3f}] "
        f"of {result['images']}"
    )


def column(runs: list[dict[str, Any]]) -> dict[str, str]:
    """The table's column for one protocol, from the details of every seed's run.

    Cross-validation and baselines are those of the first seed.
    """
    lines = {}
    for name, words in HEADLINES.items():
        results = [details["evaluate"][name] for details in runs]
        median = sorted(results, key=lambda result: result["accuracy"])[len(results) // 2]
        lines[f"{words}: mean (range) over seeds"] = spread(
            [result["accuracy"] for result in results]
        )
        lines[f"{words}: median seed with 95 % interval"] = interval(median)
    folds = runs[0]["stability"]["accuracy"]
    lines["cross-validated within train/: mean (range) over folds"] = (
        f"{folds['mean']:.3f} ({folds['lowest']:.3f} to {folds['highest']:.3f})"
    )
    for name, words in BASELINES.items():
        lines[f"baseline, all test images: {words}"] = interval(
            runs[0]["baselines"][name]["all_test"]
        )
    return lines


def more(runs: list[dict[str, Any]]) -> dict[str, str]:
    """What the README leaves out: calibration, Grad-CAM and epochs, of one protocol."""
    evaluations = [details["evaluate"] for details in runs]
    lines = {
        f"{words}, {when} temperature scaling": spread(
            [result["calibration"][when][name] for result in evaluations]
        )
        for name, words in CALIBRATION.items()
        for when in ("before", "after")
    }
    lines["Grad-CAM: share outside the central region"] = spread(
        [result["gradcam"]["outside_centre_share"] for result in evaluations]
    )
    lines["baseline, all test images: file properties"] = interval(
        runs[0]["baselines"]["file_properties"]["all_test"]
    )
    epochs = [details["train"]["epochs"] for details in runs]
    kept = [details["train"]["kept_epoch"] for details in runs]
    lines["epochs run; epoch kept"] = f"{min(epochs)} to {max(epochs)}; {min(kept)} to {max(kept)}"
    return lines


def print_table(what: str, columns: list[dict[str, str]]) -> None:
    """Prints one column per protocol as Markdown."""
    print(f"| {what} | {' | '.join(RUNS)} |")
    print("|---" * (len(RUNS) + 1) + "|")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(column[name] for column in columns)} |")


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--archive", type=Path, metavar="ZIP")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    chosen = parser.parse_args()
    archive = given_zip(chosen.archive, "data/archive")
    print(f"Images: {archive.name if archive else 'phantoms'}; seeds {chosen.seeds}\n")
    protocols = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        tqdm(total=len(RUNS) * len(chosen.seeds), unit="run", disable=None) as bar,
    ):
        here = project(Path(scratch), archive, {})
        for settings in RUNS.values():
            runs: list[dict[str, Any]] = []
            for seed in chosen.seeds:
                set_params(here, settings | {"preprocess.seed": seed, "train.seed": seed})
                # the cross-validation is of the first seed alone
                run("dvc", "repro", "evaluate", *([] if runs else ["stability"]), folder=here)
                runs.append(
                    {
                        path.stem: json.loads(path.read_text(encoding="utf-8"))
                        for path in (here / "metrics/details").glob("*.json")
                    }
                )
                bar.update()
            protocols.append(runs)
    print_table("accuracy on the test images", [column(runs) for runs in protocols])
    print("\nBeside these (docs/results.md):\n")
    print_table("metric", [more(runs) for runs in protocols])


if __name__ == "__main__":
    main()
