"""The trained network on somebody's own images. No diagnosis: see metrics/MODEL_CARD.md.

usage: python -m stages.predict [--json] [--explain FOLDER] IMAGE_OR_FOLDER [...]

Prints the class and the probability of each class (after temperature scaling) for every image
file given, and for every image file below every folder given. Files that can't be read are named
on standard error after the others are done; the exit status is then 1.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stages.common import calibration, gradcam, images, network, stage
from stages.common.errors import InputError

_BATCH = 32
_IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp"}
_THREADS = 2


def expand(given: Iterable[Path]) -> list[Path]:
    """The files given, and for each folder the image files below it, sorted."""
    found = []
    for path in given:
        if path.is_dir():
            found += sorted(
                inner
                for inner in path.rglob("*")
                if inner.suffix.lower() in _IMAGE_ENDINGS and inner.is_file()
            )
        else:
            found.append(path)
    return found


def read_all(paths: Sequence[Path]) -> tuple[list[Path], np.ndarray, list[str]]:
    """Decodes what can be decoded.

    Returns:
        The paths that could be read; their pixels, uint8, (n, SIZE, SIZE, 3); and a message for
        each of the others.
    """
    readable, pixels, faults = [], [], []
    for path in paths:
        try:
            pixels.append(np.asarray(images.for_network(path)))
            readable.append(path)
        except InputError as error:
            faults.append(str(error))
        except OSError as error:
            faults.append(f"{path}: it can't be read ({error.strerror or error})")
    shape = (len(pixels), images.SIZE, images.SIZE, 3)
    return readable, np.array(pixels, np.uint8).reshape(shape), faults


def table(records: Sequence[dict[str, Any]], classes: Sequence[str]) -> Iterable[str]:
    """Lines of a table: file, class, and the probability of each class."""
    width = max([len("file"), *(len(record["file"]) for record in records)])
    named = max(len("class"), *(len(name) for name in classes))
    yield "  ".join(["file".ljust(width), "class".ljust(named), *classes])
    for record in records:
        values = [f"{record['probabilities'][name]:.3f}".rjust(len(name)) for name in classes]
        yield "  ".join([record["file"].ljust(width), record["class"].ljust(named), *values])


def predict(paths: Sequence[Path], as_json: bool, explain: Path | None) -> list[str]:
    """Prints a line for each image; gives a message for each file that can't be read."""
    companion = network.read_companion()
    classes = companion["classes"]
    if not network.MODEL.is_file():
        raise InputError(
            f"{network.MODEL} is not there; the stage `train` writes it. Run `dvc repro`."
        )
    network.start(0, _THREADS)
    trained = network.load()
    records, faults = [], []
    batches = range(0, len(paths), _BATCH)
    for start in tqdm(batches, "predict", unit="batch", disable=None if len(batches) > 1 else True):
        readable, pixels, unreadable = read_all(paths[start : start + _BATCH])
        faults += unreadable
        if not readable:
            continue
        said = network.probabilities(trained, pixels)
        calibrated = calibration.scaled(said, companion["temperature"])
        for path, row in zip(readable, calibrated, strict=True):
            record = {
                "file": str(path),
                "class": classes[int(row.argmax())],
                "probabilities": dict(zip(classes, row.tolist(), strict=True)),
            }
            records.append(record)
            if as_json:
                print(json.dumps(record, ensure_ascii=False), flush=True)
        if explain is not None:
            labels = calibrated.argmax(axis=1)
            maps = gradcam.activations(trained, pixels, labels)
            for number, path in enumerate(readable):
                here = slice(number, number + 1)
                target = explain / f"{start + number + 1:04d}-{path.name}.png"
                gradcam.draw(pixels[here], maps[here], [classes[labels[number]]], path.name, target)
    if not as_json and records:
        print("\n".join(table(records, classes)))
        print(f"\nData of the network: {companion['provenance']['data']}. Not for diagnosis.")
    return faults


def main() -> None:
    """Reads the command line and predicts."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description="Tells the class of chest radiographs with the trained network. "
        "Not a medical device.",
        epilog="Exit status 1 if a file could not be read; the others are done all the same.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--json", action="store_true", help="print a JSON record a line")
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="also write a Grad-CAM picture of each image there",
    )
    chosen = parser.parse_args()

    def work() -> None:
        paths = expand(chosen.paths)
        if not paths:
            names = ", ".join(str(path) for path in chosen.paths)
            raise InputError(f"{names}: found no image file, expected at least one.")
        faults = predict(paths, chosen.json, chosen.explain)
        for fault in faults:
            print(f"predict: {fault}", file=sys.stderr)
        if faults:
            raise InputError(f"{len(faults)} of {len(paths)} files could not be read; see above.")

    stage.guarded("predict", work)


if __name__ == "__main__":
    main()
