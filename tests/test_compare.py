import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stages import compare
from stages.common import files
from stages.common.errors import InputError
from stages.judging import comparison, scores
from stages.learning import temperature
from stages.learning.dataset import INDEX_COLUMNS
from tests import made_processed

METRICS = [
    "accuracy",
    "loss",
    "brier",
    *(f"macro_{name}" for name in ("sensitivity", "specificity", "precision", "f1", "auroc")),
]

# ----------------------------------------------------------------------- which radiograph is judged


@st.composite
def index_tables(draw: st.DrawFn) -> pd.DataFrame:
    """Any set: radiographs of patients, and files of radiographs, in either split."""
    patient_of = draw(st.lists(st.integers(0, 9), min_size=1, max_size=12))
    places = st.tuples(st.integers(0, len(patient_of) - 1), st.sampled_from(["train", "test"]))
    placed = draw(st.lists(places, min_size=1, max_size=30))
    in_train = {patient_of[radiograph] for radiograph, split in placed if split == "train"}
    rows = [
        {
            "path": f"{split}/A/{number}.png",
            "use": split,
            "radiograph": radiograph,
            "group": patient_of[radiograph],
            "leaked": split == "test" and patient_of[radiograph] in in_train,
        }
        for number, (radiograph, split) in enumerate(placed)
    ]
    return pd.DataFrame(rows)


@given(index_tables(), st.randoms(use_true_random=False))
def test_each_radiograph_is_judged_once_at_most_and_never_by_who_has_seen_it(
    table: pd.DataFrame, random: Any
) -> None:
    test, train = table[table["use"] == "test"], table[table["use"] == "train"]
    shuffled = random.sample(range(len(train)), len(train))
    folds = [train.iloc[shuffled[start::3]] for start in range(3)]
    judged, clean = compare.choose(folds, test)
    # out of fold, the first file of every radiograph of train/, however the files were dealt
    firsts = {row["radiograph"]: row["path"] for _, row in train[::-1].iterrows()}
    assert dict(zip(judged["radiograph"], judged["path"], strict=True)) == firsts
    # by the network that ships, all the others but those of groups that it was trained on
    firsts = {row["radiograph"]: row["path"] for _, row in test[::-1].iterrows()}
    assert all(firsts[row["radiograph"]] == row["path"] for _, row in clean.iterrows())
    assert not set(clean["group"]) & set(train["group"])
    assert clean["radiograph"].is_unique
    strangers = test[~test["group"].isin(train["group"])]
    assert set(clean["radiograph"]) == set(strangers["radiograph"])
    assert not set(clean["radiograph"]) & set(judged["radiograph"])


# --------------------------------------------------------------------------- an example by hand

TRAIN = {
    # file: radiograph, group; A/1 and A/2 are copies
    "train/A/1": (0, 0),
    "train/A/2": (0, 0),
    "train/A/3": (1, 1),
    "train/A/4": (2, 2),
    "train/B/1": (3, 3),
    "train/B/2": (4, 4),
    "train/B/3": (5, 5),
    "train/B/4": (6, 6),
}
TEST = {
    "test/A/1": (0, 0),  # a copy of A/1 in train/
    "test/A/2": (7, 1),  # another radiograph of the patient of A/3 there: judged by nobody
    "test/A/3": (8, 8),
    "test/A/4": (8, 8),  # a copy of the one before
    "test/B/1": (9, 9),
    "test/B/2": (10, 10),
}
FOLDS = {
    1: ["train/A/1", "train/A/2", "train/A/3", "train/B/1", "train/B/2"],
    2: ["train/A/4", "train/B/3", "train/B/4"],
}
# of the ten radiographs that count the network errs on one and the thumbnail on four
NETWORK_ERRS = {"train/B/1", "train/A/2", "test/A/1", "test/A/2", "test/A/4"}
THUMBNAIL_ERRS = {"train/A/1", "train/B/1", "train/B/2", "test/B/1", "test/A/4"}
CONTRADICTS = {"train/B/1", "train/B/2", "test/A/4"}


def called(file: str, wrong: bool) -> str:
    actual = file.split("/")[1]
    return {"A": "B", "B": "A"}[actual] if wrong else actual


def network(chosen: Iterable[str], errs: Iterable[str]) -> list[dict[str, Any]]:
    records = []
    for file in chosen:
        predicted = called(file, file in errs)
        records.append(
            {
                "file": file,
                "actual": file.split("/")[1],
                "predicted": predicted,
                "leaked": False,
                "probability A": 0.8 if predicted == "A" else 0.2,
                "probability B": 0.8 if predicted == "B" else 0.2,
            }
        )
    return records


def crude(chosen: Iterable[str]) -> list[dict[str, str]]:
    return [
        {
            "file": file,
            "actual": file.split("/")[1],
            "thumbnail": called(file, file in THUMBNAIL_ERRS),
            "source": called(file, file in THUMBNAIL_ERRS),  # as good as the one before
            "majority_class": "A",
        }
        for file in chosen
    ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    changes = {"evaluate.bootstrap_samples": 200}
    files.write_text(Path("params.yaml"), yaml.safe_dump(made_processed.settings_with(changes)))
    write_index()
    provenance = {"data": "made for a test", "protocol": "holdout"}
    seeds = [(seed, fold) for seed in (5, 0) for fold in FOLDS]
    write(
        compare.CROSSVALIDATION,
        {
            "provenance": provenance,
            "folds": [
                {
                    "seed": seed,
                    "fold": fold,
                    "epochs": 2,
                    "kept_epoch": 1,
                    "trained_on": 4,
                    # under the second seed, which only tells how much depends on it, all wrong
                    "predictions": network(FOLDS[fold], NETWORK_ERRS if seed == 5 else TRAIN),
                }
                for seed, fold in seeds
            ],
        },
    )
    write(
        compare.BASELINES,
        {
            "provenance": provenance,
            "folds": [
                {"seed": seed, "fold": fold, "settings": {}, "predictions": crude(FOLDS[fold])}
                for seed, fold in seeds
            ],
            "test": {"settings": {}, "predictions": crude(TEST)},
        },
    )
    write(compare.TEST, network(TEST, NETWORK_ERRS))
    write(compare.EXTERNAL, {"false_positive_rate": {"share": 0.961538}})
    return tmp_path


def write_index(original: bool = False, records: bool = True) -> None:
    rows = []
    for file, (radiograph, group) in (TEST | TRAIN).items():
        split, name, _ = file.split("/")
        rows.append(
            {
                "file": f"{file}.png",
                "path": file,
                "use": "validation" if file == "train/B/4" and not original else split,
                "class": name,
                "radiograph": radiograph,
                "group": group,
                "leaked": "yes" if file in ("test/A/1", "test/A/2") else "no",
                "source": "" if not records or file == "test/B/2" else f"the {name}s",
                "label": "unknown"
                if not records
                else "contradicts"
                if file in CONTRADICTS
                else "agrees",
            }
        )
    if original:
        rows += [row | {"use": "validation"} for row in rows if row["use"] == "test"]
    files.write_csv(compare.INDEX, INDEX_COLUMNS, rows)


def write(path: Path, value: Any) -> None:
    files.write_json(path, value)


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def accuracies(result: Any) -> Any:
    return result["images"], pytest.approx(result["accuracy"])


@pytest.mark.usefixtures("project")
def test_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    compare.main()
    details = read(compare.DETAILS)
    assert list(details) == [
        *("provenance", "radiographs", "judged", "pooled", "cross_validated"),
        *("by_label", "by_source", "baselines", "best", "verdict"),
        *("folds", "seeds", "images", "spread"),
    ]
    assert details["provenance"] == {"data": "made for a test", "protocol": "holdout"}
    assert (details["radiographs"], details["judged"]) == (11, 10)
    assert accuracies(details["pooled"]) == (10, 0.9)
    assert accuracies(details["cross_validated"]) == (7, 6 / 7)
    assert details["pooled"]["classes"]["B"]["sensitivity"] == pytest.approx(5 / 6)
    assert (details["folds"], details["seeds"], details["images"]) == (2, 2, 16)

    baselines = details["baselines"]
    assert list(baselines) == ["thumbnail", "source", "majority_class"]
    thumbnail, majority = baselines["thumbnail"], baselines["majority_class"]
    assert list(thumbnail) == [
        *("accuracy", "accuracy_low", "accuracy_high", "test", "leak_free", "cross_validated"),
        *("difference", "difference_low", "difference_high", "network_only", "baseline_only"),
        *("p", "p_holm", "verdict", "resampled_t"),
    ]
    assert (thumbnail["accuracy"], majority["accuracy"]) == pytest.approx((0.6, 0.4))
    assert accuracies(thumbnail["test"]) == (6, 4 / 6)
    assert accuracies(thumbnail["leak_free"]) == (3, 2 / 3)
    assert accuracies(thumbnail["cross_validated"]) == (7, 4 / 7)
    assert (thumbnail["difference"], majority["difference"]) == pytest.approx((0.3, 0.5))
    assert (thumbnail["network_only"], thumbnail["baseline_only"]) == (3, 0)
    assert (majority["network_only"], majority["baseline_only"]) == (5, 0)
    # McNemar: 2 / 2^3 and 2 / 2^5; Holm: the least of three times three, then the greater
    assert (thumbnail["p"], majority["p"]) == pytest.approx((0.25, 0.0625))
    assert (thumbnail["p_holm"], majority["p_holm"]) == pytest.approx((0.5, 0.1875))
    assert (details["best"], details["verdict"]) == ("thumbnail", "not distinguishable")
    # by fold, each radiograph once: 3 of 4 against 1, 3 of 3 against 3, then 0 against the same
    assert thumbnail["resampled_t"] == comparison.resampled_t(
        np.array([0.5, 0.0, -0.25, -1.0]), 3.5, 4.0
    )

    by_label, by_source = details["by_label"], details["by_source"]
    assert list(by_label) == ["agrees", "contradicts"]
    assert accuracies(by_label["contradicts"]["network"]) == (2, 1 / 2)
    assert accuracies(by_label["contradicts"]["baselines"]["thumbnail"]) == (2, 0)
    assert accuracies(by_label["agrees"]["network"]) == (8, 1)
    assert accuracies(by_label["agrees"]["baselines"]["thumbnail"]) == (8, 6 / 8)
    assert {name: result["classes"] for name, result in by_source.items()} == {
        "the As": {"A": 4},
        "the Bs": {"B": 5},
    }
    assert accuracies(by_source["the Bs"]["network"]) == (5, 4 / 5)
    assert accuracies(by_source["the Bs"]["baselines"]["majority_class"]) == (5, 0)

    assert read(compare.METRICS) == {
        "provenance": ["made for a test", "holdout"],
        "acc": 0.8571,
        "loss": round(details["cross_validated"]["loss"], 4),
        "outside_fpr": 0.9615,
        "test": 0.5,
        "test_leak_free": 1.0,
        "verdict": "not distinguishable",
        "vs_baseline": 0.3,
    }
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("10 of 11 radiographs, each judged once: accuracy 0.900 [")
    assert "thumbnail: accuracy 0.600" in lines[1]
    assert lines[2].startswith("Network minus thumbnail: +0.300 [")
    assert lines[2].endswith("p = 0.5 (McNemar, Holm): not distinguishable")


@pytest.mark.usefixtures("project")
def test_without_an_external_set_its_number_is_not_there() -> None:
    write(compare.EXTERNAL, {"false_positive_rate": None})
    compare.main()
    assert "outside_fpr" not in read(compare.METRICS)


@pytest.mark.usefixtures("project")
def test_the_intervals_are_those_of_scores_and_comparison() -> None:
    compare.main()
    details = read(compare.DETAILS)
    ours = np.array([True] * 3 + [False] + [True] * 6)
    theirs = np.array([False, True, True, False, False, True, True, True, False, True])
    groups = np.array([0, 1, 2, 3, 4, 5, 6, 8, 9, 10])
    expected = comparison.paired(ours, theirs, groups)
    thumbnail = details["baselines"]["thumbnail"]
    assert {name: thumbnail[name] for name in expected} == expected
    pooled = scores.accuracy_with_interval(ours, groups)
    assert {name: details["pooled"][name] for name in pooled} == pooled


@pytest.mark.usefixtures("project")
def test_the_order_of_the_predictions_does_not_matter() -> None:
    compare.main()
    before = compare.DETAILS.read_bytes()
    for path in (compare.CROSSVALIDATION, compare.BASELINES):
        details = read(path)
        for fold in details["folds"]:
            fold["predictions"].reverse()
        write(path, details)
    write(compare.TEST, read(compare.TEST)[::-1])
    compare.main()
    assert compare.DETAILS.read_bytes() == before


@pytest.mark.usefixtures("project")
def test_test_images_that_chose_the_epoch_count_once() -> None:
    compare.main()
    before = compare.DETAILS.read_bytes()
    write_index(original=True)
    compare.main()
    assert compare.DETAILS.read_bytes() == before


@pytest.mark.usefixtures("project")
def test_without_records_nothing_is_told_by_label_or_source() -> None:
    write_index(records=False)
    compare.main()
    details = read(compare.DETAILS)
    assert details["by_label"] == details["by_source"] == {}


# -------------------------------------------------------------------- files that don't fit together


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("path", "made_by"),
    [
        (compare.BASELINES, "baselines"),
        (compare.CROSSVALIDATION, "crossvalidate"),
        (compare.TEST, "evaluate"),
    ],
)
def test_a_missing_file_is_named(path: Path, made_by: str) -> None:
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name} is not there.*dvc repro {made_by}"):
        compare.main()
    assert not compare.DETAILS.exists()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("path", "records", "message"),
    [
        (
            compare.BASELINES,
            lambda details: details["folds"][2]["predictions"],
            r"baselines\.json and .*crossvalidate\.json .*: seed 0 fold 1 train/B/2 B is",
        ),
        (
            compare.CROSSVALIDATION,
            lambda details: details["folds"][1]["predictions"],
            r"baselines\.json and .*crossvalidate\.json .*: seed 5 fold 2 train/B/4 B is",
        ),
        (
            compare.BASELINES,
            lambda details: details["test"]["predictions"],
            r"baselines\.json and .*index\.csv .*: test/B/2 B is",
        ),
        (
            compare.TEST,
            lambda details: details,
            r"predictions\.json and .*index\.csv .*: test/B/2 B is",
        ),
    ],
)
@pytest.mark.parametrize("fault", ["missing", "twice", "of another class"])
def test_predictions_of_other_images_are_refused(
    path: Path, records: Any, message: str, fault: str
) -> None:
    details = read(path)
    predictions = records(details)
    last = predictions.pop()
    if fault != "missing":
        predictions += [last, last] if fault == "twice" else [last | {"actual": "A"}]
    write(path, details)
    if fault == "of another class":
        message = message.replace(" B is", " [AB] is")
    with pytest.raises(InputError, match=message + r".*Run `dvc repro compare`\."):
        compare.main()
    assert not compare.DETAILS.exists()


@pytest.mark.usefixtures("project")
def test_another_split_than_the_one_that_was_judged_is_refused() -> None:
    text = compare.INDEX.read_text("utf-8").replace("train/A/4", "train/A/9")
    compare.INDEX.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"crossvalidate.*index\.csv .*: train/A/4 A is"):
        compare.main()


# -------------------------------------------------------------------- calibrated by other folds


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_no_image_calibrates_itself(seed: int, count: int) -> None:
    dice = np.random.default_rng(seed)
    folds = []
    for number in range(count):
        probabilities = dice.dirichlet([1, 1], 6)
        columns = {f"probability {name}": probabilities[:, n] for n, name in enumerate("AB")}
        labels, radiographs = dice.choice(["A", "B"], 6), number * 10 + np.array([0, 0, 1, 2, 3, 4])
        folds.append(pd.DataFrame({"class": labels, "radiograph": radiographs, **columns}))
    before = compare.calibrated(folds)
    names = ["probability A", "probability B"]
    for fold, scaled in zip(folds, before, strict=True):
        others = [compare.once(other) for other in folds if other is not fold]
        known = pd.concat(others)
        fitted = temperature.fit(
            known[names].to_numpy(), (known["class"] == "B").to_numpy(np.int64)
        )
        expected = temperature.scaled(fold[names].to_numpy(), fitted)
        assert scaled[names].to_numpy() == pytest.approx(expected)
        assert (scaled["class"] == fold["class"]).all()
    swapped = folds[0].assign(**{"class": folds[0]["class"].map({"A": "B", "B": "A"})})
    after = compare.calibrated([swapped, *folds[1:]])
    assert (after[0][names] == before[0][names]).all(axis=None)


# ------------------------------------------------------------------------------ spread over folds


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 30)), min_size=2, max_size=30))
def test_the_spread_against_the_statistics_module(values: list[tuple[float, float]]) -> None:
    spread = compare.spread([{"accuracy": first, "loss": second} for first, second in values])
    assert list(spread) == ["accuracy", "loss"]
    for name, column in zip(spread, zip(*values, strict=True), strict=True):
        assert list(spread[name]) == ["mean", "standard_deviation", "lowest", "highest"]
        assert spread[name]["mean"] == pytest.approx(statistics.fmean(column))
        assert spread[name]["standard_deviation"] == pytest.approx(
            statistics.stdev(column), abs=1e-9
        )
        assert (spread[name]["lowest"], spread[name]["highest"]) == (min(column), max(column))


@pytest.mark.usefixtures("project")
def test_every_headline_metric_of_a_fold_follows_from_its_predictions() -> None:
    compare.main()
    spread = read(compare.DETAILS)["spread"]
    assert list(spread) == METRICS
    # of the images of a fold, copies included: 3 of 5 and 3 of 3, then none
    assert spread["accuracy"] == pytest.approx(
        {
            "mean": 0.4,
            "standard_deviation": statistics.stdev([0.6, 1, 0, 0]),
            "lowest": 0,
            "highest": 1,
        }
    )
    # calibrated by the other fold, each radiograph once: 3 of 3 and 3 of 4, then none
    losses = []
    for right, wrong, by_right, by_wrong in (
        (3, 2, 3, 0),
        (3, 0, 3, 1),
        (0, 5, 0, 3),
        (0, 3, 0, 4),
    ):
        known = np.array([[0.8, 0.2]] * (by_right + by_wrong))
        labels = np.array([0] * by_right + [1] * by_wrong)
        (sure,) = temperature.scaled(np.array([[0.8, 0.2]]), temperature.fit(known, labels))
        losses.append(-(right * np.log(sure[0]) + wrong * np.log(sure[1])) / (right + wrong))
    assert (spread["loss"]["lowest"], spread["loss"]["highest"]) == pytest.approx(
        (min(losses), max(losses))
    )
    assert spread["loss"]["mean"] == pytest.approx(np.mean(losses))
    assert (spread["macro_auroc"]["lowest"], spread["macro_auroc"]["highest"]) == (0, 1)
