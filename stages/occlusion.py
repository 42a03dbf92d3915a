"""Is the network still right where a part of every image is covered?

Reads `models`, `data/processed` (use "test") and the predictions of `baselines`. Writes
`metrics/details/occlusion.json`, the accuracy with the frame, the centre, the lungs or all but the
lungs covered, on the test images without leaks, and `metrics/pictures/occlusion.png`, one of them
under every occlusion.

A network that knows lungs alone is at chance without them. One that still tells the classes apart
uses something else too; what the frame alone tells, the baselines know.
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
METRICS = ("sensitivity", "auroc")


def judge(
    shipped: classifier.Classifier, pixels: dataset.Pixels
) -> dict[tuple[str, str], np.ndarray]:
    """The probabilities, float64, (n, classes), of uint8 images (n, SIZE, SIZE, 3).

    By part and filling, and of UNTOUCHED; a batch at a time, to spare memory.
    """
    judged: dict[tuple[str, str], list[np.ndarray]] = {}
    for begin in range(0, len(pixels), classifier.BATCH):
        batch = pixels[begin : begin + classifier.BATCH]
        judged.setdefault(UNTOUCHED, []).append(shipped.probabilities(batch))
        for part, covered in occlusion.parts().items():
            for filling in occlusion.FILLINGS:
                images = occlusion.occluded(batch, covered, filling)
                judged.setdefault((part, filling), []).append(shipped.probabilities(images))
    return {version: np.concatenate(some) for version, some in judged.items()}


def result(
    images: dataset.Images, probabilities: np.ndarray, untouched: np.ndarray
) -> dict[str, Any]:
    """How good the answers are for images with a part covered.

    Args:
        images: The n images.
        probabilities: float64, (n, classes), with a part covered.
        untouched: float64, (n, classes), without.

    Returns:
        What `scores.macro_metrics` gives, and `difference`, `difference_low`, `difference_high`:
        the accuracy minus that of the untouched images, paired.
    """
    groups = images.table["group"].to_numpy()
    right, before = (some.argmax(axis=1) == images.labels for some in (probabilities, untouched))
    paired = comparison.paired(right, before, groups)
    return {
        **scores.macro_metrics(images.labels, probabilities, groups, METRICS),
        **{name: value for name, value in paired.items() if name.startswith("difference")},
    }


def frames(images: dataset.Images, records: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
    """What the baselines that see a frame alone reach on these images, with `above_chance`.

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
    results = {}
    for name in (f"frame_{width}" for width in baselines.FRAMES):
        predicted = [images.classes.index(by_file[path][name]) for path in paths]
        certain, groups = np.eye(len(images.classes))[predicted], images.table["group"].to_numpy()
        found = scores.macro_metrics(images.labels, certain, groups, ["sensitivity"])
        low, _ = found["intervals"]["macro_sensitivity"]
        results[name] = found | {"above_chance": low > 1 / len(images.classes)}
    return results


def main() -> None:
    """Runs the stage."""
    shipped = classifier.load()
    every = dataset.load(["test"])
    images = every.take(scores.headline_positions(every)["leak_free"])
    alone = frames(images, files.read_json(BASELINES, "baselines")["test"]["predictions"])
    judged = judge(shipped, images.pixels)
    untouched = judged[UNTOUCHED]
    covered = {
        part: {
            filling: result(images, judged[part, filling], untouched)
            for filling in occlusion.FILLINGS
        }
        for part in occlusion.parts()
    }
    verdict = occlusion.verdict(covered[occlusion.LUNGS])
    files.write_json(
        DETAILS,
        {
            "provenance": shipped.provenance,
            "classes": len(images.classes),
            "verdict": verdict,
            "untouched": scores.macro_metrics(
                images.labels, untouched, images.table["group"].to_numpy(), METRICS
            ),
            "covered": covered,
            "shares": {name: float(part.mean()) for name, part in occlusion.parts().items()},
            "frames_alone": alone,
        },
    )
    occlusion.draw(images.pixels[0], f"Occlusion: {shipped.provenance['data']}", PICTURE)
    print(f"The network {verdict}. Accuracy of {len(images)} images with a part covered:")
    print(f"  {'nothing':<14} {(untouched.argmax(axis=1) == images.labels).mean():.3f}")
    for part, by_filling in covered.items():
        numbers = ", ".join(f"{of['accuracy']:.3f} {name}" for name, of in by_filling.items())
        print(f"  {part:<14} {numbers}")


if __name__ == "__main__":
    stage.script("occlusion", main, __doc__)
