"""The page of `dvc plots`: every chart is drawn, whole and legible, without a network."""

import itertools
import json
import re
from collections import Counter
from typing import Any

import pytest

from tests import plots_repository
from tests.browser.conftest import Opened
from tests.pipeline.scratch import Scratch

CHARTS = {
    # the marks that show the data
    "accuracy": ".mark-line.role-mark path",
    "loss": ".mark-line.role-mark path",
    "confusion": ".mark-rect.role-mark path",
    "roc": ".mark-line.role-mark path",
    "reliability": ".mark-line.role-mark path",
}
AXES = {
    "accuracy": {"epoch", "accuracy"},
    "loss": {"epoch", "loss"},
    "confusion": {"predicted class", "actual class"},
    "roc": {"1 - specificity", "sensitivity"},
    "reliability": {"confidence", "accuracy"},
}
SHOW, DIFF = ["show"], ["diff", *plots_repository.CLASSES]
CUT_OFF = """svg => {
    const outer = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter(text => {
        const inner = text.getBoundingClientRect();
        return text.textContent.includes("…") || inner.left < outer.left - 1 ||
            inner.right > outer.right + 1 || inner.top < outer.top - 1 ||
            inner.bottom > outer.bottom + 1;
    }).map(text => text.textContent);
}"""
OVERLAPPING = """svg => {
    const boxes = [...svg.querySelectorAll("text")].map(
        // the boxes of slanted labels of one axis overlap, though the labels don't
        text => [text, text.closest(".role-axis-label") ?? text, text.getBoundingClientRect()]);
    return boxes.flatMap(([one, axis, a], number) => boxes.slice(number + 1).filter(
        ([, other, b]) => axis !== other && a.left < b.right - 2 && b.left < a.right - 2 &&
            a.top < b.bottom - 2 && b.top < a.bottom - 2
    ).map(([other]) => [one.textContent, other.textContent]));
}"""
BRIGHTNESS = """element => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    const style = getComputedStyle(element);
    canvas.fillStyle = element instanceof SVGElement ? style.fill : style.backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data[1];
}"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    base = tmp_path_factory.mktemp("plots")
    (base / "project").mkdir()
    made = plots_repository.make(base / "project", base / "home")
    for command in (SHOW, DIFF):
        made.run("dvc", "plots", *command, "--out", command[0])
    return made


def opened(repository: Scratch, open_page: Any, folder: str, **options: Any) -> Opened:
    """What `dvc plots` has put into a folder, once it is drawn."""
    result: Opened = open_page((repository.folder / folder / "index.html").as_uri(), **options)
    for name in CHARTS:
        result.page.wait_for_selector(f"#{name} svg.marks, #{name}:has-text('no data')")
    return result


def drawn_confusion(page: Any) -> dict[tuple[str, str], int]:
    """The images by actual and predicted class."""
    said = page.eval_on_selector_all(
        f"#confusion {CHARTS['confusion']}",
        "marks => marks.map(mark => mark.getAttribute('aria-label'))",
    )
    cells = [re.search(r"actual: (.*); predicted: (.*); images: (\d+)", text) for text in said]
    drawn = {(cell[1], cell[2]): int(cell[3]) for cell in cells if cell}
    assert len(drawn) == len(said)
    return drawn


def confusion(tag: str) -> dict[tuple[str, str], int]:
    pairs = Counter(
        (record["actual"], record["predicted"])
        for record in plots_repository.results(tag)["predictions"]
    )
    classes = plots_repository.CLASSES[tag]
    return {(one, other): pairs[one, other] for one in classes for other in classes}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("command", [SHOW, DIFF], ids=" ".join)
def test_every_chart_is_drawn_whole_and_without_a_network(
    repository: Scratch, open_page: Any, command: list[str], scheme: str
) -> None:
    result = opened(repository, open_page, command[0], color_scheme=scheme)
    page = result.page
    for name, marks in CHARTS.items():
        assert page.locator(f"#{name} {marks}").count() >= 2, name
        svg = page.locator(f"#{name} svg.marks")
        titles = svg.locator(".role-axis-title").all_text_contents()
        assert set(titles) == AXES[name], name
        assert svg.evaluate(CUT_OFF) == [], name
        assert svg.evaluate(OVERLAPPING) == [], name
        title = svg.locator(".role-title-text text").first.evaluate(BRIGHTNESS)
        card = page.locator(f"#{name}").evaluate(BRIGHTNESS)
        assert abs(title - card) > 150, name
    pictures = page.eval_on_selector_all("img", "all => all.map(image => image.naturalWidth)")
    assert pictures == [640] * len(plots_repository.PICTURES) * max(1, len(command) - 1)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert result.console == []
    assert [url for url in result.requests if not url.startswith(("file:", "data:"))] == []


def test_confusion_counts_each_revision_by_its_own_classes(
    repository: Scratch, open_page: Any
) -> None:
    result = opened(repository, open_page, "diff")
    expected = confusion("phantoms") | confusion("archive")
    assert drawn_confusion(result.page) == expected
    written = result.page.locator("#confusion .mark-text.role-mark text tspan:first-child")
    assert sorted(written.all_text_contents()) == sorted(map(str, expected.values()))


def test_a_class_that_was_never_right_has_its_row_and_column(
    repository: Scratch, open_page: Any
) -> None:
    path = repository.folder / "metrics/plots/predictions.json"
    kept = path.read_text(encoding="utf-8")
    pairs = (("a", "a"), ("a", "c"), ("b", "a"))
    path.write_text(json.dumps([{"actual": one, "predicted": other} for one, other in pairs]))
    try:
        repository.run("dvc", "plots", "show", "confusion", "--out", "some")
    finally:
        path.write_text(kept, encoding="utf-8")
    page = open_page((repository.folder / "some/index.html").as_uri()).page
    page.wait_for_selector("#confusion svg.marks")
    assert drawn_confusion(page) == {
        pair: int(pair in pairs) for pair in itertools.product("abc", repeat=2)
    }


def test_where_nothing_has_run_the_page_says_so(repository: Scratch, open_page: Any) -> None:
    plots = repository.folder / "metrics/plots"
    plots.rename(plots.with_name("aside"))
    try:
        repository.run("dvc", "plots", "show", "--out", "none")
    finally:
        plots.with_name("aside").rename(plots)
    result = opened(repository, open_page, "none")
    for name in CHARTS:
        assert result.page.locator(f"#{name}").inner_text() == f"{name}: no data"
    assert result.console == []
