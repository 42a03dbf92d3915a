"""All results, for people to read.

Reads the JSON files in `metrics/details/` and `metrics/plots/`, the provenance and params.yaml.
Writes the charts in `metrics/charts/` and `metrics/MODEL_CARD.md`, and prints the table that ends
a `dvc repro`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common import files, params, stage
from stages.reporting import card, charts

CHARTS = Path("metrics/charts")
CARD = Path("metrics/MODEL_CARD.md")
MADE_BY = {
    "metrics/details/audit.json": "audit",
    "metrics/details/train.json": "train",
    "metrics/details/baselines.json": "baselines",
    "metrics/details/evaluate.json": "evaluate",
    "metrics/details/stability.json": "stability",
    "metrics/plots/history.json": "train",
    "metrics/plots/predictions.json": "evaluate",
    "metrics/plots/reliability.json": "evaluate",
    "metrics/plots/roc.json": "evaluate",
    "data/processed/provenance.json": "preprocess",
}
"""The stage that writes each of the files that are read."""


def read() -> dict[str, Any]:
    """The contents of the files by their stems.

    Raises:
        InputError: a file is missing or is not JSON.
    """
    return {Path(path).stem: files.read_json(Path(path), name) for path, name in MADE_BY.items()}


def table(results: Mapping[str, Any]) -> str:
    """The short table that stands at the end of a `dvc repro`."""
    evaluate, stability = results["evaluate"], results["stability"]
    provenance, spread = evaluate["provenance"], stability["accuracy"]
    folds, seeds = (card.counted(stability[f"{word}s"], word) for word in ("fold", "seed"))
    rows = {"network": evaluate} | {
        label: results["baselines"][name] for name, label in card.BASELINES.items()
    }
    titles = [f"{label}, n = {evaluate[name]['images']}" for name, label in card.HEADLINES.items()]
    lines = [
        f"{provenance['data']}, protocol {provenance['protocol']}",
        f"{'accuracy [95 % interval]':26}{titles[0]:28}{titles[1]}",
        *(
            f"{label:26}{card.interval(result['all_test']):28}{card.interval(result['leak_free'])}"
            for label, result in rows.items()
        ),
        f"{'cross-validated':26}{spread['mean']:.3f}, standard deviation "
        f"{spread['standard_deviation']:.3f}, {spread['lowest']:.3f} to {spread['highest']:.3f} "
        f"({folds} x {seeds})",
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs the stage."""
    settings = params.load_all()
    results = read()
    text = card.write(results, settings)
    with files.atomic_write(CHARTS) as folder:
        folder.mkdir()
        charts.draw(results, folder)
    files.write_text(CARD, text)
    print(table(results))


if __name__ == "__main__":
    stage.script("report", main, __doc__)
