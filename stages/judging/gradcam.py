"""Where the network looks: Grad-CAM (Selvaraju et al. 2017), over the radiograph.

In the form of HiResCAM (Draelos and Carin 2020), which is faithful where dense layers follow the
convolutions, as they do here.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.judging import drawing
from stages.judging.baselines import FRAME
from stages.learning import network
from stages.learning.dataset import SIZE

UNIFORM_SHARE = 1 - ((SIZE - 2 * FRAME) / SIZE) ** 2
"""The share outside the central region of an activation that is the same everywhere."""
_BATCH = 32
_CAPTION_LETTERS = 58
_TITLE_LETTERS = 36
"""As many as fit over two images side by side."""


def activations(trained: Any, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Class activation maps of the last convolution, enlarged to the image.

    Args:
        trained: The network.
        pixels: uint8, (n, SIZE, SIZE, 3).
        labels: int64, (n,): the class that each map explains.

    Returns:
        float32, (n, SIZE, SIZE), from 0 to 1, the largest value of each map being 1; a map is 0
        everywhere where no activation favours the class.
    """
    import keras
    import tensorflow

    convolution = trained.get_layer(network.LAST_CONVOLUTION)
    to_features = keras.Model(trained.inputs[0], convolution.output)
    rest = trained.layers[trained.layers.index(convolution) + 1 :]
    maps = []
    for start in range(0, len(pixels), _BATCH):
        features = to_features(pixels[start : start + _BATCH])
        with tensorflow.GradientTape() as tape:
            tape.watch(features)
            inner = features
            for layer in rest[:-1]:
                inner = layer(inner)
            # the logit, as in the paper: after the softmax, a confident prediction has no gradient
            logits = tensorflow.matmul(inner, rest[-1].kernel) + rest[-1].bias
            one_hot = tensorflow.one_hot(labels[start : start + _BATCH], logits.shape[-1])
            explained = tensorflow.reduce_sum(logits * one_hot, axis=1)
        gradient = tape.gradient(explained, features)
        # weighted place by place: a mean over places, as in the paper of 2017, misleads for a
        # network that flattens the places and weighs each by itself
        activation = tensorflow.nn.relu(tensorflow.reduce_sum(features * gradient, axis=-1))
        maps.append(tensorflow.image.resize(activation[..., None], (SIZE, SIZE))[..., 0].numpy())
    unscaled = np.concatenate(maps)
    peak = unscaled.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(unscaled, peak, out=np.zeros_like(unscaled), where=peak > 0))


def outside_share(maps: np.ndarray) -> np.ndarray:
    """float64, (n,): of each map (n, SIZE, SIZE) the share that lies in the frame, 0 to 1.

    A map that is 0 everywhere has no share: NaN.
    """
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    centre = maps[:, FRAME:-FRAME, FRAME:-FRAME].sum(axis=(1, 2), dtype=np.float64)
    share = np.full(len(maps), np.nan)
    return np.asarray(np.divide(total - centre, total, out=share, where=total > 0))


def draw(
    pixels: np.ndarray, maps: np.ndarray, captions: Sequence[str], title: str, target: Path
) -> None:
    """Draws each radiograph beside the same one with its activation over it, as a PNG."""
    pairs_per_row = min(3, len(pixels))
    rows = -(-len(pixels) // pairs_per_row)
    with drawing.drawing(target, (4.2 * pairs_per_row, 2.5 * rows + 0.6)) as figure:
        figure.suptitle(textwrap.fill(title, _TITLE_LETTERS * pairs_per_row))
        axes = figure.subplots(rows, 2 * pairs_per_row, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for number, caption in enumerate(captions):
            row, column = divmod(number, pairs_per_row)
            plain, covered = axes[row, 2 * column], axes[row, 2 * column + 1]
            for axis in (plain, covered):
                axis.imshow(pixels[number])
            covered.imshow(maps[number], cmap="jet", alpha=0.45, vmin=0, vmax=1)
            edge = SIZE - 2 * FRAME
            covered.add_patch(
                drawing.rectangle(FRAME, FRAME, edge, edge, edgecolor="white", linestyle=":")
            )
            lines = [textwrap.fill(line, _CAPTION_LETTERS) for line in caption.splitlines()]
            plain.set_title("\n".join(lines), fontsize=8, loc="left")
