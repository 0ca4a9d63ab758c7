"""The system's chromium, driven by playwright; a page may not break, nor break its policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]

_TELL_OF_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture(scope="module")
def chromium(tool: Callable[[str], str]) -> Iterator[Browser]:
    """The system's chromium, for one module.

    Playwright's own fixtures keep an event loop running until the session ends, in which no
    asynchronous test of the same process could run any more.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page in a context of its own."""
    context = chromium.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def sound_page(page: Page) -> Iterator[Page]:
    """A page that neither breaks nor breaks its own security policy."""
    wrong: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        # Chromium prints each refused request as an error; tests look at those themselves.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            wrong.append(message.text)

    page.on("console", on_console)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.add_init_script(_TELL_OF_VIOLATIONS)
    page.set_viewport_size({"width": 1366, "height": 768})
    yield page
    assert wrong == []
