import copy
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from stages.common import params
from stages.judging import baselines
from stages.learning.dataset import SIZE
from stages.reporting import card
from tests import metrics_files

PARAMS = params.load_all(Path(__file__).resolve().parents[2] / "params.yaml")
folder_names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=30
).filter(lambda name: name not in {".", ".."} and name.strip())
# also names that are made of Markdown
class_names = st.lists(
    folder_names | st.text("|\\`*_[]<>!~&$# -a1\n", min_size=1).filter(str.strip),
    min_size=2,
    max_size=4,
    unique_by=lambda name: " ".join(name.split()),
)


def cells(line: str) -> list[str]:
    """The cells of a table's line as it stands in the file; a `|` after a backslash is none."""
    return re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]


def raw_tables(text: str) -> list[list[str]]:
    return [block.split("\n") for block in text.strip("\n").split("\n\n") if block.startswith("|")]


def rendered_tables(text: str) -> list[list[list[str]]]:
    """Rows of cells of every table, as a reader of the rendered page sees them."""
    tables: list[list[list[str]]] = []
    for token, following in _pairs(MarkdownIt("commonmark").enable("table").parse(text)):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in {"th_open", "td_open"}:
            tables[-1][-1].append("".join(part.content for part in following.children or ()))
    return tables


def _pairs(tokens: list[Token]) -> Iterator[tuple[Token, Token]]:
    return itertools.pairwise(tokens)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all numbers in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, content in inner:
        if isinstance(content, dict | list):
            yield from leaves(content, (*path, key))
        elif isinstance(content, int | float) and not isinstance(content, bool):
            yield (*path, key)


def change(results: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(results)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += 1 if isinstance(place[path[-1]], int) else 0.137
    return changed


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_every_number_of_the_metrics_is_in_the_card():
    results = metrics_files.make()
    names = ("provenance", "audit", "train", "evaluate", "baselines", "stability")
    shown = {name: results[name] for name in names}
    before = card.write(results, PARAMS)
    paths = [
        path
        for path in leaves(shown)
        if path[-3:-1] != ("intervals", "accuracy")  # stands there a second time
        and path[-1] not in {"group"}
        and not (path[0] == "baselines" and path[-1] == "images")  # as in evaluate.json
    ]
    assert len(paths) > 150
    assert [path for path in paths if card.write(change(results, path), PARAMS) == before] == []


def test_every_parameter_is_in_the_card():
    before = card.write(metrics_files.make(), PARAMS)
    for group in ("preprocess", "train", "evaluate", "crossvalidate"):
        for key, value in getattr(PARAMS, group).model_dump().items():
            other = [424242] if isinstance(value, list) else 424242
            changed = PARAMS.model_copy(
                update={group: getattr(PARAMS, group).model_copy(update={key: other})}
            )
            after = card.write(metrics_files.make(), changed)
            assert f"| `{group}.{key}` | {other} |" in after
            assert f"| `{group}.{key}` | {other} |" not in before


def test_no_number_is_typed_by_hand():
    """Whatever digits are left when the values have none are names and references."""
    results = metrics_files.make()
    text = card.write(results, PARAMS).split("## References")[0]
    values = set(re.findall(r"\d+(?:\.\d+)?", repr(results) + repr(PARAMS)))
    rounded = {f"{float(value):.3f}" for value in values}
    clean = results["evaluate"]["leak_free"]
    computed = {  # from two or more values: sums, widths, misses
        *(f"{sum(row.values()):,}" for row in results["audit"]["images"].values()),
        f"{clean['accuracy_high'] - clean['accuracy_low']:.3f}",
        *(f"{1 - c['sensitivity']:.3f}" for c in clean["classes"].values()),
    }
    by_hand = {"95", "16", "40", "200", "1", "0", "2"}  # 95 %, sides in pixels, F1, Brier 0 to 2
    numbers = {n.replace(",", "") for n in re.findall(r"(?<!\w)\d[\d,]*(?:\.\d+)?", text)}
    known = values | rounded | {n.replace(",", "") for n in computed} | by_hand
    assert numbers - known == set()


def test_a_missing_value_is_an_error() -> None:
    results = metrics_files.make()
    for path in leaves({name: results[name] for name in ("audit", "train", "evaluate")}):
        if path[:2] == ("audit", "copy_groups") or path[-3:-1] == ("intervals", "accuracy"):
            continue
        lacking = copy.deepcopy(results)
        place = lacking
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        with pytest.raises((jinja2.UndefinedError, KeyError, TypeError, ValueError)):
            card.write(lacking, PARAMS)


def test_sides_in_words_are_those_of_the_code() -> None:
    side, frame = baselines.LOW_RESOLUTION_SIDE, baselines.FRAME
    text = card.write(metrics_files.make(), PARAMS)
    assert card.BASELINES["low_resolution"] == f"low resolution ({side} x {side})"
    assert f"| the image reduced to {side} x {side} grey pixels |" in text
    assert f"| a frame of {frame} of {SIZE} pixels, the centre blacked out;" in text
    assert f"an image of {SIZE} x {SIZE} RGB pixels" in text
    assert set(re.findall(r"\d+ x \d+", text)) == {f"{side} x {side}", f"{SIZE} x {SIZE}"}
    assert set(card.BASELINES) == set(card.UNUSED) == set(metrics_files.BASELINES)


@given(classes=class_names, seed=st.integers(0, 2**32), name=folder_names)
@settings(max_examples=60, deadline=None)
def test_tables_are_well_formed_whatever_the_values_and_names(
    classes: list[str], seed: int, name: str
) -> None:
    random = Random(seed)
    results = metrics_files.make(
        classes, seed, random.choice(["holdout", "original"]), random.choice(["phantom", "kaggle"])
    )
    results["evaluate"]["provenance"]["data"] = results["provenance"]["data"] = name
    results["audit"]["unreadable_files"][0]["reason"] = name
    text = card.write(results, PARAMS)
    raw, rendered = raw_tables(text), rendered_tables(text)
    assert len(raw) == len(rendered) == 12
    for lines, rows in zip(raw, rendered, strict=True):
        assert len(lines) == len(rows) + 1  # the line of dashes
        assert {len(cells(line)) for line in lines} == {len(rows[0])}
    shown = [" ".join(name.split()) for name in classes]
    by_class = [rows for rows in rendered if rows[0][-1] == "AUROC"]
    assert [[row[0] for row in rows[1:]] for rows in by_class] == [shown, shown]
    titles = re.findall(r"(?m)^## (.*)$", text)
    parsed = MarkdownIt("commonmark").enable("table").parse(text)
    headings = [b.content for a, b in _pairs(parsed) if a.type == "heading_open" and a.tag == "h2"]
    assert headings == titles
    assert len(titles) == 14


@pytest.mark.parametrize(
    "name", ["- a", "a|b", "a\\|b", "a\\", "_a_", "*a*", "<b>", "`a`", "![](b)"]
)
def test_a_name_is_shown_literally(name: str) -> None:
    [rows] = rendered_tables(f"| name |\n| --- |\n| {card.shown(name)} |")
    assert rows == [["name"], [name]]


def test_names_with_underscores_inside_stay_readable():
    name = "test/Covid/auntminnie-2020_01_31_x-ray_US.jpg"
    assert card.shown(name) == name


def test_phantoms_are_called_so_and_others_are_not():
    assert "SYNTHETIC PHANTOM" in card.write(metrics_files.make(source="phantom"), PARAMS)[:400]
    text = card.write(metrics_files.make(source="kaggle"), PARAMS)
    assert "SYNTHETIC" not in text
    assert "drew" not in text


def test_the_original_protocol_is_called_optimistic():
    text = card.write(metrics_files.make(protocol="original"), PARAMS)
    assert "**Optimistic by design.**" in text[:600]
    assert "they chose the epoch to stop at and the temperature" in section(text, "Splits")
    assert "ptimistic" not in card.write(metrics_files.make(protocol="holdout"), PARAMS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.19, "below"), (0.2, "within"), (0.3, "within"), (0.31, "above")],
)
def test_an_interval_holds_its_ends(value: float, expected: str) -> None:
    assert card.position(value, 0.2, 0.3) == expected


def test_the_summary_compares_both_headlines_and_the_cross_validation() -> None:
    results = metrics_files.make()
    results["evaluate"]["all_test"]["accuracy"] = 0.9
    results["evaluate"]["leak_free"]["accuracy"] = 0.8
    results["stability"]["accuracy"] |= {"lowest": 0.7, "highest": 0.85}
    text = section(card.write(results, PARAMS), "In short")
    assert "higher than that without leaks, and above the range of the cross-validation" in text
    results["evaluate"]["all_test"]["accuracy"] = 0.75
    text = section(card.write(results, PARAMS), "In short")
    assert "lower than that without leaks, and within the range of the cross-validation" in text


def test_a_baseline_at_the_end_of_the_networks_interval_is_a_rival() -> None:
    results = metrics_files.make()
    results["evaluate"]["leak_free"]["accuracy_low"] = 0.7
    for name in metrics_files.BASELINES:
        results["baselines"][name]["leak_free"]["accuracy"] = 0.7 if name == "border" else 0.6
    assert "be shown to do better than: border only.**" in card.write(results, PARAMS)


def test_the_lowest_sensitivity_is_named_with_its_class() -> None:
    results = metrics_files.make()
    for name, value in (("Covid", 0.9), ("Normal", 0.75), ("Viral Pneumonia", 0.8)):
        results["evaluate"]["leak_free"]["classes"][name]["sensitivity"] = value
    text = card.write(results, PARAMS)
    assert "Normal has the lowest sensitivity: a share of 0.250 of its images was taken" in text


def test_words_on_baselines_depend_on_the_numbers():
    results = metrics_files.make()
    results["evaluate"]["leak_free"] |= {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9}
    for name, value in (("low_resolution", 0.95), ("border", 0.8), ("file_properties", 0.5)):
        results["baselines"][name]["leak_free"] = {
            "images": 59,
            "accuracy": value,
            "accuracy_low": value - 0.2,
            "accuracy_high": value + 0.05,
        }
    results["baselines"]["majority_class"]["leak_free"]["accuracy"] = 0.4
    text = card.write(results, PARAMS)
    lines = {
        name: next(line for line in text.split("\n") if f"*{card.BASELINES[name]}*" in line)
        for name in ("low_resolution", "border", "file_properties")
    }
    assert (
        "0.950 [0.750, 1.000], above the network's interval: it does better than the network. It "
        "beats the majority class (0.400), so the classes can partly be told apart at 16 x 16 "
        "pixels." in lines["low_resolution"]
    )
    assert (
        "within the network's interval: the network cannot be distinguished from it. It beats the "
        "majority class (0.400), so the classes differ in what lies outside" in lines["border"]
    )
    assert (
        "below the network's interval: alone it does not explain the network's accuracy. It "
        "cannot be distinguished from the majority class (0.400)." in lines["file_properties"]
    )
    assert (
        "be shown to do better than: low resolution (16 x 16) and border only.** Its accuracy is "
        "therefore no evidence that it uses detail finer than 16 x 16 pixels or the centre of the "
        "image." in text
    )

    results["baselines"]["majority_class"]["leak_free"]["accuracy"] = 0.56
    text = card.write(results, PARAMS)
    assert "network's accuracy. It does worse than the majority class (0.560)." in text

    for record in results["baselines"].values():
        if "leak_free" in record:
            record["leak_free"]["accuracy"] = 0.69
    text = card.write(results, PARAMS)
    assert "**None of the baselines reaches the network's interval.**" in text
    assert "be shown to do better than" not in text


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.7, ("higher than the 0.640", "the network looks more at the border.")),
     (0.5, ("lower than the 0.640", "the network looks more at the centre.")),
     (0.6402, ("the same as the 0.640", "the network prefers neither the border nor the centre."))],
)  # fmt: skip
def test_words_on_gradcam_depend_on_the_numbers(share: float, words: tuple[str, str]) -> None:
    results = metrics_files.make()
    gradcam = {"images_with_activation": 3, "outside_centre_share": share}
    results["evaluate"]["gradcam"] = gradcam | {"outside_centre_share_if_uniform": 0.64}
    text = section(card.write(results, PARAMS), "Baselines")
    assert all(part in text for part in words)
    gradcam["images_with_activation"] = 0
    results["evaluate"]["gradcam"] = gradcam | {"outside_centre_share_if_uniform": 0.64}
    text = section(card.write(results, PARAMS), "Baselines")
    assert "no test image has any activation" in text
    assert not any(part in text for part in words)


@pytest.mark.parametrize(
    ("temperature", "words"),
    [(0.3, "lower than one: without it, the network is underconfident on the validation images"),
     (2.0, "higher than one: without it, the network is overconfident on the validation images"),
     (1.0, "the same as one: without it, the network is neither underconfident nor overconfident")],
)  # fmt: skip
def test_words_on_the_temperature_depend_on_it(temperature: float, words: str) -> None:
    results = metrics_files.make()
    results["evaluate"]["calibration"]["temperature"] = temperature
    assert words in card.write(results, PARAMS)


def test_what_the_temperature_does_is_told_of_each_metric() -> None:
    results = metrics_files.make()
    results["evaluate"]["calibration"] = {
        "temperature": 0.266,
        "before": {"loss": 0.2872, "brier": 0.1402, "expected_calibration_error": 0.1444},
        "after": {"loss": 0.3211, "brier": 0.0956, "expected_calibration_error": 0.1441},
    }
    text = section(card.write(results, PARAMS), "Calibration")
    assert (
        "the log loss rises from 0.287 to 0.321, the Brier score falls from 0.140 to 0.096 and "
        "the expected calibration error stays at 0.144; lower is better for all three." in text
    )
    reason = "the log loss punishes confident wrong answers most"
    assert reason in text
    results["evaluate"]["calibration"]["temperature"] = 1.5
    assert reason not in card.write(results, PARAMS)
    results["evaluate"]["calibration"]["temperature"] = 0.266
    results["evaluate"]["calibration"]["after"]["loss"] = 0.2
    text = section(card.write(results, PARAMS), "Calibration")
    assert "the log loss falls from 0.287 to 0.200" in text
    assert reason not in text


def test_the_prior_of_the_temperature_is_told() -> None:
    results = metrics_files.make()
    text = section(card.write(results, PARAMS), "Calibration")
    assert "with a weak prior that draws it towards one" in text
    assert "only the prior" not in text
    results["train"]["val_accuracy"] = 1.0
    text = section(card.write(results, PARAMS), "Calibration")
    assert "As all of these are correctly classified, only the prior keeps" in text


def test_copies_among_the_test_images_are_told_beside_their_intervals() -> None:
    results = metrics_files.make()
    title, narrow = "How the intervals are made", "which makes the intervals there a little too"
    text = section(card.write(results, PARAMS), title)
    assert "Among all test images, none was found to be a copy of another.\n" in text
    groups = results["audit"]["copy_groups"]
    groups.append({"group": 7, "kinds": ["near"], "files": ["test/a/1", "test/a/2"]})
    text = section(card.write(results, PARAMS), title)
    assert f"Among all test images, 1 image is a copy of another, {narrow}" in text
    groups.append({"group": 8, "kinds": ["near"], "files": ["test/a/3", "test/a/4", "test/a/5"]})
    text = section(card.write(results, PARAMS), title)
    assert f"Among all test images, 3 images are copies of another, {narrow}" in text


def test_early_stopping_is_named_only_where_it_ended_the_training() -> None:
    results = metrics_files.make()
    text = card.write(results, PARAMS)
    assert "Early stopping ended it after 4 epochs." in text
    results["train"]["epochs"] = PARAMS.train.epochs
    text = card.write(results, PARAMS)
    assert "Early stopping ended" not in text
    assert f"It ran for {PARAMS.train.epochs} epochs, the most that was allowed." in text


def test_leaks_and_contradictions_are_listed_with_their_copies():
    tables = rendered_tables(card.write(metrics_files.make(), PARAMS))
    [leaks] = [rows for rows in tables if rows[0][0] == "leaked test image"]
    assert leaks[1:] == [["test/Covid/1.png", "train/Covid/1.png"]]
    [contradictions] = [rows for rows in tables if rows[0] == ["files of one radiograph"]]
    assert contradictions[1:] == [["train/Covid/2.png, train/Normal/2.png"]]
    [unreadable] = [rows for rows in tables if rows[0][0] == "unreadable file"]
    assert unreadable[1:] == [["train/a|b/3.png", "it is empty (0 bytes)"]]


def test_tables_of_flaws_are_left_out_where_there_are_none():
    results = metrics_files.make()
    results["audit"] |= {"copy_groups": [], "unreadable_files": []}
    for record in results["predictions"]:
        record["leaked"] = False
    assert len(raw_tables(card.write(results, PARAMS))) == 9
