import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages import train
from stages.common.errors import InputError
from stages.learning import dataset, network, novelty, temperature
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
        "images",
        "parameters",
        "epochs",
        "kept_epoch",
        "accuracy",
        "loss",
        "val_accuracy",
        "val_loss",
    ]
    assert metrics["provenance"] == {"data": "made for a test", "protocol": "holdout"}
    assert metrics["images"] == {"train": 42, "validation": 21}
    assert metrics["parameters"] == 1_089_683
    assert metrics["epochs"] == len(history) == 4
    kept = history[metrics["kept_epoch"] - 1]
    assert kept.pop("epoch") == metrics["kept_epoch"]
    assert {name: metrics[name] for name in kept} == kept


@pytest.mark.usefixtures("trained")
def test_the_metrics_that_dvc_shows() -> None:
    details = read(train.DETAILS)
    for name, prefix in (("train", ""), ("val", "val_")):
        metrics = read(Path(f"metrics/{name}.json"))
        assert list(metrics) == ["provenance", "acc", "loss"]
        assert metrics["provenance"] == ["made for a test", "holdout"]
        assert metrics["acc"] == round(details[f"{prefix}accuracy"], 4)
        assert metrics["loss"] == round(details[f"{prefix}loss"], 4)


@pytest.mark.usefixtures("trained")
def test_nowhere_is_a_time() -> None:
    for path in (train.DETAILS, train.HISTORY, network.METADATA):
        text = path.read_text("utf-8").lower()
        assert not [word for word in ("second", "time", "date", "duration") if f'"{word}' in text]
    assert "temperature" in network.METADATA.read_text("utf-8")


@pytest.mark.usefixtures("trained")
def test_what_goes_with_the_model_is_from_the_validation_images_alone() -> None:
    metadata = network.read_metadata()
    network.start(2)
    validation = dataset.load(["validation"])
    probabilities = network.probabilities(network.load(), validation.pixels)
    assert metadata["classes"] == list(made_processed.CLASSES)
    assert metadata["temperature"] == temperature.fit(probabilities, validation.labels)


@pytest.mark.usefixtures("trained")
def test_what_looks_like_the_training_images_is_learned_of_these_alone() -> None:
    images = dataset.load(["train"])
    expected = novelty.fit(images.pixels, images.table["group"].to_numpy())
    loaded = novelty.Novelty.load()
    assert (loaded.whitening == expected.whitening).all()
    assert loaded.farthest == expected.farthest


def test_the_test_images_are_not_read(project: Path) -> None:
    shutil.rmtree(project / "data/processed/test")
    train.main()
    assert read(train.DETAILS)["images"] == {"train": 12, "validation": 12}


def test_under_the_original_protocol_the_test_images_choose_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = made_processed.many({"train": 4, "test": 3}, made_processed.class_in_the_centre)
    changes = {"train.epochs": 1, "train.batch_size": 5, "preprocess.validation": "original"}
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


def test_two_runs_give_the_same_bytes_but_for_another_seed(project: Path) -> None:
    outputs = (network.MODEL, network.METADATA, novelty.NOVELTY, train.DETAILS, train.HISTORY)
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
