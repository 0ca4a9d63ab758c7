"""The system's chromium, driven by playwright; a page may not break, nor break its policy.

page, sound_page    a page; one that fails the test when anything is wrong with it
axe                 what is wrong with a page for anybody: in light, in dark, at each width
npm_tools           the folder where axe-core and TypeScript are, installed once from their lock
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.installing import install, kept_folder

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # A microphone that beeps and a camera that shows a clock face, for whoever is let.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

_HERE = Path(__file__).parent
# Nothing moves while colours are compared.
_STILL = "*, ::before, ::after { transition: none !important; animation: none !important }"

# What changes while axe looks at it confuses axe.
_SCAN = """
async () => {
  for (let tries = 1; ; tries++) {
    try {
      return (await axe.run()).violations;
    } catch (problem) {
      if (tries === 10) throw problem;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
"""
WIDTHS = (360, 768, 1366)
_TOO_WIDE = """
[...document.querySelectorAll(":root, .panel, .parts, dialog[open]")]
.filter((one) => !one.matches(".parts") || getComputedStyle(one).overflowX !== "visible")
.filter((one) => one.scrollWidth > one.clientWidth)
.map((one) => one.id || one.className || one.tagName)
"""

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
        if not message.text.startswith("Failed to load resource"):
            wrong.append(message.text)

    page.on("console", on_console)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.add_init_script(_TELL_OF_VIOLATIONS)
    page.set_viewport_size({"width": 1366, "height": 768})
    yield page
    assert wrong == []


@pytest.fixture(scope="session")
def npm_tools(request: pytest.FixtureRequest, tool: Callable[[str], str]) -> Path:
    """The folder of the packages of `package-lock.json`, installed once without running scripts."""

    def command(making: Path) -> tuple[str, ...]:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_HERE / name, making)
        return (tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund")

    assert request.config.cache is not None
    folder = kept_folder(request.config.cache, _HERE / "package-lock.json", suffix="-page")
    return install(folder, command) / "node_modules"


@pytest.fixture
def axe(npm_tools: Path) -> Callable[[Page], list[str]]:
    """Give what is wrong with a page as it is for anybody.

    Asked are axe-core, in light and in dark, and how wide it is on a phone, a tablet and a desk.
    """
    script = (npm_tools / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

    def violations(page: Page) -> list[str]:
        # As a value: a sheet in the document would break the page's own policy.
        page.evaluate(
            """(css) => {
              const sheet = new CSSStyleSheet();
              sheet.replaceSync(css);
              document.adoptedStyleSheets.push(sheet);
            }""",
            _STILL,
        )
        page.evaluate(script)
        found: list[str] = []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            results = page.evaluate(_SCAN)
            found += [
                f"{scheme}: {result['id']}: {node['html'][:160]} ({node['failureSummary']})"
                for result in results
                for node in result["nodes"]
            ]
        page.emulate_media(color_scheme="light")
        return found + too_wide(page)

    return violations


def too_wide(page: Page) -> list[str]:
    """Return the widths at which something runs out of the window, a panel or a dialog."""
    size = page.viewport_size
    assert size is not None
    wide = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": size["height"]})
        wide += [f"{name} too wide at {width} px" for name in page.evaluate(_TOO_WIDE)]
    page.set_viewport_size(size)
    return wide
