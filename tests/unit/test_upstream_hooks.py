"""The fake Replicate tells of its predictions as the real one does, and as it may go wrong."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from sayso.clock import SettableClock
from sayso.webhooks.signing import verify
from tests.builders import NOON
from tests.upstream import RUNS, Upstream
from tests.upstream.customer import Mailbox, create, customer
from tests.upstream.hooks import RETRIES_AFTER_S
from tests.upstream.switches import HookHabits

pytestmark = pytest.mark.anyio

HOOK = "https://shop.example/hook"


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOON)


@pytest.fixture
def upstream(clock: SettableClock) -> Upstream:
    return Upstream(clock, random=Random(7))


async def told(
    upstream: Upstream, clock: SettableClock, mailbox: Mailbox, **body: Any
) -> list[dict[str, Any]]:
    """Run a prediction to its end; return what webhooks said."""
    async with customer(upstream) as http:
        await create(http, webhook=HOOK, **body)
    await mailbox.live(upstream, clock)
    return [json.loads(raw) for _, raw in mailbox.got]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (None, ["processing", "succeeded"]),
        (["completed"], ["succeeded"]),
        (["start", "completed"], ["processing", "succeeded"]),
        (["start", "logs", "output"], ["processing"] * 5),
    ],
)
async def test_webhooks_are_signed_and_filtered(
    upstream: Upstream, clock: SettableClock, events: list[str] | None, said: list[str]
) -> None:
    mailbox = Mailbox()
    body = {} if events is None else {"webhook_events_filter": events}

    bodies = await told(upstream, clock, mailbox, **body)

    assert [one["status"] for one in bodies] == said
    for headers, raw in mailbox.got:
        sent_at_s = float(headers["webhook-timestamp"])
        verify([upstream.secret], headers, raw, now_s=sent_at_s)


async def test_the_last_webhook_is_tried_again_for_a_minute(
    upstream: Upstream, clock: SettableClock
) -> None:
    """A redirect is a failure like others; every try has the same id and its own time."""
    mailbox = Mailbox()
    mailbox.statuses = [500, 301, 404, 503, 500, 500, 500]

    await told(upstream, clock, mailbox, webhook_events_filter=["start", "completed"])

    headers = [headers for headers, _ in mailbox.got]
    # The start is never sent again.
    assert len(headers) == 1 + 1 + len(RETRIES_AFTER_S)
    assert len({one["webhook-id"] for one in headers[1:]}) == 1
    times = [int(one["webhook-timestamp"]) for one in headers[1:]]
    assert [later - times[0] for later in times] == [0, 1, 3, 7, 15, 31, 60]


async def test_an_end_is_told_once(upstream: Upstream, clock: SettableClock) -> None:
    """Also where a cancel came to nothing."""
    upstream.will(RUNS["ignores_cancel"])
    mailbox = Mailbox()
    async with customer(upstream) as http:
        made = await create(http, webhook=HOOK, webhook_events_filter=["completed"])
        clock.advance(5)
        await http.post(f"/predictions/{made.json()['id']}/cancel")
    await mailbox.live(upstream, clock)

    assert [json.loads(raw)["status"] for _, raw in mailbox.got] == ["succeeded"]


async def test_an_answer_ends_the_tries(upstream: Upstream, clock: SettableClock) -> None:
    mailbox = Mailbox()
    mailbox.statuses = [500, 500, 200]
    await told(upstream, clock, mailbox, webhook_events_filter=["completed"])
    assert [status for _, status in upstream.sent] == [500, 500, 200]


async def test_webhooks_go_astray(upstream: Upstream, clock: SettableClock) -> None:
    mailbox = Mailbox()
    upstream.switch(
        hooks=HookHabits(dropped=0.3, doubled=0.3, late=0.5, late_s=(1, 40), forged=0.1)
    )
    async with customer(upstream) as http:
        for _ in range(100):
            await create(http, webhook=HOOK, webhook_events_filter=["start", "completed"])
    await mailbox.live(upstream, clock)

    ids = [headers["webhook-id"] for headers, _ in mailbox.got]
    statuses: dict[str, list[str]] = {}
    for _, raw in mailbox.got:
        body = json.loads(raw)
        statuses.setdefault(body["id"], []).append(body["status"])
    n_lost = sum(status is None for _, status in upstream.sent)
    n_forged = sum(delivery.is_forged for delivery, _ in upstream.sent)
    n_reordered = sum(
        "processing" in said[said.index("succeeded") :]
        for said in statuses.values()
        if "succeeded" in said
    )

    assert n_lost > 20
    assert len(ids) - len(set(ids)) > 20
    assert n_reordered > 5
    assert n_forged > 5


async def test_webhooks_may_all_have_stopped(upstream: Upstream, clock: SettableClock) -> None:
    upstream.switch(hooks=HookHabits(are_sent=False))
    assert await told(upstream, clock, Mailbox()) == []


@pytest.mark.parametrize("tells", [True, False])
async def test_an_end_by_cancel_or_deadline_is_told(
    upstream: Upstream, clock: SettableClock, *, tells: bool
) -> None:
    upstream.switch(tells_aborted=tells, fetches_inputs=False)
    upstream.will(RUNS["stuck_starting"], RUNS["stuck_starting"], RUNS["stuck_processing"])
    mailbox = Mailbox()
    body: dict[str, Any] = {"webhook": HOOK, "webhook_events_filter": ["completed"]}
    async with customer(upstream) as http:
        lives: tuple[dict[str, str], ...] = ({"cancel-after": "30s"}, {}, {"cancel-after": "60s"})
        made = [await create(http, headers=life, **body) for life in lives]
        aborted, by_hand, by_deadline = (answer.json()["id"] for answer in made)
        clock.advance(10)
        await http.post(f"/predictions/{by_hand}/cancel")
    clock.advance(60)
    await upstream.run_due(mailbox)

    said = {json.loads(raw)["id"]: json.loads(raw)["status"] for _, raw in mailbox.got}
    expected = {by_hand: "canceled", by_deadline: "canceled"}
    assert said == ({**expected, aborted: "aborted"} if tells else expected)
