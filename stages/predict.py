"""Classifies images with the trained network. No diagnosis: see metrics/MODEL_CARD.md.

usage: python -m stages.predict [--json] [--explain FOLDER] IMAGE_OR_FOLDER [...]

Prints the class and the probability of each class (after temperature scaling) for every image
file given, and for every image file below every folder given (hidden ones are passed over). Files
that can't be read are named on standard error after the others are done; the exit status is then
1.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stages.common import stage
from stages.common.errors import InputError, shown
from stages.intake import decode
from stages.judging import gradcam
from stages.learning import network, temperature
from stages.learning.dataset import SIZE

_BATCH = 32


def expand(given: Iterable[Path]) -> list[Path]:
    """The files given, and for each folder the image files below it, sorted.

    A folder in which there is none stands for itself, so that it is named among what could not be
    read.
    """
    return [file for path in given for file in decode.image_files(path) or [path]]


def read_all(paths: Sequence[Path]) -> tuple[list[Path], np.ndarray, list[str]]:
    """Decodes what can be decoded.

    Returns:
        The paths that could be read; their pixels, uint8, (n, SIZE, SIZE, 3); and a message for
        each of the others.
    """
    readable, pixels, faults = [], [], []
    for path in paths:
        if path.is_dir():
            faults.append(
                f"{shown(path)}: this folder has no image file in it; expected at least one"
            )
            continue
        try:
            pixels.append(np.asarray(decode.resized(path, SIZE)))
            readable.append(path)
        except InputError as error:
            faults.append(str(error))
        except OSError as error:
            faults.append(f"{shown(path)}: it can't be read ({error.strerror or error})")
    shape = (len(pixels), SIZE, SIZE, 3)
    return readable, np.array(pixels, np.uint8).reshape(shape), faults


def table(records: Sequence[dict[str, Any]], classes: Sequence[str]) -> Iterable[str]:
    """Lines of a table: file, class, and the probability of each class."""
    names = [shown(record["file"]) for record in records]
    width = max(len("file"), *map(len, names))
    named = max(len("class"), *(len(name) for name in classes))
    yield "  ".join(["file".ljust(width), "class".ljust(named), *classes])
    for name, record in zip(names, records, strict=True):
        values = [f"{record['probabilities'][label]:.3f}".rjust(len(label)) for label in classes]
        yield "  ".join([name.ljust(width), record["class"].ljust(named), *values])


def predict(paths: Sequence[Path], as_json: bool, explain: Path | None) -> list[str]:
    """Prints a line per image; gives a message for each file that can't be read."""
    metadata = network.read_metadata()
    classes = metadata["classes"]
    if explain is not None:
        try:
            explain.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                f"--explain: {explain} is a file or lies in one, expected a folder. "
                "Name another one."
            ) from None
    trained = None
    records, faults = [], []
    batches = range(0, len(paths), _BATCH)
    for start in tqdm(batches, "predict", unit="batch", disable=None if len(batches) > 1 else True):
        readable, pixels, unreadable = read_all(paths[start : start + _BATCH])
        faults += unreadable
        if not readable:
            continue
        if trained is None:  # not before: TensorFlow takes seconds to start
            network.start(metadata["threads"])
            trained = network.load()
        calibrated = temperature.scaled(
            network.probabilities(trained, pixels), metadata["temperature"]
        )
        for path, row in zip(readable, calibrated, strict=True):
            record = {
                "file": str(path),
                "class": classes[int(row.argmax())],
                "probabilities": dict(zip(classes, row.tolist(), strict=True)),
            }
            records.append(record)
            if as_json:
                print(json.dumps(record), flush=True)
        if explain is not None:
            labels = calibrated.argmax(axis=1)
            maps = gradcam.activations(trained, pixels, labels)
            for n, path in enumerate(readable):
                # a name may have 255 bytes, and a letter up to four
                target = explain / f"{start + n + 1:04d}-{path.name[:50]}.png"
                caption = [classes[labels[n]]]
                gradcam.draw(pixels[n : n + 1], maps[n : n + 1], caption, shown(path.name), target)
    if not as_json and records:
        print("\n".join(table(records, classes)))
        print(f"\nData of the network: {metadata['provenance']['data']}. Not for diagnosis.")
    return faults


def main() -> None:
    """Reads the command line and predicts."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description="Classifies chest radiographs with the trained network "
        f"({network.MODEL}, made by `dvc repro train`). Prints the class and the probability of "
        "each class. Not a medical device.",
        epilog="Exit status 1 if a file could not be read; the others are done all the same.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="IMAGE_OR_FOLDER",
        help=f"an image file ({', '.join(decode.FORMATS)}), or a folder to look for image files "
        "in; write -- before names that begin with a dash",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON record per line")
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="also write a Grad-CAM picture per image there",
    )
    chosen = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a traceback

    def work() -> None:
        paths = expand(chosen.paths)
        faults = predict(paths, chosen.json, chosen.explain)
        for fault in faults:
            print(f"predict: {fault}", file=sys.stderr)
        if faults:
            raise InputError(f"{len(faults)} of {len(paths)} files could not be read; see above.")

    stage.guarded("predict", work)
    stage.leave()


if __name__ == "__main__":
    main()
