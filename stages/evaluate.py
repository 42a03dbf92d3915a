"""How good the network is, on images that it has not met.

Reads `models` and `data/processed` (use "test"). Writes `metrics/test.json` (two headlines, each
figure with its interval; calibration; where the network looks), `metrics/predictions.json` (a
record an image), `metrics/roc.json` and `metrics/reliability.json` (points of curves) and
`metrics/pictures/gradcam.png`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stages.common import (
    calibration,
    dataset,
    files,
    gradcam,
    network,
    params,
    scores,
    stage,
)
from stages.common.errors import InputError

METRICS = Path("metrics/test.json")
PREDICTIONS = Path("metrics/predictions.json")
ROC = Path("metrics/roc.json")
RELIABILITY = Path("metrics/reliability.json")
GRADCAM = Path("metrics/pictures/gradcam.png")


def headlines(
    images: dataset.Images, said: np.ndarray, settings: params.Evaluate
) -> dict[str, Any]:
    """Two answers to "how good": as everybody reports it, and without leaks.

    Args:
        images: The test images.
        said: float64, (n, classes), the network's probabilities.
        settings: Replicates and seed of the bootstrap.

    Returns:
        `published` (all test images) and `leak_free` (one image a radiograph, none of them seen
        in training), each as from `scores.figures`.

    Raises:
        InputError: without the leaks, a class has no image left.
    """
    groups = images.table["group"].to_numpy()
    clean = scores.clean_positions(images)
    return {
        name: scores.figures(
            images.labels[chosen],
            said[chosen],
            groups[chosen],
            images.classes,
            settings.bootstrap_samples,
            settings.seed,
        )
        for name, chosen in (("published", np.arange(len(images))), ("leak_free", clean))
    }


def prediction_records(images: dataset.Images, said: np.ndarray) -> list[dict[str, Any]]:
    """One record an image: file, actual and predicted class, probability of each class."""
    return [
        {
            "file": source,
            "actual": images.classes[label],
            "predicted": images.classes[int(row.argmax())],
            "leaked": bool(leaked),
            **{
                f"probability {name}": float(value)
                for name, value in zip(images.classes, row, strict=True)
            },
        }
        for source, label, leaked, row in zip(
            images.table["source"], images.labels, images.table["leaked"], said, strict=True
        )
    ]


def roc_records(images: dataset.Images, said: np.ndarray) -> list[dict[str, Any]]:
    """The points of each class's one-vs-rest ROC curve."""
    from sklearn.metrics import roc_curve

    records = []
    for number, name in enumerate(images.classes):
        false_alarms, hits, _ = roc_curve(images.labels == number, said[:, number])
        records += [
            {"class": name, "false_positive_rate": float(x), "true_positive_rate": float(y)}
            for x, y in zip(false_alarms, hits, strict=True)
        ]
    return records


def choose(right: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions (int64) of wrong and right images: half of either where there are enough."""
    generator = np.random.default_rng(seed)
    wrong, good = (generator.permutation(np.flatnonzero(right == value)) for value in (0, 1))
    wrong_count = min(len(wrong), max(count // 2, count - len(good)))
    chosen_good = good[: count - wrong_count]
    return np.concatenate([np.sort(wrong[:wrong_count]), np.sort(chosen_good)])


def explain(
    trained: Any, images: dataset.Images, said: np.ndarray, settings: params.Evaluate, title: str
) -> dict[str, float]:
    """Draws the Grad-CAM figure of a few images; gives the share outside the chest, of all."""
    predicted = said.argmax(axis=1)
    maps = gradcam.activations(trained, images.pixels, predicted)
    chosen = choose(predicted == images.labels, settings.gradcam_images, settings.seed)
    captions = [
        f"{'right' if predicted[p] == images.labels[p] else 'WRONG'}: "
        f"{images.classes[predicted[p]]} (is {images.classes[images.labels[p]]})\n"
        f"{images.table['source'][p]}"
        for p in chosen.tolist()
    ]
    gradcam.draw(images.pixels[chosen], maps[chosen], captions, title, GRADCAM)
    shares = gradcam.outside_share(maps)
    active = shares[np.isfinite(shares)]
    return {
        "images_with_activation": len(active),
        "outside_chest_share": float(active.mean()) if len(active) else gradcam.UNIFORM_SHARE,
        "outside_chest_share_if_uniform": gradcam.UNIFORM_SHARE,
    }


def main() -> None:
    """Runs the stage."""
    settings = params.load()
    companion = network.read_companion()
    images = dataset.load(["test"])
    if list(images.classes) != companion["classes"]:
        raise InputError(
            f"{network.COMPANION}: found the classes {companion['classes']}, expected "
            f"{list(images.classes)}, as in {dataset.PROCESSED}. Run `dvc repro`."
        )
    network.start(settings.evaluate.seed, settings.train.threads)
    trained = network.load()
    said = network.probabilities(trained, images.pixels)
    calibrated = calibration.scaled(said, companion["temperature"])
    where = companion["provenance"]
    results = headlines(images, said, settings.evaluate)
    results["calibration"] = {
        "temperature": companion["temperature"],
        "before": scores.calibration_figures(images.labels, said),
        "after": scores.calibration_figures(images.labels, calibrated),
    }
    results["gradcam"] = explain(
        trained, images, said, settings.evaluate, f"Grad-CAM: {where['data']}"
    )
    files.write_json(PREDICTIONS, prediction_records(images, said))
    files.write_json(ROC, roc_records(images, said))
    files.write_json(
        RELIABILITY,
        [
            {"temperature": when, **record}
            for when, values in (("before", said), ("after", calibrated))
            for record in calibration.reliability(values, images.labels)
        ],
    )
    files.write_json(METRICS, {"provenance": where, **results})
    for name in ("published", "leak_free"):
        found = results[name]
        print(
            f"{name}: accuracy {found['accuracy']:.3f} "
            f"[{found['accuracy_low']:.3f}, {found['accuracy_high']:.3f}] "
            f"on {found['images']} test images"
        )


if __name__ == "__main__":
    stage.script("evaluate", main, __doc__)
