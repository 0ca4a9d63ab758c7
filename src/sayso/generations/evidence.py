"""What providers let us know by themselves, in SQL: callbacks, and fetches of an attempt's inputs.

    take_callback     a verified callback: remember its id, bind its prediction, make its row due
    make_due          the same for what needs no proof, such as a worker of our own
    note_fetch        a provider has fetched an input by a link with this nonce
    bind_late         a search found a prediction that nobody waited for any more
    add_twin          a second prediction of one create call: it will be ended, and booked
    forget_callbacks  those that are older than any repetition

None of it moves a generation or touches money: a row becomes due, and an attempt without a
prediction gets one. The generation's row is locked first, as `steps.write_steps` does, so the two
never wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from sqlalchemy import and_, bindparam, delete, func, insert, select, update

from sayso.clock import Instant
from sayso.db.insert import insert_if_new
from sayso.db.tables import callbacks_seen, generations, predictions
from sayso.db.tx import Topic, Tx, announce
from sayso.ids import GenerationId, Nonce, ProviderId

g = generations.c
p = predictions.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A callback whose signature is right: which attempt, which prediction, which delivery."""

    provider: str
    nonce: Nonce
    provider_id: ProviderId | None
    delivery_id: str


class Taken(Enum):
    """What became of a callback."""

    NEW = auto()
    REPEATED = auto()
    UNKNOWN = auto()
    """No attempt of this provider has its nonce."""


def take_callback(tx: Tx, callback: Callback, *, now: Instant) -> Taken:
    """Take a callback once: the second delivery with its id changes nothing."""
    attempt = _attempt_of(tx, callback.nonce)
    if attempt is None or attempt.provider != callback.provider:
        return Taken.UNKNOWN
    seen = f"{callback.provider}:{callback.delivery_id}"
    if not insert_if_new(tx, callbacks_seen, id=seen, received_at=now):
        return Taken.REPEATED
    tx.execute(_CALLED, {"of_id": attempt.generation_id, "number": attempt.attempt, "now": now})
    _let_look(tx, attempt, callback.provider_id, now)
    return Taken.NEW


def make_due(tx: Tx, *, nonce: Nonce, provider_id: ProviderId | None, now: Instant) -> bool:
    """Let the generation of this attempt be looked at now; return False for an unknown nonce."""
    attempt = _attempt_of(tx, nonce)
    if attempt is None:
        return False
    _let_look(tx, attempt, provider_id, now)
    return True


def note_fetch(tx: Tx, nonce: Nonce, *, now: Instant) -> bool:
    """Note the first fetch of an attempt's input: the provider has its create call.

    A search for it is due at once, unless the call is still out. One that counted as absent is
    searched for again. Return False for an unknown nonce and for later fetches.
    """
    attempt = _attempt_of(tx, nonce)
    if attempt is None or attempt.fetched_at is not None:
        return False
    this = and_(p.generation_id == attempt.generation_id, p.attempt == attempt.attempt)
    tx.execute(update(predictions).where(this).values(fetched_at=now))
    tx.execute(
        update(predictions)
        .where(this, p.state == "absent", p.provider_id.is_(None))
        .values(state="submitting", missed_at=None, finished_at=None)
    )
    woken = tx.execute(
        update(generations)
        .where(
            g.id == attempt.generation_id,
            g.attempts == attempt.attempt,
            g.state == "submitting",
            g.lease_until <= now,
            g.due_at > now,
        )
        .values(due_at=now)
    ).rowcount
    if woken:
        announce(tx, Topic.DUE)
    return True


def bind_late(
    tx: Tx, generation_id: GenerationId, number: int, provider_id: ProviderId, *, now: Instant
) -> None:
    """Note a prediction that was found for an attempt which nobody waits for any more."""
    row = _locked(tx, generation_id, number)
    if row is not None:
        _bind(tx, row, provider_id, now)


def add_twin(tx: Tx, attempt: Any, provider_id: ProviderId, *, now: Instant) -> None:
    """Write down a second prediction of one attempt; the same one again changes nothing."""
    number = tx.execute(
        select(func.max(p.attempt)).where(p.generation_id == attempt.generation_id)
    ).scalar_one()
    tx.execute(
        insert(predictions).values(
            generation_id=attempt.generation_id,
            attempt=number + 1,
            nonce=f"twin:{provider_id}",
            provider=attempt.provider,
            provider_id=provider_id,
            state="processing",
            twin_of=attempt.attempt,
            created_at=now,
            submitted_at=attempt.submitted_at,
        )
    )


def is_known(tx: Tx, provider: str, provider_id: ProviderId) -> bool:
    """Whether an attempt has this prediction."""
    return tx.execute(_KNOWN, {"of_provider": provider, "it": provider_id}).first() is not None


_KNOWN: Final = select(p.attempt).where(
    p.provider == bindparam("of_provider"), p.provider_id == bindparam("it")
)


def forget_callbacks(tx: Tx, *, before: Instant) -> None:
    """Forget callbacks that are older than any repetition of theirs."""
    tx.execute(delete(callbacks_seen).where(callbacks_seen.c.received_at < before))


def _attempt_of(tx: Tx, nonce: Nonce) -> Any:
    """Return the attempt with this nonce, its generation's row locked; None if there is none."""
    found = tx.execute(_BY_NONCE, {"of_nonce": nonce}).one_or_none()
    return None if found is None else _locked(tx, found.generation_id, found.attempt)


def _locked(tx: Tx, generation_id: GenerationId, number: int) -> Any:
    locked = tx.execute(_LOCK, {"of_id": generation_id}).one_or_none()
    if locked is None:
        return None
    return tx.execute(_ATTEMPT, {"of_id": generation_id, "number": number}).one_or_none()


_BY_NONCE: Final = select(p.generation_id, p.attempt).where(p.nonce == bindparam("of_nonce"))
_LOCK: Final = select(g.id).where(g.id == bindparam("of_id")).with_for_update()
_ATTEMPT: Final = (
    select(
        p.generation_id,
        p.attempt,
        p.provider,
        p.provider_id,
        p.submitted_at,
        p.fetched_at,
        g.state,
        g.attempts,
    )
    .join(generations, g.id == p.generation_id)
    .where(p.generation_id == bindparam("of_id"), p.attempt == bindparam("number"))
)


def _let_look(tx: Tx, attempt: Any, provider_id: ProviderId | None, now: Instant) -> None:
    is_bound_now = provider_id is not None and _bind(tx, attempt, provider_id, now)
    if attempt.attempt != attempt.attempts:
        # Nobody waits for an earlier attempt: `strays` ends it.
        return
    # One that waits to be sent keeps its time, unless it turns out to run.
    states = ("created", "submitting", "running") if is_bound_now else ("submitting", "running")
    if attempt.state in states:
        tx.execute(_LOOK, {"of_id": attempt.generation_id, "now": now})
        announce(tx, Topic.DUE)


_CALLED: Final = (
    update(predictions)
    .where(p.generation_id == bindparam("of_id"), p.attempt == bindparam("number"))
    .values(called_at=bindparam("now"))
)
_LOOK: Final = (
    update(generations)
    .where(g.id == bindparam("of_id"), g.due_at > bindparam("now"))
    .values(due_at=bindparam("now"))
)


def _bind(tx: Tx, attempt: Any, provider_id: ProviderId, now: Instant) -> bool:
    """Bind a prediction to its attempt, as its twin if it has another; return whether it is new."""
    if attempt.provider_id == provider_id or is_known(tx, attempt.provider, provider_id):
        return False
    if attempt.provider_id is not None:
        add_twin(tx, attempt, provider_id, now=now)
        return False
    tx.execute(
        update(predictions)
        .where(p.generation_id == attempt.generation_id, p.attempt == attempt.attempt)
        # One that was refused or counted as absent runs after all.
        .values(provider_id=provider_id, state="processing", finished_at=None)
    )
    return True
