"""What must never be in the repository, and what must always be."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

# Put together from parts, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a Kaggle token": r"KGAT_[0-9a-f]{16,}",
    "a Kaggle key": r"\"key\"\s*:\s*\"[0-9a-f]{32}\"",
    "an access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[0-9A-Za-z]{36}",
    "a private key": "-----BEGIN " + "[A-Z ]*PRIVATE KEY-----",
    "a password in an address": r"[a-z]+://[^/\s:@]+:[^/\s:@]+@",
    "an absolute home path": r"(?<![\w.])/(?:ho" + r"me|Users)/[a-z][\w.-]*/|(?<![\w.])/ro" + "ot/",
    "an index address": r"--(?:extra-)?index-url[ =]\s*\S*//|(?:pypi|files)\.python"
    + r"hosted\.org",
}
PICTURES = {".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".zip", ".keras", ".h5"}


def tracked() -> list[Path]:
    """The files in git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this copy has no git, which knows what is tracked")
    return [PROJECT / name for name in listed.stdout.split("\0") if (PROJECT / name).is_file()]


def faults(text: str) -> list[str]:
    """What is forbidden and stands in the text."""
    return [what for what, pattern in FORBIDDEN.items() if re.search(pattern, text)]


def test_no_credential_home_path_or_index_address() -> None:
    found = {
        str(path.relative_to(PROJECT)): what
        for path in tracked()
        if path.suffix != ".png" and (what := faults(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "token = KGAT" + "_0123456789abcdef0123456789abcdef",
        '{"username": "me", "key": "' + "0123456789abcdef" * 2 + '"}',
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "https://me:secret" + "@example.org/simple",
        "/ho" + "me/student/project",
        "/Us" + "ers/student/project",
        "--index-url" + " https://example.org/simple",
    ],
)
def test_the_search_finds_what_it_looks_for(text: str) -> None:
    assert len(faults(f"before {text} after")) >= 1


def test_no_radiograph_and_no_model() -> None:
    assert [path for path in tracked() if path.suffix.lower() in PICTURES] == []


def test_pictures_in_git_are_charts() -> None:
    allowed = (PROJECT / "metrics/charts", PROJECT / "docs")
    pictures = [path for path in tracked() if path.suffix == ".png"]
    assert [path for path in pictures if not any(a in path.parents for a in allowed)] == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    text = (PROJECT / name).read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(lines) > 50
    for line in lines:
        assert re.match(r"[A-Za-z0-9._-]+(\[[^]]*\])?==\S+", line), line
        assert "--hash=sha256:" in line, line


def test_the_same_versions_are_pinned_for_use_and_for_development() -> None:
    def pins(name: str) -> set[str]:
        text = (PROJECT / name).read_text(encoding="utf-8")
        return set(re.findall(r"^([A-Za-z0-9._-]+==\S+)", text, re.MULTILINE))

    assert pins("requirements.txt") <= pins("requirements-dev.txt")


def test_the_readme_and_docs_name_every_parameter_and_every_command() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    docs = (PROJECT / "docs/development.md").read_text(encoding="utf-8")
    params = (PROJECT / "params.yaml").read_text(encoding="utf-8")
    missing = [
        key for key in re.findall(r"^  (\w+):", params, re.MULTILINE) if f"`{key}`" not in readme
    ]
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    missing += [
        name
        for name in re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)
        if name != "help" and f"make {name}" not in readme + docs
    ]
    assert missing == []


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(readme.split()) <= 1300
    for page in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_page_on_the_data_set_states_what_its_program_prints() -> None:
    page = (PROJECT / "docs/dataset.md").read_text(encoding="utf-8")
    program, stated = re.findall(r"```python\n(.*?)```.*?```text\n(.*?)```", page, re.DOTALL)[0]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert [line.rstrip() for line in done.stdout.splitlines()] == stated.splitlines()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the Makefile in it; beside it a browser that notes what it is given."""
    folder = tmp_path / "a copy, 100 %"
    folder.mkdir()
    shutil.copyfile(PROJECT / "Makefile", folder / "Makefile")
    (tmp_path / "browser").write_text(f'#!/bin/sh\necho "$1" >>"{tmp_path}/opened"\n')
    (tmp_path / "browser").chmod(0o755)
    return folder


def look(copy: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "look", f"PYTHON={sys.executable}"],
        cwd=copy,
        env={"PATH": "/usr/bin:/bin", "BROWSER": str(copy.parent / "browser")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_look_opens_the_report(copy: Path) -> None:
    (copy / "metrics").mkdir()
    page = copy / "metrics/report.html"
    page.write_text("<!DOCTYPE html>", encoding="utf-8")
    done = look(copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{page}\n", "")
    assert (copy.parent / "opened").read_text() == f"{page.as_uri()}\n"


def test_make_look_says_what_makes_the_report(copy: Path) -> None:
    done = look(copy)
    assert done.returncode == 2
    assert done.stdout == (
        "metrics/report.html is not there. make repro writes it, or dvc pull fetches it.\n"
    )
    assert not (copy.parent / "opened").exists()
