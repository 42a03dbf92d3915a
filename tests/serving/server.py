"""The page's server as a program, with a network of random weights that takes no training.

usage: python -m tests.serving.server [JSON]

JSON sets some limits, such as {"bytes": 1000}; "pause", the seconds that every answer takes
longer; and "data", what the network says that it was trained on. Prints the address. Whatever it
opens for writing it names on standard error, and so it does with everything that fails.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from stages.intake import copies
from stages.intake.known import Known
from stages.learning.calibrated import Calibration
from stages.learning.novelty import Novelty
from stages.serving import app
from stages.serving.answers import Answers
from tests import made

ROWS, CHANNELS = 46, 32
KEPT = ("hashes", "fine", "coarse")
FAILS = {
    b"a file on which the program fails": RuntimeError("a fault of the program"),
    b"a file that takes too much memory": MemoryError(),
}


class Network:
    """Takes the place of stages.learning.classifier.Classifier."""

    def __init__(self, data: str = "SYNTHETIC PHANTOM (seed 1)") -> None:
        dice = np.random.default_rng(0)
        self.classes = list(made.CLASSES)
        self.provenance = {"data": data, "protocol": "none", "recipe": "tuned"}
        self._kernel = dice.normal(0, 1, (3, CHANNELS)).astype(np.float32)
        inputs = (ROWS // 2) ** 2 * CHANNELS
        self.head = (
            (dice.normal(0, 0.01, (inputs, 64)).astype(np.float32), np.zeros(64, np.float32)),
            (dice.normal(0, 0.5, (64, 3)).astype(np.float32), np.zeros(3, np.float32)),
        )

    def judge(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of every image by itself, so that it gets the same bits alone and among others."""
        smaller = pixels[:, : 4 * ROWS, : 4 * ROWS].reshape(-1, ROWS, 4, ROWS, 4, 3).mean((2, 4))
        activations = np.maximum(np.float32(smaller / 255 - 0.5) @ self._kernel, 0)
        half = activations.reshape(-1, ROWS // 2, 2, ROWS // 2, 2, CHANNELS).max((2, 4))
        (first, bias), (second, last) = self.head
        rows = [np.maximum(row.ravel() @ first + bias, 0) @ second + last for row in half]
        return softmax(np.array(rows, np.float64), axis=1), activations


KNOWN = {f"train/Normal/{seed}.png": made.picture(seed, (300, 240)) for seed in (901, 902)}
"""The images that it was trained on."""


def answers_of(network: Network) -> Answers:
    """Coloured pictures are refused."""
    prints = [copies.fingerprint(picture) for picture in KNOWN.values()]
    arrays = [np.array([getattr(each, name) for each in prints]) for name in KEPT]
    nothing = np.zeros(100)
    trained: Any = network
    only_colour = Novelty(nothing, np.diag(nothing), 1.0, 10.0, flattest=1.0)
    calibration = Calibration(0.5, np.linspace(0, 1, 99))
    return Answers(trained, calibration, Known(list(KNOWN), *arrays), only_colour)


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process, started in an empty folder for what it might write, and its port."""
    temporary = folder / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.server", json.dumps(settings)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(made.PROJECT), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("w"),
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def _tell(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes and arguments[0] != os.devnull and not isinstance(arguments[0], int):  # a pipe's end
        print(f"opened {arguments[0]} for writing", file=sys.stderr, flush=True)


def main() -> None:
    """Serves until it is killed."""
    warnings.filterwarnings("ignore", module="PIL")  # as stage.guarded does
    settings = json.loads(sys.argv[1])
    pause = settings.pop("pause", 0)
    network: Any = Network(*filter(None, [settings.pop("data", None)]))
    answers = answers_of(network)
    limits = app.Limits(**settings)

    def answer(file: bytes) -> dict[str, Any]:
        time.sleep(pause)
        if file in FAILS:
            raise FAILS[file]
        return answers.judge(file)

    with app.listening(0) as place:
        sys.addaudithook(_tell)
        print(place.getsockname()[1], flush=True)
        paths = {"/judge": answer, "/copies": answers.copies}
        app.run(app.create(paths, app.page(network, limits), limits), place, limits)


if __name__ == "__main__":
    main()
