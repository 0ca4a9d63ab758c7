"""`/api` over real HTTP: both ways of waiting, money, uploads, history, and its refusals."""

from __future__ import annotations

import base64
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image
from pydantic import ValidationError

from sayso.http.wire import CheckBody, GenerateBody, StartedAnswer
from sayso.providers.base import Failure, FailureKind
from sayso.providers.scripted import Script
from tests.services import (
    MODEL,
    PRICE,
    PRICE_MICROS,
    RATE,
    SECONDS,
    Body,
    Service,
    started,
    until,
)


def code_of(answer: httpx.Response) -> str:
    """The code of a refusal, after its shape has been looked at."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"] == body["error"]
    return str(body["code"])


def test_a_generation_is_started_watched_and_paid(service: Service) -> None:
    order = service.order()
    with service.held_calls():
        answer = service.http.post("/api/generate-lipsync", json=order)
        assert service.spent() == (0, PRICE_MICROS)

    body = answer.json()
    assert answer.status_code == 202
    StartedAnswer.model_validate(body)
    assert body["status"] == "starting"
    assert body["message"] == "Lip sync generation started"
    assert body["model"] == MODEL
    assert body["cost"] == {
        "amount": PRICE,
        "amount_micros": 40_000,
        "currency": "USD",
        "seconds": SECONDS,
        "rate": RATE,
    }
    assert service.http.get(body["urls"]["check"]).json()["id"] == body["prediction_id"]
    final = service.until_final(body["prediction_id"])
    assert final["status"] == "succeeded"
    assert final["progress"] == {"percent": 100, "basis": "measured", "stage": None}
    assert final["credits"] == {"state": "captured", "amount": PRICE, "amount_micros": 40_000}
    assert final["completed_at"] is not None
    assert final["failed_at"] is None
    assert service.spent() == (PRICE_MICROS, 0)
    assert service.http.get(final["output"]).content[4:8] == b"ftyp"


def test_a_failure_releases_the_hold_and_says_why(service: Service) -> None:
    reason = Failure(FailureKind.PERMANENT, "bad_audio", "The speech is not understood")
    service.provider.will(Script(start_s=0, run_s=0, end="failed", failure=reason))

    final = service.until_final(service.start())

    assert final["status"] == "failed"
    assert final["error"] == "The speech is not understood"
    assert final["failed_at"] == final["completed_at"] is not None
    assert final["output"] is None
    assert final["credits"]["state"] == "released"
    assert service.spent() == (0, 0)


def test_waiting_answers_when_it_is_final(service: Service) -> None:
    answer = service.http.post("/api/generate-lipsync", json=service.order(pollForCompletion=True))

    body = answer.json()
    assert answer.status_code == 200
    CheckBody.model_validate(body)
    assert body["status"] == "succeeded"
    assert service.http.get(body["output"]).status_code == 200


def test_waiting_for_a_failure_prefixes_its_reason(service: Service) -> None:
    reason = Failure(FailureKind.PERMANENT, "bad_audio", "The speech is not understood")
    service.provider.will(Script(start_s=0, run_s=0, end="failed", failure=reason))

    answer = service.http.post("/api/generate-lipsync", json=service.order(pollForCompletion=True))

    assert answer.status_code == 200
    assert answer.json()["error"] == "Generation failed: The speech is not understood"


def test_a_client_that_hangs_up_finds_its_generation_by_the_key(service: Service) -> None:
    creates = service.provider.counts["create"]
    service.provider.will(Script(start_s=0, run_s=1))
    order = service.order(pollForCompletion=True)
    headers = {"Idempotency-Key": "hang-up"}
    with pytest.raises(httpx.ReadTimeout):
        service.http.post("/api/generate-lipsync", json=order, headers=headers, timeout=0.3)
    # While the first request is still being read, the second would be told to come again.
    until(lambda: service.provider.counts["create"] > creates)

    answer = service.http.post("/api/generate-lipsync", json=order, headers=headers)

    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"
    assert service.provider.counts["create"] == creates + 1
    assert service.spent() == (PRICE_MICROS, 0)


def test_a_burst_of_equal_keys_is_one_generation(service: Service) -> None:
    creates = service.provider.counts["create"]
    order = service.order()
    headers = {"Idempotency-Key": "burst"}

    def post(_: int) -> httpx.Response:
        return service.http.post("/api/generate-lipsync", json=order, headers=headers)

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(post, range(50)))

    assert {answer.status_code for answer in answers} <= {202, 409}
    ids = {a.json()["prediction_id"] for a in answers if a.status_code == 202}
    assert len(ids) == 1
    assert all(
        code_of(a) == "still_creating" and a.headers["retry-after"] == "1"
        for a in answers
        if a.status_code == 409
    )
    service.until_final(ids.pop())
    assert service.provider.counts["create"] == creates + 1
    assert service.spent() == (PRICE_MICROS, 0)


def test_a_key_stands_for_its_body(service: Service) -> None:
    order = service.order()
    headers = {"Idempotency-Key": "k"}
    first = service.http.post("/api/generate-lipsync", json=order, headers=headers)

    again = service.http.post("/api/generate-lipsync", json=order, headers=headers)
    other = service.http.post(
        "/api/generate-lipsync", json={**order, "prompt": "another"}, headers=headers
    )

    assert again.status_code == first.status_code == 202
    assert again.json() == first.json()
    assert other.status_code == 422
    assert code_of(other) == "idempotency_key_reused"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ä"])
def test_a_key_that_cannot_be_one_is_refused(quick: Service, key: str) -> None:
    answer = quick.http.post(
        "/api/generate-lipsync",
        json={"imageUrl": "data:,", "audioUrl": "data:,"},
        headers={b"Idempotency-Key": key.encode("latin-1")},
    )

    assert answer.status_code == 422
    assert code_of(answer) == "body_invalid"


def test_credits_that_do_not_suffice_are_refused_before_anything_is_sent(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    with started(
        tmp_path,
        portrait=small_portrait,
        speech=short_speech,
        opening_balance_micros=39_999,
    ) as service:
        answer = service.http.post("/api/generate-lipsync", json=service.order())

        assert answer.status_code == 402
        assert code_of(answer) == "insufficient_credits"
        assert "sayso credits grant" in answer.json()["error"]
        assert service.provider.counts["create"] == 0
        assert service.http.get("/api/generations").json()["generations"] == []


def test_data_urls_are_inputs(service: Service) -> None:
    def data_url(path: Path, kind: str) -> str:
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"

    final = service.until_final(
        service.start(
            imageUrl=data_url(service.portrait, "image/jpeg"),
            audioUrl=data_url(service.speech, "audio/wav"),
        )
    )

    assert final["status"] == "succeeded"


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "http://127.0.0.1:9/x", "file:///etc/passwd", "//x/y", "x"],
)
def test_urls_that_lead_inside_are_refused(quick: Service, url: str) -> None:
    answer = quick.http.post("/api/generate-lipsync", json={**quick.order(), "imageUrl": url})

    assert answer.status_code == 422
    assert code_of(answer) == "url_refused"
    assert quick.spent() == (0, 0)


def test_an_upload_that_is_gone_is_asked_for_again(quick: Service) -> None:
    gone = quick.portrait_url.replace("/portrait/", "/speech/")

    answer = quick.http.post("/api/generate-lipsync", json=quick.order(imageUrl=gone))

    assert answer.status_code == 422
    assert code_of(answer) == "url_refused"


def test_a_free_model_holds_nothing(service: Service) -> None:
    final = service.until_final(service.start(model="test/free"))

    assert final["credits"] is None
    assert final["cost"]["amount"] == "0.00"
    assert service.spent() == (0, 0)


def test_a_model_without_its_provider_says_how_to_set_it_up(quick: Service) -> None:
    answer = quick.http.post(
        "/api/generate-lipsync", json=quick.order(model="wan-video/wan-2.2-s2v")
    )

    assert answer.status_code == 422
    assert code_of(answer) == "model_unavailable"
    assert "REPLICATE_API_TOKEN" in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "no/such"}, "model_unknown"),
        ({"options": {"no_such": 1}}, "option_invalid"),
        ({"prompt": "a\0b"}, "body_invalid"),
        ({"prompt": "x" * 5_001}, "option_invalid"),
        ({"pollForCompletion": "yes"}, "body_invalid"),
        ({"pollForCompletion": 1}, "body_invalid"),
        ({"audioDuration": "10"}, "body_invalid"),
        ({"imageUrl": 7}, "body_invalid"),
        ({"imageUrl": ""}, "body_invalid"),
        ({"audioUrl": None}, "body_invalid"),
        ({"options": {"seed": [1]}}, "body_invalid"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(
    quick: Service, change: dict[str, object], code: str
) -> None:
    order = {"imageUrl": "data:,", "audioUrl": "data:,", "model": MODEL, **change}

    answer = quick.http.post("/api/generate-lipsync", json=order)

    assert answer.status_code == 422
    assert code_of(answer) == code


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "body: Field required."),
        ("{} {}", "The body is not JSON: Extra data at character 3."),
        ("nul", "The body is not JSON: Expecting value at character 0."),
        ("[]", "body: must be a JSON object."),
        ('"x"', "body: must be a JSON object."),
        (b"\xff", "The body is no JSON that can be read."),
        ('{"imageUrl":' * 9_999, "The body is no JSON that can be read."),
        ('{"audioDuration": %s}' % ("1" * 9_999), "The body is no JSON that can be read."),
    ],
    ids=range(8),
)
def test_what_is_no_json_object_is_refused(
    quick: Service, content: str | bytes, sentence: str
) -> None:
    answer = quick.http.post(
        "/api/generate-lipsync", content=content, headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, code_of(answer)) == (422, "body_invalid")
    assert answer.json()["detail"] == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": "\0"}, "prompt: must not hold NUL or half of a character."),
        ({"model": "x" * 201}, "model: String should have at most 200 characters."),
    ],
)
def test_a_refusal_says_what_to_change(quick: Service, change: Body, sentence: str) -> None:
    answer = quick.http.post("/api/generate-lipsync", json={**quick.order(), **change})

    assert (answer.status_code, answer.json()["detail"]) == (422, sentence)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_number_that_json_cannot_tell_is_no_options_value(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        GenerateBody(imageUrl="x", audioUrl="x", options={"strength": value})


@pytest.mark.parametrize(
    "path", ["/api/generate-lipsync", "/api/quote", "/api/previews", "/api/session"]
)
def test_another_media_type_is_refused(quick: Service, path: str) -> None:
    form = quick.http.post(path, data={"imageUrl": "x"})
    unnamed = quick.http.post(path, content=b"{}")

    for answer in (form, unnamed):
        assert (answer.status_code, code_of(answer)) == (415, "body_unsupported")


def test_a_cancel_ends_it_and_releases_the_hold(service: Service) -> None:
    service.provider.will(Script(start_s=0, run_s=600))
    generation_id = service.start()
    service.until(generation_id, lambda body: body["status"] == "processing")

    answer = service.http.post(f"/api/generations/{generation_id}/cancel")

    assert answer.status_code == 200
    assert service.until_final(generation_id)["status"] == "canceled"
    assert service.spent() == (0, 0)


def test_a_deleted_generation_is_gone_with_its_files(service: Service, tmp_path: Path) -> None:
    own = service.own_inputs(tmp_path, seconds=1.1)
    generation_id = service.start(**own)
    final = service.until_final(generation_id)

    answer = service.http.delete(f"/api/generations/{generation_id}")

    assert answer.status_code == 204
    assert service.check(generation_id).status_code == 404
    assert service.http.get(final["output"]).status_code == 404
    assert service.http.get(own["audioUrl"]).status_code == 404
    assert service.http.get(f"/api/generations/{generation_id}/video").status_code == 404
    listed = service.http.get("/api/generations").json()["generations"]
    assert generation_id not in {body["id"] for body in listed}
    assert service.spent() == (PRICE_MICROS, 0)


def test_a_running_generation_is_not_deleted(quick: Service) -> None:
    quick.provider.will(Script(start_s=0, run_s=600))
    generation_id = quick.start()
    quick.until(generation_id, lambda body: body["status"] == "processing")

    answer = quick.http.delete(f"/api/generations/{generation_id}")

    assert answer.status_code == 409
    assert code_of(answer) == "generation_active"
    quick.http.post(f"/api/generations/{generation_id}/cancel")
    quick.until_final(generation_id)


@pytest.mark.parametrize("generation_id", ["0" * 26, "x", "%00", "é", "0" * 300])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/check-lipsync?prediction_id={}"),
        ("GET", "/api/events?prediction_id={}"),
        ("GET", "/api/generations/{}/receipt"),
        ("GET", "/api/generations/{}/video"),
        ("POST", "/api/generations/{}/cancel"),
        ("DELETE", "/api/generations/{}"),
    ],
)
def test_an_unknown_id_is_not_found(
    quick: Service, method: str, path: str, generation_id: str
) -> None:
    answer = quick.http.request(method, path.format(generation_id))

    assert answer.status_code == 404
    assert code_of(answer) == "no_such_generation"


def test_history_comes_in_pieces_newest_first(service: Service) -> None:
    ids = [service.start(model="test/free") for _ in range(5)]

    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = service.http.get("/api/generations", params=query).json()
        seen += [body["id"] for body in page["generations"]]
        cursor = page["next"]
        if cursor is None or len(seen) > 20:
            break

    assert seen[:5] == ids[::-1]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    "query",
    [
        "cursor=!",
        "cursor=abc",
        "cursor=W0luZmluaXR5LCJhIl0",  # [Infinity,"a"]
        "limit=0",
        "limit=201",
        "limit=x",
    ],
)
def test_a_page_that_makes_no_sense_is_refused(quick: Service, query: str) -> None:
    answer = quick.http.get(f"/api/generations?{query}")

    assert answer.status_code == 422
    code_of(answer)


def test_a_receipt_says_what_it_did_cost_and_why(service: Service) -> None:
    generation_id = service.start()
    service.until_final(generation_id)

    receipt = service.http.get(f"/api/generations/{generation_id}/receipt").json()

    assert receipt["status"] == "succeeded"
    assert receipt["captured"] == PRICE
    assert receipt["release_reason"] is None
    assert [attempt["state"] for attempt in receipt["attempts"]] == ["succeeded"]
    assert receipt["held_at"] < receipt["settled_at"]


def test_a_quote_is_the_price(service: Service) -> None:
    url = service.upload(service.speech, "speech")["url"]

    answer = service.http.post("/api/quote", json={"audioUrl": url, "model": MODEL})

    body = answer.json()
    assert answer.status_code == 200
    assert body["cost"]["amount"] == PRICE
    assert body["duration"] == 1.25
    assert body["sufficient"] is True
    assert service.spent() == (0, 0)


@pytest.mark.parametrize(
    ("duration", "amount"), [(10, "0.20"), (9.1, "0.20"), (0, "0.02"), (0.5, "0.02")]
)
def test_a_quote_for_a_length_rounds_up(quick: Service, duration: float, amount: str) -> None:
    answer = quick.http.post("/api/quote", json={"audioDuration": duration, "model": MODEL})

    assert answer.json()["cost"]["amount"] == amount


def test_models_say_what_is_set_up_here(quick: Service) -> None:
    models = {m["name"]: m for m in quick.http.get("/api/models").json()["models"]}

    assert models["sayso/portrait"]["default"] is True
    assert models["sayso/portrait"]["available"] is True
    assert "crop" in {option["name"] for option in models["sayso/portrait"]["options"]}
    assert models[MODEL]["rate"] == RATE
    assert models[MODEL]["takes_prompt"] is True
    wan = models["wan-video/wan-2.2-s2v"]
    assert (wan["available"], wan["default"]) == (False, False)
    assert "REPLICATE_API_TOKEN" in wan["unavailable_because"]
    assert wan["price_read_on"] == "2026-07-27"


def test_models_say_how_long_they_take_here(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    """By the catalogue's word first, a second for each of ten; then by what was made."""
    with started(tmp_path, portrait=small_portrait, speech=short_speech) as service:

        def typical_s() -> float:
            models = service.http.get("/api/models").json()["models"]
            return float(next(m["typical_seconds"] for m in models if m["name"] == MODEL))

        assert typical_s() == 10.0
        for _ in range(3):
            service.until_final(service.start())

        assert 0 < typical_s() != 10.0


def test_models_say_what_they_take(quick: Service) -> None:
    models = {m["name"]: m for m in quick.http.get("/api/models").json()["models"]}

    assert models["kwaivgi/kling-avatar-v2"]["limits"] == {
        "portrait": {
            "max_bytes": 10_000_000,
            "min_side_px": 300,
            "max_side_px": None,
            "formats": ["jpg", "png"],
        },
        "speech": {"min_s": 2.0, "max_bytes": 5_000_000, "formats": ["mp3", "wav", "m4a", "aac"]},
    }
    assert models["kwaivgi/kling-avatar-v2-pro"]["rate_micros"] == 110_000
    assert models[MODEL]["limits"]["speech"]["formats"] == []


def test_what_the_model_does_not_take_is_refused_before_anything_is_held(quick: Service) -> None:
    before = len(quick.http.get("/api/generations").json()["generations"])

    answer = quick.http.post("/api/generate-lipsync", json=quick.order(model="test/choosy"))

    assert (answer.status_code, answer.json()["code"]) == (415, "speech_unsupported")
    assert answer.json()["detail"] == "test/choosy takes FLAC; this is WAV."
    assert quick.spent() == (0, 0)
    assert len(quick.http.get("/api/generations").json()["generations"]) == before


def test_entries_explain_the_balance(service: Service) -> None:
    generation_id = service.start()
    service.until_final(generation_id)

    body = service.http.get("/api/credits").json()

    newest = body["entries"][0]
    assert (newest["kind"], newest["amount"], newest["prediction_id"]) == (
        "capture",
        "-0.04",
        generation_id,
    )
    entries = list(body["entries"])
    while body["next"] is not None:
        query = {"limit": 1, "cursor": body["next"]}
        body = service.http.get("/api/credits", params=query).json()
        entries += body["entries"]
    assert sum(entry["amount_micros"] for entry in entries) == service.credits()["balance_micros"]
    assert (entries[-1]["kind"], entries[-1]["amount"]) == ("grant", "5.00")


def test_uploads_say_what_is_in_them(quick: Service) -> None:
    portrait = quick.upload(quick.portrait, "portrait")
    speech = quick.upload(quick.speech, "speech")

    assert (portrait["kind"], portrait["content_type"]) == ("portrait", "image/jpeg")
    assert portrait["size"] == quick.portrait.stat().st_size
    assert portrait["duration"] is None
    face = portrait["face"]
    assert 0 <= face["x"] < face["x"] + face["width"] <= portrait["width"]
    assert 0 <= face["y"] < face["y"] + face["height"] <= portrait["height"]
    assert speech["kind"] == "speech"
    assert speech["duration"] == pytest.approx(1.25)
    assert speech["face"] is None


def test_the_same_bytes_are_the_same_upload(service: Service) -> None:
    first = service.upload(service.portrait, "portrait")
    again = service.upload(service.portrait, "portrait")

    assert again == first


def test_the_content_decides_where_the_kind_is_not_said(quick: Service) -> None:
    for path, kind in ((quick.portrait, "portrait"), (quick.speech, "speech")):
        with path.open("rb") as file:
            answer = quick.http.post("/api/uploads", files={"file": file})

        assert answer.json()["kind"] == kind


def test_a_portrait_without_a_face_is_taken_with_a_warning(quick: Service, tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.new("RGB", (300, 300), "grey").save(path)

    upload = quick.upload(path, "portrait")

    assert upload["face"] is None
    assert [warning["code"] for warning in upload["warnings"]] == ["no_face"]
    refused = quick.http.post("/api/generate-lipsync", json=quick.order(imageUrl=upload["url"]))
    assert refused.status_code == 422
    assert code_of(refused) == "no_face"
    taken = quick.order(imageUrl=upload["url"], model="test/free")
    assert quick.http.post("/api/generate-lipsync", json=taken).status_code == 202


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("portrait", b"not a picture", 415),
        ("speech", b"not a recording", 422),
        ("nonsense", b"x", 422),
        ("portrait", b"", 422),
    ],
)
def test_uploads_that_cannot_be_used_are_refused(
    quick: Service, kind: str, content: bytes, status: int
) -> None:
    answer = quick.http.post("/api/uploads", data={"kind": kind}, files={"file": content})

    assert answer.status_code == status, answer.text
    code_of(answer)


def test_a_form_without_a_file_is_refused(quick: Service) -> None:
    answer = quick.http.post("/api/uploads", files={"kind": (None, b"speech")})

    assert answer.status_code == 422
    assert code_of(answer) == "body_invalid"


def test_an_upload_that_is_too_large_is_stopped_as_it_arrives(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        for _ in range(2_000):
            yield bytes(1_000)

    with started(
        tmp_path,
        portrait=small_portrait,
        speech=short_speech,
        image_max_bytes=100_000,
        speech_max_bytes=100_000,
        json_body_max_bytes=1_000,
    ) as service:
        # Without a length, so that only counting can tell.
        answer = service.http.post(
            "/api/uploads",
            content=chunks(),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert answer.status_code == 413
        assert code_of(answer) in {"upload_too_large", "body_too_large"}
        told = service.http.post("/api/quote", json={"audioUrl": "x" * 2_000})
        assert told.status_code == 413


def test_polls_do_not_ask_the_provider(quick: Service) -> None:
    quick.provider.will(Script(start_s=0, run_s=600))
    generation_id = quick.start()
    quick.until(generation_id, lambda body: body["status"] == "processing")
    reads, begun = quick.provider.counts["read"], time.monotonic()

    for _ in range(200):
        assert quick.check(generation_id).status_code == 200

    # The reconciler's own looks, at its own pace.
    own = (time.monotonic() - begun) / quick.settings.poll_s
    assert quick.provider.counts["read"] - reads <= own + 2
    quick.http.post(f"/api/generations/{generation_id}/cancel")
    quick.until_final(generation_id)


def test_watchers_in_many_threads_see_one_generation(quick: Service) -> None:
    generation_id = quick.start()
    seen: list[str] = []

    def watch() -> None:
        with httpx.Client(base_url=quick.url, timeout=30, trust_env=False) as http:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                query = {"prediction_id": generation_id}
                body = http.get("/api/check-lipsync", params=query).json()
                if body["status"] == "succeeded":
                    seen.append(body["output"])
                    return
                time.sleep(0.01)

    threads = [threading.Thread(target=watch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 8
    assert len(set(seen)) == 1
