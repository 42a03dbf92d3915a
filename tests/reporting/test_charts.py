import contextlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from stages.common import params
from stages.judging import drawing
from stages.reporting import card, charts
from tests import metrics_files

PARAMS = params.load_all(Path(__file__).resolve().parents[2] / "params.yaml")
NAMES = {"accuracy", "comparison", "confusion", "loss", "reliability", "roc", "sources"}


def painted(results: dict[str, Any], name: str) -> Any:
    """The figure of a chart, laid out."""
    chart = charts.all_of(results)[name]
    with drawing.figure(chart.inches) as figure:
        chart.paint(figure)
        figure.draw_without_rendering()
    return figure


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_every_chart_names_what_it_shows_data_and_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}

    @contextlib.contextmanager
    def keeping(target: Path, inches: tuple[float, float]) -> Iterator[Any]:
        with drawing.figure(inches) as figure:
            yield figure
            drawn[target.stem] = figure

    monkeypatch.setattr(drawing, "drawing", keeping)
    charts.write(metrics_files.make(protocol="original", source="phantom"), tmp_path)
    assert set(drawn) == NAMES
    for name, figure in drawn.items():
        what, data = figure.get_suptitle().split("\n")
        assert name.removesuffix("s") in what.lower()
        assert what.endswith(", recipe original")
        assert data == "SYNTHETIC PHANTOM (seed 7)"
        for axes in figure.axes:
            assert axes.get_ylabel()
        assert any(axes.get_xlabel() for axes in figure.axes)


def test_charts_change_with_their_values(tmp_path: Path) -> None:
    for seed in (1, 2):
        charts.write(metrics_files.make(seed=seed), tmp_path / str(seed))
    for name in NAMES:
        one, two = (tmp_path / folder / f"{name}.png" for folder in "12")
        assert one.read_bytes() != two.read_bytes()


def test_the_kept_epoch_is_marked() -> None:
    results = metrics_files.make()
    results["train"]["kept_epoch"] = 3
    for name in ("accuracy", "loss"):
        [axes] = painted(results, name).axes
        lines = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
        assert lines["weights kept: epoch 3"] == [3, 3]
        assert lines["training"] == lines["validation"] == [1, 2, 3, 4]


def test_without_validation_images_one_curve_is_drawn() -> None:
    results = metrics_files.make(protocol="none")
    for name in ("accuracy", "loss"):
        [axes] = painted(results, name).axes
        assert [line.get_label() for line in axes.lines] == ["training", "weights kept: epoch 2"]
        values = [record[name] for record in results["history"]]
        assert list(axes.lines[0].get_ydata()) == values


def test_confusion_has_actual_classes_in_rows() -> None:
    results = metrics_files.make(("a", "b"))
    results["predictions"] = [
        {"actual": actual, "predicted": predicted} for actual, predicted in ("ab", "ab", "aa", "bb")
    ]
    assert charts.confusion_counts(results).tolist() == [[1, 2], [0, 1]]
    figure = painted(results, "confusion")
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == ["1\n33%", "2\n67%", "0\n0%", "1\n100%"]
    assert figure.axes[0].get_ylabel() == "actual class"


def test_roc_has_a_curve_per_class_with_its_area() -> None:
    results = metrics_files.make(("a", "b"))
    results["evaluate"]["all_test"]["classes"]["b"]["auroc"] = 0.5
    results["evaluate"]["all_test"]["classes"]["b"]["intervals"]["auroc"] = [0.25, 0.75]
    results["roc"][1]["true_positive_rate"] = 0.125
    figure = painted(results, "roc")
    [axes] = figure.axes
    assert axes.lines[0].get_ydata()[1] == 0.125
    assert len(axes.lines) == 3
    assert "b: 0.500 [0.250, 0.750]" in texts(figure)


def test_the_comparison_has_the_difference_from_each_baseline() -> None:
    results = metrics_files.make()
    baselines = results["compare"]["baselines"]
    for number, (name, row) in enumerate(baselines.items()):
        row |= {"accuracy": number / 20, "verdict": "better" if name == "frame_5" else "worse"}
    row = {"difference": 0.125, "difference_low": 0.05, "difference_high": 0.25}
    baselines["frame_5"] |= row
    figure = painted(results, "comparison")
    [axes] = figure.axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) == len(baselines)
    assert (names[0], names[-1]) == ("8 x 8 pixels: 0.000", "majority class: 0.500")
    assert axes.lines[0].get_xdata() == [0, 0]
    better, worse = axes.containers
    assert better.lines[0].get_xdata().tolist() == [0.125]
    assert names[better.lines[0].get_ydata()[0]] == "frame of 5 pixels: 0.150"
    assert better.lines[2][0].get_segments()[0][:, 0] == pytest.approx([0.05, 0.25])
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["network better", "network worse"]
    # apart by more than the colour
    assert better.lines[0].get_marker() != worse.lines[0].get_marker()
    assert better.lines[0].get_color() != worse.lines[0].get_color()


def test_the_sources_are_drawn_with_their_classes() -> None:
    results = metrics_files.make(("a", "b"))
    results["audit"]["records"]["sources"] = {"x": {"a": 1, "b": 3}, "y": {"a": 2000, "b": 0}}
    figure = painted(results, "sources")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["2,000\n100%", "0\n0%", "1\n25%", "3\n75%"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["y", "x"]
    assert "2,004 images of known source" in charts.all_of(results)["sources"].what


@pytest.mark.parametrize("records", [None, {"sources": {}}])
def test_without_sources_no_chart_of_them_is_drawn_or_linked(
    records: dict[str, Any] | None,
) -> None:
    results = metrics_files.make(records=False)
    if records is not None:
        results["audit"]["records"] = metrics_files.make()["audit"]["records"] | records
    assert set(charts.all_of(results)) == NAMES - {"sources"}
    assert "sources.png" not in card.write(results, PARAMS)


def test_the_card_links_every_chart_and_no_other() -> None:
    links = re.findall(r"\]\(charts/(\w+)\.png\)", card.write(metrics_files.make(), PARAMS))
    assert sorted(links) == sorted(NAMES)


def test_reliability_shows_the_number_of_images_per_bin() -> None:
    results = metrics_files.make()
    results["reliability"][0]["images"] = 37
    figure = painted(results, "reliability")
    upper, lower = figure.axes
    assert lower.patches[0].get_height() == 37
    assert "37" in texts(figure)
    assert len(upper.lines) == 3


@pytest.mark.filterwarnings("error")
def test_classes_may_have_any_name(tmp_path: Path) -> None:
    names = ["_hidden", "$x^$", "a|b", "-" * 90, *"αβγδεζηθ"]
    results = metrics_files.make(names)
    charts.write(results, tmp_path)
    figure = painted(results, "roc")
    [axes] = figure.axes
    [legend] = figure.legends
    lines = [text.get_text() for text in legend.get_texts()]
    assert [line.split(":")[0].replace("\n", "") for line in lines] == [*names, "chance"]
    assert legend.get_window_extent().y1 < axes.get_window_extent().y0  # below, not on, the curves
    assert figure.bbox.x0 < legend.get_window_extent().x0
    assert legend.get_window_extent().x1 < figure.bbox.x1
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert max(image.size) <= 20 * drawing.DOTS_PER_INCH
            assert np.asarray(image.convert("L")).std() > 5


def test_an_svg_has_the_words_of_the_chart_and_ids_of_its_own() -> None:
    results = metrics_files.make(["a<b", "$c&d"])
    chart = charts.all_of(results)["roc"]
    first, other = (ET.fromstring(charts.svg(name, chart)) for name in ("roc", "other"))
    words = ["".join(text.itertext()) for text in first.iter("{http://www.w3.org/2000/svg}text")]
    assert {"sensitivity", "1 - specificity", "chance"} <= set(words)
    assert [word.split(":")[0] for word in words if "0." in word and ":" in word] == [
        "a<b",
        "$c&d",
    ]
    ids = [{part.get("id") for part in tree.iter()} - {None} for tree in (first, other)]
    assert len(ids[0]) > 10
    assert ids[0].isdisjoint(ids[1])
    used = {part.get("{http://www.w3.org/1999/xlink}href", "")[1:] for part in first.iter()}
    clips = set(re.findall(r"url\(#(.*?)\)", charts.svg("roc", chart)))
    assert clips
    assert (used - {""}) | clips <= ids[0]


@pytest.mark.parametrize("name", ["accuracy", "loss", "roc", "reliability", "comparison"])
def test_every_colour_of_an_svg_is_set_by_the_page(name: str) -> None:
    text = charts.svg(name, charts.all_of(metrics_files.make(["a", "b", "c"]))[name])
    assert text == charts.svg(name, charts.all_of(metrics_files.make(["a", "b", "c"]))[name])
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", text)) <= {
        "none",
        *charts.ON_THE_PAGE.values(),
    }
    assert "var(--ink)" in text
    assert "<style" not in text
    assert "font-family" not in text
    # a text without a fill would be black in dark mode
    for style in re.findall(r'<text style="([^"]*)"', text):
        assert "fill: var(--ink)" in style
