"""Files of DVC's own that are cut short are removed, and no others are touched."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages import mend

PROJECT = Path(__file__).parents[1]
LOCK = (PROJECT / "dvc.lock").read_bytes()


def run(folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "stages.mend"],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    return tmp_path


def test_what_is_whole_or_absent_is_left_alone(repository: Path) -> None:
    assert run(repository) == ""
    assert list((repository / ".dvc/tmp").iterdir()) == []
    (repository / "dvc.lock").write_bytes(LOCK)
    (repository / ".dvc/tmp/rwlock").write_text('{"read": {}, "write": {}}')
    assert run(repository) == ""
    assert (repository / "dvc.lock").read_bytes() == LOCK
    assert (repository / ".dvc/tmp/rwlock").exists()


@pytest.mark.parametrize("kept", [0, 5, 25, 128, 190, 357])
def test_half_a_lock_file_is_removed(repository: Path, kept: int) -> None:
    (repository / "dvc.lock").write_bytes(LOCK[:kept])
    assert "dvc.lock was cut short" in run(repository)
    assert not (repository / "dvc.lock").exists()


@pytest.mark.parametrize("content", [b"", b'{"read": {"/a', b"\xff"])
def test_half_an_rwlock_is_removed(repository: Path, content: bytes) -> None:
    (repository / ".dvc/tmp/rwlock").write_bytes(content)
    (repository / "dvc.lock").write_bytes(LOCK)
    assert ".dvc/tmp/rwlock was cut short" in run(repository)
    assert not (repository / ".dvc/tmp/rwlock").exists()
    assert (repository / "dvc.lock").read_bytes() == LOCK


def test_a_file_that_is_just_being_written_is_left_alone(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "argv", ["mend"])
    mend.LOCK.write_bytes(b"")
    monkeypatch.setattr("time.sleep", lambda _: mend.LOCK.write_bytes(LOCK))
    mend.main()
    assert mend.LOCK.read_bytes() == LOCK
