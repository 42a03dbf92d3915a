"""The Dask cluster that `stages.common.parallel` uses where DASK_SCHEDULER_ADDRESS is set.

Functions travel by name, and files stay where they are: every worker runs in the project's folder,
which the machines share, with the same code and libraries. That is checked before a worker does
anything, since an edit or an upgrade does not reach the modules that it has imported.

A worker that dies loses nothing: Dask hands its work to another one.
"""

import asyncio
import contextlib
import functools
import importlib
import logging
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import stages
from stages.common import files, parallel
from stages.common.errors import InputError, shown

ADDRESS = "DASK_SCHEDULER_ADDRESS"
_CHUNK = 16
"""Items in a task: one of an image or two would wait for the scheduler rather than work."""
_SECONDS = 5
"""For the scheduler to answer, or for a worker to connect."""
_LOST_SECONDS = 30
"""Without a worker before it is given up: one that died may come back."""
_LIBRARIES = ("numpy", "pillow", "pydicom", "python-gdcm", "scipy", "tensorflow")
_START = "In the project's folder run `python -m dask worker ADDRESS --nthreads 1`"
_ATTEMPTS = 3
"""With a process that is killed, such as by a machine that is short of memory."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def _surroundings() -> dict[str, str]:
    """What the bytes of a result depend on beside its input."""
    return {
        "folder": str(Path.cwd()),
        "code in stages/ with the hash": files.sha256_of_code(Path(stages.__path__[0]))[:12],
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


# a worker keeps the modules that it has imported, whatever becomes of their files
_first_surroundings = functools.cache(_surroundings)


def _here() -> str:
    return f"Dask worker on {platform.node()} (process {os.getpid()})"


def _check(expected: dict[str, str], shared: Path) -> None:
    """Raises InputError where a worker would give other bytes; `shared` is a file to be seen."""
    found = _first_surroundings()
    for what, value in expected.items():
        if found[what] != value:
            raise InputError(
                f"{_here()}: found {what} {shown(found[what])}, expected {shown(value)} as where "
                f"the stage runs. Stop it and start it anew. {_START}."
            )
    if not shared.exists():
        raise InputError(
            f"{_here()}: {shown(Path.cwd())} there is another folder than where the stage runs, "
            "expected one that the machines share. Mount it on all of them."
        )


def _in_a_process(function: Callable[[Item], Result], item: Item) -> Result:
    """Calls the function in a new process, which does not outlive this one.

    Dask's threads draw numbers from the generators that a training seeds, so that a worker's own
    process is no place for one.

    Raises:
        InputError: The process was killed again and again.
    """
    for _ in range(_ATTEMPTS):
        with subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            pickle.dump((function, item), process.stdin)
            process.stdin.flush()  # and stays open: were it closed, the process would end
            answer = process.stdout.read()
            process.wait()
        if process.returncode == 0:
            outcome: Result | Exception = pickle.loads(answer)  # noqa: S301 - of our own process
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        if process.returncode > 0:
            raise RuntimeError(f"exit status {process.returncode}: see what the worker printed")
    raise InputError(
        f"{_here()}: a process was killed {_ATTEMPTS} times, perhaps for want of memory. "
        "Start fewer workers on one machine."
    )


def _answer() -> None:
    """What `_in_a_process` starts: reads function and item from stdin, writes what comes out."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    function, item = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the process that started this
    threading.Thread(target=watch, daemon=True).start()
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # what libraries print is no answer
        try:
            outcome = function(item)
        except InputError as error:
            outcome = InputError(str(error))
        except OSError as error:
            outcome = error
        pickle.dump(outcome, answer)
    os._exit(0)  # past TensorFlow's own way out, which takes a second


def _work(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    heavy: bool,
    expected: dict[str, str],
    shared: Path,
) -> list[Result]:
    """What a worker does in one task."""
    _check(expected, shared)
    work = functools.partial(_in_a_process, function) if heavy else function
    try:
        return [work(item) for item in items]
    except InputError as error:  # some of its subclasses can't be pickled
        raise InputError(str(error)) from None


def _executing(dask_worker: Any) -> bool:
    """Whether a worker does what a stage, perhaps one that was killed since, asked for."""
    return any(str(task.key).startswith("stages.") for task in dask_worker.state.executing)


def _importable(function: Callable[[Item], Result]) -> Callable[[Item], Result]:
    """The function as others know it: the module of a stage is `__main__` in its own process."""
    if function.__module__ != "__main__":
        return function
    started: Any = sys.modules["__main__"].__spec__
    same: Callable[[Item], Result] = getattr(
        importlib.import_module(started.name), function.__name__
    )
    return same


@contextlib.contextmanager
def _connected(address: str, expected: dict[str, str], shared: Path) -> Iterator[Any]:
    """A client of the cluster, all of whose workers are fit and free.

    Raises:
        InputError: Nothing answers, there is no worker, one of them is not set up as it must be,
            or, in the block, the cluster was lost.
    """
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            f"{ADDRESS} is set, but {error.name} is not installed. Install it with "
            "`make .venv/installed-dev`, or unset the variable to work on this machine alone."
        ) from None
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the messages here say it once
    arguments = distributed.Security().get_connection_args("client")

    async def answers() -> None:
        # a Client would wait without end for the first word of a server that says none
        connection = distributed.comm.connect(address, **arguments)
        (await asyncio.wait_for(connection, _SECONDS)).abort()

    try:
        asyncio.run(answers())
    except Exception as error:  # what is there instead of a scheduler may say anything
        what = str(error) or f"no answer in {_SECONDS} s"
        raise InputError(
            f"{ADDRESS}: found {address!r}, expected the address of a Dask scheduler that answers, "
            f"such as tcp://192.168.0.1:8786 ({what}). Start one with `dask scheduler`, or unset "
            "the variable to work on this machine alone."
        ) from None
    try:
        with distributed.Client(address, timeout=_SECONDS) as client:
            _prepare(client, address, expected, shared)
            yield client
    except distributed.KilledWorker as error:
        raise InputError(
            f"{ADDRESS}: workers of {address} died again and again while they did the same work, "
            f"perhaps for want of memory; their output says more ({error})."
        ) from None
    except (CancelledError, distributed.comm.CommClosedError):
        raise InputError(
            f"{ADDRESS}: the scheduler at {address} is gone. Start it and its workers anew, then "
            "run `dvc repro` again."
        ) from None


def _prepare(client: Any, address: str, expected: dict[str, str], shared: Path) -> None:
    """Waits until the workers are there and free, and checks them."""
    try:
        client.wait_for_workers(1, timeout=_SECONDS)
    except TimeoutError:
        raise InputError(f"{ADDRESS}: {address} has no worker. {_START}.") from None
    try:
        client.run(_check, expected, shared)
    except InputError:
        raise
    except Exception as error:  # Dask tells some faults, such as a missing module, by text alone
        raise InputError(
            f"{ADDRESS}: a worker of {address} can't be used ({error}). Stop it and start it anew. "
            f"{_START}."
        ) from None
    _wait_until_free(client, "waiting for what workers still do for an earlier run")


def _wait_until_free(client: Any, remark: str) -> None:
    """Waits until no worker does what a stage asked for; says so where it takes over a second."""
    begun = time.monotonic()
    while any(client.run(_executing, on_error="ignore").values()):
        if time.monotonic() - begun > 1:
            print(remark, file=sys.stderr)
            begun = float("inf")
        time.sleep(0.1)


def _finished(client: Any, waiting: deque[Any]) -> Iterator[Any]:
    """Waits for the first of the tasks, and gives its results and those of the next that are done.

    Raises:
        InputError: There was no worker for a while.
    """
    import distributed

    while not waiting[0].done():
        with contextlib.suppress(TimeoutError):
            distributed.wait(waiting[0], timeout=_SECONDS)
            break
        try:
            client.wait_for_workers(1, timeout=_LOST_SECONDS)
        except TimeoutError:
            raise InputError(f"{ADDRESS}: the last worker is gone. {_START}.") from None
    done = [waiting.popleft()]
    while waiting and waiting[0].done():
        done.append(waiting.popleft())
    for results in client.gather(done):  # at once, for every request takes some milliseconds
        yield from results


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], heavy: bool
) -> Iterator[Result]:
    """See `stages.common.parallel.ahead`.

    Args:
        function: Of a module, so that workers can import it.
        items: What it is called with.
        heavy: Every item is a task, in a process of its own.

    Raises:
        InputError: The cluster can't be used, or was lost.
    """
    address = os.environ[ADDRESS]
    scratch = Path(".dvc/tmp")
    scratch.mkdir(parents=True, exist_ok=True)
    expected, function = _surroundings(), _importable(function)
    waiting: deque[Any] = deque()
    with tempfile.NamedTemporaryFile(dir=scratch, prefix="seen-by-workers-") as file:
        shared = scratch / Path(file.name).name
        with _connected(address, expected, shared) as client:
            most = parallel.AHEAD + 2 * sum(client.nthreads().values())
            try:
                for chunk in parallel.batches(items, 1 if heavy else _CHUNK):
                    key = f"{function.__module__}.{function.__name__}-{uuid.uuid4()}"
                    task = (function, chunk, heavy, expected, shared)
                    waiting.append(client.submit(_work, *task, key=key))
                    if len(waiting) > most:
                        yield from _finished(client, waiting)
                while waiting:
                    yield from _finished(client, waiting)
            except (InputError, KeyboardInterrupt, SystemExit):
                # what has begun goes on, and would write where the stage tidies up; but a process
                # of its own, which may take minutes, writes nothing there
                client.cancel(list(waiting))
                time.sleep(0.1)  # until the workers have heard of it
                if not heavy:
                    _wait_until_free(client, "waiting for what workers have begun")
                raise


if __name__ == "__main__":
    _answer()
