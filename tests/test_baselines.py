import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import baselines as stage
from stages import crossvalidate
from stages.common.errors import InputError
from stages.judging import baselines
from stages.learning import dataset, network
from tests import made_processed

NAMES = [
    *("low_resolution_8", "low_resolution_16", "low_resolution_32"),
    *("frame_5", "frame_10", "frame_20", "frame_40"),
    *("histogram", "file_properties", "source", "majority_class"),
]
CHANGES = {
    "crossvalidate.folds": 2,
    "crossvalidate.seeds": [0, 3],
    "preprocess.validation_share": 0.5,
}


def write(project: Path, changes: dict[str, Any]) -> None:
    """In train/, every second picture is of the group, and so of the patient, of the one before."""
    counts = {"train": 8, "validation": 4, "test": 4}
    pictures = made_processed.many(counts, made_processed.class_in_the_border)
    named = [
        replace(picture, source=f"collection {picture.label}", group=picture.group // 2 * 2)
        for picture in pictures
    ]
    made_processed.write(project, pictures, changes)
    index = project / "data/processed/index.csv"
    head, *lines = index.read_text("utf-8").splitlines()
    columns = head.split(",")
    for number, (line, picture) in enumerate(zip(lines, named, strict=True)):
        row = dict(zip(columns, line.split(","), strict=True))
        row |= {"group": str(picture.group), "source": picture.source}
        lines[number] = ",".join(row.values())
    index.write_text("\n".join([head, *lines, ""]), "utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, CHANGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baselines, "INNER_FOLDS", ())  # chosen settings take time
    return tmp_path


def details() -> Any:
    return json.loads(stage.DETAILS.read_text("utf-8"))


def test_the_stage_keeps_every_prediction(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.main()
    first = stage.DETAILS.read_bytes()
    result = details()
    assert list(result) == ["provenance", "folds", "test"]
    assert result["provenance"] == {"data": "made for a test", "protocol": "holdout"}
    for part in (*result["folds"], result["test"]):
        assert list(part["settings"]) == NAMES[:-2]
        for chosen in part["settings"].values():
            assert list(chosen) == ["C", "gamma"]
        for record in part["predictions"]:
            assert list(record) == ["file", "actual", *NAMES]
            assert record["file"].split("/")[1] == record["actual"] == record["frame_40"]
            assert record["source"] == record["actual"]
            assert {record[name] for name in NAMES} <= set(made_processed.CLASSES)
    assert [record["file"] for record in result["test"]["predictions"]] == dataset.load(
        ["test"]
    ).table["path"].tolist()
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "Accuracy of the baselines on the 12 test images:"
    assert [line.split()[0] for line in lines] == NAMES
    assert {"  frame_40          1.000", "  majority_class    0.333"} <= set(lines)
    assert len({len(line) for line in lines}) == 1

    stage.main()
    assert stage.DETAILS.read_bytes() == first


@pytest.mark.parametrize("recipe", ["tuned", "holdout", "original"])
def test_the_folds_are_those_of_the_cross_validation(
    project: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    write(project, CHANGES | {"train.recipe": recipe})
    for name in ("dvc.yaml", "requirements.txt", "stages"):
        (project / name).symlink_to(made_processed.REPOSITORY / name)
    monkeypatch.setattr(network, "start", lambda *_: None)
    monkeypatch.setattr(network, "computed_by", lambda _: {})
    monkeypatch.setattr(network, "fit", lambda *_: (None, [{"epoch": 1}], 1))
    monkeypatch.setattr(network, "probabilities", lambda _, pixels: np.ones((len(pixels), 3)))
    stage.main()
    crossvalidate.main()
    ours, theirs = (
        [
            (part["seed"], part["fold"], [record["file"] for record in part["predictions"]])
            for part in files["folds"]
        ]
        for files in (details(), json.loads(crossvalidate.DETAILS.read_text("utf-8")))
    )
    assert ours == theirs
    assert [part[:2] for part in ours] == [(0, 1), (0, 2), (3, 1), (3, 2)]
    assert sum(len(judged) for *_, judged in ours) == 2 * (36 if recipe == "holdout" else 24)


@pytest.mark.parametrize("recipe", ["tuned", "holdout", "original"])
def test_trained_on_what_the_network_may_use(
    project: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    seen: list[tuple[dataset.Images, list[baselines.Split]]] = []
    judge = baselines.judge

    def spy(images: dataset.Images, audit: Any, parts: list[baselines.Split]) -> Any:
        seen.append((images, parts))
        return judge(images, audit, parts)

    monkeypatch.setattr(baselines, "judge", spy)
    write(project, CHANGES | {"train.recipe": recipe})
    stage.main()
    [(images, parts)] = seen
    table = images.table
    uses = {"train", "validation"} if recipe == "holdout" else {"train"}
    usable = np.flatnonzero(table["use"].isin(uses)).tolist()
    for outside, inside in parts[:-1]:
        assert set(table["group"][outside]).isdisjoint(table["group"][inside])
        assert sorted([*outside, *inside]) == usable
    train, test = parts[-1]
    assert train.tolist() == usable
    assert set(table["use"][test]) == {"test"}
    assert len(test) == 12


def test_without_sources_there_is_no_baseline_of_sources(project: Path) -> None:
    index = project / "data/processed/index.csv"
    index.write_text(re.sub("collection .", "", index.read_text("utf-8")), "utf-8")
    stage.main()
    for part in (*details()["folds"], details()["test"]):
        for record in part["predictions"]:
            assert list(record) == ["file", "actual", *[name for name in NAMES if name != "source"]]


def test_an_approximated_kernel_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.main()
    assert "approximation" not in details()
    assert "approximated" not in capsys.readouterr().out
    monkeypatch.setattr(baselines, "MOST_EXACT", 20)
    monkeypatch.setattr(baselines, "COMPONENTS", 10)
    stage.main()
    result = details()
    assert list(result) == ["provenance", "approximation", "folds", "test"]
    assert result["approximation"] == {"components": 10, "trained_on": 36}
    # the folds of two are trained on half as many
    assert "components" not in result["folds"][0]["settings"]["histogram"]
    assert result["test"]["settings"]["histogram"]["components"] == 10
    assert capsys.readouterr().out.splitlines()[-1] == baselines.in_words({"components": 10})


@pytest.mark.parametrize("text", [None, "", "path,bytes\n", "{"])
def test_a_missing_or_damaged_audit_is_named(project: Path, text: str | None) -> None:
    audit = project / "data/audit.csv"
    audit.unlink()
    if text is not None:
        audit.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"audit\.csv is not the table.*dvc repro --force audit"):
        stage.main()
