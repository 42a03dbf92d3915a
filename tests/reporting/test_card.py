import copy
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from stages import baselines
from stages.common import params
from stages.reporting import card
from tests import metrics_files

PARAMS = params.load(Path(__file__).resolve().parents[2] / "params.yaml")
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
    for key, found in inner:
        if isinstance(found, dict | list):
            yield from leaves(found, (*path, key))
        elif isinstance(found, int | float) and not isinstance(found, bool):
            yield (*path, key)


def change(found: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(found)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += 1 if isinstance(place[path[-1]], int) else 0.137
    return changed


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_every_number_of_the_metrics_is_in_the_card():
    found = metrics_files.make()
    shown = {name: found[name] for name in ("provenance", "data", "train", "test", "shortcuts")} | {
        "crossvalidation": {k: v for k, v in found["crossvalidation"].items() if k != "records"}
    }
    before = card.write(found, PARAMS)
    paths = [
        path
        for path in leaves(shown)
        if path[-3:-1] != ("intervals", "accuracy")  # stands there a second time
        and path[-1] not in {"group"}
        and not (path[0] == "shortcuts" and path[-1] == "images")  # as in test.json
    ]
    assert len(paths) > 150
    assert [path for path in paths if card.write(change(found, path), PARAMS) == before] == []


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


def test_no_figure_is_typed_by_hand():
    """Whatever digits are left when the values have none are names and references."""
    found = metrics_files.make()
    text = card.write(found, PARAMS).split("## References")[0]
    values = set(re.findall(r"\d+(?:\.\d+)?", repr(found) + repr(PARAMS)))
    rounded = {f"{float(value):.3f}" for value in values}
    clean = found["test"]["leak_free"]
    computed = {  # from two or more values: sums, widths, misses
        *(f"{sum(row.values()):,}" for row in found["data"]["images"].values()),
        f"{clean['accuracy_high'] - clean['accuracy_low']:.3f}",
        *(f"{1 - c['sensitivity']:.3f}" for c in clean["classes"].values()),
    }
    by_hand = {"95", "16", "40", "200", "1", "0", "2"}  # 95 %, sides in pixels, F1, Brier 0 to 2
    numbers = {n.replace(",", "") for n in re.findall(r"(?<!\w)\d[\d,]*(?:\.\d+)?", text)}
    known = values | rounded | {n.replace(",", "") for n in computed} | by_hand
    assert numbers - known == set()


def test_sides_in_words_are_those_of_the_shortcuts():
    assert f"{shortcuts.THUMBNAIL_SIDE} x {shortcuts.THUMBNAIL_SIDE}" in (
        card.BASELINES["thumbnail"].label
    )
    assert set(card.BASELINES) == set(metrics_files.BASELINES)


@given(classes=class_names, seed=st.integers(0, 2**32), name=folder_names)
@settings(max_examples=60, deadline=None)
def test_tables_are_well_formed_whatever_the_values_and_names(
    classes: list[str], seed: int, name: str
) -> None:
    random = Random(seed)
    found = metrics_files.make(
        classes, seed, random.choice(["holdout", "published"]), random.choice(["phantom", "kaggle"])
    )
    found["test"]["provenance"]["data"] = found["provenance"]["data"] = name
    found["data"]["unreadable_files"][0]["reason"] = name
    text = card.write(found, PARAMS)
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


@pytest.mark.parametrize("name", ["a|b", "a\\|b", "a\\", "_a_", "*a*", "<b>", "`a`", "![a](b)"])
def test_a_name_is_shown_literally(name: str) -> None:
    [rows] = rendered_tables(card.table(["name"], [[card.safe(name)]]))
    assert rows == [["name"], [name]]


def test_names_with_underscores_inside_stay_readable():
    name = "test/Covid/auntminnie-2020_01_31_x-ray_US.jpg"
    assert card.safe(name) == name


def test_phantoms_are_called_so_and_others_are_not():
    assert "SYNTHETIC PHANTOM" in card.write(metrics_files.make(source="phantom"), PARAMS)[:400]
    text = card.write(metrics_files.make(source="kaggle"), PARAMS)
    assert "SYNTHETIC" not in text
    assert "drew" not in text


def test_the_published_protocol_is_called_optimistic():
    text = card.write(metrics_files.make(protocol="published"), PARAMS)
    assert "**Optimistic by design.**" in text[:600]
    assert "they chose the stopping epoch and the temperature" in section(text, "Splits")
    assert "ptimistic" not in card.write(metrics_files.make(protocol="holdout"), PARAMS)


def test_words_on_shortcuts_depend_on_the_numbers():
    found = metrics_files.make()
    found["test"]["leak_free"] |= {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9}
    for name, value in (("thumbnail", 0.95), ("border", 0.8), ("file_properties", 0.5)):
        found["shortcuts"][name]["leak_free"] = {
            "images": 59,
            "accuracy": value,
            "accuracy_low": value - 0.2,
            "accuracy_high": value + 0.05,
        }
    found["shortcuts"]["majority_class"]["leak_free"]["accuracy"] = 0.4
    text = card.write(found, PARAMS)
    lines = {
        name: next(line for line in text.split("\n") if f"*{card.BASELINES[name].label}*" in line)
        for name in ("thumbnail", "border", "file_properties")
    }
    assert "0.950 [0.750, 1.000], above the network's interval" in lines["thumbnail"]
    assert "within the network's interval: the network can't be told from it" in lines["border"]
    assert (
        "it beats the majority class (0.400), so the classes differ in what lies outside"
        in (lines["border"])
    )
    assert "below the network's interval" in lines["file_properties"]
    assert "it can't be told from the majority class (0.400)" in lines["file_properties"]
    assert "no better than: thumbnail 16 x 16 (SVM) and border only (SVM).**" in text

    for record in found["shortcuts"].values():
        if "leak_free" in record:
            record["leak_free"]["accuracy"] = 0.69
    text = card.write(found, PARAMS)
    assert "**None of the baselines reaches the network's interval.**" in text
    assert "no better than" not in text


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.7, "higher than the 0.640 of an activation that is the same everywhere: the network "
         "looks at the border more"),
        (0.5, "lower than the 0.640 of an activation that is the same everywhere: the network "
         "looks at the centre more"),
        (0.6402, "the same as the 0.640 of an activation that is the same everywhere: the network "
         "prefers neither"),
    ],
)  # fmt: skip
def test_words_on_gradcam_depend_on_the_numbers(share: float, words: str) -> None:
    found = metrics_files.make()
    found["test"]["gradcam"] = {
        "images_with_activation": 3,
        "outside_chest_share": share,
        "outside_chest_share_if_uniform": 0.64,
    }
    assert words in card.write(found, PARAMS)


@pytest.mark.parametrize(
    ("temperature", "words"),
    [(0.3, "lower than one: before it, the probabilities were too timid"),
     (2.0, "higher than one: before it, the probabilities were too bold"),
     (1.0, "the same as one: before it, the probabilities were right")],
)  # fmt: skip
def test_words_on_calibration_depend_on_the_numbers(temperature: float, words: str) -> None:
    found = metrics_files.make()
    found["test"]["calibration"]["temperature"] = temperature
    assert words in card.write(found, PARAMS)


def test_leaks_and_contradictions_are_listed_with_their_copies():
    tables = rendered_tables(card.write(metrics_files.make(), PARAMS))
    [leaks] = [rows for rows in tables if rows[0][0] == "leaked test image"]
    assert leaks[1:] == [["test/Covid/1.png", "train/Covid/1.png"]]
    [contradictions] = [rows for rows in tables if rows[0] == ["files of one radiograph"]]
    assert contradictions[1:] == [["train/Covid/2.png, train/Normal/2.png"]]
    [unreadable] = [rows for rows in tables if rows[0][0] == "unreadable file"]
    assert unreadable[1:] == [["train/a|b/3.png", "it is empty (0 bytes)"]]


def test_tables_of_flaws_are_left_out_where_there_are_none():
    found = metrics_files.make()
    found["data"] |= {"copy_groups": [], "unreadable_files": []}
    for record in found["predictions"]:
        record["leaked"] = False
    assert len(raw_tables(card.write(found, PARAMS))) == 9
