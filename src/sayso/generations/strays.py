"""Strays in SQL: predictions that still run for nobody, and attempts that may.

    strays, end_strays     known to the provider, for a generation that has ended or moved on
    lost, give_up          create calls without an answer that nobody waits for any more
    Place                  where the next round goes on: some attempts stay, and hide no others

Whatever a stray costs is our loss; none of it reaches a customer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import and_, bindparam, case, or_, select, tuple_, update

from sayso.clock import Instant
from sayso.db.tables import Int64, generations, predictions
from sayso.db.tx import Tx
from sayso.generations.steps import book_loss, note_attempts
from sayso.generations.written import AttemptChange
from sayso.ids import GenerationId, Nonce, ProviderId
from sayso.providers.base import Prediction

g = generations.c
p = predictions.c

_IS_LEFT: Final = or_(g.completed_at.is_not(None), p.attempt < g.attempts, p.twin_of.is_not(None))
"""Nobody waits for this attempt."""


@dataclass(frozen=True, slots=True)
class Stray:
    """An attempt that may still run, for a generation that has ended or moved on."""

    generation_id: GenerationId
    number: int
    provider: str
    provider_id: ProviderId
    submitted_at: Instant


@dataclass(frozen=True, slots=True)
class Lost:
    """An attempt of which nobody knows whether there is a prediction, and nobody waits for one."""

    generation_id: GenerationId
    number: int
    provider: str
    nonce: Nonce
    submitted_at: Instant
    fetched_at: Instant | None


class Place(NamedTuple):
    """Where a round goes on: the last attempt of the one before."""

    submitted_at: int
    generation_id: str
    number: int


BEGINNING: Final = Place(-1, "", 0)


def strays(tx: Tx, *, beyond: Place, limit: int) -> list[Stray]:
    """Return attempts that nobody waits for any more and that have not ended yet."""
    return [Stray(*row) for row in tx.execute(_STRAYS, beyond._asdict() | {"most": limit})]


_PLACE: Final = (p.submitted_at, p.generation_id, p.attempt)
_IS_BEYOND: Final = tuple_(*_PLACE) > tuple_(
    bindparam("submitted_at", type_=Int64), bindparam("generation_id"), bindparam("number")
)
_STRAYS: Final = (
    select(p.generation_id, p.attempt, p.provider, p.provider_id, p.submitted_at)
    .join(generations, g.id == p.generation_id)
    .where(p.finished_at.is_(None), p.provider_id.is_not(None), _IS_LEFT, _IS_BEYOND)
    .order_by(*_PLACE)
    .limit(bindparam("most"))
)


def end_strays(tx: Tx, ended: Sequence[tuple[Stray, Prediction]], *, now: Instant) -> None:
    """Note how strays ended, and book what they cost as our loss."""
    for stray, seen in ended:
        change = AttemptChange(
            generation_id=stray.generation_id,
            number=stray.number,
            state=seen.status.value,
            cost_micros=seen.cost_micros,
            finished_at=now,
            is_loss=True,
        )
        note_attempts(tx, [change])
        book_loss(tx, change, now)


def lost(tx: Tx, *, beyond: Place, limit: int) -> list[Lost]:
    """Return attempts without a prediction that may have one, and that nobody waits for."""
    return [Lost(*row) for row in tx.execute(_LOST, beyond._asdict() | {"most": limit})]


_LOST: Final = (
    select(p.generation_id, p.attempt, p.provider, p.nonce, p.submitted_at, p.fetched_at)
    .join(generations, g.id == p.generation_id)
    .where(
        p.finished_at.is_(None),
        p.provider_id.is_(None),
        p.state.in_(("submitting", "absent")),
        or_(_IS_LEFT, p.state == "absent"),
        _IS_BEYOND,
    )
    .order_by(*_PLACE)
    .limit(bindparam("most"))
)


def give_up(tx: Tx, generation_id: GenerationId, number: int, *, now: Instant) -> None:
    """Look for an attempt no longer; a prediction that calls back all the same is heard.

    One whose input was fetched does not become absent by that.
    """
    tx.execute(
        update(predictions)
        .where(
            and_(p.generation_id == generation_id, p.attempt == number),
            p.provider_id.is_(None),
            p.state.in_(("submitting", "absent")),
        )
        .values(state=case((p.fetched_at.is_(None), "absent"), else_=p.state), finished_at=now)
    )
