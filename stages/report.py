"""Everything that was found out, for people to read.

Reads the JSON files in `metrics/`, the provenance and params.yaml. Writes the figures in
`metrics/figures/` and `metrics/MODEL_CARD.md`, and prints the summary that ends a `dvc repro`.
"""

import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files, params, provenance, stage
from stages.judging import drawing
from stages.reporting import card
from stages.common.errors import InputError

METRICS = Path("metrics")
FIGURES = Path("metrics/figures")
CARD = Path("metrics/MODEL_CARD.md")
MADE_BY = {
    "crossvalidation": "stability",
    "data": "audit",
    "history": "train",
    "predictions": "evaluate",
    "reliability": "evaluate",
    "roc": "evaluate",
    "shortcuts": "shortcuts",
    "test": "evaluate",
    "train": "train",
}
"""The stage that writes each of the metrics files."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Of Okabe and Ito (2008), which colour-blind people can tell apart."""
LINES = ("-", "--", "-.", ":")
_MOST_INCHES = 20.0


class Record(dict[str, Any]):
    """A JSON object that knows where it stands, so that a key it lacks can be named.

    Raises:
        InputError: on looking up a key that is not there.
    """

    def __init__(self, values: Mapping[str, Any], path: Path, made_by: str, place: str) -> None:
        super().__init__(
            {key: _named(value, path, made_by, f"{place}{key}.") for key, value in values.items()}
        )
        self._origin = (path, made_by, place)

    def __missing__(self, key: str) -> Any:
        path, made_by, place = self._origin
        raise InputError(
            f"{path}: expected the key {place}{key}, found none; an older version may have "
            f"written the file. Run `dvc repro --force {made_by}`."
        )


def _named(value: Any, path: Path, made_by: str, place: str) -> Any:
    if isinstance(value, dict):
        return Record(value, path, made_by, place)
    if isinstance(value, list):
        return [
            _named(inner, path, made_by, f"{place}{number}.") for number, inner in enumerate(value)
        ]
    return value


def read() -> dict[str, Any]:
    """The content of all metrics files by their stems, and "provenance".

    Raises:
        InputError: a file is missing or damaged. A key that is missing raises when looked up.
    """
    found = {
        name: _named(files.read_json(path, made_by), path, made_by, "")
        for name, made_by in MADE_BY.items()
        for path in [METRICS / f"{name}.json"]
    }
    return found | {"provenance": Record(provenance.read(), provenance.FILE, "download", "")}


@contextlib.contextmanager
def chart(
    name: str, what: str, found: Mapping[str, Any], inches: tuple[float, float] = (6.4, 4.2)
) -> Iterator[Any]:
    """A matplotlib figure in metrics/figures/ whose title names what it shows, data, protocol."""
    import matplotlib as mpl

    where = found["test"]["provenance"]
    with drawing.drawing(FIGURES / f"{name}.png", inches) as figure:
        mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False
        data = textwrap.fill(where["data"], int(inches[0] * 12))
        figure.suptitle(f"{what}, protocol {where['protocol']}\n{data}", fontsize=10.5)
        yield figure


def draw_history(measure: str, label: str, found: Mapping[str, Any]) -> None:
    """Training and validation by epoch; `measure` is "accuracy" or "loss"."""
    history, kept = found["history"], found["train"]["kept_epoch"]
    epochs = [record["epoch"] for record in history]
    with chart(measure, f"{measure.capitalize()} by epoch", found) as figure:
        axes = figure.subplots()
        for key, name, colour, line in (
            (measure, "train", COLOURS[0], "o-"),
            (f"val_{measure}", "validation", COLOURS[1], "s--"),
        ):
            values = [record[key] for record in history]
            axes.plot(epochs, values, line, color=colour, label=name, markersize=4)
        axes.axvline(kept, color="0.35", linestyle=":", label=f"weights kept: epoch {kept}")
        axes.set(xlabel="epoch", ylabel=label)
        if measure == "accuracy":
            axes.set_ylim(top=1.02)
        else:
            axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="0.9")
        axes.legend()


def confusion(found: Mapping[str, Any]) -> np.ndarray:
    """int64, (classes, classes): how many images of the row's class were taken for the column's."""
    from sklearn.metrics import confusion_matrix

    records = found["predictions"]
    return np.asarray(
        confusion_matrix(
            [record["actual"] for record in records],
            [record["predicted"] for record in records],
            labels=list(found["test"]["published"]["classes"]),
        )
    )


def draw_confusion(found: Mapping[str, Any]) -> None:
    """Counts, and the share of the row in per cent."""
    classes = list(found["test"]["published"]["classes"])
    names = [textwrap.fill(name, 16) for name in classes]
    counts = confusion(found)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    what = f"Confusion on all {counts.sum()} test images"
    inches = (min(3.4 + len(names), _MOST_INCHES), min(2.1 + 0.9 * len(names), _MOST_INCHES))
    with chart("confusion", what, found, inches) as figure:
        axes = figure.subplots()
        picture = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for row, column in np.ndindex(counts.shape):
            axes.text(
                column,
                row,
                f"{counts[row, column]}\n{shares[row, column]:.0%}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.6 else "black",
            )
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted class", ylabel="actual class")
        figure.colorbar(picture, label="% of the row")


def draw_roc(found: Mapping[str, Any]) -> None:
    """A curve a class, one against the rest."""
    with chart("roc", "ROC by class on all test images", found, (6.4, 5.6)) as figure:
        axes = figure.subplots()
        handles, labels = [], []
        for number, (name, result) in enumerate(found["test"]["published"]["classes"].items()):
            points = [record for record in found["roc"] if record["class"] == name]
            handles += axes.plot(
                [record["false_positive_rate"] for record in points],
                [record["true_positive_rate"] for record in points],
                color=COLOURS[number % len(COLOURS)],
                linestyle=LINES[number % len(LINES)],
                linewidth=2,
            )
            area = card.interval(result["auroc"], result["intervals"]["auroc"])
            labels.append(f"{textwrap.fill(name, 30)}: {area}")
        handles += axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        labels.append("chance")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal", xlim=(-0.02, 1.02))
        axes.grid(color="0.9")
        # given outright: matplotlib leaves out labels that begin with an underscore
        axes.legend(
            handles, labels, title="class: AUROC [95 % interval]", loc="lower right", fontsize=9
        )


def draw_reliability(found: Mapping[str, Any]) -> None:
    """Accuracy by confidence before and after the temperature; below, the images in each bin."""
    temperature = found["test"]["calibration"]["temperature"]
    what = "Reliability on all test images"
    with chart("reliability", what, found, (6.4, 5.6)) as figure:
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="as sure as right")
        for when, label, line, colour, shift in (
            ("before", "before temperature scaling", "o-", COLOURS[0], -1),
            ("after", f"after (temperature {temperature:.3f})", "s--", COLOURS[1], 1),
        ):
            bins = [record for record in found["reliability"] if record["temperature"] == when]
            upper.plot(
                [record["confidence"] for record in bins],
                [record["accuracy"] for record in bins],
                line,
                color=colour,
                label=label,
                markersize=5,
            )
            centres = [(record["from"] + record["to"]) / 2 + 0.02 * shift for record in bins]
            bars = lower.bar(
                centres, [record["images"] for record in bins], width=0.036, color=colour
            )
            lower.bar_label(bars, fontsize=7)
        upper.set(ylabel="accuracy in the bin", ylim=(-0.03, 1.03), xlim=(0, 1.0))
        lower.set(xlabel="confidence (top probability)", ylabel="images a bin")
        lower.margins(y=0.2)
        upper.grid(color="0.9")
        upper.legend(loc="upper left")


def draw_shortcuts(found: Mapping[str, Any]) -> None:
    """Accuracy of the network beside the baselines, with 95 % intervals."""
    bars = {"network": found["test"]} | {
        words.label: found["shortcuts"][name] for name, words in card.BASELINES.items()
    }
    what = "Network and baselines, 95 % intervals"
    with chart("shortcuts", what, found, (7.2, 4.4)) as figure:
        axes = figure.subplots()
        for number, (headline, label) in enumerate(card.HEADLINES.items()):
            records = [result[headline] for result in bars.values()]
            values = np.array([record["accuracy"] for record in records])
            low = values - [record["accuracy_low"] for record in records]
            high = [record["accuracy_high"] for record in records] - values
            places = np.arange(len(bars)) + 0.4 * number - 0.2
            axes.bar(
                places,
                values,
                width=0.38,
                color=COLOURS[number],
                label=f"{label}, n = {found['test'][headline]['images']}",
                yerr=np.maximum([low, high], 0),  # rounding can leave a hair below nought
                error_kw={"capsize": 3, "ecolor": "0.2"},
            )
            for x, record in zip(places, records, strict=True):
                axes.text(
                    x,
                    record["accuracy_high"] + 0.015,
                    f"{record['accuracy']:.3f}",
                    ha="center",
                    fontsize=8,
                )
        axes.set_xticks(range(len(bars)), [label.replace(" (", "\n(") for label in bars])
        axes.set(ylabel="accuracy", ylim=(0, 1.2), yticks=np.linspace(0, 1, 6))
        axes.legend()


def summary(found: Mapping[str, Any]) -> str:
    """The short table that stands at the end of a `dvc repro`."""
    test, result = found["test"], found["crossvalidation"]
    rows = {"network": test} | {
        words.label: found["shortcuts"][name] for name, words in card.BASELINES.items()
    }
    heads = [f"{label}, n = {test[name]['images']}" for name, label in card.HEADLINES.items()]
    fold = result["accuracy"]
    lines = [
        f"{test['provenance']['data']}, protocol {test['provenance']['protocol']}",
        f"{'accuracy [95 % interval]':26}{heads[0]:28}{heads[1]}",
        *(
            f"{label:26}{card.accuracy(record['published']):28}{card.accuracy(record['leak_free'])}"
            for label, record in rows.items()
        ),
        f"{'cross-validated':26}{fold['mean']:.3f}, standard deviation "
        f"{fold['standard_deviation']:.3f}, {fold['lowest']:.3f} to {fold['highest']:.3f} "
        f"({card.counted(result['folds'], 'fold')} x {card.counted(result['seeds'], 'seed')})",
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs the stage."""
    settings = params.load()
    found = read()
    text = card.write(found, settings)
    ending = summary(found)
    draw_history("accuracy", "accuracy", found)
    draw_history("loss", "loss (cross-entropy, nats)", found)
    draw_confusion(found)
    draw_roc(found)
    draw_reliability(found)
    draw_shortcuts(found)
    files.write_text(CARD, text)
    print(ending)


if __name__ == "__main__":
    stage.script("report", main, __doc__)
