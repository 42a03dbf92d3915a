import json
from pathlib import Path

import numpy as np
import pytest

from stages.common.errors import InputError
from stages.learning import calibrated, classifier, prediction_sets, temperature
from stages.learning.calibrated import Calibration

OWN = np.array([[0.7, 0.2, 0.1], [0.98, 0.01, 0.01]])


def write(path: Path, **facts: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(facts), "utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(classifier.METADATA, sha256="abc")
    write(calibrated.CALIBRATION, temperature=2.0, scores=[0.1, 0.2, 0.85], sha256="abc")
    return tmp_path


@pytest.mark.usefixtures("project")
def test_what_is_loaded_scales_and_makes_sets() -> None:
    known = Calibration.load()
    assert np.array_equal(known.probabilities(OWN), temperature.scaled(OWN, 2.0))
    sets = known.sets(OWN, 0.6)
    assert np.array_equal(sets, prediction_sets.sets(OWN, np.array([0.1, 0.2, 0.85]), 0.6))
    # one of three images is as odd as the 0.2, which makes 2 in 4; none as odd as what is left
    assert sets.tolist() == [[True, True, False], [True, False, False]]
    assert np.array_equal(known.sets(OWN), known.sets(OWN, 0.9))


def test_one_of_another_training_is_refused(project: Path) -> None:
    write(calibrated.CALIBRATION, temperature=2.0, scores=[], sha256="def")
    with pytest.raises(
        InputError, match=r"calibration\.json: found the SHA-256 def .* expected abc"
    ):
        Calibration.load()


def test_a_missing_one_is_named(project: Path) -> None:
    calibrated.CALIBRATION.unlink()
    with pytest.raises(InputError, match=r"calibration\.json is not there.*dvc repro calibrate"):
        Calibration.load()
