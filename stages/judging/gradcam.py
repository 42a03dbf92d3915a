"""Where the network looks: Grad-CAM (Selvaraju et al. 2017), over the radiograph.

In the form of HiResCAM (Draelos and Carin 2020), which is faithful where dense layers follow the
convolutions, as they do here. Each activation of the last convolution sees RECEPTIVE_FIELD pixels
a side, and the maps are smoothed at that scale: they show regions, not dots.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stages.judging import drawing
from stages.judging.baselines import FRAME
from stages.learning.classifier import Head
from stages.learning.dataset import SIZE

RECEPTIVE_FIELD = 18
"""The pixels a side that an activation of the last convolution sees: 3 of the first convolution,
4 after pooling, which makes steps of 2, so 8 after the second and 10 after its pooling, which
makes steps of 4, so 18 after the third (Araujo et al. 2019)."""
_STEP = 4
_SIDE = (SIZE - RECEPTIVE_FIELD) // _STEP + 1  # 46 activations
_CENTRES = RECEPTIVE_FIELD / 2 + _STEP * np.arange(_SIDE)  # from the image's edge
_COLOURS = np.array(
    [
        *([0, 0, 4], [27, 12, 65], [74, 12, 107], [120, 28, 109], [165, 44, 96]),
        *([207, 68, 70], [237, 105, 37], [251, 155, 6], [247, 209, 61], [252, 255, 164]),
    ]
)
"""From 0 to 1, ever lighter: points of matplotlib's inferno, which readers of any colour vision
can put in order."""
_OPACITY = 0.75
_SCALE_ROWS = 12
_CAPTION_LETTERS = 58
_TITLE_LETTERS = 36
"""As many as fit over two images side by side."""


def _spread() -> np.ndarray:
    """float32, (SIZE, _SIDE): how each row or column of activations is spread over the pixels.

    A Gaussian about the middle of what it sees, as wide at half its height as that is, of which
    nothing is lost at the edges of the image.
    """
    deviation = RECEPTIVE_FIELD / np.sqrt(8 * np.log(2))
    distance = np.arange(SIZE)[:, None] + 0.5 - _CENTRES
    weights = np.exp(-((distance / deviation) ** 2) / 2)
    return np.asarray(weights / weights.sum(axis=0), np.float32)


def hirescam(activations: np.ndarray, head: Head, labels: np.ndarray) -> np.ndarray:
    """What each place of the last convolution adds to the logit of a class.

    The activations times the gradient of the logit. (The logit as in the papers: after the
    softmax, a confident prediction has no gradient. Weighted place by place: a mean over places,
    as in the paper of 2017, misleads for a network that flattens the places and weighs each by
    itself.)

    Args:
        activations: float32, (n, rows, columns, channels), of `Classifier.judge`.
        head: The dense layers behind, `Classifier.head`.
        labels: int64, (n,): the class that each map explains.

    Returns:
        float32, (n, rows, columns), 0 and more; 0 everywhere where nothing favours the class.
    """
    (kernel, bias), (last_kernel, _) = head
    count, rows, columns, channels = activations.shape
    pools = (count, rows // 2, columns // 2)
    windows = activations.reshape(count, rows // 2, 2, columns // 2, 2, channels)
    windows = windows.transpose(0, 1, 3, 2, 4, 5).reshape(*pools, 4, channels)
    pooled = windows.max(axis=3)
    hidden = pooled.reshape(count, -1) @ kernel + bias
    gradient = (last_kernel.T[labels] * (hidden > 0)) @ kernel.T
    # max pooling passes the gradient on to the greatest of four, in TensorFlow the first of equals
    greatest = windows.argmax(axis=3)[..., None, :] == np.arange(4)[:, None]
    shares = (greatest * (pooled * gradient.reshape(pooled.shape))[..., None, :]).sum(axis=-1)
    places = shares.reshape(*pools, 2, 2).transpose(0, 1, 3, 2, 4)
    return np.asarray(np.maximum(places.reshape(count, rows, columns), 0))


def enlarged(maps: np.ndarray) -> np.ndarray:
    """The maps of `hirescam` over the image, smoothed at the scale of RECEPTIVE_FIELD.

    Returns:
        float32, (n, SIZE, SIZE), from 0 to 1, the largest value of each map being 1; a map that
        is 0 everywhere stays so.
    """
    spread = _spread()
    smooth = spread @ maps @ spread.T
    peak = smooth.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(smooth, peak, out=np.zeros_like(smooth), where=peak > 0))


def outside_centre(maps: np.ndarray) -> np.ndarray:
    """float64, (n,): of each map of `hirescam` the share that lies in the frame, 0 to 1.

    Each activation counts where the middle of what it sees is. Of the maps as they are, because
    smoothing, which is for the eye, carries some of each across the line. A map that is 0
    everywhere has no share: NaN.
    """
    inner = (_CENTRES > FRAME) & (_CENTRES < SIZE - FRAME)
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    centre = maps[:, inner][:, :, inner].sum(axis=(1, 2), dtype=np.float64)
    share = np.full(len(maps), np.nan)
    return np.asarray(np.divide(total - centre, total, out=share, where=total > 0))


def rank_correlation(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each map of `hirescam` with the other one of the same image.

    Between the maps of a network and of one with random weights it tells how much of them is the
    image itself and not what was learned (Adebayo et al. 2018). Of the maps smoothed, as people
    see them. One that is the same everywhere has no ranks: NaN.

    Args:
        maps: float32, (n, rows, columns).
        others: float32, (n, rows, columns).

    Returns:
        float64, (n,), -1 to 1.
    """
    from scipy.stats import spearmanr

    # smoothing lets every map fade towards the border, which would make any two alike
    fading = enlarged(np.ones_like(maps[:1]))
    # smoothed as they are, neighbours tell nothing new
    one, other = (
        (enlarged(some) / fading)[:, ::_STEP, ::_STEP].reshape(len(some), -1)
        for some in (maps, others)
    )
    return np.array(
        [
            spearmanr(ours, theirs).statistic if np.ptp(ours) and np.ptp(theirs) else np.nan
            for ours, theirs in zip(one, other, strict=True)
        ],
        np.float64,
    )


UNIFORM_SHARE = float(outside_centre(np.ones((1, _SIDE, _SIDE), np.float32))[0])
"""The share outside the central region of activations that are the same everywhere."""


def shades(heat: np.ndarray) -> np.ndarray:
    """What lies over a radiograph where a map has these values.

    Args:
        heat: (...), 0 to 1.

    Returns:
        float64, (..., 4): red, green and blue, 0 to 255, and opacity, 0 to 1.
    """
    points = np.linspace(0, 1, len(_COLOURS))
    colours = [np.interp(heat, points, channel) for channel in _COLOURS.T]
    return np.stack([*colours, _OPACITY * np.minimum(1.5 * heat, 1)], axis=-1)


def overlay(pixels: np.ndarray, heat: np.ndarray) -> Image.Image:
    """A radiograph under its heat map; where the map is 0, the radiograph is as it was.

    Args:
        pixels: uint8, (rows, columns, 3).
        heat: float32, (rows, columns), 0 to 1, such as a map of `enlarged`.
    """
    colours, opacity = np.split(shades(heat), [3], axis=-1)
    return Image.fromarray(np.rint(pixels * (1 - opacity) + colours * opacity).astype(np.uint8))


def scale() -> Image.Image:
    """The colours of `overlay` on mid-grey, SIZE x 12 pixels: 0 on the left, 1 on the right."""
    heat = np.tile(np.linspace(0, 1, SIZE, dtype=np.float32), (_SCALE_ROWS, 1))
    return overlay(np.full((*heat.shape, 3), 128, np.uint8), heat)


SCALE_WORDS = (
    "how much speaks for the class: from nothing to most\n"
    f"(smoothed at {RECEPTIVE_FIELD} of {SIZE} pixels, what one activation sees)"
)
"""What stands beside the scale."""


def picture(pixels: np.ndarray, heat: np.ndarray, lines: Sequence[str]) -> Image.Image:
    """A radiograph beside the same one under its heat map, with a scale and lines of text above.

    Args:
        pixels: uint8, (SIZE, SIZE, 3).
        heat: float32, (SIZE, SIZE), 0 to 1.
        lines: What is too long for the picture is cut off.
    """
    side, margin, line = 2 * SIZE, 10, 24
    top = margin + line * len(lines)
    sheet = Image.new("RGB", (2 * side + 3 * margin, top + side + 2 * line + margin), "white")
    right = side + 2 * margin
    for left, image in ((margin, Image.fromarray(pixels)), (right, overlay(pixels, heat))):
        sheet.paste(image.resize((side, side), Image.Resampling.BICUBIC), (left, top))
    below = top + side + margin
    sheet.paste(scale().resize((side, line)), (right, below))
    texts = [(margin, margin / 2 + number * line, text) for number, text in enumerate(lines)]
    drawing.write_on(sheet, [*texts, (margin, below, SCALE_WORDS)])
    return sheet


def draw(
    pixels: np.ndarray, maps: np.ndarray, captions: Sequence[str], title: str, target: Path
) -> None:
    """Draws each radiograph beside the same one under its map, with a scale below, as a PNG."""
    pairs_per_row = min(3, len(pixels))
    rows = -(-len(pixels) // pairs_per_row)
    with drawing.drawing(target, (4.2 * pairs_per_row, 2.5 * rows + 1.2)) as figure:
        figure.suptitle(textwrap.fill(title, _TITLE_LETTERS * pairs_per_row))
        axes = figure.subplots(rows, 2 * pairs_per_row, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for number, caption in enumerate(captions):
            row, column = divmod(number, pairs_per_row)
            plain, covered = axes[row, 2 * column], axes[row, 2 * column + 1]
            plain.imshow(pixels[number])
            covered.imshow(overlay(pixels[number], maps[number]))
            edge = SIZE - 2 * FRAME
            covered.add_patch(
                drawing.rectangle(FRAME, FRAME, edge, edge, edgecolor="white", linestyle=":")
            )
            lines = [textwrap.fill(line, _CAPTION_LETTERS) for line in caption.splitlines()]
            plain.set_title("\n".join(lines), fontsize=8, loc="left")
        drawing.scale(figure, axes, np.asarray(scale())[0], SCALE_WORDS)
