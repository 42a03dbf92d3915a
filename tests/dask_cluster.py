"""A Dask scheduler and its workers, as processes on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import distributed
import psutil

from stages.common import cluster

PROJECT = Path(__file__).resolve().parents[1]
Found = TypeVar("Found")


def until(look: Callable[[], Found | None]) -> Found:
    """What `look` gives as soon as it gives something."""
    deadline = time.monotonic() + 300
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def die(_: object) -> None:
    """Ends the worker that runs it, which its nanny replaces."""
    os._exit(1)


def die_with_nanny(_: object) -> None:
    """Ends the worker that runs it for good."""
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(1)


def nothing(_: object) -> None:
    """Can be done anywhere."""


class Cluster:
    """A scheduler without workers; the workers that are added run in `folder`."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self._scratch = folder, scratch
        self._begun: list[psutil.Process] = []
        written = scratch / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(written))
        # it is not written in one piece
        until(lambda: written.exists() and written.read_text().rstrip().endswith("}"))
        self.address: str = json.loads(written.read_text())["address"]

    @property
    def environment(self) -> dict[str, str]:
        """What makes a stage use it."""
        return {cluster.ADDRESS: self.address}

    def _start(self, *command: str) -> psutil.Process:
        with (self._scratch / "output").open("a") as output:
            process = psutil.Popen(
                [
                    *(sys.executable, "-m", "dask", *command),
                    *("--host", "127.0.0.1", "--no-dashboard"),
                ],
                cwd=self.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(PROJECT),
                    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._begun.append(process)
        return process

    def add_worker(self) -> psutil.Process:
        """Starts a worker of one thread; gives its nanny."""
        local = ("--local-directory", str(self._scratch))
        return self._start("worker", self.address, "--nthreads", "1", *local)

    def workers(self) -> list[psutil.Process]:
        """The processes that work, without their nannies."""
        with distributed.Client(self.address, set_as_default=False) as client:
            return [psutil.Process(number) for number in client.run(os.getpid).values()]

    def wait_for(self, workers: int) -> None:
        """Waits until so many workers are there."""
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=300)

    def at_work(self) -> list[psutil.Process]:
        """The workers that do what a stage asked for."""
        with distributed.Client(self.address, set_as_default=False) as client:
            busy, numbers = client.run(cluster._executing), client.run(os.getpid)
        return [psutil.Process(numbers[worker]) for worker, is_busy in busy.items() if is_busy]

    def stop(self) -> None:
        """Ends every process of it."""
        family = [each for one in self._begun if one.is_running() for each in one.children(True)]
        for process in [*self._begun, *family]:
            if process.is_running():
                process.kill()
        for process in self._begun:
            process.wait()
