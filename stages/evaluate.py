"""How good the network is on the test images.

Reads `models`, `data/untrained.tflite` and `data/processed` (use "test"). What is judged is what
ships: the calibrated probabilities, and the class of every image, refused or not. Writes
`metrics/details/evaluate.json` (every metric with its interval, over all test images and without
leaks; accuracy by source and by label; without leaks, whether probabilities, sets of classes and
refusals hold what they say; where the network looks, and how like its heat maps are to those before
training), `metrics/plots/` (a record per image; the points of the curves),
`metrics/pictures/gradcam.png`, and of every wrongly classified image a record in
`metrics/details/errors.json`, with two pictures of the largest errors in
`metrics/pictures/errors/`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.common import files, params, stage
from stages.common.errors import InputError
from stages.judging import calibration, gradcam, scores
from stages.judging.settings import Evaluate
from stages.learning import calibrated, classifier, dataset, novelty

DETAILS = Path("metrics/details/evaluate.json")
PLOTS = Path("metrics/plots")
GRADCAM = Path("metrics/pictures/gradcam.png")
ERRORS = Path("metrics/details/errors.json")
ERROR_PICTURES = Path("metrics/pictures/errors")
MOST_PICTURED = 200
"""Errors with pictures, 80 kB each: more than anybody looks at, and DVC's time goes by the file."""
MOST_POINTS = 1000
"""Of a ROC curve: more than a chart has pixels."""


def judge(
    shipped: classifier.Classifier, pixels: dataset.Pixels
) -> tuple[np.ndarray, dataset.Stored]:
    """Runs the network on uint8 images (n, SIZE, SIZE, 3), a batch at a time, to spare memory.

    Returns:
        The probabilities, float64, (n, classes); and for each image the map of the class that is
        predicted, see `gradcam.hirescam`.
    """
    probabilities = []

    def maps() -> Iterator[np.ndarray]:
        for begin in range(0, len(pixels), classifier.BATCH):
            some, activations = shipped.judge(pixels[begin : begin + classifier.BATCH])
            probabilities.append(some)
            yield from gradcam.hirescam(activations, shipped.head, some.argmax(axis=1))

    kept = dataset.Stored.in_file(maps())
    return np.concatenate(probabilities), kept


def headlines(
    images: dataset.Images,
    probabilities: np.ndarray,
    positions: Mapping[str, np.ndarray],
    settings: Evaluate,
) -> dict[str, dict[str, Any]]:
    """`all_test` and `leak_free`, each with every metric and its interval.

    Args:
        images: The n test images.
        probabilities: float64, (n, classes).
        positions: See `scores.headline_positions`.
        settings: The group `evaluate` of params.yaml.
    """
    groups = images.table["group"].to_numpy()
    return {
        headline: scores.metrics_with_intervals(
            images.labels[chosen],
            probabilities[chosen],
            groups[chosen],
            images.classes,
            settings.bootstrap_samples,
            settings.seed,
        )
        for headline, chosen in positions.items()
    }


def by_origin(images: dataset.Images, correct: np.ndarray) -> dict[str, dict[str, Any]]:
    """Accuracy `by_source` and `by_label`, see `scores.subsets`; {} where no record tells any.

    Args:
        images: The n test images.
        correct: bool, (n,).
    """
    groups, labels = images.table["group"].to_numpy(), images.table["label"].tolist()
    if set(labels) == {"unknown"}:
        labels = [""] * len(labels)
    return {
        key: scores.subsets(names, correct, images.labels, groups)
        for key, names in (("by_source", images.table["source"].tolist()), ("by_label", labels))
    }


def _counted(
    counted: np.ndarray, images: dataset.Images
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """`scores.share_with_interval` of all images and of those of each class.

    Args:
        counted: bool, (n,).
        images: The n images, of each class at least one.
    """
    groups = images.table["group"].to_numpy()
    by_class = {
        name: scores.share_with_interval(counted[chosen], groups[chosen])
        for number, name in enumerate(images.classes)
        if (chosen := images.labels == number).any()
    }
    return scores.share_with_interval(counted, groups), by_class


def judge_sets(images: dataset.Images, sets: np.ndarray) -> dict[str, Any]:
    """How often sets of classes hold the true one, and how large they are.

    Args:
        images: The n images.
        sets: bool, (n, classes).

    Returns:
        `covered`, how many sets hold the true class, and `single`, how many have one class alone,
        each as in `scores.share_with_interval`; `mean_size`; and of each of `classes` `covered`
        and `mean_size`.
    """
    sizes = sets.sum(axis=1)
    covered, by_class = _counted(sets[np.arange(len(sets)), images.labels], images)
    single, _ = _counted(sizes == 1, images)
    return {
        "covered": covered,
        "single": single,
        "mean_size": float(sizes.mean()),
        "classes": {
            name: {
                "covered": share,
                "mean_size": float(sizes[images.labels == images.classes.index(name)].mean()),
            }
            for name, share in by_class.items()
        },
    }


def judge_trust(
    images: dataset.Images,
    probabilities: np.ndarray,
    known: calibrated.Calibration,
    refused: np.ndarray,
    settings: Evaluate,
) -> dict[str, Any]:
    """`calibration`, `sets` and `refused`: whether what the network says of itself holds.

    Args:
        images: The n test images that count.
        probabilities: The network's own, float64, (n, classes).
        known: What `calibrate` learned.
        refused: Which images are refused, bool, (n,).
        settings: The group `evaluate` of params.yaml.
    """
    groups, scaled = images.table["group"].to_numpy(), known.probabilities(probabilities)
    samples, seed = settings.bootstrap_samples, settings.seed

    def metrics(values: np.ndarray) -> dict[str, Any]:
        return scores.calibration_metrics(images.labels, values, groups, samples, seed)

    share, by_class = _counted(refused, images)
    return {
        "calibration": {
            "temperature": known.temperature,
            "radiographs": len(known.scores),
            "images": len(images),
            "before": metrics(probabilities),
            "after": metrics(scaled),
            "by_chance": calibration.error_by_chance(scaled, samples, seed),
        },
        "sets": {
            "coverage": calibrated.COVERAGE,
            **judge_sets(images, known.sets(probabilities)),
        },
        "refused": {**share, "classes": by_class},
    }


def roc_records(images: dataset.Images, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """The points of each class's one-vs-rest ROC curve; of more than MOST_POINTS some.

    These are spread evenly along the curve, with the first and the last of it.
    """
    from sklearn.metrics import roc_curve

    records = []
    for number, name in enumerate(images.classes):
        x, y, _ = roc_curve(images.labels == number, probabilities[:, number])
        if len(x) > MOST_POINTS:
            kept = np.unique(np.searchsorted(x + y, np.linspace(0, 2, MOST_POINTS)))
            x, y = x[kept], y[kept]
        records += [
            {"class": name, "false_positive_rate": one, "true_positive_rate": other}
            for one, other in zip(x.tolist(), y.tolist(), strict=True)
        ]
    return records


def choose(correct: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions (int64) of misclassified, then of correctly classified images.

    Half of either where there are enough.
    """
    generator = np.random.default_rng(seed)
    wrong, fine = (generator.permutation(np.flatnonzero(correct == value)) for value in (0, 1))
    wrong = wrong[: max(count // 2, count - len(fine))]
    return np.concatenate([np.sort(wrong), np.sort(fine[: count - len(wrong)])])


def explain(
    maps: dataset.Stored,
    images: dataset.Images,
    predicted: np.ndarray,
    settings: Evaluate,
    title: str,
) -> dict[str, float]:
    """Draws Grad-CAM of a few images; gives the share outside the central region, of all."""
    chosen = choose(predicted == images.labels, settings.gradcam_images, settings.seed)
    captions = [
        f"{'correct' if predicted[p] == images.labels[p] else 'WRONG'}: "
        f"{images.classes[predicted[p]]} (is {images.classes[images.labels[p]]})\n"
        f"{images.table['path'][p]}"
        for p in chosen.tolist()
    ]
    heat = gradcam.enlarged(maps[chosen])
    gradcam.draw(images.pixels[chosen], heat, captions, title, GRADCAM)
    # into equal parts, because numpy adds up a map that is alone in another order
    parts = np.array_split(np.arange(len(maps)), -(-len(maps) // classifier.BATCH))
    shares = np.concatenate([gradcam.outside_centre(maps[part]) for part in parts])
    active = shares[np.isfinite(shares)]
    return {
        "images_with_activation": len(active),
        "outside_centre_share": float(active.mean()) if len(active) else gradcam.UNIFORM_SHARE,
        "outside_centre_share_if_uniform": gradcam.UNIFORM_SHARE,
    }


def against_untrained(
    untrained: classifier.Classifier,
    maps: dataset.Stored,
    images: dataset.Images,
    predicted: np.ndarray,
    settings: Evaluate,
) -> dict[str, Any] | None:
    """How like the maps of the network are to those before training, for the same class.

    Args:
        untrained: The network with random weights.
        maps: See `judge`.
        images: The n test images.
        predicted: int64, (n,): the class that each map is of.
        settings: The group `evaluate` of params.yaml.

    Returns:
        Of the `images` of which both have a map, the mean `rank_correlation`, see
        `gradcam.rank_correlation`, and its interval, in `intervals`; None where there is none.
    """
    correlations = np.empty(len(images))
    for begin in range(0, len(images), classifier.BATCH):
        here = slice(begin, begin + classifier.BATCH)
        _, activations = untrained.judge(images.pixels[here])
        others = gradcam.hirescam(activations, untrained.head, predicted[here])
        correlations[here] = gradcam.rank_correlation(maps[here], others)
    known = np.isfinite(correlations)
    if not known.any():
        return None
    groups, values = images.table["group"].to_numpy()[known], correlations[known]
    interval = scores.mean_interval(values, groups, settings.bootstrap_samples, settings.seed)
    return {
        "images": int(known.sum()),
        "rank_correlation": float(values.mean()),
        "intervals": {"rank_correlation": interval},
    }


def show_errors(
    images: dataset.Images,
    probabilities: np.ndarray,
    maps: np.ndarray | dataset.Stored,
    folder: Path,
) -> list[dict[str, Any]]:
    """Gives a record of each wrongly classified image, and draws the MOST_PICTURED largest errors.

    Args:
        images: The n test images.
        probabilities: The calibrated ones, float64, (n, classes).
        maps: See `judge`.
        folder: Where PNG files are written, SIZE x SIZE; it is there. `01.png` is the radiograph,
            `01-map.png` the same under the heat map of the class that is predicted.

    Returns:
        The records, the largest error first: `file`, `actual` and `predicted` class, calibrated
        `probability` (of the predicted class) and `probability_of_actual`; `image` and `map` of
            those that are drawn.
    """
    predicted = probabilities.argmax(axis=1)
    rows = np.arange(len(images))
    of_actual, of_predicted = (probabilities[rows, some] for some in (images.labels, predicted))
    files_of = images.table["path"].tolist()
    wrong = sorted(
        np.flatnonzero(predicted != images.labels).tolist(),
        key=lambda position: (of_actual[position], files_of[position]),
    )
    records: list[dict[str, Any]] = [
        {
            "file": files_of[position],
            "actual": images.classes[images.labels[position]],
            "predicted": images.classes[predicted[position]],
            "probability": float(of_predicted[position]),
            "probability_of_actual": float(of_actual[position]),
        }
        for position in wrong
    ]
    drawn = zip(records, wrong[:MOST_PICTURED], strict=False)
    for number, (record, position) in enumerate(drawn, start=1):
        pixels, (heat,) = images.pixels[position], gradcam.enlarged(maps[position : position + 1])
        for key, name, picture in (
            ("image", f"{number:02d}.png", Image.fromarray(pixels)),
            ("map", f"{number:02d}-map.png", gradcam.overlay(pixels, heat)),
        ):
            picture.save(folder / name)
            record[key] = name
    return records


def main() -> None:
    """Runs the stage."""
    settings = params.load(Evaluate)
    shipped = classifier.load()
    images = dataset.load(["test"])
    if list(images.classes) != shipped.classes:
        raise InputError(
            f"{classifier.METADATA}: found the classes {shipped.classes}, expected "
            f"{list(images.classes)}, as in {dataset.PROCESSED}. Run `dvc repro`."
        )
    known, look = calibrated.Calibration.load(), novelty.Novelty.load()
    own, maps = judge(shipped, images.pixels)
    probabilities = known.probabilities(own)
    provenance = shipped.provenance
    predicted = probabilities.argmax(axis=1)
    positions = scores.headline_positions(images)
    results: dict[str, Any] = headlines(images, probabilities, positions, settings)
    results |= by_origin(images, predicted == images.labels)
    clean = positions["leak_free"]
    judged = images.take(clean)
    results |= judge_trust(judged, own[clean], known, look.refused(judged.pixels), settings)
    title = f"Grad-CAM: {provenance['data']}"
    results["gradcam"] = explain(maps, images, predicted, settings, title)
    results["gradcam"]["against_untrained"] = against_untrained(
        classifier.load_untrained(), maps, images, predicted, settings
    )
    with files.atomic_write(ERROR_PICTURES) as folder:
        folder.mkdir()
        errors = show_errors(images, probabilities, maps, folder)
    files.write_json(ERRORS, {"provenance": provenance, "errors": errors})
    files.write_json(PLOTS / "predictions.json", dataset.prediction_records(images, probabilities))
    files.write_json(PLOTS / "roc.json", roc_records(images, probabilities))
    files.write_json(
        PLOTS / "reliability.json",
        [
            {"temperature": when, **record}
            for when, values in (("before", own), ("after", probabilities))
            for record in calibration.reliability(values[clean], judged.labels)
        ],
    )
    files.write_json(DETAILS, {"provenance": provenance, **results})
    for headline in ("all_test", "leak_free"):
        print(f"{headline}: {scores.in_words(results[headline])}")
    covered = results["sets"]["covered"]
    print(
        f"of {covered['images']} without leaks, {covered['count']} are of a class in their "
        f"{calibrated.COVERAGE:.0%} set, {results['refused']['count']} are refused"
    )


if __name__ == "__main__":
    stage.script("evaluate", main, __doc__)
