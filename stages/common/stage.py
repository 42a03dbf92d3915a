"""How every stage is started, stopped and reported on, the same for all of them.

A stage is run by DVC as `python -m stages.<name>`. It gets `--help`, one line for a fault of
input, a clean end on Ctrl-C and SIGTERM, and two guards against a run that was killed: a lock,
so that two runs of one stage never write at the same time, and a watch on the parent, so that a
stage whose `dvc` was killed ends too and does not write its outputs behind its successor's back.
"""

import argparse
import contextlib
import errno
import fcntl
import io
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from stages.common.errors import InputError

_LOCKS = Path(".dvc/tmp/stage-locks")
_WATCH_SECONDS = 0.2
_DENIED = "permission is denied. Give yourself the right to read and write there"
_MACHINE_FAULTS = {
    errno.ENOSPC: "the disk is full. Make room and run `dvc repro` again",
    errno.EDQUOT: "the disk quota is used up. Make room and run `dvc repro` again",
    errno.EIO: "the disk reports a read or write error. Check it, then run `dvc repro` again",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "the file system is read-only. Move the project to one that can be written to",
}


def machine_fault(error: OSError) -> str | None:
    """One line for a full disk or a missing permission; None for any other OSError."""
    words = _MACHINE_FAULTS.get(error.errno or 0)
    return f"{error.filename or Path.cwd()}: {words}." if words else None


def _alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that was killed is a zombie until its own parent looks."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _programs(process: psutil.Process) -> list[str]:
    """The names in what a process runs, such as those of `python -m dvc`."""
    with contextlib.suppress(psutil.Error):
        return [Path(word).name for word in process.cmdline()[:3]]
    return []


def _watch_dvc() -> None:
    """Ends this process as soon as the `dvc` that started it is gone.

    Where DVC is used as a library, its process is the caller's own business.
    """
    watched = []
    for ancestor in psutil.Process().parents()[:3]:  # dvc, with at most two shells in between
        watched.append(ancestor)
        if "dvc" in _programs(ancestor):
            break
    else:
        # Process 1 takes in what was orphaned, unless it is itself a program that uses DVC.
        first = psutil.Process(1)
        if os.getppid() == 1 and not any("python" in name for name in _programs(first)[:1]):
            sys.exit("the `dvc` that started this stage was killed")
        return

    def watch() -> None:
        while all(map(_alive, watched)):
            time.sleep(_WATCH_SECONDS)
        os._exit(1)  # at once, past every clean-up: the successor's outputs are not ours

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Waits until no other run of the stage `name` in this folder is left."""
    _LOCKS.mkdir(parents=True, exist_ok=True)
    with (_LOCKS / name).open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{name}: waiting for another run of this stage to end", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def guarded(name: str, work: Callable[[], None]) -> None:
    """Does the work; a fault of input or of the machine ends it in one line and exit status 1."""
    warnings.filterwarnings("ignore", module="PIL")  # remarks on odd, but readable images
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a class in Cyrillic must not end a stage in a Latin locale; stderr is like this anyway
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; nothing half-written was kept", file=sys.stderr)
        sys.exit(130)
    except InputError as error:
        sys.exit(f"{name}: {error}")
    except MemoryError:
        sys.exit(f"{name}: there is too little memory. Close other programs, then run it again.")
    except OSError as error:
        if fault := machine_fault(error):
            sys.exit(f"{name}: {fault}")
        raise


def run(name: str, work: Callable[[], None]) -> None:
    """Runs a stage and exits: 0 done, 1 a fault of input, 130 Ctrl-C, 143 SIGTERM."""
    # an exit, so that what is half-written is removed
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if "DVC_ROOT" in os.environ:
        _watch_dvc()

    def locked() -> None:
        with alone(name):
            work()

    guarded(name, locked)
    _leave()


def _leave() -> None:
    """Ends the process with status 0 where TensorFlow is loaded, whose own way out takes a second.

    The work is done then, and every file is closed.
    """
    if "tensorflow" in sys.modules:
        os._exit(0)


def script(name: str, main: Callable[[], None], description: str | None) -> None:
    """Runs a stage, which takes no arguments but `--help`: its numbers are in params.yaml."""
    argparse.ArgumentParser(
        prog=f"python -m stages.{name}",
        description=description,
        epilog="Its parameters, if any, are in params.yaml. "
        f"Usually run by `dvc repro {name}`, which skips it when nothing has changed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    run(name, main)
