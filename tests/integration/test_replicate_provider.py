"""The provider of Replicate against the upstream: what it sends, how often, and to whom."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.artifacts.store import ArtifactStore, folder_artifacts
from sayso.catalogue.catalogue import Catalogue, Model, read_catalogue
from sayso.clock import SECOND, SettableClock, after
from sayso.errors import (
    DownloadTooLarge,
    OutputLost,
    ProviderError,
    ProviderRejected,
    ProviderTimedOut,
    ProviderUnavailable,
)
from sayso.ids import GenerationId, Ids, Nonce, ProviderId
from sayso.providers.base import Attempt, LipSyncInputs, Prediction, PredictionStatus
from sayso.providers.replicate import ReplicateProvider
from sayso.providers.replicate_client import ReplicateSettings
from sayso.providers.scripted import Create, Script
from sayso.settings import Peer
from tests.builders import NOON
from tests.upstream import RUNS, Fault, Run, Upstream, UpstreamTransport
from tests.upstream.calls import Answer, Call
from tests.upstream.service import TOKEN
from tests.workshop import stored

pytestmark = pytest.mark.anyio

PUBLIC = "https://sayso.example.com"
WAN = "wan-video/wan-2.2-s2v"
SADTALKER = Model(
    name="cjwbw/sadtalker",
    provider="replicate",
    description="for tests",
    rate_micros=5_000,
    price_read_on=read_catalogue(providers=()).find(WAN).price_read_on,
    inputs=replace(
        read_catalogue(providers=()).find(WAN).inputs,
        portrait="source_image",
        speech="driven_audio",
        prompt=None,
    ),
)
CATALOGUE = Catalogue(
    [*read_catalogue(providers=()).models, SADTALKER], providers=["replicate", "embedded"]
)
# The portrait is the smaller one.
INPUTS = LipSyncInputs(
    portrait=replace(stored("portrait"), size_bytes=700),
    speech=replace(stored("speech"), size_bytes=9_000),
    speech_s=10,
    prompt="woman singing",
    options={"num_frames_per_chunk": 81},
)


@dataclass
class Bench:
    """An upstream, a provider that speaks with it, and everything that was said."""

    clock: SettableClock
    upstream: Upstream
    store: ArtifactStore
    transport: UpstreamTransport
    ids: Ids
    calls: list[Call] = field(default_factory=list)
    providers: list[ReplicateProvider] = field(default_factory=list)

    def provider(
        self,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        has_network: bool = False,
        **settings: Any,
    ) -> ReplicateProvider:
        """Return a provider as a new process would have it."""
        made = ReplicateProvider(
            ReplicateSettings(token=TOKEN, **settings),
            clock=self.clock,
            artifacts=self.store,
            links=FileLinks([LinkSecret("a", bytes(32))]),
            catalogue=CATALOGUE,
            transport=None if has_network else transport or self.transport,
        )
        self.providers.append(made)
        return made

    def attempt(self, model: str = WAN, *, deadline_s: float | None = 600) -> Attempt:
        """Return an attempt that is about to be made."""
        deadline_at = None if deadline_s is None else after(self.clock.now(), deadline_s)
        return Attempt(
            generation_id=GenerationId(self.ids.new()),
            number=1,
            nonce=self.ids.nonce(),
            model=CATALOGUE.find(model),
            deadline_at=deadline_at,
        )

    def made(self, path: str) -> list[Call]:
        """Return the calls to this path of the API."""
        return [call for call in self.calls if urlsplit(call.url).path == f"/v1{path}"]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = SettableClock(NOON)
    upstream = Upstream(clock)
    store = folder_artifacts(tmp_path / "artifacts")
    for one in (INPUTS.portrait, INPUTS.speech):
        source = tmp_path / one.id
        source.write_bytes(one.id.encode() + b"x" * (one.size_bytes - len(one.id)))
        await store.put_file(ArtifactKey(one.key), source)
    transport = UpstreamTransport(upstream)
    made = Bench(clock, upstream, store, transport, Ids(clock.now))
    transport.on_answer = lambda call, _answer: made.calls.append(call)
    yield made
    for provider in made.providers:
        await provider.aclose()
    assert upstream.leaks == []


def query_of(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


# What a create says.


async def test_with_a_public_address_inputs_are_links_of_ours(bench: Bench) -> None:
    attempt = bench.attempt()
    made = await bench.provider(public_url=PUBLIC).submit(attempt, INPUTS)

    [call] = bench.calls
    body = call.json()
    image, audio = body["input"].pop("image"), body["input"].pop("audio")
    assert urlsplit(call.url).path == f"/v1/models/{WAN}/predictions"
    assert body == {
        "input": {"prompt": "woman singing", "num_frames_per_chunk": 81},
        "webhook": f"{PUBLIC}/callbacks/replicate/{attempt.nonce}",
        "webhook_events_filter": ["start", "completed"],
    }
    for url, key in ((image, INPUTS.portrait.key), (audio, INPUTS.speech.key)):
        assert url.startswith(f"{PUBLIC}/files/{key}?")
        assert query_of(url)["nonce"] == [attempt.nonce]
    assert made.status is PredictionStatus.STARTING


async def test_links_outlive_the_wait(bench: Bench) -> None:
    attempt = bench.attempt(deadline_s=5 * 3600)
    await bench.provider(public_url=PUBLIC).submit(attempt, INPUTS)

    expires_s = int(query_of(bench.calls[0].json()["input"]["image"])["expires"][0])
    assert attempt.deadline_at is not None
    assert expires_s > attempt.deadline_at / SECOND + 600


async def test_without_one_files_are_handed_in(bench: Bench) -> None:
    attempt = bench.attempt()
    await bench.provider().submit(attempt, INPUTS)

    names = {file["name"]: file for file in await files_of(bench)}
    body = bench.calls[-1].json()
    assert body["input"]["image"] == names[f"{attempt.nonce}-portrait.png"]["urls"]["get"]
    assert names[f"{attempt.nonce}-portrait.png"]["size"] == INPUTS.portrait.size_bytes
    assert "webhook" not in body
    assert body["input"]["audio"].startswith("https://api.replicate.com/v1/files/")


async def test_each_attempt_has_an_input_of_its_own(bench: Bench) -> None:
    provider = bench.provider()
    for _ in range(3):
        await provider.submit(bench.attempt(), INPUTS)

    inputs = [made.input for made in bench.upstream.predictions.values()]
    assert len({one["image"] for one in inputs}) == 3
    # The larger file is handed in once.
    assert len({one["audio"] for one in inputs}) == 1
    assert bench.upstream.counts["file"] == 4


async def test_a_file_is_handed_in_again_before_its_day_is_over(bench: Bench) -> None:
    provider = bench.provider()
    await provider.submit(bench.attempt(), INPUTS)
    bench.clock.advance(22.9 * 3600)
    await provider.submit(bench.attempt(), INPUTS)

    first, second = (made.input["audio"] for made in bench.upstream.predictions.values())
    assert first != second


async def test_a_file_that_is_too_large_for_them_is_not_sent(bench: Bench) -> None:
    huge = replace(INPUTS, speech=replace(INPUTS.speech, size_bytes=100_000_001))

    with pytest.raises(ProviderRejected, match="100 MB"):
        await bench.provider().submit(bench.attempt(), huge)
    assert bench.calls == []


@pytest.mark.parametrize(
    ("deadline_s", "header"),
    [(600, "660s"), (-3600, "5s"), (90_000, "86400s"), (None, "86400s")],
)
async def test_a_lost_prediction_ends_by_itself(
    bench: Bench, deadline_s: float | None, header: str
) -> None:
    await bench.provider(public_url=PUBLIC).submit(bench.attempt(deadline_s=deadline_s), INPUTS)

    assert bench.calls[0].headers["cancel-after"] == header
    assert "prefer" not in bench.calls[0].headers


async def test_what_an_entry_fixes_is_sent(bench: Bench) -> None:
    model = replace(
        CATALOGUE.find(WAN), name="wan-video/short", upstream=WAN, fixed={"seed": 7}, options=()
    )
    attempt = replace(bench.attempt(), model=model)

    await bench.provider(public_url=PUBLIC).submit(attempt, INPUTS)

    assert urlsplit(bench.calls[0].url).path == f"/v1/models/{WAN}/predictions"
    assert bench.calls[0].json()["input"]["seed"] == 7


# By model, or by version.


async def test_a_model_that_is_not_official_is_created_by_version(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    for _ in range(3):
        await provider.submit(bench.attempt("cjwbw/sadtalker"), without_options())

    paths = [urlsplit(call.url).path for call in bench.calls]
    assert paths == [
        "/v1/models/cjwbw/sadtalker/predictions",
        "/v1/models/cjwbw/sadtalker",
        *["/v1/predictions"] * 3,
    ]
    assert set(bench.calls[-1].json()["input"]) == {"source_image", "driven_audio"}


async def test_an_entry_may_say_that_a_model_is_not_official(bench: Bench) -> None:
    model = replace(SADTALKER, is_official=False)
    attempt = replace(bench.attempt(), model=model)
    await bench.provider(public_url=PUBLIC).submit(attempt, without_options())

    paths = [urlsplit(call.url).path for call in bench.calls]
    assert paths == ["/v1/models/cjwbw/sadtalker", "/v1/predictions"]


async def test_a_version_that_is_gone_is_resolved_again(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    provider._versions["cjwbw/sadtalker"] = ("0" * 64, 1e9)

    await provider.submit(bench.attempt("cjwbw/sadtalker"), without_options())

    assert len(bench.upstream.predictions) == 1
    assert len(bench.made("/predictions")) == 2


async def test_a_version_that_cannot_be_asked_for_means_that_nothing_was_created(
    bench: Bench,
) -> None:
    bench.upstream.fail("model", Fault.CUT)

    with pytest.raises(ProviderUnavailable):
        await bench.provider(public_url=PUBLIC).submit(
            bench.attempt("cjwbw/sadtalker"), without_options()
        )
    assert len(bench.upstream.predictions) == 0


async def test_a_model_that_is_gone_is_rejected(bench: Bench) -> None:
    model = replace(SADTALKER, name="nobody/nothing")
    attempt = replace(bench.attempt(), model=model)

    with pytest.raises(ProviderRejected, match="no longer offers nobody/nothing"):
        await bench.provider(public_url=PUBLIC).submit(attempt, without_options())


def without_options() -> LipSyncInputs:
    return replace(INPUTS, options={}, prompt=None)


# What becomes of a create.


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.UNREACHABLE, ProviderUnavailable),
        (Fault.THROTTLED, ProviderUnavailable),
        (Fault.RESET_BEFORE, ProviderTimedOut),
        (Fault.RESET_AFTER, ProviderTimedOut),
        (Fault.SLOW, ProviderTimedOut),
        (Fault.LOST, ProviderTimedOut),
        (Fault.CUT, ProviderTimedOut),
        (Fault.BAD_JSON, ProviderTimedOut),
        (Fault.HTML_502, ProviderTimedOut),
        (Fault.HTML_502_AFTER, ProviderTimedOut),
        (Fault.ERROR_500, ProviderTimedOut),
        (Fault.REDIRECT, ProviderTimedOut),
        (Fault.EMPTY, ProviderTimedOut),
    ],
)
async def test_a_create_that_goes_wrong_is_never_sent_twice(
    bench: Bench, fault: Fault, error: type[ProviderError]
) -> None:
    bench.upstream.fail("create", fault)

    with pytest.raises(error) as raised:
        await bench.provider(public_url=PUBLIC).submit(bench.attempt(), INPUTS)

    assert bench.upstream.counts["create"] == 1
    assert len(bench.upstream.predictions) <= 1
    assert "example.com" not in str(raised.value)


async def test_a_file_that_cannot_be_handed_in_means_that_nothing_was_created(
    bench: Bench,
) -> None:
    provider, attempt = bench.provider(), bench.attempt()
    bench.upstream.fail("file", Fault.RESET_AFTER, Fault.ERROR_500)

    with pytest.raises(ProviderUnavailable):
        await provider.submit(attempt, INPUTS)
    assert bench.upstream.counts["create"] == 0
    await provider.submit(attempt, INPUTS)

    assert len(bench.upstream.predictions) == 1


@pytest.mark.parametrize(
    ("trouble", "error"),
    [("too large", ProviderRejected), ("gone", ProviderRejected), ("refused", ProviderUnavailable)],
)
async def test_files_that_cannot_be_handed_in_say_why(
    bench: Bench, trouble: str, error: type[ProviderError]
) -> None:
    match trouble:
        case "too large":
            bench.upstream.switch(largest_file_bytes=100)
        case "gone":
            await bench.store.delete(ArtifactKey(INPUTS.speech.key))
        case "refused":
            bench.upstream.fail("file", Fault.EMPTY, Fault.EMPTY)

    with pytest.raises(error):
        await bench.provider().submit(bench.attempt(), INPUTS)
    assert bench.upstream.counts["create"] == 0


async def test_what_is_still_being_handed_in_is_given_up_at_the_end(bench: Bench) -> None:
    provider = bench.provider()
    bench.transport.hold()
    submitting = asyncio.create_task(provider.submit(bench.attempt(), INPUTS))
    await asyncio.sleep(0.05)
    await provider.aclose()

    with pytest.raises(asyncio.CancelledError):
        await submitting


async def test_files_that_take_long_are_there_when_the_attempt_comes_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sayso.providers.replicate_inputs._WAIT_S", 0.05)
    provider, attempt = bench.provider(), bench.attempt()
    bench.transport.hold()
    with pytest.raises(ProviderUnavailable):
        await provider.submit(attempt, INPUTS)
    bench.transport.release()
    await provider.submit(attempt, INPUTS)

    assert bench.upstream.counts["file"] == 2
    assert len(bench.upstream.predictions) == 1


async def test_what_comes_before_a_create_is_bounded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was created, so it is a refusal and no riddle."""
    monkeypatch.setattr("sayso.providers.replicate._HANDOVER_S", 0.05)
    bench.transport.hold()

    with pytest.raises(ProviderUnavailable):
        await bench.provider().submit(bench.attempt(), INPUTS)


async def test_fields_that_do_not_fit_are_named_in_our_words(bench: Bench) -> None:
    inputs = replace(INPUTS, options={"num_frames_per_chunk": 999}, prompt=None)

    with pytest.raises(ProviderRejected) as raised:
        await bench.provider(public_url=PUBLIC).submit(bench.attempt(), inputs)

    text = str(raised.value)
    assert "the option num_frames_per_chunk, which is too large" in text
    assert "the prompt, which is missing" in text
    assert "invalid_fields" in (raised.value.raw or "")


async def test_a_create_never_uses_a_connection_again(bench: Bench) -> None:
    """One that the server has just closed would leave its outcome unknown; a look may be lost."""
    connections: list[list[str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths: list[str] = []
        connections.append(paths)
        while head := await reader.readuntil(b"\r\n\r\n"):
            paths.append(head.split()[0].decode())
            length = re.search(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length[1]) if length else 0)
            body = b'{"id": "abc", "status": "starting"}'
            writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body)
            await writer.drain()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider = bench.provider(
        has_network=True, url=f"http://127.0.0.1:{port}/v1", public_url=PUBLIC
    )
    for _ in range(3):
        made = await provider.submit(bench.attempt(), INPUTS)
        await provider.fetch_many([made.provider_id])
    await provider.aclose()
    server.close()

    assert sorted(connections) == [["GET"] * 3, ["POST"], ["POST"], ["POST"]]


# Money and limits.


@pytest.mark.parametrize(
    ("trouble", "means"),
    [
        (httpx.ConnectError, ProviderUnavailable),
        (httpx.ConnectTimeout, ProviderUnavailable),
        (httpx.PoolTimeout, ProviderUnavailable),
        (httpx.WriteTimeout, ProviderTimedOut),
        (httpx.WriteError, ProviderTimedOut),
        (httpx.ReadTimeout, ProviderTimedOut),
        (httpx.ReadError, ProviderTimedOut),
        (httpx.RemoteProtocolError, ProviderTimedOut),
    ],
)
async def test_only_a_connection_that_was_never_made_proves_that_nothing_was_sent(
    bench: Bench, trouble: type[httpx.TransportError], means: type[ProviderError]
) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise trouble("no")

    provider = bench.provider(transport=httpx.MockTransport(answer), public_url=PUBLIC)

    with pytest.raises(ProviderError) as raised:
        await provider.submit(bench.attempt(), INPUTS)
    assert type(raised.value) is means


async def test_without_credit_creates_wait_and_no_customer_reads_of_bills(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    bench.upstream.switch(credit="none")

    waits = []
    for _ in range(3):
        with pytest.raises(ProviderUnavailable) as raised:
            await provider.submit(bench.attempt(), INPUTS)
        waits.append(raised.value.retry_after_s)
        assert "billing" not in str(raised.value)
        assert "billing" in (raised.value.raw or "") or "credit" in (raised.value.raw or "")

    # One was sent, the others were not even tried.
    assert bench.upstream.counts["create"] == 1
    assert waits == [30, 30, 30]


async def test_one_create_at_a_time_finds_out_whether_there_is_credit_again(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    bench.upstream.switch(credit="none")
    waits = []
    for _ in range(4):
        with pytest.raises(ProviderUnavailable) as raised:
            await provider.submit(bench.attempt(), INPUTS)
        waits.append(raised.value.retry_after_s)
        bench.clock.advance(waits[-1])
    assert waits == [30, 60, 120, 240]

    bench.upstream.switch(credit="good")
    bench.transport.hold()
    tries = [asyncio.create_task(provider.submit(bench.attempt(), INPUTS)) for _ in range(3)]
    await asyncio.sleep(0.01)
    bench.transport.release()
    first, *others = await asyncio.gather(*tries, return_exceptions=True)
    assert isinstance(first, Prediction)
    assert all(isinstance(other, ProviderUnavailable) for other in others)
    await provider.submit(bench.attempt(), INPUTS)


async def test_a_refused_token_pauses_creates(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    assert provider.trouble is None
    bench.upstream.token = "another one"

    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await provider.submit(bench.attempt(), INPUTS)

    assert bench.upstream.counts["create"] == 1
    assert provider.trouble == "Replicate refuses REPLICATE_API_TOKEN"


async def test_little_credit_means_one_create_in_ten_seconds(bench: Bench) -> None:
    """Six a minute, one at a time; the limit is kept to, not run into again and again."""
    provider = bench.provider(public_url=PUBLIC)
    bench.upstream.switch(credit="low")
    waiting: list[tuple[float, Attempt]] = [(0.0, bench.attempt()) for _ in range(8)]

    for _ in range(120):
        now_s = bench.clock.monotonic_s()
        for due in [one for one in waiting if one[0] <= now_s]:
            waiting.remove(due)
            try:
                await provider.submit(due[1], INPUTS)
            except ProviderUnavailable as error:
                waiting.append((now_s + error.retry_after_s, due[1]))
        bench.clock.advance(1)

    assert len(bench.upstream.predictions) == 8
    # Two 429s taught it; after that hardly a call is wasted.
    assert bench.upstream.counts["create"] <= 8 + 4


@pytest.mark.parametrize(
    ("body", "headers", "wait_s"),
    [
        ({"retry_after": 7, "detail": "resets in ~30s."}, {"retry-after": "9"}, 7),
        ({"detail": "resets in ~30s."}, {"retry-after": "9"}, 9),
        ({"detail": "resets in ~30s."}, {}, 30),
        ({"retry_after": "soon"}, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, 5),
        ({}, {}, 5),
    ],
)
async def test_a_429_says_how_long_in_one_of_three_places(
    bench: Bench, body: dict[str, Any], headers: dict[str, str], wait_s: float
) -> None:
    answer = httpx.Response(429, json=body, headers=headers)
    provider = bench.provider(
        public_url=PUBLIC, transport=httpx.MockTransport(lambda _request: answer)
    )

    with pytest.raises(ProviderUnavailable) as raised:
        await provider.submit(bench.attempt(), INPUTS)

    assert raised.value.retry_after_s == wait_s


async def test_a_thousand_creates_at_once_stay_within_the_limit(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    waiting: list[tuple[float, Attempt]] = [(0.0, bench.attempt()) for _ in range(1_000)]
    n_refused = 0

    for _ in range(240):
        now_s = bench.clock.monotonic_s()
        for due in [one for one in waiting if one[0] <= now_s]:
            waiting.remove(due)
            try:
                await provider.submit(due[1], INPUTS)
            except ProviderUnavailable as error:
                n_refused += 1
                waiting.append((now_s + max(error.retry_after_s, 1), due[1]))
        bench.clock.advance(1)
        if not waiting:
            break

    assert len(bench.upstream.predictions) == bench.upstream.counts["create"] == 1_000
    assert bench.clock.monotonic_s() < 110
    # Each comes back at a time of its own.
    assert n_refused < 3_000


# Outages.


async def test_the_breaker_opens_and_a_look_closes_it(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    made = await provider.submit(bench.attempt(), INPUTS)
    bench.upstream.fail("read", *[Fault.HTML_502] * 9)
    for _ in range(9):
        with pytest.raises(ProviderError):
            await provider.fetch_many([made.provider_id])
    assert bench.upstream.counts["read"] == 5
    assert provider.trouble == "Replicate does not answer"

    bench.upstream.recover()
    bench.clock.advance(6)
    assert await provider.fetch_many([made.provider_id])
    assert provider.trouble is None


async def test_after_an_outage_no_create_is_the_first_to_find_out(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    bench.upstream.fail("list", *[Fault.ERROR_500] * 5)
    for _ in range(5):
        with pytest.raises(ProviderError):
            await provider.find(Nonce("n"), since=NOON)
    bench.clock.advance(6)
    bench.upstream.fail("account", Fault.ERROR_500)

    with pytest.raises(ProviderUnavailable):
        await provider.submit(bench.attempt(), INPUTS)
    bench.clock.advance(11)
    await provider.submit(bench.attempt(), INPUTS)

    assert bench.upstream.counts["account"] == 2
    assert bench.upstream.counts["create"] == 1


# Looks.


async def test_one_page_of_the_list_serves_a_hundred_looks(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    ids = await create_many(bench, provider, 350)
    chunks = [ids[start : start + 100] for start in range(0, 350, 100)]

    seen = await asyncio.gather(*map(provider.fetch_many, chunks))

    assert [len(one) for one in seen] == [100, 100, 100, 50]
    assert bench.upstream.counts["list"] == 4
    assert bench.upstream.counts["read"] == 0


async def test_chunks_in_any_order_share_the_pages(bench: Bench) -> None:
    """The rows that are due together are not those that were created together."""
    provider = bench.provider(public_url=PUBLIC)
    ids = await create_many(bench, provider, 400)
    chunks = [ids[start::4] for start in range(4)]

    seen = await asyncio.gather(*map(provider.fetch_many, chunks))

    assert sum(map(len, seen)) == 400
    assert bench.upstream.counts["list"] == 4
    assert bench.upstream.counts["read"] == 0


async def test_a_chunk_that_comes_a_moment_later_goes_on_where_the_walk_stopped(
    bench: Bench,
) -> None:
    provider = bench.provider(public_url=PUBLIC)
    ids = await create_many(bench, provider, 300)
    newest, older = ids[200:], ids[:200]

    assert len(await provider.fetch_many(newest)) == 100
    bench.clock.advance(0.2)
    assert len(await provider.fetch_many(older)) == 200
    assert bench.upstream.counts["list"] == 3
    assert bench.upstream.counts["read"] == 0


async def test_few_are_asked_for_one_by_one(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    ids = await create_many(bench, provider, 2)

    assert set(await provider.fetch_many(ids)) == set(ids)
    assert bench.upstream.counts["list"] == 0
    assert bench.upstream.counts["read"] == 2


async def test_those_that_the_list_does_not_show_are_asked_for(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    old = await create_many(bench, provider, 5)
    bench.clock.advance(60)
    await create_many(bench, provider, 250)

    seen = await provider.fetch_many([*old, ProviderId("nobodys")])

    assert set(seen) == set(old)
    assert bench.upstream.counts["list"] == 1
    assert bench.upstream.counts["read"] == 6


async def test_a_page_that_fails_is_the_answer_for_all_who_wait_for_it(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    ids = await create_many(bench, provider, 90)
    bench.upstream.fail("list", Fault.HTML_502)
    chunks = [ids[start : start + 30] for start in (0, 30, 60)]

    failed = await asyncio.gather(*map(provider.fetch_many, chunks), return_exceptions=True)
    assert all(isinstance(one, ProviderTimedOut) for one in failed)
    assert bench.upstream.counts["list"] == 1

    assert len(await provider.fetch_many(ids)) == 90


async def test_what_we_changed_is_looked_at_anew(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    ids = await create_many(bench, provider, 5)
    await provider.fetch_many(ids)
    await provider.cancel(ids[0])

    assert (await provider.fetch_many(ids))[ids[0]].status is PredictionStatus.CANCELED


async def test_a_look_that_fails_in_part_tells_the_rest(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    ids = await create_many(bench, provider, 2)
    bench.upstream.fail("read", Fault.ERROR_500)

    assert len(await provider.fetch_many(ids)) == 1


async def test_the_next_page_is_asked_for_at_our_address_alone(bench: Bench) -> None:
    """Whatever host `next` names, only its cursor is used."""

    class Elsewhere(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await bench.transport.handle_async_request(request)
            text = (await answer.aread()).decode()
            text = text.replace("https://api.replicate.com", "https://evil.example.org")
            return httpx.Response(answer.status_code, text=text)

    provider = bench.provider(public_url=PUBLIC, transport=Elsewhere())
    ids = await create_many(bench, provider, 150)

    assert len(await provider.fetch_many(ids)) == 150
    assert {urlsplit(call.url).hostname for call in bench.calls} == {"api.replicate.com"}


# Searches.


async def test_a_lost_create_is_found_by_its_links(bench: Bench) -> None:
    attempt = bench.attempt()
    bench.upstream.fail("create", Fault.RESET_AFTER)
    with pytest.raises(ProviderTimedOut):
        await bench.provider(public_url=PUBLIC).submit(attempt, INPUTS)

    found = await bench.provider(public_url=PUBLIC).find(attempt.nonce, since=NOON)

    assert isinstance(found, Prediction)
    assert [found.provider_id] == list(bench.upstream.predictions)


async def test_a_lost_create_is_found_by_its_files_after_a_restart(bench: Bench) -> None:
    attempt = bench.attempt()
    bench.upstream.fail("create", Fault.RESET_AFTER)
    with pytest.raises(ProviderTimedOut):
        await bench.provider().submit(attempt, INPUTS)

    found = await bench.provider().find(attempt.nonce, since=NOON)

    assert isinstance(found, Prediction)
    assert [found.provider_id] == list(bench.upstream.predictions)


async def test_searches_at_the_same_time_share_a_walk(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    attempts = [bench.attempt() for _ in range(20)]
    for attempt in attempts:
        await provider.submit(attempt, INPUTS)

    found = await asyncio.gather(*(provider.find(one.nonce, since=NOON) for one in attempts))

    assert len({one.provider_id for one in found if isinstance(one, Prediction)}) == 20
    assert bench.upstream.counts["list"] == 1


async def test_a_search_that_begins_later_does_not_believe_an_earlier_one(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    bench.transport.hold()
    early = asyncio.create_task(provider.find(Nonce("nobodys"), since=NOON))
    await asyncio.sleep(0.01)
    late = asyncio.create_task(provider.find(Nonce("nobodys"), since=NOON))
    await asyncio.sleep(0.01)
    bench.transport.release()
    await asyncio.gather(early, late)

    assert bench.upstream.counts["list"] == 2


async def test_of_twins_the_one_that_runs_is_found(bench: Bench) -> None:
    provider, attempt = bench.provider(public_url=PUBLIC), bench.attempt()
    bench.upstream.will(Run(script=Script(create=Create.DOUBLED)))
    made = await provider.submit(attempt, INPUTS)
    await provider.cancel(made.provider_id)

    found = await provider.find(attempt.nonce, since=NOON)

    assert isinstance(found, Prediction)
    assert found.provider_id != made.provider_id


async def test_a_search_that_is_not_answered_raises(bench: Bench) -> None:
    bench.upstream.fail("list", Fault.CUT)

    with pytest.raises(ProviderTimedOut):
        await bench.provider().find(Nonce("nobodys"), since=NOON)


async def test_a_nonce_is_not_found_in_another(bench: Bench) -> None:
    provider, attempt = bench.provider(public_url=PUBLIC), bench.attempt()
    await provider.submit(attempt, INPUTS)

    assert await provider.find(Nonce(attempt.nonce[:-1]), since=NOON) is None


@pytest.mark.parametrize("public_url", [PUBLIC, None])
async def test_a_search_that_cannot_see_everything_proves_nothing(
    bench: Bench, public_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a list of predictions without end nor one of files counts as "absent"."""
    provider = bench.provider(public_url=public_url)
    bench.upstream.switch(page_size=2)
    for _ in range(5):
        await provider.submit(bench.attempt(), INPUTS)
    monkeypatch.setattr("sayso.providers.replicate_list._MOST_PAGES", 2)

    with pytest.raises(ProviderTimedOut):
        await provider.find(Nonce("nobodys"), since=NOON)


async def test_a_search_in_which_everyone_gives_up_leaves_nothing_behind(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    bench.transport.hold()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await provider.find(Nonce("nobodys"), since=NOON)
    bench.upstream.fail("list", Fault.ERROR_500)
    bench.transport.release()
    await asyncio.sleep(0.02)

    assert await provider.find(Nonce("nobodys"), since=NOON) is None


# The video.


@pytest.mark.parametrize("name", ["succeeds", "list_output", "object_output"])
async def test_the_video_is_found_in_any_form_of_output(
    bench: Bench, name: str, tmp_path: Path
) -> None:
    provider = bench.provider(public_url=PUBLIC)
    bench.upstream.will(RUNS[name])
    done = await finished(bench, provider)

    assert done.output is not None
    await provider.save_output(done.provider_id, done.output, tmp_path / "v.mp4")
    assert (tmp_path / "v.mp4").stat().st_size > 1_000


@pytest.mark.parametrize("name", ["null_output", "empty_list"])
async def test_a_success_may_be_without_a_video(bench: Bench, name: str) -> None:
    provider = bench.provider(public_url=PUBLIC)
    bench.upstream.will(RUNS[name])
    done = await finished(bench, provider)

    assert (done.status, done.output) == (PredictionStatus.SUCCEEDED, None)


async def test_after_an_hour_a_success_has_no_video(bench: Bench, tmp_path: Path) -> None:
    provider = bench.provider(public_url=PUBLIC)
    done = await finished(bench, provider)
    bench.clock.advance(3_700)

    later = (await provider.fetch_many([done.provider_id]))[done.provider_id]

    assert (later.status, later.output) == (PredictionStatus.SUCCEEDED, None)
    assert done.output is not None
    with pytest.raises(OutputLost):
        await provider.save_output(done.provider_id, done.output, tmp_path / "v.mp4")


async def test_the_cost_is_by_their_own_count(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    bench.upstream.will(Run(video_s=9.6))

    assert (await finished(bench, provider)).cost_micros == 192_000


async def test_a_prediction_that_never_began_is_a_time_out(bench: Bench) -> None:
    provider = bench.provider(public_url=PUBLIC)
    bench.upstream.will(RUNS["stuck_starting"])
    made = await provider.submit(bench.attempt(), INPUTS)
    bench.clock.advance(700)

    ended = (await provider.fetch_many([made.provider_id]))[made.provider_id]

    assert ended.status is PredictionStatus.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "timed_out"


PLACES = [
    ("https://replicate.delivery/a/out.mp4", True),
    ("https://pbxt.replicate.delivery/a/out.mp4", True),
    ("http://replicate.delivery/a/out.mp4", False),
    ("https://replicate.delivery:8443/a/out.mp4", False),
    ("https://replicate.delivery.example.org/a/out.mp4", False),
    ("https://notreplicate.delivery/a/out.mp4", False),
    ("https://replicate.delivery@example.org/a/out.mp4", False),
    ("https://127.0.0.1/a/out.mp4", False),
    ("http://169.254.169.254/latest/meta-data", False),
    ("https://api.replicate.com/v1/files/x/download", True),
    ("file:///etc/passwd", False),
    ("data:video/mp4;base64,AAAA", False),
]


@pytest.mark.parametrize(("url", "is_allowed"), PLACES)
async def test_videos_come_from_where_they_may_lie(
    bench: Bench, url: str, *, is_allowed: bool, tmp_path: Path
) -> None:
    asked: list[str] = []

    class Delivery(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.append(str(request.url))
            assert "authorization" not in request.headers
            return httpx.Response(200, content=b"a video")

    provider = bench.provider(transport=Delivery())
    if is_allowed:
        await provider.save_output(ProviderId("p"), url, tmp_path / "v.mp4")
        assert (tmp_path / "v.mp4").read_bytes() == b"a video"
        return
    with pytest.raises(OutputLost):
        await provider.save_output(ProviderId("p"), url, tmp_path / "v.mp4")
    assert asked == []


@pytest.mark.parametrize(
    ("target", "is_allowed"),
    [("https://xezq.replicate.delivery/b.mp4", True), ("https://example.org/b.mp4", False)],
)
async def test_redirects_stay_within_the_same_bounds(
    bench: Bench, target: str, *, is_allowed: bool, tmp_path: Path
) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/b.mp4":
            return httpx.Response(200, content=b"a video")
        return httpx.Response(302, headers={"location": target})

    provider = bench.provider(transport=httpx.MockTransport(answer))
    saving = provider.save_output(
        ProviderId("p"), "https://replicate.delivery/a.mp4", tmp_path / "v.mp4"
    )
    if is_allowed:
        await saving
    else:
        with pytest.raises(OutputLost):
            await saving


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(200, content=b"x" * 2_000), DownloadTooLarge),
        (httpx.Response(200, headers={"content-length": "2000"}, content=b""), DownloadTooLarge),
        (httpx.Response(200, headers={"content-length": "900"}, content=b"x"), ProviderUnavailable),
        (httpx.Response(200, headers={"content-encoding": "br"}), ProviderUnavailable),
        (httpx.Response(302, headers={"location": "/a.mp4"}), OutputLost),
        (httpx.Response(404), OutputLost),
        (httpx.Response(410), OutputLost),
        (httpx.Response(503), ProviderUnavailable),
    ],
)
async def test_a_video_that_cannot_be_had_says_why(
    bench: Bench, answer: httpx.Response, error: type[Exception], tmp_path: Path
) -> None:
    provider = bench.provider(
        transport=httpx.MockTransport(lambda _request: answer), video_max_bytes=1_000
    )

    with pytest.raises(error):
        await provider.save_output(
            ProviderId("p"), "https://replicate.delivery/a.mp4", tmp_path / "v.mp4"
        )


async def test_a_video_without_end_is_cut_off_at_the_limit(bench: Bench, tmp_path: Path) -> None:
    n_sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal n_sent
        while True:
            n_sent += 1
            yield bytes(100)

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=endless())

    provider = bench.provider(transport=httpx.MockTransport(answer), video_max_bytes=1_000)
    with pytest.raises(DownloadTooLarge):
        await provider.save_output(
            ProviderId("p"), "https://replicate.delivery/a.mp4", tmp_path / "v.mp4"
        )
    assert n_sent == 11


async def test_a_video_that_takes_too_long_is_fetched_again_later(
    bench: Bench, tmp_path: Path
) -> None:
    async def answer(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(10)
        raise AssertionError

    provider = bench.provider(transport=httpx.MockTransport(answer), download_s=0.05)
    with pytest.raises(ProviderTimedOut):
        await provider.save_output(
            ProviderId("p"), "https://replicate.delivery/a.mp4", tmp_path / "v.mp4"
        )


async def test_an_upstream_of_ones_own_may_deliver_from_trusted_peers(
    bench: Bench, tmp_path: Path
) -> None:
    peers = frozenset({Peer("10.0.0.5", 8000), Peer("10.0.0.6", 9000)})
    provider = bench.provider(
        url="http://10.0.0.5:8000/v1",
        trusted_peers=peers,
        transport=httpx.MockTransport(lambda _request: httpx.Response(200, content=b"a video")),
    )

    for url in ("http://10.0.0.5:8000/files/v.mp4", "http://10.0.0.6:9000/bucket/v.mp4"):
        await provider.save_output(ProviderId("p"), url, tmp_path / "v.mp4")
    with pytest.raises(OutputLost):
        await provider.save_output(ProviderId("p"), "http://10.0.0.7/v.mp4", tmp_path / "v.mp4")


# Callbacks, and secrets.


async def test_the_secret_of_callbacks_is_asked_for(bench: Bench) -> None:
    provider = bench.provider()
    assert await provider.callback_secrets() == [bench.upstream.secret]
    bench.upstream.fail("secret", Fault.BAD_JSON)
    with pytest.raises(ProviderTimedOut):
        await provider.callback_secrets()


def test_a_callback_says_which_prediction_it_is_about(tmp_path: Path) -> None:
    clock = SettableClock(NOON)
    provider = ReplicateProvider(
        ReplicateSettings(token=TOKEN),
        clock=clock,
        artifacts=folder_artifacts(tmp_path),
        links=FileLinks([LinkSecret("a", bytes(32))]),
        catalogue=CATALOGUE,
        transport=UpstreamTransport(Upstream(clock)),
    )

    assert provider.prediction_of(b'{"id": "abc", "status": "starting"}') == "abc"
    for body in (b"", b"[]", b"{}", b'{"id": 7}', b'{"id": "../account"}', b"{" * 10_000):
        assert provider.prediction_of(body) is None


async def test_an_id_from_outside_never_leads_elsewhere(bench: Bench) -> None:
    provider = bench.provider()

    assert await provider.fetch_many([ProviderId("../account"), ProviderId("a/../b")]) == {}
    await provider.cancel(ProviderId("../../x"))
    assert bench.calls == []


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(ReplicateSettings(token=TOKEN))


async def create_many(bench: Bench, provider: ReplicateProvider, count: int) -> list[ProviderId]:
    ids = []
    for number in range(count):
        if number % 50 == 49:
            bench.clock.advance(6)
        ids.append((await provider.submit(bench.attempt(), INPUTS)).provider_id)
    bench.clock.advance(1)
    return ids


async def finished(bench: Bench, provider: ReplicateProvider) -> Prediction:
    made = await provider.submit(bench.attempt(), INPUTS)
    bench.clock.advance(30)
    return (await provider.fetch_many([made.provider_id]))[made.provider_id]


async def files_of(bench: Bench) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer: Answer = await bench.upstream.answer(
        Call("GET", f"{bench.upstream.place.api}/files", headers, b"")
    )
    found: list[dict[str, Any]] = json.loads(answer.body)["results"]
    return found
