"""Classifies images with the trained network. No diagnosis: see metrics/MODEL_CARD.md.

usage: python -m stages.predict [--json] [--explain FOLDER] IMAGE_OR_FOLDER [...]

Prints the class and the probability of each class (after temperature scaling) for every image
file given, and for every image file below every folder given (hidden ones are passed over), and
which of them look unlike those that the network was trained on. Files that can't be read are named
on standard error after the others are done; the exit status is then 1.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.common import files, parallel, stage
from stages.common.errors import InputError, shown
from stages.intake import decode
from stages.judging import gradcam
from stages.learning import classifier, novelty, temperature
from stages.learning.dataset import SIZE

_UNLIKE = "unlike the training images"


def expand(given: Iterable[Path]) -> list[Path]:
    """The files given, and for each folder the image files below it, sorted.

    A folder in which there is none stands for itself, so that it is named among what could not be
    read.
    """
    return [file for path in given for file in decode.image_files(path) or [path]]


def read(path: Path) -> np.ndarray | str:
    """The pixels of an image file, uint8, (SIZE, SIZE, 3), or a message on why there are none."""
    if path.is_dir():
        return f"{shown(path)}: this folder has no image file in it; expected at least one"
    try:
        return np.asarray(decode.resized(path, SIZE))
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{shown(path)}: it can't be read ({error.strerror or error})"


class Table:
    """Lines for people, one at a time: file, class, and the probability of each class."""

    def __init__(self, paths: Iterable[Path], classes: Sequence[str]) -> None:
        self.classes = classes
        self.width = max(len("file"), *(len(shown(path)) for path in paths))
        self.named = max(len("class"), *map(len, classes))

    def head(self) -> str:
        """The first line."""
        return "  ".join(["file".ljust(self.width), "class".ljust(self.named), *self.classes])

    def row(self, path: Path, probabilities: np.ndarray, unlike: bool) -> str:
        """The line of an image; its probabilities are float64, (classes,)."""
        predicted = self.classes[int(probabilities.argmax())]
        values = [
            f"{value:.3f}".rjust(len(label))
            for label, value in zip(self.classes, probabilities, strict=True)
        ]
        remark = [_UNLIKE] if unlike else []
        return "  ".join(
            [shown(path).ljust(self.width), predicted.ljust(self.named), *values, *remark]
        )


def json_line(path: Path, probabilities: np.ndarray, unlike: bool, classes: Sequence[str]) -> str:
    """The JSON record of an image; its probabilities are float64, (classes,)."""
    return json.dumps(
        {
            "file": str(path),
            "class": classes[int(probabilities.argmax())],
            "probabilities": dict(zip(classes, probabilities.tolist(), strict=True)),
            "unlike": unlike,
        }
    )


def predict(paths: Sequence[Path], as_json: bool, explain: Path | None) -> list[str]:
    """Prints a line per image as it is done; gives a message for each file that can't be read.

    Only a few images are in memory at a time, however many there are.
    """
    if explain is not None:
        try:
            explain.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                f"--explain: {explain} is a file or lies in one, expected a folder. "
                "Name another one."
            ) from None
    shipped, known = classifier.load(), novelty.Novelty.load()
    table = Table(paths, shipped.classes)
    faults = []
    done = strange = 0
    alone = len(paths) == 1
    decoded = parallel.ahead(read, paths, 1 if alone else None)
    bar = tqdm(decoded, "predict", len(paths), unit="image", disable=alone or None)
    for batch in parallel.batches(zip(enumerate(paths, 1), bar, strict=True), classifier.BATCH):
        faults += [fault for _, fault in batch if isinstance(fault, str)]
        readable = [(*place, pixels) for place, pixels in batch if isinstance(pixels, np.ndarray)]
        if not readable:
            continue
        pixels = np.array([image for _, _, image in readable])
        probabilities, activations = shipped.judge(pixels)
        calibrated = temperature.scaled(probabilities, shipped.temperature)
        if not as_json and not done:
            tqdm.write(table.head())
        done += len(readable)
        unlike = known.unlike(pixels).tolist()
        strange += sum(unlike)
        for (_, path, _), row, odd in zip(readable, calibrated, unlike, strict=True):
            as_record = json_line(path, row, odd, shipped.classes) if as_json else None
            tqdm.write(as_record or table.row(path, row, odd))  # past the progress bar
        sys.stdout.flush()
        if explain is not None:
            predicted = calibrated.argmax(axis=1)
            maps = gradcam.enlarged(gradcam.hirescam(activations, shipped.head, predicted))
            for (number, path, image), heat, row in zip(readable, maps, calibrated, strict=True):
                lines = [shown(path.name), f"{shipped.classes[row.argmax()]} {row.max():.3f}"]
                # a name may have 255 bytes, and a letter up to four
                with files.atomic_write(explain / f"{number:04d}-{path.name[:50]}.png") as partial:
                    gradcam.picture(image, heat, lines).save(partial, "PNG", compress_level=1)
    if not as_json and strange:
        print(f"\n{_UNLIKE}: the class means nothing there.")
    if not as_json and done:
        print(f"\nData of the network: {shipped.provenance['data']}. Not for diagnosis.")
    return faults


def main() -> None:
    """Reads the command line and predicts."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description="Classifies chest radiographs with the trained network "
        f"({classifier.MODEL}, made by `dvc repro train`). Prints the class and the probability of "
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


if __name__ == "__main__":
    main()
