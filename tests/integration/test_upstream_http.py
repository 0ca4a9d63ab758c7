"""The fake Replicate over real sockets: connections really break, and webhooks really arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random
from urllib.parse import urlsplit

import httpx
import pytest

from sayso.clock import SystemClock
from sayso.providers.scripted import Script
from sayso.webhooks.signing import verify
from tests.inbox import opened_inbox
from tests.services import eventually
from tests.upstream import Fault, Run, Upstream
from tests.upstream.customer import INPUT, create, customer
from tests.upstream.serving import served
from tests.upstream.transport import Rerouted

pytestmark = pytest.mark.anyio

SOON = Run(script=Script(start_s=0.05, run_s=0.1))
NO_FILES = {**INPUT, "image": "data:image/png;base64,eA==", "audio": "data:audio/wav;base64,eA=="}


@pytest.fixture
def upstream() -> Upstream:
    return Upstream(SystemClock(), random=Random(5), run=SOON)


@pytest.fixture
async def http(upstream: Upstream) -> AsyncIterator[httpx.AsyncClient]:
    with served(upstream, slow_s=5) as addresses:
        async with customer(upstream, Rerouted(addresses)) as made:
            yield made


async def test_it_speaks_http(upstream: Upstream, http: httpx.AsyncClient) -> None:
    """Several calls on one connection; the output has another host than the API."""
    one = (await create(http, input=NO_FILES)).json()["id"]
    body = {"status": "starting"}
    async with asyncio.timeout(60):
        while body["status"] != "succeeded":
            await asyncio.sleep(0.01)
            body = (await http.get(f"/predictions/{one}")).json()
    video = await http.get(body["output"], headers={"authorization": ""})
    file = await http.post("/files", files={"content": ("a.wav", b"x" * 300_000)})

    assert body["status"] == "succeeded"
    assert urlsplit(body["output"]).netloc == "replicate.delivery"
    assert video.content[4:8] == b"ftyp"
    assert file.json()["size"] == 300_000


@pytest.mark.parametrize(
    ("fault", "error", "n_heard"),
    [
        (Fault.RESET_BEFORE, httpx.ReadError, 0),
        (Fault.RESET_AFTER, httpx.ReadError, 1),
        (Fault.CUT, httpx.RemoteProtocolError, 1),
        (Fault.SLOW, httpx.ReadTimeout, 1),
        (Fault.LOST, httpx.ReadTimeout, 0),
    ],
)
async def test_connections_break(
    upstream: Upstream,
    http: httpx.AsyncClient,
    fault: Fault,
    error: type[Exception],
    n_heard: int,
) -> None:
    upstream.fail("create", fault)
    http.timeout = httpx.Timeout(30, read=1 if error is httpx.ReadTimeout else 30)

    with pytest.raises(error):
        await create(http, input=NO_FILES)

    await eventually(lambda: len(upstream.predictions) >= n_heard)
    assert len(upstream.predictions) == n_heard
    http.timeout = httpx.Timeout(30)
    assert (await create(http, input=NO_FILES)).status_code == 201


async def test_at_home_it_needs_no_other_names() -> None:
    """An address of this machine is all that a client is told; webhooks and fetches go out."""
    upstream = Upstream(SystemClock(), run=SOON)
    with opened_inbox() as inbox, served(upstream, at_home=True):
        async with customer(upstream, httpx.AsyncHTTPTransport()) as http:
            made = await create(
                http, input=NO_FILES, webhook=inbox.url, webhook_events_filter=["completed"]
            )
            told = inbox.until(1)
            video = await http.get(told[0]["output"])

    headers, raw = inbox.got[0]
    verify([upstream.secret], headers, raw, now_s=time.time())
    assert (told[0]["id"], told[0]["status"]) == (made.json()["id"], "succeeded")
    assert video.content[4:8] == b"ftyp"


async def test_inputs_that_cannot_be_fetched_end_it() -> None:
    upstream = Upstream(SystemClock(), run=SOON)
    with opened_inbox() as inbox, served(upstream, at_home=True):
        async with customer(upstream, httpx.AsyncHTTPTransport()) as http:
            # The inbox takes webhooks only: a GET is refused with 501.
            given = {**NO_FILES, "image": inbox.url}
            await create(http, input=given, webhook=inbox.url, webhook_events_filter=["completed"])
            told = inbox.until(1)

    assert told[0]["status"] == "failed"
    assert told[0]["error"].startswith("Input validation error: 501 Client Error")
