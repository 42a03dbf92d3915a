"""The page on which a person drops an image, as that person sees it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FileChooser, FilePayload, Locator, Page, expect

from tests import made, made_dicom
from tests.serving import server

BROKEN: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello\n"}
PHOTO: FilePayload = {
    "name": "a.jpg",
    "mimeType": "image/jpeg",
    "buffer": made.encoded(
        Image.merge("RGB", [made.picture(seed, (300, 200)) for seed in (1, 2, 3)]), "JPEG"
    ),
}
REFUSAL = "his does not look like a chest radiograph"
REFUSED = "Failed to load resource: the server responded with a status of 422"
"""The browser's own remark on every such answer, which no page can prevent."""


expect.set_options(timeout=30_000)  # a loaded machine


def file(seed: int, kind: str = "PNG", size: tuple[int, int] = (300, 240)) -> FilePayload:
    content = made.encoded(made.picture(seed, size), kind)
    return {"name": f"{seed}.{kind.lower()}", "mimeType": "image/x", "buffer": content}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with server.running(folder, bytes=1_000_000) as (_, port):
        yield f"http://127.0.0.1:{port}/"
    assert (folder / "stderr").read_text() == ""


@pytest.fixture
def page(address: str, open_page: Any) -> Iterator[Page]:
    """The page; nothing was asked from elsewhere in the end, and nothing was complained about."""
    opened = open_page(address)
    yield opened.page
    assert [url for url in opened.requests if not url.startswith((address, "data:", "blob:"))] == []
    assert [text for text in opened.console if not text.startswith(REFUSED)] == []


def cards(page: Page, count: int) -> list[Locator]:
    """The cards, as soon as there are so many and all are done."""
    found = page.locator(".cards > li")
    expect(found).to_have_count(count)
    expect(page.locator("[aria-busy]")).to_have_count(0)
    return found.all()


def drop(page: Page, files: list[FilePayload], event: str = "drop") -> None:
    """What a browser does when files are dropped on the page or pasted."""
    page.evaluate(
        """([files, event]) => {
            const data = new DataTransfer();
            for (const { name, bytes } of files)
                data.items.add(new File([new Uint8Array(bytes)], name));
            const options = { bubbles: true, cancelable: true };
            const target = document.querySelector("main");
            target.dispatchEvent(event === "paste"
                ? new ClipboardEvent(event, { ...options, clipboardData: data })
                : new DragEvent(event, { ...options, dataTransfer: data }));
        }""",
        [[{"name": each["name"], "bytes": list(each["buffer"])} for each in files], event],
    )


def test_one_image(page: Page) -> None:
    page.set_input_files("#files", [file(1)])
    (card,) = cards(page, 1)
    network = server.Network()
    answer = server.answers_of(network).judge(file(1)["buffer"])
    expect(card.get_by_role("heading")).to_have_text("1.png")
    expect(card.locator(".class")).to_have_text(answer["class"])
    some = (
        f"One of: {', '.join(answer['set'])}." if answer["set"][1:] else f"{answer['class']} alone."
    )
    expect(card.locator(".set")).to_contain_text(f"{some} In 90 of 100 cases the true class is")
    rows = card.get_by_role("row")
    expect(rows).to_have_count(3)
    for row, (label, share) in zip(rows.all(), answer["probabilities"].items(), strict=True):
        expect(row.get_by_role("rowheader")).to_have_text(label)
        expect(row.get_by_role("cell").last).to_have_text(f"{100 * share:.1f} %")
        bar = row.locator("span").bounding_box()
        track = row.get_by_role("cell").first.bounding_box()
        assert bar is not None
        assert track is not None
        assert bar["width"] == pytest.approx(max(2, share * track["width"]), abs=1)
    expect(page.get_by_role("status")).to_contain_text(f"1.png: {answer['class']}")
    expect(card.locator(".warning:visible")).to_have_count(0)
    expect(card).to_contain_text("No copy of it is among the training images.")


def test_a_copy_of_a_training_image(page: Page) -> None:
    name, picture = next(iter(server.KNOWN.items()))
    copy = made.encoded(picture.crop((4, 4, 296, 236)), "JPEG")
    page.set_input_files("#files", {"name": "a.jpg", "mimeType": "", "buffer": copy})
    (card,) = cards(page, 1)
    warning = card.locator(".warning:visible")
    expect(warning).to_contain_text(f"A copy of this image is among the training images: {name}.")
    expect(page.get_by_role("status")).to_contain_text("a copy of it is among the training images")


def test_a_photo_is_refused_and_answered_all_the_same_if_asked(page: Page) -> None:
    page.set_input_files("#files", [PHOTO])
    (card,) = cards(page, 1)
    warning = card.locator(".warning:visible")
    expect(warning).to_contain_text(f"T{REFUSAL}")
    expect(page.get_by_role("status")).to_contain_text(f"a.jpg: t{REFUSAL}")
    answer = server.answers_of(server.Network()).judge(PHOTO["buffer"])
    assert answer["refused"]
    expect(card.get_by_role("img")).to_have_count(1)
    assert [name for name in answer["probabilities"] if name in card.inner_text()] == []
    for selector in (".class", ".set", "table", ".heat", "figcaption"):
        expect(card.locator(selector)).to_be_hidden()
    card.get_by_role("button", name="Show the answer all the same").press("Enter")
    expect(card.locator(".class")).to_have_text(answer["class"])
    for selector in (".class", ".set", "table", ".heat", "figcaption"):
        expect(card.locator(selector)).to_be_visible()
    expect(card.get_by_role("button")).to_have_count(0)
    expect(card.get_by_role("slider")).to_be_focused()
    expect(warning).to_contain_text(f"T{REFUSAL}")


def test_a_dicom_file(page: Page) -> None:
    pixels = np.asarray(made.picture(5, (300, 240)), np.uint16) * 16
    files: list[FilePayload] = [
        {"name": "IM0001", "mimeType": "", "buffer": made_dicom.picture(pixels, 12)},
        {"name": "ct.dcm", "mimeType": "", "buffer": made_dicom.picture(pixels, Modality="CT")},
    ]
    page.set_input_files("#files", files)
    good, refused = cards(page, 2)
    expect(good.get_by_role("img").first).to_have_js_property("naturalWidth", 300)
    expect(refused).to_contain_text("No answer: ")


def test_the_heat_map_lies_over_the_picture_and_fades(page: Page) -> None:
    page.set_input_files("#files", [file(1, size=(240, 400))])
    (card,) = cards(page, 1)
    picture, heat = card.get_by_role("img").all()
    assert picture.bounding_box() == heat.bounding_box()
    box = picture.bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(240 / 400, abs=0.01)
    slider = card.get_by_role("slider", name="Heat map")
    for value, opacity in (("0", "0"), ("100", "1"), ("30", "0.3")):
        slider.fill(value)
        expect(heat).to_have_css("opacity", opacity)


def test_what_the_network_is_stands_above_all(page: Page) -> None:
    expect(page.locator(".banner")).to_have_text(
        "Trained on SYNTHETIC PHANTOMS: its answers on real radiographs mean nothing."
    )
    expect(page.locator(".banner")).to_be_in_viewport()
    size = page.locator(".banner").evaluate("each => parseFloat(getComputedStyle(each).fontSize)")
    assert size > 20
    expect(page.get_by_text("Not a medical device.")).to_be_in_viewport()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_several_at_once_and_a_broken_one(page: Page, event: str) -> None:
    drop(page, [file(1), BROKEN, file(2, "TIFF"), file(3, "GIF")], event)
    first, broken, *others = cards(page, 4)
    names = page.locator(".cards h2").all_text_contents()
    assert names == ["1.png", "notes.txt", "2.tiff", "3.gif"]
    expect(broken).to_contain_text("No answer: it is text, not an image.")
    for card in (first, *others):
        for image in card.get_by_role("img").all():
            assert image.evaluate("each => each.complete && each.naturalWidth") > 50
    expect(page.get_by_role("status")).to_have_text("4 of 4 images done, 1 without an answer")
    drop(page, [file(4)], event)
    expect(page.locator(".cards h2").first).to_have_text("4.png")  # the latest on top
    assert len(cards(page, 5)) == 5
    assert page.url.endswith("/")  # the browser has not gone to the file


def test_a_file_that_is_too_large_is_not_sent(page: Page) -> None:
    large: FilePayload = {"name": "a.png", "mimeType": "image/png", "buffer": bytes(1_000_001)}
    page.set_input_files("#files", [large])
    (card,) = cards(page, 1)
    expect(card).to_contain_text("No answer: it has over 1,000,000 bytes; send a smaller file.")


def test_a_hundred_images_show_how_far_they_are(page: Page) -> None:
    drop(page, [file(n, "BMP", (40, 40)) for n in range(100)])
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible()
    expect(page.get_by_role("status")).to_have_text(re.compile(r"^\d+ of 100 images done$"))
    cards(page, 100)
    expect(page.get_by_role("status")).to_have_text("100 of 100 images done")
    expect(bar).to_be_hidden()


def test_the_zone_shows_that_it_takes_what_is_dragged(page: Page) -> None:
    zone = page.locator(".drop")
    drop(page, [file(1)], "dragover")
    expect(zone).to_have_class("drop over")
    drop(page, [file(1)], "dragleave")
    expect(zone).to_have_class("drop")


def test_by_keyboard_alone(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    path.write_bytes(file(1)["buffer"])
    choosers: list[FileChooser] = []
    # long before it is needed, because it takes effect late
    page.on("filechooser", lambda each: choosers.append(each))  # noqa: PLW0108 (wants a function)
    page.keyboard.press("Tab")
    chooser = page.get_by_label("Drop radiographs here, paste them, or choose files")
    expect(chooser).to_be_focused()
    expect(page.locator(".drop")).to_have_css("outline-style", "solid")
    page.keyboard.press("Enter")
    while not choosers:
        page.wait_for_timeout(50)
    assert choosers[0].is_multiple()
    choosers[0].set_files(path)
    (card,) = cards(page, 1)
    expect(chooser).to_be_focused()
    page.keyboard.press("Tab")
    slider = card.get_by_role("slider")
    expect(slider).to_be_focused()
    expect(slider).to_have_css("outline-style", "solid")
    page.keyboard.press("Home")
    expect(card.get_by_role("img").last).to_have_css("opacity", "0")


def test_the_same_file_may_be_chosen_twice(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    path.write_bytes(file(1)["buffer"])
    for count in (1, 2):
        page.set_input_files("#files", path)
        cards(page, count)


def test_a_server_that_has_ended_is_told(tmp_path: Path, open_page: Any) -> None:
    with server.running(tmp_path) as (_, port):
        page = open_page(f"http://127.0.0.1:{port}/").page
    page.set_input_files("#files", [file(1)])
    (card,) = cards(page, 1)
    expect(card).to_contain_text("the program behind this page has ended")


def test_a_busy_server_is_asked_again(tmp_path: Path, open_page: Any) -> None:
    with server.running(tmp_path, images=1, pause=0.3) as (_, port):
        page = open_page(f"http://127.0.0.1:{port}/").page
        page.set_input_files("#files", [file(1), file(2)])
        expect(page.get_by_role("status")).to_have_text("2 of 2 images done", timeout=10_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_is_cut_off(address: str, open_page: Any, width: int, scheme: str) -> None:
    page = open_page(address, width, color_scheme=scheme).page
    name = f"a_name_without_a_gap_{'x' * 150}.png"
    long: FilePayload = {**file(1), "name": name}
    page.set_input_files("#files", [long, file(2, size=(60, 900)), BROKEN])
    cards(page, 3)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for card in page.locator(".cards > li").all():
        box = card.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_colours_are_told_apart(address: str, open_page: Any) -> None:
    """Text has the contrast that WCAG 2.2 wants of it, 4.5 to 1, in both schemes."""
    for scheme in ("light", "dark"):
        page = open_page(address, color_scheme=scheme).page
        page.set_input_files("#files", [file(1), BROKEN, PHOTO])
        cards(page, 3)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 10
        assert {text: ratio for text, ratio in contrasts.items() if ratio < 4.5} == {}


CONTRASTS = """() => {
    const colour = (css) => {
        const [red, green, blue, alpha = 1] = css.match(/[\\d.]+/g).map(Number);
        return { rgb: [red, green, blue], alpha };
    };
    const light = (rgb) => rgb
        .map((each) => each / 255)
        .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        .reduce((sum, each, n) => sum + each * [0.2126, 0.7152, 0.0722][n], 0);
    const found = {};
    for (const element of document.querySelectorAll("body *")) {
        const words = [...element.childNodes].filter((each) => each.nodeType === 3)
            .map((each) => each.textContent.trim()).join("");
        if (!words || !element.checkVisibility()) continue;
        let behind = element;
        while (colour(getComputedStyle(behind).backgroundColor).alpha === 0)
            behind = behind.parentElement;
        const one = light(colour(getComputedStyle(element).color).rgb);
        const other = light(colour(getComputedStyle(behind).backgroundColor).rgb);
        found[words] = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    }
    return found;
}"""
