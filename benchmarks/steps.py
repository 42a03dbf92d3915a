"""Where the seconds of one stage go.

usage: python -m benchmarks.steps STAGE, in a folder in which the stages before it have run

Runs the stage with a clock around what takes long in it. Prints a JSON record of seconds: `imports`
and the steps of STEPS, each without what it calls of the others. Of what runs in several threads it
counts the time of all of them over their number.
"""

import builtins
import importlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from stages.common import parallel

STEPS = {
    "stages.intake.decode.decode": "decoding",
    "stages.intake.copies.fingerprint": "fingerprints",
    "stages.intake.copies.find": "copies",
    "stages.sources.archive.Archive.unpack": "unpacking",
    "stages.learning.dataset.load": "reading images",
    "stages.learning.network.start": "start of TensorFlow",
    "stages.learning.network.fit": "epochs",
    "stages.learning.network.export": "export",
    "stages.train.check": "check of the export",
    "stages.learning.novelty.fit": "novelty",
    "stages.evaluate.judge": "inference",
    "stages.evaluate.headlines": "intervals",
    "stages.evaluate.explain": "heat maps",
}


class Clock:
    """Seconds by step, in threads: a step stands still while one inside it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = threading.local()
        self._alone = threading.Lock()

    def around(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed; a call of the same step inside it counts as one with it."""

        def timed(*given: Any, **named: Any) -> Any:
            steps: list[str] = self._open.__dict__.setdefault("steps", [])
            if steps[-1:] == [step]:
                return function(*given, **named)
            self._count(steps)
            steps.append(step)
            try:
                return function(*given, **named)
            finally:
                self._count(steps)
                steps.pop()

        return timed

    def _count(self, steps: list[str]) -> None:
        now, begun = time.perf_counter(), getattr(self._open, "begun", 0.0)
        self._open.begun = now
        if steps:
            main = threading.current_thread() is threading.main_thread()
            at_once = 1 if main else parallel.available_cores()
            with self._alone:
                self.seconds[steps[-1]] += (now - begun) / at_once


def main() -> None:
    """Runs the stage and prints."""
    clock = Clock()
    builtins.__import__ = clock.around("imports", builtins.__import__)
    stage = importlib.import_module(f"stages.{sys.argv[1]}")
    for name, step in STEPS.items():
        path, _, function = name.rpartition(".")
        owner: Any = sys.modules.get(path)
        if owner is None and path.rpartition(".")[0] in sys.modules:  # a class
            owner = getattr(sys.modules[path.rpartition(".")[0]], path.rpartition(".")[2], None)
        if owner is not None:
            setattr(owner, function, clock.around(step, getattr(owner, function)))
    stage.main()
    print(json.dumps(clock.seconds), flush=True)
    os._exit(0)  # as a stage does, because TensorFlow's own way out takes a second


if __name__ == "__main__":
    main()
