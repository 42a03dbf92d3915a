"""Classifies images with the trained network. No diagnosis: see metrics/MODEL_CARD.md.

usage: python -m stages.predict [--json] [--coverage C] [--force] [--explain FOLDER]
                                IMAGE_OR_FOLDER [...]

Prints the class, the calibrated probability of each class and the set of classes that holds the
true one in so many cases, for every image file given, and for every image file below every folder
given (hidden ones are passed over). What does not look like a chest radiograph gets no answer
without --force. Files that can't be read are named on standard error after the others are done;
the exit status is then 1.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.common import files, parallel, stage
from stages.common.errors import InputError, shown
from stages.intake import decode
from stages.judging import gradcam
from stages.learning import calibrated, classifier, novelty, prediction_sets
from stages.learning.dataset import SIZE

_COVERAGES = 0.5, 0.999


@dataclass(frozen=True)
class Answer:
    """What is said of an image.

    Attributes:
        probabilities: Calibrated, float64, (classes,).
        inside: Which classes are in the set, bool, (classes,).
        refused: Whether it does not look like a chest radiograph.
    """

    probabilities: np.ndarray
    inside: np.ndarray
    refused: bool

    def names(self, classes: Sequence[str]) -> list[str]:
        """The classes in the set, the most probable first."""
        return prediction_sets.names(self.probabilities, self.inside, classes)


def in_percent(coverage: float) -> str:
    """`90 %`."""
    return f"{100 * coverage:g} %"


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
    """Lines for people, one at a time: file, class, the probability of each class, and the set.

    Args:
        paths: Of all images.
        classes: Their names.
        coverage: Of the sets.
        force: Whether images that are refused get an answer all the same.
    """

    def __init__(
        self, paths: Iterable[Path], classes: Sequence[str], coverage: float, force: bool
    ) -> None:
        self.classes, self.coverage, self.force = classes, coverage, force
        self.width = max(len("file"), *(len(shown(path)) for path in paths))
        self.named = max(len("class"), *map(len, classes))

    def head(self) -> str:
        """The first line."""
        last = f"{in_percent(self.coverage)} set"
        return "  ".join(["file".ljust(self.width), "class".ljust(self.named), *self.classes, last])

    def row(self, path: Path, answer: Answer) -> str:
        """The line of an image."""
        file = shown(path).ljust(self.width)
        if answer.refused and not self.force:
            return f"{file}  {novelty.REFUSAL}"
        inside = answer.names(self.classes)
        values = [
            f"{value:.3f}".rjust(len(label))
            for label, value in zip(self.classes, answer.probabilities, strict=True)
        ]
        remark = [f"({novelty.REFUSAL})"] if answer.refused else []
        return "  ".join([file, inside[0].ljust(self.named), *values, ", ".join(inside), *remark])


def json_line(
    path: Path, answer: Answer, classes: Sequence[str], coverage: float, force: bool
) -> str:
    """The JSON record of an image."""
    answered = force or not answer.refused
    inside = answer.names(classes)
    probabilities = dict(zip(classes, answer.probabilities.tolist(), strict=True))
    return json.dumps(
        {
            "file": str(path),
            "class": inside[0] if answered else None,
            "probabilities": probabilities if answered else None,
            "set": inside if answered else None,
            "coverage": coverage,
            "refused": answer.refused,
        }
    )


def predict(
    paths: Sequence[Path],
    as_json: bool = False,
    explain: Path | None = None,
    coverage: float = calibrated.COVERAGE,
    force: bool = False,
) -> list[str]:
    """Prints a line per image as it is done; gives a message for each file that can't be read.

    Only a few images are in memory at a time, however many there are.

    Raises:
        InputError: The coverage is out of range, the folder can't be written to, or what ships is
            missing or damaged.
    """
    least, most = _COVERAGES
    if not least <= coverage <= most:
        raise InputError(
            f"--coverage: found {coverage:g}, expected a share from {least} to {most}, such as "
            f"{calibrated.COVERAGE}. Change it."
        )
    if explain is not None:
        try:
            explain.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                f"--explain: {explain} is a file or lies in one, expected a folder. "
                "Name another one."
            ) from None
    shipped, known = classifier.load(), calibrated.Calibration.load()
    look = novelty.Novelty.load()
    if len(known.scores) < (fewest := prediction_sets.fewest(coverage)):
        print(
            f"predict: for sets at {in_percent(coverage)} it takes {fewest} radiographs of train/, "
            f"and there are {len(known.scores)}: every set has all classes. Lower --coverage.",
            file=sys.stderr,
        )
    table = Table(paths, shipped.classes, coverage, force)
    faults = []
    done = refused = 0
    alone = len(paths) == 1
    decoded = parallel.ahead(read, paths, 1 if alone else None)
    bar = tqdm(decoded, "predict", len(paths), unit="image", disable=alone or None)
    for batch in parallel.batches(zip(enumerate(paths, 1), bar, strict=True), classifier.BATCH):
        faults += [fault for _, fault in batch if isinstance(fault, str)]
        readable = [(*place, pixels) for place, pixels in batch if isinstance(pixels, np.ndarray)]
        if not readable:
            continue
        pixels = np.array([image for _, _, image in readable])
        own, activations = shipped.judge(pixels)
        answers = [
            Answer(row, inside, odd)
            for row, inside, odd in zip(
                known.probabilities(own),
                known.sets(own, coverage),
                look.refused(pixels).tolist(),
                strict=True,
            )
        ]
        if not as_json and not done:
            tqdm.write(table.head())
        done += len(readable)
        refused += sum(answer.refused for answer in answers)
        for (_, path, _), answer in zip(readable, answers, strict=True):
            line = (
                json_line(path, answer, shipped.classes, coverage, force)
                if as_json
                else table.row(path, answer)
            )
            tqdm.write(line)  # past the progress bar
        sys.stdout.flush()
        if explain is not None:
            predicted = own.argmax(axis=1)
            maps = gradcam.enlarged(gradcam.hirescam(activations, shipped.head, predicted))
            for (number, path, image), heat, answer in zip(readable, maps, answers, strict=True):
                if answer.refused and not force:
                    continue
                row = answer.probabilities
                lines = [shown(path.name), f"{shipped.classes[row.argmax()]} {row.max():.3f}"]
                # a name may have 255 bytes, and a letter up to four
                with files.atomic_write(explain / f"{number:04d}-{path.name[:50]}.png") as partial:
                    gradcam.picture(image, heat, lines).save(partial, "PNG", compress_level=1)
    if not as_json and refused and not force:
        print(f"\n{refused} of {done} refused; --force answers all the same, which means nothing.")
    if not as_json and done:
        print(
            f"\n{in_percent(coverage)} set: among radiographs like those of the training, "
            f"{in_percent(coverage)} of these sets hold the true class."
        )
        print(f"\nData of the network: {shipped.provenance['data']}. Not for diagnosis.")
    return faults


def main() -> None:
    """Reads the command line and predicts."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description="Classifies chest radiographs with the trained network "
        f"({classifier.MODEL}, made by `dvc repro calibrate`). Prints the most probable class, the "
        "calibrated probability of each, and the set of classes that holds the true one in 90 of "
        "100 cases: of radiographs like those of the training, all classes taken together. Of a "
        f"picture of another kind it says: {novelty.REFUSAL}. Not a medical device.",
        epilog="Exit status 1 if a file could not be read; the others are done all the same. A "
        "refusal is an answer: with --json, class, probabilities and set are null there.",
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
        "--coverage",
        type=float,
        default=calibrated.COVERAGE,
        metavar="C",
        help="the share of the sets that hold the true class, from {} to {}; {} by default. More "
        "coverage means larger sets".format(*_COVERAGES, calibrated.COVERAGE),
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="answer also what does not look like a chest radiograph",
    )
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="also write a Grad-CAM picture per image that is not refused there",
    )
    chosen = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a traceback

    def work() -> None:
        paths = expand(chosen.paths)
        faults = predict(paths, chosen.json, chosen.explain, chosen.coverage, chosen.force)
        for fault in faults:
            print(f"predict: {fault}", file=sys.stderr)
        if faults:
            raise InputError(f"{len(faults)} of {len(paths)} files could not be read; see above.")

    stage.guarded("predict", work)


if __name__ == "__main__":
    main()
