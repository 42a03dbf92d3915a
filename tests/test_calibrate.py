import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import calibrate
from stages.common import files
from stages.common.errors import InputError
from stages.learning import calibrated, classifier, dataset, novelty, prediction_sets, temperature
from stages.learning.calibrated import Calibration
from tests import made_processed

OUTPUTS = (calibrated.CALIBRATION, novelty.NOVELTY)
PROVENANCE = {"data": "made for a test", "protocol": "holdout", "recipe": "holdout"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    counts = {"train": 8, "validation": 4, "test": 2}
    pictures = made_processed.many(counts, made_processed.class_in_the_centre)
    made_processed.write(tmp_path, pictures, {})
    made_processed.cross_validate(tmp_path)
    monkeypatch.chdir(tmp_path)
    files.write_json(classifier.METADATA, {"provenance": PROVENANCE, "sha256": "abc"})
    return tmp_path


def read() -> Any:
    return files.read_json(calibrate.CROSSVALIDATION, "crossvalidate")


def as_arrays(records: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    classes = made_processed.CLASSES
    probabilities = [[record[f"probability {name}"] for name in classes] for record in records]
    return np.array(probabilities), np.array([classes.index(r["actual"]) for r in records])


@pytest.mark.usefixtures("project")
def test_it_learns_from_the_radiographs_of_train_judged_out_of_fold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    calibrate.main()
    records = [record for fold in read()["folds"] for record in fold["predictions"]]
    known = Calibration.load()
    probabilities, labels = as_arrays(sorted(records, key=lambda record: record["file"]))
    assert len(labels) == 36
    assert known.temperature == pytest.approx(temperature.fit(probabilities, labels))
    assert np.array_equal(known.scores, prediction_sets.scores(probabilities, labels))
    facts = json.loads(calibrated.CALIBRATION.read_text("utf-8"))
    assert list(facts) == ["provenance", "temperature", "scores", "sha256"]
    assert facts["provenance"] == PROVENANCE
    assert capsys.readouterr().out == (
        f"temperature {known.temperature:.3f}, from 36 radiographs judged out of fold\n"
    )


@pytest.mark.usefixtures("project")
def test_what_looks_like_a_radiograph_is_learned_of_all_of_train() -> None:
    calibrate.main()
    images = dataset.load(["train", "validation"])
    assert len(images) == 36
    expected = novelty.fit(images.pixels, images.table["group"].to_numpy())
    loaded = novelty.Novelty.load()
    assert (loaded.whitening == expected.whitening).all()
    assert loaded.farthest == expected.farthest


@pytest.mark.usefixtures("project")
def test_the_first_file_of_a_radiograph_counts_and_another_seed_changes_nothing() -> None:
    calibrate.main()
    before = [path.read_bytes() for path in OUTPUTS]
    details = read()
    other = [
        fold | {"seed": 7, "predictions": fold["predictions"][:1]} for fold in details["folds"]
    ]
    files.write_json(calibrate.CROSSVALIDATION, {"folds": details["folds"] + other})
    calibrate.main()
    assert [path.read_bytes() for path in OUTPUTS] == before

    index = dataset.PROCESSED / "index.csv"
    text = index.read_text("utf-8")
    second = text.splitlines()[2].split(",")
    copied = text.replace(",".join(second), ",".join([*second[:4], "0", "0", *second[6:]]))
    assert copied != text
    index.write_text(copied, "utf-8")
    calibrate.main()
    records = {
        record["file"]: record for fold in details["folds"] for record in fold["predictions"]
    }
    kept = [record for path, record in records.items() if path != second[1]]
    assert np.array_equal(Calibration.load().scores, prediction_sets.scores(*as_arrays(kept)))


def test_the_test_images_take_no_part_where_they_choose_the_epoch(project: Path) -> None:
    def outcome(protocol: str) -> object:
        provenance = PROVENANCE | {"protocol": protocol}
        files.write_json(classifier.METADATA, {"provenance": provenance, "sha256": "abc"})
        calibrate.main()
        known = Calibration.load()
        return known.temperature, known.scores.tolist(), novelty.NOVELTY.read_bytes()

    index = dataset.PROCESSED / "index.csv"
    lines = index.read_text("utf-8").replace(",validation,", ",train,").splitlines(keepends=True)
    index.write_text("".join(lines), "utf-8")
    before = outcome("none")
    lines += [line.replace(",test,", ",validation,") for line in lines if ",test," in line]
    index.write_text("".join(lines), "utf-8")
    for path in (project / "data/processed/test").rglob("*.png"):
        path.unlink()
    assert outcome("original") == before


@pytest.mark.parametrize(
    ("path", "made_by"),
    [(classifier.METADATA, "train"), (calibrate.CROSSVALIDATION, "crossvalidate")],
)
@pytest.mark.usefixtures("project")
def test_a_missing_file_is_named(path: Path, made_by: str) -> None:
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name} is not there.*dvc repro {made_by}"):
        calibrate.main()
    assert not calibrated.CALIBRATION.exists()
