"""Crude classifiers, to hold the network against.

- low_resolution: 16 x 16 grey pixels;
- border: a frame of 40 of 200 pixels with the centre blacked out, reduced to 20 x 20 grey pixels,
  so that the central chest is gone, though outer parts of lungs can show;
- file_properties: width, height, aspect, bytes per pixel, format, mode, mean and spread of grey;
- majority_class: the class with most training images, whatever the picture.

The first three are support vector machines (RBF kernel, C = 10) on standardised values.
"""

import numpy as np
import pandas as pd
from PIL import Image

from stages.learning.dataset import Images

FRAME = 40
"""Width of the border in pixels; the rest of the image is its central region."""
LOW_RESOLUTION_SIDE = 16
BORDER_SIDE = 20
PENALTY = 10.0


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 images (n, height, width, 3) as grey ones, float64, (n, side * side)."""
    return np.array(
        [
            np.asarray(
                Image.fromarray(image).convert("L").resize((side, side), Image.Resampling.BOX)
            ).ravel()
            for image in pixels
        ],
        np.float64,
    )


def without_centre(pixels: np.ndarray) -> np.ndarray:
    """A copy of uint8 images (n, SIZE, SIZE, 3) of which only a frame of FRAME pixels is left."""
    framed = pixels.copy()
    framed[:, FRAME:-FRAME, FRAME:-FRAME] = 0
    return framed


def file_properties(images: Images, audit: pd.DataFrame) -> np.ndarray:
    """What the files alone give away, without a look at the pictures.

    Args:
        images: n images.
        audit: The audit's table, indexed by path.

    Returns:
        float64, (n, properties): width and height in pixels, aspect, bytes per pixel, one column
        for each format and each mode, mean and standard deviation of the grey values.
    """
    rows = audit.loc[images.table["path"]]
    width, height = rows["width"].to_numpy(float), rows["height"].to_numpy(float)
    columns = [width, height, width / height, rows["bytes"].to_numpy(float) / (width * height)]
    for name in ("format", "mode"):
        columns += [(rows[name] == value).to_numpy(float) for value in sorted(set(audit[name]))]
    columns += [
        np.array([image.mean() for image in images.pixels]),
        np.array([image.mean(axis=2).std() for image in images.pixels]),
    ]
    return np.column_stack(columns)


def support_vector_machine(
    train_values: np.ndarray, train_labels: np.ndarray, test_values: np.ndarray
) -> np.ndarray:
    """The predictions of a support vector machine for the test values; int64, (n,)."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = make_pipeline(StandardScaler(), SVC(C=PENALTY, kernel="rbf"))
    return np.asarray(machine.fit(train_values, train_labels).predict(test_values))


def predictions(train: Images, test: Images, audit: pd.DataFrame) -> dict[str, np.ndarray]:
    """The predictions of each baseline for the test images; int64, (n,), by its name."""
    both = (train, test)
    values = {
        "low_resolution": [reduced(images.pixels, LOW_RESOLUTION_SIDE) for images in both],
        "border": [reduced(without_centre(images.pixels), BORDER_SIDE) for images in both],
        "file_properties": [file_properties(images, audit) for images in both],
    }
    majority = int(np.bincount(train.labels).argmax())
    return {
        name: support_vector_machine(train_values, train.labels, test_values)
        for name, (train_values, test_values) in values.items()
    } | {"majority_class": np.full(len(test), majority)}
