"""The charts, as PNG; the title of each names what it shows, the data and the protocol."""

import contextlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.judging import drawing
from stages.reporting import card

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Of Okabe and Ito (2008), which colour-blind people can tell apart."""
LINES = ("-", "--", "-.", ":")
VERDICTS = {
    "better": (COLOURS[2], "o"),
    "not distinguishable": ("0.35", "s"),
    "worse": (COLOURS[1], "v"),
}
"""Colour and marker."""
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
    draw_comparison(results, folder)
    if card.sources(results["audit"]["records"]):
        draw_sources(results, folder)


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
    counts = confusion(results)
    what = f"Confusion on all {counts.sum()} test images"
    classes = list(results["evaluate"]["all_test"]["classes"])
    labels = ("predicted class", "actual class")
    draw_counts(folder / "confusion.png", what, results, counts, classes, classes, labels)


def draw_counts(
    target: Path,
    what: str,
    results: Mapping[str, Any],
    counts: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
) -> None:
    """Draws counts, int64, (rows, columns), on the colour of their share of the row.

    Args:
        target: The PNG.
        what: It shows, for the title.
        results: As for `draw`.
        counts: The numbers.
        rows: Their names.
        columns: Theirs.
        labels: What columns and rows are.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    inches = (min(3.4 + len(columns), _MOST_INCHES), min(2.1 + 0.7 * len(rows), _MOST_INCHES))
    with chart(target, what, results, inches) as figure:
        axes = figure.subplots()
        image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for row, column in np.ndindex(counts.shape):
            share = shares[row, column]
            text = f"{counts[row, column]:,}\n{share:.0%}"
            colour = "white" if share > 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour)
        axes.set_xticks(range(len(columns)), [textwrap.fill(name, 14) for name in columns])
        axes.set_yticks(range(len(rows)), [textwrap.fill(name, 24) for name in rows])
        axes.set(xlabel=labels[0], ylabel=labels[1])
        figure.colorbar(image, label=f"% of the {labels[1]}")


def draw_roc(results: Mapping[str, Any], folder: Path) -> None:
    """A curve per class, one against the rest."""
    what = "ROC by class on all test images"
    classes = results["evaluate"]["all_test"]["classes"]
    labels = [
        f"{textwrap.fill(name, 30)}: {card.interval(result, 'auroc')}"
        for name, result in classes.items()
    ] + ["chance"]
    inches = (6.4, min(5.2 + 0.18 * len("\n".join(labels).split("\n")), _MOST_INCHES))
    with chart(folder / "roc.png", what, results, inches) as figure:
        axes = figure.subplots()
        handles = []
        for number, name in enumerate(classes):
            points = [record for record in results["roc"] if record["class"] == name]
            handles += axes.plot(
                [record["false_positive_rate"] for record in points],
                [record["true_positive_rate"] for record in points],
                color=COLOURS[number % len(COLOURS)],
                linestyle=LINES[number % len(LINES)],
                linewidth=2,
            )
        handles += axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal", xlim=(-0.02, 1.02))
        axes.grid(color="0.9")
        # given outright: matplotlib leaves out labels that begin with an underscore
        figure.legend(
            handles,
            labels,
            title="class: AUROC [95 % interval]",
            fontsize=9,
            loc="outside lower center",  # inside it would cover curves
        )


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


def draw_comparison(results: Mapping[str, Any], folder: Path) -> None:
    """Network minus each baseline, the most accurate on top, with 95 % intervals."""
    compare = results["compare"]
    rows = sorted(
        ((card.BASELINES[name], row) for name, row in compare["baselines"].items()),
        key=lambda item: item[1]["accuracy"],
    )
    what = f"Comparison over {card.counted(compare['pooled']['images'], 'radiograph')}"
    inches = (7.2, 1.9 + 0.32 * len(rows))
    with chart(folder / "comparison.png", what, results, inches) as figure:
        axes = figure.subplots()
        axes.axvline(0, color="0.35", linewidth=1)
        for kind, (colour, marker) in VERDICTS.items():
            places = [place for place, (_, row) in enumerate(rows) if row["verdict"] == kind]
            values, low, high = (
                np.array([rows[place][1][f"difference{end}"] for place in places])
                for end in ("", "_low", "_high")
            )
            if places:
                axes.errorbar(
                    values,
                    places,
                    # rounding can leave it slightly below zero
                    xerr=np.maximum([values - low, high - values], 0),
                    fmt=marker,
                    color=colour,
                    capsize=3,
                    label=f"network {kind}",
                )
        names = [f"{label}: {row['accuracy']:.3f}" for label, row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.set(
            xlabel="accuracy of the network minus that of the baseline [95 % interval]",
            ylabel="baseline: its accuracy",
        )
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)


def draw_sources(results: Mapping[str, Any], folder: Path) -> None:
    """Images by source and class, and the share of the source in per cent."""
    classes = list(results["evaluate"]["all_test"]["classes"])
    rows = card.sources(results["audit"]["records"])
    counts = np.array([[row.get(name, 0) for name in classes] for row in rows.values()])
    what = f"Class by source, {counts.sum():,} images of known source"
    target, labels = folder / "sources.png", ("class", "source")
    draw_counts(target, what, results, counts, list(rows), classes, labels)
