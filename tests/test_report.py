import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import report
from stages.common import params
from stages.common.errors import InputError
from stages.reporting import page, words
from tests import metrics_files

PROJECT = Path(__file__).resolve().parents[1]
NAMES = {"accuracy", "comparison", "confusion", "loss", "reliability", "roc", "sources"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(PROJECT / "params.yaml", tmp_path)


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
    before = pictures(), report.CARD.read_bytes(), report.PAGE.read_bytes()
    run(metrics_files.make())
    assert (pictures(), report.CARD.read_bytes(), report.PAGE.read_bytes()) == before


def test_the_table_is_short_and_says_it_all() -> None:
    results = metrics_files.make(source="phantom")
    compare = results["compare"]
    accuracy = {"accuracy": 0.788, "accuracy_low": 0.675, "accuracy_high": 0.869}
    difference = {"difference": -0.012, "difference_low": -0.05, "difference_high": 0.026}
    compare["pooled"] |= accuracy
    compare["baselines"]["frame_10"] |= accuracy | difference | {"p_holm": 0.0004}
    compare |= {"best": "frame_10", "verdict": "worse"}
    rate = {"class": "Covid", "images": 1000, "called": 962, "share": 0.962}
    rate |= {"low": 0.948, "high": 0.972}
    rate["with_refusal"] = {"called": 800, "share": 0.8, "low": 0.774, "high": 0.824}
    results["external"]["false_positive_rate"] = rate
    lines = report.table(results).splitlines()
    assert lines[:2] == [
        "SYNTHETIC PHANTOM (seed 7), recipe holdout",
        "The network is worse than the best baseline, frame of 10 pixels: "
        "-0.012 [-0.050, +0.026], p < 0.001 (McNemar, Holm)",
    ]
    titles = re.split(" {2,}", lines[2])
    assert titles[0] == "accuracy"
    assert titles[1].startswith("all radiographs, n = 300 all test images, n = 66")
    assert titles[-2:] == ["without leaks, n = 59", "network minus baseline"]
    assert re.split(" {2,}", lines[3])[:2] == ["network", "0.788 [0.675, 0.869]"]
    assert [line[:19].strip() for line in lines[4:-2]] == list(words.BASELINES.values())
    frame = re.split(
        " {2,}", next(line for line in lines if line.startswith("frame of 10 pixels"))[19:]
    )
    row = compare["baselines"]["frame_10"]
    assert frame == [
        "0.788 [0.675, 0.869]",
        words.interval(row["test"]),
        words.interval(row["leak_free"]),
        "-0.012 [-0.050, +0.026]",
    ]
    assert lines[-2:] == [
        "external set: 962 of 1,000 images that are not Covid were called Covid, "
        "0.962 [0.948, 0.972]",
        "Without those that are refused it is 800, 0.800 [0.774, 0.824]",
    ]
    assert max(map(len, lines)) <= 120
    first = report.table(metrics_files.make(protocol="original")).splitlines()[0]
    assert first.endswith(", recipe original (test/ chose the epoch: optimistic there)")
    assert report.table(metrics_files.make(external=False)).endswith("\nexternal set: none")


def test_dvc_runs_it_again_for_every_parameter_that_the_card_shows() -> None:
    stage = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]["report"]
    shown = set(params.groups()) - {"download", "machine", "recipes"}
    assert shown | {"recipes.${train.recipe}"} <= set(stage["params"])


def test_the_page_which_holds_radiographs_is_kept_by_dvc_and_not_by_git() -> None:
    stage = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]["report"]
    assert str(report.PAGE) in stage["outs"]  # with nothing said of the cache
    assert f"/{report.PAGE}" in (PROJECT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize(("path", "stage"), report.MADE_BY.items())
def test_a_missing_file_is_named_with_what_to_run(path: str, stage: str) -> None:
    metrics_files.write(metrics_files.make())
    Path(path).unlink()
    with pytest.raises(InputError, match=rf"^{path} is not there.*`dvc repro {stage}`"):
        report.main()
    assert not report.CHARTS.exists()
    assert not report.CARD.exists()
    assert not report.PAGE.exists()


def test_a_missing_picture_is_named_with_what_to_run() -> None:
    metrics_files.write(metrics_files.make())
    missing = page.ERRORS / "01-map.png"
    missing.unlink()
    with pytest.raises(InputError, match=rf"^{missing} .*`dvc repro --force evaluate`"):
        report.main()
    assert not report.PAGE.exists()


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
