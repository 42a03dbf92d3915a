"""What `report` reads, made up: every number at random, the forms right."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from stages import report

CLASS_METRICS = ("sensitivity", "specificity", "precision", "f1", "auroc")
METRICS = ("accuracy", "loss", "brier", *(f"macro_{name}" for name in CLASS_METRICS))
BASELINES = ("low_resolution", "border", "file_properties", "majority_class")


def _bounds(random: Random) -> list[float]:
    return sorted([random.random(), random.random()])


def _accuracy(random: Random, images: int) -> dict[str, Any]:
    low, value, high = sorted(random.random() for _ in range(3))
    return {"images": images, "accuracy": value, "accuracy_low": low, "accuracy_high": high}


def _headline(classes: Sequence[str], random: Random, images: int) -> dict[str, Any]:
    return {
        **_accuracy(random, images),
        **{name: random.random() for name in METRICS[1:]},
        "intervals": {name: _bounds(random) for name in METRICS},
        "classes": {
            name: {
                "images": random.randint(2, 99),
                **{metric: random.random() for metric in CLASS_METRICS},
                "intervals": {metric: _bounds(random) for metric in CLASS_METRICS},
            }
            for name in classes
        },
    }


def make(
    classes: Sequence[str] = ("Covid", "Normal", "Viral Pneumonia"),
    seed: int = 1,
    protocol: str = "holdout",
    source: str = "archive",
) -> dict[str, Any]:
    """The contents of the files that `report` reads, by their stems."""
    random = Random(seed)
    data = "SYNTHETIC PHANTOM (seed 7)" if source == "phantom" else "archive x.zip (sha256 0a1b…)"
    where = {"data": data, "protocol": protocol}
    leaked = [f"{split}/{classes[0]}/1.png" for split in ("test", "train")]
    contradicting = [f"train/{classes[0]}/2.png", f"train/{classes[1]}/2.png"]
    calibrations = ("loss", "brier", "expected_calibration_error")
    curve = [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]
    return {
        "provenance": {"source": source, "data": data, "licence": "unknown", "files": 11},
        "audit": {
            "provenance": {"data": data},
            "images": {
                split: {name: random.randint(2, 9999) for name in classes}
                for split in ("train", "test")
            },
            "groups": random.randint(1, 9999),
            "copies": {
                name: random.randint(0, 99)
                for name in (
                    "groups_with_copies",
                    "within_train",
                    "within_test",
                    "across_splits",
                    "identical_pairs",
                    "contradicting_classes",
                    "leaked_test_images",
                )
            },
            "copy_groups": [
                {"group": 3, "kinds": ["bytes"], "files": leaked},
                {"group": 5, "kinds": ["near"], "files": contradicting},
            ],
            "unreadable": 1,
            "unreadable_files": [{"file": "train/a|b/3.png", "reason": "it is empty (0 bytes)"}],
        },
        "train": {
            "provenance": where,
            "images": {"train": 201, "validation": 50},
            "parameters": 1089683,
            "epochs": 4,
            "kept_epoch": 2,
            **{name: random.random() for name in ("accuracy", "loss", "val_accuracy", "val_loss")},
        },
        "history": [
            {
                "epoch": epoch,
                **{
                    name: random.random()
                    for name in ("accuracy", "loss", "val_accuracy", "val_loss")
                },
            }
            for epoch in range(1, 5)
        ],
        "evaluate": {
            "provenance": where,
            "all_test": _headline(classes, random, 66),
            "leak_free": _headline(classes, random, 59),
            "calibration": {
                "temperature": 3 * random.random(),
                **{
                    when: {name: random.random() for name in calibrations}
                    for when in ("before", "after")
                },
            },
            "gradcam": {
                "images_with_activation": random.randint(1, 9),
                "outside_centre_share": random.random(),
                "outside_centre_share_if_uniform": random.random(),
            },
        },
        "predictions": [
            {"file": leaked[0], "actual": classes[0], "predicted": classes[0], "leaked": True},
            *(
                {
                    "file": f"test/{name}/{number}.png",
                    "actual": name,
                    "predicted": random.choice(classes),
                    "leaked": False,
                }
                for name in classes
                for number in range(4, 9)
            ),
        ],
        "roc": [
            {"class": name, "false_positive_rate": x, "true_positive_rate": y}
            for name in classes
            for x, y in curve
        ],
        "reliability": [
            {
                "temperature": when,
                "from": number / 10,
                "to": (number + 1) / 10,
                "images": random.randint(1, 40),
                "confidence": number / 10 + 0.05,
                "accuracy": random.random(),
            }
            for when in ("before", "after")
            for number in range(5, 10)
        ],
        "baselines": {
            "provenance": where,
            **{
                name: {
                    "all_test": _accuracy(random, 66),
                    "leak_free": _accuracy(random, 59),
                }
                for name in BASELINES
            },
        },
        "stability": {
            "data": data,
            "folds": 3,
            "seeds": 2,
            "images": 502,
            **{
                name: {
                    column: random.random()
                    for column in ("mean", "standard_deviation", "lowest", "highest")
                }
                for name in METRICS
            },
        },
    }


def write(results: dict[str, Any]) -> None:
    """Writes them where the stages would, below the working folder."""
    for name in report.MADE_BY:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results[path.stem]), encoding="utf-8")
