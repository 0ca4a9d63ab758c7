"""The system's chromium, driven by playwright; a page may not break, nor break its policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page

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


@pytest.fixture(scope="session")
def browser_type_launch_args(
    browser_type_launch_args: dict[str, Any], tool: Callable[[str], str]
) -> dict[str, Any]:
    """Use the chromium of the system."""
    return {
        **browser_type_launch_args,
        "executable_path": tool("chromium"),
        "args": _ARGUMENTS,
    }


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
