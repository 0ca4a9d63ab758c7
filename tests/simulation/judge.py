"""What must be true in the end, whatever happened; and what it came to.

    is_at_rest()   whether nothing is under way any more
    judge()        the verdict: what is wrong, and the counts

The judge knows what no part of the service knows: every prediction that the provider ever made, for
whom, and every video that reached the store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, or_, select

from sayso.credits.audit import verify
from sayso.db.tables import generations, holds, predictions
from sayso.db.tx import Tx
from sayso.ids import GenerationId, Nonce

if TYPE_CHECKING:
    from tests.simulation.world import World

g, h, p = generations.c, holds.c, predictions.c

_ENDINGS: Final = {"succeeded": "captured", "failed": "released", "canceled": "released"}


@dataclass
class Verdict:
    """What is wrong, and the counts."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def is_at_rest(tx: Tx) -> bool:
    """Whether every generation has ended, and every attempt that may run."""
    live = select(func.count()).select_from(generations).where(g.completed_at.is_(None))
    open_attempts = (
        select(func.count())
        .select_from(predictions)
        .where(
            p.finished_at.is_(None),
            or_(p.provider_id.is_not(None), p.state.in_(("submitting", "absent"))),
        )
    )
    return not tx.execute(live).scalar_one() and not tx.execute(open_attempts).scalar_one()


def owners_of(tx: Tx, nonces: Iterable[Nonce]) -> dict[Nonce, GenerationId]:
    """Return whose attempts have these nonces."""
    rows = tx.execute(select(p.nonce, p.generation_id).where(p.nonce.in_(list(nonces))))
    return {Nonce(nonce): GenerationId(generation_id) for nonce, generation_id in rows}


def judge(tx: Tx, world: World) -> Verdict:
    """Return what is wrong in the end."""
    verdict = Verdict()
    rows = {row.id: row for row in tx.execute(select(generations))}
    attempts = tx.execute(select(predictions)).all()
    for wrong in (
        _ledger(tx, world),
        _orders(world, rows),
        _ends(tx, world, rows),
        _left_running(world),
        _left_open(attempts),
        _payments(world, rows, attempts),
        world.overlaps,
    ):
        verdict.wrong.extend(wrong)
    _count(verdict.counts, world, rows.values(), attempts)
    return verdict


def _ledger(tx: Tx, world: World) -> Iterator[str]:
    for violation in verify(tx, now=world.clock.now()):
        yield f"{violation.invariant}: {violation.text}"


def _orders(world: World, rows: dict[str, Any]) -> Iterator[str]:
    """Each customer has one generation for what he asked for."""
    if len(rows) != len(world.orders):
        yield f"{len(world.orders)} orders are {len(rows)} generations"
    for key, generation_id in world.orders.items():
        if generation_id not in rows:
            yield f"{key} was acknowledged as {generation_id} and is lost"


def _ends(tx: Tx, world: World, rows: dict[str, Any]) -> Iterator[str]:
    """Each generation has ended, its hold as it did, and a success is in the store."""
    for hold in tx.execute(select(holds)):
        state = rows[hold.generation_id].state
        if hold.state == "held":
            yield f"the hold of {hold.generation_id} is left open ({state})"
        elif hold.state != _ENDINGS.get(state):
            yield f"{hold.generation_id} is {state} and its hold is {hold.state}"
        elif hold.state == "captured" and hold.captured != rows[hold.generation_id].price_micros:
            yield f"{hold.generation_id} captured {hold.captured}"
    for generation_id, row in rows.items():
        if row.completed_at is None:
            yield f"{generation_id} never ended: {row.state}"
        if row.state == "succeeded" and generation_id not in world.stored:
            yield f"{generation_id} was paid and its video is not stored"


def _left_running(world: World) -> Iterator[str]:
    for identifier in world.upstream.alive():
        yield f"{identifier} still runs at the provider, for nobody"


def _left_open(attempts: Sequence[Any]) -> Iterator[str]:
    for row in attempts:
        if row.provider_id is not None and row.finished_at is None:
            yield f"attempt {row.attempt} of {row.generation_id} never ended: {row.state}"


def _payments(world: World, rows: dict[str, Any], attempts: Sequence[Any]) -> Iterator[str]:
    """What the provider made was delivered once, or is booked as our loss."""
    known = {row.provider_id: row for row in attempts if row.provider_id is not None}
    delivered: defaultdict[str, list[str]] = defaultdict(list)
    for identifier in world.upstream.predictions:
        state = world.upstream.state(identifier)
        attempt = known.get(identifier)
        if attempt is None:
            if state.status == "succeeded":
                yield f"{identifier} was made for {world.made_for[identifier]}; nobody knows it"
            continue
        if state.status == "succeeded" and not attempt.cost_micros:
            yield f"{identifier} succeeded, and what it cost was never written down"
        if attempt.cost_micros and attempt.loss_transfer_id is None:
            delivered[attempt.generation_id].append(identifier)
    for generation_id, paid in delivered.items():
        if len(paid) > 1:
            yield f"{generation_id} was paid twice: {paid}"
        if rows[generation_id].state != "succeeded":
            yield f"{paid} cost something, and {generation_id} is {rows[generation_id].state}"


def _count(
    counts: Counter[str], world: World, rows: Iterable[Any], attempts: Sequence[Any]
) -> None:
    counts.update(row.state for row in rows)
    counts["predictions"] += len(world.upstream.predictions)
    counts["attempts"] += len(attempts)
    counts["twins"] += sum(row.twin_of is not None for row in attempts)
    counts["absent"] += sum(row.state == "absent" for row in attempts)
    counts["aborted"] += sum(
        world.upstream.state(made).status == "aborted" for made in world.upstream.predictions
    )
    counts["losses"] += sum(row.loss_transfer_id is not None for row in attempts)
    counts["fetched"] += sum(row.fetched_at is not None for row in attempts)
    counts["provider calls"] += sum(world.upstream.counts.values())
    counts.update(world.story.counts)
