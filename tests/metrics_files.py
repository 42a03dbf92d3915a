"""What `report` reads, made up: every number at random, the forms right."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from stages import report
from stages.common import files
from stages.judging import occlusion
from stages.learning.dataset import INDEX_COLUMNS, PROCESSED, SIZE
from stages.reporting import page

CLASS_METRICS = ("sensitivity", "specificity", "precision", "f1", "auroc")
METRICS = ("accuracy", "loss", "brier", *(f"macro_{name}" for name in CLASS_METRICS))
BASELINES = (
    *(f"low_resolution_{side}" for side in (8, 16, 32)),
    *(f"frame_{width}" for width in (5, 10, 20, 40)),
    *("histogram", "file_properties", "source", "majority_class"),
)
LABELS = ("agrees", "contradicts", "unknown")
VERDICTS = ("better", "not distinguishable", "worse")


def _bounds(random: Random) -> list[float]:
    return sorted([random.random(), random.random()])


def _accuracy(random: Random, images: int) -> dict[str, Any]:
    low, value, high = sorted(random.random() for _ in range(3))
    return {"images": images, "accuracy": value, "accuracy_low": low, "accuracy_high": high}


def _share(random: Random) -> dict[str, Any]:
    low, value, high = sorted(random.random() for _ in range(3))
    return {"images": random.randint(2, 999), "share": value, "low": low, "high": high}


def _count(random: Random) -> dict[str, Any]:
    return {**_share(random), "count": random.randint(2, 999)}


def _trust(classes: Sequence[str], random: Random) -> dict[str, Any]:
    """The parts of evaluate.json on calibration, sets of classes and refusals."""
    return {
        "calibration": {
            "temperature": 3 * random.random(),
            "radiographs": random.randint(2, 999),
            "images": random.randint(2, 999),
            **{
                when: {
                    **{name: random.random() for name in ("loss", "brier")},
                    "expected_calibration_error": random.random(),
                    "intervals": {name: _bounds(random) for name in ("loss", "brier")},
                }
                for when in ("before", "after")
            },
            "by_chance": {"mean": random.random(), "high": random.random()},
        },
        "sets": {
            "coverage": 0.9,
            "covered": _count(random),
            "single": _count(random),
            "mean_size": 3 * random.random(),
            "classes": {
                name: {"covered": _count(random), "mean_size": 3 * random.random()}
                for name in classes
            },
        },
        "refused": {**_count(random), "classes": {name: _count(random) for name in classes}},
    }


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


def _records(classes: Sequence[str], random: Random) -> dict[str, Any]:
    """The part of audit.json on the table: every class but the last has a source of its own."""
    labels = {
        split: {name: {label: random.randint(2, 99) for label in LABELS} for name in classes}
        for split in ("train", "test")
    }
    counts = {
        "clinic|A": {classes[0]: random.randint(2, 99)},
        "hospital B": {name: random.randint(2, 99) for name in classes[1:]},
    }
    return {
        "table": "data/kaggle-records.csv",
        **{
            name: random.randint(2, 999)
            for name in ("rows", "rows_without_file", "files_without_row", "double_rows")
        },
        "labels": {
            split: {label: sum(row[label] for row in rows.values()) for label in LABELS}
            for split, rows in labels.items()
        },
        "labels_by_class": labels,
        "sources": {
            source: {name: row.get(name, 0) for name in classes} for source, row in counts.items()
        },
        "contradicting": [
            {
                "file": f"{split}/{classes[1]}/7.png",
                "class": classes[1],
                "source": "hospital B",
                "finding": "SARS",
            }
            for split in ("test", "train")
        ],
        "left_out": random.randint(2, 99),
    }


def _compare(
    classes: Sequence[str], random: Random, where: dict[str, Any], records: bool
) -> dict[str, Any]:
    names = [name for name in BASELINES if records or name != "source"]

    def result() -> dict[str, Any]:
        return _accuracy(random, random.randint(2, 999))

    def both() -> dict[str, Any]:
        return {"network": result(), "baselines": {name: result() for name in names}}

    def difference() -> dict[str, float]:
        low, value, high = sorted(random.uniform(-1, 1) for _ in range(3))
        return {"difference": value, "difference_low": low, "difference_high": high}

    baselines: dict[str, Any] = {
        name: {
            **{key: value for key, value in result().items() if key != "images"},
            **{part: result() for part in ("test", "leak_free", "cross_validated")},
            **difference(),
            "network_only": random.randint(0, 99),
            "baseline_only": random.randint(0, 99),
            "p": random.uniform(0.01, 1),
            "p_holm": random.uniform(0.01, 1),
            "verdict": random.choice(VERDICTS),
            "resampled_t": {
                key.removeprefix("difference_"): value for key, value in difference().items()
            }
            | {"p": random.uniform(0.01, 1)},
        }
        for name in names
    }
    best = max(names, key=lambda name: baselines[name]["accuracy"])
    single, several = {classes[0]: 9}, dict.fromkeys(classes[1:], 11)
    return {
        "provenance": where,
        "radiographs": 309,
        "judged": 300,
        "pooled": _headline(classes, random, 300),
        "cross_validated": _headline(classes, random, 247),
        "by_label": {label: both() for label in LABELS} if records else {},
        "by_source": {
            source: {"classes": counts, **both()}
            for source, counts in (("clinic|A", single), ("hospital B", several))
        }
        if records
        else {},
        "baselines": baselines,
        "best": best,
        "verdict": baselines[best]["verdict"],
        "folds": 3,
        "seeds": 2,
        "images": 502,
        "spread": {
            name: {
                column: random.random()
                for column in ("mean", "standard_deviation", "lowest", "highest")
            }
            for name in METRICS
        },
    }


def _external(
    classes: Sequence[str], random: Random, where: dict[str, Any], there: bool
) -> dict[str, Any]:
    if not there:
        return {
            "provenance": where,
            "set": None,
            "folders": {},
            "classes": {},
            "false_positive_rate": None,
            "copies_left_out": 0,
            "unreadable": 0,
        }
    rate = _share(random)
    return {
        "provenance": where,
        "set": "zip other.zip (sha256 0b2c…)",
        "folders": {
            folder: {
                "class": meant,
                **{
                    name: random.randint(2, 999)
                    for name in ("images", "copies_left_out", "unreadable")
                },
                "refused": _share(random),
                "called": {name: _share(random) for name in classes},
                "called_if_accepted": {name: _share(random) for name in classes},
            }
            for folder, meant in (("Adults|1", "other"), ("Ill", classes[0]))
        },
        "classes": {
            name: {
                "sensitivity": _share(random) if name == classes[0] else None,
                "specificity": _share(random),
            }
            for name in classes
        },
        "false_positive_rate": {
            "class": classes[0],
            "called": rate["images"] - 1,
            **rate,
            "with_refusal": {
                "called": rate["images"] - 2,
                **{key: value / 2 for key, value in rate.items() if key != "images"},
            },
        },
        "copies_left_out": random.randint(2, 99),
        "unreadable": random.randint(2, 99),
    }


def _occlusion(classes: Sequence[str], random: Random, where: dict[str, Any]) -> dict[str, Any]:
    names = ("macro_sensitivity", "macro_auroc")

    def result(*names: str) -> dict[str, Any]:
        return {
            **_accuracy(random, random.randint(2, 999)),
            **{name: random.random() for name in names},
            "intervals": {name: _bounds(random) for name in names},
        }

    def difference() -> dict[str, float]:
        low, value, high = sorted(random.uniform(-1, 1) for _ in range(3))
        return {"difference": value, "difference_low": low, "difference_high": high}

    return {
        "provenance": where,
        "classes": len(classes),
        "verdict": occlusion.ABOVE,
        "untouched": result(*names),
        "covered": {
            part: {filling: result(*names) | difference() for filling in occlusion.FILLINGS}
            for part in occlusion.parts()
        },
        "shares": {part: random.random() for part in occlusion.parts()},
        "frames_alone": {
            f"frame_{width}": result(names[0]) | {"above_chance": above}
            for width, above in ((5, False), (10, True), (20, True), (40, True))
        },
    }


def make(
    classes: Sequence[str] = ("Covid", "Normal", "Viral Pneumonia"),
    seed: int = 1,
    protocol: str = "holdout",
    source: str = "archive",
    records: bool = True,
    external: bool = True,
) -> dict[str, Any]:
    """The contents of the files that `report` reads, by their stems."""
    random = Random(seed)
    data = "SYNTHETIC PHANTOM (seed 7)" if source == "phantom" else "archive x.zip (sha256 0a1b…)"
    recipe = "tuned" if protocol == "none" else protocol
    where = {"data": data, "protocol": protocol, "recipe": recipe}
    stopped = protocol != "none"
    leaked = [f"{split}/{classes[0]}/1.png" for split in ("test", "train")]
    contradicting = [f"train/{classes[0]}/2.png", f"train/{classes[1]}/2.png"]
    curve = [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]
    predictions = [
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
    ]
    return {
        "provenance": {"source": source, "data": data, "licence": "unknown", "files": 11},
        "audit": {
            "provenance": {"data": data},
            "images": {
                split: {name: random.randint(2, 9999) for name in classes}
                for split in ("train", "test")
            },
            "radiographs": random.randint(1, 9999),
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
            "patients": {
                name: random.randint(2, 99)
                for name in ("known", "patients", "in_both_splits", "leaked_test_images")
            },
            "leaked_test_images": {name: random.randint(2, 99) for name in classes},
            "copy_groups": [
                {"radiograph": 3, "kinds": ["bytes"], "files": leaked},
                {"radiograph": 5, "kinds": ["near"], "files": contradicting},
            ],
            "records": _records(classes, random) if records else None,
            "unreadable": 1,
            "unreadable_files": [{"file": "train/a|b/3.png", "reason": "it is empty (0 bytes)"}],
        },
        "train": {
            "provenance": where,
            "computed_by": {
                "device": "cpu",
                "processors": ["X86_V4"],
                "precision": "float32",
                "tensorflow": "2.21.0",
                "keras": "3.15.1",
            },
            "images": {"train": 201, "validation": 50 if stopped else 0},
            "parameters": 1089683,
            "epochs": 4,
            "kept_epoch": 2,
            **{
                f"{prefix}{name}": random.random()
                for prefix in (("", "val_") if stopped else ("",))
                for name in ("accuracy", "loss")
            },
        },
        "history": [
            {
                "epoch": epoch,
                "images": images,
                **{name: random.random() for name in ("accuracy", "loss")},
            }
            for images in (("training", "validation") if stopped else ("training",))
            for epoch in range(1, 5)
        ],
        "evaluate": {
            "provenance": where,
            "all_test": _headline(classes, random, 66),
            "leak_free": _headline(classes, random, 59),
            **_trust(classes, random),
            "by_source": {
                source: {**_accuracy(random, random.randint(2, 99)), "classes": number}
                for source, number in (("clinic|A", 1), ("hospital B", len(classes) - 1))
            }
            if records
            else {},
            "by_label": {
                label: {**_accuracy(random, random.randint(2, 99)), "classes": len(classes)}
                for label in LABELS
            }
            if records
            else {},
            "gradcam": {
                "images_with_activation": random.randint(1, 9),
                "outside_centre_share": random.random(),
                "outside_centre_share_if_uniform": random.random(),
                "against_untrained": {
                    "images": random.randint(2, 99),
                    "rank_correlation": random.uniform(-1, 1),
                    "intervals": {"rank_correlation": [0.1, 0.9]},
                },
            },
        },
        "predictions": predictions,
        "errors": {"provenance": where, "errors": errors(predictions, random)},
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
        "compare": _compare(classes, random, where, records),
        "external": _external(classes, random, where, external),
        "occlusion": _occlusion(classes, random, where),
    }


def errors(predictions: Sequence[dict[str, Any]], random: Random) -> list[dict[str, Any]]:
    """A record for each wrong prediction."""
    wrong = [record for record in predictions if record["actual"] != record["predicted"]]
    return [
        {key: record[key] for key in ("file", "actual", "predicted")}
        | {"probability": random.uniform(0.5, 1), "probability_of_actual": random.random() / 2}
        | {"image": f"{number:02d}.png", "map": f"{number:02d}-map.png"}
        for number, record in enumerate(wrong, start=1)
    ]


def _picture(target: Path, number: int) -> None:
    """A gradient, brighter for a higher number."""
    target.parent.mkdir(parents=True, exist_ok=True)
    gradient = Image.linear_gradient("L").resize((SIZE, SIZE)).point(lambda grey: grey // 2)
    gradient.point(lambda grey: grey + number % 128).convert("RGB").save(target)


def write(results: dict[str, Any]) -> None:
    """Writes them where the stages would, below the working folder, with the pictures."""
    for name in report.MADE_BY:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results[path.stem]), encoding="utf-8")
    write_pictures(results)


def write_pictures(results: dict[str, Any]) -> None:
    """Writes the wrongly classified images, their heat maps and the files that are copies."""
    shown = results["errors"]["errors"][: page.MOST_ERRORS]
    for number, record in enumerate(shown):
        _picture(page.ERRORS / record["image"], number)
        _picture(page.ERRORS / record["map"], number + 64)
    _picture(page.OCCLUSION, 100)
    copies = sorted({file for group in results["audit"]["copy_groups"] for file in group["files"]})
    for number, _ in enumerate(copies):
        _picture(PROCESSED / f"{number}.png", number)
    files.write_csv(
        PROCESSED / "index.csv",
        INDEX_COLUMNS,
        (
            dict.fromkeys(INDEX_COLUMNS, "0") | {"file": f"{number}.png", "path": path}
            for number, path in enumerate(copies)
        ),
    )
