"""dvc.yaml, README.md and dvc.lock against the code: the map is true."""

import ast
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.pipeline.scratch import PROJECT

STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
FOLDERS = ("common", "sources", "intake", "learning", "judging", "reporting", "serving")
MAY_USE = {
    "common": set(),
    "sources": {"common"},
    "intake": {"common"},
    "learning": {"common"},
    "judging": {"common", "learning"},
    "reporting": {"common", "judging", "learning"},
    "serving": {"common", "intake", "judging", "learning"},
}


def modules_imported(path: Path) -> set[str]:
    """The modules of stages/ that a file names in its imports, with dots, without `stages.`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("stages.") for name in names if name.startswith("stages.")}


def folders_used(path: Path) -> set[str]:
    """The folders of stages/ that a file imports from, over any number of steps."""
    used: set[str] = set()
    waiting = [path]
    seen = set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in modules_imported(file):
            module = PROJECT / "stages" / (name.replace(".", "/") + ".py")
            if module.is_file():
                used |= {module.parent.name} - {"stages"}
                waiting.append(module)
    return used


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_folders_that_it_imports_from(name: str) -> None:
    declared = {dep for dep in STAGES[name]["deps"] if dep.startswith("stages/")}
    used = folders_used(PROJECT / f"stages/{name}.py")
    assert declared == {f"stages/{name}.py", *(f"stages/{folder}" for folder in used)}
    assert STAGES[name]["cmd"] == f"python -m stages.{name}"
    assert "requirements.txt" in STAGES[name]["deps"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_go_down_only(folder: str) -> None:
    for path in (PROJECT / "stages" / folder).rglob("*.py"):
        used = {name.split(".")[0] for name in modules_imported(path)}
        assert used - {folder} <= MAY_USE[folder], path


def test_no_script_imports_a_script() -> None:
    scripts = {path.stem for path in (PROJECT / "stages").glob("*.py")} - {"__init__"}
    for path in (PROJECT / "stages").rglob("*.py"):
        assert modules_imported(path) & scripts == set(), path


def test_what_is_no_dependency_runs_no_code_that_computes() -> None:
    """`stages/__init__.py` is no dependency: it says what is missing, and that is all."""
    text = (PROJECT / "stages/__init__.py").read_text()
    assert not re.search(r"^(def|class|from) ", text, re.MULTILINE)


def test_the_diagram_in_the_readme_is_the_pipelines() -> None:
    drawn = subprocess.run(
        ["dvc", "dag", "--mermaid"],
        cwd=PROJECT,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    readme = (PROJECT / "README.md").read_text()
    (block,) = re.findall(r"```mermaid\n(.*?)```", readme, re.DOTALL)
    assert block.split() == drawn.split(), "put what `dvc dag --mermaid` prints into README.md"


def md5_of(path: Path) -> str:
    """The hash that DVC gives a file, or a folder without what .dvcignore names."""
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    entries = [
        {"md5": md5_of(file), "relpath": file.relative_to(path).as_posix()}
        for file in path.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]
    entries.sort(key=lambda entry: tuple(entry["relpath"].split("/")))
    text = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest() + ".dir"


def test_the_lock_file_fits_the_code() -> None:
    """After a clone, `dvc.lock` names the code, the parameters and the stages as they are."""
    lock = yaml.safe_load((PROJECT / "dvc.lock").read_text())["stages"]
    assert set(lock) == set(STAGES)
    parameters = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for name, entry in lock.items():
        declared = {
            dep.replace("${audit.records}", parameters["audit"]["records"])
            for dep in STAGES[name]["deps"]
        }
        assert {dep["path"] for dep in entry["deps"]} == declared, name
        for dep in entry["deps"]:
            path = PROJECT / dep["path"]
            if dep["path"].startswith(("stages", "data/kaggle", "requirements")):
                assert md5_of(path) == dep["md5"], f"{path} has changed: run `make repro`, commit"
        for key, value in entry.get("params", {}).get("params.yaml", {}).items():
            here = parameters
            for part in key.split("."):
                here = here[part]
            assert here == value, key
