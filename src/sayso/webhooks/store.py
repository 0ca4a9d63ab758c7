"""The outbox of webhooks in SQL.

    put, told             what is to be sent, in the transaction of the change that it tells of
    claim, record         who sends it, and what came of that
    next_at, prune        when something is due; what nobody needs any more

A generation's deliveries go out in their order: one is claimed when no earlier one waits. Every
function takes `tx`; ids and times are arguments, so each of them may be run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, case, delete, exists, func, or_, select, update

from sayso.clock import Instant
from sayso.db.insert import insert_if_new
from sayso.db.listed import among, listed
from sayso.db.tables import webhooks
from sayso.db.tx import Topic, Tx, announce
from sayso.ids import GenerationId
from sayso.webhooks.rules import Told

w = webhooks.c


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A webhook to be sent: its id stays the same when it is sent again.

    `changed_at` is the change that it tells of; it grows with each change of a generation.
    """

    id: str
    generation_id: GenerationId
    url: str
    event: str
    body: str
    changed_at: Instant


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A webhook that somebody holds until `lease_until`; `attempts` were made before."""

    id: str
    url: str
    event: str
    body: str
    attempts: int


def put(tx: Tx, outgoing: Sequence[Outgoing], *, now: Instant) -> None:
    """Write webhooks to be sent from now on; those that are there already stay as they are."""
    for one in outgoing:
        insert_if_new(
            tx,
            webhooks,
            id=one.id,
            generation_id=one.generation_id,
            url=one.url,
            event=one.event,
            body=one.body,
            state="pending",
            due_at=now,
            created_at=one.changed_at,
        )
    if outgoing:
        announce(tx, Topic.DUE)


def told(tx: Tx, ids: Iterable[GenerationId]) -> dict[str, Told]:
    """Return what has been told of these generations."""
    rows = tx.execute(_TOLD, {"ids": listed(ids)}).all()
    return {
        generation_id: Told(
            events=frozenset(row.event for row in rows if row.generation_id == generation_id),
            logs=_logs_of(rows, generation_id),
            at=max(row.created_at for row in rows if row.generation_id == generation_id),
        )
        for generation_id in {row.generation_id for row in rows}
    }


_TOLD: Final = (
    select(w.generation_id, w.event, w.body, w.created_at)
    .where(among(w.generation_id))
    .order_by(w.created_at, w.id)
)


def claim(tx: Tx, *, token: str, now: Instant, until: Instant, limit: int) -> list[Claimed]:
    """Take webhooks that are due, at most one of each generation, and hold them until a time."""
    earlier = webhooks.alias("earlier")
    is_blocked = exists(
        select(earlier.c.id).where(
            earlier.c.generation_id == w.generation_id,
            earlier.c.due_at.is_not(None),
            or_(
                earlier.c.created_at < w.created_at,
                and_(earlier.c.created_at == w.created_at, earlier.c.id < w.id),
            ),
        )
    )
    rows = tx.execute(
        select(w.id, w.url, w.event, w.body, w.attempts)
        .where(w.due_at <= now, w.lease_until <= now, ~is_blocked)
        .order_by(w.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if rows:
        tx.execute(
            update(webhooks).where(among(w.id)).values(claim_token=token, lease_until=until),
            {"ids": listed(row.id for row in rows)},
        )
    return [Claimed(**row._mapping) for row in rows]  # noqa: SLF001 (SQLAlchemy's documented name)


def record(
    tx: Tx,
    claimed: Claimed,
    *,
    token: str,
    error: str | None,
    again_at: Instant | None,
    now: Instant,
) -> None:
    """Write what came of an attempt, if it is still ours: delivered, again later, or given up."""
    if error is None:
        state, due_at, delivered_at = "delivered", None, now
    else:
        state, due_at, delivered_at = "pending" if again_at else "failed", again_at, None
    tx.execute(
        update(webhooks)
        .where(w.id == claimed.id, w.claim_token == token)
        .values(
            state=state,
            attempts=claimed.attempts + 1,
            due_at=due_at,
            delivered_at=delivered_at,
            last_error=error,
            lease_until=0,
            claim_token=None,
        )
    )


def next_at(tx: Tx) -> Instant | None:
    """Return when the next webhook may be claimed, or None when none waits."""
    at = case((w.lease_until > w.due_at, w.lease_until), else_=w.due_at)
    found = tx.execute(select(func.min(at)).where(w.due_at.is_not(None))).scalar_one()
    return None if found is None else Instant(found)


def count_waiting(tx: Tx) -> int:
    """Return how many webhooks are not delivered yet."""
    return int(tx.execute(select(func.count()).where(w.due_at.is_not(None))).scalar_one())


def prune(tx: Tx, *, before: Instant) -> None:
    """Forget webhooks that were delivered or given up."""
    tx.execute(delete(webhooks).where(w.due_at.is_(None), w.created_at < before))


def _logs_of(rows: Sequence[Any], generation_id: str) -> str:
    """Return the logs that the latest webhook of a generation carried."""
    latest = next(row for row in reversed(rows) if row.generation_id == generation_id)
    return str(json.loads(latest.body)["logs"])
