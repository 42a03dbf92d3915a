"""Is the network still right where a part of every image is covered?

Reads `models`, `data/processed` (use "test") and the predictions of `baselines`. Writes
`metrics/details/occlusion.json`, the accuracy with the frame, the centre, the lungs or all but the
lungs covered, on the test images without leaks, and `metrics/pictures/occlusion.png`, one of them
under every occlusion.

A network that knows lungs is at chance without them. One that is right without them uses
something else too; what the frames alone tell, the baselines know.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files, stage
from stages.common.errors import InputError
from stages.judging import baselines, comparison, occlusion, scores
from stages.learning import classifier, dataset

BASELINES = Path("metrics/details/baselines.json")
DETAILS = Path("metrics/details/occlusion.json")
PICTURE = Path("metrics/pictures/occlusion.png")
UNTOUCHED = ("untouched", "")


def judge(
    shipped: classifier.Classifier, pixels: dataset.Pixels
) -> dict[tuple[str, str], np.ndarray]:
    """The predicted classes, int64, (n,), of uint8 images (n, SIZE, SIZE, 3).

    By part and filling, and of UNTOUCHED; a batch at a time, to spare memory.
    """
    predicted: dict[tuple[str, str], list[np.ndarray]] = {}
    for begin in range(0, len(pixels), classifier.BATCH):
        batch = pixels[begin : begin + classifier.BATCH]
        versions = {UNTOUCHED: batch} | {
            (part, filling): occlusion.occluded(batch, covered, filling)
            for part, covered in occlusion.parts().items()
            for filling in occlusion.FILLINGS
        }
        for version, images in versions.items():
            classes = shipped.probabilities(images).argmax(axis=1)
            predicted.setdefault(version, []).append(classes)
    return {version: np.concatenate(some) for version, some in predicted.items()}


def result(images: dataset.Images, predicted: np.ndarray) -> dict[str, Any]:
    """Accuracy and macro sensitivity of predicted classes, int64, (n,), with their intervals."""
    groups = images.table["group"].to_numpy()
    accuracy = scores.accuracy_with_interval(predicted == images.labels, groups)
    macro = scores.macro_sensitivity(images.labels, predicted, groups, len(images.classes))
    return accuracy | macro


def change(images: dataset.Images, predicted: np.ndarray, untouched: np.ndarray) -> dict[str, Any]:
    """Accuracy of the covered images minus that of the untouched ones, paired, with its interval.

    Args:
        images: The n images.
        predicted: int64, (n,): the classes predicted for the covered images.
        untouched: int64, (n,): those for the untouched ones.
    """
    right, before = predicted == images.labels, untouched == images.labels
    paired = comparison.paired(right, before, images.table["group"].to_numpy())
    return {name: value for name, value in paired.items() if name.startswith("difference")}


def frames(images: dataset.Images, records: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
    """What the baselines reach that see a frame alone, see `result`.

    Args:
        images: The test images that count.
        records: The baselines' predictions for the test images.

    Raises:
        InputError: The baselines have not judged one of the images.
    """
    by_file = {record["file"]: record for record in records}
    paths = images.table["path"].tolist()
    if missing := set(paths) - set(by_file):
        raise InputError(
            f"{BASELINES}: found no prediction for {min(missing)}, expected one for every test "
            f"image of {dataset.PROCESSED}. Run `dvc repro occlusion`."
        )
    names = [f"frame_{width}" for width in baselines.FRAMES]
    return {
        name: result(
            images, np.array([images.classes.index(by_file[path][name]) for path in paths])
        )
        for name in names
    }


def main() -> None:
    """Runs the stage."""
    shipped = classifier.load()
    every = dataset.load(["test"])
    images = every.take(scores.headline_positions(every)["leak_free"])
    classes = len(images.classes)
    alone = frames(images, files.read_json(BASELINES, "baselines")["test"]["predictions"])
    predicted = judge(shipped, images.pixels)
    untouched = predicted[UNTOUCHED]
    covered = {
        part: {
            filling: result(images, predicted[part, filling])
            | change(images, predicted[part, filling], untouched)
            for filling in occlusion.FILLINGS
        }
        for part in occlusion.parts()
    }
    verdict = occlusion.verdict(covered[occlusion.LUNGS], classes)
    files.write_json(
        DETAILS,
        {
            "provenance": shipped.provenance,
            "images": len(images),
            "chance": 1 / classes,
            "untouched": result(images, untouched),
            "covered": covered,
            "shares": {name: float(part.mean()) for name, part in occlusion.parts().items()},
            "verdict": verdict,
            "frames_alone": alone,
            "frames_above_chance": [
                name for name, of in alone.items() if occlusion.above_chance(of, classes)
            ],
        },
    )
    occlusion.draw(images.pixels[0], f"Occlusion: {shipped.provenance['data']}", PICTURE)
    print(f"{verdict}; accuracy of {len(images)} test images with a part covered:")
    print(f"  {'nothing':<14} {(untouched == images.labels).mean():.3f}")
    for part, by_filling in covered.items():
        numbers = ", ".join(f"{of['accuracy']:.3f} {name}" for name, of in by_filling.items())
        print(f"  {part:<14} {numbers}")


if __name__ == "__main__":
    stage.script("occlusion", main, __doc__)
