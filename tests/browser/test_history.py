"""What was made before, the languages, the preview, and the request as code, in a real browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from sayso.providers.base import Failure, FailureKind
from sayso.providers.scripted import Script
from tests.services import MODEL, Service

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(90)]

PLAYS = """
async (video) => {
  await new Promise((resolve) => setTimeout(resolve, 600));
  return { at: video.currentTime, frames: video.getVideoPlaybackQuality().totalVideoFrames };
}
"""


FETCHED = """
(paths) => Promise.all(paths.map(async (path) => {
  const answer = await fetch(path);
  await answer.blob();
  return answer.status;
}))
"""


@pytest.fixture
def three(quick: Service) -> dict[str, str]:
    """One that is ready, one that failed and one that was canceled."""
    failure = Failure(FailureKind.PERMANENT, "bad_audio", "The speech is not understood.")
    quick.provider.will(
        Script(start_s=0, run_s=0.1),
        Script(start_s=0, run_s=0, end="failed", failure=failure),
        Script(start_s=0, run_s=600),
    )
    made = {}
    for status in ("succeeded", "failed", "canceled"):
        made[status] = quick.start()
        if status == "canceled":
            quick.until(made[status], lambda body: body["status"] == "processing")
            quick.http.post(f"/api/generations/{made[status]}/cancel")
        quick.until_final(made[status])
    return made


def row(generation_id: str) -> str:
    return f"[data-id='{generation_id}']"


def test_the_history_is_filtered_played_downloaded_and_deleted(
    sound_page: Page, quick: Service, three: dict[str, str]
) -> None:
    page = sound_page
    page.goto(quick.url)
    for status, word in (("succeeded", "Ready"), ("failed", "Failed"), ("canceled", "Canceled")):
        expect(page.locator(row(three[status]))).to_contain_text(word)
    # What did not succeed costs nothing.
    expect(page.locator(row(three["succeeded"]))).to_contain_text("$0.04")
    expect(page.locator(row(three["failed"]))).not_to_contain_text("$")

    page.select_option("#filter", "ended")
    expect(page.locator(row(three["succeeded"]))).to_have_count(0)
    expect(page.locator(row(three["failed"]))).to_be_visible()
    page.select_option("#filter", "active")
    expect(page.locator("#generations li")).to_have_count(0)
    expect(page.locator("#no-history")).to_have_text("Nothing here fits the filter.")
    page.select_option("#filter", "succeeded")
    ready = page.locator(row(three["succeeded"]))
    ready.locator(".entry").click()
    expect(page.locator("#prediction-id")).to_have_text(three["succeeded"])
    expect(ready.locator(".entry")).to_have_attribute("aria-current", "true")
    with page.expect_download() as download:
        ready.locator(".download").click()
    assert download.value.suggested_filename == f"{three['succeeded']}.mp4"
    parts = [f"/api/generations/{three['succeeded']}/{part}" for part in ("thumbnail", "video")]
    assert page.evaluate(FETCHED, parts) == [200, 200]

    ready.locator(".remove").press("Enter")
    expect(ready.locator("[data-role=keep]")).to_be_focused()
    page.keyboard.press("Enter")
    expect(ready.locator(".remove")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(ready).to_have_count(0)
    expect(page.locator("#generation")).to_be_hidden()
    assert quick.check(three["succeeded"]).status_code == 404
    # The browser does not show what it has kept of it either.
    assert page.evaluate(FETCHED, parts) == [404, 404]


def test_the_history_goes_on_behind_its_first_page(sound_page: Page, quick: Service) -> None:
    page = sound_page
    first = quick.start()
    second = quick.start()
    for generation_id in (first, second):
        quick.until_final(generation_id)

    def by_one(route: Route) -> None:
        """Give pages of one generation, as if there were many."""
        url = route.request.url
        route.continue_(url=f"{url}{'&' if '?' in url else '?'}limit=1")

    page.route(re.compile(r"/api/generations(\?.*)?$"), by_one)
    page.goto(quick.url)
    expect(page.locator("#generations li")).to_have_count(1)

    page.click("#more")

    expect(page.locator(row(second))).to_be_visible()
    expect(page.locator(row(first))).to_be_visible()


def test_a_row_shows_the_face_in_a_box_that_was_there_before(
    sound_page: Page, quick: Service
) -> None:
    """From the first percent, and whatever becomes of the generation."""
    page = sound_page
    quick.provider.will(Script(start_s=0, run_s=600))
    generation_id = quick.start()
    held: list[Route] = []
    # Playwright marks the functions that it is given, which a method does not allow.
    page.route("**/thumbnail", lambda route: held.append(route))  # noqa: PLW0108
    page.goto(quick.url)
    one = page.locator(row(generation_id))
    expect(one.locator("img")).to_have_attribute("alt", "")
    before = page.evaluate(BOXES, generation_id)
    wait_for(page, lambda: any(generation_id in route.request.url for route in held))

    for route in held:
        route.continue_()

    picture = one.locator("img")
    expect(picture).to_have_js_property("naturalWidth", 96)
    assert page.evaluate(BOXES, generation_id) == before
    assert before["face"] == before["img"]
    assert before["img"][2:] == [40, 40]
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    quick.http.post(f"/api/generations/{generation_id}/cancel")
    expect(one).to_contain_text("Canceled")
    expect(picture).to_have_js_property("naturalWidth", 96)
    assert [url for url in asked if "thumbnail" in url] == []


BOXES = """
(id) => {
  const row = document.querySelector(`[data-id="${id}"]`);
  const box = (one) => {
    const { x, y, width, height } = one.getBoundingClientRect();
    return [x, y, width, height];
  };
  const [face, img] = [".face", "img"].map((part) => box(row.querySelector(part)));
  return { row: box(row), face, img };
}
"""


def wait_for(page: Page, is_so: Callable[[], bool], *, looks: int = 200) -> None:
    """Wait for something that the page does, letting playwright hear of it."""
    for _ in range(looks):
        if is_so():
            return
        page.wait_for_timeout(50)
    raise AssertionError


def test_a_row_without_a_picture_shows_a_silhouette(sound_page: Page, quick: Service) -> None:
    """As those of older portraits do: nothing broken, and nothing asked for twice."""
    page = sound_page
    generation_id = quick.start()
    quick.until_final(generation_id)
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=404, json={"code": "artifact_missing"})

    page.route("**/thumbnail", refuse)
    page.goto(quick.url)
    one = page.locator(row(generation_id))

    expect(one).to_be_visible()
    expect(one.locator("img")).to_have_count(0)
    box = one.locator(".face").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (40, 40)
    assert "gradient" in one.locator(".face").evaluate("(e) => getComputedStyle(e).backgroundImage")
    page.select_option("#filter", "succeeded")
    page.select_option("#filter", "all")
    expect(one).to_be_visible()
    assert len([url for url in asked if generation_id in url]) == 1


@pytest.mark.parametrize("width", [360, 768, 1000, 1366])
def test_nothing_lies_over_the_history(
    sound_page: Page, quick: Service, three: dict[str, str], width: int
) -> None:
    """Also where the form stays in view; what a row offers can be clicked."""
    page = sound_page
    page.set_viewport_size({"width": width, "height": 768})
    page.goto(quick.url)
    expect(page.locator("#models input").first).to_be_attached()
    expect(page.locator(row(three["failed"]))).to_be_visible()

    for status, generation_id in three.items():
        one = page.locator(row(generation_id))
        for part in (".entry", ".face", ".hint", ".remove"):
            assert one.locator(part).first.evaluate(IS_ON_TOP), (status, part)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


IS_ON_TOP = """
(one) => {
  one.scrollIntoView({ block: "center" });
  const { left, top, width, height } = one.getBoundingClientRect();
  return one.closest("li").contains(document.elementFromPoint(left + width / 2, top + height / 2));
}
"""


def test_a_deletion_shows_in_every_tab_at_once(
    sound_page: Page, quick: Service, three: dict[str, str]
) -> None:
    """From a row and from the stage, by the tab that has the stream and by one that has not."""
    first, second = sound_page, sound_page.context.new_page()
    first.goto(quick.url)
    second.goto(f"{quick.url}/?prediction_id={three['failed']}")
    for tab in (first, second):
        for generation_id in three.values():
            expect(tab.locator(row(generation_id))).to_be_visible()
    expect(second.locator("#generation")).to_be_visible()
    listed: list[str] = []
    for tab in (first, second):
        tab.on("request", lambda request: listed.append(request.url))

    gone = first.locator(row(three["failed"]))
    gone.locator(".remove").click()
    gone.locator("[data-role=erase]").click()

    expect(second.locator(row(three["failed"]))).to_have_count(0)
    expect(second.locator("#generation")).to_be_hidden()
    expect(second.locator("#empty")).to_contain_text("There is no such generation.")
    assert [url for url in listed if url.endswith("/api/generations")] == []

    second.locator(row(three["canceled"])).locator(".entry").click()
    expect(second.locator("#prediction-id")).to_have_text(three["canceled"])
    second.click("#delete")
    second.click("#delete-yes")

    expect(first.locator(row(three["canceled"]))).to_have_count(0)
    expect(second.locator(row(three["canceled"]))).to_have_count(0)
    expect(first.locator(row(three["succeeded"]))).to_be_visible()
    second.close()


def test_a_page_that_is_seen_again_looks_again(
    sound_page: Page, quick: Service, three: dict[str, str]
) -> None:
    """No stream tells of a deletion on another device; a glance away is no reason to ask."""
    page = sound_page
    page.goto(quick.url)
    one = page.locator(row(three["canceled"]))
    expect(one).to_be_visible()
    page.wait_for_load_state("networkidle")
    quick.http.delete(f"/api/generations/{three['canceled']}")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.evaluate(AWAY, 1)
    page.wait_for_timeout(300)
    assert [url for url in asked if url.endswith("/api/generations")] == []
    expect(one).to_be_visible()
    page.evaluate(AWAY, 20)

    expect(one).to_have_count(0)
    expect(page.locator(row(three["failed"]))).to_be_visible()


AWAY = """
(seconds) => {
  const { now } = Date;
  const turn = (hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
    document.dispatchEvent(new Event("visibilitychange"));
  };
  turn(true);
  Date.now = () => now() + 1000 * seconds;
  turn(false);
  Date.now = now;
}
"""


def test_the_page_speaks_german_where_that_is_asked_for(
    chromium: Browser, quick: Service, three: dict[str, str]
) -> None:
    context = chromium.new_context(locale="de-AT")
    page = context.new_page()
    page.goto(f"{quick.url}/?prediction_id={three['succeeded']}")

    expect(page.locator("html")).to_have_attribute("lang", "de")
    for generation_id in three.values():
        box = page.locator(row(generation_id)).locator(".line").bounding_box()
        assert box is not None
        assert box["height"] < 30, "one line"
    expect(page.locator("#stage-text")).to_have_text("Ihr Video ist fertig")
    expect(page.locator("#settled")).to_have_text(
        re.compile(r"^0,04\s\$ reserviert → 0,04\s\$ abgebucht$")
    )
    expect(page).to_have_title("Fertig · Sayso")
    page.select_option("#language", "en")
    expect(page.locator("#settled")).to_have_text("held $0.04 → captured $0.04")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.reload()
    expect(page.locator("#stage-text")).to_have_text("Your video is ready")
    context.close()


def test_no_text_is_left_in_english(chromium: Browser, quick: Service) -> None:
    """Whatever stands in the page's file is said in the language that was chosen.

    The models' own options have the names and descriptions that the catalogue gives them.
    """
    english = _texts(chromium, quick, "en-GB")
    german = _texts(chromium, quick, "de-DE")
    same = {"Prompt"}  # In both languages.

    left = {text for text in english & german if re.search(r"[a-z]{3}", text)} - same

    assert left == set()


def _texts(chromium: Browser, service: Service, locale: str) -> set[str]:
    context = chromium.new_context(locale=locale)
    page = context.new_page()
    page.goto(service.url)
    expect(page.locator("#models input").first).to_be_attached()
    found: list[str] = page.evaluate(
        """[...document.querySelectorAll("[data-t], label, button, summary, legend, h1, h2, h3")]
        .filter((one) => !one.closest("#generations, #models, #options, #language"))
        .flatMap((one) => [one.textContent, one.ariaLabel, one.placeholder])
        .map((text) => text?.trim().replace(/\\s+/g, " ")).filter(Boolean)"""
    )
    context.close()
    return set(found)


def choose(page: Page, service: Service, model: str) -> None:
    page.goto(service.url)
    page.check(f"input[value='{model}']")
    page.set_input_files("#portrait", service.portrait)
    page.set_input_files("#speech", service.speech)
    expect(page.locator("#generate")).to_have_attribute("aria-disabled", "false", timeout=20_000)


def test_a_preview_is_played_before_a_paid_model_and_costs_nothing(
    sound_page: Page, quick: Service
) -> None:
    page = sound_page
    choose(page, quick, MODEL)
    listed = quick.http.get("/api/generations").json()

    page.click("#preview-make")

    expect(page.locator("#preview-video")).to_be_visible(timeout=60_000)
    played = page.locator("#preview-video").evaluate(PLAYS)
    assert played["at"] > 0.2
    assert played["frames"] > 3
    expect(page.locator("#preview-badge")).to_have_text("PREVIEW")
    expect(page.locator("#preview-hint")).to_contain_text(f"{MODEL} makes its own")
    assert quick.http.get("/api/generations").json() == listed
    assert quick.spent() == (0, 0)
    page.click("#preview-close")
    expect(page.locator("#preview-video")).to_be_hidden()
    expect(page.locator("#portrait-preview")).to_be_visible()
    page.check("input[value='sayso/portrait']")
    expect(page.locator("#preview")).to_be_hidden()
    page.check("input[value='test/free']")
    expect(page.locator("#preview")).to_be_hidden()


def test_a_refused_preview_says_why(sound_page: Page, quick: Service) -> None:
    page = sound_page
    problem = {"code": "previews_used_up", "detail": "30 previews were made in an hour."}
    asked: list[Route] = []
    # Playwright marks the functions that it is given, which a method does not allow.
    page.route("**/api/previews", lambda route: asked.append(route))  # noqa: PLW0108
    choose(page, quick, MODEL)

    page.click("#preview-make")

    expect(page.locator("#preview-make")).to_have_text("Making the preview …")
    asked[0].fulfill(status=429, json=problem)
    expect(page.locator("#preview-error")).to_have_text(problem["detail"])
    expect(page.locator("#preview-make")).to_have_text("Preview 2 s, free")


def test_the_code_that_is_copied_runs(
    sound_page: Page, quick: Service, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """As curl, Python and JavaScript; each waits for its video and says where it is."""
    page = sound_page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose(page, quick, MODEL)
    before = {body["id"] for body in quick.http.get("/api/generations").json()["generations"]}
    page.fill("#prompt", 'it\'s a "person" who $HOME sings\\n')
    page.click("#code-fold summary")
    programs = {}
    for name in ("curl", "python", "javascript"):
        page.check(f"input[name=program][value={name}]")
        page.click("#code-copy")
        expect(page.locator("#code-copy")).to_have_text("Copied")
        programs[name] = page.evaluate("navigator.clipboard.readText()")

    said = {
        "curl": _said(tmp_path, [tool("sh"), "-eu", "-c", programs["curl"]]),
        "python": _said(tmp_path, [sys.executable, "-c", programs["python"]]),
        "javascript": _said(
            tmp_path, [tool("node"), "--input-type=module", "-e", programs["javascript"]]
        ),
    }

    listed = quick.http.get("/api/generations").json()["generations"]
    made = {body["id"] for body in listed} - before
    assert len(made) == 3
    prompts = {quick.http.get(f"/api/generations/{one}/order").json()["prompt"] for one in made}
    assert prompts == {'it\'s a "person" who $HOME sings\\n'}
    for output in (json.loads(said["curl"])["output"], said["python"], said["javascript"]):
        assert quick.http.get(output).headers["content-type"] == "video/mp4"


def _said(folder: Path, command: list[str]) -> str:
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()
