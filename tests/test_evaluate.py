import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from stages import calibrate, evaluate, train
from stages.common import params
from stages.common.errors import InputError
from stages.judging import calibration, gradcam, scores
from stages.judging.settings import Evaluate
from stages.learning import classifier, dataset, novelty
from stages.learning.calibrated import Calibration
from tests import made_processed


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def evaluation(**changes: Any) -> Evaluate:
    changed = {f"evaluate.{name}": value for name, value in changes.items()}
    settings: Evaluate = params.parse(made_processed.settings_with(changed)).evaluate
    return settings


def test_a_class_that_is_all_leaked_is_named() -> None:
    test = made_processed.many({"test": 3}, made_processed.noise)
    leaked = made_processed.leaked_copies(test[3:6])
    images = made_processed.images_of([*test[:3], *leaked, *test[6:]])
    probabilities = np.full((9, 3), 1 / 3)
    with pytest.raises(InputError, match=r"class 'Normal': every test image has a copy"):
        evaluate.headlines(
            images,
            probabilities,
            scores.headline_positions(images),
            evaluation(bootstrap_samples=100),
        )


def test_two_headlines_on_their_own_images() -> None:
    test = made_processed.many({"test": 4}, made_processed.noise)
    leaked = made_processed.leaked_copies(test[:2])
    images = made_processed.images_of([*leaked, *test[2:], *test[11:]])  # the last stands twice
    probabilities = np.eye(3)[images.labels] * 0.7 + 0.1
    probabilities[:2] = np.roll(probabilities[:2], 1, axis=1)  # wrong on the leaked ones
    results = evaluate.headlines(
        images, probabilities, scores.headline_positions(images), evaluation(bootstrap_samples=100)
    )
    assert list(results) == ["all_test", "leak_free"]
    assert (results["all_test"]["images"], results["leak_free"]["images"]) == (13, 10)
    assert results["all_test"]["accuracy"] == pytest.approx(11 / 13)
    assert results["leak_free"]["accuracy"] == 1
    assert results["leak_free"]["classes"]["Covid"]["images"] == 2
    assert results["leak_free"]["intervals"]["accuracy"] == scores.wilson(10, 10)


def test_by_source_and_by_label() -> None:
    pictures = [
        replace(picture, source=source, agrees=label)
        for picture, source, label in zip(
            made_processed.many({"test": 2}, made_processed.noise),
            ["b", "b", "a", "a", "a", ""],
            ["agrees", "unknown", "agrees", "agrees", "contradicts", "agrees"],
            strict=True,
        )
    ]
    images = made_processed.images_of(pictures)
    results = evaluate.by_origin(images, np.array([True, False, True, True, False, False]))
    told = {
        name: {key: (r["images"], r["classes"], r["accuracy"]) for key, r in result.items()}
        for name, result in results.items()
    }
    assert told == {
        "by_source": {"a": (3, 2, pytest.approx(2 / 3)), "b": (2, 1, 0.5)},
        "by_label": {
            "agrees": (4, 3, 0.75),
            "contradicts": (1, 1, 0.0),
            "unknown": (1, 1, 0.0),
        },
    }


def test_how_often_sets_hold_the_class() -> None:
    images = made_processed.images_of(made_processed.many({"test": 2}, made_processed.noise))
    sets = np.eye(3, dtype=bool)[images.labels]
    sets[0] = [False, True, True]
    sets[3] = True
    result = evaluate.judge_sets(images, sets)
    low, high = scores.wilson(5, 6)
    share = {"count": 5, "share": 5 / 6, "low": low, "high": high}
    assert result["covered"] == pytest.approx({"images": 6, **share})
    assert (result["single"]["count"], result["mean_size"]) == (4, pytest.approx(9 / 6))
    assert {
        name: (row["covered"]["images"], row["covered"]["count"], row["mean_size"])
        for name, row in result["classes"].items()
    } == {"Covid": (2, 1, 1.5), "Normal": (2, 2, 2.0), "Viral Pneumonia": (2, 2, 1.0)}


@pytest.mark.parametrize(
    ("wrong", "correct", "count", "expected_wrong"),
    [(10, 50, 12, 6), (2, 50, 12, 2), (50, 3, 12, 9), (0, 9, 4, 0), (9, 0, 4, 4), (2, 3, 12, 2)],
)
def test_correct_and_wrong_images_are_chosen_by_seed(
    wrong: int, correct: int, count: int, expected_wrong: int
) -> None:
    classified = np.array([False] * wrong + [True] * correct)
    np.random.default_rng(0).shuffle(classified)
    chosen = evaluate.choose(classified, count, 0)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, wrong + correct)
    assert classified[chosen].tolist() == [False] * expected_wrong + [True] * (
        len(chosen) - expected_wrong
    )
    assert chosen.tolist() == evaluate.choose(classified, count, 0).tolist()
    if wrong + correct > 2 * count:
        assert chosen.tolist() != evaluate.choose(classified, count, 1).tolist()


def test_roc_points_enclose_the_area_that_is_reported() -> None:
    images = made_processed.images_of(made_processed.many({"test": 9}, made_processed.noise))
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 27)
    records = evaluate.roc_records(images, probabilities)
    areas = scores.point_metrics(images.labels, probabilities)["auroc"]
    for number, name in enumerate(made_processed.CLASSES):
        of_class = [record for record in records if record["class"] == name]
        x = [record["false_positive_rate"] for record in of_class]
        y = [record["true_positive_rate"] for record in of_class]
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert metrics.auc(x, y) == pytest.approx(areas[number])


def test_the_errors_come_largest_first_with_their_pictures(tmp_path: Path) -> None:
    images = made_processed.images_of(
        made_processed.many({"test": 2}, made_processed.class_in_the_centre)
    )
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    calibrated = np.array(
        [
            [0.2, 0.3, 0.5],
            [0.6, 0.3, 0.1],
            [0.7, 0.2, 0.1],
            [0.1, 0.2, 0.7],
            [0.9, 0.05, 0.05],
            [0.1, 0.1, 0.8],
        ]
    )
    maps = np.random.default_rng(0).random((6, 46, 46), np.float32)
    records = evaluate.show_errors(images, calibrated, maps, tmp_path)
    order = [4, 0, 2, 3]  # of the three with 0.2 for their class, by file
    files_of = images.table["path"].tolist()
    assert [record["file"] for record in records] == [files_of[position] for position in order]
    assert records[0] == {
        "file": files_of[4],
        "actual": "Viral Pneumonia",
        "predicted": "Covid",
        "probability": 0.9,
        "probability_of_actual": 0.05,
        "image": "01.png",
        "map": "01-map.png",
    }
    assert json.loads(json.dumps(records)) == records
    assert len(list(tmp_path.iterdir())) == 8
    for record, position in zip(records, order, strict=True):
        pixels = images.pixels[position]
        assert np.array_equal(np.asarray(Image.open(tmp_path / record["image"])), pixels)
        (heat,) = gradcam.enlarged(maps[position][None])
        covered = np.asarray(gradcam.overlay(pixels, heat))
        assert np.array_equal(np.asarray(Image.open(tmp_path / record["map"])), covered)


def test_a_long_roc_is_thinned_evenly_and_keeps_its_ends_and_its_area(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = made_processed.images_of(made_processed.many({"test": 90}, made_processed.noise))
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 270)
    every = evaluate.roc_records(images, probabilities)
    longest = max(Counter(record["class"] for record in every).values())
    monkeypatch.setattr(evaluate, "MOST_POINTS", longest)
    assert evaluate.roc_records(images, probabilities) == every
    monkeypatch.setattr(evaluate, "MOST_POINTS", 40)
    thinned = evaluate.roc_records(images, probabilities)
    assert all(record in every for record in thinned)
    for name in made_processed.CLASSES:
        curves = [
            np.array([list(record.values())[1:] for record in records if record["class"] == name])
            for records in (every, thinned)
        ]
        assert len(curves[1]) <= 40 < len(curves[0])
        assert curves[1][[0, -1]].tolist() == [[0, 0], [1, 1]]
        assert np.diff(curves[1].sum(axis=1)).max() < 3 * 2 / 40
        one, other = (metrics.auc(*curve.T) for curve in curves)
        assert one == pytest.approx(other, abs=0.02)


def test_of_many_errors_the_largest_are_drawn_and_all_have_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = made_processed.images_of(made_processed.many({"test": 2}, made_processed.noise))
    wrong = np.roll(np.eye(3)[images.labels], 1, axis=1) * 0.5 + 0.1
    wrong[:, 0] += np.arange(6) / 100
    maps = np.zeros((6, 46, 46), np.float32)
    every = evaluate.show_errors(images, wrong, maps, tmp_path)
    assert len(every) == 6
    few = tmp_path / "few"
    few.mkdir()
    monkeypatch.setattr(evaluate, "MOST_PICTURED", 2)
    records = evaluate.show_errors(images, wrong, maps, few)
    assert records[:2] == every[:2]
    left = [{k: v for k, v in record.items() if k not in ("image", "map")} for record in every[2:]]
    assert records[2:] == left
    assert sorted(path.name for path in few.iterdir()) == [
        *("01-map.png", "01.png", "02-map.png", "02.png")
    ]


def test_without_an_error_there_is_none(tmp_path: Path) -> None:
    images = made_processed.images_of(made_processed.many({"test": 1}, made_processed.noise))
    maps = np.zeros((3, 46, 46), np.float32)
    assert evaluate.show_errors(images, np.eye(3), maps, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.tensorflow
class TestTrained:
    @pytest.fixture(autouse=True)
    def _project(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(made_processed.trained_project())

    def test_the_details(self) -> None:
        results = read(evaluate.DETAILS)
        assert list(results) == [
            "provenance",
            "all_test",
            "leak_free",
            "by_source",
            "by_label",
            "calibration",
            "sets",
            "refused",
            "gradcam",
        ]
        # the images of this set came without records
        assert results["by_source"] == results["by_label"] == {}
        assert results["provenance"] == read(train.DETAILS)["provenance"]
        assert (results["all_test"]["images"], results["leak_free"]["images"]) == (36, 33)
        for headline in ("all_test", "leak_free"):
            result = results[headline]
            assert set(result["classes"]) == set(made_processed.CLASSES)
            for name in ("accuracy", "loss", "brier", "macro_auroc", "macro_sensitivity"):
                low, high = result["intervals"][name]
                assert low <= result[name] <= high
        assert set(results["gradcam"]) == {
            "images_with_activation",
            "outside_centre_share",
            "outside_centre_share_if_uniform",
            "against_untrained",
        }
        assert 0 <= results["gradcam"]["images_with_activation"] <= results["all_test"]["images"]
        assert 0 <= results["gradcam"]["outside_centre_share"] <= 1
        compared = results["gradcam"]["against_untrained"]
        low, high = compared["intervals"]["rank_correlation"]
        assert -1 <= low <= compared["rank_correlation"] <= high < 1
        assert 0 < compared["images"] <= results["all_test"]["images"]

    def test_maps_of_the_same_network_are_the_same(self) -> None:
        shipped, images = classifier.load(), dataset.load(["test"])
        probabilities, maps = evaluate.judge(shipped, images.pixels)
        predicted = probabilities.argmax(axis=1)
        found = evaluate.against_untrained(shipped, maps, images, predicted, evaluation())
        assert found is not None
        assert found["rank_correlation"] == pytest.approx(1)
        others = dataset.Stored.in_file(np.zeros((len(images), 46, 46), np.float32))
        nothing = evaluate.against_untrained(shipped, others, images, predicted, evaluation())
        assert nothing is None

    def test_the_metrics_follow_from_the_predictions(self) -> None:
        records, result = (
            read(evaluate.PLOTS / "predictions.json"),
            read(evaluate.DETAILS)["all_test"],
        )
        classes = made_processed.CLASSES
        columns = [f"probability {name}" for name in classes]
        probabilities = np.array([[record[column] for column in columns] for record in records])
        actual = [record["actual"] for record in records]
        predicted = [record["predicted"] for record in records]
        assert [classes[n] for n in probabilities.argmax(axis=1)] == predicted
        assert probabilities.sum(axis=1) == pytest.approx(1)
        report = metrics.classification_report(
            actual, predicted, labels=classes, output_dict=True, zero_division=0
        )
        assert result["accuracy"] == pytest.approx(metrics.accuracy_score(actual, predicted))
        assert result["loss"] == pytest.approx(metrics.log_loss(actual, probabilities))
        for name in classes:
            assert result["classes"][name]["sensitivity"] == report[name]["recall"]
            assert result["classes"][name]["f1"] == pytest.approx(report[name]["f1-score"])
        assert result["macro_precision"] == pytest.approx(report["macro avg"]["precision"])
        assert sum(record["leaked"] for record in records) == 3
        assert records[0]["file"] == dataset.read_index().query("use == 'test'")["path"].iloc[0]

    def test_what_is_judged_are_the_calibrated_probabilities(self) -> None:
        known, images = Calibration.load(), dataset.load(["test"])
        assert known.temperature > 1.3  # so that it makes a difference
        own = classifier.load().probabilities(images.pixels)
        records = dataset.prediction_records(images, known.probabilities(own))
        assert read(evaluate.PLOTS / "predictions.json") == json.loads(json.dumps(records))

    def test_calibration_before_and_after_without_leaks(self) -> None:
        results, known = read(evaluate.DETAILS), Calibration.load()
        result = results["calibration"]
        assert result["temperature"] == known.temperature
        assert result["radiographs"] == len(known.scores) == 63
        images = dataset.load(["test"])
        clean = scores.headline_positions(images)["leak_free"]
        images = images.take(clean)
        assert result["images"] == len(images) == 33
        own = classifier.load().probabilities(images.pixels)
        after = known.probabilities(own)
        groups = images.table["group"].to_numpy()
        for when, values in (("before", own), ("after", after)):
            assert result[when] == scores.calibration_metrics(images.labels, values, groups, 100, 0)
        for name in ("loss", "brier"):
            assert result["after"][name] == pytest.approx(results["leak_free"][name])
            assert result["after"]["intervals"][name] == results["leak_free"]["intervals"][name]
        assert result["after"] != result["before"]
        assert result["by_chance"] == calibration.error_by_chance(after, 100, 0)
        records = read(evaluate.PLOTS / "reliability.json")
        for when in ("before", "after"):
            of_it = [record for record in records if record["temperature"] == when]
            assert sum(record["images"] for record in of_it) == 33

    def test_sets_and_refusals_without_leaks(self) -> None:
        results, images = read(evaluate.DETAILS), dataset.load(["test"])
        images = images.take(scores.headline_positions(images)["leak_free"])
        sets = Calibration.load().sets(classifier.load().probabilities(images.pixels))
        assert results["sets"] == {"coverage": 0.9, **evaluate.judge_sets(images, sets)}
        refused = novelty.Novelty.load().refused(images.pixels)
        assert results["refused"]["images"] == 33
        assert results["refused"]["count"] == refused.sum()
        by_class = results["refused"]["classes"]
        assert {name: share["count"] for name, share in by_class.items()} == {
            name: refused[images.labels == number].sum()
            for number, name in enumerate(images.classes)
        }

    def test_the_grad_cam_picture_is_of_some_size(self) -> None:
        with Image.open(evaluate.GRADCAM) as image:
            assert image.format == "PNG"
            assert image.width > 1200
            assert image.height > 600

    def test_every_error_has_a_record_and_two_pictures(self) -> None:
        told = read(evaluate.ERRORS)
        assert list(told) == ["provenance", "errors"]
        assert told["provenance"] == read(train.DETAILS)["provenance"]
        records = read(evaluate.PLOTS / "predictions.json")
        wrong = {record["file"] for record in records if record["predicted"] != record["actual"]}
        assert {error["file"] for error in told["errors"]} == wrong
        named = {error[key] for error in told["errors"] for key in ("image", "map")}
        assert {path.name for path in evaluate.ERROR_PICTURES.iterdir()} == named
        assert len(named) == 2 * len(wrong)

    def test_it_imports_no_tensorflow(self) -> None:
        code = (
            "import sys; from stages import evaluate; evaluate.main(); "
            "print({'tensorflow', 'keras'} & {*sys.modules})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(made_processed.REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout.splitlines()[-1], done.stderr) == ("set()", "")

    def test_it_gives_the_same_bytes_again(self) -> None:
        paths = [
            evaluate.DETAILS,
            *(evaluate.PLOTS / f"{name}.json" for name in ("predictions", "roc", "reliability")),
            evaluate.GRADCAM,
            evaluate.ERRORS,
            *sorted(evaluate.ERROR_PICTURES.iterdir()),
        ]
        before = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        evaluate.main()
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == before


def run(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    pictures: Sequence[made_processed.Picture],
    changes: Any,
) -> Any:
    """Runs `train`, `calibrate` and `evaluate`; gives the details of the last one."""
    quick = made_processed.QUICK | {"evaluate.gradcam_images": 1}
    made_processed.write(root, pictures, quick | changes)
    monkeypatch.chdir(root)
    train.main()
    made_processed.cross_validate(root)
    calibrate.main()
    evaluate.main()
    return read(evaluate.DETAILS)


def test_another_set_of_classes_than_the_model_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_processed.write(
        tmp_path, made_processed.many({"test": 1}, made_processed.noise), made_processed.QUICK
    )
    monkeypatch.setattr(
        classifier, "load", lambda: SimpleNamespace(classes=["Normal", "Tuberculosis"])
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"classifier\.json: found the classes \['Normal', 'Tub"):
        evaluate.main()


@pytest.mark.tensorflow
def test_a_planted_leak_shows_in_leak_free_and_not_in_all_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pictures that say nothing of the class: only what was learnt by heart is classified correctly
    pictures = made_processed.many({"train": 12, "validation": 4, "test": 5}, made_processed.noise)
    learnt = made_processed.leaked_copies([p for p in pictures if p.use == "train"])
    changes = {"train.epochs": 8, "train.weights": "last", "train.batch_size": 6}
    changes["train.learning_rate"] = 0.002
    test = run(tmp_path, monkeypatch, pictures + learnt, changes)
    all_test, leak_free = test["all_test"], test["leak_free"]
    assert (all_test["images"], leak_free["images"]) == (51, 15)
    assert all_test["accuracy"] >= 0.75
    assert leak_free["accuracy"] <= 0.6
    assert all_test["accuracy_low"] > leak_free["accuracy"]
