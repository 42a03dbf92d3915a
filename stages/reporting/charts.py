"""The charts, as PNG; the title of each names what it shows, the data and the protocol."""

import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.judging import drawing
from stages.reporting import card

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Of Okabe and Ito (2008), which colour-blind people can tell apart."""
LINES = ("-", "--", "-.", ":")
_MOST_INCHES = 20.0


def draw(results: Mapping[str, Any], folder: Path) -> None:
    """Draws all charts.

    Args:
        results: As for `card.write`, with "history", "roc" and "reliability" of metrics/plots/.
        folder: Where accuracy.png, loss.png, confusion.png and so on are written.
    """
    draw_history("accuracy", "accuracy", results, folder)
    draw_history("loss", "loss (cross-entropy, nats)", results, folder)
    draw_confusion(results, folder)
    draw_roc(results, folder)
    draw_reliability(results, folder)
    draw_baselines(results, folder)


@contextlib.contextmanager
def chart(
    target: Path, what: str, results: Mapping[str, Any], inches: tuple[float, float] = (6.4, 4.2)
) -> Iterator[Any]:
    """Gives a matplotlib figure with a title to draw on, and writes it."""
    import matplotlib as mpl

    provenance = results["evaluate"]["provenance"]
    with drawing.drawing(target, inches) as figure:
        mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False
        data = textwrap.fill(provenance["data"], int(inches[0] * 12))
        figure.suptitle(f"{what}, protocol {provenance['protocol']}\n{data}", fontsize=10.5)
        yield figure


def draw_history(metric: str, label: str, results: Mapping[str, Any], folder: Path) -> None:
    """Training and validation by epoch; `metric` is "accuracy" or "loss"."""
    history, kept = results["history"], results["train"]["kept_epoch"]
    epochs = [record["epoch"] for record in history]
    with chart(folder / f"{metric}.png", f"{metric.capitalize()} by epoch", results) as figure:
        axes = figure.subplots()
        for key, name, colour, line in (
            (metric, "training", COLOURS[0], "o-"),
            (f"val_{metric}", "validation", COLOURS[1], "s--"),
        ):
            values = [record[key] for record in history]
            axes.plot(epochs, values, line, color=colour, label=name, markersize=4)
        axes.axvline(kept, color="0.35", linestyle=":", label=f"weights kept: epoch {kept}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.set_ylim(**({"top": 1.02} if metric == "accuracy" else {"bottom": 0}))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="0.9")
        axes.legend()


def confusion(results: Mapping[str, Any]) -> np.ndarray:
    """int64, (classes, classes): how many images of the row's class were taken for the column's."""
    from sklearn.metrics import confusion_matrix

    actual, predicted = (
        [record[key] for record in results["predictions"]] for key in ("actual", "predicted")
    )
    classes = list(results["evaluate"]["all_test"]["classes"])
    return np.asarray(confusion_matrix(actual, predicted, labels=classes))


def draw_confusion(results: Mapping[str, Any], folder: Path) -> None:
    """Counts, and the share of the actual class in per cent."""
    names = [textwrap.fill(name, 16) for name in results["evaluate"]["all_test"]["classes"]]
    counts = confusion(results)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    what = f"Confusion on all {counts.sum()} test images"
    inches = (min(3.4 + len(names), _MOST_INCHES), min(2.1 + 0.9 * len(names), _MOST_INCHES))
    with chart(folder / "confusion.png", what, results, inches) as figure:
        axes = figure.subplots()
        image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for row, column in np.ndindex(counts.shape):
            share = shares[row, column]
            text = f"{counts[row, column]}\n{share:.0%}"
            colour = "white" if share > 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour)
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted class", ylabel="actual class")
        figure.colorbar(image, label="% of the actual class")


def draw_roc(results: Mapping[str, Any], folder: Path) -> None:
    """A curve per class, one against the rest."""
    what = "ROC by class on all test images"
    classes = results["evaluate"]["all_test"]["classes"]
    inches = (6.4, 5.6)
    legend: dict[str, Any] = {"loc": "lower right"}
    if len(classes) > 6:  # the legend would cover the curves
        inches = (11.0, min(5.0 + 0.1 * len(classes), _MOST_INCHES))
        legend = {"loc": "upper left", "bbox_to_anchor": (1.02, 1)}
    with chart(folder / "roc.png", what, results, inches) as figure:
        axes = figure.subplots()
        handles, labels = [], []
        for number, (name, result) in enumerate(classes.items()):
            points = [record for record in results["roc"] if record["class"] == name]
            handles += axes.plot(
                [record["false_positive_rate"] for record in points],
                [record["true_positive_rate"] for record in points],
                color=COLOURS[number % len(COLOURS)],
                linestyle=LINES[number % len(LINES)],
                linewidth=2,
            )
            labels.append(f"{textwrap.fill(name, 30)}: {card.interval(result, 'auroc')}")
        handles += axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        labels.append("chance")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal", xlim=(-0.02, 1.02))
        axes.grid(color="0.9")
        # given outright: matplotlib leaves out labels that begin with an underscore
        axes.legend(handles, labels, title="class: AUROC [95 % interval]", fontsize=9, **legend)


def draw_reliability(results: Mapping[str, Any], folder: Path) -> None:
    """Accuracy by confidence before and after the temperature; below, the images in each bin."""
    temperature = results["evaluate"]["calibration"]["temperature"]
    what = "Reliability on all test images"
    with chart(folder / "reliability.png", what, results, (6.4, 5.6)) as figure:
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="perfect calibration")
        for when, label, line, colour, shift in (
            ("before", "before temperature scaling", "o-", COLOURS[0], -0.02),
            ("after", f"after (temperature {temperature:.3f})", "s--", COLOURS[1], 0.02),
        ):
            bins = [record for record in results["reliability"] if record["temperature"] == when]
            confidence = [record["confidence"] for record in bins]
            accuracy = [record["accuracy"] for record in bins]
            upper.plot(confidence, accuracy, line, color=colour, label=label, markersize=5)
            centres = [(record["from"] + record["to"]) / 2 + shift for record in bins]
            images = [record["images"] for record in bins]
            bars = lower.bar(centres, images, width=0.036, color=colour)
            lower.bar_label(bars, fontsize=7)
        upper.set(ylabel="accuracy in the bin", ylim=(-0.03, 1.03), xlim=(0, 1.0))
        lower.set(xlabel="confidence (highest probability)", ylabel="images per bin")
        lower.margins(y=0.2)
        upper.grid(color="0.9")
        upper.legend(loc="upper left")


def draw_baselines(results: Mapping[str, Any], folder: Path) -> None:
    """Accuracy of the network beside the baselines, with 95 % intervals."""
    bars = {"network": results["evaluate"]} | {
        label: results["baselines"][name] for name, label in card.BASELINES.items()
    }
    what = "Network and baselines, 95 % intervals"
    with chart(folder / "baselines.png", what, results, (7.2, 4.4)) as figure:
        axes = figure.subplots()
        for number, (headline, label) in enumerate(card.HEADLINES.items()):
            accuracy, low, high = (
                np.array([result[headline][key] for result in bars.values()])
                for key in ("accuracy", "accuracy_low", "accuracy_high")
            )
            places = np.arange(len(bars)) + 0.4 * number - 0.2
            axes.bar(
                places,
                accuracy,
                width=0.38,
                color=COLOURS[number],
                label=f"{label}, n = {results['evaluate'][headline]['images']}",
                # rounding can leave it slightly below zero
                yerr=np.maximum([accuracy - low, high - accuracy], 0),
                error_kw={"capsize": 3, "ecolor": "0.2"},
            )
            for x, value, top in zip(places, accuracy, high, strict=True):
                axes.text(x, top + 0.015, f"{value:.3f}", ha="center", fontsize=8)
        axes.set_xticks(range(len(bars)), [label.replace(" (", "\n(") for label in bars])
        axes.set(ylabel="accuracy", ylim=(0, 1.25), yticks=np.linspace(0, 1, 6))
        axes.legend(loc="upper center", ncols=2)
