from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import judges, sources
from benchmarks.sources import Found
from tests import made_processed
from tests.made_processed import images_of, many, noise

SEEDS = range(4)


@pytest.fixture
def table() -> pd.DataFrame:
    """40 images of each class; Covid has two sources, 12 from b, the others one.

    Every third image is a copy of the one before or, in turn, another one of its patient; a patient
    of b is in a, too.
    """
    images = images_of(many({"train": 40}, noise))
    table = images.table
    covid = table["class"] == "Covid"
    source = np.where(covid & (table.index < 12), "b", "a")
    number = np.where(table.index % 3 == 2, table.index - 1, table.index)
    number[12] = number[11]
    radiograph = np.where(table.index % 6 == 2, table.index, number)
    return table.assign(source=source, group=number, radiograph=radiograph)


def test_only_classes_with_several_large_sources_count(table: pd.DataFrame) -> None:
    assert sources.several(table) == []  # b has eight groups
    table.loc[table["class"] == "Covid", "group"] = range(500, 540)
    assert sources.several(table) == [("Covid", "a"), ("Covid", "b")]
    assert sources.several(table.assign(source="")) == []


@pytest.mark.parametrize("source", ["a", "b"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_source_is_left_out_with_all_that_is_like_it(
    table: pd.DataFrame, source: str, seed: int
) -> None:
    without, *halves = sources.tasks(table, "Covid", source, seed)
    left_out = table[(table["class"] == "Covid") & (table["source"] == source)]
    trained_on = table.iloc[without.train]
    assert not set(trained_on["group"]) & set(left_out["group"])
    assert set(trained_on["class"]) == set(table["class"])
    judged = table.iloc[without.judged]
    assert set(judged["radiograph"]) == set(left_out["radiograph"])
    assert judged["radiograph"].is_unique
    assert set(judged["source"]) == {source}
    assert sorted(np.concatenate([half.judged for half in halves])) == without.judged.tolist()
    number = (trained_on["class"] == "Covid").sum()
    for half in halves:
        seen = table.iloc[half.train]
        assert not set(seen["group"]) & set(table.iloc[half.judged]["group"])
        covid = seen[seen["class"] == "Covid"]
        assert source in set(covid["source"])
        assert number - 2 <= len(covid) <= number  # groups have up to three
        assert half.saw_others
    assert not without.saw_others


def test_what_is_drawn_away_goes_by_group_and_from_one_class_alone(table: pd.DataFrame) -> None:
    every = np.arange(len(table))
    kept = table.iloc[sources.drawn_down(table, every, "Covid", 20, 0)]
    assert (kept["class"] == "Covid").sum() in (19, 20)
    for name in ("Normal", "Viral Pneumonia"):
        assert (kept["class"] == name).sum() == 40
    gone = table.drop(kept.index)
    assert not set(gone["group"]) & set(kept["group"])
    other = sources.drawn_down(table, every, "Covid", 20, 1)
    assert set(other) != set(kept.index)


def test_strangers_share_no_group() -> None:
    groups = np.array([0, 1, 1, 2, 3, 2])
    assert judges.strangers(groups, np.array([2, 3])).tolist() == [0, 4]


def test_the_table_and_its_meaning_say_what_falls() -> None:
    groups = np.arange(40)
    saw = np.ones(40, bool)
    lost = Found(groups < 10, saw, groups)
    same = Found(saw, saw, groups)
    found = {
        ("Covid", "a", "network"): [lost, lost, same],
        ("Covid", "a", "16 x 16 pixels"): [same, same, same],
    }
    lines = sources.table_of(found).splitlines()
    head = "| sensitivity for | never saw the source | saw others of it | difference |"
    assert lines[0] == head
    assert lines[2].startswith("| Covid of a (40 radiographs, 40 groups): network | 0.500 (0.250")
    assert " -0.500 (-0.750\N{EN DASH}+0.000) [-0.8" in lines[2]
    assert sources.meaning(found).splitlines() == [
        "- Covid: of a, 50% are found without and 100% with others of this source in the training; "
        "the whole interval of the difference is below 0 in 2 of 3 seeds."
    ]


def test_a_class_that_is_known_by_its_source_is_not_found_in_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The grey of the middle tells the class but for Covid, which each source has its own of."""
    pictures = many({"train": 24}, made_processed.class_in_the_centre)
    for position, picture in enumerate(pictures):
        of_covid = picture.label == 0
        source = "b" if of_covid and position % 2 else "a"
        pixels = picture.pixels.copy()
        if source == "b":
            pixels[60:-60, 60:-60] = 180
        pictures[position] = replace(picture, pixels=pixels, source=source)
    images = images_of(pictures)
    monkeypatch.setattr(
        judges, "_network", lambda images, train, judged, seed: images.labels[judged]
    )
    found = sources.measured(images, "Covid", "b", 0)
    machine = found["16 x 16 pixels"]
    assert machine.never.mean() < 0.2
    assert machine.saw.mean() > 0.8
    assert found["network"].never.all()
