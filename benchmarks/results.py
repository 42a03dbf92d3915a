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
BASELINES = {
    "thumbnail": "16 x 16 thumbnail",
    "border": "border only, centre blacked out",
    "file_properties": "file properties",
    "majority_class": "majority class",
}


def spread(values: list[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def bounds(values: list[int]) -> str:
    """Range of whole numbers."""
    return f"{min(values)} to {max(values)}"


def interval(found: dict[str, Any]) -> str:
    """Accuracy with its 95 % interval and the number of images."""
    return (
        f"{found['accuracy']:.3f} [{found['accuracy_low']:.3f}, {found['accuracy_high']:.3f}] "
        f"of {found['images']}"
    )


def column(metrics: list[dict[str, Any]]) -> dict[str, str]:
    """What the table says of one protocol, by figure, from the metrics of each seed.

    Cross-validation and baselines are those of the first seed.
    """
    tests = [found["test"] for found in metrics]
    lines = {}
    for name, what in (("published", "all test images"), ("leak_free", "without leaks")):
        values = [test[name] for test in tests]
        middle = sorted(values, key=lambda value: value["accuracy"])[len(values) // 2]
        lines[f"test accuracy, {what} (`{name}`): mean (range) over seeds"] = spread(
            [value["accuracy"] for value in values]
        )
        lines[f"{what}: the median seed, with its 95 % interval"] = interval(middle)
    folds = metrics[0]["crossvalidation"]["accuracy"]
    lines["cross-validated accuracy within train/: mean (range) over folds"] = (
        f"{folds['mean']:.3f} ({folds['lowest']:.3f} to {folds['highest']:.3f})"
    )
    for name, what in BASELINES.items():
        lines[f"baseline: {what}"] = interval(metrics[0]["shortcuts"][name]["published"])
    for name in ("expected_calibration_error", "brier", "loss"):
        for when in ("before", "after"):
            lines[f"{name.replace('_', ' ')}, {when} temperature scaling"] = spread(
                [test["calibration"][when][name] for test in tests]
            )
    gradcam = [test["gradcam"] for test in tests]
    lines["Grad-CAM: share outside the central region"] = spread(
        [found["outside_chest_share"] for found in gradcam]
    )
    lines["of so many test images with any activation"] = bounds(
        [found["images_with_activation"] for found in gradcam]
    )
    lines["epochs run"] = bounds([found["train"]["epochs"] for found in metrics])
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
    columns = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        tqdm(total=len(RUNS) * len(chosen.seeds), unit="run", disable=None) as bar,
    ):
        here = project(Path(scratch), archive, {})
        for settings in RUNS.values():
            metrics: list[dict[str, Any]] = []
            for seed in chosen.seeds:
                set_params(here, settings | {"preprocess.seed": seed, "train.seed": seed})
                # the rest is of the first seed alone
                run("dvc", "repro", *(["evaluate"] if metrics else []), folder=here)
                metrics.append(
                    {
                        path.stem: json.loads(path.read_text(encoding="utf-8"))
                        for path in (here / "metrics").glob("*.json")
                    }
                )
                bar.update()
            columns.append(column(metrics))
    print(f"| figure | {' | '.join(RUNS)} |")
    print("|---" * (len(RUNS) + 1) + "|")
    for figure in columns[0]:
        print(f"| {figure} | {' | '.join(found[figure] for found in columns)} |")


if __name__ == "__main__":
    main()
