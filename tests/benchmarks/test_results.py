import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import results
from benchmarks.results import Run

CLASSES = ("Covid", "Normal", "Viral Pneumonia")
WRONG = dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True))
BASELINES = ("low_resolution_16", "majority_class")


def rows(use: str, count: int) -> list[dict[str, Any]]:
    """Index rows of so many images of each class, the first class of another source."""
    return [
        {
            "path": f"{use}/{name}/{number}.png",
            "use": use,
            "class": name,
            "radiograph": number_of(use, name, number),
            "group": number_of(use, name, number),
            "leaked": False,
            "source": "collection" if name == "Covid" else "kermany",
            "label": "unknown",
        }
        for name in CLASSES
        for number in range(count)
    ]


def number_of(use: str, name: str, number: int) -> int:
    """A number for each image."""
    return 1000 * ["train", "test"].index(use) + 100 * CLASSES.index(name) + number


def predictions(images: list[dict[str, Any]], right: float) -> list[dict[str, Any]]:
    """The network's, of which the first of each class are wrong, so that a share is right."""
    of_class = len(images) // len(CLASSES)
    records = []
    for position, row in enumerate(images):
        correct = position % of_class >= round((1 - right) * of_class)
        predicted = row["class"] if correct else WRONG[row["class"]]
        shares = {f"probability {name}": float(name == predicted) for name in CLASSES}
        record = {"file": row["path"], "actual": row["class"], "predicted": predicted}
        records.append(record | {"leaked": False} | shares)
    return records


def crude(images: list[dict[str, Any]], right: float) -> list[dict[str, Any]]:
    """The baselines': one that is right so often, and the majority class."""
    return [
        {
            "file": record["file"],
            "actual": record["actual"],
            "low_resolution_16": record["predicted"],
            "majority_class": "Covid",
        }
        for record in predictions(images, right)
    ]


def share(value: float, images: int) -> dict[str, Any]:
    return {"share": value, "images": images, "count": round(value * images)}


def a_run(network: float = 0.9, baseline: float = 0.5, covid: int = 60) -> Run:
    """A run of 120 images in two folds and 30 of test/; the values told apart by their size."""
    train, test = rows("train", 40), rows("test", 10)
    parts = [train[half::2] for half in (0, 1)]
    within = {"accuracy": network, "images": 100}
    source = {
        "network": within,
        "baselines": {
            "low_resolution_16": {"accuracy": baseline},
            "majority_class": {"accuracy": 0},
        },
    }
    accuracy = {"accuracy": network, "accuracy_low": 0.1, "accuracy_high": 0.95, "images": 150}
    against = {"verdict": "better", "p_holm": 0.01}
    trust = {"loss": 0.3, "brier": 0.2, "expected_calibration_error": 0.1}
    folder = {
        "class": "other",
        "images": 100,
        "refused": {"images": 20},
        "called": {name: {"images": covid if name == "Covid" else 1} for name in CLASSES},
        "called_if_accepted": {name: {"images": 15} for name in CLASSES},
    }
    refused = folder | {"images": 50, "refused": {"images": 50}, "called_if_accepted": {}}
    known = folder | {"class": "Covid", "images": 7}
    empty = folder | {"images": 0, "refused": {}, "called": {}, "called_if_accepted": {}}
    covered = {"accuracy": 0.4, "macro_auroc": 0.6}
    return {
        "index": train + test,
        "predictions": predictions(test, network),
        "crossvalidate": {
            "folds": [
                {"predictions": predictions(part, network), "trained_on": 60} for part in parts
            ]
        },
        "baselines": {
            "folds": [{"predictions": crude(part, baseline)} for part in parts],
            "test": {"predictions": crude(test, baseline)},
        },
        "compare": {
            "pooled": accuracy | {"loss": 0.25},
            "cross_validated": accuracy,
            "judged": 150,
            "baselines": {
                "low_resolution_16": {"accuracy": baseline} | against,
                "majority_class": {"accuracy": 0.333} | against,
            },
            "by_source": {
                "kermany": {"classes": {"Normal": 50, "Viral Pneumonia": 50}, **source},
                "collection": {"classes": {"Covid": 50}, **source},
            },
        },
        "evaluate": {
            "all_test": accuracy | {"macro_sensitivity": 0.8},
            "leak_free": accuracy | {"macro_sensitivity": 0.7},
            "sets": {"coverage": 0.9, "covered": share(0.88, 50), "mean_size": 1.25},
            "refused": share(0.04, 50),
            "calibration": {
                "before": trust,
                "after": trust,
                "by_chance": {"mean": 0.05, "high": 0.09},
                "temperature": 1.5,
            },
            "by_label": {"unknown": accuracy},
            "gradcam": {
                "outside_centre_share": 0.6,
                "against_untrained": {"rank_correlation": 0.2},
            },
        },
        "external": {
            "false_positive_rate": {"class": "Covid"},
            "folders": {"A": folder, "B": refused, "C": known, "D": empty},
        },
        "occlusion": {
            "verdict": "not without the lungs",
            "untouched": {"accuracy": network, "macro_auroc": 0.97},
            "covered": {"frame_5": {"grey": covered, "blurred": covered}},
        },
        "train": {"epochs": 40, "kept_epoch": 39},
    }


def test_a_recipe_has_every_row_that_is_told_of_it() -> None:
    cells = results.headline([a_run(), a_run(network=0.8)])
    assert cells == {
        "every radiograph once": "0.850 (0.800\N{EN DASH}0.900) of 150",
        "best baseline, 16 x 16 pixels": "0.500 (0.500\N{EN DASH}0.500)",
        "difference, all folds and seeds": cells["difference, all folds and seeds"],
        "seeds with the network better, worse": "2, 0",
        "test/": "0.850 (0.800\N{EN DASH}0.900) of 150",
        "test/ without leaks": "0.850 (0.800\N{EN DASH}0.900) of 150",
        "within kermany": "0.850 (0.800\N{EN DASH}0.900) of 100",
        "best baseline within kermany, 16 x 16 pixels": "0.500 (0.500\N{EN DASH}0.500)",
        "log loss, every radiograph once": "0.250 (0.250\N{EN DASH}0.250)",
        "90 % sets: true class in it, test/ without leaks": (
            "0.880 (0.880\N{EN DASH}0.880) [0.762, 0.944] of 50"
        ),
        "refused, test/ without leaks": cells["refused, test/ without leaks"],
        "external, wrongly called Covid": cells["external, wrongly called Covid"],
        "external, refused": cells["external, refused"],
    }
    assert cells["difference, all folds and seeds"].startswith("+0.350 [+0.")


@pytest.mark.parametrize(
    ("network", "baseline", "told"), [(0.9, 0.5, "1, 0"), (0.5, 0.9, "0, 1"), (0.8, 0.8, "0, 0")]
)
def test_within_a_source_network_and_baseline_are_paired(
    network: float, baseline: float, told: str
) -> None:
    cells = results.difference_within([a_run(network, baseline)], "kermany")
    assert cells["seeds whose whole interval within kermany is above 0, below 0"] == told
    assert results.paired_within(a_run(network, baseline), "kermany", "low_resolution_16")[
        "difference"
    ] == pytest.approx(network - baseline)


def test_external_images_of_the_class_itself_do_not_count() -> None:
    runs = [a_run(covid=60), a_run(covid=30)]
    cells, more = results.external(runs), results.external_answered(runs)
    assert cells["external, wrongly called Covid"].startswith("0.600 (0.400\N{EN DASH}0.800) [")
    assert all(cell.endswith("] of 150") for cell in (*cells.values(), *more.values()))
    still = more["external, wrongly called Covid and not refused"]
    assert still.startswith("0.100 (0.100\N{EN DASH}0.100) [")
    assert cells["external, refused"].startswith("0.467 (0.467")


def test_the_seeds_judge_the_same_images_which_count_once() -> None:
    assert results.over_images([0.9], 50) != results.over_images([0.9], 250)
    assert (
        results.over_images([0.8, 1.0], 50).split("[")[1]
        == results.over_images([0.9], 50).split("[")[1]
    )


def test_covered_parts_have_a_row_for_each_filling() -> None:
    assert results.occluded([a_run(), a_run(0.7)]) == {
        "nothing": "0.800 (0.700\N{EN DASH}0.900); 0.970 (0.970\N{EN DASH}0.970)",
        "frame 5, grey": "0.400 (0.400\N{EN DASH}0.400); 0.600 (0.600\N{EN DASH}0.600)",
        "frame 5, blurred": "0.400 (0.400\N{EN DASH}0.400); 0.600 (0.600\N{EN DASH}0.600)",
        "verdict (seeds)": "not without the lungs (2)",
    }


def test_the_second_table_has_calibration_and_epochs() -> None:
    cells = results.more([a_run()])
    assert cells["log loss, after temperature scaling"] == "0.300 (0.300\N{EN DASH}0.300)"
    assert cells["temperature"].startswith("1.500")
    assert cells["heat maps: rank correlation with those of random weights"].startswith("0.200")
    blank = a_run()
    blank["evaluate"]["gradcam"]["against_untrained"] = None
    assert len(results.more([a_run(), blank])) == len(cells) - 1
    assert cells["epochs run; epoch kept"] == "40 to 40; 39 to 39"


def test_a_run_that_was_kept_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, str, int]] = []

    def run_once(folder: Path, recipe: str, labels: str, seed: int) -> Run:
        assert folder == tmp_path
        ran.append((recipe, labels, seed))
        return a_run()

    monkeypatch.setattr(results, "run_once", run_once)
    kept = tmp_path / "kept/one.json"
    first, second = (results.kept_or_run(kept, tmp_path, "tuned", "filed", 3) for _ in range(2))
    assert ran == [("tuned", "filed", 3)]
    assert first == second == json.loads(kept.read_text("utf-8"))
    assert results.headline([second]) == results.headline([a_run()])


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("dvc.yaml", True),
        ("params.yaml", True),
        ("data/archive/set.zip", True),
        ("data/external/other.zip", True),
        ("stages/learning/network.py", True),
        ("stages/train.py", True),
        ("stages/reporting/words.py", False),
        ("stages/serving/app.py", False),
        ("stages/learning/__pycache__/network.pyc", False),
    ],
)
def test_what_is_kept_goes_by_all_that_makes_a_number(
    tmp_path: Path, name: str, counts: bool
) -> None:
    files: Mapping[str, str] = dict.fromkeys(
        [name, "dvc.yaml", "params.yaml", "requirements.txt", "stages/learning/splits.py"], "before"
    )
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    before = results.inputs_hash(tmp_path)
    assert before == results.inputs_hash(tmp_path)
    (tmp_path / name).write_text("after")
    assert (results.inputs_hash(tmp_path) != before) == counts


def test_the_probabilities_of_the_made_run_are_those_of_its_classes() -> None:
    folds, test = results.judged(a_run())
    assert [len(fold) for fold in folds] == [60, 60]
    assert np.isclose(test["correct network"].mean(), 0.9)
