"""Composing an order: the portrait, the speech, the model, the price; by mouse and by keyboard."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import wave
from base64 import b64decode, b64encode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Response, expect

from tests.conftest import ROOT
from tests.services import MODEL, Service, started, write_speech

# Two browsers on two processors would only wait for each other.
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(120)]

WEB = ROOT / "src" / "sayso" / "web"
READY = "This portrait can speak."
FIRST_LOAD_BYTES = 60_000
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


def test_the_sample_is_one_click_away(sound_page: Page, quick: Service) -> None:
    page = sound_page
    open_page(page, quick)

    page.click("#sample")

    expect_ready(page)
    expect(page.locator("#generate")).to_be_focused()
    expect(page.locator("#face-box")).to_be_visible()
    expect(page.locator("#quote")).to_have_text("10 s × $0.01 = $0.10")


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
    assert quick.spent() == (0, 0)


def test_who_has_too_little_is_told_so_and_what_to_do(
    sound_page: Page, tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    page = sound_page
    with started(
        tmp_path, portrait=small_portrait, speech=short_speech, opening_balance_micros=30_000
    ) as service:
        open_page(page, service)
        page.check(f"input[value='{MODEL}']")
        choose_portrait(page, small_portrait)
        choose_speech(page, short_speech)

        balance = page.locator("#balance")
        expect(balance).to_contain_text("You have $0.03.")
        press_generate(page)
        expect(page.locator("#order-error")).to_contain_text("sayso credits grant")
        assert service.http.get("/api/generations").json()["generations"] == []

        page.check("input[value='sayso/portrait']")
        expect_ready(page)


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


def test_files_may_be_dropped_anywhere(sound_page: Page, quick: Service) -> None:
    page = sound_page
    open_page(page, quick)

    drop(page, quick.portrait, quick.speech)

    expect(page.locator("#portrait-hint")).to_have_text(READY, timeout=30_000)
    expect_speech(page)
    expect_ready(page)


def test_a_picture_may_be_pasted(sound_page: Page, quick: Service) -> None:
    page = sound_page
    open_page(page, quick)

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


def test_the_face_is_framed_where_it_is(sound_page: Page, quick: Service) -> None:
    page = sound_page
    answers = uploads_of(page)
    open_page(page, quick)

    choose_portrait(page, quick.portrait)

    picture = page.locator("#portrait-preview").bounding_box()
    box = page.locator("#face-box").bounding_box()
    assert picture is not None
    assert box is not None
    (upload,) = answers
    scale = picture["width"] / upload["width"]
    assert box["x"] - picture["x"] == pytest.approx(upload["face"]["x"] * scale, abs=2)
    assert box["y"] - picture["y"] == pytest.approx(upload["face"]["y"] * scale, abs=2)
    assert box["width"] == pytest.approx(upload["face"]["width"] * scale, abs=2)


def test_a_portrait_without_a_face_is_said_so_and_replaced(
    sound_page: Page, quick: Service, tmp_path: Path
) -> None:
    page = sound_page
    Image.new("RGB", (400, 400), "#778").save(tmp_path / "wall.png")
    open_page(page, quick)

    choose_portrait(page, tmp_path / "wall.png")
    expect(page.locator("#portrait-hint")).to_contain_class("error")
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


def test_a_portrait_is_cropped_before_it_is_handed_in(sound_page: Page, quick: Service) -> None:
    page = sound_page
    answers = uploads_of(page)
    open_page(page, quick)
    choose_portrait(page, quick.portrait)
    page.click("#crop")
    left = page.get_by_role("slider", name="Left edge")
    expect(left).to_be_focused()

    page.keyboard.press("Shift+ArrowRight")
    page.get_by_role("slider", name="Lower edge").press("Shift+ArrowUp")
    with page.expect_response("**/api/uploads"):
        page.click("text=Use this part")

    expect(page.locator("#portrait-hint")).to_have_text(READY, timeout=30_000)
    whole, part = answers
    assert (part["width"], part["height"]) == (whole["width"] * 0.9, whole["height"] * 0.9)
    assert part["face"]["x"] == pytest.approx(whole["face"]["x"] - whole["width"] * 0.1, abs=4)
    # Escape keeps what there was.
    page.click("#crop")
    expect(left).to_be_focused()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert len(answers) == 2


def test_a_crop_follows_the_pointer(sound_page: Page, quick: Service) -> None:
    page = sound_page
    answers = uploads_of(page)
    open_page(page, quick)
    choose_portrait(page, quick.portrait)
    page.click("#crop")
    frame = page.locator(".crop-frame").bounding_box()
    assert frame is not None

    page.mouse.move(frame["x"] + 2, frame["y"] + 2)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] / 4, frame["y"] + 2, steps=4)
    page.mouse.up()
    with page.expect_response("**/api/uploads"):
        page.click("text=Use this part")

    expect(page.locator("#portrait-hint")).to_have_text(READY, timeout=30_000)
    whole, part = answers
    assert part["width"] == pytest.approx(whole["width"] * 0.75, abs=8)
    assert part["height"] == whole["height"]


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
    page = sound_page
    (tmp_path / "letter.wav").write_text("no recording")
    open_page(page, quick)

    page.set_input_files("#speech", tmp_path / "letter.wav")

    expect(page.locator("#speech-hint")).to_contain_class("error", timeout=30_000)
    expect(page.locator("#waveform")).to_be_hidden()
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
    press_generate(page)
    expect(page.locator("#video")).to_be_visible(timeout=30_000)
    made = page.locator("#prediction-id").inner_text()
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


def test_the_whole_flow_works_by_keyboard_alone(sound_page: Page, quick: Service) -> None:
    """From the first Tab to the playing video, by our own engine."""
    page = sound_page
    open_page(page, quick)
    sample = page.locator("#sample")
    for _ in range(12):
        page.keyboard.press("Tab")
        if sample.evaluate("(button) => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect_ready(page)
    start = page.locator(".handle.to")
    start.focus()
    for _ in range(8):
        page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator("#quote")).to_have_text("2 s × $0.01 = $0.02")
    expect_ready(page)

    page.keyboard.press("Control+Enter")

    expect(page.locator("#generate")).to_contain_text("GENERATING...", timeout=10_000)
    expect(page.locator("#video")).to_be_visible(timeout=60_000)
    frames = page.locator("#video").evaluate(
        """async (video) => {
          await video.play();
          await new Promise((resolve) => setTimeout(resolve, 600));
          return video.getVideoPlaybackQuality().totalVideoFrames;
        }"""
    )
    assert frames > 5


def test_reading_order_is_the_order_of_the_eye(sound_page: Page, quick: Service) -> None:
    page = sound_page
    open_page(page, quick)
    seen: list[str] = []

    for _ in range(9):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.name"))

    order = [name for name in seen if name in {"portrait", "camera", "sample", "speech", "record"}]
    assert order == ["portrait", "camera", "sample", "speech", "record"]


def test_nothing_is_inaccessible(
    sound_page: Page, quick: Service, axe: Callable[[Page], list[str]], tmp_path: Path
) -> None:
    """In every state of the form, light and dark."""
    page = sound_page
    Image.new("RGB", (400, 400), "#778").save(tmp_path / "wall.png")
    found: dict[str, list[str]] = {}
    open_page(page, quick)
    found["empty"] = axe(page)
    press_generate(page)
    found["something missing"] = axe(page)
    page.click("#record")
    expect(page.locator("#recorded")).to_have_text("0:01", timeout=20_000)
    found["recording"] = axe(page)
    page.click("#stop")
    expect_speech(page)
    choose_portrait(page, tmp_path / "wall.png")
    found["a bad portrait"] = axe(page)
    choose_portrait(page, quick.portrait)
    expect_ready(page)
    found["ready"] = axe(page)
    page.check(f"input[value='{MODEL}']")
    page.locator("#options-fold, .others").first.locator("summary").click()
    found["another model"] = axe(page)
    page.click("#crop")
    expect(page.locator(".crop-frame")).to_be_visible()
    found["cropping"] = axe(page)
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 360, "height": 740})
    found["a phone"] = axe(page)

    assert {state: problems for state, problems in found.items() if problems} == {}


def test_the_first_load_is_small_and_still(
    chromium: Browser, tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    """Every byte on the wire counts, headers too."""
    shifts: dict[int, object] = {}
    with started(tmp_path, portrait=small_portrait, speech=short_speech) as service:
        for width in (360, 768, 1366):
            context = chromium.new_context(viewport={"width": width, "height": 768})
            page = context.new_page()
            page.add_init_script(LAYOUT_SHIFTS)
            moved = bytes_moved(page)
            open_page(page, service)
            expect(page.locator("#available")).to_contain_text("available")
            page.wait_for_load_state("networkidle")
            shifts[width] = page.evaluate("window.shifts")
            assert 10_000 < sum(moved) <= FIRST_LOAD_BYTES
            context.close()

    assert shifts == {360: [], 768: [], 1366: []}


@pytest.mark.parametrize("width", [360, 768, 1366])
def test_nothing_of_an_order_runs_out_of_the_window(
    sound_page: Page, quick: Service, width: int
) -> None:
    page = sound_page
    page.set_viewport_size({"width": width, "height": 768})
    open_page(page, quick)
    choose_portrait(page, quick.portrait)
    choose_speech(page, quick.speech)

    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    if width == 1366:
        # On a desk there is nothing to scroll for either.
        assert page.evaluate("document.documentElement.scrollHeight - innerHeight") <= 0
    button = page.locator("#generate").bounding_box()
    assert button is not None
    assert button["y"] + button["height"] <= 768


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
