from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.judging import occlusion
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


@pytest.mark.parametrize("verdict", [occlusion.ABOVE, occlusion.BY_FILLING, occlusion.NOT_ABOVE])
def test_what_is_known_without_the_lungs(verdict: str) -> None:
    details = metrics_files.make()["occlusion"] | {"verdict": verdict}
    for filling, area in (("grey", 0.75), ("blurred", 0.5)):
        details["covered"]["lungs"][filling] |= {
            "macro_auroc": area,
            "intervals": {"macro_auroc": [area - 0.125, area + 0.125]},
        }
    assert words.without_lungs(details) == (
        f"The network {verdict} (macro AUROC, of which chance is 0.5: 0.750 [0.625, 0.875] grey "
        "and 0.500 [0.375, 0.625] blurred)."
    )


def test_the_frames_that_are_above_chance_are_named() -> None:
    details = metrics_files.make()["occlusion"]
    for name, result in details["frames_alone"].items():
        result |= {"above_chance": name in {"frame_10", "frame_40"}, "macro_sensitivity": 0.5}
        result["intervals"] = {"macro_sensitivity": [0.375, 0.625]}
    assert words.frames_alone(details) == (
        "A frame alone tells the classes to a simple baseline: of the frame of 10 pixels (0.500 "
        "[0.375, 0.625]) and the frame of 40 pixels (0.500 [0.375, 0.625]) the macro sensitivity "
        "is above chance, 0.333."
    )
    for result in details["frames_alone"].values():
        result["above_chance"] = False
    assert "no baseline that sees a frame alone is shown" in words.frames_alone(details)


@pytest.mark.parametrize(
    ("low", "says"),
    [
        (0.125, "is the image itself, such as its edges"),
        (-0.125, "no sign that they show"),
    ],
)
def test_heat_maps_like_those_before_training_show_the_image(low: float, says: str) -> None:
    found = {"images": 60, "rank_correlation": 0.25, "intervals": {"rank_correlation": [low, 0.5]}}
    sentence = words.like_untrained({"against_untrained": found})
    assert f"0.250 [{low:.3f}, 0.500]" in sentence
    assert says in sentence
    assert "can't be compared" in words.like_untrained({"against_untrained": None})
