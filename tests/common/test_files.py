import csv
import errno
import hashlib
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common import files
from stages.common.errors import InputError, shown


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 100_000)
    assert files.sha256_of(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_sha256_of_a_folder_tells_names_and_contents(tmp_path: Path) -> None:
    names = ["b/2", "b-/1", "a"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in sorted(names)]
    whole = files.sha256_of_folder(tmp_path)
    assert whole == hashlib.sha256("".join(lines).encode()).hexdigest()
    (tmp_path / "a").rename(tmp_path / "c")
    renamed = files.sha256_of_folder(tmp_path)
    (tmp_path / "c").write_bytes(b"other")
    assert len({whole, renamed, files.sha256_of_folder(tmp_path)}) == 3


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "a.txt"
    with files.atomic_write(target) as partial:
        partial.write_text("half")
        assert not target.exists()
        assert partial.parent == target.parent
    assert target.read_text() == "half"
    assert everything(target.parent) == {"a.txt"}


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_fault_keeps_what_was_there(tmp_path: Path, fault: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("former")
    with pytest.raises(fault), files.atomic_write(target) as partial:  # noqa: PT012
        partial.write_text("half")
        raise fault
    assert target.read_text() == "former"
    assert everything(tmp_path) == {"a.txt"}


def test_a_folder_replaces_another(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "former").write_text("")
    with files.atomic_write(target) as partial:
        (partial / "new").mkdir(parents=True)
        assert everything(target) == {"former"}
    assert everything(tmp_path) == {"data", "data/new"}


def test_a_file_replaces_a_folder_and_the_other_way_round(tmp_path: Path) -> None:
    target = tmp_path / "data"
    (target / "inner").mkdir(parents=True)
    files.write_text(target, "file")
    assert everything(tmp_path) == {"data"}
    with files.atomic_write(target) as partial:
        partial.mkdir()
    assert target.is_dir()
    assert everything(tmp_path) == {"data"}


def test_a_former_folder_is_whole_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the new one can't take its place."""
    target = tmp_path / "data"
    target.mkdir()
    (target / "former").write_text("")
    rename = os.replace

    def failing(source: Path, place: Path) -> None:
        if Path(place) == target and "former" not in Path(source).name:
            raise PermissionError(13, "Permission denied", str(place))
        rename(source, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(PermissionError), files.atomic_write(target) as partial:
            partial.mkdir()
    assert everything(tmp_path) == {"data", "data/former"}


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    target = tmp_path / "data"
    (files.partial_name(target) / "old").mkdir(parents=True)
    (tmp_path / ".data.former.partial" / "old").mkdir(parents=True)
    with files.atomic_write(target) as partial:
        assert not partial.exists()
        partial.mkdir()
    assert everything(tmp_path) == {"data"}


def test_in_a_dvc_project_nothing_half_written_lies_among_the_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    with files.atomic_write(Path("data/raw")) as partial:
        partial.mkdir()
        assert partial.resolve().is_relative_to(tmp_path / ".dvc/tmp")
        assert everything(tmp_path / "data") == set()
    assert everything(tmp_path / "data") == {"raw"}
    assert list((tmp_path / ".dvc/tmp/partial").iterdir()) == []


def test_no_two_targets_share_a_temporary_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (".dvc", "a", "b"):
        (tmp_path / name).mkdir()
    names = [files.partial_name(Path(name)) for name in ("a/x", "b/x", "a-x", "a/x.former")]
    assert len(set(names)) == 4
    assert files.partial_name(tmp_path / "a/x") == files.partial_name(Path("a/x"))


def test_between_mounts_it_is_copied_beside_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a data folder that is mounted into a container."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    rename = os.replace

    def between_mounts(source: Path, place: Path) -> None:
        if (".dvc" in Path(source).parts) != (".dvc" in Path(place).parts):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        rename(source, place)

    monkeypatch.setattr(os, "replace", between_mounts)
    for content in ("first", "second"):
        with files.atomic_write(Path("data")) as partial:
            partial.mkdir()
            (partial / content).write_text(content)
        assert everything(tmp_path / "data") == {content}
    assert {path.name for path in tmp_path.iterdir()} == {".dvc", "data"}
    assert list((tmp_path / ".dvc/tmp/partial").iterdir()) == []


def test_a_linked_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "kept").mkdir(parents=True)
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "elsewhere")
    files.remove(link)
    files.remove(link)
    assert everything(tmp_path) == {"elsewhere", "elsewhere/kept"}


def test_text_is_utf8_with_line_feeds(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "größer\n胸\n")
    assert (tmp_path / "a").read_bytes() == "größer\n胸\n".encode()


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"ä": [1, 0.1, None, True], "b": {"c": "\n"}}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json", "train") == value
    assert (tmp_path / "a.json").read_bytes().endswith(b"\n}\n")


def test_scratch_is_gone_afterwards(tmp_path: Path) -> None:
    place = tmp_path / "tmp/work"
    place.mkdir(parents=True)
    (place / "left by a killed run").touch()
    with files.scratch(place) as path:
        assert path == place
        assert everything(tmp_path) == {"tmp"}
        path.mkdir()
        (path / "half").touch()
    assert everything(tmp_path) == {"tmp"}


def test_scratch_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    def work() -> None:
        with files.scratch(tmp_path / "tmp/work") as path:
            path.mkdir()
            (path / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert everything(tmp_path) == {"tmp"}


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", [math.nan])
    assert everything(tmp_path) == set()


def test_metrics_have_four_places_and_their_provenance_is_no_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    provenance = {"data": "made for a test", "protocol": "holdout"}
    numbers: dict[str, float | str] = {
        "acc": 0.123456,
        "loss": 0.000049,
        "verdict": "better",
        "fpr": 1.0,
    }
    files.write_metrics(tmp_path / "metrics.json", provenance, numbers)
    assert json.loads((tmp_path / "metrics.json").read_text("utf-8")) == {
        "provenance": ["made for a test", "holdout"],
        "acc": 0.1235,
        "loss": 0.0,
        "verdict": "better",
        "fpr": 1.0,
    }


def test_a_missing_json_names_the_stage_that_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(InputError) as caught:
        files.read_json(path, "train")
    assert str(caught.value) == (
        f"{path} is not there; the stage `train` writes it. Run `dvc repro train`."
    )


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_json_names_the_stage_that_writes_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        files.read_json(path, "train")
    assert str(caught.value).startswith(f"{path} is not the JSON that the stage `train` writes (")
    assert str(caught.value).endswith("). Run `dvc repro --force train`.")


# the audit refuses file names with control characters, all that a table's cells come from
CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_csv_comes_back(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "table.csv"
    files.write_csv(path, ("b", "a"), [{"a": a, "b": b} for a, b in rows])
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["b", "a"], *([b, a] for a, b in rows)]


def test_csv_wants_exactly_its_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="c"):
        files.write_csv(tmp_path / "a.csv", ("a", "b"), [{"a": 1, "b": 2, "c": 3}])
    assert everything(tmp_path) == set()


def test_names_are_shown_on_one_line() -> None:
    assert shown(Path('Größe 胸/it\'s "it".png')) == 'Größe 胸/it\'s "it".png'
    assert shown("a\nb\r\t\x1b[2J\udcff\u2028") == "a\\nb\\r\\t\\x1b[2J\\udcff\\u2028"
