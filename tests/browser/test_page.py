"""The page as a person uses it: choose, see the price, generate, watch, download, try again."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from playwright.sync_api import Page, expect
from pydantic import SecretStr

from tests.services import Service, started

# Two browsers on two processors would only wait for each other.
pytestmark = pytest.mark.xdist_group("browser")

KEY = "a key of twenty chars"

PLAYS = """
async (video) => {
  await video.play();
  await new Promise((resolve) => setTimeout(resolve, 600));
  return {
    at: video.currentTime,
    width: video.videoWidth,
    frames: video.getVideoPlaybackQuality().totalVideoFrames,
  };
}
"""


def choose_inputs(page: Page, service: Service) -> None:
    page.set_input_files("#portrait", service.portrait)
    page.set_input_files("#speech", service.speech)
    expect(page.locator("#portrait-hint")).to_have_text("This portrait can speak.", timeout=20_000)
    expect(page.locator("#speech-length")).to_contain_text("1.3 s of", timeout=20_000)


def generate(page: Page) -> None:
    expect(page.locator("#generate")).to_be_enabled()
    page.click("#generate")


@pytest.mark.timeout(120)
def test_a_video_is_made_watched_and_downloaded(
    sound_page: Page, quick: Service, tmp_path: Path
) -> None:
    """By our own engine, through a reload in the middle."""
    page = sound_page
    page.goto(quick.url)
    expect(page.locator("#generate")).to_be_disabled()
    choose_inputs(page, quick)
    expect(page.locator("#face-box")).to_be_visible()
    expect(page.locator("#quote")).to_contain_text("2 s × $0.01 = $0.02")

    generate(page)

    expect(page.locator("#badge")).to_have_text("IN PROGRESS")
    expect(page.locator("#held")).to_contain_text("$0.02 held")
    expect(page.locator("#held-now")).to_contain_text("$0.02 held")
    page.reload()
    expect(page.locator("#bar, #video").first).to_be_attached()
    settled = page.locator("#settled")
    expect(settled).to_have_text("held $0.02 → captured $0.02", timeout=60_000)
    expect(page.locator("#badge")).to_be_hidden()
    played = page.locator("#video").evaluate(PLAYS)
    assert played["at"] > 0.3
    assert played["width"] > 100
    assert played["frames"] > 5
    with page.expect_download() as download:
        page.click("#download")
    generation_id = page.locator("#prediction-id").inner_text()
    assert download.value.suggested_filename == f"{generation_id}.mp4"
    download.value.save_as(tmp_path / "video.mp4")
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
    expect(page.locator("#generations li").first).to_contain_text("Ready")
    page.locator("#receipt-fold summary").click()
    expect(page.locator("#receipt")).to_contain_text("Captured")


@pytest.mark.timeout(60)
def test_inputs_that_cannot_be_used_are_said_so_before_anything_is_held(
    sound_page: Page, quick: Service, tmp_path: Path
) -> None:
    page = sound_page
    (tmp_path / "letter.txt").write_text("no picture")
    page.goto(quick.url)

    page.set_input_files("#portrait", tmp_path / "letter.txt")

    hint = page.locator("#portrait-hint")
    expect(hint).to_contain_class("error", timeout=20_000)
    expect(hint).not_to_be_empty()
    expect(page.locator("#generate")).to_be_disabled()


@pytest.mark.timeout(60)
def test_an_unknown_address_is_said_so(sound_page: Page, quick: Service) -> None:
    sound_page.goto(f"{quick.url}/?prediction_id=nothing")

    expect(sound_page.locator("#empty")).to_contain_text("There is no such generation.")


@pytest.mark.timeout(90)
def test_the_key_is_asked_for_once(
    sound_page: Page, tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    page = sound_page
    with started(
        tmp_path, portrait=small_portrait, speech=short_speech, api_key=SecretStr(KEY)
    ) as service:
        page.goto(service.url)
        page.fill("#key", "not the key at all")
        page.click("#key-form button")
        expect(page.locator("#key-error")).to_be_visible()
        page.fill("#key", KEY)
        page.click("#key-form button")

        expect(page.locator("#available")).to_contain_text("$5.00 available")
        page.reload()
        expect(page.locator("#available")).to_contain_text("$5.00 available")
        expect(page.locator("#key-dialog")).to_be_hidden()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("width", [360, 800, 1366])
def test_nothing_runs_out_of_the_window(sound_page: Page, quick: Service, width: int) -> None:
    page = sound_page
    page.set_viewport_size({"width": width, "height": 768})
    page.goto(quick.url)
    expect(page.locator("#models input").first).to_be_attached()

    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")

    assert overflow <= 0


@pytest.mark.timeout(60)
def test_every_field_has_a_name(sound_page: Page, quick: Service) -> None:
    page = sound_page
    page.goto(quick.url)
    expect(page.locator("#models input").first).to_be_attached()

    nameless = page.evaluate(
        """[...document.querySelectorAll("input, select, textarea, button")]
        .filter((field) => !field.labels?.length && !field.textContent.trim() && !field.ariaLabel)
        .map((field) => field.outerHTML)"""
    )

    assert nameless == []


@pytest.mark.timeout(60)
def test_the_reference_lists_every_address(sound_page: Page, quick: Service) -> None:
    page = sound_page
    page.goto(f"{quick.url}/docs")

    described = quick.http.get("/openapi.json").json()["paths"]
    count = sum(len(operations) for operations in described.values())
    expect(page.locator(".operation")).to_have_count(count)
    expect(page.locator("#contents li")).to_have_count(count)
