from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import cure
from benchmarks.cure import ADDED, ADULT, COVID, ELSEWHERE, Judged
from stages.learning.dataset import SIZE, Images
from tests.made_processed import images_of, leaked_copies, many, noise


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """A few images of the project, and 24 adults of 16 patients, two folders for some of them."""
    pictures = many({"train": 3, "test": 4}, noise)
    own = images_of([*pictures, *leaked_copies(pictures[:2])])
    names = [
        *(f"No_findings/{patient:08d}_{visit:03d}.png" for patient in range(8) for visit in (0, 1)),
        *(f"Pneumonia/{patient:08d}_007.png" for patient in range(4, 12)),
        "Covid-19/nejmoa2001191_f1-PA.png",
        "Covid-19/00000001.png",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (320, 320), 90).save(tmp_path / name)
    shows = {**ADDED, "Covid-19": "Covid"}
    return cure.joined(own, [tmp_path / name for name in names], shows)


def test_a_patient_is_the_number_before_the_first_underscore() -> None:
    names = ["00012141_013.jpg", "00012141_014.png", "00000001_013.jpg", "lancet_2a.jpg", "7.jpg"]
    numbers = cure.patients(names)
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 4


def test_the_external_images_come_after_the_projects_own(images: Images) -> None:
    table = images.table
    assert len(images.pixels) == len(images.labels) == len(table) == 23 + 26
    assert images.pixels[-1].shape == (SIZE, SIZE, 3)
    assert (images.pixels[23:] == 90).all()
    assert table["class"].tolist() == [images.classes[label] for label in images.labels]
    assert not set(table["group"][:23]) & set(table["group"][23:])
    assert table["use"][23:].tolist() == [ADULT] * 24 + [ELSEWHERE] * 2
    assert table["path"].is_unique or table["path"][23:].is_unique


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_both_halves_and_every_adult_in_one(images: Images, seed: int) -> None:
    dealt = cure.halves(images.table, seed)
    adults = np.flatnonzero(images.table["use"] == ADULT)
    for added, judged in dealt:
        assert sorted([*added, *judged]) == adults.tolist()
        sides = [images.table.iloc[side] for side in (added, judged)]
        assert not set(sides[0]["group"]) & set(sides[1]["group"])
        assert all(set(side["source"]) == set(ADDED) for side in sides)
    assert dealt[0][0].tolist() == dealt[1][1].tolist()


def test_another_seed_deals_anew(images: Images) -> None:
    first = {tuple(cure.halves(images.table, seed)[0][0]) for seed in range(5)}
    assert len(first) > 1


def test_before_is_one_training_and_no_judged_adult_was_trained_on(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[np.ndarray, np.ndarray]] = []

    def judged_after(images: Images, train: np.ndarray, judged: np.ndarray, seed: int) -> Judged:
        tried.append((train, judged))
        assert seed == 3
        rows = images.table.iloc[judged]
        return Judged(rows, {"network": rows["path"].to_numpy()}, np.zeros(len(rows), bool))

    monkeypatch.setattr(cure, "judged_after", judged_after)
    before, after = cure.trials(images, 3)
    assert len(tried) == 3
    groups, use = images.table["group"].to_numpy(), images.table["use"].to_numpy()
    for train, judged in tried:
        assert set(use[train]) <= {"train", ADULT}
        adults = train[use[train] == ADULT]
        assert not set(groups[adults]) & set(groups[judged])
        assert set(use[judged]) == {"test", ADULT, ELSEWHERE}
    assert ADULT not in use[tried[0][0]]
    for one, other in zip(before, after, strict=True):
        assert sorted(one.rows.index) == sorted(other.rows.index)
        assert one.called["network"].tolist() == one.rows["path"].tolist()


def test_the_cells_count_what_they_name(images: Images) -> None:
    rows = images.table[images.table["use"] != "train"]
    adults = (rows["use"] == ADULT).to_numpy()
    called = np.where(adults & (rows["source"] == "Pneumonia"), COVID, "Normal")
    refused = adults & (rows["source"] == "Pneumonia").to_numpy() & (np.arange(len(rows)) % 2 == 0)
    judged = Judged(rows, {"network": called, "frame of 10 pixels": called}, refused)
    cells = cure.column([judged])
    assert cells["adults called Covid"].startswith("0.333 (")
    assert cells["adults called Covid"].endswith(" of 24")
    assert cells["adults called Covid and not refused"].startswith("0.167 (")
    assert cells["adults refused"].startswith("0.167 (")
    assert cells["No_findings called Normal"].startswith("1.000 (")
    assert cells["Pneumonia called Viral Pneumonia"].startswith("0.000 (")
    assert cells["test/"].endswith(" of 14")
    assert cells["test/ without leaks"].startswith("0.333 (")
    assert cells["test/ without leaks"].endswith(" of 12")
    assert cells["Covid found, test/ without leaks"].startswith("0.000 (")
    assert cells["Covid-19 (external) called by its class"].endswith(" of 2")
    assert cells["frame of 10 pixels: adults called Covid"] == cells["adults called Covid"]


def test_an_image_counts_once_in_the_interval_however_often_it_is_judged(images: Images) -> None:
    rows = images.table[images.table["use"] == ADULT]
    tables = [
        pd.DataFrame({"path": rows["path"], "group": rows["group"], "use": ADULT, "counts": which})
        for which in (True, False)
    ]
    once, twice = (
        cure.share(tables * times, "use == @ADULT".replace("@ADULT", f"'{ADULT}'"), "counts")
        for times in (1, 2)
    )
    assert once == twice
    assert once.startswith("0.500 (0.000\N{EN DASH}1.000) [")
    assert once.endswith(" of 24")
