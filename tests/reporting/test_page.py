import base64
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.common import files, params
from stages.common.errors import InputError
from stages.learning.dataset import INDEX_COLUMNS, PROCESSED
from stages.reporting import charts, page, words
from tests import metrics_files

PARAMS = params.load_all(Path(__file__).resolve().parents[2] / "params.yaml")
VOID = {"meta", "img"}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "a", "aside", "div", "header", "nav"),
    *("main", "section", "h1", "h2", "h3", "p", "b", "i", "strong", "small", "code", "span"),
    *("ul", "ol", "li", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("figure", "figcaption", "img", "svg"),
}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "href", "id", "class", "style", "role"),
    *("tabindex", "scope", "src", "alt", "width", "height"),
    *("aria-label", "aria-labelledby", "aria-hidden"),
}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Any] = field(default_factory=list)

    def all(self, *tags: str) -> list["Element"]:
        """The elements of these tags, in the order of the page; without tags, every one."""
        inner = [child for child in self.children if isinstance(child, Element)]
        below = [element for child in inner for element in (child, *child.all())]
        return [element for element in below if not tags or element.tag in tags]

    @property
    def text(self) -> str:
        """What a reader sees, in one line."""
        parts = [child.text if isinstance(child, Element) else child for child in self.children]
        return " ".join("".join(parts).split())


class Tree(HTMLParser):
    """A page that must be well formed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]
        self.feed(text)
        self.close()
        assert [element.tag for element in self.open] == [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def tree(text: str) -> Element:
    return Tree(text).open[0]


def tables(root: Element) -> dict[str, list[list[str]]]:
    """The rows of cells of every table, by its heading."""
    titles = root.all("h3", "table")
    return {
        title.text: [[cell.text for cell in row.all("th", "td")] for row in table.all("tr")]
        for title, table in itertools.pairwise(titles)
        if (title.tag, table.tag) == ("h3", "table")
    }


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the charts, which take most of the time."""
    monkeypatch.setattr(charts, "svg", lambda name, chart: "<svg></svg>")


def written(results: dict[str, Any]) -> str:
    metrics_files.write_pictures(results)
    return page.write(results, PARAMS)


@pytest.mark.usefixtures("_plain")
def test_above_all_stands_the_verdict() -> None:
    results = metrics_files.make()
    root = tree(written(results))
    assert [element.text for element in root.all("h1")] == [
        "Can the network tell Covid, Normal and Viral Pneumonia apart?"
    ]
    first = next(p for p in root.all("p") if p.attributes.get("class") == "verdict")
    compare = results["compare"]
    assert first.text == f"{words.how_good(compare)} {words.how_much_better(compare)}"
    assert [p.text for p in root.all("p")].index(first.text) == 1  # after the name of the data
    [beside] = [p for p in root.all("p") if p.text.startswith("On images from elsewhere, ")]
    assert words.false_positives(results["external"]["false_positive_rate"]) in beside.text
    assert beside in root.all("header")[0].all("p")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"source": "phantom"}, "Synthetic phantoms, not radiographs."),
        ({"protocol": "original"}, "Optimistic by design."),
        ({"protocol": "none"}, "recipe tuned: no image of train/ was held out, and test/ decided"),
        ({"external": False}, "There is no external validation:"),
        ({"external": False}, "There was no external set."),
        ({"records": False}, "There is no table of records:"),
    ],
)
@pytest.mark.usefixtures("_plain")
def test_what_must_be_said_is_said_where_it_holds(given: dict[str, Any], says: str) -> None:
    assert says in tree(written(metrics_files.make(**given))).text
    assert says not in tree(written(metrics_files.make())).text


@pytest.mark.usefixtures("_plain")
def test_phantoms_are_called_so_first_of_all() -> None:
    body = tree(written(metrics_files.make(source="phantom"))).all("body")[0]
    assert [child.tag for child in body.children if isinstance(child, Element)][:2] == [
        "a",  # skips to the verdict
        "aside",
    ]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, content in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(content, dict | list):
            yield from leaves(content, (*path, key))
        elif isinstance(content, int | float) and not isinstance(content, bool):
            yield (*path, key)


def on_the_page(path: tuple[Any, ...]) -> bool:
    """Whether a number is for the page; the model card and the details have more of them."""
    match path:
        case (*_, "intervals", "accuracy", _):  # stands there a second time
            return False
        case ("compare", "pooled", *_) | ("train", "parameters" | "epochs" | "kept_epoch"):
            return True
        case ("compare", "baselines", _, name):
            return str(name).startswith(("accuracy", "difference")) or name == "p_holm"
        case ("compare", "judged" | "radiographs"):
            return True
        case ("evaluate", "all_test" | "leak_free", "classes", *_):
            return False
        case ("evaluate", "all_test" | "leak_free" | "calibration" | "gradcam", *rest):
            return rest != ["images_with_activation"]
        case ("evaluate", "sets" | "refused", "classes", _, "covered", number):
            return bool(number != "count")
        case ("evaluate", "refused", "classes", _, number):
            return number not in {"images", "count"}
        case ("evaluate", "sets" | "refused", *_):
            return True
        case ("external", "folders", _, "called" | "called_if_accepted", _, number):
            return number in {"images", "share"}
        case ("external", "folders", _, "refused", number):
            return number in {"images", "share"}
        case ("external", "folders", _, number):
            return bool(number == "images")
        case ("external", *_):
            return True
        case ("occlusion", "covered" | "untouched", *rest):
            return rest[-1] != "images" or len(rest) == 1
        case ("occlusion", "shares", _):
            return True
        case ("audit", "copies", number):
            return number not in {"within_train", "within_test", "identical_pairs"}
        case ("audit", "patients", number):
            return bool(number == "leaked_test_images")
        case ("audit", "images" | "radiographs" | "groups" | "unreadable", *_):
            return True
        case ("audit", "records", "labels_by_class" | "sources", *_):
            return True
        case ("errors", "errors", *_):
            return True
    return False


@pytest.mark.usefixtures("_plain")
def test_the_numbers_are_those_of_the_metrics() -> None:
    results = metrics_files.make()
    paths = [path for path in leaves(results) if on_the_page(path)]
    assert len(paths) > 250
    expected = {}
    for number, path in enumerate(paths, start=101):
        place = results
        for key in path[:-1]:
            place = place[key]
        whole = isinstance(place[path[-1]], int)
        # unlike any other number on the page
        place[path[-1]] = value = 70_000 + number if whole else number / 1000
        expected[path] = {f"{value:,}"} if whole else {f"{value:.3f}", f"{100 * value:.1f} %"}
    text = tree(written(results)).text
    assert [
        path for path, forms in expected.items() if not any(form in text for form in forms)
    ] == []


@pytest.mark.usefixtures("_plain")
def test_confusion_has_actual_classes_in_rows_and_shares_of_them() -> None:
    results = metrics_files.make(("a", "b"))
    results["predictions"] = [
        {"file": "", "leaked": False, "actual": actual, "predicted": predicted}
        for actual, predicted in ("ab", "ab", "aa", "bb")
    ]
    images = results["evaluate"]["all_test"]["images"]
    assert tables(tree(written(results)))[f"Confusion on all {images} test images"] == [
        ["filed under", "taken for a", "taken for b"],
        ["a", "1 33.3 %", "2 66.7 %"],
        ["b", "0 0.0 %", "1 100.0 %"],
    ]


def decoded(address: str) -> np.ndarray:
    content = base64.b64decode(address.removeprefix("data:image/webp;base64,"), validate=True)
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), int)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, int)


@pytest.mark.usefixtures("_plain")
def test_every_error_is_shown_in_its_order_with_its_heat_map() -> None:
    results = metrics_files.make()
    records = results["errors"]["errors"]
    records[0] |= {"probability": 0.75, "probability_of_actual": 0.125}
    contradicting = results["audit"]["records"]["contradicting"]
    contradicting[0] |= {"file": records[1]["file"], "finding": "bacteria"}
    root = tree(written(results))
    [errors] = [ol for ol in root.all("ol") if ol.attributes["class"] == "errors"]
    assert len(errors.all("li")) == len(records) > 1
    for record, item in zip(records, errors.all("li"), strict=True):
        assert record["file"] in item.text
        assert item.text.startswith(f"{record['actual']}, taken for {record['predicted']}")
        for key, image in zip(("image", "map"), item.all("img"), strict=True):
            shown = decoded(image.attributes["src"])
            assert np.abs(shown - read(page.ERRORS / record[key])).mean() < 2
    assert (
        f"75.0 % for {records[0]['predicted']}, 12.5 % for {records[0]['actual']}"
        in errors.all("li")[0].text
    )
    assert ["by its source: bacteria" in item.text for item in errors.all("li")][:2] == [0, 1]
    assert f"{len(records)} test images of 66 were given a wrong class" in root.text


@pytest.mark.usefixtures("_plain")
def test_errors_beyond_those_shown_are_counted() -> None:
    results = many(errors=61, groups=1, sources=1, classes=2)
    root = tree(page.write(results, PARAMS))
    assert "The first 60 are shown; 1 more are in metrics/pictures/errors/." in root.text
    assert "approximated" not in root.text


@pytest.mark.usefixtures("_plain")
def test_without_errors_and_copies_this_is_said() -> None:
    results = metrics_files.make()
    results["errors"]["errors"] = results["audit"]["copy_groups"] = []
    root = tree(written(results))
    assert "No test image was given a wrong class." in root.text
    assert "No near copies were found." in root.text
    assert root.all("ol") == []


@pytest.mark.usefixtures("_plain")
def test_near_copies_are_shown_and_what_was_left_out_is_named() -> None:
    results = metrics_files.make()
    results["audit"]["copy_groups"] += [
        {"radiograph": 9, "kinds": ["bytes", "near"], "files": [f"train/a/{n}" for n in range(9)]}
    ]
    metrics_files.write_pictures(results)
    index = (PROCESSED / "index.csv").read_text().splitlines(keepends=True)
    index = [line for line in index if "train/Normal/2.png" not in line]
    (PROCESSED / "index.csv").write_text("".join(index))
    root = tree(page.write(results, PARAMS))
    [groups] = [ol for ol in root.all("ol") if ol.attributes["class"] == "groups"]
    first, second = groups.all("li")  # the third is of the same bytes
    assert [image.attributes["alt"] for image in first.all("img")] == ["train/Covid/2.png"]
    assert first.text.endswith("train/Normal/2.png (left out of training and test)")
    assert len(second.all("img")) == page.MOST_MEMBERS
    assert second.text.endswith("and 3 more")


@pytest.mark.parametrize("damage", [b"", b"no image", None])
@pytest.mark.usefixtures("_plain")
def test_a_damaged_picture_is_named_with_what_to_run(damage: bytes | None) -> None:
    results = metrics_files.make()
    metrics_files.write_pictures(results)
    target = page.ERRORS / results["errors"]["errors"][0]["image"]
    content = target.read_bytes()
    target.write_bytes(content[: len(content) // 2] if damage is None else damage)
    with pytest.raises(InputError, match=rf"^{target} .*Run `dvc repro --force evaluate`\.$"):
        page.write(results, PARAMS)


def many(errors: int, groups: int, sources: int, classes: int) -> dict[str, Any]:
    """Results of a large set, with pictures that take 7 kB as WebP; radiographs take 6."""
    results = metrics_files.make([f"class number {number}" for number in range(classes)])
    first = {"file": "test/a/0.png", "actual": "a", "predicted": "b", "leaked": False}
    names = {"image": "01.png", "map": "01-map.png"}
    [record] = metrics_files.errors([first], Random(0))
    results["errors"]["errors"] = [record | names for _ in range(errors)]
    results["audit"]["copy_groups"] = [
        {"radiograph": number, "kinds": ["near"], "files": ["train/a/1.png"] * 9}
        for number in range(groups)
    ]
    results["audit"]["records"]["sources"] = {
        f"source number {number}": {"class number 0": number} for number in range(sources)
    }
    files.write_csv(
        PROCESSED / "index.csv",
        INDEX_COLUMNS,
        [dict.fromkeys(INDEX_COLUMNS, "0") | {"file": "1.png", "path": "train/a/1.png"}],
    )
    page.ERRORS.mkdir(parents=True)
    coarse = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    shown = page.ERRORS / "01.png", page.ERRORS / "01-map.png"
    for path in (*shown, page.OCCLUSION, PROCESSED / "1.png"):
        Image.fromarray(coarse).resize((200, 200), Image.Resampling.BICUBIC).save(path)
    return results


@pytest.mark.usefixtures("_plain")
def test_it_stays_small_however_large_the_set_is() -> None:
    results = many(errors=5000, groups=400, sources=900, classes=60)
    for record in results["errors"]["errors"][200:]:
        del record["image"], record["map"]
    results["compare"]["approximation"] = {"components": 1000, "trained_on": 10_000}
    text = page.write(results, PARAMS)
    print(f"\n{len(text) / 1e6:.1f} MB")
    assert len(text) < 4e6
    root = tree(text)
    assert "5,000 test images of 66" in root.text
    assert (
        "The first 60 are shown; 140 more are in metrics/pictures/errors/, and "
        "metrics/details/errors.json names all."
    ) in root.text
    assert "kernel approximated by Nystroem's method (1,000 components)" in root.text
    assert "The first 30 are shown; metrics/details/audit.json names all files." in root.text
    assert "With 60 classes, the table has too many cells to be read" in root.text
    assert len(tables(root)["Class by source"]) == 1 + words.LONGEST_LIST + 1


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "--><svg onload=alert(1)>",
    "\"><a href='javascript:alert(1)'>",
    "'onmouseover='alert(1)",
    "&lt;b&gt;&#60;",
    "{{ 7 * 7 }}{% raw %}",
    "%s %d %(name)s",
    "]]><!--",
    "\u202egnp.ab",
]
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0\r"), min_size=1, max_size=30
).filter(str.strip) | st.sampled_from(HOSTILE)


@given(
    classes=st.lists(names, min_size=2, max_size=4, unique_by=lambda name: " ".join(name.split())),
    name=names,
    seed=st.integers(0, 2**32),
    options=st.tuples(st.booleans(), st.booleans()),
)
@example(classes=HOSTILE, name=HOSTILE[0], seed=0, options=(True, True))
@settings(max_examples=25, deadline=None)
def test_it_is_well_formed_and_shows_names_literally(
    classes: list[str], name: str, seed: int, options: tuple[bool, bool]
) -> None:
    records, external = options
    results = metrics_files.make(
        classes, seed, source="phantom", records=records, external=external
    )
    provenance = results["evaluate"]["provenance"]
    results["provenance"] |= {"data": name, "licence": name}
    results["evaluate"]["provenance"] = provenance | {"data": name}
    for record in results["errors"]["errors"]:
        record["file"] = f"test/{name}"
    results["audit"]["copy_groups"][1]["files"] = [f"train/{name}/1", f"train/{name}/2"]
    if records:
        results["audit"]["records"]["sources"] = {name: {classes[0]: 3}}
        results["audit"]["records"]["contradicting"][0] |= {"source": name, "finding": name}
    if external:
        results["external"] |= {
            "set": name,
            "folders": {name: results["external"]["folders"]["Ill"]},
        }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "svg", lambda name, chart: "<svg></svg>")
        patch.setattr(page, "_picture", lambda path, made_by: "data:image/webp;base64,AAAA")
        metrics_files.write_pictures(results)
        text = page.write(results, PARAMS)
    root = tree(text)
    elements = root.all()
    assert {element.tag for element in elements} <= TAGS
    assert {key for element in elements for key in element.attributes} <= ATTRIBUTES
    check_structure(root)
    shown = [" ".join(one.split()) for one in classes]
    found = tables(root)
    assert [row[0] for row in found["By class, all radiographs"][1:]] == shown
    [confusion] = [rows for title, rows in found.items() if title.startswith("Confusion")]
    assert confusion[0][1:] == [f"taken for {one}" for one in shown]
    assert ["data", " ".join(name.split())] in found["Provenance"]
    if records:
        assert found["Class by source"][1][0] == " ".join(name.split())


def check_structure(root: Element) -> None:
    """What keyboards, screen readers and browsers rely on."""
    elements = root.all()
    levels = [int(element.tag[1]) for element in root.all("h1", "h2", "h3")]
    assert levels.count(1) == 1
    assert all(level - former <= 1 for former, level in zip([0, *levels], levels, strict=False))
    ids = [element.attributes["id"] for element in elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    for link in root.all("a"):
        assert link.attributes["href"].removeprefix("#") in ids
    for image in root.all("img"):
        assert image.attributes["alt"].strip()
        assert image.attributes["src"].startswith("data:image/")
    for cell in root.all("th"):
        assert cell.attributes["scope"] in {"row", "col"}
    for element in elements:
        if label := element.attributes.get("aria-labelledby"):
            assert label in ids
        for value in re.findall(r"url\(.{6}", element.attributes.get("style", "")):
            assert value == "url(data:"
    for table in root.all("table"):
        widths = [len(row.all("th", "td")) for row in table.all("tr")]
        assert len(set(widths)) == 1
    assert root.all("html")[0].attributes["lang"] == "en"
    policy = root.all("meta")[1]
    assert policy.attributes["http-equiv"] == "Content-Security-Policy"
    assert policy.attributes["content"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )


def test_the_charts_are_in_it() -> None:
    text = written(metrics_files.make())
    assert text.count("<svg") == text.count("</svg>") == 5
    root = tree(text)
    for element in root.all("svg"):
        assert element.all("text")
    figures = [f for f in root.all("figure") if f.attributes.get("class") == "chart"]
    assert len(figures) == 5
    for figure in figures:
        assert figure.attributes["role"] == "img"
        assert figure.attributes["aria-label"].startswith("Chart: ")
    outside = re.findall(r"https?://[^\"' ]*", text)
    assert set(outside) <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}
