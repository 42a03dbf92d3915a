from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.reporting import words
from tests import metrics_files


def compared(verdict: str, best: str = "low_resolution_16") -> dict[str, Any]:
    compare: dict[str, Any] = metrics_files.make()["compare"]
    compare["pooled"] |= {"accuracy": 0.94, "accuracy_low": 0.907, "accuracy_high": 0.962}
    compare["baselines"][best]["accuracy"] = 0.9444
    return compare | {"best": best, "verdict": verdict}


def test_how_good_says_how_sure() -> None:
    assert words.how_good(compared("better")) == (
        "The right class was named for 94.0 % of 300 radiographs (95 % interval: 90.7 % to "
        "96.2 %), each time by a network that had not been trained on it."
    )


@pytest.mark.parametrize(
    ("verdict", "begins", "ends"),
    [
        ("better", "This is better than", "whether the network reads lungs is another question."),
        ("worse", "This is worse than", "no evidence that the network uses anything beyond that."),
        (
            "not distinguishable",
            "This is not distinguishable from",
            "no evidence that the network uses anything beyond that.",
        ),
    ],
)
def test_how_much_better_follows_the_verdict(verdict: str, begins: str, ends: str) -> None:
    sentence = words.how_much_better(compared(verdict))
    assert sentence.startswith(
        f"{begins} the best of 11 simple baselines, which sees only 16 x 16 grey pixels and is "
        "right for 94.4 %: "
    )
    assert sentence.endswith(ends)
    assert ("does not explain it" in sentence) == (verdict == "better")


@pytest.mark.parametrize("best", words.SEES)
def test_every_baseline_can_be_the_best(best: str) -> None:
    sentence = words.how_much_better(compared("worse", best))
    assert f"sees only {words.SEES[best]} and is right" in sentence


@pytest.mark.parametrize(
    ("images", "called", "expected"),
    [
        (1, 1, "1 of 1 image that is not a b was called a b"),
        (1000, 0, "0 of 1,000 images that are not a b were called a b"),
    ],
)
def test_false_positives_are_counted(images: int, called: int, expected: str) -> None:
    rate = {"class": "a\n b", "images": images, "called": called}
    assert words.false_positives(rate) == expected


@given(
    st.dictionaries(
        st.text(max_size=3),
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3),
        max_size=50,
    )
)
def test_no_image_is_lost_where_there_are_many_sources(counts: dict[str, dict[str, int]]) -> None:
    table = words.sources({"sources": counts})
    assert len(table) <= words.LONGEST_LIST + 1
    for name in "abc":
        expected = sum(row.get(name, 0) for row in counts.values())
        assert sum(row.get(name, 0) for row in table.values()) == expected
    told = words.told_by_source(counts)
    for name in "abc":
        held = [row for row in counts.values() if row.get(name)]
        alone = all(sum(row.values()) == row[name] for row in held)
        assert (name in told) == (bool(held) and alone)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-0.0004, "+0.000"), (0.0004, "+0.000"), (-0.0006, "-0.001"), (0.25, "+0.250")],
)
def test_a_difference_has_a_sign_and_zero_no_minus(value: float, expected: str) -> None:
    row = {"difference": value, "low": value, "high": value}
    assert words.difference(row) == f"{expected} [{expected}, {expected}]"


@pytest.mark.parametrize(
    ("p", "expected"), [(0.00099, "p < 0.001"), (0.001, "p = 0.001"), (1.0, "p = 1.000")]
)
def test_a_p_value_is_never_shown_as_zero(p: float, expected: str) -> None:
    assert words.p_value(p) == expected
