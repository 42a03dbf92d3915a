import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import stability
from stages.common import files
from stages.common.errors import InputError
from tests import made_processed


def record(seed: int, fold: int, accuracy: float, loss: float) -> dict[str, Any]:
    return {
        "provenance": {"data": "made for a test"},
        "seed": seed,
        "fold": fold,
        "images": 20,
        "epochs": 3,
        "kept_epoch": 2,
        "accuracy": accuracy,
        "loss": loss,
    }


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 30)), min_size=2, max_size=30))
def test_the_summary_against_the_statistics_module(values: list[tuple[float, float]]) -> None:
    records = [record(0, number, *value) for number, value in enumerate(values)]
    found = stability.summary(records)
    assert list(found) == ["accuracy", "loss"]
    for name, column in zip(found, zip(*values, strict=True), strict=True):
        assert found[name]["mean"] == pytest.approx(statistics.fmean(column))
        assert found[name]["standard_deviation"] == pytest.approx(
            statistics.stdev(column), abs=1e-9
        )
        assert (found[name]["lowest"], found[name]["highest"]) == (min(column), max(column))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    made_processed.write(
        tmp_path, [], {"crossvalidate.folds": [1, 2], "crossvalidate.seeds": [0, 5]}
    )
    for number, (seed, fold) in enumerate([(0, 1), (0, 2), (5, 1), (5, 2), (9, 1)]):
        files.write_json(
            stability.FOLDER / f"seed-{seed}-fold-{fold}.json",
            record(seed, fold, (0.8, 0.9, 1.0, 0.7, 0.0)[number], 0.5),
        )
    return tmp_path


@pytest.mark.usefixtures("project")
def test_it_takes_the_seeds_and_folds_that_the_parameters_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stability.main()
    found = json.loads(stability.METRICS.read_text("utf-8"))
    assert (found["folds"], found["seeds"]) == (2, 2)
    assert found["provenance"] == {"data": "made for a test"}
    assert [(one["seed"], one["fold"]) for one in found["records"]] == [
        (0, 1),
        (0, 2),
        (5, 1),
        (5, 2),
    ]
    assert found["accuracy"] == pytest.approx(
        {"mean": 0.85, "standard_deviation": 0.1290994, "lowest": 0.7, "highest": 1.0}
    )
    assert found["loss"]["standard_deviation"] == 0
    assert capsys.readouterr().out == (
        "4 folds: accuracy 0.850, standard deviation 0.129, 0.700 to 1.000\n"
    )


def test_a_fold_that_was_not_run_is_named(project: Path) -> None:
    (project / "metrics/crossvalidation/seed-5-fold-2.json").unlink()
    with pytest.raises(InputError, match=r"seed-5-fold-2\.json is not there.*crossvalidate"):
        stability.main()
    assert not stability.METRICS.exists()
