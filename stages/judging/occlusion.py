"""What is left of a classifier's accuracy where a part of every image is covered.

The parts are fixed, and the same for every image: the frames of the baselines, the centre, and the
rough region of the lungs. A part is covered in two ways, neither of which depends on what lay
there:

- grey: mid-grey. Not the image's own mean, which would tell how dense the covered lungs are.
- blurred: the grey of what surrounds it, ever more blurred (normalised convolution, Knutsson and
  Westin 1993), so that there is no hard edge at its border; in the middle of a large part, where
  the surroundings of two sides meet, there may be one. Not the covered part itself,
  blurred: the classes can be told apart on pictures of 8 x 8 pixels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from stages.judging import drawing
from stages.judging.baselines import FRAME, FRAMES
from stages.learning.dataset import SIZE

FILLINGS = ("grey", "blurred")
LUNGS = "lungs"
_GREY = 128
_BLUR = 10
"""The standard deviation, in pixels, of the Gaussian that weighs the surroundings."""
_LUNG, _ROUNDING = (16, 10, 95, 176), 40
"""Left, upper, right and lower edge, in pixels, of the rounded box about the lung on the left of
the picture; the other is its mirror image. Placed by eye on the mean radiograph of each class of
the Kaggle set; of the phantoms' lungs 1.2 % lie outside on average and 7 % at most."""

ABOVE = "tells the classes apart without the lungs: it uses something else too"
BY_FILLING = "tells the classes apart without the lungs under one filling alone: not clear"
NOT_ABOVE = "is not shown to tell the classes apart without the lungs"


def _lungs() -> np.ndarray:
    left, top, right, bottom = _LUNG
    image = Image.new("1", (SIZE, SIZE))
    for box in (_LUNG, (SIZE - 1 - right, top, SIZE - 1 - left, bottom)):
        ImageDraw.Draw(image).rounded_rectangle(box, _ROUNDING, fill=1)
    return np.asarray(image)


def parts() -> dict[str, np.ndarray]:
    """What is covered: bool, (SIZE, SIZE), by name.

    `frame_<pixels>` for each of FRAMES; `centre`, all but the widest frame; `lungs`, the region
    where lungs lie in a frontal radiograph; and `all_but_lungs`.
    """
    covered = {}
    for width in FRAMES:
        covered[f"frame_{width}"] = np.ones((SIZE, SIZE), bool)
        covered[f"frame_{width}"][width:-width, width:-width] = False
    lungs = _lungs()
    return covered | {
        "centre": ~covered[f"frame_{FRAME}"],
        LUNGS: lungs,
        "all_but_lungs": ~lungs,
    }


def _gaussian() -> np.ndarray:
    """float32, (SIZE, SIZE): how much each row or column counts for each other."""
    places = np.arange(SIZE)
    return np.exp(-(((places[:, None] - places) / _BLUR) ** 2) / 2).astype(np.float32)


def occluded(pixels: np.ndarray, covered: np.ndarray, filling: str) -> np.ndarray:
    """The images with a part covered; the rest of them is as it was.

    Args:
        pixels: uint8, (n, SIZE, SIZE, 3).
        covered: bool, (SIZE, SIZE), not everywhere.
        filling: One of FILLINGS.

    Returns:
        uint8, (n, SIZE, SIZE, 3).
    """
    result = pixels.copy()
    if filling == "grey":
        result[:, covered] = _GREY
        return result
    weights, kept = _gaussian(), (~covered).astype(np.float32)
    grey = pixels.mean(axis=-1, dtype=np.float32)
    mean = weights @ (grey * kept) @ weights / (weights @ kept @ weights)
    result[:, covered] = np.rint(mean[:, covered])[..., None]
    return result


def tells_apart(result: Mapping[str, Any]) -> bool:
    """Whether the whole interval of the macro AUROC lies above chance, 0.5.

    Not the accuracy: where a part is covered, a network is apt to call every image the same, which
    hides in the classes what it still knows. The AUROC doesn't move when a class becomes more
    probable for all images alike.

    Args:
        result: Of `scores.macro_metrics`.
    """
    return bool(result["intervals"]["macro_auroc"][0] > 0.5)


def verdict(without_lungs: Mapping[str, Mapping[str, Any]]) -> str:
    """What follows from the results with the lungs covered: ABOVE, BY_FILLING or NOT_ABOVE.

    Args:
        without_lungs: By filling, what `scores.macro_metrics` gave.
    """
    above = [tells_apart(result) for result in without_lungs.values()]
    return ABOVE if all(above) else BY_FILLING if any(above) else NOT_ABOVE


def draw(pixels: np.ndarray, title: str, target: Path) -> None:
    """Draws one image, uint8, (SIZE, SIZE, 3), under every occlusion, a row for each filling."""
    covered = parts()
    with drawing.drawing(target, (1.9 * (1 + len(covered)), 2.2 * len(FILLINGS) + 0.6)) as figure:
        figure.suptitle(title)
        axes = figure.subplots(len(FILLINGS), 1 + len(covered))
        for row, filling in zip(axes, FILLINGS, strict=True):
            pictures = {"nothing": pixels} | {
                f"{name.replace('_', ' ')}, {filling}": occluded(pixels[None], part, filling)[0]
                for name, part in covered.items()
            }
            for axis, (name, picture) in zip(row, pictures.items(), strict=True):
                axis.imshow(picture)
                axis.axis("off")
                axis.set_title(name, fontsize=9)
