"""Every state of the page for everybody: axe-core in light and dark, and at each width."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from sayso.providers.base import Failure, FailureKind
from sayso.providers.scripted import Script
from tests.browser.conftest import WIDTHS, too_wide
from tests.services import MODEL, Body, Service, is_final, started

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(120)]

Axe = Callable[[Page], list[str]]

KEY = "a key of twenty chars"
UNHEARD = Failure(FailureKind.PERMANENT, "bad_audio", "The speech is not understood.")


@pytest.fixture
def page_of(sound_page: Page, quick: Service) -> Iterator[Callable[[Script], Page]]:
    """Show a generation that does what a script says; end what still runs afterwards."""

    def show(script: Script) -> Page:
        quick.provider.will(script)
        generation_id = quick.start()
        sound_page.goto(f"{quick.url}/?prediction_id={generation_id}")
        expect(sound_page.locator("#prediction-id")).to_have_text(generation_id)
        return sound_page

    yield show
    listed: list[Body] = quick.http.get("/api/generations").json()["generations"]
    for body in listed:
        if not is_final(body):
            quick.http.post(f"/api/generations/{body['id']}/cancel")


def wrong_of(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the states in which something is wrong."""
    return {state: problems for state, problems in found.items() if problems}


def expect_inputs(page: Page) -> None:
    """Wait until the service has looked at both inputs."""
    expect(page.locator("#portrait-drop")).not_to_have_attribute(
        "data-state", "pending", timeout=30_000
    )
    expect(page.locator("#quote")).to_contain_text("×", timeout=30_000)
    expect(page.locator("#speech-range")).not_to_contain_text("…", timeout=30_000)


def test_an_order_is_accessible(sound_page: Page, quick: Service, axe: Axe, tmp_path: Path) -> None:
    page = sound_page
    Image.new("RGB", (400, 400), "#778").save(tmp_path / "wall.png")
    found: dict[str, list[str]] = {}
    page.goto(quick.url)
    expect(page.locator("#models input").first).to_be_attached()
    found["empty"] = axe(page)
    page.locator("#generate").click(force=True)
    found["something missing"] = axe(page)
    page.click("#camera")
    expect(page.get_by_role("button", name="Take it")).to_be_enabled(timeout=20_000)
    found["the camera"] = axe(page)
    page.keyboard.press("Escape")
    page.click("#record")
    expect(page.locator("#recorded")).to_have_text("0:01", timeout=20_000)
    found["recording"] = axe(page)
    page.click("#stop")
    page.set_input_files("#portrait", tmp_path / "wall.png")
    expect_inputs(page)
    found["a bad portrait"] = axe(page)
    page.check(f"input[value='{MODEL}']")
    page.locator("#options-fold, .others").first.locator("summary").click()
    page.set_input_files("#portrait", quick.portrait)
    expect_inputs(page)
    found["ready"] = axe(page)
    page.click("#crop")
    expect(page.locator(".crop-frame")).to_be_visible()
    found["cropping"] = axe(page)
    page.keyboard.press("Escape")
    # What the service does not answer yet is on its way for as long as one likes.
    page.route("**/api/uploads", lambda _: None)
    page.set_input_files("#portrait", quick.portrait)
    expect(page.locator("#portrait-hint")).to_contain_text("…")
    found["handing in"] = axe(page)

    assert wrong_of(found) == {}


def test_preview_and_code_are_accessible(sound_page: Page, quick: Service, axe: Axe) -> None:
    found: dict[str, list[str]] = {}
    page = sound_page
    page.goto(quick.url)
    page.check(f"input[value='{MODEL}']")
    page.click("#code-fold summary")
    page.set_input_files("#portrait", quick.portrait)
    page.set_input_files("#speech", quick.speech)
    expect(page.locator("#code")).to_be_visible(timeout=20_000)
    found["code"] = axe(page)
    page.click("#preview-make")
    found["making a preview"] = axe(page)
    expect(page.locator("#preview-video")).to_be_visible(timeout=60_000)
    found["a preview"] = axe(page)

    assert wrong_of(found) == {}


def test_on_every_screen_the_button_is_in_view(
    chromium: Browser, quick: Service, small_portrait: Path
) -> None:
    """On a desk there is nothing to scroll for either; names do not matter, however long."""
    tall: dict[int, float] = {}
    page = chromium.new_context(has_touch=True, is_mobile=True).new_page()
    page.goto(quick.url)
    long = f"{'x' * 150} שלום 😀"
    page.set_input_files("#portrait", named(f"{long}.jpg", small_portrait))
    page.set_input_files("#speech", named(f"{long}.wav", quick.speech))
    expect_inputs(page)
    assert too_wide(page) == []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 768})
        button = page.locator("#generate").bounding_box()
        assert button is not None
        assert button["y"] + button["height"] <= 768
        tall[width] = page.evaluate("document.documentElement.scrollHeight - innerHeight")
    # A phone on its side, and a window at 400 %.
    for width, height in ((740, 360), (341, 192)):
        page.set_viewport_size({"width": width, "height": height})
        for name in ("crop", "play", "generate"):
            assert page.locator(f"#{name}").evaluate(IS_REACHED), (width, name)
    # What stays in view leaves room for what it is about.
    expect(page.locator(".bottom")).to_have_css("position", "static")
    too_small = page.evaluate(TOO_SMALL)
    page.emulate_media(forced_colors="active")
    paper, handle = page.evaluate(COLOURS)
    page.context.close()

    assert tall[1366] <= 0
    assert too_small == []
    assert handle != paper


def named(name: str, file: Path) -> Any:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": file.read_bytes()}


IS_REACHED = """
(one) => {
  one.scrollIntoView({ block: "center" });
  const { left, top, width, height } = one.getBoundingClientRect();
  return one.contains(document.elementFromPoint(left + width / 2, top + height / 2));
}
"""
COLOURS = """
[[document.documentElement], [document.querySelector(".handle"), "::before"]]
.map((one) => getComputedStyle(...one).backgroundColor)
"""
# For a finger.
TOO_SMALL = """
[...document.querySelectorAll("button, .button, header a, select, summary")]
.filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 44)
.map((one) => one.id || one.textContent)
"""


def test_a_generation_that_is_made_is_accessible(
    page_of: Callable[[Script], Page], axe: Axe
) -> None:
    found: dict[str, list[str]] = {}
    page = page_of(Script(start_s=600))
    found["waiting"] = axe(page)
    page.click("#cancel")
    expect(page.locator("#stage-text")).to_have_text("Canceled", timeout=20_000)
    found["canceled"] = axe(page)
    page = page_of(Script(start_s=0, run_s=600))
    expect(page.locator("#basis")).to_contain_text("Estimated", timeout=20_000)
    found["estimated"] = axe(page)
    page.goto(f"{page.url[:-26]}nothing")
    expect(page.locator("#empty")).to_contain_text("There is no such generation.")
    found["missing"] = axe(page)

    assert wrong_of(found) == {}


def test_a_generation_that_has_ended_is_accessible(
    page_of: Callable[[Script], Page], axe: Axe
) -> None:
    found: dict[str, list[str]] = {}
    page = page_of(Script(start_s=0, run_s=0, end="failed", failure=UNHEARD))
    expect(page.locator("#advice")).to_be_visible(timeout=20_000)
    found["failed"] = axe(page)
    page = page_of(Script(start_s=0, run_s=0.2))
    expect(page.locator("#quality")).to_be_visible(timeout=20_000)
    page.click("#quality summary")
    page.click("#receipt-fold summary")
    found["succeeded"] = axe(page)
    page.click("#delete")
    page.locator(".remove").last.click()
    found["deleting"] = axe(page)
    page.select_option("#language", "de")
    expect(page.locator("#stage-text")).to_have_text("Ihr Video ist fertig")
    found["in German"] = axe(page)

    assert wrong_of(found) == {}


def test_the_key_is_asked_for_once_and_who_has_too_little_is_told_what_to_do(
    sound_page: Page, tmp_path: Path, small_portrait: Path, short_speech: Path, axe: Axe
) -> None:
    page = sound_page
    found: dict[str, list[str]] = {}
    with started(
        tmp_path,
        portrait=small_portrait,
        speech=short_speech,
        api_key=SecretStr(KEY),
        opening_balance_micros=30_000,
    ) as service:
        page.goto(service.url)
        expect(page.locator("#key-dialog")).to_be_visible()
        found["the key"] = axe(page)
        page.fill("#key", "not the key at all")
        page.click("#key-form button")
        expect(page.locator("#key-error")).to_be_visible()
        found["not the key"] = axe(page)
        page.fill("#key", KEY)
        page.click("#key-form button")
        expect(page.locator("#available")).to_contain_text("$0.03 available")
        page.reload()
        expect(page.locator("#available")).to_contain_text("$0.03 available")
        expect(page.locator("#key-dialog")).to_be_hidden()

        page.check(f"input[value='{MODEL}']")
        page.set_input_files("#portrait", small_portrait)
        page.set_input_files("#speech", short_speech)
        expect_inputs(page)
        expect(page.locator("#balance")).to_contain_text("You have $0.03.")
        page.locator("#generate").click(force=True)
        expect(page.locator("#order-error")).to_contain_text("sayso credits grant")
        assert service.http.get("/api/generations").json()["generations"] == []
        found["out of credits"] = axe(page)
        page.check("input[value='sayso/portrait']")
        expect(page.locator("#generate")).to_have_attribute("aria-disabled", "false")

    assert wrong_of(found) == {}
