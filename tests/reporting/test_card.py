import itertools
import operator
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import jinja2
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from stages.common import params
from stages.judging import baselines
from stages.learning.dataset import SIZE
from stages.learning.settings import Train
from stages.reporting import card, charts, words
from tests import metrics_files

PROJECT = Path(__file__).resolve().parents[2]
PARAMS = params.load_all(PROJECT / "params.yaml")
USED = dict(PARAMS.recipes)[PARAMS.train.recipe]
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


def altered(tree: Any, path: tuple[Any, ...], alter: Callable[[Any, Any], None]) -> Any:
    """A copy of a JSON value in which `alter(container, key)` was called at a path."""
    copied = tree.copy()  # what is not on the path is shared
    if len(path) == 1:
        alter(copied, path[0])
    else:
        copied[path[0]] = altered(tree[path[0]], path[1:], alter)
    return copied


def change(container: Any, key: Any) -> None:
    container[key] += 1 if isinstance(container[key], int) else 0.137


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def in_the_card(results: dict[str, Any], path: tuple[Any, ...]) -> bool:
    """Whether a number is for the card; the rest is for those who open the details."""
    best = results["compare"]["best"]
    match path:
        case (*_, "intervals", "accuracy", _):  # stands there a second time
            return False
        case ("audit", "copy_groups", *_) | ("evaluate", "by_source", *_):
            return False
        case ("evaluate", "by_label", _, "classes") | ("external", "folders", _, "unreadable"):
            return False
        case ("occlusion", "covered", _, _, "images") | ("occlusion", "classes"):
            return False  # as above, and as the metrics say
        case ("occlusion", "frames_alone", name, number, *_):
            return number in {"macro_sensitivity", "intervals"} and name != "frame_5"
        case ("compare", "pooled" | "cross_validated", "classes", *_):
            return False
        case ("compare", "cross_validated", name, *_):
            return name in {"images", "accuracy", "accuracy_low", "accuracy_high"}
        case ("compare", "by_source", "clinic|A", *_):  # a single class
            return False
        case ("compare", "by_label" | "by_source", _, "baselines", name, number):
            return bool(name == best and number != "images")
        case ("compare", "baselines", _, "cross_validated" | "p", *_):
            return False
        case ("compare", "baselines", name, "resampled_t", _):
            return bool(name == best)
        case ("compare", "baselines", _, "test" | "leak_free", "images"):  # as in evaluate.json
            return False
    return True


def numbers_in_the_card(results: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("provenance", "audit", "train", "evaluate", "compare", "external", "occlusion")
    shown = {name: results[name] for name in names}
    return [path for path in leaves(shown) if in_the_card(results, path)]


def test_every_number_of_the_metrics_is_in_the_card() -> None:
    results = metrics_files.make()
    before = card.write(results, PARAMS)
    paths = numbers_in_the_card(results)
    assert len(paths) > 400
    assert [
        path for path in paths if card.write(altered(results, path, change), PARAMS) == before
    ] == []


def test_every_parameter_is_in_the_card() -> None:
    before = card.write(metrics_files.make(), PARAMS)
    groups = dict(PARAMS) | {f"recipes.{PARAMS.train.recipe}": USED}
    for group, values in groups.items():
        for key in Train.model_fields if group == "train" else type(values).model_fields:
            if (group, key) == ("train", "recipe") or getattr(values, key) is None:
                continue
            changed = values.model_copy(update={key: 4242})
            update = {group: changed}
            if values is USED:
                recipes = PARAMS.recipes.model_copy(update={PARAMS.train.recipe: changed})
                update = {"recipes": recipes}
            after = card.write(metrics_files.make(), PARAMS.model_copy(update=update))
            [line] = [line for line in after.split("\n") if line.startswith(f"| `{group}` |")] or [
                ""
            ]
            assert (f" `{key}` 4242" in line) == (group not in ("download", "machine"))
            assert f"`{key}` 4242" not in before
    assert f"| `train` | `recipe` {PARAMS.train.recipe}, `seed` 0, " in before


def test_of_the_recipes_the_one_that_was_used_is_in_the_card() -> None:
    text = card.write(metrics_files.make(), PARAMS)
    assert re.findall(r"\| `recipes\.(\w+)` \|", text) == [PARAMS.train.recipe]
    values = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))
    values["train"]["recipe"] = "original"
    text = card.write(metrics_files.make(protocol="original"), params.parse(values))
    [line] = [line for line in text.split("\n") if line.startswith("| `recipes.")]
    assert line.startswith("| `recipes.original` | `validation` original, `optimizer` adam, ")
    assert line.endswith("`patience` 8, `min_delta` 0.001, `weights` last |")


def test_no_number_is_typed_by_hand() -> None:
    """Whatever digits are left when the values have none are names and references."""
    results = metrics_files.make()
    text = card.write(results, PARAMS).split("## References")[0]
    values = set(re.findall(r"\d+(?:\.\d+)?", repr(results) + repr(PARAMS)))
    rounded = {f"{float(value):.3f}" for value in values}
    clean, pooled = results["evaluate"]["leak_free"], results["compare"]["pooled"]
    audit = results["audit"]
    images = [sum(row.values()) for row in audit["images"].values()]
    labels = list(audit["records"]["labels"].values())
    computed = {  # from two or more values: sums, widths, misses
        *map(str, images),
        str(sum(images) - audit["patients"]["known"]),
        str(sum(images)),
        *(str(sum(row[kind] for row in labels)) for kind in metrics_files.LABELS),
        str(sum(sum(row.values()) for row in labels)),
        str(sum(sum(row.values()) for row in audit["records"]["sources"].values())),
        "0.500",  # the larger of the equal classes in hospital B
        *(f"{r['accuracy_high'] - r['accuracy_low']:.3f}" for r in (clean, pooled)),
        *(f"{1 - c['sensitivity']:.3f}" for c in clean["classes"].values()),
        *(f"{100 * pooled[f'accuracy{end}']:.1f}" for end in ("", "_low", "_high")),
        f"{100 * results['compare']['baselines'][results['compare']['best']]['accuracy']:.1f}",
        str(len(results["compare"]["baselines"])),
        "90.0",  # the coverage in per cent
        f"{1 / results['occlusion']['classes']:.3f}",  # what chance reaches
    }
    # 95 %, sides and frames in pixels, F1, J, Brier 0 to 2, the level of the test
    by_hand = {"95", "8", "16", "32", "5", "10", "20", "40", "200", "1", "0", "2", "0.05"}
    numbers = {n.replace(",", "") for n in re.findall(r"(?<!\w)\d[\d,]*(?:\.\d+)?", text)}
    assert numbers - (values | rounded | computed | by_hand) == set()


def test_a_missing_value_is_an_error() -> None:
    results = metrics_files.make()
    for path in numbers_in_the_card(results):
        if path[:3] == ("audit", "records", "sources") or path[3:4] == ("classes",):
            continue  # a class that is not named there has no image
        lacking = altered(results, path, operator.delitem)
        with pytest.raises((jinja2.UndefinedError, KeyError, TypeError, ValueError)):
            card.write(lacking, PARAMS)


def test_names_and_sides_in_words_are_those_of_the_code() -> None:
    text = card.write(metrics_files.make(), PARAMS)
    assert tuple(words.BASELINES) == tuple(words.SEES) == metrics_files.BASELINES
    assert list(words.VERDICTS) == list(charts.VERDICTS) == list(metrics_files.VERDICTS)
    assert (
        words.SEES[f"frame_{baselines.FRAME}"]
        == f"the outermost {baselines.FRAME} of {SIZE} pixels"
    )
    for name, sees in words.SEES.items():
        assert f"\n| {words.BASELINES[name]} | {sees} | " in text
    assert f"an image of {SIZE} x {SIZE} RGB pixels" in text


@given(
    classes=class_names,
    seed=st.integers(0, 2**32),
    name=folder_names,
    records=st.booleans(),
    external=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_tables_are_well_formed_whatever_the_values_and_names(
    classes: list[str], seed: int, name: str, records: bool, external: bool
) -> None:
    random = Random(seed)
    results = metrics_files.make(
        classes,
        seed,
        random.choice(["none", "holdout", "original"]),
        random.choice(["phantom", "kaggle"]),
        records,
        external,
    )
    results["evaluate"]["provenance"]["data"] = results["provenance"]["data"] = name
    results["audit"]["unreadable_files"][0]["reason"] = name
    if records:
        results["audit"]["records"] |= {"table": name, "sources": {name: {classes[0]: 3}}}
        results["audit"]["records"]["contradicting"][0] |= {"source": name, "finding": name}
        results["compare"]["by_source"][name] = results["compare"]["by_source"].pop("hospital B")
    if external:
        results["external"] |= {
            "set": name,
            "folders": {name: results["external"]["folders"]["Ill"]},
        }
    text = card.write(results, PARAMS)
    raw, rendered = raw_tables(text), rendered_tables(text)
    by_records = (5 if len(classes) > 2 else 4) if records else 0
    assert len(raw) == len(rendered) == 15 + by_records + (3 if external else 0)
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
    assert len(titles) == 15


@pytest.mark.parametrize(
    "name", ["- a", "a|b", "a\\|b", "a\\", "_a_", "*a*", "<b>", "`a`", "![](b)"]
)
def test_a_name_is_shown_literally(name: str) -> None:
    [rows] = rendered_tables(f"| name |\n| --- |\n| {card.shown(name)} |")
    assert rows == [["name"], [name]]


def test_names_with_underscores_inside_stay_readable() -> None:
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
    assert "they chose the epoch to stop at, and are then judged" in section(text, "Splits")
    assert "ptimistic" not in card.write(metrics_files.make(protocol="holdout"), PARAMS)


@given(
    seed=st.integers(0, 2**32),
    protocol=st.sampled_from(["none", "holdout", "original"]),
    source=st.sampled_from(["phantom", "kaggle"]),
    records=st.booleans(),
    external=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_sentences_follow_the_numbers(
    seed: int, protocol: str, source: str, records: bool, external: bool
) -> None:
    random = Random(seed)
    results = metrics_files.make(
        seed=seed, protocol=protocol, source=source, records=records, external=external
    )
    audit, compare = results["audit"], results["compare"]
    audit["patients"]["known"] = random.choice([0, 7])
    compare["judged"] = random.choice([compare["radiographs"], 300])
    text = card.write(results, PARAMS)
    short = section(text, "In short")
    assert short.strip().startswith(
        f"**{words.how_good(compare)} {words.how_much_better(compare)}**"
    )
    says = {
        "belongs to patients who are in train/ too": compare["judged"] < compare["radiographs"],
        "The 53 of these radiographs that are in `test/` alone were judged by the network that "
        "they helped to choose": protocol == "original",
        "labels contradict what the source says": records,
        "(`audit.labels: verified`)": records,
        "No source of Covid holds any other class, so that this class can be told": records,
        "**There is no external validation:**": not external,
        "**On images from elsewhere, ": external,
    }
    assert {said: said in short for said in says} == says
    says = {
        "SYNTHETIC PHANTOM": source == "phantom",
        "the class that the program drew": source == "phantom",
        "**Optimistic by design.**": protocol == "original",
        "they chose the epoch to stop at, and are then judged": protocol == "original",
        "Protocol `holdout`": protocol == "holdout",
        "; no image of train/ was held out, and test/ decided nothing.": protocol == "none",
        "No image of `train/` was held out: all of them": protocol == "none",
        "none for early stopping. It ran for the 4 epochs of the recipe.": protocol == "none",
        " on the training images, ": protocol != "none",
        "and stopped by images of `train/` outside its fold": protocol != "none",
        "There is no table of records:": not records,
        "| source |": records,
        "(baseline *source*)": records,
        "(charts/sources.png)": records,
        "There was no external set.": not external,
        "There is no external validation.": not external,
        "The external set is one other": external,
        "- Patients: unknown": audit["patients"]["known"] == 0,
        "- Patients: known for 7 of": audit["patients"]["known"] == 7,
        "nothing tells patients apart": audit["patients"]["known"] == 0,
    }
    assert {said: said in text for said in says} == says


def test_the_verdict_is_followed_by_the_difference() -> None:
    results = metrics_files.make()
    row = results["compare"]["baselines"]["low_resolution_16"]
    row |= {"difference": -0.0037, "difference_low": -0.033, "difference_high": 0.0234}
    row["p_holm"] = 0.84
    results["compare"]["best"] = "low_resolution_16"
    assert (
        "** Network minus 16 x 16 pixels: -0.004 [-0.033, +0.023] (exact McNemar test with Holm's "
        "correction: p = 0.840)." in section(card.write(results, PARAMS), "In short")
    )


def test_the_false_positive_rate_stands_beside_the_accuracy() -> None:
    results = metrics_files.make()
    rate = {"class": "Covid", "images": 1000, "called": 962, "share": 0.962}
    still = {"called": 800, "share": 0.8, "low": 0.774, "high": 0.8236}
    results["external"]["false_positive_rate"] = rate | {
        "low": 0.9483,
        "high": 0.9722,
        "with_refusal": still,
    }
    text = section(card.write(results, PARAMS), "In short")
    assert (
        "**On images from elsewhere, 962 of 1,000 images that are not Covid were called Covid:** "
        "0.962 [0.948, 0.972]. Without those that are refused it is 800, 0.800 [0.774, 0.824].\n"
        in text.split("| metric |")[0]
    )


def test_external_folders_are_shown_with_what_they_were_called() -> None:
    results = metrics_files.make()
    folder = results["external"]["folders"]["Ill"]
    folder["called"]["Normal"] = {"images": 3, "share": 0.25, "low": 0.1, "high": 0.5}
    empty = {"class": "Normal", "images": 0, "copies_left_out": 4, "unreadable": 0, "called": {}}
    empty |= {"refused": {}, "called_if_accepted": {}}
    results["external"]["folders"]["empty"] = empty
    tables = rendered_tables(card.write(results, PARAMS))
    [folders] = [rows for rows in tables if rows[0][0] == "folder"]
    assert folders[0][3:6] == ["called Covid", "called Normal", "called Viral Pneumonia"]
    assert folders[2][4] == "3: 0.250 [0.100, 0.500]"
    assert folders[3] == ["empty", "Normal", "0", "none", "none", "none", "4"]
    [refused] = [rows for rows in tables if rows[0][0].startswith("folder: images that are ref")]
    gone = folder["refused"]
    assert refused[2][1] == f"{gone['images']}: {words.interval(gone, 'share')}"
    assert refused[3] == ["empty", "none", "none", "none", "none"]
    [classes] = [rows for rows in tables if rows[0][0] == "class"]
    assert classes[2][:3] == ["Normal", "0", "none"]


def test_only_sources_with_several_classes_are_judged_within() -> None:
    results = metrics_files.make()
    rows = results["compare"]["by_source"]
    rows["hospital B"]["classes"] = {"Covid": 0, "Normal": 30, "Viral Pneumonia": 10}
    [within] = [
        rows
        for rows in rendered_tables(card.write(results, PARAMS))
        if "share of largest class" in rows[0]
    ]
    best = rows["hospital B"]["baselines"][results["compare"]["best"]]
    network = rows["hospital B"]["network"]
    assert within[1:] == [
        [
            "hospital B",
            str(network["images"]),
            "0.750",
            words.interval(network),
            words.interval(best),
        ]
    ]
    rows["hospital B"]["classes"] = {"Normal": 30}
    text = card.write(results, PARAMS)
    assert "share of largest class" not in text
    assert "No source has radiographs of two classes, so that nothing can be judged" in text


def test_contradicting_labels_are_counted_over_both_splits() -> None:
    results = metrics_files.make()
    counts = {"agrees": 4, "contradicts": 0, "unknown": 2}
    results["audit"]["records"]["labels"] = {
        "train": counts | {"contradicts": 1},
        "test": counts,
    }
    text = section(card.write(results, PARAMS), "In short")
    assert "By the records, 1 of 13 labels contradicts what the source says" in text
    assert "0 of them in test/." in text
    results["audit"]["records"]["labels"]["test"] = counts | {"contradicts": 2}
    text = section(card.write(results, PARAMS), "In short")
    assert "By the records, 3 of 15 labels contradict what the source says" in text
    assert "2 of them in test/." in text


def test_of_many_contradicting_labels_the_first_are_listed() -> None:
    results = metrics_files.make()
    first = results["audit"]["records"]["contradicting"][0]
    for number, more in ((30, None), (31, "And 1 more, in"), (2000, "And 1,970 more, in")):
        results["audit"]["records"]["contradicting"] = [
            first | {"file": f"{split}/a/{one}.png"}
            for split in ("train", "test")
            for one in range(number)
        ]
        text = card.write(results, PARAMS)
        [rows] = [rows for rows in rendered_tables(text) if "contradicts its source" in rows[0][0]]
        assert [row[0] for row in rows[1:]] == [f"test/a/{one}.png" for one in range(30)]
        assert (more or "And ") in text if more else "And " not in text


def test_the_lowest_sensitivity_is_named_with_its_class() -> None:
    results = metrics_files.make()
    for name, value in (("Covid", 0.9), ("Normal", 0.75), ("Viral Pneumonia", 0.8)):
        results["evaluate"]["leak_free"]["classes"][name]["sensitivity"] = value
    text = card.write(results, PARAMS)
    assert "Normal has the lowest sensitivity: a share of 0.250 of its images was taken" in text


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.7, ("higher than the 0.640", "the network looks more at the border.")),
     (0.5, ("lower than the 0.640", "the network looks more at the centre.")),
     (0.6402, ("the same as the 0.640", "the network prefers neither the border nor the centre."))],
)  # fmt: skip
def test_words_on_gradcam_depend_on_the_numbers(share: float, words: tuple[str, str]) -> None:
    results = metrics_files.make()
    gradcam = results["evaluate"]["gradcam"]
    gradcam |= {"images_with_activation": 3, "outside_centre_share": share}
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
    [(0.3, "lower than one: without it, the network is underconfident on radiographs that"),
     (2.0, "higher than one: without it, the network is overconfident on radiographs that"),
     (1.0, "the same as one: without it, the network is neither underconfident nor overconfident")],
)  # fmt: skip
def test_words_on_the_temperature_depend_on_it(temperature: float, words: str) -> None:
    results = metrics_files.make()
    results["evaluate"]["calibration"]["temperature"] = temperature
    assert words in card.write(results, PARAMS)


def test_what_the_temperature_does_is_told_of_each_metric() -> None:
    results = metrics_files.make()
    calibration = results["evaluate"]["calibration"]
    calibration["temperature"] = 0.266
    calibration["before"] |= {"loss": 0.2872, "brier": 0.1402}
    calibration["after"] |= {"loss": 0.3211, "brier": 0.0956}
    text = section(card.write(results, PARAMS), "Calibration")
    assert (
        "With the temperature, the log loss rises from 0.287 to 0.321 and the Brier score falls "
        "from 0.140 to 0.096; lower is better for both." in text
    )
    reason = "the log loss punishes confident wrong answers most"
    assert reason in text
    calibration["temperature"] = 1.5
    assert reason not in card.write(results, PARAMS)
    calibration["temperature"] = 0.266
    calibration["after"]["loss"] = 0.2
    text = section(card.write(results, PARAMS), "Calibration")
    assert "the log loss falls from 0.287 to 0.200" in text
    assert reason not in text


@pytest.mark.parametrize(
    ("after", "said"),
    [(0.09, "found is no more than chance makes."), (0.11, "found is more than chance makes.")],
)
def test_the_calibration_error_stands_beside_that_of_chance(after: float, said: str) -> None:
    results = metrics_files.make()
    calibration = results["evaluate"]["calibration"]
    calibration["by_chance"] = {"mean": 0.05, "high": 0.1}
    calibration["after"]["expected_calibration_error"] = after
    text = section(card.write(results, PARAMS), "Calibration")
    assert "would show 0.050 on so few images by chance, and in 95 % of the cases no more" in text
    assert said in text


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.7, 0.89, "fewer than that;"),
        (0.7, 0.91, "which agrees with that;"),
        (0.91, 0.99, "more than that;"),
    ],
)
def test_the_coverage_is_held_against_what_was_asked_for(
    low: float, high: float, said: str
) -> None:
    results = metrics_files.make()
    share = {"images": 52, "count": 45, "share": 0.8654, "low": low, "high": high}
    results["evaluate"]["sets"]["covered"] = share
    text = section(card.write(results, PARAMS), "Calibration")
    assert (
        "in 90.0 % of the cases. It does for 45 of 52 test images without leaks, 0.865 "
        f"[{low:.3f}, {high:.3f}], {said}" in text
    )
    assert "it promises nothing for another hospital, for a single class or for a single" in text


def test_early_stopping_is_named_only_where_it_ended_the_training() -> None:
    results = metrics_files.make()
    text = card.write(results, PARAMS)
    assert "Early stopping ended it after 4 epochs." in text
    results["train"]["epochs"] = PARAMS.train.epochs
    text = card.write(results, PARAMS)
    assert "Early stopping ended" not in text
    assert f"It ran for {PARAMS.train.epochs} epochs, the most that was allowed." in text


def test_leaks_and_contradictions_are_listed_with_their_copies() -> None:
    results = metrics_files.make()
    leaked = {"file": "test/Covid/9.png", "actual": "Covid", "predicted": "Covid", "leaked": True}
    results["predictions"].append(leaked)  # by its patient: no copy
    tables = rendered_tables(card.write(results, PARAMS))
    [leaks] = [rows for rows in tables if rows[0][0] == "leaked test image"]
    assert leaks[1:] == [
        ["test/Covid/1.png", "train/Covid/1.png"],
        ["test/Covid/9.png", "none, but a radiograph of the same group"],
    ]
    [contradictions] = [rows for rows in tables if rows[0] == ["files of one radiograph"]]
    assert contradictions[1:] == [["train/Covid/2.png, train/Normal/2.png"]]
    [unreadable] = [rows for rows in tables if rows[0][0] == "unreadable file"]
    assert unreadable[1:] == [["train/a|b/3.png", "it is empty (0 bytes)"]]


def test_it_stays_short_however_large_the_set_is() -> None:
    results = metrics_files.make()
    few = len(card.write(results, PARAMS))
    files = [f"{split}/Covid/{n}.png" for n in range(4000) for split in ("test", "train")]
    leaked = {"actual": "Covid", "predicted": "Covid", "leaked": True}
    results["predictions"] += [{"file": file, **leaked} for file in files[::2]]
    results["audit"]["copy_groups"] = [
        {"radiograph": 0, "kinds": ["near"], "files": files[:2000]},
        *(
            {"radiograph": n, "kinds": ["near"], "files": [f"train/{name}/{n}" for name in "ab"]}
            for n in range(1, 900)
        ),
    ]
    results["audit"]["unreadable"] = 500
    results["audit"]["unreadable_files"] = [
        {"file": f"train/a/{n}", "reason": "cut"} for n in files
    ]
    text = card.write(results, PARAMS)
    assert len(text) < few + 20_000
    tables = rendered_tables(text)
    for heading, left, place in (
        ("leaked test image", 4001 - 30, "`data/audit.csv`"),
        ("files of one radiograph", 899 - 30, "`metrics/details/audit.json`"),
        ("unreadable file", 470, "`metrics/details/audit.json`"),
    ):
        [rows] = [rows for rows in tables if rows[0][0] == heading]
        assert len(rows) == 31
        assert f"And {left:,} more, in {place}." in text
    [leaks] = [rows for rows in tables if rows[0][0] == "leaked test image"]
    assert leaks[2][1].startswith("train/Covid/0.png, train/Covid/1.png, ")
    assert leaks[2][1].endswith(", train/Covid/5.png, and 994 more")


def test_what_is_done_otherwise_with_large_sets_is_told_there_alone() -> None:
    results = metrics_files.make()
    results["audit"]["groups"] = 5000
    text = card.write(results, PARAMS)
    assert "percentiles where BCa is undefined)." in text
    assert "approximated" not in text
    results["audit"]["groups"] = 5001
    results["compare"]["approximation"] = {"components": 1000, "trained_on": 10_000}
    text = card.write(results, PARAMS)
    assert "where BCa is undefined or there are more than 5,000 groups)." in text
    assert "With more than 5,000 images to train on, a support vector machine is a least" in text
    assert "(1,000 components), and is trained on a stratified sample of at most 10,000." in text


def test_leaks_are_told_by_class_and_at_equal_class_weights() -> None:
    results = metrics_files.make()
    evaluate = results["evaluate"]
    evaluate["all_test"] |= {"accuracy": 0.9, "macro_sensitivity": 0.88}
    evaluate["leak_free"] |= {"accuracy": 0.85, "macro_sensitivity": 0.8804}
    text = card.write(results, PARAMS)
    assert "the accuracy falls from 0.900 to 0.850; at equal class weights" in text
    assert "which no mix of classes moves, it stays at 0.880." in text
    [rows] = [rows for rows in rendered_tables(text) if rows[0][:2] == ["test images", "all"]]
    for name, *numbers in rows[1:]:
        assert numbers == [
            str(evaluate["all_test"]["classes"][name]["images"]),
            str(results["audit"]["leaked_test_images"][name]),
            str(evaluate["leak_free"]["classes"][name]["images"]),
        ]


def test_tables_of_flaws_are_left_out_where_there_are_none() -> None:
    results = metrics_files.make(records=False, external=False)
    results["audit"] |= {"copy_groups": [], "unreadable_files": []}
    for record in results["predictions"]:
        record["leaked"] = False
    assert len(raw_tables(card.write(results, PARAMS))) == 12
