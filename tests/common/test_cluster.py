"""Stages on a Dask cluster: a real scheduler and real workers, on this machine."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import stages
from stages import audit, crossvalidate, download, preprocess
from stages.common import cluster, parallel
from stages.common.errors import InputError
from stages.intake import decode
from tests import made, made_processed
from tests.dask_cluster import PROJECT, Cluster, die, die_with_nanny, nothing, until

pytestmark = pytest.mark.cluster
IMAGE = "data/raw/train/Covid/03.png"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers in a folder with a scratch project."""
    folder = tmp_path_factory.mktemp("project")
    (folder / ".dvc").mkdir()
    for name in ("dvc.yaml", "requirements.txt", "stages"):
        (folder / name).symlink_to(PROJECT / name)
    begun = Cluster(folder, tmp_path_factory.mktemp("scratch"))
    try:
        begun.add_worker()
        begun.add_worker()
        begun.wait_for(2)
        yield begun
    finally:
        begun.stop()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the stages up to `preprocess` have run without a cluster."""
    folder = tmp_path_factory.mktemp("here")
    (folder / ".dvc").mkdir()
    raw = made.make_raw(folder)
    made.write_params(folder, unreadable="quarantine")
    (raw / "train/Covid/00.png").write_bytes(b"no image")
    with contextlib.chdir(folder):
        audit.main()
        preprocess.main()
    return folder


@pytest.fixture
def project(running: Cluster, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workers' folder, with the same in it."""
    for name in ("data", "metrics", ".dvc/tmp"):
        shutil.rmtree(running.folder / name, ignore_errors=True)
    shutil.copytree(here, running.folder, dirs_exist_ok=True)
    monkeypatch.chdir(running.folder)
    return running.folder


def outputs(folder: Path) -> dict[str, bytes]:
    """The bytes of all that stages have written, what is half-written included."""
    return {
        name: content
        for part in ("data", "metrics", ".dvc/tmp/partial", ".dvc/tmp/folds")
        for name, content in made.contents_of(folder / part).items()
    }


def run(folder: Path, name: str, **environment: str) -> str:
    done = made.run_stage(folder, name, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(folder: Path, name: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def blocked(image: Path) -> None:
    """Makes a pipe of a file, so that who reads it waits."""
    image.unlink()
    os.mkfifo(image)


def write_end(pipe: Path) -> int | None:
    """The end to write to, to which nothing is written, once somebody reads from the other."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def without(folder: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(folder / name)


# ------------------------------------------------------------------------------ as on one machine


def test_phantoms_are_the_same(running: Cluster, project: Path) -> None:
    made.write_params(project, phantom_share=0.01)
    download.main()
    here = outputs(project)
    without(project, "data/raw")
    run(project, "download", **running.environment)
    assert outputs(project) == here


def test_the_audit_is_the_same(running: Cluster, project: Path, here: Path) -> None:
    without(project, "data/fingerprints", "metrics")
    run(project, "audit", **running.environment)
    assert outputs(project) == outputs(here)


def test_images_are_the_same_though_a_worker_is_killed(
    running: Cluster, project: Path, here: Path
) -> None:
    without(project, "data/processed")
    image = project / IMAGE
    content = image.read_bytes()
    blocked(image)
    with start(project, "preprocess", **running.environment) as stage:
        until(lambda: write_end(image))
        (worker,) = until(lambda: found if len(found := running.at_work()) == 1 else None)
        image.unlink()
        image.write_bytes(content)
        worker.kill()
        _, errors = stage.communicate()
    assert (stage.returncode, errors) == (0, "")
    assert outputs(project) == outputs(here)


@pytest.mark.tensorflow
def test_folds_are_the_same_though_a_worker_and_the_stage_are_killed(
    running: Cluster, project: Path
) -> None:
    without(project, "data", "metrics")
    pictures = made_processed.many({"train": 9, "validation": 3}, made_processed.noise)
    changes = {"crossvalidate.folds": 2, "train.epochs": 2, "train.batch_size": 6}
    made_processed.write(project, pictures, changes)

    def trainings(count: int) -> list[tuple[psutil.Process, psutil.Process]] | None:
        """Workers and their processes that have TensorFlow loaded, if they are so many."""
        with contextlib.suppress(psutil.NoSuchProcess):
            pairs = [(worker, each) for worker in running.at_work() for each in worker.children()]
            pairs = [(worker, each) for worker, each in pairs if each.memory_info().rss > 250e6]
            return pairs if len(pairs) == count else None
        return None

    crossvalidate.main()
    here = outputs(project)
    without(project, ".dvc/tmp/folds", "metrics")
    with start(project, "crossvalidate", **running.environment) as stage:
        (worker, training), _ = until(lambda: trainings(2))
        stage.kill()
        worker.kill()
        # it does not outlive its worker; process 1 may be slow to look
        until(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE)
    # the other one ends well and is kept; it is waited for, and not trained again
    with start(project, "crossvalidate", **running.environment) as stage:
        until(lambda: list(project.glob(".dvc/tmp/folds/*.json")))
        ((worker, _),) = until(lambda: trainings(1))
        worker.kill()
        output, _ = stage.communicate()
    assert stage.returncode == 0
    assert sorted(line.split(":")[1] for line in output.splitlines()) == [
        " kept from an earlier run, 2 epochs",
        " trained, 2 epochs",
    ]
    assert outputs(project) == here


# ------------------------------------------------------------------------------------------ faults


def test_a_fault_of_input_is_told_as_on_one_machine(running: Cluster, project: Path) -> None:
    (project / IMAGE).write_bytes(b"no image")
    before = outputs(project)
    with pytest.raises(InputError, match=r"03\.png: ") as caught:
        preprocess.main()
    done = made.run_stage(project, "preprocess", **running.environment)
    assert (done.returncode, done.stderr) == (1, f"preprocess: {caught.value}\n")
    assert outputs(project) == before


def test_what_workers_have_begun_ends_before_the_stage_does(
    running: Cluster, project: Path
) -> None:
    before = outputs(project)
    images = [project / IMAGE, project / "data/raw/train/Normal/05.png"]  # in a task each
    contents = [image.read_bytes() for image in images]
    for image in images:
        blocked(image)
    with start(project, "preprocess", **running.environment) as stage:
        first, second = until(lambda: write_end(images[0])), until(lambda: write_end(images[1]))
        os.close(first)
        assert stage.stderr is not None
        line = stage.stderr.readline()
        os.close(second)
        _, errors = stage.communicate()
    assert line == "waiting for what workers have begun\n"
    assert (stage.returncode, errors) == (1, f"preprocess: {IMAGE}: it is empty (0 bytes)\n")
    for image, content in zip(images, contents, strict=True):
        image.unlink()
        image.write_bytes(content)
    assert outputs(project) == before


def fault(monkeypatch: pytest.MonkeyPatch, address: str, function: Any = nothing) -> str:
    """What is said if a function is to run on the cluster."""
    monkeypatch.setenv(cluster.ADDRESS, address)
    with pytest.raises(InputError) as caught:
        parallel.each(function, [0], "x", anywhere=True)
    return str(caught.value)


def test_a_worker_in_another_folder(
    running: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = fault(monkeypatch, running.address)
    assert f"found folder {running.folder}, expected {tmp_path} " in message
    assert "python -m dask worker" in message


def test_a_worker_with_a_copy_of_the_folder(running: Cluster, project: Path) -> None:
    found = cluster._surroundings()
    with pytest.raises(InputError, match=f"{project} there is another folder"):
        cluster._check(found, Path(".dvc/tmp/not-there"))


@pytest.mark.parametrize("what", ["Python", "pillow", "code in stages/ with the hash"])
def test_a_worker_with_other_code_or_libraries(
    running: Cluster, project: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    here = cluster._surroundings() | {what: "another"}
    monkeypatch.setattr(cluster, "_surroundings", lambda: here)
    assert re.search(f"found {what} .*, expected another ", fault(monkeypatch, running.address))


def test_the_code_is_that_which_the_worker_has_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = cluster._surroundings()
    shutil.copytree(PROJECT / "stages", tmp_path / "stages")
    monkeypatch.setattr(stages, "__path__", [str(tmp_path / "stages")])
    assert cluster._surroundings() == before
    with (tmp_path / "stages/intake/decode.py").open("a") as file:
        file.write("#")
    assert cluster._surroundings() != before


def test_without_a_worker_with_deadly_work_without_the_last_worker_and_without_the_scheduler(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(here, tmp_path / "project")
    monkeypatch.chdir(project)
    monkeypatch.setattr(cluster, "_SECONDS", 3)
    monkeypatch.setattr(cluster, "_LOST_SECONDS", 1)
    alone = Cluster(project, tmp_path)
    try:
        assert f"{alone.address} has no worker" in fault(monkeypatch, alone.address)
        alone.add_worker()
        alone.wait_for(1)
        assert "died again and again" in fault(monkeypatch, alone.address, die)
        alone.wait_for(1)  # the nanny has begun another one
        assert "the last worker is gone" in fault(monkeypatch, alone.address, die_with_nanny)
        alone.add_worker()
        alone.wait_for(1)
        before = outputs(project)
        blocked(project / IMAGE)
        with start(project, "preprocess", **alone.environment) as stage:
            until(lambda: write_end(project / IMAGE))
            alone.scheduler.kill()
            _, errors = stage.communicate()
    finally:
        alone.stop()
    assert stage.returncode == 1
    assert errors.startswith(f"preprocess: {cluster.ADDRESS}: the scheduler at {alone.address} is")
    assert errors.count("\n") == 1
    (project / IMAGE).unlink()
    shutil.copyfile(here / IMAGE, project / IMAGE)
    assert outputs(project) == before


def test_nothing_or_something_else_is_behind_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        # the time allowed is the one that it takes, if somebody listens or not
        assert cluster._SECONDS <= 5
        monkeypatch.setattr(cluster, "_SECONDS", 0.5)
        assert "no answer" in fault(monkeypatch, f"tcp://{place}")
    assert "no answer" in fault(monkeypatch, f"tcp://{place}")


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:80", "tcp://127.0.0.1:x", " "])
def test_what_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    message = fault(monkeypatch, address)
    assert message.startswith(f"DASK_SCHEDULER_ADDRESS: found {address!r}, expected the address")


def test_dask_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "distributed", None)
    message = fault(monkeypatch, "tcp://127.0.0.1:1")
    assert message.startswith("DASK_SCHEDULER_ADDRESS is set, but distributed is not installed.")


# ------------------------------------------------------------------------------ in a process alone


def test_a_process_alone_gives_what_the_function_does_and_not_what_it_prints() -> None:
    assert cluster._in_a_process(len, "four") == 4
    assert cluster._in_a_process(print, "five") is None


@pytest.mark.parametrize(
    ("function", "item", "fault", "message"),
    [
        (decode.decode, PROJECT / "README.md", InputError, r"README\.md: "),
        (os.listdir, "not-there", FileNotFoundError, "'not-there'"),
        (signal.raise_signal, signal.SIGKILL, InputError, "a process was killed 3 times"),
        (len, 4, RuntimeError, "exit status 1"),
    ],
)
def test_a_process_alone_fails_as_the_function_does(
    function: Callable[[Any], Any], item: object, fault: type[Exception], message: str
) -> None:
    with pytest.raises(fault, match=message):
        cluster._in_a_process(function, item)
