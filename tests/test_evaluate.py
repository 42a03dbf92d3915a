import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from stages import baselines, evaluate, train
from stages.common import params
from stages.judging import calibration, scores
from stages.learning import dataset, network
from stages.common.errors import InputError
from tests import made_processed


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def evaluation(**changes: Any) -> params.Evaluate:
    changed = {f"evaluate.{name}": value for name, value in changes.items()}
    return params.parse(made_processed.settings_with(changed)).evaluate


def test_a_class_that_is_all_leaked_is_named() -> None:
    test = made_processed.many({"test": 3}, made_processed.noise)
    leaked = made_processed.leaked_copies(test[3:6])
    images = made_processed.images_of([*test[:3], *leaked, *test[6:]])
    said = np.full((9, 3), 1 / 3)
    with pytest.raises(InputError, match=r"class 'Normal': every test image has a copy"):
        evaluate.headlines(images, said, evaluation(bootstrap_samples=100))


def test_two_headlines_on_their_own_images() -> None:
    test = made_processed.many({"test": 4}, made_processed.noise)
    leaked = made_processed.leaked_copies(test[:2])
    images = made_processed.images_of([*leaked, *test[2:], *test[11:]])  # the last stands twice
    said = np.eye(3)[images.labels] * 0.7 + 0.1
    said[:2] = np.roll(said[:2], 1, axis=1)  # wrong on the leaked ones
    found = evaluate.headlines(images, said, evaluation(bootstrap_samples=100))
    assert list(found) == ["published", "leak_free"]
    assert (found["published"]["images"], found["leak_free"]["images"]) == (13, 10)
    assert found["published"]["accuracy"] == pytest.approx(11 / 13)
    assert found["leak_free"]["accuracy"] == 1
    assert found["leak_free"]["classes"]["Covid"]["images"] == 2
    assert found["leak_free"]["intervals"]["accuracy"] == scores.wilson(10, 10)


@pytest.mark.parametrize(
    ("wrong", "right", "count", "expected_wrong"),
    [(10, 50, 12, 6), (2, 50, 12, 2), (50, 3, 12, 9), (0, 9, 4, 0), (9, 0, 4, 4), (2, 3, 12, 2)],
)
def test_right_and_wrong_images_are_chosen_by_seed(
    wrong: int, right: int, count: int, expected_wrong: int
) -> None:
    told_right = np.array([False] * wrong + [True] * right)
    np.random.default_rng(0).shuffle(told_right)
    chosen = evaluate.choose(told_right, count, 0)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, wrong + right)
    assert (~told_right[chosen]).sum() == expected_wrong
    assert chosen.tolist() == evaluate.choose(told_right, count, 0).tolist()
    if wrong + right > 2 * count:
        assert chosen.tolist() != evaluate.choose(told_right, count, 1).tolist()


def test_roc_points_enclose_the_area_that_is_reported() -> None:
    images = made_processed.images_of(made_processed.many({"test": 9}, made_processed.noise))
    said = np.random.default_rng(0).dirichlet([1, 1, 1], 27)
    records = evaluate.roc_records(images, said)
    areas = scores.point_metrics(images.labels, said)["auroc"]
    for number, name in enumerate(made_processed.CLASSES):
        of_class = [record for record in records if record["class"] == name]
        x = [record["false_positive_rate"] for record in of_class]
        y = [record["true_positive_rate"] for record in of_class]
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert metrics.auc(x, y) == pytest.approx(areas[number])


@pytest.mark.tensorflow
class TestTrained:
    @pytest.fixture(autouse=True)
    def _project(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(made_processed.trained_project())

    def test_the_metrics_file(self) -> None:
        found = read(evaluate.METRICS)
        assert list(found) == ["provenance", "published", "leak_free", "calibration", "gradcam"]
        assert found["provenance"] == read(train.METRICS)["provenance"]
        assert (found["published"]["images"], found["leak_free"]["images"]) == (36, 33)
        for headline in ("published", "leak_free"):
            figures = found[headline]
            assert set(figures["classes"]) == set(made_processed.CLASSES)
            for name in ("accuracy", "loss", "brier", "macro_auroc", "macro_sensitivity"):
                low, high = figures["intervals"][name]
                assert low <= figures[name] <= high
        assert set(found["gradcam"]) == {
            "images_with_activation",
            "outside_centre_share",
            "outside_centre_share_if_uniform",
        }
        assert 0 <= found["gradcam"]["images_with_activation"] <= found["published"]["images"]
        assert 0 <= found["gradcam"]["outside_centre_share"] <= 1

    def test_the_figures_follow_from_the_predictions(self) -> None:
        records, published = read(evaluate.PREDICTIONS), read(evaluate.METRICS)["published"]
        classes = made_processed.CLASSES
        columns = [f"probability {name}" for name in classes]
        said = np.array([[record[column] for column in columns] for record in records])
        actual = [record["actual"] for record in records]
        predicted = [record["predicted"] for record in records]
        assert [classes[n] for n in said.argmax(axis=1)] == predicted
        assert said.sum(axis=1) == pytest.approx(1)
        report = metrics.classification_report(
            actual, predicted, labels=classes, output_dict=True, zero_division=0
        )
        assert published["accuracy"] == pytest.approx(metrics.accuracy_score(actual, predicted))
        assert published["loss"] == pytest.approx(metrics.log_loss(actual, said))
        for name in classes:
            assert published["classes"][name]["sensitivity"] == report[name]["recall"]
            assert published["classes"][name]["f1"] == pytest.approx(report[name]["f1-score"])
        assert published["macro_precision"] == pytest.approx(report["macro avg"]["precision"])
        assert sum(record["leaked"] for record in records) == 3
        assert records[0]["file"] == dataset.read_index().query("use == 'test'")["source"].iloc[0]

    def test_calibration_before_and_after(self) -> None:
        found, metadata = read(evaluate.METRICS)["calibration"], network.read_metadata()
        assert found["temperature"] == metadata["temperature"]
        network.start(2)
        images = dataset.load(["test"])
        said = network.probabilities(network.load(), images.pixels)
        assert found["before"] == scores.calibration_metrics(images.labels, said)
        after = temperature.scaled(said, metadata["temperature"])
        assert found["after"] == scores.calibration_metrics(images.labels, after)
        assert found["after"] != found["before"]
        records = read(evaluate.RELIABILITY)
        for when in ("before", "after"):
            of_it = [record for record in records if record["temperature"] == when]
            assert sum(record["images"] for record in of_it) == 36

    def test_the_grad_cam_figure_is_a_picture_of_some_size(self) -> None:
        with Image.open(evaluate.GRADCAM) as image:
            assert image.format == "PNG"
            assert image.width > 1200
            assert image.height > 600

    def test_it_gives_the_same_bytes_again(self) -> None:
        paths = [
            evaluate.METRICS,
            evaluate.PREDICTIONS,
            evaluate.ROC,
            evaluate.RELIABILITY,
            evaluate.GRADCAM,
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
    """Runs `train`, `evaluate` and `shortcuts`; gives the two metrics of the test images."""
    quick = made_processed.QUICK | {"evaluate.gradcam_images": 1}
    made_processed.write(root, pictures, quick | changes)
    monkeypatch.chdir(root)
    train.main()
    evaluate.main()
    shortcuts.main()
    return read(evaluate.METRICS), read(shortcuts.METRICS)


@pytest.mark.tensorflow
def test_another_set_of_classes_than_the_model_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_processed.write(
        tmp_path, made_processed.many({"test": 1}, made_processed.noise), made_processed.QUICK
    )
    metadata = {"classes": ["Normal", "Tuberculosis"], "temperature": 1.0, "provenance": {}}
    (tmp_path / "models").mkdir()
    (tmp_path / "models/classifier.json").write_text(json.dumps(metadata), "utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"classifier\.json: found the classes \['Normal', 'Tub"):
        evaluate.main()


@pytest.mark.tensorflow
@pytest.mark.parametrize("planted", [True, False])
def test_a_class_written_into_the_border_is_exposed_by_the_shortcuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    draw = made_processed.told_by_the_border if planted else made_processed.told_by_the_centre
    pictures = made_processed.many({"train": 16, "validation": 5, "test": 12}, draw)
    test, found = run(tmp_path, monkeypatch, pictures, {"train.epochs": 3})
    # the network's own figures look equally good on either set
    assert test["leak_free"]["accuracy"] >= 0.9
    border, majority = (found[name]["leak_free"] for name in ("border", "majority_class"))
    assert majority["accuracy"] == pytest.approx(1 / 3)
    if planted:
        assert border["accuracy"] >= 0.95
        assert border["accuracy_low"] > majority["accuracy_high"]
    else:
        assert border["accuracy"] <= majority["accuracy_high"]


@pytest.mark.tensorflow
def test_a_planted_leak_shows_in_leak_free_and_not_in_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pictures that say nothing of the class: only one that was learnt by heart is told right
    pictures = made_processed.many({"train": 12, "validation": 4, "test": 5}, made_processed.noise)
    learnt = made_processed.leaked_copies([p for p in pictures if p.use == "train"])
    changes = {"train.epochs": 8, "train.weights": "last", "train.batch_size": 6}
    changes["train.learning_rate"] = 0.002
    test, _ = run(tmp_path, monkeypatch, pictures + learnt, changes)
    published, leak_free = test["published"], test["leak_free"]
    assert (published["images"], leak_free["images"]) == (51, 15)
    assert published["accuracy"] >= 0.75
    assert leak_free["accuracy"] <= 0.6
    assert published["accuracy_low"] > leak_free["accuracy"]
