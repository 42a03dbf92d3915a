import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import stability
from stages.common import files
from stages.common.errors import InputError
from stages.judging import scores

METRICS = [
    "accuracy",
    "loss",
    "brier",
    *(f"macro_{name}" for name in ("sensitivity", "specificity", "precision", "f1", "auroc")),
]
CLASSES = ("Covid", "Normal", "Viral Pneumonia")


def fold(seed: int, number: int, wrong: int, images: int = 20) -> dict[str, Any]:
    """A record as `crossvalidate` writes it, in which so many images are misclassified."""
    predictions = []
    for position in range(images):
        actual = position % 3
        top = (actual + 1) % 3 if position < wrong else actual
        predictions.append(
            {
                "file": f"train/{CLASSES[actual]}/{position}.png",
                "actual": CLASSES[actual],
                "predicted": CLASSES[top],
                "leaked": False,
                **{
                    f"probability {name}": 0.8 if place == top else 0.1
                    for place, name in enumerate(CLASSES)
                },
            }
        )
    return {
        "seed": seed,
        "fold": number,
        "epochs": 3,
        "kept_epoch": 2,
        "predictions": predictions,
    }


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 30)), min_size=2, max_size=30))
def test_the_summary_against_the_statistics_module(values: list[tuple[float, float]]) -> None:
    spread = stability.summary([{"accuracy": first, "loss": second} for first, second in values])
    assert list(spread) == ["accuracy", "loss"]
    for name, column in zip(spread, zip(*values, strict=True), strict=True):
        assert spread[name]["mean"] == pytest.approx(statistics.fmean(column))
        assert spread[name]["standard_deviation"] == pytest.approx(
            statistics.stdev(column), abs=1e-9
        )
        assert (spread[name]["lowest"], spread[name]["highest"]) == (min(column), max(column))


def test_every_headline_metric_of_a_fold_follows_from_its_predictions() -> None:
    metrics = stability.fold_metrics(fold(0, 1, wrong=0)["predictions"])
    assert list(metrics) == METRICS
    assert metrics["accuracy"] == metrics["macro_auroc"] == 1
    assert metrics["loss"] == pytest.approx(-np.log(0.8))
    predictions = fold(0, 1, wrong=5)["predictions"]
    metrics = stability.fold_metrics(predictions)
    probabilities = np.array(
        [[record[f"probability {name}"] for name in CLASSES] for record in predictions]
    )
    point = scores.point_metrics(np.arange(20) % 3, probabilities)
    assert metrics.pop("accuracy") == 0.75
    assert metrics == {name: point[name] for name in METRICS[1:]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folds = [fold(0, 1, 4), fold(0, 2, 2), fold(5, 1, 0), fold(5, 2, 6)]
    files.write_json(stability.CROSSVALIDATION, {"data": "made for a test", "folds": folds})
    return tmp_path


@pytest.mark.usefixtures("project")
def test_the_spread_over_seeds_and_folds(capsys: pytest.CaptureFixture[str]) -> None:
    stability.main()
    details = json.loads(stability.DETAILS.read_text("utf-8"))
    assert list(details) == ["data", "folds", "seeds", "images", *METRICS]
    assert (details["folds"], details["seeds"], details["images"]) == (2, 2, 80)
    assert details["data"] == "made for a test"
    assert details["accuracy"] == pytest.approx(
        {"mean": 0.85, "standard_deviation": 0.1290994, "lowest": 0.7, "highest": 1.0}
    )
    assert capsys.readouterr().out == (
        "4 folds: accuracy 0.850, standard deviation 0.129, 0.700 to 1.000\n"
    )


def test_a_missing_cross_validation_is_named(project: Path) -> None:
    (project / stability.CROSSVALIDATION).unlink()
    with pytest.raises(InputError, match=r"crossvalidate\.json is not there.*dvc repro crossval"):
        stability.main()
    assert not stability.DETAILS.exists()
