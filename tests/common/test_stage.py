import contextlib
import errno
import os
import runpy
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stages.common import stage
from stages.common.errors import InputError
from tests import machine, made

PROJECT = Path(__file__).resolve().parents[2]
SLEEPING = """
    import time
    from pathlib import Path
    from stages.common import files, parallel, stage

    def work():
        with files.atomic_write(Path("out")) as partial:
            partial.mkdir()
            (partial / "half").write_text("")
            {wait}

    def wait_in_threads(number):
        print("ready\\n", end="", flush=True)  # in one piece, as two threads may print at once
        time.sleep({seconds})

    def wait():
        print("ready", flush=True)
        time.sleep(30)

    stage.run("sleeper", work)
"""
FAKE_DVC = """
    import os, subprocess, sys
    subprocess.run(["/bin/sh", "-c", sys.argv[1]], env=os.environ | {"DVC_ROOT": os.getcwd()})
"""


def start(code: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Runs Python code in `folder`, with the project's packages."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def run(code: str, folder: Path) -> tuple[int, str, str]:
    process = start(code, folder)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def ended(work: Callable[[], None]) -> object:
    """What a stage hands to sys.exit."""
    with pytest.raises(SystemExit) as caught:
        stage.guarded("audit", work)
    return caught.value.code


def raising(fault: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise fault

    return work


# ------------------------------------------------------------------------------- exit and message


def test_done(tmp_path: Path) -> None:
    status, out, err = run(
        "from stages.common import stage; stage.run('x', lambda: print(1))", tmp_path
    )
    assert (status, out, err) == (0, "1\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_what_was_printed_and_does_not_fit_is_a_message(tmp_path: Path) -> None:
    code = """
        import os
        from stages.common import stage
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        stage.run("x", lambda: print(1))
    """
    status, _, err = run(code, tmp_path)
    assert status
    assert "the disk is full" in err


def test_a_fault_of_input_is_a_message_and_no_traceback(tmp_path: Path) -> None:
    code = """
        from stages.common import stage
        from stages.common.errors import InputError
        def work():
            try:
                {}["absent"]
            except KeyError:
                raise InputError("data/x.png \\udcff: it is bad")
        stage.run("audit", work)
    """
    assert run(code, tmp_path) == (1, "", "audit: data/x.png \\udcff: it is bad\n")


def test_any_name_can_be_printed_in_any_locale(tmp_path: Path) -> None:
    code = "from stages.common import stage; stage.run('x', lambda: print('A \u80f8 \udcff'))"
    process = start(ascii(code)[1:-1], tmp_path, PYTHONIOENCODING="ascii")
    assert process.communicate(timeout=20) == ("A \\u80f8 \\udcff\n", "")


def test_a_fault_of_the_program_keeps_its_traceback(tmp_path: Path) -> None:
    code = "from stages.common import stage; stage.run('x', lambda: 1 / 0)"
    status, _, err = run(code, tmp_path)
    assert status == 1
    assert "Traceback" in err
    assert "ZeroDivisionError" in err


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full. Make room and run `dvc repro` again."),
        (errno.EDQUOT, "the disk quota is used up. Make room and run `dvc repro` again."),
        (errno.EACCES, "permission is denied. Give yourself the right to read and write there."),
        (errno.EPERM, "permission is denied. Give yourself the right to read and write there."),
        (
            errno.EROFS,
            "the file system is read-only. Move the project to one that can be written to.",
        ),
        (
            errno.EIO,
            "the disk reports a read or write error. Check it, then run `dvc repro` again.",
        ),
    ],
)
def test_a_fault_of_the_machine_says_so(number: int, words: str) -> None:
    fault = OSError(number, os.strerror(number), "data/raw")
    assert ended(raising(fault)) == f"audit: data/raw: {words}"
    nowhere = OSError(number, os.strerror(number))
    assert ended(raising(nowhere)) == f"audit: {Path.cwd()}: {words}"


def test_too_little_memory_says_so() -> None:
    assert "too little memory" in str(ended(raising(MemoryError())))


def test_any_other_fault_of_the_system_is_not_dressed_up() -> None:
    with pytest.raises(FileNotFoundError):
        stage.guarded("audit", raising(FileNotFoundError(errno.ENOENT, "none", "x")))
    with pytest.raises(OSError, match="odd"):
        stage.guarded("audit", raising(OSError("odd")))


def test_input_error_message_is_passed_on() -> None:
    assert ended(raising(InputError("a: b"))) == "audit: a: b"


@pytest.mark.parametrize("name", ["download", "audit", "preprocess"])
def test_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(PROJECT / f"stages/{name}.py")

    def status(argument: str) -> object:
        monkeypatch.setattr(sys, "argv", [script, argument])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(script, run_name="__main__")
        return end.value.code

    assert status("--help") == 0
    help_text = capsys.readouterr().out
    assert help_text.startswith(f"usage: python -m stages.{name} [-h]\n")
    assert "data/raw" in help_text
    assert f"`dvc repro {name}`" in help_text
    assert status("--sped") == 2
    assert "unrecognized arguments: --sped" in capsys.readouterr().err


def test_light_stages_import_nothing_heavy(tmp_path: Path) -> None:
    code = """
        import sys
        import stages.audit, stages.download, stages.preprocess
        heavy = ("tensorflow", "keras", "scipy", "sklearn", "matplotlib", "pandas", "imagehash")
        print([name for name in heavy if name in sys.modules])
    """
    assert run(code, tmp_path) == (0, "[]\n", "")


# ------------------------------------------------------------------------------------ interrupted


@pytest.mark.parametrize("wait", ["wait()", "parallel.each(wait_in_threads, range(50), 'x', 2)"])
@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGTERM, 143, ""),
        (signal.SIGINT, 130, "\nsleeper: interrupted; nothing half-written was kept\n"),
    ],
)
def test_a_stopped_stage_keeps_nothing_half_written(
    tmp_path: Path, wait: str, number: int, status: int, words: str
) -> None:
    process = start(SLEEPING.format(wait=wait, seconds=0.5), tmp_path)
    assert first_line(process) == "ready\n"
    assert len(list((tmp_path / ".dvc/tmp/partial").rglob("half"))) == 1
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (status, words)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dvc"]
    assert list((tmp_path / ".dvc/tmp/partial").iterdir()) == []


def test_a_second_run_of_a_stage_waits_for_the_first(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from stages.common import stage

        def work():
            with open("log", "a") as log:
                log.write("begin\\n")
                log.flush()
                print("ready", flush=True)
                while not Path("go").exists():
                    time.sleep(0.01)
                log.write("end\\n")

        stage.run("slow", work)
    """
    first = start(code, tmp_path)
    assert first_line(first) == "ready\n"
    second = start(code, tmp_path)
    assert second.stderr is not None
    assert second.stderr.readline() == "slow: waiting for another run of this stage to end\n"
    assert (tmp_path / "log").read_text() == "begin\n"
    another = code.replace('"slow"', '"other"').replace('"log"', '"other-log"')
    other = start(another, tmp_path)  # which need not wait
    assert first_line(other) == "ready\n"
    (tmp_path / "go").touch()
    for process in (first, second, other):
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert (tmp_path / "log").read_text().split() == ["begin", "end", "begin", "end"]


def test_the_lock_of_a_killed_run_is_free(tmp_path: Path) -> None:
    process = start(SLEEPING.format(wait="wait()", seconds=0), tmp_path)
    assert first_line(process) == "ready\n"
    process.kill()
    process.communicate(timeout=20)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dvc"]
    code = SLEEPING.format(wait="pass", seconds=0)
    assert run(code, tmp_path) == (0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dvc", "out"]


# ------------------------------------------------------------------------------ the watch on dvc


@contextlib.contextmanager
def under_fake_dvc(
    folder: Path, command: str
) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A process called `dvc` and the stage below it, which has reported that it is ready."""
    (folder / "dvc").write_text(textwrap.dedent(FAKE_DVC))
    (folder / "sleeper.py").write_text(
        textwrap.dedent(SLEEPING.format(wait="wait()", seconds=0)).replace(
            '"ready"', "__import__('os').getpid()"
        )
    )
    dvc = subprocess.Popen(
        [sys.executable, "dvc", command.format(python=sys.executable)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    below = psutil.Process(int(first_line(dvc)))
    try:
        yield dvc, below
    finally:
        dvc.kill()
        dvc.wait(timeout=20)
        with contextlib.suppress(psutil.NoSuchProcess):
            below.kill()


def gone(process: psutil.Process, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


@pytest.mark.parametrize("command", ["exec {python} sleeper.py", "{python} sleeper.py; true"])
@pytest.mark.parametrize("reaped", [True, False])
def test_a_stage_ends_with_its_dvc(tmp_path: Path, command: str, reaped: bool) -> None:
    """Also if the killed dvc stays a zombie, and with a shell between the two."""
    with under_fake_dvc(tmp_path, command) as (dvc, below):
        assert not gone(below, 0.5)
        dvc.kill()
        if reaped:
            dvc.wait(timeout=20)
        assert gone(below, 1)
        assert not (tmp_path / "out").exists()


def test_a_stage_without_dvc_watches_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[Any] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "_watch_dvc", lambda: watched.append(1))
    monkeypatch.setattr(stage, "_leave", lambda: None)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        monkeypatch.delenv("DVC_ROOT", raising=False)
        stage.run("x", lambda: None)
        assert not watched
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
        stage.run("x", lambda: None)
        assert watched
    finally:
        signal.signal(signal.SIGTERM, handler)


needs_pid_namespace = pytest.mark.skipif(
    not machine.works("unshare", "--pid", "--fork", "--mount-proc", "true"),
    reason="a process can only be made process 1 by root (unshare --pid)",
)
AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--mount-proc")


@needs_pid_namespace
@pytest.mark.parametrize("command", ["{python} stage.py", "{python} stage.py; true"])
def test_a_stage_runs_below_a_process_1_that_uses_dvc_as_a_library(
    tmp_path: Path, command: str
) -> None:
    """As in a container."""
    (tmp_path / "stage.py").write_text(
        "from stages.common import stage; stage.run('x', lambda: print('done'))"
    )
    (tmp_path / "service.py").write_text(
        textwrap.dedent(FAKE_DVC) + "assert os.getpid() == 1; print('the end')"
    )
    done = subprocess.run(
        [
            *AS_PROCESS_1,
            *(sys.executable, "service.py", command.format(python=sys.executable)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "done\nthe end\n"


@needs_pid_namespace
def test_a_stage_runs_below_dvc_as_process_1(tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(
        "from stages.common import stage; stage.run('x', lambda: open('out', 'w').write('1'))"
    )
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: python stage.py\n    outs: [out]\n"
    )
    reproduce = "from dvc.repo import Repo; Repo.init(no_scm=True); Repo().reproduce()"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [*AS_PROCESS_1, sys.executable, "-c", reproduce],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PATH": path, "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == "1"


@needs_pid_namespace
def test_a_stage_whose_dvc_was_killed_before_it_could_watch_it_says_so(tmp_path: Path) -> None:
    """Process 1 has taken it in, and is no program that uses DVC."""
    (tmp_path / "stage.py").write_text(
        "from stages.common import stage; stage.run('x', lambda: print('done'))"
    )
    (tmp_path / "late.py").write_text(
        "import os, runpy, time\n"
        "while os.getppid() != 1:\n    time.sleep(0.01)\n"
        "runpy.run_path('stage.py')\n"
    )
    # the inner shell ends at once; the outer one, which is process 1, waits for the stage's words
    inner = f"DVC_ROOT=. {sys.executable} late.py > out 2> err &"
    wait = "for _ in $(seq 200); do [ -s out ] || [ -s err ] && break; sleep 0.1; done; sleep 0.1"
    script = f"sh -c '{inner}'; {wait}"
    subprocess.run(
        [*AS_PROCESS_1, "bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (tmp_path / "out").read_text() == ""
    assert (tmp_path / "err").read_text() == "the `dvc` that started this stage was killed\n"


# ------------------------------------------------------------- a full disk and missing permissions

PLACE = {"download": "data", "audit": "metrics", "preprocess": "data"}
DISK_FULL = "the disk is full. Make room and run `dvc repro` again."
DENIED = "permission is denied. Give yourself the right to read and write there."
READ_ONLY = "the file system is read-only. Move the project to one that can be written to."


# root may write anywhere; without these two rights it is held to the permissions like anyone else
WITHOUT_RIGHTS = (
    ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
needs_permissions = pytest.mark.skipif(
    not machine.works(*WITHOUT_RIGHTS, "true"), reason="root can't give up its rights (setpriv)"
)


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A scratch project in which the stages before the one asked for have run."""
    name = request.getfixturevalue("name")
    made.write_params(tmp_path, phantom_share=0.04, recipe="original")
    (tmp_path / "metrics").mkdir()
    if name != "download":
        made.make_raw(tmp_path, counts=(2, 2))
    if name == "preprocess":
        rows = ["path,split,class,radiograph,group,leaked,source,label"]
        paths = sorted((tmp_path / "data/raw").glob("*/*/*"))
        for number, path in enumerate(paths):
            split, label = path.parts[-3:-1]
            rows.append(
                f"{split}/{label}/{path.name},{split},{label},{number},{number},no,,unknown"
            )
        (tmp_path / "data/audit.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "data").mkdir(exist_ok=True)
    return tmp_path


@machine.needs_mount
@pytest.mark.parametrize("name", ["download"])
def test_a_read_only_file_system_says_so(project: Path, name: str) -> None:
    script = f"mount --bind {PLACE[name]} {PLACE[name]} && mount -o remount,bind,ro {PLACE[name]}"
    done = made.run_stage(
        project, name, "unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{name}: {PLACE[name]}/")
    assert done.stderr.endswith(f": {READ_ONLY}\n")
    assert len(done.stderr.splitlines()) == 1


@needs_permissions
@pytest.mark.parametrize("name", ["download", "audit", "preprocess"])
def test_a_folder_that_may_not_be_written_says_so(project: Path, name: str) -> None:
    place = project / PLACE[name]
    before = made.contents_of(place)
    place.chmod(0o555)
    done = made.run_stage(project, name, *WITHOUT_RIGHTS)
    place.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{name}: {PLACE[name]}/")
    assert done.stderr.endswith(f": {DENIED}\n")
    assert len(done.stderr.splitlines()) == 1
    assert made.contents_of(place) == before


@needs_permissions
@pytest.mark.parametrize("name", ["preprocess"])
def test_an_image_that_may_not_be_read_says_so(project: Path, name: str) -> None:
    image = project / "data/raw/train/Covid/00.png"
    image.chmod(0)
    done = made.run_stage(project, name, *WITHOUT_RIGHTS)
    image.chmod(0o644)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{name}: data/raw/train/Covid/00.png: {DENIED}\n"


@machine.needs_mount
@pytest.mark.tensorflow
def test_a_full_disk_when_the_network_is_saved_says_so(tmp_path: Path) -> None:
    """Keras and HDF5 report it in their own ways."""
    (tmp_path / "models").mkdir()
    code = """
        import subprocess
        from pathlib import Path
        from stages.common import stage
        from stages.learning import network

        network.start(2)
        trained = network.build(3)
        save = lambda: network.save(trained, Path("models/classifier.keras"))
        for size in ("100k", "6m"):
            subprocess.run(["mount", "-o", f"remount,size={size}", "models"], check=True)
            try:
                stage.guarded("train", save)
            except SystemExit as end:
                print(end.code, [path.name for path in Path("models").iterdir()])
        subprocess.run(["mount", "-o", "remount,size=50m", "models"], check=True)
        stage.guarded("train", save)
        print([path.name for path in Path("models").iterdir()])
    """
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none models && exec "$@"', "sh"),
            *(sys.executable, "-c", textwrap.dedent(code)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines() == [
        f"train: {tmp_path}: {DISK_FULL} []",
        "['classifier.keras']",
    ], done.stderr
