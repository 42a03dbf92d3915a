"""What the page shows of an image: the answer of `predict`, where it looked, and the doubts."""

import base64
import io
import threading
from typing import Any

import numpy as np
from PIL import Image

from stages.intake import decode
from stages.learning import temperature
from stages.learning.classifier import Classifier
from stages.learning.dataset import SIZE

_SHOWN_SIDE = 640  # of the picture that is sent back, in pixels


def _data_url(picture: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


class _File(io.BytesIO):
    def open(self, mode):
        return io.BytesIO(self.getvalue())


def _both(file, size):
    picture, _ = decode.decode(_File(file), at_least=3 * size // 2)
    small = picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return picture, small.convert("RGB")


class Answers:
    """Answers one image after the other; may be called from several threads.

    Attributes:
        trained: The network.
    """

    def __init__(self, trained: Classifier) -> None:
        self.trained = trained
        self._decoding = threading.Lock()

    def __call__(self, file: bytes) -> dict[str, Any]:
        """The answer on an image file.

        Returns:
            `class` and `probabilities` as in `predict --json`; `unlike`, whether the image looks
            like no chest X-ray; `copies`, the training images that it is a copy of; `picture`,
            upright, and `heat`, which belongs over it, as data URLs.

        Raises:
            UnreadableImageError: It is no image that can be read.
        """
        with self._decoding:  # one at a time, because a large picture takes up to a gigabyte
            picture, pixels = _both(file, SIZE)
        probabilities, activations = self.trained.judge(np.asarray(pixels)[None])
        (row,) = temperature.scaled(probabilities, self.trained.temperature)
        classes = self.trained.classes
        picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), reducing_gap=2.0)
        return {
            "class": classes[int(row.argmax())],
            "probabilities": dict(zip(classes, row.tolist(), strict=True)),
            "unlike": False,
            "copies": [],
            "picture": _data_url(picture, "JPEG", quality=85),
            "heat": self._heat(activations, int(row.argmax())),
        }

    def _heat(self, activations: np.ndarray, label: int) -> str:
        """The heat map as a PNG of its own, the clearer the less spoke for the class."""
        (first, bias), (second, _) = self.trained.head
        f = activations[0]
        r, c, ch = f.shape
        p = f[: r // 2 * 2, : c // 2 * 2].reshape(r // 2, 2, c // 2, 2, ch)
        pooled = p.max((1, 3))
        hidden = pooled.ravel() @ first + bias
        g = first @ (second[:, label] * (hidden > 0))
        g = g.reshape(pooled.shape)
        m = np.maximum((pooled * g).sum(-1), 0)
        from scipy import ndimage

        m = ndimage.gaussian_filter(m, 1.2)
        m = m / (m.max() or 1)
        im = Image.fromarray(np.rint(255 * m).astype(np.uint8))
        im = im.resize((100, 100), Image.Resampling.BICUBIC)
        im = Image.fromarray(np.asarray(im))
        im.putpalette([x for v in range(256) for x in (255, v, 0)])
        return _data_url(im, "PNG", transparency=bytes(range(256)), compress_level=1)
