import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from stages import report
from stages.common.errors import InputError
from stages.judging import drawing
from stages.reporting import charts
from tests import metrics_files

PROJECT = Path(__file__).resolve().parents[1]
NAMES = {"accuracy", "baselines", "confusion", "loss", "reliability", "roc"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(PROJECT / "params.yaml", tmp_path)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
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


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def run(results: dict[str, Any]) -> None:
    metrics_files.write(results)
    report.main()


def pictures() -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in report.CHARTS.iterdir()}


def test_it_writes_what_dvc_expects_of_it_and_the_same_bytes_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(metrics_files.make())
    assert capsys.readouterr().out == report.table(report.read()) + "\n"
    assert {path.name for path in report.CHARTS.iterdir()} == {f"{name}.png" for name in NAMES}
    before = pictures(), report.CARD.read_bytes()
    run(metrics_files.make())
    assert (pictures(), report.CARD.read_bytes()) == before


def test_every_chart_names_what_it_shows_data_and_protocol(drawn: dict[str, Any]) -> None:
    run(metrics_files.make(protocol="original", source="phantom"))
    assert set(drawn) == NAMES
    for name, figure in drawn.items():
        what, data = figure.get_suptitle().split("\n")
        assert name in what.lower()
        assert what.endswith(", protocol original")
        assert data == "SYNTHETIC PHANTOM (seed 7)"
        for axes in figure.axes:
            assert axes.get_ylabel()
        assert any(axes.get_xlabel() for axes in figure.axes) or name == "baselines"


def test_charts_change_with_their_values():
    run(metrics_files.make(seed=1))
    before = pictures()
    run(metrics_files.make(seed=2))
    after = pictures()
    assert [name for name in NAMES if before[name] == after[name]] == []


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


def test_baselines_have_bars_with_their_intervals(drawn: dict[str, Any]) -> None:
    results = metrics_files.make()
    record = {"images": 59, "accuracy": 0.5, "accuracy_low": 0.3, "accuracy_high": 0.6}
    results["baselines"]["border"]["leak_free"] = record
    charts.draw_baselines(results, Path())
    [axes] = drawn["baselines"].axes
    all_test, leak_free = (box for box in axes.containers if hasattr(box, "patches"))
    assert len(all_test.patches) == len(leak_free.patches) == 5
    assert leak_free.patches[2].get_height() == 0.5
    whisker = leak_free.errorbar.lines[2][0].get_segments()[2]
    assert whisker[:, 1] == pytest.approx([0.3, 0.6])
    assert {"all test images, n = 66", "without leaks, n = 59", "0.500"} <= set(
        texts(drawn["baselines"])
    )


def test_reliability_shows_the_number_of_images_per_bin(drawn: dict[str, Any]) -> None:
    results = metrics_files.make()
    results["reliability"][0]["images"] = 37
    charts.draw_reliability(results, Path())
    upper, lower = drawn["reliability"].axes
    assert lower.patches[0].get_height() == 37
    assert "37" in texts(drawn["reliability"])
    assert len(upper.lines) == 3


@pytest.mark.filterwarnings("error")
def test_classes_may_have_any_name(drawn: dict[str, Any]) -> None:
    names = ["_hidden", "$x^$", "a|b", "-" * 90, *"αβγδεζηθ"]
    run(metrics_files.make(names))
    [axes] = drawn["roc"].axes
    legend = axes.get_legend()
    lines = [text.get_text() for text in legend.get_texts()]
    assert [line.split(":")[0].replace("\n", "") for line in lines] == [*names, "chance"]
    assert legend.get_window_extent().x0 > axes.get_window_extent().x1  # beside, not on, the curves
    assert legend.get_window_extent().x1 < drawn["roc"].bbox.x1
    for path in report.CHARTS.iterdir():
        with Image.open(path) as image:
            assert max(image.size) <= 20 * drawing.DOTS_PER_INCH
            assert np.asarray(image.convert("L")).std() > 5


def test_the_table_is_short_and_says_it_all() -> None:
    results = metrics_files.make(source="phantom")
    accuracy = {"accuracy": 0.788, "accuracy_low": 0.675, "accuracy_high": 0.869}
    results["evaluate"]["all_test"] |= accuracy
    results["baselines"]["border"]["leak_free"] |= accuracy
    results["stability"]["accuracy"] |= {"mean": 0.845, "lowest": 0.798}
    lines = report.table(results).splitlines()
    assert lines[0] == "SYNTHETIC PHANTOM (seed 7), protocol holdout"
    assert lines[1].endswith(" without leaks, n = 59")
    rows = [line.split("  ")[0] for line in lines[2:]]
    assert rows[0] == "network"
    assert rows[-1] == "cross-validated"
    assert len(rows) == 6
    assert lines[2].split()[1:4] == ["0.788", "[0.675,", "0.869]"]
    assert lines[4].endswith("0.788 [0.675, 0.869]")
    assert " 0.845, standard deviation" in lines[-1]
    assert lines[-1].endswith("(3 folds x 2 seeds)")
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(("path", "stage"), report.MADE_BY.items())
def test_a_missing_file_is_named_with_what_to_run(path: str, stage: str) -> None:
    metrics_files.write(metrics_files.make())
    Path(path).unlink()
    with pytest.raises(InputError, match=rf"^{path} is not there.*`dvc repro {stage}`"):
        report.main()
    assert not report.CHARTS.exists()
    assert not report.CARD.exists()


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
