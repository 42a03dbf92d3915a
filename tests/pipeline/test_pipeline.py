"""What a user does with the pipeline, with the real DVC in scratch repositories."""

import json
import re
from pathlib import Path

import pytest

from tests.pipeline.scratch import Scratch, stages_run

COLUMNS = 120
ALL = [
    "download",
    "audit",
    "preprocess",
    "baselines",
    "train",
    "evaluate",
    "crossvalidate",
    "calibrate",
    "external",
    "occlusion",
    "compare",
    "report",
]


def test_second_repro_has_nothing_to_do_and_says_so(project: Scratch) -> None:
    output = project.run("dvc", "repro")
    assert stages_run(output) == []
    assert "up to date" in output
    assert project.run("git", "status", "--short") == ""


def test_every_metrics_and_details_file_names_the_synthetic_data(finished: Scratch) -> None:
    details = sorted((finished.folder / "metrics/details").glob("*.json"))
    assert len(details) == 9
    metrics = sorted((finished.folder / "metrics").glob("*.json"))
    assert [f"metrics/{path.name}" for path in metrics] == METRICS[1:]
    for path in [finished.folder / "metrics.json", *metrics, *details]:
        assert "SYNTHETIC PHANTOM" in path.read_text(), path
    assert "SYNTHETIC PHANTOM" in (finished.folder / "metrics/MODEL_CARD.md").read_text()


# -------------------------------------------------------------------------- what dvc metrics shows


METRICS = ["metrics.json", "metrics/train.json"]


def test_metrics_show_prints_a_few_numbers_that_fit_a_terminal(project: Scratch) -> None:
    shown = json.loads(project.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert list(shown) == METRICS
    compared, external, evaluated, training = (
        json.loads((project.folder / f"metrics/details/{stage}.json").read_text())
        for stage in ("compare", "external", "evaluate", "train")
    )
    against = compared["baselines"][compared["best"]]
    expected = {
        "acc": compared["cross_validated"]["accuracy"],
        "loss": compared["cross_validated"]["loss"],
        "outside_fpr": external["false_positive_rate"]["share"],
        "test": evaluated["all_test"]["accuracy"],
        "test_leak_free": evaluated["leak_free"]["accuracy"],
        "verdict": against["verdict"],
        "vs_baseline": against["difference"],
    }
    numbers = shown["metrics.json"]["data"]
    # DVC prints them by the alphabet: what is cross-validated comes before what test/ gives
    assert list(numbers) == sorted(numbers) == list(expected)
    for name, value in expected.items():
        assert numbers[name] == (value if name == "verdict" else pytest.approx(value, abs=5e-5))
    numbers = shown["metrics/train.json"]["data"]
    assert list(numbers) == ["acc", "loss"]  # nothing is stopped early
    assert numbers["acc"] == pytest.approx(training["accuracy"], abs=5e-5)
    assert numbers["loss"] == pytest.approx(training["loss"], abs=5e-5)

    # the widest that there can be
    path = project.folder / "metrics.json"
    widest = json.loads(path.read_text()) | dict.fromkeys(expected, 0.1234)
    path.write_text(json.dumps(widest | {"vs_baseline": -0.1234, "verdict": "not distinguishable"}))
    lines = project.run("dvc", "metrics", "show").splitlines()
    assert lines[0].split()[:3] == ["Path", "acc", "loss"]
    assert max(map(len, lines)) <= COLUMNS


def test_an_experiment_fits_a_terminal_and_leaves_data_and_baselines_alone(
    project: Scratch,
) -> None:
    output = project.run("dvc", "exp", "run", "-S", "recipes.tuned.learning_rate=0.01")
    changed = {*TRAIN, "evaluate", "external", "occlusion", "compare", "report"}
    assert set(stages_run(output)) == changed

    lines = project.run("dvc", "metrics", "diff").splitlines()
    assert 2 <= len(lines) <= 20
    assert max(map(len, lines)) <= COLUMNS
    table = project.run("dvc", "exp", "show", "--only-changed", "--csv").splitlines()
    assert "recipes.tuned.learning_rate" in table[0].split(",")
    assert len(table[0].split(",")) <= 20

    project.run("dvc", "plots", "diff", "HEAD")
    html = (project.folder / "dvc_plots/index.html").read_text()
    for name in (
        "Accuracy by epoch",
        "Loss by epoch",
        "Confusion on the test images",
        "ROC by class",
        "Reliability",
        "confusion.png",
        "gradcam.png",
        "occlusion.png",
        "copies.png",
    ):
        assert html.count(name) >= 1, name
    assert html.count("Accuracy by epoch") == 1, "drawn twice"
    assert not re.search("<DVC_METRIC_[A-Z_]+>", html)

    project.set(recipes__tuned__learning_rate=0.0005)
    output = project.run("dvc", "repro")
    # the run-cache restores a run that was seen before; the report has none, as dvc.yaml says
    assert stages_run(output) == ["report"]
    assert "Stage 'train' is cached" in output
    assert project.run("git", "status", "--short") == ""


# --------------------------------------------------------------------------------- what runs again


def test_another_seed_trains_its_own_folds_only_and_back_again_nothing_runs(
    project: Scratch,
) -> None:
    project.set(crossvalidate__seeds=[0, 7])
    output = project.run("dvc", "repro")
    # calibrated by the first seed alone, so that nothing that ships changes
    judging = {"baselines", "occlusion", "compare"}
    assert set(stages_run(output)) == {"crossvalidate", "calibrate", *judging, "report"}
    assert re.findall(r"seed (\d) fold (\d): (kept|trained)", output) == [
        ("0", "1", "kept"),
        ("0", "2", "kept"),
        ("7", "1", "trained"),
        ("7", "2", "trained"),
    ]
    folds = json.loads((project.folder / "metrics/details/crossvalidate.json").read_text())
    assert {(fold["seed"], fold["fold"]) for fold in folds["folds"]} == {
        (seed, fold) for seed in (0, 7) for fold in (1, 2)
    }
    project.set(crossvalidate__seeds=[0])
    assert stages_run(project.run("dvc", "repro")) == ["report"]
    assert project.run("git", "status", "--short") == ""


JUDGE = ["baselines", "compare", "evaluate", "external", "occlusion"]
TRAIN = ["train", "crossvalidate", "calibrate"]
EDITS = {
    "README.md": [],
    "Makefile": [],
    "stages/predict.py": [],
    "stages/repair.py": [],
    "stages/match.py": [],
    "stages/serve.py": [],
    "stages/charts_page.py": [],
    "stages/serving/app.py": [],
    "stages/serving/page.html": [],
    "stages/__init__.py": [],
    "data/archive/README.md": [],
    "data/external/README.md": [],
    "stages/download.py": ["download"],
    "stages/sources/archive.py": ["download", "external"],
    "stages/sources/kaggle_client.py": ["download", "external"],
    "stages/sources/layout.py": ["download", "external"],
    "stages/sources/phantom.py": ["download", "external"],
    "stages/sources/settings.py": ["download", "external"],
    "stages/audit.py": ["audit"],
    "stages/intake/contact_sheet.py": ["audit", "preprocess", "external"],
    "stages/intake/copies.py": ["audit", "preprocess", "external"],
    "stages/intake/decode.py": ["audit", "preprocess", "external"],
    "stages/intake/dicom.py": ["audit", "preprocess", "external"],
    "stages/intake/groups.py": ["audit", "preprocess", "external"],
    "stages/intake/known.py": ["audit", "preprocess", "external"],
    "stages/intake/matching.py": ["audit", "preprocess", "external"],
    "stages/intake/records.py": ["audit", "preprocess", "external"],
    "stages/intake/settings.py": ["audit", "preprocess", "external"],
    "stages/intake/stored.py": ["audit", "preprocess", "external"],
    "stages/preprocess.py": ["preprocess"],
    "stages/learning/classifier.py": ["preprocess", *TRAIN, *JUDGE, "report"],
    "stages/learning/dataset.py": ["preprocess", *TRAIN, *JUDGE, "report"],
    "stages/learning/calibrated.py": ["preprocess", *TRAIN, *JUDGE, "report"],
    "stages/learning/prediction_sets.py": ["preprocess", *TRAIN, *JUDGE, "report"],
    "stages/learning/temperature.py": ["preprocess", *TRAIN, *JUDGE, "report"],
    "stages/learning/network.py": ["preprocess", *TRAIN, *JUDGE, "report"],
    "stages/learning/novelty.py": ["preprocess", *TRAIN, *JUDGE, "report"],
    "stages/learning/settings.py": ["preprocess", *TRAIN, *JUDGE, "report"],
    "stages/learning/splits.py": ["preprocess", *TRAIN, *JUDGE, "report"],
    "stages/train.py": ["train"],
    "stages/crossvalidate.py": ["crossvalidate"],
    "stages/calibrate.py": ["calibrate"],
    "stages/judging/baselines.py": [*JUDGE, "report"],
    "stages/judging/comparison.py": [*JUDGE, "report"],
    "stages/judging/calibration.py": [*JUDGE, "report"],
    "stages/judging/gradcam.py": [*JUDGE, "report"],
    "stages/judging/occlusion.py": [*JUDGE, "report"],
    "stages/judging/scores.py": [*JUDGE, "report"],
    "stages/judging/settings.py": [*JUDGE, "report"],
    "stages/external.py": ["external"],
    "stages/compare.py": ["compare"],
    "stages/baselines.py": ["baselines"],
    "stages/evaluate.py": ["evaluate"],
    "stages/occlusion.py": ["occlusion"],
    "stages/report.py": ["report"],
    "stages/reporting/card.py": ["report"],
    "stages/reporting/charts.py": ["report"],
    "stages/reporting/model_card.md.j2": ["report"],
    "stages/reporting/page.py": ["report"],
    "stages/reporting/report.css": ["report"],
    "stages/reporting/report.html.j2": ["report"],
    "stages/reporting/words.py": ["report"],
    "stages/common/errors.py": ALL,
    "stages/common/files.py": ALL,
    "stages/common/params.py": ALL,
    "requirements.txt": ALL,
}
"""The stages whose own inputs an edit changes; those after them run if their outputs differ."""


@pytest.fixture(scope="module")
def edited(finished: Scratch, tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """A copy in which files are edited, and put back."""
    return finished.copy(tmp_path_factory.mktemp("edited") / "project")


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_runs_what_its_folder_is_for(edited: Scratch, name: str) -> None:
    path = edited.folder / name
    before = path.read_text()
    path.write_text(before + "\n# a comment\n")
    try:
        assert sorted(stages_run(edited.run("dvc", "repro", "--dry"))) == sorted(EDITS[name])
    finally:
        path.write_text(before)


def test_the_table_of_edits_has_files_of_every_folder(finished: Scratch) -> None:
    folders = {path.parent for path in (finished.folder / "stages").rglob("*.py")}
    named = {(finished.folder / name).parent for name in EDITS}
    assert folders - named == set()


def test_an_edit_of_the_judging_trains_nothing(project: Scratch) -> None:
    project.append("stages/judging/scores.py", "# a comment\n")
    assert sorted(stages_run(project.run("dvc", "repro"))) == sorted([*JUDGE, "report"])


def test_a_new_option_of_the_report_runs_the_report_alone(project: Scratch) -> None:
    folder = project.folder / "stages/reporting"
    (folder / "settings.py").write_text(
        "from stages.common.params import Group\n\n\nclass Report(Group):\n    paper: str\n"
    )
    project.append("params.yaml", "report:\n  paper: a4\n")
    pipeline = project.folder / "dvc.yaml"
    text = pipeline.read_text()
    pipeline.write_text(
        text.replace(
            "      - train\n    outs:\n      - metrics/report.html",
            "      - report\n      - train\n    outs:\n      - metrics/report.html",
        )
    )
    assert pipeline.read_text() != text
    assert stages_run(project.run("dvc", "repro")) == ["report"]


@pytest.mark.parametrize("line", ["mystery:\n  key: 1\n", "  mystery: 1\n"])
def test_an_unknown_group_or_key_is_refused_by_the_first_stage_that_runs(
    project: Scratch, line: str
) -> None:
    project.append("params.yaml", line)
    project.append("stages/report.py", "# a comment\n")
    output = project.run("dvc", "repro", status=255)
    assert "mystery: there is no such key, expected one of" in output
    assert "Traceback" not in output


def test_another_recipe_needs_one_setting(project: Scratch) -> None:
    project.set(recipes__original__batch_size=4, recipes__original__epochs=2)
    # what isn't used runs nothing
    assert stages_run(project.run("dvc", "repro")) == []
    output = project.run("dvc", "exp", "run", "-S", "train.recipe=original", "train")
    assert stages_run(output) == ["preprocess", "train"]
    shown = json.loads(project.run("dvc", "metrics", "show", "--json"))[""]["data"]
    numbers = shown["metrics/train.json"]["data"]
    assert list(numbers) == ["acc", "loss", "val_acc", "val_loss"]
    output = project.run("dvc", "exp", "run", "-S", "recipes.original.monitor=val_loss", "train")
    assert stages_run(output) == ["train"]


def test_a_fault_of_the_parameters_ends_in_one_message(project: Scratch) -> None:
    project.set(audit__unreadable="ignore")
    output = project.run("dvc", "repro", status=255)
    assert "audit.unreadable: found 'ignore', expected 'fail' or 'quarantine'" in output
    assert "Traceback" not in output


def test_halves_that_a_killed_dvc_left_are_moved_aside(project: Scratch) -> None:
    lock, rwlock = project.folder / "dvc.lock", project.folder / ".dvc/tmp/rwlock"
    for broken in (lock, rwlock):
        broken.write_bytes(b"")
        assert broken.name in project.run("dvc", "repro", status=255)
        assert f"{broken.name} was cut short" in project.run("python", "-m", "stages.repair")
        assert set(stages_run(project.run("dvc", "repro"))) <= {"report"}
    assert project.run("git", "status", "--short").split() == ["??", "dvc.lock.cut-short"]


# ------------------------------------------------------------------------------ sharing, other data


def test_a_colleague_pulls_and_has_nothing_to_run(project: Scratch, tmp_path: Path) -> None:
    """The lines of README.md, against a folder as the remote."""
    project.run("dvc", "remote", "add", "--default", "team", str(tmp_path / "team"))
    project.commit()
    project.run("dvc", "push")
    project.run("git", "clone", "--quiet", ".", str(tmp_path / "colleague"))
    colleague = Scratch(tmp_path / "colleague", Path(project.environment["HOME"]))
    colleague.run("dvc", "pull")
    assert stages_run(colleague.run("dvc", "repro")) == []
    assert colleague.run("git", "status", "--short") == ""
    assert "metrics.json" in colleague.run("dvc", "metrics", "show")

    project.run("git", "tag", "--annotate", "--message", "first", "classifier@v1.0.0")
    project.run("dvc", "artifacts", "get", ".", "classifier", "--out", str(tmp_path / "got"))
    assert {path.name for path in (tmp_path / "got").iterdir()} == {
        "calibration.json",
        "classifier.json",
        "classifier.keras",
        "classifier.tflite",
        "novelty.npz",
    }


def test_archive_as_the_source(project: Scratch) -> None:
    raw = project.folder / "data/raw"
    archive = project.folder / "data/archive/mine"
    archive.mkdir()
    for split in ("train", "test"):
        (raw / split).rename(archive / split)
    project.set(download__source="archive")
    assert stages_run(project.run("dvc", "repro", "audit")) == ["download", "audit"]
    metrics = json.loads((project.folder / "metrics/details/audit.json").read_text())
    assert "mine" in metrics["provenance"]["data"]
    assert "PHANTOM" not in metrics["provenance"]["data"]
