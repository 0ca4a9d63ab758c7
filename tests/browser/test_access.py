"""Every state of a generation for everybody: axe-core in light and dark, and at each width."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from sayso.providers.base import Failure, FailureKind
from sayso.providers.scripted import Script
from tests.services import MODEL, Body, Service, is_final

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(120)]

Axe = Callable[[Page], list[str]]

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


def overflow(page: Page) -> list[str]:
    """Return the widths at which something runs out of the window."""
    wide = []
    for width in (360, 768, 1366):
        page.set_viewport_size({"width": width, "height": 768})
        if page.evaluate("document.documentElement.scrollWidth - innerWidth") > 0:
            wide.append(f"too wide at {width} px")
    return wide


def test_a_generation_that_is_made_is_accessible(
    page_of: Callable[[Script], Page], axe: Axe
) -> None:
    found: dict[str, list[str]] = {}
    page = page_of(Script(start_s=0, run_s=600))
    expect(page.locator("#basis")).to_contain_text("Estimated", timeout=20_000)
    found["estimated"] = axe(page) + overflow(page)
    page.locator("#filter").focus()
    page.context.set_offline(True)
    expect(page.locator("#connection")).to_contain_text("offline", timeout=10_000)
    found["offline"] = axe(page)
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_be_hidden(timeout=15_000)
    page.click("#cancel")
    expect(page.locator("#stage-text")).to_have_text("Canceled", timeout=20_000)
    found["canceled"] = axe(page) + overflow(page)
    page.goto(f"{page.url[:-26]}nothing")
    expect(page.locator("#empty")).to_be_visible()
    found["missing"] = axe(page) + overflow(page)

    assert {state: problems for state, problems in found.items() if problems} == {}


def test_a_generation_that_has_ended_is_accessible(
    page_of: Callable[[Script], Page], axe: Axe
) -> None:
    found: dict[str, list[str]] = {}
    page = page_of(Script(start_s=0, run_s=0, end="failed", failure=UNHEARD))
    expect(page.locator("#advice")).to_be_visible(timeout=20_000)
    found["failed"] = axe(page) + overflow(page)
    page = page_of(Script(start_s=0, run_s=0.2))
    expect(page.locator("#quality")).to_be_visible(timeout=20_000)
    page.click("#quality summary")
    page.click("#receipt-fold summary")
    found["succeeded"] = axe(page) + overflow(page)
    page.click("#delete")
    page.locator(".remove").last.click()
    found["deleting"] = axe(page) + overflow(page)
    page.select_option("#language", "de")
    expect(page.locator("#stage-text")).to_have_text("Ihr Video ist fertig")
    found["in German"] = axe(page) + overflow(page)

    assert {state: problems for state, problems in found.items() if problems} == {}


def test_preview_and_code_are_accessible(sound_page: Page, quick: Service, axe: Axe) -> None:
    found: dict[str, list[str]] = {}
    page = sound_page
    page.goto(quick.url)
    page.check(f"input[value='{MODEL}']")
    page.click("#code-fold summary")
    page.set_input_files("#portrait", quick.portrait)
    page.set_input_files("#speech", quick.speech)
    expect(page.locator("#code")).to_be_visible(timeout=20_000)
    found["code"] = axe(page) + overflow(page)
    page.click("#preview-make")
    found["making a preview"] = axe(page)
    expect(page.locator("#preview-video")).to_be_visible(timeout=60_000)
    found["a preview"] = axe(page) + overflow(page)

    assert {state: problems for state, problems in found.items() if problems} == {}
