import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.common.errors import InputError
from stages.intake import records
from tests import made

COMMITTED = made.PROJECT / records.KAGGLE


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table_of(*rows: dict[str, str]) -> records.Records:
    columns = tuple(rows[0])
    return records.Records(Path("t.csv"), columns, {row["path"]: row for row in rows}, len(rows))


def described(table: records.Records | None, *paths: str, pattern: str = "") -> list[Any]:
    rows: list[dict[str, Any]] = [
        {"path": path, "split": path.split("/")[0], "class": path.split("/")[1]} for path in paths
    ]
    records.describe(rows, table, pattern)
    return rows


# ----------------------------------------------------------------------------------- reading


def test_a_table_is_read_and_the_first_of_double_rows_wins(tmp_path: Path) -> None:
    text = "\ufeffview, path ,patient\r\nPA,train/A/1.png, p 1 \r\n\r\nAP,train/A/1.png,p2\r\n"
    table = records.read(written(tmp_path / "t.csv", text))
    assert table.columns == ("view", "path", "patient")
    assert table.rows == {
        "train/A/1.png": {"view": "PA", "path": "train/A/1.png", "patient": "p 1"}
    }
    assert table.count == 2


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "found no column path, but nothing"),
        ("path;patient\na;1\n", "found no column path, but 'path;patient'"),
        ("patient,age\n1,2\n", "found no column path, but 'patient', 'age'"),
        ("path,age,patient,sex\na,1,2,m\n", "found the columns 'age', 'sex', which mean nothing"),
        ("path,view,path\na,PA,a\n", "found a column twice"),
        ("path,view\na,PA\nb\n", "in line 3 found 1 values for 2 columns"),
        ("path,view\na,PA,x\n", "in line 2 found 3 values for 2 columns"),
        ("path,label\na,\nb,agree\n", "in line 3 found the label 'agree', which is none of agrees"),
        ('path,view\na,"PA', "it is no such file (unexpected end of data)"),
        ("path\ngrößer.png\n".encode("latin-1"), "it is no such file ('utf-8' codec"),
        (b"\x89PNG\r\n\x1a\n\0\0", "it is no such file ("),
        (b"PK\x03\x04\0\0", "found no column path, but"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: str | bytes, found: str) -> None:
    path = written(tmp_path / "t.csv", content)
    with pytest.raises(InputError) as caught:
        records.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {found}")
    assert message.endswith(
        ". Expected a CSV file in UTF-8 with the column path (split/class/file) and any of "
        "patient, source, source_file, finding, label, view, match."
    )
    assert len(message.splitlines()) == 1


def test_a_table_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: it is not there\. Expected a CSV"):
        records.read(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r": it is a folder\. Expected a CSV"):
        records.read(tmp_path)


VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(
    columns=st.lists(st.sampled_from(records.COLUMNS), unique=True, max_size=4),
    lines=st.lists(st.lists(VALUES, min_size=8, max_size=8), max_size=5),
)
def test_what_was_written_is_read(
    columns: list[str], lines: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    columns = ["path", *(name for name in columns if name not in ("path", "label"))]
    rows = [dict(zip(columns, [f"p{line[0]}", *line[1:]], strict=False)) for line in lines]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    path = written(tmp_path_factory.getbasetemp() / "written.csv", text.getvalue())
    table = records.read(path)
    assert table.count == len(rows)
    assert table.columns == tuple(columns)
    expected: dict[str, dict[str, str]] = {}
    for row in rows:
        stripped = {name: value.strip() for name, value in row.items()}
        expected.setdefault(stripped["path"], stripped)
    assert table.rows == expected


@given(content=st.binary(max_size=60) | st.text('path,"\r\n ;', max_size=30).map(str.encode))
@example(content=b"path\n\0")
@example(content=b'path\n"a\nb"\n')
def test_any_file_is_read_or_refused_in_one_line(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.getbasetemp() / "any.csv", content)
    try:
        table = records.read(path)
    except InputError as error:
        message = str(error)
    else:
        assert "path" in table.columns
        assert min(table.count, 1) <= len(table.rows) <= table.count
        return
    assert len(message.splitlines()) == 1


# ------------------------------------------------------------------------------- which table


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder data/raw of a scratch project with the table of the Kaggle data set."""
    monkeypatch.chdir(tmp_path)
    written(records.KAGGLE, "path,patient\ntrain/A/1.png,kaggle\ntest/A/1.png,kaggle\n")
    return Path("data/raw")


KAGGLE_PATHS = ["test/A/1.png", "train/A/1.png"]


def test_the_kaggle_table_counts_for_exactly_its_paths(project: Path) -> None:
    given = str(records.KAGGLE)
    found = records.find(given, project, KAGGLE_PATHS)
    assert found
    assert found.path == records.KAGGLE
    assert records.find(f"./{given}", project, KAGGLE_PATHS) == found
    assert records.find(given, project, KAGGLE_PATHS[:1]) is None
    assert records.find(given, project, [*KAGGLE_PATHS, "test/A/2.png"]) is None


def test_a_table_that_came_along_is_preferred_and_one_that_is_named_most_of_all(
    project: Path,
) -> None:
    beside = written(project / "records.csv", "path\ntrain/A/1.png\n")
    found = records.find(str(records.KAGGLE), project, KAGGLE_PATHS)
    assert found
    assert found.path == beside
    mine = written(Path("mine.csv"), "path\n")
    found = records.find("mine.csv", project, KAGGLE_PATHS)
    assert found
    assert found.path == mine
    with pytest.raises(InputError, match=r"other\.csv: it is not there"):
        records.find("other.csv", project, KAGGLE_PATHS)


# ------------------------------------------------------------------------ what it says of files


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({}, "unknown"),
        ({"finding": ""}, "unknown"),
        ({"finding": "Viral Pneumonia"}, "agrees"),
        ({"finding": "VIRAL_pneu-monia"}, "agrees"),
        ({"finding": "Pneumonia"}, "contradicts"),
        ({"finding": "Viral.Pneumonia"}, "contradicts"),
        ({"finding": "virus", "label": "agrees"}, "agrees"),
        ({"finding": "Viral Pneumonia", "label": "contradicts"}, "contradicts"),
        ({"finding": "Viral Pneumonia", "label": ""}, "unknown"),
    ],
)
def test_labels(row: dict[str, str], label: str) -> None:
    assert records.label_of(row, "Viral Pneumonia") == label


def test_images_are_described() -> None:
    table = table_of(
        {"path": "train/A/1.png", "source": "s", "finding": "B", "view": "PA", "patient": "p"},
        {"path": "train/B/1.png", "source": "", "finding": "b", "view": "", "patient": ""},
    )
    rows = described(table, "train/A/1.png", "train/B/1.png", "test/A/1.png")
    names = ("patient", "source", "finding", "view", "label")
    assert [[row[name] for name in names] for row in rows] == [
        ["p", "s", "B", "PA", "contradicts"],
        ["", "", "b", "", "agrees"],
        ["", "", "", "", "unknown"],
    ]
    assert described(None, "train/A/1.png")[0]["label"] == "unknown"


def test_the_pattern_fills_in_where_the_table_has_no_patient() -> None:
    table = table_of(
        {"path": "train/A/00000001_000.png", "patient": "one"},
        {"path": "train/A/00000002_000.png", "patient": ""},
    )
    rows = described(
        table,
        "train/A/00000001_000.png",
        "train/A/00000002_000.png",
        "test/A/00000003_017.png",
        "test/A/x.png",
        pattern=r"(?P<patient>\d{8})_\d{3}",
    )
    assert [row["patient"] for row in rows] == ["one", "00000002", "00000003", ""]
    assert records.patient_in("train/A/1.png", "(?P<patient>9)?") == ""


def test_counts() -> None:
    table = records.Records(
        Path("my") / "t.csv",
        ("path", "source", "finding"),
        {
            "train/A/1.png": {"path": "train/A/1.png", "source": "s", "finding": "A"},
            "train/A/2.png": {"path": "train/A/2.png", "source": "t", "finding": "B"},
            "train/A/bad.png": {"path": "train/A/bad.png", "source": "t", "finding": "B"},
            "gone.png": {"path": "gone.png", "source": "u", "finding": "C"},
        },
        6,
    )
    paths = ["train/A/1.png", "train/A/2.png", "test/B/1.png"]
    rows = described(table, *paths)
    none = dict.fromkeys(records.LABELS, 0)
    assert records.counts(rows, table, [*paths, "train/A/bad.png"], 2) == {
        "table": "my/t.csv",
        "rows": 6,
        "rows_without_file": 1,
        "files_without_row": 1,
        "double_rows": 2,
        "labels": {
            "train": {"agrees": 1, "contradicts": 1, "unknown": 0},
            "test": {"agrees": 0, "contradicts": 0, "unknown": 1},
        },
        "labels_by_class": {
            "train": {"A": {"agrees": 1, "contradicts": 1, "unknown": 0}, "B": none},
            "test": {"A": none, "B": {"agrees": 0, "contradicts": 0, "unknown": 1}},
        },
        "sources": {"s": {"A": 1, "B": 0}, "t": {"A": 1, "B": 0}},
        "contradicting": [{"file": "train/A/2.png", "class": "A", "source": "t", "finding": "B"}],
        "left_out": 2,
    }


# -------------------------------------------------------------------------- the committed table


def test_the_committed_table_describes_the_files_of_the_manifest() -> None:
    table = records.read(COMMITTED)
    with (made.PROJECT / "data/kaggle-manifest.csv").open(encoding="utf-8", newline="") as file:
        paths = [row["path"].removeprefix("Covid19-dataset/") for row in csv.DictReader(file)]
    assert table.rows.keys() == set(paths)
    assert table.count == len(paths) == 317
    counted = records.counts(described(table, *paths), table, paths, 0)
    assert counted["labels"] == {
        "train": {"agrees": 204, "contradicts": 38, "unknown": 9},
        "test": {"agrees": 47, "contradicts": 18, "unknown": 1},
    }
    assert counted["labels_by_class"]["test"]["Viral Pneumonia"]["contradicts"] == 17
    assert counted["sources"] == {
        "figure1": {"Covid": 40, "Normal": 0, "Viral Pneumonia": 0},
        "ieee8023": {"Covid": 97, "Normal": 0, "Viral Pneumonia": 0},
        "kermany": {"Covid": 0, "Normal": 90, "Viral Pneumonia": 90},
    }
