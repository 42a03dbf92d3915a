import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import baselines as stage
from stages.common.errors import InputError
from stages.judging import baselines, scores
from stages.judging.baselines import FRAME
from stages.learning.dataset import SIZE
from tests import made_processed


def test_the_settings_are_those_that_the_results_in_the_readme_are_of() -> None:
    assert (baselines.LOW_RESOLUTION_SIDE, baselines.BORDER_SIDE) == (16, 20)
    assert (baselines.FRAME, baselines.PENALTY) == (40, 10.0)


def test_reduced_images_are_grey_means() -> None:
    pixels = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    pixels[1, :, SIZE // 2 :] = 200
    result = baselines.reduced(pixels, 16)
    assert result.shape == (2, 256)
    assert result.dtype == np.float64
    assert not result[0].any()
    halves = result[1].reshape(16, 16)
    assert (halves[:, :8] == 0).all()
    assert (halves[:, 8:] == 200).all()


def test_without_centre_only_the_frame_is_left() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    before = pixels.copy()
    framed = baselines.without_centre(pixels)
    assert np.array_equal(pixels, before)
    assert (framed[:, FRAME:-FRAME, FRAME:-FRAME] == 0).all()
    inside = np.zeros((SIZE, SIZE), bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    assert np.array_equal(framed[:, ~inside], pixels[:, ~inside])


def test_file_properties_are_of_the_image_s_own_file() -> None:
    images = made_processed.images_of(
        made_processed.many({"train": 1}, made_processed.class_in_the_centre)
    )
    sources = images.table["path"]
    audit = pd.DataFrame(
        {
            "path": [sources[2], "test/Covid/other.png", sources[0], sources[1]],
            "bytes": [500, 1, 100, 300],
            "format": ["JPEG", "TIFF", "PNG", "JPEG"],
            "mode": ["L", "L", "RGBA", "RGB"],
            "width": [50, 40, 10, 20],
            "height": [10, 40, 10, 10],
        }
    ).set_index("path")
    result = baselines.file_properties(images, audit)
    assert result.shape == (3, 4 + 3 + 3 + 2)
    assert result[:, 0].tolist() == [10, 20, 50]
    assert result[:, 2].tolist() == [1, 2, 5]
    assert result[:, 3].tolist() == [1, 1.5, 1]
    assert result[:, 4:7].tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]  # JPEG, PNG, TIFF
    assert result[:, 7:10].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]  # L, RGB, RGBA
    grey = images.pixels.mean(axis=3)
    assert result[:, 10] == pytest.approx(grey.mean(axis=(1, 2)))
    assert result[:, 11] == pytest.approx(grey.std(axis=(1, 2)))


@pytest.mark.parametrize(
    ("draw", "exposed", "hidden"),
    [
        (
            made_processed.class_in_the_border,
            {"low_resolution", "border", "file_properties"},
            set(),
        ),
        (made_processed.class_in_the_centre, {"low_resolution", "file_properties"}, {"border"}),
        (made_processed.noise, set(), {"low_resolution", "border", "file_properties"}),
    ],
)
def test_each_baseline_classifies_by_what_it_can_see(
    draw: made_processed.Draw, exposed: set[str], hidden: set[str]
) -> None:
    pictures = made_processed.many({"train": 15, "test": 10}, draw)
    train, test = (
        made_processed.images_of([p for p in pictures if p.use == use]) for use in ("train", "test")
    )
    facts = {"bytes": 9000, "format": "PNG", "mode": "L", "width": 640, "height": 480}
    audit = pd.DataFrame(facts, index=[*train.table["path"], *test.table["path"]])
    result = baselines.predictions(train, test, audit)
    assert set(result) == {"low_resolution", "border", "file_properties", "majority_class"}
    accuracy = {name: (predicted == test.labels).mean() for name, predicted in result.items()}
    assert all(accuracy[name] >= 0.95 for name in exposed), accuracy
    assert all(accuracy[name] <= 0.6 for name in hidden), accuracy
    again = baselines.predictions(train, test, audit)
    assert all(np.array_equal(result[name], again[name]) for name in result)


def test_the_majority_class_is_that_of_the_training_images() -> None:
    pictures = made_processed.many({"train": 3, "test": 2}, made_processed.noise)
    train = made_processed.images_of([p for p in pictures if p.use == "train"])
    test = made_processed.images_of([p for p in pictures if p.use == "test"])
    train = train.take(np.array([0, 1, 3, 4, 5, 6]))  # Normal is in the majority
    facts = {"bytes": 1, "format": "PNG", "mode": "L", "width": 1, "height": 1}
    audit = pd.DataFrame(facts, index=[*train.table["path"], *test.table["path"]])
    predicted = baselines.predictions(train, test, audit)["majority_class"]
    assert predicted.tolist() == [1] * 6
    assert stage.judge(predicted, test)["all_test"]["accuracy"] == pytest.approx(1 / 3)


def test_judged_with_and_without_leaks() -> None:
    test = made_processed.many({"test": 4}, made_processed.noise)
    leaked = made_processed.leaked_copies(test[:2])
    images = made_processed.images_of([*leaked, *test[2:]])
    predicted = images.labels.copy()
    predicted[2] = 2
    result = stage.judge(predicted, images)
    assert result["all_test"]["images"] == 12
    assert result["all_test"]["accuracy"] == pytest.approx(11 / 12)
    assert result["leak_free"]["images"] == 10
    assert [result["leak_free"][f"accuracy_{end}"] for end in ("low", "high")] == scores.wilson(
        9, 10
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pictures = made_processed.many(
        {"train": 5, "validation": 3, "test": 4}, made_processed.class_in_the_border
    )
    made_processed.write(tmp_path, pictures, {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_stage_writes_the_four_baselines(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.main()
    result = json.loads(stage.DETAILS.read_text("utf-8"))
    assert result.pop("provenance") == {"data": "made for a test", "protocol": "holdout"}
    assert list(result) == ["low_resolution", "border", "file_properties", "majority_class"]
    for baseline in result.values():
        assert set(baseline) == {"all_test", "leak_free"}
    assert result["border"]["all_test"]["accuracy"] == 1
    assert "border: accuracy 1.000 [0.758, 1.000] on 12 images" in capsys.readouterr().out
    first = stage.DETAILS.read_bytes()
    for number in range(15, 24):  # it does not look at the validation images
        (picture,) = (project / "data/processed/validation").rglob(f"{number:04d}.jpeg.png")
        picture.unlink()
    stage.main()
    assert stage.DETAILS.read_bytes() == first


def test_a_missing_audit_is_named(project: Path) -> None:
    (project / "data/audit.csv").unlink()
    with pytest.raises(InputError, match=r"audit\.csv is not there.*dvc repro audit"):
        stage.main()
