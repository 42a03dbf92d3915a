"""The charts: as PNG for the model card and DVC, as SVG for the report page."""

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.judging import drawing
from stages.reporting import words

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Of Okabe and Ito (2008), which colour-blind people can tell apart."""
LINES = ("-", "--", "-.", ":")
INK, GREY, GRID = "#1b1f24", "#5b6570", "#dfe3e7"
VERDICTS = {
    "better": (COLOURS[2], "o"),
    "not distinguishable": (GREY, "s"),
    "worse": (COLOURS[1], "v"),
}
"""Colour and marker."""
ON_THE_PAGE = {
    INK: "var(--ink)",
    GREY: "var(--grey)",
    GRID: "var(--line)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(COLOURS, start=1)},
}
"""What an SVG has in place of a colour, so that the page's style sets it, in dark mode too."""
_INCHES = 4.8  # so that letters can be read where the page is as narrow as a phone
_MOST_INCHES = 20.0


class Chart(NamedTuple):
    """What it shows, for the title, its width and height, and what draws it on a figure."""

    what: str
    inches: tuple[float, float]
    paint: Callable[[Any], None]


def all_of(results: Mapping[str, Any]) -> dict[str, Chart]:
    """The charts by name.

    Args:
        results: As for `words.values`, with "history", "roc" and "reliability" of metrics/plots/.
    """
    charts = {
        "accuracy": history(results, "accuracy", "accuracy"),
        "loss": history(results, "loss", "loss (cross-entropy, nats)"),
        "confusion": confusion(results),
        "roc": roc(results),
        "reliability": reliability(results),
        "comparison": comparison(results),
    }
    if words.sources(results["audit"]["records"]):
        charts["sources"] = sources(results)
    return charts


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Draws all charts as PNG, with a title that names what it shows, the data and the recipe.

    Args:
        results: As for `all_of`.
        folder: Where accuracy.png, loss.png, confusion.png and so on are written.
    """
    provenance = results["evaluate"]["provenance"]
    for name, chart in all_of(results).items():
        with drawing.drawing(folder / f"{name}.png", chart.inches) as figure:
            data = textwrap.fill(provenance["data"], int(chart.inches[0] * 12))
            figure.suptitle(f"{chart.what}, recipe {provenance['recipe']}\n{data}", fontsize=10.5)
            _paint(chart, figure)


def svg(name: str, chart: Chart) -> str:
    """The chart as an SVG element for a page, without a title; letters stay letters.

    Args:
        name: Begins the ids in it, so that they are unlike those of the page's other charts.
        chart: What to draw.
    """
    import matplotlib as mpl

    file = io.StringIO()
    with drawing.figure(chart.inches) as figure:
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": ""})
        _paint(chart, figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, count=1)
    text = re.sub(r'(?<= id=")|(?<=href="#)|(?<=url\(#)', f"{name}-", text)
    text = re.sub(r"font-family: [^;]*; ?", "", text)
    for colour, variable in ON_THE_PAGE.items():
        text = text.replace(f": {colour}", f": {variable}")
    return text


def _paint(chart: Chart, figure: Any) -> None:
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.edgecolor": GREY,
            "axes.labelcolor": INK,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "grid.color": GRID,
            "legend.frameon": False,
            "text.color": INK,
            "xtick.color": GREY,
            "xtick.labelcolor": INK,
            "ytick.color": GREY,
            "ytick.labelcolor": INK,
        }
    )
    chart.paint(figure)


def history(results: Mapping[str, Any], metric: str, label: str) -> Chart:
    """Training and, if any, validation by epoch; `metric` is "accuracy" or "loss"."""
    kept = results["train"]["kept_epoch"]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for name, colour, line in (
            ("training", COLOURS[0], "o-"),
            ("validation", COLOURS[1], "s--"),
        ):
            records = [record for record in results["history"] if record["images"] == name]
            if records:
                epochs, values = ([record[key] for record in records] for key in ("epoch", metric))
                axes.plot(epochs, values, line, color=colour, label=name, markersize=4)
        axes.axvline(kept, color=GREY, linestyle=":", label=f"weights kept: epoch {kept}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.set_ylim(**({"top": 1.02} if metric == "accuracy" else {"bottom": 0}))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid()
        axes.legend()

    return Chart(f"{metric.capitalize()} by epoch", (_INCHES, 3.4), paint)


def confusion_counts(results: Mapping[str, Any]) -> np.ndarray:
    """int64, (classes, classes): how many images of the row's class were taken for the column's."""
    from sklearn.metrics import confusion_matrix

    actual, predicted = (
        [record[key] for record in results["predictions"]] for key in ("actual", "predicted")
    )
    classes = list(results["evaluate"]["all_test"]["classes"])
    return np.asarray(confusion_matrix(actual, predicted, labels=classes))


def confusion(results: Mapping[str, Any]) -> Chart:
    """Counts, and the share of the actual class in per cent."""
    counts = confusion_counts(results)
    classes = list(results["evaluate"]["all_test"]["classes"])
    what = f"Confusion on all {counts.sum()} test images"
    return table(what, counts, classes, classes, ("predicted class", "actual class"))


def sources(results: Mapping[str, Any]) -> Chart:
    """Images by source and class, and the share of the source in per cent."""
    classes = list(results["evaluate"]["all_test"]["classes"])
    rows = words.sources(results["audit"]["records"])
    counts = np.array([[row.get(name, 0) for name in classes] for row in rows.values()])
    what = f"Class by source, {counts.sum():,} images of known source"
    return table(what, counts, list(rows), classes, ("class", "source"))


def table(
    what: str,
    counts: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
) -> Chart:
    """Counts, int64, (rows, columns), on the colour of their share of the row.

    Args:
        what: It shows, for the title.
        counts: The numbers.
        rows: Their names.
        columns: Theirs.
        labels: What columns and rows are.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    inches = (min(3.4 + len(columns), _MOST_INCHES), min(2.1 + 0.7 * len(rows), _MOST_INCHES))

    def paint(figure: Any) -> None:
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

    return Chart(what, inches, paint)


def roc(results: Mapping[str, Any]) -> Chart:
    """A curve per class, one against the rest."""
    classes = results["evaluate"]["all_test"]["classes"]
    labels = [
        f"{textwrap.fill(name, 30)}: {words.interval(result, 'auroc')}"
        for name, result in classes.items()
    ] + ["chance"]
    lines = len("\n".join(labels).split("\n"))

    def paint(figure: Any) -> None:
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
        handles += axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal", xlim=(-0.02, 1.02))
        axes.grid()
        # given outright: matplotlib leaves out labels that begin with an underscore
        figure.legend(
            handles,
            labels,
            title="class: AUROC [95 % interval]",
            loc="outside lower center",  # inside it would cover curves
        )

    return Chart(
        "ROC by class on all test images",
        (_INCHES, min(4.3 + 0.2 * lines, _MOST_INCHES)),
        paint,
    )


def reliability(results: Mapping[str, Any]) -> Chart:
    """Accuracy by confidence before and after the temperature; below, the images in each bin."""
    temperature = results["evaluate"]["calibration"]["temperature"]

    def paint(figure: Any) -> None:
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="perfect calibration")
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
            lower.bar_label(bars, fontsize=8)
        upper.set(ylabel="accuracy in the bin", ylim=(-0.03, 1.03), xlim=(0, 1.0))
        lower.set(xlabel="confidence (highest probability)", ylabel="images per bin")
        lower.margins(y=0.25)
        upper.grid()
        figure.legend(loc="outside lower center")  # inside it would cover curves

    return Chart("Reliability on test images without leaks", (_INCHES, 5.6), paint)


def comparison(results: Mapping[str, Any]) -> Chart:
    """Network minus each baseline, the most accurate on top, with 95 % intervals."""
    compare = results["compare"]
    rows = sorted(
        ((words.BASELINES[name], row) for name, row in compare["baselines"].items()),
        key=lambda item: item[1]["accuracy"],
    )

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=1)
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
            xlabel="network minus baseline [95 % interval]",
            ylabel="baseline: its accuracy",
        )
        axes.grid(axis="x")
        figure.legend(loc="outside lower center", ncols=2)

    what = f"Comparison over {words.counted(compare['pooled']['images'], 'radiograph')}"
    return Chart(what, (_INCHES, 1.9 + 0.3 * len(rows)), paint)
