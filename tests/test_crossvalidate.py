import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from stages import crossvalidate
from stages.common import params
from stages.learning import network
from stages.learning.dataset import Images
from stages.common.errors import InputError
from tests import made_processed

FIGURES = [
    "loss",
    "brier",
    *(f"macro_{name}" for name in ("sensitivity", "specificity", "precision", "f1", "auroc")),
]


def set_of(group_sizes: Sequence[int], label_of_group: Sequence[int]) -> Images:
    """Images of which only the table matters; the pixel at the corner is the image's number."""
    pictures: list[made_processed.Picture] = []
    for group, (size, label) in enumerate(zip(group_sizes, label_of_group, strict=True)):
        for _ in range(size):
            pixels = np.full((1, 1, 3), len(pictures), np.uint8)
            pictures.append(made_processed.Picture("train", label, pixels, group))
    return made_processed.images_of(pictures)


def numbers(images: Images) -> set[int]:
    return set(images.pixels[:, 0, 0, 0].tolist())


def with_folds(count: int, share: float = 0.25) -> params.Params:
    return params.parse(
        made_processed.settings_with(
            {
                "crossvalidate.folds": list(range(1, count + 1)),
                "preprocess.validation_share": share,
            }
        )
    )


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=30, max_size=45),
    st.integers(2, 4),
    st.integers(0, 2**32 - 1),
)
def test_the_folds_partition_the_images_and_no_group_crosses(
    group_sizes: Sequence[int], count: int, seed: int
) -> None:
    images = set_of(group_sizes, [number % 3 for number in range(len(group_sizes))])
    judged_in_all = []
    for fold in range(1, count + 1):
        try:
            train, stop, judged = crossvalidate.parts(images, with_folds(count), seed, fold)
        except InputError:  # large groups of a small class can leave a share without it
            reject()
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
        train, stop, judged = crossvalidate.parts(images, with_folds(3), seed, 1)
        assert np.bincount(judged.labels).tolist() == [15, 10, 5]
        assert len(stop) == pytest.approx(60 / 4, abs=1)
        deals.append((numbers(train), numbers(stop), numbers(judged)))
    assert deals[0] == deals[1]
    assert deals[0][1] != deals[2][1]
    assert deals[0][2] != deals[2][2]


def test_a_class_with_too_few_radiographs_is_named() -> None:
    images = set_of([5] * 8, [0, 0, 0, 1, 1, 1, 2, 2])
    with pytest.raises(InputError, match=r"'Viral Pneumonia': found 2 .* at least 3"):
        crossvalidate.parts(images, with_folds(3), 0, 1)


def test_every_headline_figure_is_judged() -> None:
    images = set_of([1] * 6, [0, 0, 1, 1, 2, 2])
    said = np.full((6, 3), 0.1)
    said[np.arange(6), images.labels] = 0.8
    found = crossvalidate.judge(images, said)
    assert list(found) == ["accuracy", *FIGURES]
    assert found["accuracy"] == found["macro_auroc"] == 1
    assert found["loss"] == pytest.approx(-np.log(0.8))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pictures = made_processed.many(
        {"train": 9, "validation": 3, "test": 4}, made_processed.told_by_the_centre
    )
    changes = {
        "crossvalidate.folds": [1, 2],
        "crossvalidate.seeds": [0, 3],
        "crossvalidate.epochs": 2,
        "train.batch_size": 6,
        "train.learning_rate": 0.001,
    }
    made_processed.write(tmp_path, pictures, changes)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("seed", "fold", "wrong"), [(0, 3, "fold"), (1, 1, "seed")])
def test_a_fold_or_seed_that_is_not_in_the_parameters_is_refused(
    seed: int, fold: int, wrong: str
) -> None:
    with pytest.raises(InputError, match=f"--{wrong}: found .*{wrong}s in params.yaml"):
        crossvalidate.run_fold(seed, fold)


def test_help_is_quick_to_come_by() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.crossvalidate", "--help"],
        cwd=made_processed.REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--seed SEED" in done.stdout
    assert "one of crossvalidate.folds" in done.stdout


@pytest.mark.tensorflow
def test_a_fold_is_trained_as_train_does_and_judged_on_images_it_never_met(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(36, 48):  # the test images are not even read
        (picture,) = (project / "data/processed/test").rglob(f"{number:04d}.jpeg.png")
        picture.unlink()
    met = []
    fit = network.fit

    def watched(train: Images, validation: Images, training: params.Train, label: str) -> Any:
        met.append((train, validation, training))
        return fit(train, validation, training, label)

    monkeypatch.setattr(network, "fit", watched)
    record = crossvalidate.run_fold(0, 1)
    again = crossvalidate.run_fold(0, 1)
    other_fold = crossvalidate.run_fold(0, 2)
    assert record == again
    assert list(record) == [
        "provenance",
        "seed",
        "fold",
        "images",
        "epochs",
        "kept_epoch",
        "accuracy",
        *FIGURES,
    ]
    assert record["provenance"] == {"data": "made for a test"}
    assert (record["seed"], record["fold"], record["epochs"]) == (0, 1, 2)
    assert record["images"] + other_fold["images"] == 36
    right = record["accuracy"] * record["images"]
    assert right == pytest.approx(round(right))
    train, validation, training = met[0]
    assert set(train.table["use"]) | set(validation.table["use"]) == {"train", "validation"}
    assert len(train) + len(validation) + record["images"] == 36
    settings = params.load().train
    assert training == settings.model_copy(update={"epochs": 2})
