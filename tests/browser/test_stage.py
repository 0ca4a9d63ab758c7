"""A generation on the stage: while it is made, how it ends, and what can be done about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from sayso.http.serving import running_service
from sayso.providers.base import Failure, FailureKind
from sayso.providers.scripted import Script
from tests.services import Body, Service, is_final, started

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(90)]

ENDLESS = Script(start_s=0, run_s=600)
MEASURED = Script(start_s=0, run_s=600, measures=True)
UNHEARD = Failure(FailureKind.PERMANENT, "bad_audio", "The speech is not understood.")

# How long after an event of the stream the bar shows what it says, and is painted.
PAINTS = """
window.paints = [];
window.EventSource = class extends EventSource {
  set onmessage(handler) {
    super.onmessage = (event) => {
      const at = performance.now();
      const body = JSON.parse(event.data);
      handler(event);
      requestAnimationFrame(() => {
        const bar = document.getElementById("bar");
        const isOnStage = document.getElementById("prediction-id").textContent === body.id;
        const isShown = bar.value === body.progress.percent || !bar.checkVisibility();
        if (!isOnStage) return;
        setTimeout(() => window.paints.push({ ms: performance.now() - at, isShown }));
      });
    };
  }
};
"""

# How long and how large the video is, and how long it took.
LONG_LARGE_AND_SOON = re.compile(r"^1\.\d\ss · \d+ kB · Made in 0:\d\d$")

NOTIFICATIONS = """
window.told = [];
window.Notification = class {
  static permission = "default";
  static requestPermission = async () => (window.Notification.permission = "granted");
  constructor(title, options) { window.told.push({ title, ...options }); }
};
Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
"""


@pytest.fixture(autouse=True)
def tidy(quick: Service) -> Iterator[None]:
    """End what a test that failed has left: the next one waits for it."""
    yield
    listed: list[Body] = quick.http.get("/api/generations").json()["generations"]
    for body in listed:
        if not is_final(body):
            cancel(quick, body["id"])


def look_at(page: Page, service: Service, generation_id: str) -> None:
    page.goto(f"{service.url}/?prediction_id={generation_id}")
    expect(page.locator("#prediction-id")).to_have_text(generation_id)


def cancel(service: Service, generation_id: str) -> None:
    service.http.post(f"/api/generations/{generation_id}/cancel")
    service.until_final(generation_id)


def test_what_is_measured_is_shown_as_a_number(sound_page: Page, quick: Service) -> None:
    quick.provider.will(MEASURED)
    generation_id = quick.start()
    quick.until(generation_id, lambda body: body["progress"]["stage"] == "rendering")
    page = sound_page

    look_at(page, quick, generation_id)

    expect(page.locator("#badge")).to_have_text("IN PROGRESS")
    expect(page.locator("#generate-text")).to_have_text(re.compile(r"^GENERATING\.\.\. \d+%$"))
    expect(page.locator("#percent")).to_have_text(re.compile(r"^\d+%$"))
    expect(page.locator("#basis")).to_have_text("Measured")
    expect(page.locator("#steps [aria-current=step]")).to_have_text("Rendering")
    expect(page.locator("#stage-text")).to_have_text("Rendering")
    expect(page.locator("#still")).to_be_visible()
    expect(page).to_have_title(re.compile(r"^\d+% - Rendering · Sayso$"))
    expect(page.locator("#icon")).to_have_attribute("href", "/web/icon-live.svg")
    before = page.locator("#elapsed").inner_text()
    expect(page.locator("#elapsed")).not_to_have_text(before)
    # Only who does not mind sees things move by themselves.
    assert page.evaluate("document.getAnimations().length") > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate("document.getAnimations().length") == 0
    cancel(quick, generation_id)


def test_an_estimate_says_so_and_a_cancel_what_it_does_to_the_price(
    sound_page: Page, quick: Service
) -> None:
    quick.provider.will(ENDLESS)
    generation_id = quick.start()
    quick.until(generation_id, lambda body: body["progress"]["basis"] == "estimated")
    page = sound_page
    look_at(page, quick, generation_id)
    expect(page.locator("#percent")).to_have_text(re.compile(r"^about \d+%$"))
    expect(page.locator("#generate-text")).to_have_text(
        re.compile(r"^GENERATING\.\.\. about \d+%$")
    )
    expect(page.locator("#basis")).to_contain_text("Estimated")
    expect(page.locator("#cancel-effect")).to_contain_text("the $0.04 is released: you pay nothing")
    expect(page.locator("#held-now")).to_have_text("$0.04 held")
    page.route("**/cancel", lambda route: route.abort(), times=1)
    page.click("#cancel")
    expect(page.locator("#stage-error")).to_contain_text("does not answer")

    page.click("#cancel")

    expect(page.locator("#stage-text")).to_have_text("Canceled", timeout=20_000)
    expect(page.locator("#settled")).to_have_text("$0.04 released: you pay nothing")
    expect(page.locator("#stage-error")).to_be_hidden()
    expect(page.locator("#held-now")).to_be_empty()
    expect(page.locator("#generate-text")).to_have_text("Generate")
    expect(page).to_have_title("Canceled · Sayso")


def test_a_failure_is_tried_again_with_its_inputs_from_any_device(
    sound_page: Page, quick: Service
) -> None:
    """A page that was just opened has nothing in its form; the service has kept the inputs."""
    quick.provider.will(
        Script(start_s=0, run_s=0, end="failed", failure=UNHEARD), Script(start_s=0, run_s=0.2)
    )
    failed = quick.start(prompt="a person sings")
    quick.until_final(failed)
    page = sound_page
    look_at(page, quick, failed)
    expect(page.locator("#stage-text")).to_have_text("The video could not be made")
    expect(page.locator("#outcome")).to_have_text(UNHEARD.text)
    expect(page.locator("#advice")).to_contain_text("Choose another recording")
    expect(page.locator("#settled")).to_have_text("$0.04 released: you pay nothing")
    expect(page.locator("#again")).to_have_text("Try again, for $0.04")
    expect(page.locator("#icon")).to_have_attribute("href", "/web/icon-failed.svg")

    # Into the form, to be changed.
    page.click("#change")
    expect(page.locator("#generation")).to_be_hidden()
    expect(page.locator("#portrait-preview")).to_be_visible(timeout=20_000)
    expect(page.locator("#prompt")).to_have_value("a person sings")
    expect(page.locator("#generate")).to_have_attribute("aria-disabled", "false", timeout=20_000)
    assert page.url == f"{quick.url}/"
    expect(page.locator("#icon")).to_have_attribute("href", "/web/icon.svg")
    page.go_back()
    # Or once more as they are.
    page.click("#again")

    expect(page.locator("#settled")).to_have_text("held $0.04 → captured $0.04", timeout=20_000)
    another = page.locator("#prediction-id").inner_text()
    assert another != failed
    assert page.url.endswith(another)
    order = quick.http.get(f"/api/generations/{another}/order").json()
    assert order == quick.http.get(f"/api/generations/{failed}/order").json()


def test_a_generation_that_took_too_long_is_called_that(sound_page: Page, quick: Service) -> None:
    """Ten minutes are too long for a test: the service's answers are as after a deadline."""
    quick.provider.will(Script(start_s=0, run_s=0, end="failed", failure=UNHEARD))
    generation_id = quick.start()
    quick.until_final(generation_id)
    late = {"error": "Generation timed out after 10 minutes", "error_code": "timed_out"}

    def answer_late(route: Route) -> None:
        body = route.fetch().json()
        route.fulfill(json={**body, **{name: late[name] for name in late if name in body}})

    page = sound_page
    page.route(re.compile("check-lipsync|receipt"), answer_late)

    look_at(page, quick, generation_id)

    expect(page.locator("#stage-text")).to_have_text("It took too long")
    expect(page.locator("#outcome")).to_have_text(late["error"])
    expect(page.locator("#advice")).to_contain_text("shorter speech")
    expect(page.locator("#settled")).to_contain_text("released")


def test_a_success_is_played_and_its_receipt_says_what_it_did_cost(
    sound_page: Page, quick: Service
) -> None:
    quick.provider.will(Script(start_s=0, run_s=0.3))
    generation_id = quick.start()
    page = sound_page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    look_at(page, quick, generation_id)

    expect(page.locator("#stage-text")).to_have_text("Your video is ready", timeout=20_000)
    expect(page.locator("#percent")).to_have_text("100%")
    expect(page.locator("#settled")).to_have_text("held $0.04 → captured $0.04")
    expect(page.locator("#quality")).to_be_visible()
    page.click("#quality summary")
    expect(page.locator("#quality-text")).not_to_be_empty()
    page.click("#receipt-fold summary")
    for text in ("2 s × $0.02 = $0.04", "Captured", "test/scripted"):
        expect(page.locator("#receipt")).to_contain_text(text)
    expect(page.locator("#took")).to_have_text(LONG_LARGE_AND_SOON)
    expect(page).to_have_title("Ready · Sayso")
    expect(page.locator("#icon")).to_have_attribute("href", "/web/icon-ready.svg")
    page.click("#copy")
    expect(page.locator("#copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == generation_id
    page.click("#another")
    expect(page.locator("#portrait-invite")).to_be_visible()
    page.go_back()
    expect(page.locator("#prediction-id")).to_have_text(generation_id)
    expect(page.locator("#video")).to_be_visible()


def test_a_change_is_painted_within_a_tenth_of_a_second(sound_page: Page, quick: Service) -> None:
    quick.provider.will(Script(start_s=0, run_s=3, measures=True))
    generation_id = quick.start()
    page = sound_page
    page.add_init_script(PAINTS)

    look_at(page, quick, generation_id)

    expect(page.locator("#settled")).to_contain_text("captured", timeout=20_000)
    paints = page.evaluate("window.paints")
    assert len(paints) >= 3
    # Always with the first frame, which comes at once; at times the machine has other things to do.
    assert all(paint["isShown"] for paint in paints)
    assert sorted(paint["ms"] for paint in paints)[len(paints) // 2] <= 100


def test_two_tabs_show_the_same_over_one_stream(
    chromium: Browser, sound_page: Page, quick: Service
) -> None:
    quick.provider.will(MEASURED)
    generation_id = quick.start()
    first = sound_page
    second = first.context.new_page()
    look_at(first, quick, generation_id)
    look_at(second, quick, generation_id)
    expect(second.locator("#cancel")).to_be_enabled()
    assert _streams(quick) == 1

    second.click("#cancel")

    for page in (first, second):
        expect(page.locator("#stage-text")).to_have_text("Canceled", timeout=20_000)
        expect(page.locator("#generations li").first).to_contain_text("Canceled")
    # The stream passes on to the tab that is left.
    first.goto("about:blank")
    quick.provider.will(MEASURED)
    later = quick.start()
    expect(second.locator(f"[data-id='{later}']")).to_be_visible(timeout=10_000)
    cancel(quick, later)
    expect(second.locator(f"[data-id='{later}']")).to_contain_text("Canceled")


def _streams(service: Service) -> int:
    figures = service.http.get("/metrics").text
    found = re.search(r"^sayso_event_streams (\d+)", figures, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_another_device_with_the_key_shows_the_same(
    chromium: Browser, sound_page: Page, quick: Service
) -> None:
    """A device is a context of its own: no storage, no cookies are shared."""
    quick.provider.will(MEASURED)
    generation_id = quick.start()
    other: BrowserContext = chromium.new_context(locale="de-DE")
    page = other.new_page()

    look_at(page, quick, generation_id)
    look_at(sound_page, quick, generation_id)

    expect(page.locator("#badge")).to_have_text("IN ARBEIT")
    expect(sound_page.locator("#badge")).to_have_text("IN PROGRESS")
    sound_page.click("#cancel")
    expect(page.locator("#stage-text")).to_have_text("Abgebrochen", timeout=20_000)
    expect(page.locator("#settled")).to_have_text(re.compile(r"0,04\s\$ freigegeben"))
    other.close()


def test_a_service_that_starts_again_is_found_again(
    sound_page: Page, tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    page = sound_page
    # Longer than the service takes to stop, however busy the machine is.
    script = Script(start_s=0, run_s=20)
    with started(tmp_path, portrait=small_portrait, speech=short_speech, script=script) as before:
        generation_id = before.start()
        before.until(generation_id, lambda body: body["status"] == "processing")
        look_at(page, before, generation_id)
        expect(page.locator("#stage-text")).to_have_text("Rendering")
        page.set_input_files("#portrait", small_portrait)
        expect(page.locator("#portrait-drop")).to_have_attribute("data-state", "ready")
    expect(page.locator("#connection")).to_contain_text("does not answer", timeout=15_000)
    expect(page.locator("#stage-text")).to_have_text("Rendering")
    # What is chosen meanwhile is handed in later, also by a script that could not be loaded.
    page.set_input_files("#portrait", small_portrait)
    page.set_input_files("#speech", short_speech)
    expect(page.locator("#portrait-drop")).to_have_attribute("data-state", "problem")

    port = int(before.url.rpartition(":")[2])
    with running_service(before.settings, providers=[before.provider], port=port):
        expect(page.locator("#settled")).to_contain_text("captured $0.04", timeout=45_000)
        expect(page.locator("#connection")).to_be_hidden(timeout=15_000)
        expect(page.locator("#video")).to_be_visible()
        expect(page.locator("#portrait-drop")).to_have_attribute("data-state", "ready")
        expect(page.locator("#generate")).to_have_attribute("aria-disabled", "false")
        page.goto("about:blank")


def test_offline_is_said_and_over_when_it_is_over(
    sound_page: Page, quick: Service, axe: Callable[[Page], list[str]]
) -> None:
    page = sound_page
    quick.provider.will(MEASURED)
    generation_id = quick.start()
    look_at(page, quick, generation_id)

    page.context.set_offline(True)

    expect(page.locator("#connection")).to_contain_text("You are offline", timeout=10_000)
    expect(page.locator("#badge")).to_be_visible()
    assert axe(page) == []
    cancel(quick, generation_id)
    page.context.set_offline(False)
    expect(page.locator("#stage-text")).to_have_text("Canceled", timeout=15_000)
    expect(page.locator("#connection")).to_be_hidden(timeout=15_000)


def test_without_a_stream_the_page_polls(sound_page: Page, quick: Service) -> None:
    """Nor is anybody told to be offline whose service answers: it may be on this machine."""
    page = sound_page
    page.add_init_script("Object.defineProperty(navigator, 'onLine', { get: () => false });")
    page.route("**/api/events", lambda route: route.abort())
    quick.provider.will(MEASURED)
    generation_id = quick.start()
    look_at(page, quick, generation_id)
    expect(page.locator("#badge")).to_be_visible()

    cancel(quick, generation_id)

    expect(page.locator("#stage-text")).to_have_text("Canceled", timeout=20_000)
    expect(page.locator("#generations li").first).to_contain_text("Canceled")
    expect(page.locator("#connection")).to_be_hidden()


def test_whoever_asked_to_be_told_is_told(sound_page: Page, quick: Service) -> None:
    page = sound_page
    page.add_init_script(NOTIFICATIONS)
    quick.provider.will(Script(start_s=0, run_s=3))
    generation_id = quick.start()
    look_at(page, quick, generation_id)
    assert page.evaluate("Notification.permission") == "default"

    page.click("#notify")

    expect(page.locator("#notify")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#settled")).to_contain_text("captured", timeout=20_000)
    told = page.evaluate("window.told")
    assert [(one["title"], one["tag"]) for one in told] == [("Your video is ready", generation_id)]


def test_the_keyboard_alone_cancels_tries_again_and_deletes(
    sound_page: Page, quick: Service
) -> None:
    page = sound_page
    quick.provider.will(ENDLESS, Script(start_s=0, run_s=0.2))
    generation_id = quick.start()
    look_at(page, quick, generation_id)
    expect(page.locator("#stage-text")).to_have_text("Rendering", timeout=10_000)

    walk_to(page, "cancel")
    page.keyboard.press("Enter")
    expect(page.locator("#stage-text")).to_have_text("Canceled", timeout=20_000)
    walk_to(page, "again")
    page.keyboard.press("Enter")
    expect(page.locator("#stage-text")).to_have_text("Your video is ready", timeout=20_000)
    made = page.locator("#prediction-id").inner_text()
    walk_to(page, "delete")
    page.keyboard.press("Enter")
    expect(page.locator("#delete-no")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.locator("#generation")).to_be_hidden()
    assert quick.check(made).status_code == 404


def walk_to(page: Page, element_id: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(200):  # Each row of the history has three stops.
        if page.evaluate("document.activeElement.id") == element_id:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never came to {element_id}")
