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
from stages.judging import drawing
from stages.common.errors import InputError
from tests import metrics_files

PROJECT = Path(__file__).resolve().parents[1]
NAMES = {"accuracy", "confusion", "loss", "reliability", "roc", "shortcuts"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(PROJECT / "params.yaml", tmp_path)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures as matplotlib objects, by name, as soon as they are drawn."""
    kept: dict[str, Any] = {}
    original = figures.drawing

    @contextlib.contextmanager
    def drawing(target: Path, inches: tuple[float, float]) -> Iterator[Any]:
        with original(target, inches) as figure:
            yield figure
            kept[target.stem] = figure

    monkeypatch.setattr(figures, "drawing", drawing)
    return kept


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def run(found: dict[str, Any]) -> None:
    metrics_files.write(found)
    report.main()


def pictures() -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in report.FIGURES.iterdir()}


def test_it_writes_what_dvc_expects_of_it_and_the_same_bytes_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(metrics_files.make())
    assert capsys.readouterr().out == report.summary(report.read()) + "\n"
    assert {path.name for path in report.FIGURES.iterdir()} == {f"{name}.png" for name in NAMES}
    before = pictures(), report.CARD.read_bytes()
    run(metrics_files.make())
    assert (pictures(), report.CARD.read_bytes()) == before


def test_every_figure_names_what_it_shows_data_and_protocol(drawn: dict[str, Any]) -> None:
    run(metrics_files.make(protocol="published", source="phantom"))
    assert set(drawn) == NAMES
    for name, figure in drawn.items():
        what, data = figure.get_suptitle().split("\n")
        assert {"shortcuts": "baselines"}.get(name, name) in what.lower()
        assert what.endswith(", protocol published")
        assert data == "SYNTHETIC PHANTOM (seed 7)"
        for axes in figure.axes:
            assert axes.get_ylabel()
        assert any(axes.get_xlabel() for axes in figure.axes) or name == "shortcuts"


def test_figures_change_with_their_values():
    run(metrics_files.make(seed=1))
    before = pictures()
    run(metrics_files.make(seed=2))
    after = pictures()
    assert [name for name in NAMES if before[name] == after[name]] == []


def test_the_kept_epoch_is_marked(drawn: dict[str, Any]) -> None:
    found = metrics_files.make()
    found["train"]["kept_epoch"] = 3
    report.draw_history("accuracy", "accuracy", found)
    report.draw_history("loss", "loss", found)
    for name in ("accuracy", "loss"):
        [axes] = drawn[name].axes
        lines = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
        assert lines["weights kept: epoch 3"] == [3, 3]
        assert lines["train"] == lines["validation"] == [1, 2, 3, 4]


def test_confusion_has_actual_classes_in_rows(drawn: dict[str, Any]) -> None:
    found = metrics_files.make(("a", "b"))
    found["predictions"] = [
        {"file": str(number), "actual": actual, "predicted": said, "leaked": False}
        for number, (actual, said) in enumerate([("a", "b"), ("a", "b"), ("a", "a"), ("b", "b")])
    ]
    assert report.confusion(found).tolist() == [[1, 2], [0, 1]]
    report.draw_confusion(found)
    shown = [text.get_text() for text in drawn["confusion"].axes[0].texts]
    assert shown == ["1\n33%", "2\n67%", "0\n0%", "1\n100%"]
    assert drawn["confusion"].axes[0].get_ylabel() == "actual class"


def test_roc_has_a_curve_a_class_with_its_area(drawn: dict[str, Any]) -> None:
    found = metrics_files.make(("a", "b"))
    found["test"]["published"]["classes"]["b"]["auroc"] = 0.5
    found["test"]["published"]["classes"]["b"]["intervals"]["auroc"] = [0.25, 0.75]
    found["roc"][1]["true_positive_rate"] = 0.125
    report.draw_roc(found)
    [axes] = drawn["roc"].axes
    assert axes.lines[0].get_ydata()[1] == 0.125
    assert len(axes.lines) == 3
    assert "b: 0.500 [0.250, 0.750]" in texts(drawn["roc"])


def test_shortcuts_have_bars_with_their_intervals(drawn: dict[str, Any]) -> None:
    found = metrics_files.make()
    record = {"images": 59, "accuracy": 0.5, "accuracy_low": 0.3, "accuracy_high": 0.6}
    found["shortcuts"]["border"]["leak_free"] = record
    report.draw_shortcuts(found)
    [axes] = drawn["shortcuts"].axes
    published, leak_free = (box for box in axes.containers if hasattr(box, "patches"))
    assert len(published.patches) == len(leak_free.patches) == 5
    assert leak_free.patches[2].get_height() == 0.5
    whisker = leak_free.errorbar.lines[2][0].get_segments()[2]
    assert whisker[:, 1] == pytest.approx([0.3, 0.6])
    assert {"all test images, n = 66", "without leaks, n = 59", "0.500"} <= set(
        texts(drawn["shortcuts"])
    )


def test_reliability_shows_the_number_of_images_a_bin(drawn: dict[str, Any]) -> None:
    found = metrics_files.make()
    found["reliability"][0]["images"] = 37
    report.draw_reliability(found)
    upper, lower = drawn["reliability"].axes
    assert lower.patches[0].get_height() == 37
    assert "37" in texts(drawn["reliability"])
    assert len(upper.lines) == 3


@pytest.mark.filterwarnings("error")
def test_classes_may_have_any_name(drawn: dict[str, Any]) -> None:
    names = ["_hidden", "$x^$", "a|b", "-" * 90, *"αβγδεζηθ"]
    run(metrics_files.make(names))
    legend = [text.get_text() for text in drawn["roc"].axes[0].get_legend().get_texts()]
    assert [line.split(":")[0].replace("\n", "") for line in legend] == [*names, "chance"]
    for path in report.FIGURES.iterdir():
        with Image.open(path) as image:
            assert max(image.size) <= 20 * figures.DOTS_PER_INCH
            assert np.asarray(image.convert("L")).std() > 5


def test_the_summary_is_short_and_says_it_all() -> None:
    found = metrics_files.make(source="phantom")
    figures_of = {"accuracy": 0.788, "accuracy_low": 0.675, "accuracy_high": 0.869}
    found["test"]["published"] |= figures_of
    found["shortcuts"]["border"]["leak_free"] |= figures_of
    found["crossvalidation"]["accuracy"] |= {"mean": 0.845, "lowest": 0.798}
    lines = report.summary(found).splitlines()
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


@pytest.mark.parametrize(
    ("name", "path", "stage"),
    [
        ("test", ("leak_free", "intervals", "brier"), "evaluate"),
        ("test", ("published", "classes", "Normal", "auroc"), "evaluate"),
        ("train", ("kept_epoch",), "train"),
        ("history", (2, "val_loss"), "train"),
        ("data", ("copies", "leaked_test_images"), "audit"),
        ("shortcuts", ("border",), "shortcuts"),
        ("crossvalidation", ("macro_f1", "lowest"), "stability"),
        ("reliability", (4, "images"), "evaluate"),
    ],
)
def test_a_missing_key_is_named_with_what_to_run(
    name: str, path: tuple[str | int, ...], stage: str
) -> None:
    found = metrics_files.make()
    place = found[name]
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    metrics_files.write(found)
    with pytest.raises(InputError) as caught:
        report.main()
    dotted = ".".join(map(str, path))
    assert str(caught.value).startswith(f"metrics/{name}.json: expected the key {dotted}, found")
    assert f"`dvc repro --force {stage}`" in str(caught.value)
    assert not report.CARD.exists()


def test_a_missing_file_is_named_with_what_to_run():
    metrics_files.write(metrics_files.make())
    Path("metrics/shortcuts.json").unlink()
    with pytest.raises(InputError, match=r"metrics/shortcuts\.json is not there.*`dvc repro short"):
        report.main()


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
