"""What the page shows of an image: the answer of `predict`, where it looked, and the doubts."""

import base64
import io
import threading
from typing import Any

import numpy as np
from PIL import Image

from stages.intake import decode
from stages.intake.known import Known
from stages.judging import gradcam
from stages.learning import prediction_sets
from stages.learning.calibrated import COVERAGE, Calibration
from stages.learning.classifier import Classifier
from stages.learning.dataset import SIZE
from stages.learning.novelty import Novelty

_SHOWN_SIDE = 640  # of the picture that is sent back, in pixels
_COMPARED_SIDE = 400  # more pixels add nothing to a fingerprint
_SHADES = np.rint(gradcam.shades(np.arange(256) / 255) * (1, 1, 1, 255)).astype(np.uint8)


def data_url(picture: Image.Image, kind: str, **options: Any) -> str:
    """A picture as part of a page; `kind` and `options` are those of Pillow's `save`."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _layer(heat: np.ndarray) -> str:
    """A heat map (rows, columns), 0 to 1, to be laid over the picture: clear where it is 0."""
    layer = Image.fromarray(np.rint(255 * heat[::2, ::2]).astype(np.uint8))  # it is smooth
    layer.putpalette(_SHADES[:, :3].tobytes())
    return data_url(layer, "PNG", transparency=_SHADES[:, 3].tobytes(), compress_level=1)


class Answers:
    """Answers image by image; several threads may share it.

    Args:
        trained: The network.
        calibration: How far it can be trusted.
        known: The images that it was trained on.
        novelty: What these look like.
    """

    def __init__(
        self, trained: Classifier, calibration: Calibration, known: Known, novelty: Novelty
    ) -> None:
        self._trained, self._calibration = trained, calibration
        self._known, self._novelty = known, novelty
        self._decoding = threading.Lock()  # one at a time: a large picture takes up to a gigabyte

    def judge(self, file: bytes) -> dict[str, Any]:
        """What the network says of an image file.

        Returns:
            What `predict --json --force` gives of it: `class`, `probabilities`, `set`, `coverage`
            and `refused`; `picture`, upright, and `heat`, which belongs over it, as data URLs.

        Raises:
            InputError: It is no image that can be read.
        """
        with self._decoding:
            picture, small = decode.both(io.BytesIO(file), SIZE)
            picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), reducing_gap=2.0)
        pixels = np.asarray(small)[None]
        own, activations = self._trained.judge(pixels)
        maps = gradcam.hirescam(activations, self._trained.head, own.argmax(axis=1))
        (probabilities,), (inside,) = (
            self._calibration.probabilities(own),
            self._calibration.sets(own),
        )
        classes = self._trained.classes
        names = prediction_sets.names(probabilities, inside, classes)
        return {
            "class": names[0],
            "probabilities": dict(zip(classes, probabilities.tolist(), strict=True)),
            "set": names,
            "coverage": COVERAGE,
            "refused": bool(self._novelty.refused(pixels)[0]),
            "picture": data_url(picture, "JPEG", quality=85),
            "heat": _layer(gradcam.enlarged(maps)[0]),
        }

    def copies(self, file: bytes) -> dict[str, Any]:
        """What of the training images an image file is a copy of.

        Asked for by itself because it takes as long as all that `judge` does.

        Returns:
            `copies`, their paths in data/raw, the most similar first.

        Raises:
            InputError: It is no image that can be read.
        """
        with self._decoding:
            picture, _ = decode.decode(io.BytesIO(file), at_least=_COMPARED_SIDE)
        return {"copies": [path for path, _ in self._known.find(picture)]}
