"""Generations in SQL: orders, keys, and what the doors read.

    reserve, give_back            an `Idempotency-Key` before and after the order is made
    place                         an order: row, key and hold, together or not at all
    request_cancel, erase         what a customer may do to one
    find, page, changed_since     reads; `CHECK` and `VERSION` are the hottest, to be prepared
    receipt_of                    what it did cost

The reconciler's part is in `steps.py`, what providers let us know in `evidence.py`. Every function
takes `tx`; ids and times are arguments, so each of them may be run again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import (
    Select,
    and_,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from sayso.artifacts.keys import ArtifactKey
from sayso.clock import Instant, after
from sayso.credits import store as ledger
from sayso.credits.rules import Micros
from sayso.db.insert import insert_if_new
from sayso.db.listed import among, listed
from sayso.db.tables import (
    LIVE_STATES,
    artifacts,
    generations,
    idempotency_keys,
    predictions,
    webhooks,
)
from sayso.db.tx import Topic, Tx, announce
from sayso.errors import (
    ArtifactMissing,
    GenerationActive,
    KeyReused,
    NoSuchGeneration,
    Notice,
    QueueFull,
    StillCreating,
)
from sayso.generations.generation import (
    AttemptLine,
    Cost,
    Generation,
    Key,
    Order,
    Progress,
    Receipt,
)
from sayso.generations.pace import PERCENT_STORED_INPUTS
from sayso.generations.rules import State
from sayso.ids import AccountId, GenerationId, HoldId

RESERVED_S: Final = 300
"""How long a key may be without an answer before its request counts as dead."""

QUEUE_RETRY_S: Final = 30

g = generations.c

_COLUMNS: Final = (
    g.id,
    g.account_id,
    g.door,
    g.model,
    g.provider,
    g.state,
    g.public_status,
    g.version,
    g.portrait_id,
    g.speech_id,
    g.prompt,
    g.options,
    g.input_echo,
    g.price_micros,
    g.rate_micros,
    g.seconds,
    g.percent,
    g.basis,
    g.stage,
    g.logs,
    g.video_id,
    artifacts.c.storage_key,
    g.error_code,
    g.error,
    g.quality,
    g.notices,
    g.cancel_requested_at,
    g.deadline_at,
    g.cancel_after_s,
    g.webhook_url,
    g.webhook_events,
    g.base_url,
    g.created_at,
    g.started_at,
    g.completed_at,
    g.changed_at,
)
_SELECT: Final = (
    select(*_COLUMNS)
    .select_from(generations.outerjoin(artifacts, artifacts.c.id == g.video_id))
    .where(g.deleted_at.is_(None))
)

CHECK: Final[Select[Any]] = _SELECT.where(
    g.id == bindparam("id"), g.account_id == bindparam("account_id")
)
"""One generation of an account: `db.prepare(CHECK)`, then `to_generation(row)`."""

VERSION: Final[Select[Any]] = select(g.version).where(
    g.id == bindparam("id"), g.account_id == bindparam("account_id"), g.deleted_at.is_(None)
)
"""Its version alone: whether anything about it has changed."""


@dataclass(frozen=True)
class Queue:
    """How many generations may wait for a provider that has a queue."""

    provider: str
    limit: int


def hold_id_of(generation_id: GenerationId) -> HoldId:
    """Return the id of a generation's one hold: the generation's own."""
    return HoldId(generation_id)


def reserve(tx: Tx, key: Key, *, now: Instant) -> GenerationId | None:
    """Take a key; return the generation that it stands for, or None when it is now ours to use.

    Raises `KeyReused` for another request, `StillCreating` while the first one is being answered.
    """
    if insert_if_new(
        tx,
        idempotency_keys,
        account_id=key.account_id,
        key=key.key,
        fingerprint=key.fingerprint,
        created_at=now,
    ):
        return None
    k = idempotency_keys.c
    this = and_(k.account_id == key.account_id, k.key == key.key)
    query = select(k.fingerprint, k.generation_id, k.created_at).where(this)
    row = tx.execute(query).one_or_none()
    if row is None:
        raise StillCreating("The first request with this Idempotency-Key has just failed.")
    is_dead = row.generation_id is None and row.created_at <= after(now, -RESERVED_S)
    if is_dead or (key.is_fresh and row.generation_id is not None):
        taken = tx.execute(
            update(idempotency_keys)
            .where(this, k.created_at == row.created_at)
            .values(fingerprint=key.fingerprint, generation_id=None, status=None, created_at=now)
        ).rowcount
        if taken:
            return None
    elif row.fingerprint != key.fingerprint:
        raise KeyReused("This Idempotency-Key was used for another request.")
    elif row.generation_id is not None:
        return GenerationId(row.generation_id)
    raise StillCreating("The first request with this Idempotency-Key is still being answered.")


def give_back(tx: Tx, key: Key, *, reserved_at: Instant) -> None:
    """Forget a key whose request came to nothing, unless another has taken it over."""
    k = idempotency_keys.c
    tx.execute(
        delete(idempotency_keys).where(
            k.account_id == key.account_id,
            k.key == key.key,
            k.generation_id.is_(None),
            k.created_at == reserved_at,
        )
    )


def place(
    tx: Tx,
    order: Order,
    *,
    generation_id: GenerationId,
    cost: Cost,
    deadline_at: Instant,
    now: Instant,
    key: Key | None,
    queue: Queue | None,
) -> Generation:
    """Write an order down with its key, and hold its price.

    Raises `InsufficientCredits`, `QueueFull`; `ArtifactMissing` when an input was deleted
    meanwhile.
    """
    _require_artifacts(tx, order)
    row = _row_of(order, generation_id, cost, deadline_at, now)
    if not insert_if_new(tx, generations, **row):
        # This very write, whose commit went through after all.
        return require(tx, order.account_id, generation_id)
    if queue is not None:
        require_room(tx, queue, taken=1)
    if cost.price_micros > 0:
        ledger.place_hold(
            tx,
            hold_id=hold_id_of(generation_id),
            account_id=order.account_id,
            generation_id=generation_id,
            amount=Micros(cost.price_micros),
            at=now,
        )
    if key is not None:
        _bind_key(tx, key, generation_id)
    announce(tx, Topic.DUE)
    announce(tx, Topic.CHANGED)
    return to_generation([row.get(column.name) for column in _COLUMNS])


def _row_of(
    order: Order, generation_id: GenerationId, cost: Cost, deadline_at: Instant, now: Instant
) -> dict[str, Any]:
    return {
        "id": generation_id,
        "account_id": order.account_id,
        "door": order.door,
        "model": order.model.name,
        "provider": order.model.provider,
        "state": State.CREATED,
        "public_status": "starting",
        "version": now,
        "portrait_id": order.portrait_id,
        "speech_id": order.speech_id,
        "prompt": order.prompt,
        "options": dict(order.options),
        "input_echo": order.input_echo,
        "price_micros": cost.price_micros,
        "rate_micros": cost.rate_micros,
        "seconds": cost.seconds,
        "percent": PERCENT_STORED_INPUTS,
        "basis": "measured",
        "stage": "starting",
        "notices": [asdict(notice) for notice in order.notices],
        "due_at": now,
        "deadline_at": deadline_at,
        "cancel_after_s": order.cancel_after_s,
        "webhook_url": order.webhook_url,
        "webhook_events": None if order.webhook_events is None else list(order.webhook_events),
        "base_url": order.base_url,
        "created_at": now,
        "changed_at": now,
    }


def require_room(tx: Tx, queue: Queue, *, taken: int = 0) -> None:
    """Raise `QueueFull` when as many generations wait for the provider as may.

    `taken` of those that wait are the caller's own.
    """
    waiting = tx.execute(_WAITING, {"of_provider": queue.provider}).scalar_one() - taken
    if waiting >= queue.limit:
        raise QueueFull(
            f"{waiting} generations wait already; try again in a little while.",
            retry_after_s=QUEUE_RETRY_S,
        )


_WAITING: Final = (
    select(func.count())
    .select_from(generations)
    .where(
        g.due_at.is_not(None),
        g.provider == bindparam("of_provider"),
        g.public_status == "starting",
        g.state.in_(LIVE_STATES),
    )
)


def request_cancel(
    tx: Tx, account_id: AccountId, generation_id: GenerationId, *, now: Instant
) -> Generation:
    """Note that the customer wants it to end; one that has ended is returned as it is."""
    changed = tx.execute(
        update(generations)
        .where(
            g.id == generation_id,
            g.account_id == account_id,
            g.state.in_(("created", "submitting", "running")),
            g.cancel_requested_at.is_(None),
        )
        .values(cancel_requested_at=now, due_at=now)
    ).rowcount
    if changed:
        announce(tx, Topic.DUE)
    return require(tx, account_id, generation_id)


def erase(
    tx: Tx, account_id: AccountId, generation_id: GenerationId, *, now: Instant
) -> tuple[ArtifactKey, ...]:
    """Delete a generation that has ended; return the files that nobody else uses.

    What the ledger and the receipt need stays. Raises `NoSuchGeneration`, `GenerationActive`.
    """
    generation = require(tx, account_id, generation_id)
    if not generation.is_final:
        raise GenerationActive("This generation is still running; cancel it first.")
    used = {generation.portrait_id, generation.speech_id, generation.video_id} - {None}
    # Whoever erases, or orders with, the same file waits here, and then sees what came of it.
    tx.execute(_ARTIFACTS.with_for_update(), {"ids": listed(map(str, used))})
    tx.execute(
        update(generations)
        .where(g.id == generation_id)
        .values(
            deleted_at=now,
            portrait_id=None,
            speech_id=None,
            video_id=None,
            prompt=None,
            options={},
            input_echo=None,
            logs=None,
            version=max(generation.version + 1, now),
            changed_at=now,
        )
    )
    tx.execute(delete(webhooks).where(webhooks.c.generation_id == generation_id))
    announce(tx, Topic.CHANGED)
    keys = []
    for artifact_id in sorted(artifact_id for artifact_id in used if artifact_id is not None):
        shares = or_(
            g.portrait_id == artifact_id, g.speech_id == artifact_id, g.video_id == artifact_id
        )
        if tx.execute(select(g.id).where(shares).limit(1)).first() is None:
            row = tx.execute(
                delete(artifacts)
                .where(artifacts.c.id == artifact_id)
                .returning(artifacts.c.storage_key)
            ).one_or_none()
            keys.extend([] if row is None else [ArtifactKey(row.storage_key)])
    return tuple(keys)


_ARTIFACTS: Final = select(artifacts.c.id).where(among(artifacts.c.id)).order_by(artifacts.c.id)


def find(tx: Tx, account_id: AccountId, generation_id: GenerationId) -> Generation | None:
    """Return a generation of this account, or None."""
    row = tx.execute(CHECK, {"id": generation_id, "account_id": account_id}).one_or_none()
    return None if row is None else to_generation(row)


def require(tx: Tx, account_id: AccountId, generation_id: GenerationId) -> Generation:
    """Return a generation of this account; raise `NoSuchGeneration`."""
    generation = find(tx, account_id, generation_id)
    if generation is None:
        raise NoSuchGeneration("There is no such generation.")
    return generation


def page(
    tx: Tx,
    account_id: AccountId,
    *,
    place: tuple[Instant, str] | None = None,
    is_back: bool = False,
    since: Instant | None = None,
    until: Instant | None = None,
    limit: int,
) -> tuple[Generation, ...]:
    """Return an account's generations from a place in their list (time, id), without that one.

    Older ones, the newest first; `is_back` turns to newer ones, the oldest first. `since` is the
    first instant that counts, `until` the first one that does not.
    """
    order = (g.created_at, g.id) if is_back else (g.created_at.desc(), g.id.desc())
    query = _SELECT.where(g.account_id == account_id).order_by(*order).limit(limit)
    if place is not None:
        here, there = tuple_(g.created_at, g.id), tuple_(literal(place[0]), literal(place[1]))
        query = query.where(here > there if is_back else here < there)
    if since is not None:
        query = query.where(g.created_at >= since)
    if until is not None:
        query = query.where(g.created_at < until)
    return tuple(to_generation(row) for row in tx.execute(query))


def count_by_model(tx: Tx, account_id: AccountId) -> dict[str, int]:
    """Return how many generations of each model an account has had, deleted ones as well."""
    rows = tx.execute(
        select(g.model, func.count().label("total"))
        .where(g.account_id == account_id)
        .group_by(g.model)
    )
    return {row.model: row.total for row in rows}


def changed_since(
    tx: Tx,
    account_id: AccountId,
    version: int,
    *,
    generation_id: GenerationId | None,
    limit: int,
) -> tuple[Generation, ...]:
    """Return what changed after this version, in the order of the versions."""
    query = (
        _SELECT.where(g.account_id == account_id, g.changed_at > version)
        .order_by(g.changed_at, g.id)
        .limit(limit)
    )
    if generation_id is not None:
        query = query.where(g.id == generation_id)
    return tuple(to_generation(row) for row in tx.execute(query))


def with_webhook(tx: Tx, ids: Sequence[GenerationId]) -> list[Generation]:
    """Return those of these generations whose customers want webhooks."""
    return [to_generation(row) for row in tx.execute(_WITH_WEBHOOK, {"ids": listed(ids)})]


_WITH_WEBHOOK: Final = _SELECT.where(among(g.id), g.webhook_url.is_not(None))


def receipt_of(tx: Tx, account_id: AccountId, generation_id: GenerationId) -> Receipt:
    """Return what a generation did cost; raise `NoSuchGeneration`."""
    generation = require(tx, account_id, generation_id)
    hold = ledger.hold_of(tx, generation_id)
    p = predictions.c
    attempts = tx.execute(
        select(p.attempt, p.state, p.submitted_at, p.finished_at)
        .where(p.generation_id == generation_id, p.twin_of.is_(None))
        .order_by(p.attempt)
    )
    return Receipt(
        generation=generation,
        captured_micros=0 if hold is None else hold.captured,
        release_reason=None if hold is None else hold.release_reason,
        held_at=None if hold is None else hold.created_at,
        settled_at=None if hold is None else hold.closed_at,
        attempts=tuple(
            AttemptLine(number=n, state=s, started_at=b, finished_at=e) for n, s, b, e in attempts
        ),
    )


def to_generation(row: Sequence[Any]) -> Generation:
    """Return the generation of a row of `CHECK`, read through SQLAlchemy or by the driver."""
    (
        id_, account_id, door, model, provider, state, status, version, portrait_id, speech_id,
        prompt, options, input_echo, price_micros, rate_micros, seconds, percent, basis, stage,
        logs, video_id, video_key, error_code, error, quality, notices, cancel_requested_at,
        deadline_at, cancel_after_s, webhook_url, webhook_events, base_url, created_at, started_at,
        completed_at, changed_at,
    ) = row  # fmt: skip
    events = _json(webhook_events)
    return Generation(
        id=id_,
        account_id=account_id,
        door=door,
        model=model,
        provider=provider,
        state=State(state),
        status=status,
        version=version,
        portrait_id=portrait_id,
        speech_id=speech_id,
        prompt=prompt,
        options=_json(options),
        input_echo=_json(input_echo),
        cost=Cost(price_micros=price_micros, rate_micros=rate_micros, seconds=seconds),
        progress=Progress(percent=percent, basis=basis, stage=stage),
        logs=logs,
        video_id=video_id,
        video_key=video_key,
        error_code=error_code,
        error=error,
        quality=_json(quality),
        notices=tuple(Notice(**notice) for notice in _json(notices)),
        cancel_requested_at=cancel_requested_at,
        deadline_at=deadline_at,
        cancel_after_s=cancel_after_s,
        webhook_url=webhook_url,
        webhook_events=None if events is None else tuple(events),
        base_url=base_url,
        created_at=created_at,
        started_at=started_at,
        completed_at=completed_at,
        changed_at=changed_at,
    )


def _json(value: Any) -> Any:
    """Decode what the driver gives as text; SQLAlchemy has decoded it already."""
    return json.loads(value) if isinstance(value, str) else value


def _bind_key(tx: Tx, key: Key, generation_id: GenerationId) -> None:
    k = idempotency_keys.c
    bound = tx.execute(
        update(idempotency_keys)
        .where(
            k.account_id == key.account_id,
            k.key == key.key,
            k.fingerprint == key.fingerprint,
            k.generation_id.is_(None),
        )
        .values(generation_id=generation_id, status=202)
    ).rowcount
    if not bound:
        # Our request counted as dead, and another with this key was answered, or will be.
        raise StillCreating("Another request with this Idempotency-Key was faster.")


def _require_artifacts(tx: Tx, order: Order) -> None:
    """Raise unless the inputs are there, and keep them until the commit."""
    wanted = {order.portrait_id, order.speech_id}
    found = tx.execute(_INPUTS, {"ids": listed(wanted), "account_id": order.account_id}).scalars()
    if set(found) != wanted:
        raise ArtifactMissing("An input was deleted meanwhile; hand it in again.")


# The lock is the one that a foreign key takes.
_INPUTS: Final = _ARTIFACTS.where(
    artifacts.c.account_id == bindparam("account_id")
).with_for_update(read=True, key_share=True)
