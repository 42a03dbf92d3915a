"""Files of DVC's own that are cut short are moved aside, and no others are touched."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.utils import strictyaml

from stages import repair

PROJECT = Path(__file__).parents[1]
LOCK = (PROJECT / "dvc.lock").read_bytes()
MIDDLE = LOCK.index(b"\n  train:\n") + 1
DAMAGED = {
    "a line lost in the middle": LOCK.replace(b"  train:\n", b"", 1),
    "binary zeros": b"\0" * len(LOCK),
    "not a lock file": b"hello: world\n",
    "text": b"version https://git-lfs.github.com/spec/v1\n",
    "a broken line before the end": LOCK[:MIDDLE] + b"  - [\n" + LOCK[MIDDLE:],
    "another stage after half a one": LOCK[: MIDDLE + 40] + b"\n" + LOCK[MIDDLE:],
    "zeros at the end": LOCK[:MIDDLE] + b"\0" * 4096,
    "latin-1": LOCK.replace(b"train", b"tr\xe4in"),
}
CONFLICT = (
    b"<<<<<<< HEAD\n" + LOCK[MIDDLE : MIDDLE + 600] + b"\n=======\n" + LOCK[MIDDLE : MIDDLE + 500]
) + b"\n>>>>>>> other\n"


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """Runs it in an empty repository, which is the working directory; gives what it printed."""
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["repair"])
    monkeypatch.setattr("time.sleep", lambda _: None)

    def run() -> str:
        repair.main()
        return capsys.readouterr().out

    return run


def names() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def read_by_dvc(path: Path) -> bool:
    try:
        strictyaml.load(str(path), schema=Lockfile.SCHEMA)
    except (DvcException, ValueError):
        return False
    return True


def test_what_is_complete_or_absent_is_left_alone(run: Callable[[], str]) -> None:
    assert run() == ""
    assert names() == set()
    repair.LOCK.write_bytes(LOCK)
    repair.RWLOCK.write_text('{"read": {}, "write": {}}')
    assert run() == ""
    assert repair.LOCK.read_bytes() == LOCK
    assert names() == {"dvc.lock", ".dvc/tmp/rwlock"}


def test_a_missing_last_newline_is_no_damage(run: Callable[[], str]) -> None:
    repair.LOCK.write_bytes(LOCK.rstrip(b"\n"))
    assert run() == ""
    assert repair.LOCK.read_bytes() == LOCK.rstrip(b"\n")


CUTS = [0, 1, 5, 14, 20, 25, 128, 190, 357, MIDDLE - 3, MIDDLE, MIDDLE + 5, MIDDLE + 100]


@pytest.mark.parametrize("kept", [*CUTS, *range(400, len(LOCK), len(LOCK) // 20)])
def test_half_a_lock_file_is_moved_aside_unless_dvc_can_read_it(
    run: Callable[[], str], kept: int
) -> None:
    repair.LOCK.write_bytes(LOCK[:kept])
    if read_by_dvc(repair.LOCK):
        assert run() == ""
        assert repair.LOCK.read_bytes() == LOCK[:kept]
    else:
        assert run() == (
            "dvc.lock was cut short, by a DVC that was killed while it wrote it. It is now "
            "dvc.lock.cut-short; `dvc repro` writes dvc.lock anew.\n"
        )
        assert names() == {"dvc.lock.cut-short"}
        assert Path("dvc.lock.cut-short").read_bytes() == LOCK[:kept]


def test_most_cuts_make_it_unreadable(tmp_path: Path) -> None:
    """So that the test before this one is no empty one."""
    unreadable = 0
    for kept in CUTS:
        (tmp_path / "dvc.lock").write_bytes(LOCK[:kept])
        unreadable += not read_by_dvc(tmp_path / "dvc.lock")
    assert unreadable >= len(CUTS) / 2


def test_what_was_moved_aside_before_is_kept(run: Callable[[], str]) -> None:
    for number in range(3):
        repair.LOCK.write_bytes(LOCK[:number])
        run()
    assert names() == {f"dvc.lock.cut-short{ending}" for ending in ("", "-2", "-3")}
    assert Path("dvc.lock.cut-short").read_bytes() == b""
    assert Path("dvc.lock.cut-short-3").read_bytes() == LOCK[:2]


@pytest.mark.parametrize(
    "content", [CONFLICT, LOCK[:MIDDLE] + CONFLICT, LOCK[:MIDDLE] + CONFLICT + LOCK[MIDDLE:]]
)
def test_a_merge_conflict_is_left_to_the_user(run: Callable[[], str], content: bytes) -> None:
    repair.LOCK.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == (
        "dvc.lock: found git's merge-conflict markers. Take one side, `git checkout --theirs "
        "dvc.lock` or `--ours`, then run `dvc repro`, which runs what does not fit it."
    )
    assert repair.LOCK.read_bytes() == content
    assert names() == {"dvc.lock"}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_any_other_damage_is_left_to_the_user(run: Callable[[], str], content: bytes) -> None:
    repair.LOCK.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == (
        "dvc.lock: DVC can't read it, and it was not cut short by a kill. Bring it back with "
        "`git checkout dvc.lock`, then run `dvc repro`."
    )
    assert repair.LOCK.read_bytes() == content
    assert names() == {"dvc.lock"}


@pytest.mark.parametrize("content", [b"", b'{"read": {"/a', b"\xff"])
def test_half_an_rwlock_is_moved_aside(run: Callable[[], str], content: bytes) -> None:
    repair.RWLOCK.write_bytes(content)
    repair.LOCK.write_bytes(LOCK)
    assert run().startswith(".dvc/tmp/rwlock was cut short")
    assert names() == {"dvc.lock", ".dvc/tmp/rwlock.cut-short"}
    assert repair.LOCK.read_bytes() == LOCK


def test_a_file_that_is_just_being_written_is_left_alone(
    run: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repair.LOCK.write_bytes(LOCK[: MIDDLE + 5])
    monkeypatch.setattr("time.sleep", lambda _: repair.LOCK.write_bytes(LOCK))
    assert run() == ""
    assert repair.LOCK.read_bytes() == LOCK


def test_as_a_program_it_ends_with_status_1_for_a_conflict(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_bytes(CONFLICT)
    done = subprocess.run(
        [sys.executable, "-m", "stages.repair"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("dvc.lock: found git's merge-conflict markers.")
    assert done.stderr.count("\n") == 1
