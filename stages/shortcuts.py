"""How much can be told without lungs, or without a network.

Reads `data/processed`, `data/audit.csv` and the provenance. Writes `metrics/shortcuts.json`: the
accuracy of four baselines, trained on the images that the network was trained on and judged on
the same test images:

- thumbnail: 16 x 16 grey pixels;
- border: a frame of 40 of 200 pixels with the centre blacked out, reduced to 20 x 20 grey pixels,
  so that the central chest is gone, though outer parts of lungs can show;
- file_properties: width, height, aspect, bytes a pixel, format, mode, mean and spread of the grey;
- majority_class: the class with most training images, whatever the picture.

The first three are support vector machines (RBF kernel, C = 10) on standardised values.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.common import dataset, files, params, provenance, scores, stage
from stages.common.errors import InputError
from stages.common.images import FRAME

AUDIT = Path("data/audit.csv")
METRICS = Path("metrics/shortcuts.json")
THUMBNAIL_SIDE = 16
BORDER_SIDE = 20
PENALTY = 10.0


def thumbnails(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 images (n, height, width, 3) as grey thumbnails, float64, (n, side * side)."""
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


def file_properties(images: dataset.Images, audit: pd.DataFrame) -> np.ndarray:
    """What can be told of the files without looking at the pictures.

    Args:
        images: n images.
        audit: The audit's table, indexed by path.

    Returns:
        float64, (n, properties): width and height in pixels, aspect, bytes a pixel, one column
        for each format and each mode, mean and standard deviation of the grey values.
    """
    rows = audit.loc[images.table["source"]]
    width, height = rows["width"].to_numpy(float), rows["height"].to_numpy(float)
    columns = [width, height, width / height, rows["bytes"].to_numpy(float) / (width * height)]
    for name in ("format", "mode"):
        columns += [(rows[name] == value).to_numpy(float) for value in sorted(set(audit[name]))]
    columns += [
        np.array([image.mean() for image in images.pixels]),
        np.array([image.mean(axis=2).std() for image in images.pixels]),
    ]
    return np.column_stack(columns)


def machine_predictions(
    train_values: np.ndarray, train_labels: np.ndarray, test_values: np.ndarray
) -> np.ndarray:
    """What a support vector machine says of the test values; int64, (n,)."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = make_pipeline(StandardScaler(), SVC(C=PENALTY, kernel="rbf"))
    return np.asarray(machine.fit(train_values, train_labels).predict(test_values))


def baselines(
    train: dataset.Images, test: dataset.Images, audit: pd.DataFrame
) -> dict[str, np.ndarray]:
    """What each baseline says of the test images; int64, (n,), by the baseline's name."""
    values = {
        "thumbnail": [thumbnails(images.pixels, THUMBNAIL_SIDE) for images in (train, test)],
        "border": [
            thumbnails(without_centre(images.pixels), BORDER_SIDE) for images in (train, test)
        ],
        "file_properties": [file_properties(images, audit) for images in (train, test)],
    }
    said = {
        name: machine_predictions(train_values, train.labels, test_values)
        for name, (train_values, test_values) in values.items()
    }
    majority = int(np.bincount(train.labels).argmax())
    return said | {"majority_class": np.full(len(test), majority)}


def judge(said: np.ndarray, test: dataset.Images) -> dict[str, Any]:
    """`published` and `leak_free`: images and accuracy with its interval."""
    right = said == test.labels
    clean = scores.clean_positions(test)
    return {
        "published": scores.accuracy_with_interval(right),
        "leak_free": scores.accuracy_with_interval(right[clean]),
    }


def main() -> None:
    """Runs the stage."""
    protocol = params.load().preprocess.validation
    origin = provenance.read()
    if not AUDIT.is_file():
        raise InputError(
            f"{AUDIT} is not there; the stage `audit` writes it. Run `dvc repro audit`."
        )
    audit = pd.read_csv(
        AUDIT,
        dtype={"path": str, "format": str, "mode": str},
        keep_default_na=False,
        index_col="path",
    )
    train, test = dataset.load(["train"]), dataset.load(["test"])
    found = {name: judge(said, test) for name, said in baselines(train, test, audit).items()}
    files.write_json(
        METRICS, {"provenance": {"data": origin["data"], "protocol": protocol}, **found}
    )
    for name, result in found.items():
        published = result["published"]
        print(
            f"{name}: accuracy {published['accuracy']:.3f} "
            f"[{published['accuracy_low']:.3f}, {published['accuracy_high']:.3f}] "
            f"on {published['images']} test images"
        )


if __name__ == "__main__":
    stage.script("shortcuts", main, __doc__)
