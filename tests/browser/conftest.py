"""A real Chromium, headless, that reaches nothing but this machine."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    *("--disable-quic", "--disable-background-networking", "--disable-component-update"),
    *(
        "--disable-sync",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ),
)


@dataclass
class Opened:
    """A page, what its console said, and the addresses that it asked for."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in here drives a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"found no browser: none of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=[*_QUIET])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Any]:
    """`open_page(address, width=1280, **context)`: an `Opened`, loaded.

    The keywords are those of Playwright's `new_context`, such as color_scheme="dark".
    """
    contexts = []

    def opened(address: str, width: int = 1280, **options: Any) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        result = Opened(context.new_page())
        result.page.on("console", lambda message: result.console.append(message.text))
        result.page.on("pageerror", lambda error: result.console.append(str(error)))
        result.page.on("request", lambda request: result.requests.append(request.url))
        result.page.goto(address)
        return result

    yield opened
    for context in contexts:
        context.close()
