"""A real Chromium against a real server; every test fails on a console error or a request to elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.acceptance.http_node import HttpNode
from tests.required import skip_or_fail


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


# Not for the session: Playwright keeps an event loop running in this thread as long as it lives, and the tests that
# come after it in this worker may want one of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = _chromium()
    if path is None:
        skip_or_fail("no Chromium on the PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpNode]:
    with HttpNode(tmp_path_factory.mktemp("console")) as node:
        yield node


# A loaded machine needs a moment for a new renderer; a page that never comes live still fails.
expect.set_options(timeout=15_000)
OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, node: HttpNode) -> Iterator[OpenPage]:
    """Opens a path of the node in a page of its own; afterwards nothing may have gone wrong in any of them."""
    with pages_of(browser, node.url) as open_:
        yield open_


@contextmanager
def pages_of(browser: Browser, url: str) -> Iterator[OpenPage]:
    """Opens paths of a server, each in a page of its own; at the end nothing may have gone wrong in any of them.

    `before` is called with the page before it goes anywhere; `quiet=False` is for what makes the browser complain.
    """
    wrong: list[str] = []
    contexts = []

    def open_(
        path: str = "/",
        *,
        width: int = 1280,
        height: int = 860,
        scheme: str = "light",
        quiet: bool = True,
        before: Callable[[Page], object] | None = None,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            base_url=url,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        if quiet:
            page.on(
                "console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None
            )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(url) else wrong.append(request.url))
        if before is not None:
            before(page)
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []
