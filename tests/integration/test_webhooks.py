"""Webhooks: written with the change, signed, filtered, sent in order, tried again.

The outbox and its sender run on both databases, on a clock moved by hand and against a receiver
that does what it is told; at the end a whole service sends to a receiver on this machine.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import select

from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.catalogue.catalogue import Catalogue
from sayso.clock import SECOND, Instant, SettableClock
from sayso.db.connect import Database
from sayso.db.tables import webhooks
from sayso.db.tx import Tx
from sayso.generations.telling import teller
from sayso.ids import GenerationId, Ids
from sayso.media.guard import GuardedTransport
from sayso.providers.scripted import Script
from sayso.settings import Peer
from sayso.webhooks import store
from sayso.webhooks.rules import TRIES
from sayso.webhooks.service import SendLimits, WebhookSender
from sayso.webhooks.signing import new_secret, verify
from sayso.webhooks.store import Outgoing
from tests.builders import NOON, a_generation, an_account
from tests.inbox import Inbox, opened_inbox
from tests.services import MODEL, Body, Service, eventually, started
from tests.workshop import MODEL as WORKSHOP_MODEL

SECRET: Final = new_secret(bytes(range(32)))
URL: Final = "https://customer.example.com/hook?job=7"


@dataclass
class Receiver:
    """A customer's server; `answers` are its next statuses or errors, 200 when there are none."""

    answers: list[int | Exception] = field(default_factory=list)
    got: list[httpx.Request] = field(default_factory=list)
    before: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.got.append(request)
        if self.before is not None:
            await self.before()
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer)

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.got]


@dataclass
class Post:
    """An outbox and who sends it."""

    db: Database
    clock: SettableClock
    receiver: Receiver
    sender: WebhookSender

    async def turn(self, *, seconds: float = 0) -> None:
        self.clock.advance(seconds)
        await self.sender.turn()
        await self.sender.settled()

    async def put(self, *events: str, generation: str = "g1", url: str = URL) -> list[str]:
        """Put webhooks of a generation into the outbox, each a microsecond after the last."""
        now = self.clock.now()
        outgoing = [
            Outgoing(
                id=f"msg_{generation}_{number}_{event}",
                generation_id=GenerationId(generation),
                url=url,
                event=event,
                body=json.dumps({"id": generation, "event": event, "logs": ""}),
                changed_at=Instant(now + number),
            )
            for number, event in enumerate(events)
        ]
        await self.db.write(lambda tx: store.put(tx, outgoing, now=now))
        return [one.id for one in outgoing]

    async def rows(self) -> list[Any]:
        query = select(webhooks).order_by(webhooks.c.created_at, webhooks.c.id)
        return await self.db.read(lambda tx: list(tx.execute(query)))


@pytest.fixture
async def post(database: Database) -> AsyncIterator[Post]:
    clock, receiver = SettableClock(NOON), Receiver()

    def prepare(tx: Tx) -> None:
        an_account(tx)
        for name in ("g1", "g2"):
            a_generation(tx, generation_id=name)

    await database.write(prepare)
    sender = WebhookSender(
        database,
        clock=clock,
        ids=Ids(clock.now),
        secret=SECRET,
        transport=httpx.MockTransport(receiver),
        limits=SendLimits(answer_s=0.5, at_once=2),
    )
    yield Post(database, clock, receiver, sender)
    await sender.settled()


@pytest.mark.anyio
async def test_a_webhook_is_signed_and_sent_once(post: Post) -> None:
    (identifier,) = await post.put("completed")

    await post.turn()
    await post.turn(seconds=60)

    (request,) = post.receiver.got
    assert request.method == "POST"
    assert str(request.url) == URL
    assert request.headers["content-type"] == "application/json"
    now_s = NOON / SECOND
    delivery = verify([SECRET], request.headers, request.content, now_s=now_s)
    assert delivery.delivery_id == identifier
    (row,) = await post.rows()
    assert (row.state, row.attempts, row.delivered_at) == ("delivered", 1, NOON)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "trouble", [400, 500, 301, 404, httpx.ConnectError("no"), httpx.ReadTimeout("slow")]
)
async def test_a_failed_delivery_is_tried_again_with_the_same_id(
    post: Post, trouble: int | Exception
) -> None:
    (identifier,) = await post.put("completed")
    post.receiver.answers = [trouble, trouble]

    await post.turn()
    await post.turn(seconds=0.9)
    assert post.receiver.ids == [identifier]
    await post.turn(seconds=0.1)
    await post.turn(seconds=2)

    assert post.receiver.ids == [identifier] * 3
    (row,) = await post.rows()
    assert (row.state, row.attempts) == ("delivered", 3)
    stamps = [int(request.headers["webhook-timestamp"]) for request in post.receiver.got]
    assert stamps == sorted(set(stamps))


@pytest.mark.anyio
async def test_a_dead_receiver_is_given_up_after_its_last_attempt(post: Post) -> None:
    await post.put("completed")
    post.receiver.answers = [500] * 100

    for _ in range(TRIES + 5):
        await post.turn(seconds=3_600)

    (row,) = await post.rows()
    assert (row.state, row.attempts, row.last_error) == ("failed", TRIES, "answered 500")
    assert len(post.receiver.got) == TRIES


@pytest.mark.anyio
async def test_what_is_overtaken_anyway_is_tried_once(post: Post) -> None:
    await post.put("start")
    post.receiver.answers = [500]

    await post.turn()
    await post.turn(seconds=60)

    (row,) = await post.rows()
    assert (row.state, row.attempts) == ("failed", 1)


@pytest.mark.anyio
async def test_a_generations_webhooks_go_out_in_their_order(post: Post) -> None:
    ids = await post.put("start", "logs", "completed")
    post.receiver.answers = [500]

    for _ in range(3):
        await post.turn(seconds=1)

    assert post.receiver.ids == ids


@pytest.mark.anyio
async def test_a_slow_receiver_is_cut_off_and_holds_up_nobody(post: Post) -> None:
    async def hang() -> None:
        if post.receiver.got[-1].headers["webhook-id"].startswith("msg_g1"):
            await asyncio.sleep(30)

    post.receiver.before = hang
    await post.put("completed")
    await post.put("completed", generation="g2")

    begun = time.monotonic()
    await post.turn()

    assert time.monotonic() - begun < 20  # The receiver would take thirty seconds.
    states = {row.generation_id: row.state for row in await post.rows()}
    assert states == {"g1": "pending", "g2": "delivered"}


@pytest.mark.anyio
async def test_an_address_that_the_guard_refuses_gets_nothing(database: Database) -> None:
    async def connect(*_: object, **__: object) -> Any:
        raise AssertionError("a socket was to be opened")

    async def resolve(host: str, port: int) -> list[str]:
        return ["169.254.169.254"]

    clock = SettableClock(NOON)
    await database.write(lambda tx: a_generation(tx, generation_id="g1", account_id=an_account(tx)))
    guard = GuardedTransport(resolver=resolve, connector=connect)
    sender = WebhookSender(
        database, clock=clock, ids=Ids(clock.now), secret=SECRET, transport=guard
    )
    post = Post(database, clock, Receiver(), sender)
    await post.put("completed")
    await post.put("completed", url="http://127.0.0.1:1/hook")

    await post.turn()

    rows = await post.rows()
    assert {row.state for row in rows} == {"failed"}
    await guard.aclose()


@pytest.mark.anyio
async def test_a_sender_that_died_is_followed_by_another_with_the_same_id(post: Post) -> None:
    (identifier,) = await post.put("completed")
    now = post.clock.now()
    until = Instant(now + 60 * SECOND)
    (claimed,) = await post.db.write(
        lambda tx: store.claim(tx, token="dead", now=now, until=until, limit=10)
    )

    await post.turn(seconds=59)
    assert post.receiver.got == []
    await post.turn(seconds=1)

    assert post.receiver.ids == [identifier]
    await post.db.write(
        lambda tx: store.record(
            tx, claimed, token="dead", error="late", again_at=until, now=post.clock.now()
        )
    )
    (row,) = await post.rows()
    assert row.state == "delivered"


@pytest.mark.anyio
async def test_two_senders_never_send_the_same(post: Post) -> None:
    for number in range(10):
        name = f"many{number}"
        await post.db.write(partial(a_generation, generation_id=name))
        await post.put("completed", generation=name)
    other = WebhookSender(
        post.db,
        clock=post.clock,
        ids=Ids(post.clock.now),
        secret=SECRET,
        transport=httpx.MockTransport(post.receiver),
    )

    for _ in range(5):
        await asyncio.gather(post.sender.turn(), other.turn())
        await asyncio.gather(post.sender.settled(), other.settled())

    assert len(post.receiver.ids) == len(set(post.receiver.ids)) == 10


@pytest.mark.anyio
async def test_the_loop_wakes_for_a_webhook_and_stops(post: Post) -> None:
    running = asyncio.create_task(post.sender.run())
    await asyncio.sleep(0.05)

    await post.put("completed")
    await eventually(lambda: bool(post.receiver.got))

    post.sender.stop()
    await running
    (row,) = await post.rows()
    assert row.state == "delivered"


@pytest.mark.anyio
async def test_old_webhooks_are_forgotten_and_waiting_ones_are_not(post: Post) -> None:
    await post.put("completed")
    await post.turn()
    await post.put("completed", generation="g2")

    await post.db.write(lambda tx: store.prune(tx, before=Instant(NOON + SECOND)))

    assert [row.generation_id for row in await post.rows()] == ["g2"]


# What is told, in the transaction of the change.


@pytest.mark.anyio
async def test_a_change_is_told_as_the_prediction_that_it_made(database: Database) -> None:
    links = FileLinks([LinkSecret("a", bytes(32))])
    catalogue = Catalogue([WORKSHOP_MODEL], providers=["scripted"])
    tell = teller(catalogue=catalogue, links=links)

    def change(tx: Tx) -> None:
        an_account(tx)
        a_generation(
            tx,
            generation_id="told",
            model=WORKSHOP_MODEL.name,
            state="running",
            public_status="processing",
            webhook_url=URL,
            webhook_events=["start"],
            base_url="https://me.example.com",
            input_echo={"image": "https://a.example.com/a.png"},
            provider="scripted",
        )
        a_generation(tx, generation_id="silent", state="running", public_status="processing")
        ids = [GenerationId("told"), GenerationId("silent")]
        tell(tx, ids, NOON)
        tell(tx, ids, NOON)

    await database.write(change)

    (row,) = await database.read(lambda tx: list(tx.execute(select(webhooks))))
    body = json.loads(row.body)
    assert (row.event, row.url, row.state) == ("start", URL, "pending")
    assert body["status"] == "processing"
    assert body["urls"]["get"] == "https://me.example.com/v1/predictions/told"
    assert body["input"] == {"image": "https://a.example.com/a.png"}
    assert body["webhook"] == URL
    assert body["version"] == WORKSHOP_MODEL.version


# A whole service.


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with opened_inbox() as made:
        yield made


@pytest.fixture
def telling(
    inbox: Inbox, tmp_path: Path, small_portrait: Path, short_speech: Path
) -> Iterator[Service]:
    with started(
        tmp_path,
        portrait=small_portrait,
        speech=short_speech,
        script=Script(start_s=0.05, run_s=0.5),
        trusted_peers=(Peer("127.0.0.1", inbox.port),),
    ) as service:
        yield service


def order(service: Service, inbox: Inbox, **fields: object) -> Body:
    given = {"image": service.portrait_url, "audio": service.speech_url}
    answer = service.http.post(
        f"/v1/models/{MODEL}/predictions",
        json={"input": given, "webhook": inbox.url, **fields},
    )
    assert answer.status_code == 201, answer.text
    body: Body = answer.json()
    return body


def test_a_service_tells_of_start_and_end_and_signs_it(telling: Service, inbox: Inbox) -> None:
    created = order(telling, inbox, webhook_events_filter=["start", "completed"])

    start, completed = inbox.until(2)

    assert (start["status"], completed["status"]) == ("processing", "succeeded")
    assert start["id"] == completed["id"] == created["id"]
    assert completed["webhook_events_filter"] == ["start", "completed"]
    assert completed["urls"]["get"] == created["urls"]["get"]
    assert telling.http.get(completed["output"]).content[4:8] == b"ftyp"
    secret = telling.http.get("/v1/webhooks/default/secret").json()["key"]
    for headers, body in inbox.got:
        verify([secret], headers, body, now_s=time.time())


def test_without_a_filter_the_end_is_told_once(telling: Service, inbox: Inbox) -> None:
    order(telling, inbox)
    order(telling, inbox)

    bodies = inbox.until(2)
    time.sleep(0.3)

    assert len(inbox.got) == 2
    assert {body["status"] for body in bodies} == {"succeeded"}
    assert "webhook_events_filter" not in bodies[0]


def test_a_deleted_generation_leaves_no_webhook_behind(telling: Service, inbox: Inbox) -> None:
    created = order(telling, inbox)
    inbox.until(1)
    database = telling.settings.database.removeprefix("sqlite:///")

    assert telling.http.delete(f"/api/generations/{created['id']}").status_code == 204

    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM webhooks").fetchone() == (0,)
