from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stages.intake import groups
from stages.intake.copies import Pair


def images(*described: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Rows from split, class and patient; their paths are their numbers."""
    return [
        {"path": str(number), "split": split, "class": name, "patient": patient}
        for number, (split, name, patient) in enumerate(described)
    ]


def marked(rows: list[dict[str, Any]], pairs: list[Pair]) -> list[dict[str, Any]]:
    groups.mark(rows, pairs)
    groups.mark_leaks(rows)
    return rows


def test_copies_make_radiographs_and_patients_join_them_to_groups() -> None:
    rows = images(
        ("test", "A", "x"), ("test", "A", ""), ("test", "B", "y"), ("test", "B", ""),
        ("train", "A", "x"), ("train", "A", "z"), ("train", "B", ""),
    )  # fmt: skip
    pairs = [Pair(1, 4, "near", 0.9), Pair(2, 5, "bytes", 1.0), Pair(2, 5, "near", 0.9)]
    marked(rows, pairs)
    assert [row["radiograph"] for row in rows] == [0, 1, 2, 3, 1, 2, 4]
    assert [row["group"] for row in rows] == [0, 0, 1, 2, 0, 1, 3]
    assert [row["leaked"] for row in rows] == ["yes", "yes", "yes", *["no"] * 4]
    assert groups.counts(rows, pairs, rows) == {
        "radiographs": 5,
        "groups": 4,
        "copies": {
            "groups_with_copies": 2,
            "within_train": 0,
            "within_test": 0,
            "across_splits": 2,
            "identical_pairs": 1,
            "contradicting_classes": 1,
            "leaked_test_images": 2,
        },
        "patients": {"known": 4, "patients": 3, "in_both_splits": 1, "leaked_test_images": 1},
        "leaked_test_images": {"A": 2, "B": 1},
        "copy_groups": [
            {"radiograph": 1, "kinds": ["near"], "files": ["1", "4"]},
            {"radiograph": 2, "kinds": ["bytes", "near"], "files": ["2", "5"]},
        ],
    }


def test_what_is_left_out_joins_but_neither_counts_nor_leaks() -> None:
    rows = images(("test", "A", ""), ("test", "B", "x"), ("train", "A", "x"), ("train", "B", ""))
    pairs = [Pair(0, 2, "bytes", 1.0), Pair(2, 3, "near", 0.9)]
    groups.mark(rows, pairs)
    used = [rows[0], rows[1], rows[3]]
    groups.mark_leaks(used)
    assert [row["leaked"] for row in used] == ["yes", "yes", "no"]
    counted = groups.counts(rows, pairs, used)
    assert (counted["radiographs"], counted["groups"]) == (2, 1)
    assert counted["copies"]["identical_pairs"] == 0
    assert counted["copies"]["leaked_test_images"] == 1
    assert counted["patients"] == {
        "known": 1,
        "patients": 1,
        "in_both_splits": 0,
        "leaked_test_images": 1,
    }
    assert [group["files"] for group in counted["copy_groups"]] == [["0", "3"]]
    del used[2]
    groups.mark_leaks(used)
    assert [row["leaked"] for row in used] == ["no", "no"]


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[Pair]]:
    image = st.tuples(
        st.sampled_from(["train", "test"]), st.sampled_from("AB"), st.sampled_from(["", *"pqrst"])
    )
    rows = images(*draw(st.lists(image, min_size=2, max_size=12)))
    numbers = list(combinations(range(len(rows)), 2))
    ends = draw(st.lists(st.sampled_from(numbers), max_size=6, unique=True))
    return rows, [Pair(first, second, "near", 0.9) for first, second in ends]


@given(data_sets())
def test_groups_are_what_copies_and_patients_join_however_indirectly(
    drawn: tuple[list[dict[str, Any]], list[Pair]],
) -> None:
    rows, pairs = drawn
    expected = [{number} for number in range(len(rows))]
    joined = [(pair.first, pair.second) for pair in pairs]
    joined += [
        (one, other)
        for one, other in combinations(range(len(rows)), 2)
        if rows[one]["patient"] == rows[other]["patient"] != ""
    ]
    for one, other in joined:
        both = expected[one] | expected[other]
        for number in both:
            expected[number] = both
    marked(rows, pairs)
    for one, other in combinations(range(len(rows)), 2):
        assert (rows[one]["group"] == rows[other]["group"]) == (other in expected[one])
        if rows[one]["radiograph"] == rows[other]["radiograph"]:
            assert rows[one]["group"] == rows[other]["group"]


@given(data_sets())
def test_without_the_leaked_images_no_group_stands_on_both_sides(
    drawn: tuple[list[dict[str, Any]], list[Pair]],
) -> None:
    rows, pairs = drawn
    marked(rows, pairs)
    clean = [row for row in rows if row["leaked"] == "no"]
    assert [row for row in rows if row["split"] == "train"] == [
        row for row in clean if row["split"] == "train"
    ]
    sides = {split: {row["group"] for row in clean if row["split"] == split} for split in
             ("train", "test")}  # fmt: skip
    assert not sides["train"] & sides["test"]
    assert all(row["group"] in sides["train"] for row in rows if row["leaked"] == "yes"), (
        "nothing else is left out"
    )
    counted = groups.counts(rows, pairs, rows)
    leaked = sum(row["leaked"] == "yes" for row in rows)
    assert sum(counted["leaked_test_images"].values()) == leaked
    by_kind = counted["copies"], counted["patients"]
    assert sum(kind["leaked_test_images"] for kind in by_kind) == leaked
