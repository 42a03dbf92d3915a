"""What a user does with the pipeline, with the real DVC in scratch repositories."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.pipeline.scratch import PROJECT, Scratch, stages_run

LIGHT = ["download", "audit", "preprocess"]
FOLDS = ["crossvalidate@0-1", "crossvalidate@0-2"]


def test_second_repro_has_nothing_to_do_and_says_so(project: Scratch) -> None:
    output = project.run("dvc", "repro")
    assert stages_run(output) == []
    assert "up to date" in output


def test_every_metric_file_names_the_synthetic_data(finished: Scratch) -> None:
    for name in ("data", "train", "test", "shortcuts", "crossvalidation"):
        metrics = json.loads((finished.folder / f"metrics/{name}.json").read_text())
        assert "SYNTHETIC PHANTOM" in metrics["provenance"]["data"], name
    assert "SYNTHETIC PHANTOM" in (finished.folder / "metrics/MODEL_CARD.md").read_text()


def test_metrics_show_prints_numbers(finished: Scratch) -> None:
    shown = json.loads(finished.run("dvc", "metrics", "show", "--json"))[""]["data"]
    train = shown["metrics/train.json"]["data"]
    assert {"epochs", "accuracy", "loss", "val_accuracy", "val_loss"} <= set(train)
    assert shown["metrics/test.json"]["data"]["published"]["images"] > 0


def test_a_learning_rate_leaves_data_and_baselines_alone(project: Scratch) -> None:
    output = project.run("dvc", "exp", "run", "-S", "train.learning_rate=0.01")
    assert set(stages_run(output)) == {"train", "evaluate", *FOLDS, "stability", "report"}

    changed = project.run("dvc", "metrics", "diff", "--json")
    assert "published" in json.dumps(json.loads(changed))
    page = project.run("dvc", "plots", "diff", "HEAD")
    html = (project.folder / "dvc_plots/index.html").read_text()
    assert "index.html" in page
    for name in ("Accuracy by epoch", "Loss by epoch", "ROC by class", "figures/confusion.png"):
        assert name in html, name
    assert not re.search("<DVC_METRIC_[A-Z_]+>", html)

    project.set(train__learning_rate=0.0001)
    output = project.run("dvc", "repro")
    # the run-cache restores a run that was seen before; the report has none, as dvc.yaml says
    assert stages_run(output) == ["report"]
    assert "Stage 'train' is cached" in output


def test_another_seed_of_the_cross_validation_runs_its_own_folds_only(project: Scratch) -> None:
    project.set(crossvalidate__seeds=[0, 7])
    ran = stages_run(project.run("dvc", "repro"))
    assert ran == ["crossvalidate@7-1", "crossvalidate@7-2", "stability", "report"]
    summary = json.loads((project.folder / "metrics/crossvalidation.json").read_text())
    assert {(record["seed"], record["fold"]) for record in summary["records"]} == {
        (seed, fold) for seed in (0, 7) for fold in (1, 2)
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("README.md", []),
        ("stages/common/gradcam.py", ["evaluate"]),
        ("stages/report.py", ["report"]),
        ("stages/stability.py", ["stability"]),
    ],
)
def test_an_edit_runs_what_it_concerns(project: Scratch, name: str, expected: list[str]) -> None:
    path = project.folder / name
    path.write_text(path.read_text() + "\n# a comment\n" if path.exists() else "words")
    assert stages_run(project.run("dvc", "repro")) == expected


def test_a_fault_of_the_parameters_ends_in_one_message(project: Scratch) -> None:
    project.set(audit__unreadable="ignore")
    output = project.run("dvc", "repro", status=255)
    assert "audit.unreadable: found 'ignore', expected 'fail' or 'quarantine'" in output
    assert "Traceback" not in output


def test_halves_that_a_killed_dvc_left_are_mended(project: Scratch) -> None:
    lock, rwlock = project.folder / "dvc.lock", project.folder / ".dvc/tmp/rwlock"
    for broken in (lock, rwlock):
        broken.write_bytes(b"")
        assert broken.name in project.run("dvc", "repro", status=255)
        assert f"{broken.name} was cut short" in project.run("python", "-m", "stages.mend")
        assert set(stages_run(project.run("dvc", "repro"))) <= {"report"}
    assert project.run("git", "status", "--short") == ""


def test_archive_as_the_source(project: Scratch) -> None:
    raw = project.folder / "data/raw"
    archive = project.folder / "data/archive/mine"
    archive.mkdir()
    for split in ("train", "test"):
        (raw / split).rename(archive / split)
    project.set(download__source="archive")
    assert stages_run(project.run("dvc", "repro", "audit")) == ["download", "audit"]
    metrics = json.loads((project.folder / "metrics/data.json").read_text())
    assert "mine" in metrics["provenance"]["data"]
    assert "PHANTOM" not in metrics["provenance"]["data"]


def modules_used(script: Path) -> set[str]:
    """The paths of all modules of stages/ that a script imports, over any number of steps.

    Without `stages/common/__init__.py`, in which there is nothing to depend on.
    """
    found = {"stages/__init__.py"}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(PROJECT).as_posix()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for module in names:
                file = PROJECT / (module.replace(".", "/") + ".py")
                if module.startswith("stages") and file.is_file():
                    waiting.append(file)
    return found


@pytest.mark.parametrize("stage", yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"])
def test_every_module_that_a_stage_uses_is_among_its_dependencies(stage: str) -> None:
    declared = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    modules = {name for name in declared if name.startswith("stages")}
    used = modules_used(PROJECT / f"stages/{stage}.py")
    covered = {
        name for name in used if any(name == dep or name.startswith(f"{dep}/") for dep in modules)
    }
    assert used - covered == set(), "not among the deps in dvc.yaml"
    idle = {dep for dep in modules if not any(n == dep or n.startswith(f"{dep}/") for n in used)}
    assert idle == set(), "among the deps in dvc.yaml, but not used"


def test_the_folder_of_shared_modules_runs_no_code_of_its_own() -> None:
    (said,) = ast.parse((PROJECT / "stages/common/__init__.py").read_text()).body
    assert isinstance(said, ast.Expr), "it is not among the deps in dvc.yaml"
    assert isinstance(said.value, ast.Constant)


@pytest.mark.parametrize("module", sorted((PROJECT / "stages/common").rglob("*.py")), ids=str)
def test_what_is_shared_knows_no_stage(module: Path) -> None:
    stages = {f"stages/{path.name}" for path in (PROJECT / "stages").glob("*.py")}
    assert modules_used(module) & stages == {"stages/__init__.py"}


def test_the_lock_file_fits_the_code() -> None:
    """After a clone, `dvc.lock` names the code, the parameters and the stages as they are."""
    import hashlib

    lock = yaml.safe_load((PROJECT / "dvc.lock").read_text())["stages"]
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    for name, entry in lock.items():
        declared = set(stages[name.partition("@")[0]]["deps"])
        assert {dep["path"] for dep in entry["deps"]} == declared, f"{name}: `dvc commit --force`"
    recorded = {
        dep["path"]: dep["md5"]
        for entry in lock.values()
        for dep in entry["deps"]
        if "nfiles" not in dep
    }
    for path, md5 in recorded.items():
        if (PROJECT / path).is_file() and path.startswith(("stages", "data/kaggle")):
            digest = hashlib.md5((PROJECT / path).read_bytes(), usedforsecurity=False)
            assert digest.hexdigest() == md5, f"{path} has changed: run `make repro`, commit"
    parameters = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for entry in lock.values():
        for name, value in entry.get("params", {}).get("params.yaml", {}).items():
            here = parameters
            for key in name.split("."):
                here = here[key]
            assert here == value, name
