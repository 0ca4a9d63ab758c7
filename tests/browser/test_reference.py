"""The reference of the API, and whether what it says to try can be tried."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.services import MODEL, Service

# Two browsers on two processors would only wait for each other.
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(60)]


def test_the_commands_that_take_something_can_be_tried(
    sound_page: Page, quick: Service, tool: Callable[[str], str]
) -> None:
    curl = tool("curl")
    sound_page.goto(f"{quick.url}/docs")
    expect(sound_page.locator("#post--v-files pre code")).to_be_visible()

    def tried(section: str, **filled_in: object) -> dict[str, object]:
        text = sound_page.locator(f"#{section} pre code").inner_text().replace("\\\n", "")
        for blank, value in filled_in.items():
            text = text.replace(f'"{blank}":"..."', f'"{blank}":{json.dumps(value)}')
        text = text.replace("portrait.jpg", str(quick.portrait)).replace("owner/name", MODEL)
        run = subprocess.run(
            [curl, "--silent", *shlex.split(text)[1:]], capture_output=True, check=True, timeout=30
        )
        body: dict[str, object] = json.loads(run.stdout)
        return body

    file, portrait = tried("post--v-files"), tried("post--api-uploads")
    assert file["size"] == portrait["size"] == quick.portrait.stat().st_size
    inputs = {"image": quick.portrait_url, "audio": quick.speech_url}
    assert tried("post--v-models-owner-name-predictions", **inputs)["model"] == MODEL
    assert "cost" in tried("post--api-quote", audioUrl=quick.speech_url)


def test_a_link_to_what_is_not_there_shows_the_reference(sound_page: Page, quick: Service) -> None:
    sound_page.goto(f"{quick.url}/docs#no-such]thing")

    expect(sound_page.locator("#get--livez, #get--readyz")).to_be_visible()
    sound_page.wait_for_load_state("networkidle")
