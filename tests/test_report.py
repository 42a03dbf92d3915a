import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import report
from stages.common import params
from stages.common.errors import InputError
from stages.judging import drawing
from stages.reporting import card, charts
from tests import metrics_files

PROJECT = Path(__file__).resolve().parents[1]
NAMES = {"accuracy", "comparison", "confusion", "loss", "reliability", "roc", "sources"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(PROJECT / "params.yaml", tmp_path)


def kept_figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The charts as matplotlib objects, by name, as soon as they are drawn."""
    kept: dict[str, Any] = {}
    original = drawing.drawing

    @contextlib.contextmanager
    def keeping(target: Path, inches: tuple[float, float]) -> Iterator[Any]:
        with original(target, inches) as figure:
            yield figure
            kept[target.stem] = figure

    monkeypatch.setattr(drawing, "drawing", keeping)
    return kept


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return kept_figures(monkeypatch)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The charts, of which no pixels are made, which takes most of the time."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda _, target, **__: target.touch())
    return kept_figures(monkeypatch)


def texts(figure: Any) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def run(results: dict[str, Any]) -> None:
    metrics_files.write(results)
    report.main()


def pictures() -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in report.CHARTS.iterdir()}


class Written(NamedTuple):
    """What the stage makes of `metrics_files.make()`."""

    card: str
    pictures: dict[str, bytes]
    printed: str


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("written")
    shutil.copy(PROJECT / "params.yaml", folder)
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        run(metrics_files.make())
        return Written(report.CARD.read_text(), pictures(), printed.getvalue())


def test_it_writes_what_dvc_expects_of_it_and_the_same_bytes_each_time(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    run(metrics_files.make())
    assert capsys.readouterr().out == report.table(report.read()) + "\n" == written.printed
    assert {path.name for path in report.CHARTS.iterdir()} == {f"{name}.png" for name in NAMES}
    assert (report.CARD.read_text(), pictures()) == (written.card, written.pictures)


def test_every_chart_names_what_it_shows_data_and_protocol(drawn: dict[str, Any]) -> None:
    run(metrics_files.make(protocol="original", source="phantom"))
    assert set(drawn) == NAMES
    for name, figure in drawn.items():
        what, data = figure.get_suptitle().split("\n")
        assert name.removesuffix("s") in what.lower()
        assert what.endswith(", protocol original")
        assert data == "SYNTHETIC PHANTOM (seed 7)"
        for axes in figure.axes:
            assert axes.get_ylabel()
        assert any(axes.get_xlabel() for axes in figure.axes)


def test_charts_change_with_their_values(written: Written) -> None:
    run(metrics_files.make(seed=2))
    after = pictures()
    assert [name for name in NAMES if written.pictures[name] == after[name]] == []


def test_the_kept_epoch_is_marked(drawn: dict[str, Any]) -> None:
    results = metrics_files.make()
    results["train"]["kept_epoch"] = 3
    charts.draw_history("accuracy", "accuracy", results, Path())
    charts.draw_history("loss", "loss", results, Path())
    for name in ("accuracy", "loss"):
        [axes] = drawn[name].axes
        lines = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
        assert lines["weights kept: epoch 3"] == [3, 3]
        assert lines["training"] == lines["validation"] == [1, 2, 3, 4]


def test_confusion_has_actual_classes_in_rows(drawn: dict[str, Any]) -> None:
    results = metrics_files.make(("a", "b"))
    results["predictions"] = [
        {"actual": actual, "predicted": predicted} for actual, predicted in ("ab", "ab", "aa", "bb")
    ]
    assert charts.confusion(results).tolist() == [[1, 2], [0, 1]]
    charts.draw_confusion(results, Path())
    shown = [text.get_text() for text in drawn["confusion"].axes[0].texts]
    assert shown == ["1\n33%", "2\n67%", "0\n0%", "1\n100%"]
    assert drawn["confusion"].axes[0].get_ylabel() == "actual class"


def test_roc_has_a_curve_per_class_with_its_area(drawn: dict[str, Any]) -> None:
    results = metrics_files.make(("a", "b"))
    results["evaluate"]["all_test"]["classes"]["b"]["auroc"] = 0.5
    results["evaluate"]["all_test"]["classes"]["b"]["intervals"]["auroc"] = [0.25, 0.75]
    results["roc"][1]["true_positive_rate"] = 0.125
    charts.draw_roc(results, Path())
    [axes] = drawn["roc"].axes
    assert axes.lines[0].get_ydata()[1] == 0.125
    assert len(axes.lines) == 3
    assert "b: 0.500 [0.250, 0.750]" in texts(drawn["roc"])


def test_the_comparison_has_the_difference_from_each_baseline(drawn: dict[str, Any]) -> None:
    results = metrics_files.make()
    baselines = results["compare"]["baselines"]
    for number, (name, row) in enumerate(baselines.items()):
        row |= {"accuracy": number / 20, "verdict": "better" if name == "frame_5" else "worse"}
    row = {"difference": 0.125, "difference_low": 0.05, "difference_high": 0.25}
    baselines["frame_5"] |= row
    charts.draw_comparison(results, Path())
    [axes] = drawn["comparison"].axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) == len(baselines)
    assert (names[0], names[-1]) == ("8 x 8 pixels: 0.000", "majority class: 0.500")
    assert axes.lines[0].get_xdata() == [0, 0]
    better, worse = axes.containers
    assert better.lines[0].get_xdata().tolist() == [0.125]
    assert names[better.lines[0].get_ydata()[0]] == "frame of 5 pixels: 0.150"
    assert better.lines[2][0].get_segments()[0][:, 0] == pytest.approx([0.05, 0.25])
    legend = drawn["comparison"].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["network better", "network worse"]
    # apart by more than the colour
    assert better.lines[0].get_marker() != worse.lines[0].get_marker()
    assert better.lines[0].get_color() != worse.lines[0].get_color()


def test_the_sources_are_drawn_with_their_classes(drawn: dict[str, Any]) -> None:
    results = metrics_files.make(("a", "b"))
    results["audit"]["records"]["sources"] = {"x": {"a": 1, "b": 3}, "y": {"a": 2000, "b": 0}}
    charts.draw_sources(results, Path())
    axes = drawn["sources"].axes[0]
    assert [text.get_text() for text in axes.texts] == ["2,000\n100%", "0\n0%", "1\n25%", "3\n75%"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["y", "x"]
    assert "2,004 images of known source" in drawn["sources"].get_suptitle()


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("records", [None, {"sources": {}}])
def test_without_sources_no_chart_of_them_is_drawn_or_linked(
    records: dict[str, Any] | None,
) -> None:
    results = metrics_files.make(records=False)
    if records is not None:
        results["audit"]["records"] = metrics_files.make()["audit"]["records"] | records
    run(results)
    assert set(pictures()) == NAMES - {"sources"}
    assert "sources.png" not in report.CARD.read_text()


def test_the_card_links_every_chart_and_no_other(written: Written) -> None:
    links = re.findall(r"\]\(charts/(\w+)\.png\)", written.card)
    assert sorted(links) == sorted(NAMES)


def test_reliability_shows_the_number_of_images_per_bin(drawn: dict[str, Any]) -> None:
    results = metrics_files.make()
    results["reliability"][0]["images"] = 37
    charts.draw_reliability(results, Path())
    upper, lower = drawn["reliability"].axes
    assert lower.patches[0].get_height() == 37
    assert "37" in texts(drawn["reliability"])
    assert len(upper.lines) == 3


@pytest.mark.filterwarnings("error")
def test_classes_may_have_any_name(rendered: dict[str, Any]) -> None:
    names = ["_hidden", "$x^$", "a|b", "-" * 90, *"αβγδεζηθ"]
    run(metrics_files.make(names))
    [axes] = rendered["roc"].axes
    [legend] = rendered["roc"].legends
    lines = [text.get_text() for text in legend.get_texts()]
    assert [line.split(":")[0].replace("\n", "") for line in lines] == [*names, "chance"]
    assert legend.get_window_extent().y1 < axes.get_window_extent().y0  # below, not on, the curves
    assert rendered["roc"].bbox.x0 < legend.get_window_extent().x0
    assert legend.get_window_extent().x1 < rendered["roc"].bbox.x1
    for path in report.CHARTS.iterdir():
        with Image.open(path) as image:
            assert max(image.size) <= 20 * drawing.DOTS_PER_INCH
            assert np.asarray(image.convert("L")).std() > 5


def test_the_table_is_short_and_says_it_all() -> None:
    results = metrics_files.make(source="phantom")
    compare = results["compare"]
    accuracy = {"accuracy": 0.788, "accuracy_low": 0.675, "accuracy_high": 0.869}
    difference = {"difference": -0.012, "difference_low": -0.05, "difference_high": 0.026}
    compare["pooled"] |= accuracy
    compare["baselines"]["frame_10"] |= accuracy | difference | {"p_holm": 0.0004}
    compare |= {"best": "frame_10", "verdict": "worse"}
    rate = {"class": "Covid", "images": 1000, "called": 962, "share": 0.962}
    results["external"]["false_positive_rate"] = rate | {"low": 0.948, "high": 0.972}
    lines = report.table(results).splitlines()
    assert lines[:2] == [
        "SYNTHETIC PHANTOM (seed 7), protocol holdout",
        "The network is worse than the best baseline, frame of 10 pixels: "
        "-0.012 [-0.050, +0.026], p < 0.001 (McNemar, Holm)",
    ]
    titles = re.split(" {2,}", lines[2])
    assert titles[0] == "accuracy"
    assert titles[1].startswith("all radiographs, n = 300 all test images, n = 66")
    assert titles[-2:] == ["without leaks, n = 59", "network minus baseline"]
    assert re.split(" {2,}", lines[3])[:2] == ["network", "0.788 [0.675, 0.869]"]
    assert [line[:19].strip() for line in lines[4:-1]] == list(card.BASELINES.values())
    frame = re.split(
        " {2,}", next(line for line in lines if line.startswith("frame of 10 pixels"))[19:]
    )
    row = compare["baselines"]["frame_10"]
    assert frame == [
        "0.788 [0.675, 0.869]",
        card.interval(row["test"]),
        card.interval(row["leak_free"]),
        "-0.012 [-0.050, +0.026]",
    ]
    assert lines[-1] == (
        "external set: 962 of 1,000 images that are not Covid were called Covid, "
        "0.962 [0.948, 0.972]"
    )
    assert max(map(len, lines)) <= 120
    first = report.table(metrics_files.make(protocol="original")).splitlines()[0]
    assert first.endswith(", protocol original (test/ chose the epoch: optimistic there)")
    assert report.table(metrics_files.make(external=False)).endswith("\nexternal set: none")


def test_dvc_runs_it_again_for_every_parameter_that_the_card_shows() -> None:
    stage = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]["report"]
    assert set(params.groups()) - {"download"} <= set(stage["params"])


@pytest.mark.parametrize(("path", "stage"), report.MADE_BY.items())
def test_a_missing_file_is_named_with_what_to_run(path: str, stage: str) -> None:
    metrics_files.write(metrics_files.make())
    Path(path).unlink()
    with pytest.raises(InputError, match=rf"^{path} is not there.*`dvc repro {stage}`"):
        report.main()
    assert not report.CHARTS.exists()
    assert not report.CARD.exists()


@pytest.mark.usefixtures("drawn")
def test_charts_of_former_versions_do_not_stay() -> None:
    report.CHARTS.mkdir(parents=True)
    (report.CHARTS / "shortcuts.png").write_bytes(b"old")
    run(metrics_files.make())
    assert set(pictures()) == NAMES


def test_the_roc_template_is_filled_by_dvc_in_full():
    from dvc_render.vega import VegaRenderer  # type: ignore[import-untyped]

    points = [{**point, "rev": "workspace"} for point in metrics_files.make()["roc"]]
    filled = VegaRenderer(
        points,
        "roc",
        template="roc",
        template_dir=str(PROJECT / ".dvc/plots"),
        x="false_positive_rate",
        y="true_positive_rate",
        title="ROC",
    ).partial_html()
    assert "<DVC" not in filled
    spec = json.loads(filled)
    assert spec["data"]["values"] == points
    line = spec["spec"]["layer"][1]
    assert line["encoding"]["color"]["field"] == "class"
    assert line["encoding"]["order"]["field"] == line["transform"][0]["as"]
    assert line["transform"][0]["calculate"] == (
        "datum['false_positive_rate'] + datum['true_positive_rate']"
    )
