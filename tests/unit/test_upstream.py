"""The fake Replicate behaves as the real one is known to: a test for each item of its checklist."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import pytest

from sayso.clock import SettableClock, from_datetime, iso, to_datetime
from sayso.media.probe import probe_video
from sayso.providers.scripted import Create, Script
from tests.builders import NOON
from tests.upstream import FAILURES, RUNS, Fault, Run, Upstream
from tests.upstream.customer import INPUT, Mailbox, create, customer
from tests.upstream.files import download_query

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOON)


@pytest.fixture
def upstream(clock: SettableClock) -> Upstream:
    return Upstream(clock, random=Random(7))


@pytest.fixture
async def http(upstream: Upstream) -> AsyncIterator[httpx.AsyncClient]:
    async with customer(upstream) as made:
        yield made


async def made(http: httpx.AsyncClient, **body: Any) -> str:
    answer = await create(http, **body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def look(http: httpx.AsyncClient, prediction_id: str) -> dict[str, Any]:
    answer = await http.get(f"/predictions/{prediction_id}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


# Accounts, limits, lists.


async def test_both_words_before_the_token_are_known(upstream: Upstream) -> None:
    async with customer(upstream) as http:
        http.headers["authorization"] = f"Token {upstream.token}"
        assert (await http.get("/account")).json()["type"] == "organization"
        del http.headers["authorization"]
        assert (await http.get("/account")).status_code == 401
        upstream.switch(checks_token=False)
        assert (await http.get("/account")).status_code == 200


async def test_six_hundred_creates_a_minute(http: httpx.AsyncClient, clock: SettableClock) -> None:
    answers = [await create(http) for _ in range(601)]

    assert [answer.status_code for answer in answers[-2:]] == [201, 429]
    assert answers[0].headers["ratelimit-remaining"] == "599"
    assert answers[-1].headers["ratelimit-remaining"] == "0"
    assert answers[-1].json() == {"detail": "Request was throttled. Your rate limit resets in ~1s."}
    clock.advance(1)
    assert (await create(http)).status_code == 201


async def test_looks_and_others_have_limits_of_their_own(http: httpx.AsyncClient) -> None:
    one = await made(http)
    remaining = [
        (await http.get(path)).headers.get("ratelimit-remaining")
        for path in (f"/predictions/{one}", "/predictions", "/account", "/files")
    ]
    assert remaining == ["59999", "2999", "2998", None]


async def test_little_credit_lets_one_pass_every_ten_seconds(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    upstream.switch(credit="low")

    statuses = []
    for _ in range(13):
        statuses.append((await create(http)).status_code)
        clock.advance(5)

    assert statuses == [201, 429] * 6 + [201]


async def test_a_list_is_walked_forth_and_back(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    """Several have one time, as a burst of creates has."""
    upstream.switch(page_size=10, limits_rate=False)
    ids = []
    for number in range(35):
        clock.advance(number % 4 == 0)
        ids.append(await made(http))

    pages: list[list[str]] = []
    url: str | None = "/predictions"
    last = ""
    while url is not None:
        last, body = url, (await http.get(url)).json()
        pages.append([one["id"] for one in body["results"]])
        url = body["next"]
        assert url is None or url.startswith(upstream.place.api + "/predictions?cursor=")
    back: list[list[str]] = []
    url = last
    while url is not None:
        body = (await http.get(url)).json()
        back.append([one["id"] for one in body["results"]])
        url = body["previous"]

    assert [one for page in pages for one in page] == ids[::-1]
    assert [len(page) for page in pages] == [10, 10, 10, 5]
    assert back[::-1] == pages


async def test_a_list_may_be_of_a_time(http: httpx.AsyncClient, clock: SettableClock) -> None:
    ids = []
    for _ in range(3):
        ids.append(await made(http))
        clock.advance(60)
    since = to_datetime(NOON) + timedelta(seconds=60)

    async def listed(**query: str) -> list[str]:
        body = (await http.get("/predictions", params=query)).json()
        return [one["id"] for one in body["results"]]

    assert await listed(created_after=iso(from_datetime(since))) == [ids[2], ids[1]]
    assert await listed(created_before=since.isoformat()) == [ids[0]]
    assert await listed(source="web") == []


async def test_a_list_may_lag(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    upstream.will(Run(script=Script(listed_s=30)))
    one = await made(http)

    async def listed() -> list[str]:
        return [found["id"] for found in (await http.get("/predictions")).json()["results"]]

    assert (await listed(), (await look(http, one))["id"]) == ([], one)
    clock.advance(30)
    assert await listed() == [one]


# Creates.


async def test_who_may_be_run_by_name(upstream: Upstream, http: httpx.AsyncClient) -> None:
    """A model of the community has to be run by the version that is looked up first."""
    body = {"source_image": "https://a.example/a.png", "driven_audio": "https://a.example/b.wav"}
    sad = "cjwbw/sadtalker"
    refused = await create(http, model=sad, input=body)
    model = (await http.get(f"/models/{sad}")).json()
    version = model["latest_version"]["id"]

    assert refused.status_code == 404
    assert model["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"][
        "required"
    ] == ["source_image", "driven_audio"]
    for named in (version, f"{sad}:{version}"):
        answer = await http.post("/predictions", json={"version": named, "input": body})
        assert (answer.status_code, answer.json()["version"]) == (201, version)
    for named in (sad, f"other/name:{version}"):
        answer = await http.post("/predictions", json={"version": named, "input": body})
        assert answer.json()["title"] == "Invalid version or not permitted"
    official = {"version": "bytedance/omni-human", "input": INPUT}
    assert (await http.post("/predictions", json=official)).json()["version"] == "hidden"


async def test_a_filter_needs_a_webhook(http: httpx.AsyncClient) -> None:
    answer = await create(http, webhook_events_filter=["completed"])
    assert "cannot be provided without webhook" in answer.json()["detail"]
    answer = await create(http, webhook="https://shop.example/hook", webhook_events_filter=["end"])
    assert answer.json()["invalid_fields"][0]["type"] == "enum"


async def test_checks_of_inputs_can_be_off(upstream: Upstream, http: httpx.AsyncClient) -> None:
    upstream.switch(checks_inputs=False)
    assert (await create(http, input={})).status_code == 201


@pytest.mark.parametrize("text", ["4s", "25h", "soon", ""])
async def test_a_life_has_bounds(http: httpx.AsyncClient, text: str) -> None:
    assert (await create(http, headers={"cancel-after": text})).status_code == 422


async def test_a_deadline_aborts_what_waits_and_cancels_what_runs(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    upstream.will(RUNS["stuck_starting"], RUNS["stuck_processing"])
    waiting, running = [await made(http, headers={"cancel-after": "5m"}) for _ in range(2)]
    clock.advance(299)
    assert [(await look(http, one))["status"] for one in (waiting, running)] == [
        "starting",
        "processing",
    ]
    clock.advance(1)
    assert [(await look(http, one))["status"] for one in (waiting, running)] == [
        "aborted",
        "canceled",
    ]


@pytest.mark.parametrize(
    ("wait", "status", "word"), [("wait=60", 201, "processing"), ("wait=5", 202, "starting")]
)
async def test_a_create_may_wait(clock: SettableClock, wait: str, status: int, word: str) -> None:
    """An output that is there already is shown while the prediction says `processing`."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    upstream = Upstream(clock, sleep=sleep, run=Run(script=Script(start_s=6, run_s=10)))
    async with customer(upstream) as http:
        answer = await create(http, headers={"prefer": wait})

    assert (answer.status_code, answer.json()["status"]) == (status, word)
    assert answer.headers["preference-applied"] == wait
    assert ("output" in answer.json()) is (status == 201)
    assert "completed_at" not in answer.json()


@pytest.mark.parametrize(
    ("create_word", "status", "n_made"),
    [
        (Create.LOST_REQUEST, None, 0),
        (Create.LOST_ANSWER, None, 1),
        (Create.DOUBLED, 201, 2),
        (Create.REFUSED, 429, 0),
        (Create.REJECTED, 422, 0),
    ],
)
async def test_a_script_says_what_becomes_of_its_create(
    upstream: Upstream,
    http: httpx.AsyncClient,
    create_word: Create,
    status: int | None,
    n_made: int,
) -> None:
    upstream.will(Run(script=Script(create=create_word)))
    if status is None:
        with pytest.raises(httpx.ReadTimeout):
            await create(http)
    else:
        assert (await create(http)).status_code == status
    assert len(upstream.predictions) == n_made


# What becomes of predictions.


@pytest.mark.parametrize("name", FAILURES)
async def test_failures_have_their_texts(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock, name: str
) -> None:
    upstream.will(RUNS[name])
    one = await made(http)
    clock.advance(60)
    body = await look(http, one)
    assert (body["status"], body["error"]) == ("failed", FAILURES[name])


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("succeeds", "succeeded", str),
        ("list_output", "succeeded", list),
        ("object_output", "succeeded", dict),
        ("empty_list", "succeeded", list),
        ("null_output", "succeeded", type(None)),
        ("fails_without_text", "failed", type(None)),
        ("canceled_by_them", "canceled", type(None)),
    ],
)
async def test_outputs_have_their_forms(
    upstream: Upstream,
    http: httpx.AsyncClient,
    clock: SettableClock,
    name: str,
    status: str,
    kind: type,
) -> None:
    upstream.will(RUNS[name])
    one = await made(http)
    clock.advance(60)
    body = await look(http, one)
    assert (body["status"], type(body["output"])) == (status, kind)


async def test_some_never_end_and_half_an_hour_ends_the_others(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    upstream.will(RUNS["stuck_starting"], RUNS["stuck_processing"], RUNS["unknown_word"])
    ids = [await made(http) for _ in range(3)]
    clock.advance(5)
    seen = [[(await look(http, one))["status"] for one in ids]]
    clock.advance(1800)
    seen.append([(await look(http, one))["status"] for one in ids])
    assert seen == [
        ["starting", "processing", "warming"],
        ["starting", "failed", "succeeded"],
    ]
    assert (await look(http, ids[1]))["error"] == "Prediction timed out"
    assert upstream.alive() == [ids[0]]


async def test_a_cancel_may_lose_against_success(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    """At worst it is told that it has won."""
    upstream.switch(cancel_says="canceled")
    upstream.will(RUNS["ignores_cancel"], RUNS["slow_cancel"], RUNS["succeeds"])
    ids = [await made(http) for _ in range(3)]
    clock.advance(5)
    told = [(await http.post(f"/predictions/{one}/cancel")).json()["status"] for one in ids]
    clock.advance(60)
    ended = [(await look(http, one))["status"] for one in ids]
    assert told == ["canceled"] * 3
    assert ended == ["succeeded", "succeeded", "canceled"]


@pytest.mark.parametrize(("habit", "status"), [("as it is", 200), ("404", 404), ("409", 409)])
async def test_a_cancel_may_come_too_late(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock, habit: str, status: int
) -> None:
    upstream.switch(cancel_of_final=habit)
    one = await made(http)
    clock.advance(60)
    answer = await http.post(f"/predictions/{one}/cancel")
    assert answer.status_code == status
    assert (await look(http, one))["status"] == "succeeded"


async def test_habits_can_be_left_off(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    one = await made(http)
    early = (await look(http, one))["created_at"]
    clock.advance(60)
    late = (await look(http, one))["created_at"]
    upstream.switch(quirks=False, has_metrics=False, starts_before_created=True)
    plain = await look(http, one)

    assert early != late
    assert plain["created_at"] == iso(NOON)
    assert plain["started_at"] < plain["created_at"]
    assert "metrics" not in plain
    upstream.switch(has_metrics=True, predict_time="null")
    assert (await look(http, one))["metrics"]["predict_time"] is None
    upstream.switch(predict_time="missing")
    assert "predict_time" not in (await look(http, one))["metrics"]


async def test_the_video_lies_elsewhere_and_for_an_hour(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock, tmp_path: Path
) -> None:
    upstream.will(RUNS["succeeds"], RUNS["output_lost"], RUNS["output_unavailable"])
    ids = [await made(http) for _ in range(3)]
    clock.advance(60)
    urls = [(await look(http, one))["output"] for one in ids]
    del http.headers["authorization"]

    answers = [await http.get(url) for url in urls]
    clock.advance(3600)
    late = await http.get(urls[0])

    assert [answer.status_code for answer in answers] == [200, 404, 503]
    assert urls[0].startswith("https://replicate.delivery/")
    (tmp_path / "out.mp4").write_bytes(answers[0].content)
    assert probe_video(tmp_path / "out.mp4").duration_video_s == pytest.approx(10, abs=0.2)
    assert late.status_code == 404
    assert upstream.leaks == []


async def test_a_token_that_is_shown_to_others_is_noticed(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    one = await made(http)
    clock.advance(60)
    await http.get((await look(http, one))["output"])
    with pytest.raises(httpx.ConnectError):
        await http.get("https://elsewhere.example/")
    assert len(upstream.leaks) == 2


# Files.


async def test_files_last_a_day(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    form = {
        "content": ("speech.wav", b"RIFF\r\n--\r\nWAVE", "audio/wav"),
        "metadata": ("", b'{"a": 1}', "application/json"),
    }
    answer = await http.post("/files", files=form)
    file = answer.json()
    other = (await http.post("/files", files={"content": ("b.wav", b"b")})).json()

    assert (answer.status_code, file["name"], file["size"]) == (201, "speech.wav", 14)
    assert file["metadata"] == {"a": 1}
    assert file["urls"]["get"] == f"{upstream.place.api}/files/{file['id']}"
    listed = (await http.get("/files")).json()["results"]
    assert [one["id"] for one in listed] == [other["id"], file["id"]]
    stored = upstream._files.get(file["id"], now=clock.now())
    assert stored is not None
    link = f"/files/{file['id']}/download?{download_query(stored)}"
    assert (await http.get(link, headers={"authorization": ""})).content == b"RIFF\r\n--\r\nWAVE"
    assert (await http.get(link.replace("signature=", "signature=0"))).status_code == 404
    assert (await http.delete(f"/files/{other['id']}")).status_code == 204
    assert (await http.delete(f"/files/{other['id']}")).status_code == 404
    clock.advance(86_400)
    assert (await http.get(f"/files/{file['id']}")).json() == {"detail": "File not found"}


async def test_inputs_are_fetched_at_the_start(
    upstream: Upstream, http: httpx.AsyncClient, clock: SettableClock
) -> None:
    """One that is gone by then is the end of the prediction; a file of theirs is looked up."""
    file = (await http.post("/files", files={"content": ("a.wav", b"a")})).json()["urls"]["get"]
    mailbox = Mailbox()
    good = await made(http, input={**INPUT, "audio": file})
    mailbox.gone[INPUT["audio"]] = 403
    bad = await made(http)
    await mailbox.live(upstream, clock)
    clock.advance(60)

    assert mailbox.fetched == [INPUT["image"], INPUT["image"], INPUT["audio"]]
    assert (await look(http, good))["status"] == "succeeded"
    failed = await look(http, bad)
    assert failed["error"].startswith("Input validation error: 403 Client Error: Forbidden")


# Faults, and being the same again.


BROKEN: Final = {
    Fault.RESET_BEFORE: (httpx.ReadError, 0),
    Fault.RESET_AFTER: (httpx.ReadError, 1),
    Fault.UNREACHABLE: (httpx.ConnectError, 0),
    Fault.SLOW: (httpx.ReadTimeout, 1),
    Fault.LOST: (httpx.ReadTimeout, 0),
    Fault.CUT: (httpx.RemoteProtocolError, 1),
}
SPOILED: Final = {
    Fault.BAD_JSON: (201, 1),
    Fault.HTML_502: (502, 0),
    Fault.HTML_502_AFTER: (502, 1),
    Fault.HTML_503: (503, 0),
    Fault.HTML_504_AFTER: (504, 1),
    Fault.ERROR_500: (500, 0),
    Fault.ERROR_500_AFTER: (500, 1),
    Fault.THROTTLED: (429, 0),
    Fault.REDIRECT: (302, 0),
    Fault.EMPTY: (200, 0),
}


def test_every_fault_is_tried() -> None:
    assert set(BROKEN) | set(SPOILED) == set(Fault)


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_connection_was_heard_or_not(
    upstream: Upstream, http: httpx.AsyncClient, fault: Fault
) -> None:
    upstream.fail("create", None, fault)
    await made(http)
    error, n_heard = BROKEN[fault]

    with pytest.raises(error):
        await create(http)

    assert len(upstream.predictions) == 1 + n_heard
    assert (await create(http)).status_code == 201


@pytest.mark.parametrize("fault", SPOILED)
async def test_a_spoiled_answer_was_heard_or_not(
    upstream: Upstream, http: httpx.AsyncClient, fault: Fault
) -> None:
    upstream.fail("create", fault)

    answer = await create(http)

    assert (answer.status_code, len(upstream.predictions)) == SPOILED[fault]
    assert (await create(http)).status_code == 201
    if "json" not in answer.headers.get("content-type", "") or fault is Fault.BAD_JSON:
        with pytest.raises(json.JSONDecodeError):
            answer.json()


async def test_chances_are_parts(upstream: Upstream, http: httpx.AsyncClient) -> None:
    upstream.chance("create", Fault.THROTTLED, 0.25)
    upstream.chance("create", Fault.HTML_502, 0.25)
    statuses = [(await create(http)).status_code for _ in range(400)]
    assert all(70 < statuses.count(status) < 130 for status in (429, 502))
    upstream.recover()
    assert (await create(http)).status_code == 201


async def test_any_id_can_be_known(upstream: Upstream, http: httpx.AsyncClient) -> None:
    assert (await http.get("/predictions/any")).status_code == 404
    upstream.switch(answers_any_id=True)
    assert (await look(http, "any"))["id"] == "any"


async def test_the_same_seed_is_the_same_service() -> None:
    async def story() -> tuple[list[str], list[int]]:
        upstream = Upstream(SettableClock(NOON), random=Random(11))
        upstream.chance("create", Fault.THROTTLED, 0.3)
        async with customer(upstream) as http:
            statuses = [(await create(http)).status_code for _ in range(50)]
        return list(upstream.predictions), statuses

    assert await story() == await story()
