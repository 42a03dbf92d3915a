import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from stages import train
from stages.common import files, params
from stages.common.errors import InputError
from stages.learning import classifier, dataset, network
from stages.learning.settings import Training
from tests import made_processed

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made_processed.trained_project())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pictures = made_processed.many(
        {"train": 4, "validation": 4, "test": 2}, made_processed.class_in_the_centre
    )
    made_processed.write(tmp_path, pictures, {"train.batch_size": 5, "train.epochs": 2})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.mark.usefixtures("trained")
def test_the_details_have_the_four_metrics_of_the_original() -> None:
    metrics, history = read(train.DETAILS), read(train.HISTORY)
    assert list(metrics) == [
        "provenance",
        "computed_by",
        "images",
        "parameters",
        "epochs",
        "kept_epoch",
        "accuracy",
        "loss",
        "val_accuracy",
        "val_loss",
    ]
    assert metrics["provenance"] == {
        "data": "made for a test",
        "protocol": "holdout",
        "recipe": "holdout",
    }
    assert metrics["computed_by"] == network.computed_by(params.load(Training))
    assert metrics["images"] == {"train": 42, "validation": 21}
    assert metrics["parameters"] == 1_089_683
    assert metrics["epochs"] == 4
    assert [(record["images"], record["epoch"]) for record in history] == [
        (images, epoch) for images in ("training", "validation") for epoch in (1, 2, 3, 4)
    ]
    kept = [record for record in history if record["epoch"] == metrics["kept_epoch"]]
    for record, prefix in zip(kept, ("", "val_"), strict=True):
        assert list(record) == ["epoch", "images", "accuracy", "loss"]
        for name in ("accuracy", "loss"):
            assert metrics[f"{prefix}{name}"] == record[name]


@pytest.mark.usefixtures("trained")
def test_the_metrics_that_dvc_shows() -> None:
    details = read(train.DETAILS)
    assert read(Path("metrics/train.json")) == {
        "provenance": ["made for a test", "holdout", "holdout"],
        "acc": round(details["accuracy"], 4),
        "loss": round(details["loss"], 4),
        "val_acc": round(details["val_accuracy"], 4),
        "val_loss": round(details["val_loss"], 4),
    }


@pytest.mark.usefixtures("trained")
def test_nowhere_is_a_time() -> None:
    for path in (train.DETAILS, train.HISTORY, classifier.METADATA):
        text = path.read_text("utf-8").lower()
        assert not [word for word in ("second", "time", "date", "duration") if f'"{word}' in text]


@pytest.mark.usefixtures("trained")
def test_what_goes_with_the_model() -> None:
    shipped = classifier.load()
    assert list(read(classifier.METADATA)) == [
        *("provenance", "classes", "threads", "sha256", "untrained_sha256")
    ]
    assert shipped.classes == list(made_processed.CLASSES)
    assert shipped.threads == 2
    assert shipped.provenance == read(train.DETAILS)["provenance"]


@pytest.mark.usefixtures("trained")
def test_the_network_before_training_goes_beside() -> None:
    before, after = classifier.load_untrained(), classifier.load()
    assert before.classes == after.classes
    assert [kernel.shape for kernel, _ in before.head] == [k.shape for k, _ in after.head]
    assert all((bias == 0).all() for _, bias in before.head)
    assert not np.allclose(before.head[1][0], after.head[1][0], atol=1e-4)


@pytest.mark.usefixtures("trained")
def test_both_files_are_of_the_same_network() -> None:
    import keras

    network.start(2)
    trained = keras.saving.load_model(network.MODEL)
    pixels = dataset.load(["test"]).pixels
    difference = network.probabilities(trained, pixels) - classifier.load().probabilities(pixels)
    assert abs(difference).max() < 1e-5
    assert sorted(path.name for path in network.MODEL.parent.iterdir()) == [
        "calibration.json",  # of `calibrate`, as the last one
        *(f"classifier.{ending}" for ending in ("json", "keras", "tflite")),
        "novelty.npz",
    ]


@pytest.mark.parametrize(
    ("litert", "words"),
    [
        ([[0.5, 0.3, 0.2], [0.1, 0.45, 0.45]], None),
        ([[0.5, 0.3, 0.2], [0.1 + 8e-6, 0.45 - 8e-6, 0.45]], "by up to 8e-06, and another class"),
        ([[0.5, 0.3 + 2e-5, 0.2 - 2e-5], [0.1, 0.45, 0.45]], "by up to 2e-05, and another class"),
        ([[0.5, 0.3, 0.2], [0.1, 0.45 - 1e-9, 0.45 + 1e-9]], "another class for 1 of 2 images"),
    ],
)
def test_litert_and_keras_are_to_say_the_same(
    monkeypatch: pytest.MonkeyPatch, litert: list[list[float]], words: str | None
) -> None:
    keras = np.array([[0.5, 0.3, 0.2], [0.1, 0.45, 0.45]])
    monkeypatch.setattr(network, "probabilities", lambda *_: keras)
    shipped: Any = SimpleNamespace(probabilities=lambda _: np.array(litert))
    if words is None:
        train.check(shipped, None, np.zeros(2))
    else:
        with pytest.raises(InputError, match=rf"classifier\.tflite: .*{words}.*make setup"):
            train.check(shipped, None, np.zeros(2))


@pytest.mark.parametrize("which", [0, -1])
def test_if_litert_says_something_else_nothing_is_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """Of one of the training (0) or of the validation images (-1)."""
    original = network.probabilities

    def moved(trained: Any, pixels: np.ndarray) -> np.ndarray:
        result = original(trained, pixels)
        result[which] += 2e-5
        return result

    monkeypatch.setattr(network, "probabilities", moved)
    with pytest.raises(InputError, match=r"models/classifier\.tflite: found"):
        train.main()
    assert not (project / "models").exists()
    assert not (project / "metrics").exists()


@pytest.mark.usefixtures("project")
def test_of_many_images_some_are_checked_evenly_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[np.ndarray] = []
    monkeypatch.setattr(train, "_CHECKED", 5)
    monkeypatch.setattr(train, "check", lambda _, __, pixels: checked.append(pixels))
    train.main()
    every = dataset.load(["train", "validation"])
    assert len(every) == 24
    assert np.array_equal(checked[0], every.pixels[::5])


def test_in_mixed_precision_from_disk_what_ships_is_float32(project: Path) -> None:
    changes = {"train.precision": "mixed_bfloat16", "machine.memory_gigabytes": 0}
    small = {"train.batch_size": 5, "train.epochs": 1}
    files.write_text(
        project / "params.yaml", yaml.safe_dump(made_processed.settings_with(changes | small))
    )
    train.main()  # compares LiteRT with the network in float32
    assert read(train.DETAILS)["computed_by"]["precision"] == "mixed_bfloat16"
    with zipfile.ZipFile(network.MODEL) as archive:
        assert b"bfloat16" not in archive.read("config.json")
    assert classifier.load().head[0][0].dtype == np.float32


def test_the_test_images_are_not_read(project: Path) -> None:
    shutil.rmtree(project / "data/processed/test")
    train.main()
    assert read(train.DETAILS)["images"] == {"train": 12, "validation": 12}


def test_under_the_original_protocol_the_test_images_choose_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = made_processed.many({"train": 4, "test": 3}, made_processed.class_in_the_centre)
    changes = {"train.epochs": 1, "train.batch_size": 5, "train.recipe": "original"}
    made_processed.write(tmp_path, pictures, changes)
    index = tmp_path / "data/processed/index.csv"
    lines = index.read_text("utf-8").splitlines(keepends=True)
    lines += [line.replace(",test,", ",validation,") for line in lines if ",test," in line]
    index.write_text("".join(lines), "utf-8")
    monkeypatch.chdir(tmp_path)
    train.main()
    metrics = read(train.DETAILS)
    assert metrics["images"] == {"train": 12, "validation": 9}
    assert metrics["provenance"]["protocol"] == "original"


def test_without_early_stopping_only_the_training_images_are_used(project: Path) -> None:
    shutil.rmtree(project / "data/processed/validation")
    index = project / "data/processed/index.csv"
    lines = index.read_text("utf-8").splitlines(keepends=True)
    index.write_text("".join(line for line in lines if ",validation," not in line), "utf-8")
    changes = {"recipe": "tuned", "epochs": 2, "warmup_epochs": 1, "batch_size": 5}
    settings = made_processed.settings_with({f"train.{key}": changes[key] for key in changes})
    files.write_text(project / "params.yaml", yaml.safe_dump(settings))
    train.main()
    metrics, shown = read(train.DETAILS), read(train.METRICS)
    assert metrics["images"] == {"train": 12, "validation": 0}
    assert (metrics["epochs"], metrics["kept_epoch"]) == (2, 2)
    assert list(metrics)[-3:] == ["kept_epoch", "accuracy", "loss"]
    assert list(shown) == ["provenance", "acc", "loss"]
    assert shown["provenance"] == ["made for a test", "none", "tuned"]
    assert [record["images"] for record in read(train.HISTORY)] == ["training"] * 2


def test_two_runs_give_the_same_bytes_but_for_another_seed(project: Path) -> None:
    models = (network.MODEL, classifier.MODEL, classifier.METADATA)
    outputs = (*models, train.DETAILS, train.HISTORY)
    runs = []
    for seed in (0, 0, 1):
        text = (project / "params.yaml").read_text("utf-8")
        assert "  seed: 0\n  threads" in text
        (project / "params.yaml").write_text(
            text.replace("  seed: 0\n  threads", f"  seed: {seed}\n  threads"), "utf-8"
        )
        train.main()
        (project / "params.yaml").write_text(text, "utf-8")
        runs.append([path.read_bytes() for path in outputs])
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]


def test_nothing_is_kept_of_a_training_that_fails(project: Path) -> None:
    text = (project / "params.yaml").read_text("utf-8")
    (project / "params.yaml").write_text(text.replace("batch_size: 5", "batch_size: 13"), "utf-8")
    with pytest.raises(InputError, match="found 13, expected at most 12"):
        train.main()
    assert not (project / "models").exists()
    assert not (project / "metrics").exists()
