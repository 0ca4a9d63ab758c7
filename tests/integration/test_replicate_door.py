"""`/v1` over real HTTP: Replicate's shapes and refusals, waiting, canceling, lists and re-sends."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema_rs import validate

from sayso.catalogue.catalogue import OUR_MODEL
from sayso.providers.base import Failure, FailureKind
from sayso.providers.scripted import Script
from tests.conftest import ROOT
from tests.services import MODEL, PRICE_MICROS, Body, Service, started, until

GOLDEN = ROOT / "tests" / "unit" / "golden" / "replicate" / "refusals.json"
FINAL = {"succeeded", "failed", "canceled"}
HOOK = "https://shop.example.com/hook"
NO_PICTURE = "data:image/png;base64,AAAA"
EXTRA = "additional_property_not_allowed"


def an_input(service: Service, **changes: object) -> Body:
    """The model's input, its files handed in."""
    return {"image": service.portrait_url, "audio": service.speech_url, **changes}


def create(
    service: Service, *, given: Body | None = None, headers: Any = None, **fields: object
) -> httpx.Response:
    """Create a prediction of the scripted model."""
    body = {"input": an_input(service) if given is None else given, **fields}
    return service.http.post(f"/v1/models/{MODEL}/predictions", json=body, headers=headers)


def until_final(service: Service, identifier: str) -> Body:
    """Look until it has ended."""
    return until_status(service, identifier, *FINAL)


def until_status(service: Service, identifier: str, *statuses: str) -> Body:
    """Look until it has one of these statuses."""
    body: Body = {}

    def is_so() -> bool:
        body.update(service.http.get(f"/v1/predictions/{identifier}").json())
        return body["status"] in statuses

    until(is_so)
    return body


def fault_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, field and kind of a refusal with `invalid_fields`."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    (fault,) = body["invalid_fields"]
    assert fault["description"] in body["detail"]
    return answer.status_code, fault["field"], fault["type"]


def test_a_prediction_is_created_and_looked_at_until_it_has_its_video(service: Service) -> None:
    given = an_input(service)
    with service.held_calls():
        answer = create(service, given=given)
        assert service.spent() == (0, PRICE_MICROS)

    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == body["urls"]["get"]
    assert body["status"] == "starting"
    assert body["model"] == MODEL
    assert len(body["version"]) == 64
    assert body["input"] == an_input(service)
    assert (body["logs"], body["output"], body["error"]) == ("", None, None)
    assert body["data_removed"] is False
    assert "metrics" not in body
    final = until_final(service, body["id"])
    assert final["status"] == "succeeded"
    assert final["completed_at"] >= final["started_at"] >= final["created_at"]
    assert final["metrics"]["total_time"] >= final["metrics"]["predict_time"] >= 0
    assert service.http.get(final["output"]).content[4:8] == b"ftyp"
    assert service.spent() == (PRICE_MICROS, 0)
    assert service.check(body["id"]).json()["status"] == "succeeded"


def test_a_waited_create_answers_with_the_video(service: Service) -> None:
    answer = create(service, headers={"Prefer": "wait=20"})

    assert answer.status_code == 201
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.json()["status"] == "succeeded"
    assert service.http.get(answer.json()["output"]).status_code == 200


def test_a_wait_that_is_too_short_says_starting_so_that_clients_go_on(quick: Service) -> None:
    quick.provider.will(Script(start_s=0, run_s=600))

    answer = create(quick, headers={"Prefer": "wait=1"})

    body = answer.json()
    assert answer.status_code == 202
    assert body["status"] == "starting"
    # It had been running for most of that second, unless the machine is very busy.
    until_status(quick, body["id"], "processing")
    quick.http.post(body["urls"]["cancel"])
    until_final(quick, body["id"])


def test_a_wait_ends_at_the_operators_limit_whatever_was_asked(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    with started(
        tmp_path,
        portrait=small_portrait,
        speech=short_speech,
        script=Script(start_s=600),
        wait_max_s=1,
    ) as service:
        given = an_input(service)
        begun = time.monotonic()
        answer = create(service, given=given, headers={"Prefer": "wait"})

        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "wait=1"
        assert time.monotonic() - begun < 20  # Far from the fifty seconds without that limit.


def test_a_failure_has_its_reason_and_costs_nothing(quick: Service) -> None:
    reason = Failure(FailureKind.PERMANENT, "bad_audio", "The speech is not understood")
    quick.provider.will(Script(start_s=0, run_s=0, end="failed", failure=reason))

    final = create(quick, headers={"Prefer": "wait"}).json()

    assert final["status"] == "failed"
    assert final["error"] == "The speech is not understood"
    assert "failed_at" not in final
    assert quick.spent() == (0, 0)


def test_cancel_ends_it_and_releases_its_hold(quick: Service) -> None:
    creates = quick.provider.counts["create"]
    quick.provider.will(Script(start_s=30))
    body = create(quick).json()
    until(lambda: quick.provider.counts["create"] > creates)

    answer = quick.http.post(body["urls"]["cancel"])

    assert answer.status_code == 200
    assert until_final(quick, body["id"])["status"] == "canceled"
    assert quick.spent() == (0, 0)
    assert quick.http.post(body["urls"]["cancel"]).json()["status"] == "canceled"


def test_cancel_after_is_a_deadline_and_ends_as_canceled(quick: Service) -> None:
    quick.provider.will(Script(start_s=60))

    body = create(quick, headers={"Cancel-After": "5s"}).json()

    assert body["deadline"] > body["created_at"]
    assert until_final(quick, body["id"])["status"] == "canceled"


@pytest.mark.parametrize("given", ["4", "4s", "25h", "soon", "", "1d", "-5"])
def test_a_cancel_after_that_makes_no_sense_is_refused(quick: Service, given: str) -> None:
    answer = create(quick, headers={"Cancel-After": given})

    assert fault_of(answer) == (422, "Cancel-After", "format")


def test_the_version_may_be_written_in_three_ways(quick: Service) -> None:
    version = quick.http.get(f"/v1/models/{MODEL}").json()["latest_version"]["id"]

    answers = [
        quick.http.post(
            "/v1/predictions",
            json={"version": text, "input": an_input(quick)},
            headers={"Prefer": "wait"},
        )
        for text in (version, MODEL, f"{MODEL}:{version}")
    ]

    assert [answer.status_code for answer in answers] == [201] * 3
    assert {answer.json()["version"] for answer in answers} == {version}


@pytest.mark.parametrize("version", ["0" * 64, "no/model", f"{MODEL}:{'0' * 64}", "%%%", ""])
def test_an_unknown_version_is_refused_in_replicates_words(quick: Service, version: str) -> None:
    answer = quick.http.post("/v1/predictions", json={"version": version, "input": an_input(quick)})

    assert answer.status_code == 422
    assert answer.json()["title"] == "Invalid version or not permitted"


def test_a_deployment_is_the_model_of_its_name(quick: Service) -> None:
    answer = quick.http.post(
        f"/v1/deployments/{MODEL}/predictions",
        json={"input": an_input(quick)},
        headers={"Prefer": "wait"},
    )

    assert answer.json()["status"] == "succeeded"


@pytest.mark.parametrize(
    ("spoil", "field", "kind"),
    [
        (lambda body: body.pop("input"), "", "required"),
        (lambda body: body.update(input=[]), "input", "invalid_type"),
        (lambda body: body["input"].pop("audio"), "input", "required"),
        (lambda body: body["input"].update(image=7), "input.image", "invalid_type"),
        (lambda body: body["input"].update(image="ftp://x.org/a"), "input.image", "url_refused"),
        (lambda body: body["input"].update(image=NO_PICTURE), "input.image", "image_unsupported"),
        (lambda body: body["input"].update(style="oil"), "input", EXTRA),
        (lambda body: body.update(model=MODEL), "", EXTRA),
        (lambda body: body.update(webhook="http://10.0.0.1/hook"), "webhook", "format"),
        (lambda body: body.update(webhook=1), "webhook", "invalid_type"),
        (
            lambda body: body.update(webhook=HOOK, webhook_events_filter=["end"]),
            "webhook_events_filter",
            "enum",
        ),
        (lambda body: body.update(webhook_events_filter=["completed"]), "", "custom"),
        (lambda body: body.update(webhook="", webhook_events_filter=[]), "", "custom"),
        (lambda body: body["input"].update(prompt="x\0"), "", "invalid_type"),
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_names_its_field(
    quick: Service, spoil: Callable[[Body], object], field: str, kind: str
) -> None:
    body = {"input": an_input(quick)}
    spoil(body)

    answer = quick.http.post(f"/v1/models/{MODEL}/predictions", json=body)

    status, where, what = fault_of(answer)
    assert status in {415, 422}
    assert (where, what) == (field, kind)
    assert quick.spent() == (0, 0)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("422 another key", {"model": MODEL}), ("422 version", {"version": "0" * 64})],
)
def test_a_refusal_reads_as_the_real_ones(quick: Service, name: str, changes: Body) -> None:
    """Word for word, with fields of ours beside; nothing that is wrong is left unsaid."""
    status, golden = json.loads(GOLDEN.read_text())[name]

    answer = quick.http.post("/v1/predictions", json={"input": an_input(quick), **changes})

    body = answer.json()
    assert answer.status_code == status
    assert {key: body[key] for key in golden} == golden


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"crop": "nose"}, "enum"),
        ({"fps": 1}, "number_gte"),
        ({"fps": 1000}, "number_lte"),
        ({"fps": "many"}, "invalid_type"),
        ({"transcript": "a" * 20_001}, "string_lte"),
    ],
)
def test_an_option_that_does_not_fit_says_why(quick: Service, options: Body, kind: str) -> None:
    answer = quick.http.post(
        f"/v1/models/{OUR_MODEL}/predictions", json={"input": an_input(quick, **options)}
    )

    assert fault_of(answer) == (422, f"input.{next(iter(options))}", kind)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"NaN", b'{"input": NaN}', b"\xff", b"[" * 9999])
def test_a_body_that_is_no_object_is_refused(quick: Service, raw: bytes) -> None:
    answer = quick.http.post("/v1/predictions", content=raw)

    assert fault_of(answer) == (422, "", "invalid_type")


def test_what_is_not_there_is_404_with_a_detail(quick: Service) -> None:
    paths = ("/v1/predictions/nothing", "/v1/models/no/model", f"/v1/models/{MODEL}/versions/0")

    answers = [quick.http.get(path) for path in paths]

    assert [answer.status_code for answer in answers] == [404] * 3
    assert all(answer.json()["detail"] and answer.json()["status"] == 404 for answer in answers)


def test_too_little_credit_is_402_with_replicates_title(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    with started(
        tmp_path, portrait=small_portrait, speech=short_speech, opening_balance_micros=10_000
    ) as poor:
        answer = create(poor)

        assert answer.status_code == 402
        assert answer.json()["title"] == "Insufficient credit"


def test_a_file_in_a_data_url_is_repeated_as_a_link(quick: Service) -> None:
    encoded = base64.b64encode(quick.portrait.read_bytes()).decode()
    given = an_input(quick, image=f"data:image/jpeg;base64,{encoded}")

    body = create(quick, given=given, headers={"Prefer": "wait"}).json()

    assert body["status"] == "succeeded"
    assert quick.http.get(body["input"]["image"]).content == quick.portrait.read_bytes()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("portrait.jpg", "cannot be used"),
        ("/files/local/portrait/x.jpg", "no longer stored"),
        (f"/files/local/portrait/{'0' * 64}.jpg?expires=1&signature=a.x", "cannot be used"),
    ],
)
def test_an_input_that_leads_nowhere_is_a_field_that_does_not_fit(
    quick: Service, url: str, words: str
) -> None:
    answer = create(quick, given=an_input(quick, image=url))

    assert fault_of(answer) == (422, "input.image", "url_refused")
    assert words in answer.json()["detail"]


def test_a_link_of_ours_drags_nothing_along_into_the_list(quick: Service) -> None:
    dragging = f"{quick.portrait_url}&more={'x' * 1_000_000}"

    answer = create(quick, given=an_input(quick, image=dragging))

    assert fault_of(answer) == (422, "input.image", "url_refused")
    assert quick.spent() == (0, 0)


def test_the_list_has_whole_addresses_and_ends(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    # None of them moves, so two readings of one page are equal.
    with started(
        tmp_path, portrait=small_portrait, speech=short_speech, script=Script(start_s=600)
    ) as service:
        ids = [create(service).json()["id"] for _ in range(102)]

        first = service.http.get("/v1/predictions").json()
        second = service.http.get(first["next"]).json()

        assert first["next"].startswith(f"{service.url}/v1/predictions?cursor=")
        assert len(first["results"]) == 100
        assert second["next"] is None
        assert first["previous"] is None
        back = service.http.get(second["previous"]).json()
        assert (back["results"], back["previous"]) == (first["results"], None)
        assert back["next"] == first["next"]
        listed = [result["id"] for result in (*first["results"], *second["results"])]
        assert listed == ids[::-1]
        between = {
            "created_after": first["results"][3]["created_at"],
            "created_before": first["results"][0]["created_at"],
        }
        some = service.http.get("/v1/predictions", params=between).json()
        assert [result["id"] for result in some["results"]] == listed[1:4]
        assert (some["next"], some["previous"]) == (None, None)
        assert service.http.get("/v1/predictions?cursor=AAAA").status_code == 422
        assert service.http.get("/v1/predictions?created_after=noon").status_code == 422


def test_a_resent_create_is_the_same_prediction_and_a_new_one_is_not(service: Service) -> None:
    first = create(service, headers={"x-stainless-retry-count": "0"}).json()
    again = create(service, headers={"x-stainless-retry-count": "1"}).json()
    other = create(service, headers={"x-stainless-retry-count": "0"}).json()
    last = create(service, headers={"x-stainless-retry-count": "2"}).json()

    assert first["id"] == again["id"]
    assert other["id"] != first["id"]
    assert last["id"] == other["id"]
    for body in (first, other):
        until_final(service, body["id"])
    assert service.spent() == (2 * PRICE_MICROS, 0)


def test_a_create_that_is_resent_while_it_is_being_answered_is_one(quick: Service) -> None:
    # Bytes that nobody has looked at yet, so that the first one takes a while.
    picture = quick.portrait.read_bytes() + b"resent at once"
    given = an_input(quick, image=f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}")

    def send(number: int) -> str:
        headers = {"x-stainless-retry-count": str(number)}
        return str(create(quick, given=given, headers=headers).json()["id"])

    known = resend_keys(quick)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(send, 0)
        until(lambda: resend_keys(quick) > known)
        others = list(pool.map(send, range(1, 5)))
        ids = {first.result(), *others}

    assert len(ids) == 1
    assert until_final(quick, ids.pop())["status"] == "succeeded"
    assert quick.spent() == (PRICE_MICROS, 0)


def resend_keys(service: Service) -> int:
    """Return how many creates could be resent by now."""
    query = "SELECT count(*) FROM idempotency_keys WHERE key LIKE 'resend %'"
    with closing(sqlite3.connect(service.settings.data / "sayso.db")) as database:
        return int(database.execute(query).fetchone()[0])


def test_an_idempotency_key_works_here_too(quick: Service) -> None:
    headers = {"Idempotency-Key": "a key of mine"}

    first, again = (create(quick, headers=headers) for _ in range(2))
    other = create(quick, given=an_input(quick, prompt="another"), headers=headers)

    assert first.json()["id"] == again.json()["id"]
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"
    until_final(quick, first.json()["id"])


def test_models_say_what_they_take(quick: Service) -> None:
    listed = quick.http.get("/v1/models").json()["results"]
    model = quick.http.get(f"/v1/models/{OUR_MODEL}").json()
    versions = quick.http.get(f"/v1/models/{OUR_MODEL}/versions").json()["results"]

    assert OUR_MODEL in {f"{entry['owner']}/{entry['name']}" for entry in listed}
    assert versions == [model["latest_version"]]
    (version,) = versions
    assert quick.http.get(f"/v1/models/{OUR_MODEL}/versions/{version['id']}").json() == version
    schema = version["openapi_schema"]["components"]["schemas"]["Input"]
    assert schema["required"] == ["image", "audio"]
    assert schema["properties"]["crop"]["enum"] == ["picture", "face"]
    assert schema["properties"]["fps"]["maximum"] == 60
    orders = [entry["x-order"] for entry in schema["properties"].values()]
    assert orders == list(range(len(orders)))


def test_a_models_runs_are_counted(quick: Service) -> None:
    before = quick.http.get(f"/v1/models/{MODEL}").json()["run_count"]
    create(quick, headers={"Prefer": "wait"})

    assert quick.http.get(f"/v1/models/{MODEL}").json()["run_count"] == before + 1


def test_answers_have_the_shapes_that_openapi_describes(quick: Service) -> None:
    made = create(quick, headers={"Prefer": "wait", "Cancel-After": "1h"}).json()
    file = quick.http.post("/v1/files", files={"content": b"x"}).json()
    document = quick.http.get("/openapi.json").json()

    for path, place in (
        (made["urls"]["get"], "/v1/predictions/{id}"),
        ("/v1/predictions", "/v1/predictions"),
        ("/v1/models", "/v1/models"),
        (f"/v1/models/{MODEL}/versions", "/v1/models/{owner}/{name}/versions"),
        (file["urls"]["get"], "/v1/files/{id}"),
        ("/v1/account", "/v1/account"),
        ("/v1/webhooks/default/secret", "/v1/webhooks/default/secret"),
    ):
        answers = document["paths"][place]["get"]["responses"]
        schema = answers["200"]["content"]["application/json"]["schema"]
        validate(schema, quick.http.get(path).json())


def test_the_account_and_the_webhook_secret_are_there(quick: Service) -> None:
    account = quick.http.get("/v1/account").json()
    secret = quick.http.get("/v1/webhooks/default/secret").json()

    assert account["type"] == "user"
    assert account["username"]
    assert secret["key"].startswith("whsec_")


def test_every_answer_says_what_is_left_of_the_rate_limit(quick: Service) -> None:
    created = create(quick)
    looked = quick.http.get(created.json()["urls"]["get"])
    refused = quick.http.get("/v1/predictions/nothing")

    assert int(created.headers["ratelimit-remaining"]) < 600
    assert int(looked.headers["ratelimit-remaining"]) > 50_000
    assert refused.headers["ratelimit-reset"] == "1"
    until_final(quick, created.json()["id"])
