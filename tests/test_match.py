import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from stages import match
from stages.common.errors import InputError
from stages.intake.matching import Match
from tests import made

COLUMNS = "path,source,source_file\n"


@pytest.mark.parametrize(
    ("source_file", "same", "found"),
    [
        ("x.jpeg", [0], "confirmed"),
        ("x.png", [0], "confirmed"),  # the ending may differ
        ("x", [0], "confirmed"),
        ("a/x.jpeg", [0], "confirmed"),  # the end of a path
        ("x.jpeg", [2, 0], "confirmed"),  # a copy of it under another name does no harm
        ("x.jpeg", [2], "contradicted"),
        ("x.jpeg", [1], "confirmed"),  # one of two files of that name
        ("a/x.jpeg", [1], "contradicted"),
        ("x.jpeg", [], "unlike"),
        ("c/x.jpeg", [0], "renamed"),  # no such path
        ("ax.jpeg", [0], "renamed"),
        ("elsewhere.png", [2], "renamed"),
        ("elsewhere.png", [], "absent"),
        ("..", [], "absent"),
        ("", [0], "new"),
        ("", [], "absent"),
    ],
)
def test_what_was_found_is_told_from_names_and_pictures(source_file, same, found):
    theirs = ["a/x.jpeg", "b/x.jpeg", "b/y.v2.jpeg"]
    row = {"source": "clinic", "source_file": source_file}
    matches = [Match(1, number, 0.9) for number in same]
    other, result = match.check(["other", "mine"], theirs, matches, {"mine": row})
    assert result == {
        "file": "mine",
        "found": found,
        **row,
        "matches": [{"file": theirs[number], "similarity": 0.9} for number in same],
    }
    assert (other["found"], other["source_file"]) == ("absent", "")


def test_files_without_a_row_are_new_where_they_are_found():
    (result,) = match.check(["mine"], ["x.png"], [Match(0, 0, 0.9)], {})
    assert (result["found"], result["source"]) == ("new", "")


def result(found: str, file: str = "train/Covid/1.png", same: tuple[str, ...] = ()) -> Any:
    return {
        "file": file,
        "found": found,
        "source": "clinic" if found != "new" else "",
        "source_file": "x.png" if found != "new" else "",
        "matches": [{"file": name, "similarity": 0.9} for name in same],
    }


def test_the_table_lists_what_a_person_must_look_at_and_counts_the_rest():
    long = "folder/" * 20 + "the end of a name\x1b[2J.png"
    lines = list(
        match.table(
            [
                result("absent"),
                result("new", same=("b.png",)),
                result("confirmed", same=("x.png",)),
                result("contradicted", long, (long, "c.png", "d.png")),
                result("unlike"),
            ]
        )
    )
    assert max(map(len, lines)) <= 120
    cells = [line.split("  ") for line in lines]
    assert [line[0] for line in cells[1:4]] == ["contradicted", "unlike", "new"]
    assert "the end of a name\\x1b[2J.png  x.png" in lines[1]
    assert lines[1].endswith("the end of a name\\x1b[2J.png +2")
    assert lines[2].endswith(" -")
    assert lines[3].split() == ["new", "train/Covid/1.png", "-", "b.png"]
    assert lines[4] == ""
    assert lines[5].split() == ["source", *match.FOUND]
    assert lines[6].split() == ["(not", "known)", *"000010"]
    assert lines[7].split() == ["clinic", *"101101"]


def test_where_everything_is_confirmed_nothing_is_listed():
    lines = list(match.table([result("confirmed", same=("x.png",))]))
    assert [line.split()[0] for line in lines] == ["source", "clinic"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight images in data/raw, of which four are in the folder `others`, equalised and smaller."""
    raw = made.make_raw(tmp_path, ("A", "B"), (2, 2))
    made.write_params(tmp_path)
    others = tmp_path / "others/deep"
    others.mkdir(parents=True)
    for name, path in {
        "one.jpeg": "train/A/00.png",
        "two.jpeg": "train/A/01.png",
        "three.jpeg": "train/B/00.png",
        "four.jpeg": "test/B/00.png",
    }.items():
        with Image.open(raw / path) as image:
            ImageOps.equalize(image).resize((80, 90)).save(others / name, quality=90)
    made.picture(900).save(others / "five.jpeg")
    (raw / "records.csv").write_text(
        COLUMNS
        + "train/A/00.png,clinic,deep/one.png\n"  # confirmed
        + "train/A/01.png,clinic,one.jpeg\n"  # contradicted
        + "train/B/00.png,clinic,\n"  # new; test/B/00.png has no row
        + "train/B/01.png,clinic,five.jpeg\n"  # unlike
        + "test/A/00.png,clinic,nowhere.jpeg\n"  # absent
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(project: Path) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stages.match", *arguments],
            cwd=project,
            env={"PYTHONPATH": str(made.PROJECT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_a_folder_is_matched_as_a_person_would(project: Path, run: Run) -> None:
    (project / "others/notes.txt").write_text("none of its business")
    (project / "others/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    made.picture(1).save(project / "others/.hidden.png")
    done = run("others")
    assert done.returncode == 0
    assert "match: others/broken.png: " in done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 120
    assert [line.split() for line in lines[1:5]] == [
        ["contradicted", "train/A/01.png", "one.jpeg", "deep/two.jpeg"],
        ["unlike", "train/B/01.png", "five.jpeg", "-"],
        ["new", "test/B/00.png", "-", "deep/four.jpeg"],
        ["new", "train/B/00.png", "-", "deep/three.jpeg"],
    ]
    assert "Files of data/raw: 8; found among the 5 of others: 4; not found: 4." in lines
    assert "Table of records: data/raw/records.csv." in lines
    assert "not which of them came first" in done.stdout


def test_every_file_is_in_the_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data/raw/records.csv").unlink()
    (project / "data/kaggle-records.csv").write_text(COLUMNS)
    match.match(Path("others"), as_json=True)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["file"] for record in records] == sorted(record["file"] for record in records)
    assert [record["found"] for record in records].count("new") == 4
    assert len(records) == 8
    assert not match.SCRATCH.exists()
    (same,) = records[4]["matches"]
    assert (records[4]["file"], same["file"]) == ("train/A/00.png", "deep/one.jpeg")
    assert 0.78 <= same["similarity"] <= 1


def test_faults_are_named_in_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(folder: str) -> str:
        with pytest.raises(InputError) as caught:
            match.match(Path(folder), as_json=False)
        return str(caught.value)

    assert fault("missing").startswith("missing: found no such folder")
    assert fault("params.yaml").startswith("params.yaml: found no such folder")
    (project / "empty").mkdir()
    assert fault("empty").startswith("empty: found no image file in it or below")
    (project / "empty/broken.png").write_text("text")
    assert fault("empty") == "empty: none of its images can be read."
    monkeypatch.chdir(project / "empty")
    assert fault("..").startswith("data/raw: found no image")


def test_a_fault_ends_it_with_status_1(run: Run) -> None:
    done = run("missing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("match: missing: found no such folder")
    assert done.stderr.count("\n") == 1


def test_help_says_what_the_words_mean_and_what_is_not_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["match", "--help"])
    with pytest.raises(SystemExit, match="0"):
        match.main()
    text = capsys.readouterr().out
    for word in (*match.FOUND, "--json", "FOLDER", "not which of them came first", "status 1"):
        assert word in text, word
    assert max(map(len, text.splitlines())) <= 100
