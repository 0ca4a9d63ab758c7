"""Composing an order: the portrait, the speech, the model, the price; by mouse and by keyboard."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import wave
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Response, Route, expect

from tests.browser.conftest import WIDTHS
from tests.conftest import ROOT
from tests.services import MODEL, PRICE_MICROS, Service, started, write_speech

# Two browsers on two processors would only wait for each other.
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(120)]

WEB = ROOT / "src" / "sayso" / "web"
READY = "This portrait can speak."
FIRST_LOAD_BYTES = 60_000
# A busy machine takes longer than the page makes people wait.
PATIENCE = """
addEventListener("DOMContentLoaded", () =>
  document.documentElement.style.setProperty("--patience", "60s"));
"""
LAYOUT_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    for (const { node, previousRect, currentRect } of entry.sources) {
      window.shifts.push([node?.id || node?.nodeName, previousRect.toJSON(), currentRect.toJSON()]);
    }
  }
}).observe({ type: "layout-shift", buffered: true });
"""


KEPT = """
() => new Promise((resolve) => {
  indexedDB.open("sayso").onsuccess = ({ target: { result: database } }) => {
    const store = database.transaction("originals").objectStore("originals");
    store.getAllKeys().onsuccess = (event) => resolve(event.target.result);
  };
})
"""


def open_page(page: Page, service: Service) -> None:
    page.goto(service.url)
    expect(page.locator("#models input").first).to_be_attached()


def choose_portrait(page: Page, path: Path | dict[str, Any]) -> None:
    page.set_input_files("#portrait", path)  # type: ignore[arg-type]  # A file as it is handed in.
    expect(page.locator("#portrait-drop")).not_to_have_attribute(
        "data-state", "pending", timeout=30_000
    )


def choose_speech(page: Page, path: Path) -> None:
    page.set_input_files("#speech", path)
    expect_speech(page)


def expect_speech(page: Page) -> None:
    """Wait until the service has looked at the speech."""
    expect(page.locator("#speech-drop")).to_have_attribute("data-state", "ready", timeout=30_000)
    expect(page.locator("#speech-range")).not_to_contain_text("…", timeout=30_000)


def expect_ready(page: Page) -> None:
    expect(page.locator("#generate")).to_have_attribute("aria-disabled", "false", timeout=30_000)


def drop(page: Page, *paths: Path) -> None:
    """Drop files on the page, as a file manager does."""
    files = [[path.name, b64encode(path.read_bytes()).decode()] for path in paths]
    page.evaluate(
        """(files) => {
          const dropped = new DataTransfer();
          for (const [name, content] of files) {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const type = name.endsWith("jpg") ? "image/jpeg" : "audio/wav";
            dropped.items.add(new File([bytes], name, { type }));
          }
          for (const type of ["dragover", "drop"]) {
            document.body.dispatchEvent(
              new DragEvent(type, { dataTransfer: dropped, bubbles: true, cancelable: true }));
          }
        }""",
        files,
    )


def press_generate(page: Page) -> None:
    """Press the button also while it says that it cannot: then it tells why."""
    page.locator("#generate").click(force=True)


def uploads_of(page: Page) -> list[dict[str, Any]]:
    """Collect what the service answers to uploads from now on."""
    answers: list[dict[str, Any]] = []

    def collect(answer: Response) -> None:
        if answer.url.endswith("/api/uploads") and answer.status == 201:
            answers.append(answer.json())

    page.on("response", collect)
    return answers


def bytes_moved(page: Page) -> list[int]:
    """Collect the sizes of what is loaded from now on, as they are on the wire."""
    moved: list[int] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: moved.append(event["encodedDataLength"]))
    return moved


def test_the_sample_is_that_of_the_command_line() -> None:
    for name in ("portrait.jpg", "speech.ogg"):
        sample = (WEB / "sample" / name).read_bytes()
        assert sample == (ROOT / "examples" / name).read_bytes()


def test_the_price_is_there_before_anything_is_held(
    sound_page: Page, quick: Service, tmp_path: Path, speech: Path
) -> None:
    page = sound_page
    open_page(page, quick)
    page.check(f"input[value='{MODEL}']")

    choose_speech(page, write_speech(tmp_path / "ten.wav", speech, seconds=9.6))

    expect(page.locator("#quote")).to_have_text("10 s × $0.02 = $0.20")
    available = quick.credits()["available_micros"]
    after = f"Balance after: ${(available - 200_000) / 1e6:.2f}"
    expect(page.locator("#balance")).to_contain_text(after)
    # A price that nobody has seen is not paid: that of another model is still on its way.
    choose_portrait(page, quick.portrait)
    page.check("input[value='test/free']")
    expect(page.locator("#quote")).to_have_text("10 s, free")
    expect_ready(page)
    late: list[Route] = []
    page.route("**/api/quote", lambda route: late.append(route))  # noqa: PLW0108 (as below)
    page.check(f"input[value='{MODEL}']")
    press_generate(page)
    expect(page.locator("#generate")).to_have_text("Starting …")
    for quote in late:
        quote.continue_()
    page.unroute("**/api/quote")
    expect(page.locator("#quote")).to_have_text("10 s × $0.02 = $0.20")
    expect_ready(page)
    expect(page.locator("#generate")).to_have_text("Generate")
    assert quick.spent() == (0, 0)


def test_files_may_be_dropped_and_pasted_anywhere(sound_page: Page, quick: Service) -> None:
    page = sound_page
    answers = uploads_of(page)
    open_page(page, quick)

    drop(page, quick.portrait, quick.speech)

    expect(page.locator("#portrait-hint")).to_have_text(READY, timeout=30_000)
    expect_speech(page)
    expect_ready(page)
    assert {answer["kind"] for answer in answers} == {"portrait", "speech"}
    with page.expect_response("**/api/uploads"):
        page.evaluate(
            """(content) => {
              const pasted = new DataTransfer();
              const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
              pasted.items.add(new File([bytes], "image.jpg", { type: "image/jpeg" }));
              const how = { clipboardData: pasted, bubbles: true, cancelable: true };
              document.body.dispatchEvent(new ClipboardEvent("paste", how));
            }""",
            b64encode(quick.portrait.read_bytes()).decode(),
        )
    expect(page.locator("#portrait-hint")).to_have_text(READY, timeout=30_000)

    # A document's text comes with a picture of it.
    page.check(f"input[value='{MODEL}']")
    assert page.evaluate(
        """() => {
          const pasted = new DataTransfer();
          pasted.setData("text/plain", "a person sings");
          pasted.items.add(new File([new Uint8Array(9)], "image.png", { type: "image/png" }));
          const how = { clipboardData: pasted, bubbles: true, cancelable: true };
          return document.getElementById("prompt").dispatchEvent(new ClipboardEvent("paste", how));
        }"""
    )
    drop_folder(page, quick.portrait.parent)
    expect(page.locator("#order-error")).to_have_text(
        "That is a folder. Drop the files that are in it."
    )
    expect_ready(page)
    assert len(answers) == 3


def drop_folder(page: Page, folder: Path) -> None:
    """Drop a folder, as only the browser itself can."""
    session = page.context.new_cdp_session(page)
    what = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        where = {"type": kind, "x": 300, "y": 300, "data": what}
        session.send("Input.dispatchDragEvent", where)


def test_the_face_is_framed_and_a_crop_is_what_is_handed_in(
    sound_page: Page, quick: Service
) -> None:
    """By keyboard, and by pointer."""
    page = sound_page
    answers = uploads_of(page)
    open_page(page, quick)
    choose_portrait(page, quick.portrait)
    picture = page.locator("#portrait-preview").bounding_box()
    box = page.locator("#face-box").bounding_box()
    assert picture is not None
    assert box is not None
    (whole,) = answers
    scale = picture["width"] / whole["width"]
    assert box["x"] - picture["x"] == pytest.approx(whole["face"]["x"] * scale, abs=2)
    assert box["y"] - picture["y"] == pytest.approx(whole["face"]["y"] * scale, abs=2)
    assert box["width"] == pytest.approx(whole["face"]["width"] * scale, abs=2)

    page.click("#crop")
    expect(page.get_by_role("slider", name="Left edge")).to_be_focused()
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_role("slider", name="Lower edge").press("Shift+ArrowUp")
    use_the_part(page)

    part = answers[1]
    assert (part["width"], part["height"]) == (whole["width"] * 0.9, whole["height"] * 0.9)
    assert part["face"]["x"] == pytest.approx(whole["face"]["x"] - whole["width"] * 0.1, abs=4)
    # Escape keeps what there was.
    page.click("#crop")
    expect(page.get_by_role("slider", name="Left edge")).to_be_focused()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert len(answers) == 2

    page.click("#crop")
    page.get_by_role("button", name="Whole picture").click()
    frame = page.locator(".crop-frame").bounding_box()
    assert frame is not None
    page.mouse.move(frame["x"] + 2, frame["y"] + 2)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] / 4, frame["y"] + 2, steps=4)
    page.mouse.up()
    use_the_part(page)

    dragged = answers[-1]
    assert dragged["width"] == pytest.approx(whole["width"] * 0.75, abs=8)
    assert dragged["height"] == whole["height"]

    # A reload finds what was cut off as well.
    page.reload()
    expect(page.locator("#portrait-hint")).to_have_text(READY, timeout=30_000)
    assert (answers[-1]["width"], answers[-1]["height"]) == (dragged["width"], whole["height"])
    page.click("#crop")
    edge = page.get_by_role("slider", name="Left edge")
    expect(edge).to_have_attribute("aria-valuenow", str(whole["width"] - dragged["width"]))


def use_the_part(page: Page) -> None:
    """Take what the crop keeps, and wait until the service has looked at it."""
    with page.expect_response("**/api/uploads"):
        page.click("text=Use this part")
    expect(page.locator("#portrait-hint")).to_have_text(READY, timeout=30_000)


def test_a_reload_finds_the_order_again_until_another_is_begun(
    sound_page: Page, quick: Service, tmp_path: Path
) -> None:
    page = sound_page
    open_page(page, quick)
    # Of its own: they are deleted below.
    with Image.open(quick.portrait) as picture:
        picture.save(tmp_path / "own.png")
    choose_portrait(page, tmp_path / "own.png")
    choose_speech(page, write_speech(tmp_path / "own.wav", quick.speech, seconds=0.85))
    page.check("input[value='sayso/portrait']")
    page.click("#options-fold summary")
    page.fill("#option-size", "480")
    expect_ready(page)

    page.reload()

    expect(page.locator("#portrait-preview")).to_be_visible(timeout=20_000)
    expect(page.locator("#speech-range")).to_have_text("own.wav", timeout=20_000)
    expect(page.locator("input[value='sayso/portrait']")).to_be_checked()
    expect(page.locator("#option-size")).to_have_value("480")
    expect_ready(page)
    expect(page.locator("#quote")).to_have_text("1 s × $0.01 = $0.01")

    # From a generation's address the form is there as well.
    page.check(f"input[value='{MODEL}']")
    page.fill("#prompt", "a person sings")
    expect(page.locator("#quote")).to_contain_text("× $0.02")
    press_generate(page)
    expect(page.locator("#video")).to_be_visible(timeout=30_000)
    page.reload()
    expect(page.locator("#video")).to_be_visible(timeout=20_000)
    expect(page.locator("#chip-name")).to_have_text("own.png", timeout=20_000)
    page.click("#chip-open")
    expect(page.locator("#portrait-preview")).to_be_visible()
    expect(page.locator("#prompt")).to_have_value("a person sings")
    page.go_back()
    made = page.locator("#prediction-id").inner_text()

    # Inputs that are gone are left out without a word.
    page.goto("about:blank")
    page.context.new_cdp_session(page).send("Network.clearBrowserCache")
    assert quick.http.delete(f"/api/generations/{made}").status_code in {200, 204}
    open_page(page, quick)
    expect(page.locator("#portrait-invite")).to_be_visible()
    expect(page.locator("#record")).to_be_visible()
    expect(page.locator("#order-error")).to_be_hidden()

    choose_portrait(page, quick.portrait)
    choose_speech(page, quick.speech)
    expect(page.locator("#quote")).to_contain_text("×")
    press_generate(page)
    expect(page.locator("#video")).to_be_visible(timeout=30_000)
    page.click("#another")
    for _ in ("at once", "and after a reload"):
        expect(page.locator("#portrait-invite")).to_be_visible()
        expect(page.locator("#record")).to_be_visible()
        expect(page.locator("#prompt")).to_have_value("")
        page.reload()
        expect(page.locator("#models input").first).to_be_attached()


def test_the_button_says_what_is_missing_and_leads_there(sound_page: Page, quick: Service) -> None:
    page = sound_page
    open_page(page, quick)

    press_generate(page)
    expect(page.locator("#order-error")).to_have_text("Choose a portrait first.")
    expect(page.locator("#portrait")).to_be_focused()
    choose_portrait(page, quick.portrait)
    page.keyboard.press("Control+Enter")

    expect(page.locator("#order-error")).to_have_text("Choose or record a speech first.")
    expect(page.locator("#speech")).to_be_focused()


def test_a_portrait_without_a_face_is_said_so_and_replaced(
    sound_page: Page, quick: Service, tmp_path: Path
) -> None:
    page = sound_page
    Image.new("RGB", (400, 400), "#778").save(tmp_path / "wall.png")
    scripts: list[Route] = []
    # Playwright marks the functions that it is given, which a method does not allow.
    page.route("**/web/page.js", lambda route: scripts.append(route))  # noqa: PLW0108
    page.goto(quick.url, wait_until="commit")
    # Chosen before the scripts were there.
    page.set_input_files("#portrait", tmp_path / "wall.png")
    scripts[0].continue_()

    expect(page.locator("#portrait-hint")).to_contain_class("error", timeout=30_000)
    expect(page.locator("#portrait-hint")).to_contain_text("face")
    expect(page.locator("#face-box")).to_be_hidden()
    choose_speech(page, quick.speech)
    press_generate(page)
    expect(page.locator("#order-error")).to_contain_text("sayso/portrait needs a face")
    # A model that needs none takes it.
    page.check("input[value='test/free']")
    expect(page.locator("#portrait-hint")).not_to_contain_class("error")
    expect_ready(page)

    page.check("input[value='sayso/portrait']")
    with page.expect_file_chooser() as chooser:
        page.click("#replace")
    chooser.value.set_files(quick.portrait)
    expect(page.locator("#portrait-hint")).to_have_text(READY, timeout=30_000)
    expect_ready(page)


def test_a_photo_is_taken_by_the_camera(sound_page: Page, quick: Service) -> None:
    """The fake camera shows no face, which is said."""
    page = sound_page
    answers = uploads_of(page)
    open_page(page, quick)

    page.click("#camera")
    take = page.get_by_role("button", name="Take it")
    expect(take).to_be_enabled(timeout=20_000)
    take.click()

    expect(page.locator("#portrait-preview")).to_be_visible()
    expect(page.locator("#portrait-hint")).to_contain_class("error", timeout=30_000)
    assert answers[0]["width"] >= 320


def test_a_speech_is_recorded_trimmed_and_played(sound_page: Page, quick: Service) -> None:
    page = sound_page
    answers = uploads_of(page)
    open_page(page, quick)

    page.click("#record")
    expect(page.locator("#stop")).to_be_focused()
    expect(page.locator("#recorded")).to_have_text("0:03", timeout=20_000)
    page.click("#stop")
    expect_speech(page)
    (recorded,) = answers
    assert recorded["content_type"] == "audio/wav"
    assert recorded["duration"] > 2.9
    start = page.get_by_role("slider", name="Start of the speech")
    start.press("Shift+ArrowRight")
    start.press("ArrowRight")
    kept_s = math.ceil(recorded["duration"] - 1.1)
    expect(page.locator("#quote")).to_contain_text(f"{kept_s} s ×")
    expect_speech(page)

    assert answers[-1]["duration"] == pytest.approx(recorded["duration"] - 1.1, abs=0.06)
    page.click("#play")
    expect(page.locator("#play")).to_have_text("Pause")
    expect(page.locator("#play")).to_have_text("Play", timeout=10_000)

    # A reload finds the handles where they were, and what they have cut off.
    page.reload()
    expect(page.locator("#speech-range")).to_contain_text("1.1 s to", timeout=30_000)
    expect_speech(page)
    assert answers[-1]["duration"] == pytest.approx(recorded["duration"] - 1.1, abs=0.06)
    start.press("Home")
    expect_speech(page)
    expect(page.locator("#speech-range")).to_have_text("Recording.wav")
    assert answers[-1]["duration"] == pytest.approx(recorded["duration"], abs=0.06)
    # What is whole again is not kept.
    assert page.evaluate(KEPT) == []


def test_a_microphone_that_is_refused_is_said_so(sound_page: Page, quick: Service) -> None:
    page = sound_page
    page.add_init_script(
        """navigator.mediaDevices.getUserMedia = async () => {
          throw new DOMException("no", "NotAllowedError");
        };"""
    )
    open_page(page, quick)

    page.click("#record")

    expect(page.locator("#speech-hint")).to_contain_text("may not use the microphone")
    expect(page.locator("#record")).to_be_visible()


def test_a_speech_that_is_too_long_is_cut_to_what_the_model_takes(
    sound_page: Page, tmp_path: Path, speech: Path, small_portrait: Path, short_speech: Path
) -> None:
    page = sound_page
    long = write_speech(tmp_path / "long.wav", speech, seconds=9.6)
    with started(tmp_path, portrait=small_portrait, speech=short_speech, speech_max_s=4) as service:
        answers = uploads_of(page)
        open_page(page, service)

        choose_speech(page, long)

        expect(page.locator("#speech-hint")).to_contain_text("takes up to 4 s")
        expect(page.locator("#speech-length")).to_have_text("4.0 s of 4 s")
        assert answers[-1]["duration"] == 4.0
        # The part stays as long as is allowed and moves along.
        page.get_by_role("slider", name="End of the speech").press("Shift+ArrowRight")
        expect_speech(page)
        expect(page.locator("#speech-range")).to_have_text("1.0 s to 5.0 s")
        assert answers[-1]["duration"] == 4.0


def test_what_the_browser_cannot_draw_is_handed_in_as_it_is(
    sound_page: Page, quick: Service, tmp_path: Path
) -> None:
    """The service may know it; if not, it says so before anything is held."""
    page = sound_page
    (tmp_path / "letter.wav").write_text("no recording")
    (tmp_path / "letter.png").write_text("no picture")
    open_page(page, quick)

    page.set_input_files("#speech", tmp_path / "letter.wav")
    page.set_input_files("#portrait", tmp_path / "letter.png")

    for hint in ("#speech-hint", "#portrait-hint"):
        expect(page.locator(hint)).to_contain_class("error", timeout=30_000)
        expect(page.locator(hint)).not_to_be_empty()
    expect(page.locator("#waveform")).to_be_hidden()
    expect(page.locator("#portrait-preview")).to_be_hidden()
    expect(page.locator("#generate")).to_have_attribute("aria-disabled", "true")


def test_inputs_that_were_deleted_meanwhile_are_handed_in_again(
    sound_page: Page, quick: Service, tmp_path: Path, speech: Path
) -> None:
    """The last generation that used them took them along."""
    page = sound_page
    own = write_speech(tmp_path / "own.wav", speech, seconds=0.9)
    open_page(page, quick)
    page.check(f"input[value='{MODEL}']")
    choose_portrait(page, quick.portrait)
    choose_speech(page, own)
    expect_ready(page)
    # Whoever presses again because no answer came does not pay twice.
    page.route("**/api/generate-lipsync", lose_answer, times=1)
    press_generate(page)
    expect(page.locator("#order-error")).to_contain_text("does not answer")
    press_generate(page)
    expect(page.locator("#video")).to_be_visible(timeout=30_000)
    made = page.locator("#prediction-id").inner_text()
    assert quick.spent() == (PRICE_MICROS // 2, 0)
    answers = uploads_of(page)

    assert quick.http.delete(f"/api/generations/{made}").status_code in {200, 204}
    with page.expect_response("**/api/uploads", timeout=30_000):
        page.check("input[value='test/free']")

    for _ in range(100):
        if len(answers) > 1:
            break
        page.wait_for_timeout(100)
    assert {answer["kind"] for answer in answers} == {"portrait", "speech"}
    expect_ready(page)


def lose_answer(route: Route) -> None:
    """Let a request have its effect, and its answer get lost."""
    route.fetch()
    route.abort()


def test_the_whole_flow_works_by_keyboard_alone(sound_page: Page, quick: Service) -> None:
    """From the first Tab, in the order of the eye, to the playing video of our own engine."""
    page = sound_page
    open_page(page, quick)
    seen = []
    for _ in range(9):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
    order = [name for name in seen if name in {"portrait", "camera", "sample", "speech", "record"}]
    assert order == ["portrait", "camera", "sample", "speech", "record"]
    walk(page, "Shift+Tab", "#sample")
    page.keyboard.press("Enter")
    expect_ready(page)
    expect(page.locator("#generate")).to_be_focused()
    expect(page.locator("#face-box")).to_be_visible()
    expect(page.locator("#quote")).to_have_text("10 s × $0.01 = $0.10")
    walk(page, "Shift+Tab", ".handle.to")
    for _ in range(8):
        page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator("#quote")).to_have_text("2 s × $0.01 = $0.02")
    expect_ready(page)

    page.keyboard.press("Control+Enter")

    expect(page.locator("#generate")).to_contain_text("GENERATING...", timeout=10_000)
    expect(page.locator("#video")).to_be_visible(timeout=60_000)
    walk(page, "Tab", "#video")
    page.keyboard.press("Space")
    page.locator("#video").evaluate(
        """async (video) => {
          while (video.getVideoPlaybackQuality().totalVideoFrames < 6) {
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
        }"""
    )


def walk(page: Page, key: str, selector: str) -> None:
    """Press a key until an element has the focus."""
    for _ in range(200):  # Each row of the history has three stops.
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} never came to {selector}")


def test_the_first_load_is_small_and_nothing_jumps(
    chromium: Browser, tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    """Every byte on the wire counts, headers too.

    Still is the page also when it brings back what was composed, or a generation.
    """
    shifts: dict[tuple[int, str], object] = {}
    with started(tmp_path, portrait=small_portrait, speech=short_speech) as service:
        pages = {}
        for width in WIDTHS:
            context = chromium.new_context(viewport={"width": width, "height": 768})
            pages[width] = page = context.new_page()
            page.add_init_script(LAYOUT_SHIFTS)
            page.add_init_script(PATIENCE)
            moved = bytes_moved(page)
            open_page(page, service)
            expect(page.locator("#available")).to_contain_text("available")
            page.wait_for_load_state("networkidle")
            shifts[width, "empty"] = page.evaluate("window.shifts")
            assert 10_000 < sum(moved) <= FIRST_LOAD_BYTES
        made = service.start()
        service.until_final(made)
        for width, page in pages.items():
            choose_portrait(page, small_portrait)
            choose_speech(page, short_speech)
            expect_ready(page)
            for name, path in (("composed", ""), ("made", f"?prediction_id={made}")):
                page.goto(f"{service.url}/{path}")
                expect(page.locator("#chip-name")).to_have_text(small_portrait.name, timeout=30_000)
                expect_ready(page)
                page.wait_for_load_state("networkidle")
                shifts[width, name] = page.evaluate("window.shifts")
            page.context.close()

    assert {where: jumps for where, jumps in shifts.items() if jumps} == {}
    assert len(shifts) == 3 * len(WIDTHS)


def test_a_wav_holds_what_was_cut(sound_page: Page, quick: Service) -> None:
    page = sound_page
    page.goto(quick.url)

    content = page.evaluate(
        """async () => {
          const { cut, wavOf } = await import("/web/wav.js");
          const left = Float32Array.from({ length: 8000 }, (_, at) => at / 8000);
          const right = left.map((value) => -2 * value);
          const file = new Uint8Array(wavOf(cut([left, right], 8000, 0.25, 0.75), 8000));
          return btoa(String.fromCharCode(...file));
        }"""
    )

    with wave.open(BytesIO(b64decode(content))) as sound:
        assert sound.getparams()[:4] == (2, 2, 8000, 4000)
        samples = struct.unpack("<8000h", sound.readframes(4000))
    assert samples[0] == pytest.approx(0.25 * 32767, abs=1)
    assert samples[-2] == pytest.approx(0.75 * 32767, abs=6)
    # What is too loud for a file is as loud as a file can be.
    assert samples[-1] == -32767


def test_a_box_stays_inside_the_picture(sound_page: Page, quick: Service) -> None:
    page = sound_page
    page.goto(quick.url)

    boxes = json.loads(
        page.evaluate(
            """async () => {
              const { aroundFace, moved, whole, withEdge } = await import("/web/box.js");
              const picture = { width: 400, height: 300 };
              const all = whole(400, 300);
              return JSON.stringify({
                corner: aroundFace({ x: 0, y: 0, width: 80, height: 80 }, picture),
                large: aroundFace({ x: 50, y: 20, width: 250, height: 250 }, picture),
                moved: moved(withEdge(all, "right", 200, picture), 900, -900, picture),
                crossed: withEdge(all, "left", 900, picture),
                outside: withEdge(all, "top", -50, picture),
              });
            }"""
        )
    )

    assert boxes["corner"] == {"left": 0, "top": 0, "right": 190, "bottom": 190}
    assert boxes["large"]["bottom"] - boxes["large"]["top"] == 300
    assert boxes["moved"] == {"left": 200, "top": 0, "right": 400, "bottom": 300}
    assert boxes["crossed"]["left"] == 400 - 96
    assert boxes["outside"]["top"] == 0


def test_the_types_of_the_modules_agree(npm_tools: Path) -> None:
    """`// @ts-check` is a promise that TypeScript's checker keeps."""
    modules = sorted(str(path) for path in WEB.glob("*.js"))
    options = ["--noEmit", "--allowJs", "--checkJs", "--strict", "--module", "esnext"]
    options += ["--target", "esnext", "--moduleResolution", "bundler", "--moduleDetection", "force"]
    options += ["--lib", "esnext,dom,dom.iterable", "--useUnknownInCatchVariables", "false"]

    checked = subprocess.run(
        ["node", str(npm_tools / "typescript" / "bin" / "tsc"), *options, *modules],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.stdout == ""
