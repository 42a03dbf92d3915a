import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import crossvalidate
from stages.common import params
from stages.common.errors import InputError
from stages.learning import network
from stages.learning.dataset import Images
from stages.learning.settings import Training
from tests import made_processed


def set_of(group_sizes: Sequence[int], label_of_group: Sequence[int]) -> Images:
    """Images of which only the table matters; the pixel at the corner is the image's number."""
    pictures: list[made_processed.Picture] = []
    for group, (size, label) in enumerate(zip(group_sizes, label_of_group, strict=True)):
        for _ in range(size):
            pixels = np.full((1, 1, 3), len(pictures), np.uint8)
            pictures.append(made_processed.Picture("train", label, pixels, group))
    return made_processed.images_of(pictures)


def numbers(images: Images) -> set[int]:
    return set(images.pixels[:][:, 0, 0, 0].tolist())


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=36, max_size=45),
    st.integers(2, 3),
    st.integers(0, 2**32 - 1),
)
def test_the_folds_partition_the_images_and_no_group_crosses(
    group_sizes: Sequence[int], count: int, seed: int
) -> None:
    # twelve groups per class: six or more outside of each fold, enough for four shares of them
    images = set_of(group_sizes, [number % 3 for number in range(len(group_sizes))])
    judged_in_all = []
    for fold in range(1, count + 1):
        train, stop, judged = crossvalidate.parts(images, count, 0.25, seed, fold)
        every, none, as_well = crossvalidate.parts(images, count, None, seed, fold)
        assert stop is not None
        assert none is None
        assert numbers(every) == numbers(train) | numbers(stop)
        assert numbers(as_well) == numbers(judged)
        for part, other in ((train, stop), (train, judged), (stop, judged)):
            assert not numbers(part) & numbers(other)
            assert not set(part.table["group"]) & set(other.table["group"])
        assert len(train) + len(stop) + len(judged) == len(images)
        for part in (train, stop, judged):
            assert set(part.labels) == {0, 1, 2}
            assert len(part.pixels) == len(part.table) == len(part)
        judged_in_all += sorted(numbers(judged))
    assert sorted(judged_in_all) == list(range(len(images)))


def test_the_folds_are_stratified_and_another_seed_deals_anew() -> None:
    images = set_of([1] * 90, [0] * 45 + [1] * 30 + [2] * 15)
    deals = []
    for seed in (0, 0, 1):
        train, stop, judged = crossvalidate.parts(images, 3, 0.25, seed, 1)
        assert stop is not None
        assert np.bincount(judged.labels).tolist() == [15, 10, 5]
        assert len(stop) == pytest.approx(60 / 4, abs=1)
        deals.append((numbers(train), numbers(stop), numbers(judged)))
    assert deals[0] == deals[1]
    assert deals[0][1] != deals[2][1]
    assert deals[0][2] != deals[2][2]


def test_a_class_with_too_few_radiographs_is_named() -> None:
    images = set_of([5] * 8, [0, 0, 0, 1, 1, 1, 2, 2])
    with pytest.raises(InputError, match=r"'Viral Pneumonia': found 2 .* at least 3"):
        crossvalidate.parts(images, 3, 0.25, 0, 1)


CHANGES = {
    "crossvalidate.folds": 2,
    "crossvalidate.seeds": [0, 3],
    "train.epochs": 2,
    "train.batch_size": 6,
    "train.learning_rate": 0.001,
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pictures = made_processed.many(
        {"train": 9, "validation": 3, "test": 4}, made_processed.class_in_the_centre
    )
    made_processed.write(tmp_path, pictures, CHANGES)
    shutil.rmtree(tmp_path / "data/processed/test")  # these images are not even read
    for name in ("dvc.yaml", "requirements.txt"):
        shutil.copy(made_processed.REPOSITORY / name, tmp_path)
    for name in ("common", "learning"):
        shutil.copytree(made_processed.REPOSITORY / "stages" / name, tmp_path / "stages" / name)
    shutil.copy(made_processed.REPOSITORY / "stages/crossvalidate.py", tmp_path / "stages")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def details() -> Any:
    return json.loads(crossvalidate.DETAILS.read_text("utf-8"))


# --------------------------------------------------------------------------------- finished folds


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Without TensorFlow: what was trained, by its label; every answer is certain of Covid."""
    trained: list[str] = []

    def fit(train: Images, validation: Images | None, training: Training, label: str) -> Any:
        if training.validation == "none":
            assert validation is None
        else:
            assert validation is not None
            assert len(train) >= len(validation) > 0
        trained.append(label)
        return None, [{"epoch": 1}] * training.epochs, 1

    def probabilities(_: object, pixels: np.ndarray) -> np.ndarray:
        return np.tile([1.0, 0.0, 0.0], (len(pixels), 1))

    monkeypatch.setattr(network, "start", lambda *_: None)
    monkeypatch.setattr(network, "computed_by", lambda _: {})
    monkeypatch.setattr(network, "fit", fit)
    monkeypatch.setattr(network, "probabilities", probabilities)
    return trained


ALL_FOUR = ["seed 0 fold 1", "seed 0 fold 2", "seed 3 fold 1", "seed 3 fold 2"]


def change(project: Path, values: dict[str, Any]) -> None:
    """Writes params.yaml anew, with other values for some of its keys."""
    text = yaml.safe_dump(made_processed.settings_with(CHANGES | values))
    (project / "params.yaml").write_text(text)


def test_every_training_image_is_predicted_once_per_seed(project: Path, fits: list[str]) -> None:
    crossvalidate.main()
    assert fits == ALL_FOUR
    result = details()
    assert list(result) == ["provenance", "folds"]
    assert result["provenance"] == {
        "data": "made for a test",
        "protocol": "holdout",
        "recipe": "holdout",
    }
    # of 36 images 18 are in the fold, and a fifth of the rest decides when to stop
    assert {fold["trained_on"] for fold in result["folds"]} <= {14, 15}
    assert [(fold["seed"], fold["fold"]) for fold in result["folds"]] == [
        (0, 1),
        (0, 2),
        (3, 1),
        (3, 2),
    ]
    lines = (project / "data/processed/index.csv").read_text("utf-8").splitlines()[1:]
    trained_on = sorted(line.split(",")[1] for line in lines if ",test," not in line)
    assert len(trained_on) == 36
    for seed in (0, 3):
        predicted = [
            record["file"]
            for fold in result["folds"]
            if fold["seed"] == seed
            for record in fold["predictions"]
        ]
        assert sorted(predicted) == trained_on
    deals = [{record["file"] for record in fold["predictions"]} for fold in result["folds"]]
    assert deals[0] not in deals[2:]  # another seed deals anew


def test_finished_folds_are_kept_and_used_again(project: Path, fits: list[str]) -> None:
    crossvalidate.main()
    before = crossvalidate.DETAILS.read_bytes()
    shutil.rmtree(project / "metrics")
    crossvalidate.main()
    assert fits == ALL_FOUR
    assert crossvalidate.DETAILS.read_bytes() == before
    change(project, {"crossvalidate.seeds": [3, 7]})
    crossvalidate.main()
    assert fits[4:] == ["seed 7 fold 1", "seed 7 fold 2"]
    assert [fold["seed"] for fold in details()["folds"]] == [3, 3, 7, 7]


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def test_another_input_runs_every_fold_again(project: Path, fits: list[str]) -> None:
    crossvalidate.main()
    for name in (
        "requirements.txt",
        "stages/crossvalidate.py",
        "stages/learning/network.py",
        "stages/learning/new.py",
        "stages/common/files.py",
        "data/processed/provenance.json",
    ):
        fits.clear()
        append(project / name)
        crossvalidate.main()
        assert fits == ALL_FOUR, name


def test_what_is_no_input_runs_none_again(project: Path, fits: list[str]) -> None:
    crossvalidate.main()
    for name in ("README.md", "stages/judging/scores.py", "stages/learning/a.pyc"):
        (project / name).parent.mkdir(exist_ok=True)
        append(project / name)
    crossvalidate.main()
    assert fits == ALL_FOUR


def test_another_parameter_runs_every_fold_again(project: Path, fits: list[str]) -> None:
    crossvalidate.main()
    for key, value, trained in (
        ("crossvalidate.folds", 3, 6),
        ("preprocess.validation_share", 0.5, 4),
        ("train.learning_rate", 0.01, 4),
        ("train.monitor", "val_loss", 4),
        ("train.patience", 1, 4),
        ("train.schedule", "cosine", 4),
        ("train.weights", "last", 4),
        ("train.threads", 1, 4),
        ("train.epochs", 3, 4),
        ("train.precision", "mixed_bfloat16", 4),
        ("machine.memory_gigabytes", 0, 0),
        ("train.seed", 5, 0),  # crossvalidate.seeds takes its place
        ("evaluate.seed", 5, 0),
    ):
        fits.clear()
        change(project, {key: value})
        crossvalidate.main()
        assert len(fits) == trained, key


def test_killed_between_folds_it_goes_on_where_it_was(
    project: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = network.fit

    def killed(*arguments: Any) -> Any:
        if len(fits) == 2:
            raise KeyboardInterrupt
        return fit(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(network, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            crossvalidate.main()
    assert not crossvalidate.DETAILS.exists()
    assert len(list(crossvalidate.KEPT.iterdir())) == 2
    crossvalidate.main()
    assert fits == ALL_FOUR


def test_under_the_original_protocol_the_validation_images_are_left_out(
    project: Path, fits: list[str]
) -> None:
    # they are the test images there
    change(project, {"train.recipe": "original", "preprocess.validation_share": 0.25})
    crossvalidate.main()
    assert sum(len(fold["predictions"]) for fold in details()["folds"]) == 2 * 27
    assert details()["provenance"]["protocol"] == "original"
    assert fits == ALL_FOUR


def test_without_early_stopping_all_images_outside_the_fold_are_trained_on(
    project: Path, fits: list[str]
) -> None:
    change(project, {"train.recipe": "tuned", "train.warmup_epochs": 1})
    crossvalidate.main()
    for fold in details()["folds"]:
        assert fold["trained_on"] + len(fold["predictions"]) == 27
    assert details()["provenance"] == {
        "data": "made for a test",
        "protocol": "none",
        "recipe": "tuned",
    }
    assert fits == ALL_FOUR


# ------------------------------------------------------------------------------- the real network

ALONE = """
import json, sys
from stages import crossvalidate
from stages.common import params
from stages.learning import dataset, network
from stages.learning.settings import Training
training = params.load(Training).model_copy(update={"seed": 3})
network.start(training.threads)
images = dataset.load(["train", "validation"])
json.dump(crossvalidate.run_fold(images, 2, 0.2, training, 2), sys.stdout)
"""


@pytest.mark.tensorflow
def test_a_fold_is_trained_as_train_does_and_is_the_same_alone_in_a_process(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = []
    fit = network.fit

    def watched(train: Images, validation: Images, training: Training, label: str) -> Any:
        met.append((train, validation, training))
        return fit(train, validation, training, label)

    monkeypatch.setattr(network, "fit", watched)
    crossvalidate.main()
    records = details()["folds"]
    train_settings = params.load(Training)
    for (train, validation, training), record in zip(met, records, strict=True):
        judged = {one["file"] for one in record["predictions"]}
        seen = {*train.table["path"], *validation.table["path"]}
        assert not seen & judged
        assert len(seen) + len(judged) == 36
        assert training == train_settings.model_copy(update={"seed": record["seed"]})
        names = ["seed", "fold", "epochs", "kept_epoch", "trained_on", "computed_by", "predictions"]
        assert list(record) == names
        assert record["epochs"] == 2
        assert record["trained_on"] == len(train)
        for one in record["predictions"]:
            values = [one[f"probability {name}"] for name in made_processed.CLASSES]
            assert sum(values) == pytest.approx(1)
            assert one["predicted"] == made_processed.CLASSES[int(np.argmax(values))]
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        env=os.environ | {"PYTHONPATH": str(made_processed.REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == records[3]  # which was the last of four here


@pytest.mark.tensorflow
def test_mixed_precision_is_as_accurate_in_cross_validation() -> None:
    network.start(2)
    images = made_processed.images_of(
        made_processed.many({"train": 16}, made_processed.class_in_the_centre)
    )
    accuracy = {}
    for precision in ("float32", "mixed_bfloat16"):
        training = made_processed.training(
            **{"recipe": "tuned", "epochs": 8, "warmup_epochs": 1, "batch_size": 6},
            **{"learning_rate": 0.001, "precision": precision},
        )
        records = [
            record
            for fold in (1, 2)
            for record in crossvalidate.run_fold(images, 2, 0.2, training, fold)["predictions"]
        ]
        correct = [record["predicted"] == record["actual"] for record in records]
        accuracy[precision] = np.mean(correct)
    assert accuracy["float32"] > 0.9
    assert accuracy["mixed_bfloat16"] == pytest.approx(accuracy["float32"], abs=0.03)
