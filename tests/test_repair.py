"""Files of DVC's own that are cut short are removed, and no others are touched."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stages import repair

LOCK = (Path(__file__).parents[1] / "dvc.lock").read_bytes()


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


def test_what_is_whole_or_absent_is_left_alone(run: Callable[[], str]) -> None:
    assert run() == ""
    assert not repair.LOCK.exists()
    assert not repair.RWLOCK.exists()
    repair.LOCK.write_bytes(LOCK)
    repair.RWLOCK.write_text('{"read": {}, "write": {}}')
    assert run() == ""
    assert repair.LOCK.read_bytes() == LOCK
    assert repair.RWLOCK.exists()


@pytest.mark.parametrize("kept", [0, 5, 25, 128, 190, 357, len(LOCK) - 1])
def test_half_a_lock_file_is_removed(run: Callable[[], str], kept: int) -> None:
    repair.LOCK.write_bytes(LOCK[:kept])
    assert run().startswith("dvc.lock was cut short, by a DVC that was killed while it wrote it.")
    assert not repair.LOCK.exists()


@pytest.mark.parametrize("content", [b"", b'{"read": {"/a', b"\xff"])
def test_half_an_rwlock_is_removed(run: Callable[[], str], content: bytes) -> None:
    repair.RWLOCK.write_bytes(content)
    repair.LOCK.write_bytes(LOCK)
    assert run().startswith(".dvc/tmp/rwlock was cut short")
    assert not repair.RWLOCK.exists()
    assert repair.LOCK.read_bytes() == LOCK


def test_a_file_that_is_just_being_written_is_left_alone(
    run: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repair.LOCK.write_bytes(b"")
    monkeypatch.setattr("time.sleep", lambda _: repair.LOCK.write_bytes(LOCK))
    assert run() == ""
    assert repair.LOCK.read_bytes() == LOCK
