"""The network as it is shipped: one LiteRT file, run without TensorFlow.

`train` exports it; `evaluate`, `external` and `predict` run it, so what is judged is what is
shipped. LiteRT is imported inside the functions, so that importing this module stays cheap.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.common import files
from stages.common.errors import InputError

if TYPE_CHECKING:
    from stages.learning.dataset import Pixels

MODEL = Path("models/classifier.tflite")
METADATA = Path("models/classifier.json")
"""What travels with the model: `classes`, `threads`, `provenance`, `sha256`, that of MODEL, and
`untrained_sha256`, that of UNTRAINED."""
UNTRAINED = Path("data/untrained.tflite")
"""The network before training, with random weights: what heat maps are held against."""

BATCH = 32
"""How many images the interpreter gets at once; more are no faster."""
Head = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Classifier:
    """The network and its class names; may be called from several threads.

    Attributes:
        classes: The names of the classes, sorted, as in the columns of the probabilities.
        provenance: `data`, the line on what the network was trained on, and the names of the
            `protocol` of its validation and of its `recipe`.
        threads: How many the interpreter uses.
        head: The dense layers behind the last convolution, each with its kernel, float32
            (inputs, outputs), and its bias, float32 (outputs,). The first takes the flattened
            activations after max pooling (2 x 2) and has ReLU behind it, the second gives logits.
    """

    def __init__(self, model: bytes, metadata: dict[str, Any]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.classes: list[str] = metadata["classes"]
        self.provenance: dict[str, Any] = metadata["provenance"]
        self.threads: int = metadata["threads"]
        with _without_remarks():
            interpreter = Interpreter(model_content=model, num_threads=self.threads)
            interpreter.allocate_tensors()
        self._run = interpreter.get_signature_runner()
        self._alone = threading.Lock()
        first, second = (
            operation["inputs"][1:]
            for operation in interpreter._get_ops_details()  # no public way leads to the weights
            if operation["op_name"] == "FULLY_CONNECTED"
        )

        def weights(kernel: int, bias: int) -> tuple[np.ndarray, np.ndarray]:
            inputs_outputs = interpreter.get_tensor(kernel).T
            if bias < 0:  # a bias of zeros, as before training, is not in the file
                return inputs_outputs, np.zeros(inputs_outputs.shape[1], np.float32)
            return inputs_outputs, interpreter.get_tensor(bias)

        self.head: Head = weights(*first), weights(*second)

    def judge(self, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
        """Runs the network; an image gets the same bits alone and among others.

        Args:
            pixels: uint8, (n, SIZE, SIZE, 3), of one image or more.

        Returns:
            The probabilities before temperature scaling, float64, (n, classes), each row adding
            up to 1; and the activations of the last convolution, float32, (n, rows, columns,
            channels), 270,848 bytes per image.
        """
        parts = [self._batch(pixels[n : n + BATCH]) for n in range(0, len(pixels), BATCH)]
        probabilities, activations = (np.concatenate(values) for values in zip(*parts, strict=True))
        return probabilities, activations

    def probabilities(self, pixels: Pixels) -> np.ndarray:
        """The same probabilities, without the memory that the activations take."""
        return np.concatenate(
            [self._batch(pixels[n : n + BATCH])[0] for n in range(0, len(pixels), BATCH)]
        )

    def _batch(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._alone:
            outputs = self._run(image=pixels.astype(np.float32))
        exact = outputs["probabilities"].astype(np.float64)  # to more places than float32 has
        return exact / exact.sum(axis=1, keepdims=True), outputs["activations"]


def load(model: Path = MODEL, metadata: Path = METADATA, hashed: str = "sha256") -> Classifier:
    """Loads what `train` wrote; `hashed` is the key of the model's hash in the metadata.

    Raises:
        InputError: A file is missing or damaged, or they are not of one training.
    """
    try:
        content = model.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{model} is not there; the stage `train` writes it. Run `dvc repro train`."
        ) from None
    facts = read_metadata(metadata)
    found = hashlib.sha256(content).hexdigest()
    if found != facts[hashed]:  # before LiteRT reads it, which may crash on a damaged file
        raise InputError(
            f"{model}: found the SHA-256 {found}, expected {facts[hashed]}, which {metadata} "
            "names. It is damaged or of another training. Run `dvc repro --force train`."
        )
    return Classifier(content, facts)


def load_untrained() -> Classifier:
    """Loads the network as it was before training.

    Raises:
        InputError: As for `load`.
    """
    return load(UNTRAINED, hashed="untrained_sha256")


def read_metadata(path: Path = METADATA) -> dict[str, Any]:
    """What travels with the model, see METADATA.

    Raises:
        InputError: the file is missing or damaged.
    """
    metadata: dict[str, Any] = files.read_json(path, "train")
    return metadata


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Holds back the line on its delegate that LiteRT writes straight to file descriptor 2."""
    sys.stderr.flush()
    shown = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
