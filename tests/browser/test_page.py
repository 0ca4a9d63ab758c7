"""The page as a person uses it: choose, see the price, generate, watch, download."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.services import Service

# Two browsers on two processors would only wait for each other.
pytestmark = pytest.mark.xdist_group("browser")

PLAYS = """
async (video) => {
  await video.play();
  while (video.getVideoPlaybackQuality().totalVideoFrames < 10) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { currentTime: at, videoWidth: width, webkitAudioDecodedByteCount: sound } = video;
  return { at, width, sound };
}
"""


def choose_inputs(page: Page, service: Service) -> None:
    page.set_input_files("#portrait", service.portrait)
    page.set_input_files("#speech", service.speech)
    expect(page.locator("#portrait-hint")).to_have_text("This portrait can speak.", timeout=20_000)
    expect(page.locator("#speech-length")).to_contain_text("1.3 s of", timeout=20_000)


def loudness(video: Path) -> float:
    """Return the mean amplitude of what a video lets hear."""
    with av.open(str(video)) as container:
        heard = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return float(np.abs(np.concatenate(heard, axis=1)).mean())


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
    assert played["at"] > 0
    assert played["width"] > 100
    assert played["sound"] > 1000
    with page.expect_download() as download:
        page.click("#download")
    generation_id = page.locator("#prediction-id").inner_text()
    assert download.value.suggested_filename == f"{generation_id}.mp4"
    download.value.save_as(tmp_path / "video.mp4")
    assert loudness(tmp_path / "video.mp4") > 0.01
    expect(page.locator("#generations li").first).to_contain_text("Ready")
    page.locator("#receipt-fold summary").click()
    expect(page.locator("#receipt")).to_contain_text("Captured")


@pytest.mark.timeout(60)
def test_the_reference_lists_every_address(sound_page: Page, quick: Service) -> None:
    page = sound_page
    page.goto(f"{quick.url}/docs")

    described = quick.http.get("/openapi.json").json()["paths"]
    count = sum(len(operations) for operations in described.values())
    expect(page.locator(".operation")).to_have_count(count)
    expect(page.locator("#contents li")).to_have_count(count)
