"""The report page as a browser shows it."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from stages.common import params
from stages.reporting import page
from tests import metrics_files

PARAMS = params.load_all(Path(__file__).resolve().parents[2] / "params.yaml")
HOSTILE = (
    "<img src=http://127.0.0.1:9/ onerror=alert(1)>",
    "</style></svg><script>alert(2)</script>",
    '"><a href="javascript:alert(3)" style="background:url(http://127.0.0.1:9/)">',
    "W" * 200,
)
SIZES = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = colour
    canvas.fillRect(0, 0, 1, 1)
    return [...canvas.getImageData(0, 0, 1, 1).data]
  }
  const over = (top, below) =>
    [0, 1, 2].map(i => top[i] * top[3] / 255 + below[i] * (1 - top[3] / 255)).concat(255)
  const behind = element => {
    if (!element) return rgba('Canvas')
    return over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement))
  }
  const luminance = ([r, g, b]) => [r, g, b]
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
  const found = []
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement
    if (!texts.currentNode.data.trim()) continue
    const style = getComputedStyle(element), paper = behind(element)
    const ink = rgba(element.closest('svg') ? style.fill : style.color)
    const [a, b] = [luminance(over(ink, paper)), luminance(paper)].sort((a, b) => b - a)
    found.push([(a + 0.05) / (b + 0.05), texts.currentNode.data.trim().slice(0, 60)])
  }
  return found
}"""
"""Contrast as of WCAG 2 of every text on the page, with the text."""
PAPER = "getComputedStyle(document.body).backgroundColor"


def write(folder: Path, results: dict[str, Any]) -> str:
    """Writes the page; gives its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        metrics_files.write_pictures(results)
        text = page.write(results, PARAMS)
    (folder / "report.html").write_text(text, encoding="utf-8")
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("report"), metrics_files.make(source="phantom"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    results = metrics_files.make(HOSTILE)
    for group in results["audit"]["copy_groups"]:
        group["kinds"] = ["near"]
    results["evaluate"]["provenance"]["data"] = results["provenance"]["data"] = HOSTILE[0]
    return write(tmp_path_factory.mktemp("hostile"), results)


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[0]}-{size[1]}")
def view(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"width": request.param[0], "color_scheme": request.param[1]}


def check(opened: Any) -> None:
    """What holds for every page."""
    shown = opened.page
    assert opened.console == []
    assert [address for address in opened.requests if not address.startswith("data:")] == [
        shown.url
    ]
    assert shown.evaluate("document.documentElement.scrollWidth") == shown.evaluate(
        "document.documentElement.clientWidth"
    )
    images = shown.evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.getAttribute('alt')])"
    )
    assert len(images) > 10
    for complete, width, alt in images:
        assert complete
        assert width > 0
        assert alt
    assert shown.evaluate("document.scripts.length") == 0
    levels = shown.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(level - former <= 1 for former, level in itertools.pairwise(levels))


def test_it_fits_and_asks_for_nothing(open_page: Any, report: str, view: dict[str, Any]) -> None:
    opened = open_page(report, **view)
    check(opened)
    # what is wider than the page can be scrolled by keyboard
    assert opened.page.evaluate(
        "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 "
        "&& getComputedStyle(e).overflowX == 'auto').every(e => e.tabIndex == 0)"
    )


def test_text_stands_out(open_page: Any, report: str, view: dict[str, Any]) -> None:
    shown = open_page(report, **view).page
    contrasts = shown.evaluate(CONTRASTS)
    assert len(contrasts) > 400
    assert [found for found in contrasts if found[0] < 4.5] == []
    light = shown.evaluate(PAPER) == "rgb(255, 255, 255)"
    assert light == (view["color_scheme"] == "light")


def test_names_are_names_whatever_is_in_them(
    open_page: Any, hostile: str, view: dict[str, Any]
) -> None:
    opened = open_page(hostile, **view)
    check(opened)
    shown = opened.page
    assert shown.evaluate("document.querySelectorAll('[onerror], [href^=javascript]').length") == 0
    text = shown.inner_text("body")
    for name in HOSTILE:
        assert name in text
    charts = shown.evaluate("[...document.querySelectorAll('svg')].map(s => s.textContent).join()")
    for name in HOSTILE[:2]:
        assert name[:20] in charts


def test_the_policy_is_in_force(open_page: Any, report: str) -> None:
    shown = open_page(report).page
    stopped = shown.evaluate(
        """async () => {
          const stopped = []
          addEventListener('securitypolicyviolation', e => stopped.push(e.effectiveDirective))
          const add = (tag, values) =>
            document.body.append(Object.assign(document.createElement(tag), values))
          add('script', {textContent: 'window.ran = true'})
          add('img', {src: 'http://127.0.0.1:9/a.png'})
          add('iframe', {src: 'http://127.0.0.1:9/'})
          for (let wait = 0; wait < 30 && stopped.length < 3; wait++)
            await new Promise(resolve => setTimeout(resolve, 100))
          return [window.ran, ...stopped.sort()]
        }"""
    )
    assert stopped == [None, "frame-src", "img-src", "script-src-elem"]


def test_by_keyboard_the_first_step_leads_to_the_verdict(open_page: Any, report: str) -> None:
    shown = open_page(report, width=390).page
    place = "(e => [e.textContent, e.getBoundingClientRect().x >= 0])(document.activeElement)"
    shown.keyboard.press("Tab")
    assert shown.evaluate(place) == ["Skip to the verdict", True]
    shown.keyboard.press("Enter")
    assert shown.url.endswith("#verdict")
    shown.keyboard.press("Tab")
    assert shown.evaluate(place) == ["Verdict", True]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_it_is_light_and_nothing_is_cut(open_page: Any, report: str, scheme: str) -> None:
    shown = open_page(report, width=680, color_scheme=scheme).page
    shown.emulate_media(media="print", color_scheme=scheme)
    assert shown.evaluate(PAPER) == "rgb(255, 255, 255)"
    assert [found for found in shown.evaluate(CONTRASTS) if found[0] < 4.5] == []
    assert shown.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert shown.evaluate("document.documentElement.scrollWidth") <= 680
    assert shown.evaluate(
        "[...document.querySelectorAll('.chart, .errors li, .groups li')]"
        ".every(e => getComputedStyle(e).breakInside == 'avoid')"
    )
    assert shown.pdf(format="A4").startswith(b"%PDF")
