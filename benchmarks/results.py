"""Runs the whole pipeline for several seeds in both protocols and prints the README's table.

usage: python -m benchmarks.results [--archive ZIP] [--seeds 0 1 2 3 4]

The images are those of the zip given, or of the one zip in data/archive/, or else phantoms. The
seed is that of the hold-out split and of training. Takes about a minute a run on two idle cores.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.scratch import given_archive, project, run, set_params

RUNS = {
    "`holdout`, best epoch": {"preprocess.validation": "holdout", "train.weights": "best"},
    "`published`, last epoch": {"preprocess.validation": "published", "train.weights": "last"},
}
BASELINES = ("thumbnail", "border", "file_properties", "majority_class")


def spread(values: list[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def interval(found: dict[str, Any]) -> str:
    """Accuracy with its 95 % interval and the number of images."""
    return (
        f"{found['accuracy']:.3f} [{found['accuracy_low']:.3f}, {found['accuracy_high']:.3f}] "
        f"of {found['images']}"
    )


def rows(label: str, metrics: list[dict[str, Any]]) -> list[str]:
    """The table's rows for one protocol, from the metrics of each seed."""
    tests = [found["test"] for found in metrics]
    lines = []
    for name in ("published", "leak_free"):
        values = [test[name] for test in tests]
        middle = sorted(values, key=lambda value: value["accuracy"])[len(values) // 2]
        lines.append(
            f"| {label} | `{name}` test accuracy | "
            f"{spread([value['accuracy'] for value in values])} | {interval(middle)} |"
        )
    for when in ("before", "after"):
        for name in ("loss", "brier", "expected_calibration_error"):
            values = [test["calibration"][when][name] for test in tests]
            lines.append(
                f"| {label} | {name.replace('_', ' ')} {when} temperature | {spread(values)} | |"
            )
    epochs = [found["train"]["epochs"] for found in metrics]
    lines.append(f"| {label} | epochs | {min(epochs)} to {max(epochs)} | |")
    outside = [test["gradcam"]["outside_chest_share"] for test in tests]
    lines.append(f"| {label} | Grad-CAM outside the chest | {spread(outside)} | |")
    folds = metrics[0]["crossvalidation"]["accuracy"]
    lines.append(
        f"| {label} | cross-validated accuracy | {folds['mean']:.3f} "
        f"({folds['lowest']:.3f} to {folds['highest']:.3f}) | |"
    )
    for name in BASELINES:
        found = metrics[0]["shortcuts"][name]
        lines.append(
            f"| {label} | baseline `{name}`, seed 0 | {found['published']['accuracy']:.3f} | "
            f"{interval(found['published'])} |"
        )
    return lines


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
    archive = given_archive(chosen.archive)
    print(f"Images: {archive.name if archive else 'phantoms'}; seeds {chosen.seeds}\n")
    print("| protocol | figure | mean (range) over seeds | median seed, 95 % interval |")
    print("|---|---|---|---|", flush=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        tqdm(total=len(RUNS) * len(chosen.seeds), unit="run", disable=None) as bar,
    ):
        here = project(Path(scratch), archive, {})
        for label, settings in RUNS.items():
            metrics = []
            for seed in chosen.seeds:
                set_params(here, settings | {"preprocess.seed": seed, "train.seed": seed})
                run("dvc", "repro", folder=here)
                metrics.append(
                    {
                        path.stem: json.loads(path.read_text(encoding="utf-8"))
                        for path in (here / "metrics").glob("*.json")
                    }
                )
                bar.update()
            tqdm.write("\n".join(rows(label, metrics)))


if __name__ == "__main__":
    main()
