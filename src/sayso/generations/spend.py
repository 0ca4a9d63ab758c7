"""What came in and what went out: captured credits against the provider's charges, by day.

    spend_of(tx)    -> Spend: a line for each day and model, and what has no counterpart
    Line            generations that ended on a day, what they brought and what they cost
    Unmatched       a generation or an attempt whose other side is missing

It only reads. A generation counts on the day, in UTC, on which it ended, with all of its attempts,
so that a charge stands beside what it was for; a charge that becomes known later is added to that
day. Amounts are whole micros, as they stand in the ledger and on the attempts.

A charge is what the provider's own measures come to (`Model.cost_micros`). Where it does not say
them, where an attempt has not ended, or nobody knows whether there was a prediction, the charge is
unknown: it is missing in the sums, and those attempts are counted and listed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, case, func, literal, select
from sqlalchemy.sql.selectable import FromClause

from sayso.clock import SECOND, Instant, from_datetime, to_datetime
from sayso.db.tables import FINAL_STATES, Int64, generations, holds, predictions
from sayso.db.tx import Tx
from sayso.ids import GenerationId

LISTED: Final = 100
"""Unmatched generations or attempts that are listed of each kind; all of them are counted."""

_DAY: Final = 24 * 3600 * SECOND

g = generations.c
p = predictions.c


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Generations by how they ended, and their money in micros.

    `cost` includes `losses`, and misses what `unknown` attempts cost.
    """

    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    captured: int = 0
    cost: int = 0
    losses: int = 0
    unknown: int = 0

    @property
    def margin(self) -> int:
        """What is left: captured credits less what the provider charged, as far as it is known."""
        return self.captured - self.cost


@dataclass(frozen=True)
class Line:
    """The generations of one model that ended on one day."""

    day: date
    model: str
    sums: Sums


@dataclass(frozen=True)
class Unmatched:
    """One side without the other; `amount` is what was captured or charged, None if unknown."""

    generation_id: GenerationId
    attempt: int | None
    model: str
    amount: int | None


@dataclass(frozen=True)
class Unmatches:
    """How many there are, what they come to as far as that is known, and the newest of them."""

    count: int
    amount: int
    newest: tuple[Unmatched, ...]


@dataclass(frozen=True)
class Spend:
    """The report.

    `captured_without_cost` are generations that were paid although the provider charged nothing
    that we know of; `cost_without_capture` attempts that cost something, brought nothing and are
    not booked as a loss; `cost_unknown` attempts of which nobody knows what they cost.
    """

    lines: tuple[Line, ...]
    captured_without_cost: Unmatches
    cost_without_capture: Unmatches
    cost_unknown: Unmatches

    @property
    def total(self) -> Sums:
        """The sum of all lines."""
        return total_of(line.sums for line in self.lines)


def total_of(parts: Iterable[Sums]) -> Sums:
    """Return the sum of some sums."""
    listed = list(parts)
    names = [field.name for field in fields(Sums)]
    return Sums(**{name: sum(getattr(part, name) for part in listed) for name in names})


def spend_of(
    tx: Tx,
    *,
    since: date | None = None,
    until: date | None = None,
    free_models: Collection[str] = (),
) -> Spend:
    """Read the report for these days, both included; run it on a snapshot (`db.snapshot`).

    `free_models` are those whose provider charges nothing.
    """
    when = _ended_within(since, until)
    charged = g.model.not_in(list(free_models))
    return Spend(
        lines=tuple(_line(row) for row in tx.execute(_lines(when, charged))),
        captured_without_cost=_unmatched(tx, _captured_without_cost(and_(when, charged))),
        cost_without_capture=_unmatched(tx, _cost_without_capture(when)),
        cost_unknown=_unmatched(tx, _cost_unknown(when, charged)),
    )


def _ended_within(since: date | None, until: date | None) -> ColumnElement[bool]:
    ended: ColumnElement[bool] = g.state.in_(FINAL_STATES)
    if since is not None:
        ended = and_(ended, g.completed_at >= _start_of(since))
    if until is not None and until < date.max:
        ended = and_(ended, g.completed_at < _start_of(until + timedelta(days=1)))
    return ended


def _start_of(day: date) -> Instant:
    return from_datetime(datetime(day.year, day.month, day.day, tzinfo=UTC))


# What was not created costs nothing, though nobody wrote that down.
_IS_UNKNOWN: Final = and_(p.cost_micros.is_(None), p.state.not_in(["refused", "absent"]))

# What the attempts of a generation cost in all, how much of that is booked as a loss, and of how
# many the cost is unknown.
_CHARGES: Final = (
    select(
        p.generation_id,
        func.sum(p.cost_micros).label("cost"),
        func.sum(case((p.loss_transfer_id.is_not(None), p.cost_micros), else_=0)).label("losses"),
        func.sum(case((_IS_UNKNOWN, 1), else_=0)).label("unknown"),
    )
    .group_by(p.generation_id)
    .subquery("charges")
)
_CAPTURED: Final = func.coalesce(holds.c.captured, 0)
_MONEY: Final = generations.outerjoin(holds, holds.c.generation_id == g.id).outerjoin(
    _CHARGES, _CHARGES.c.generation_id == g.id
)
_COST: Final = func.coalesce(_CHARGES.c.cost, 0)
_LOSSES: Final = func.coalesce(_CHARGES.c.losses, 0)
_UNKNOWN: Final = func.coalesce(_CHARGES.c.unknown, 0)


def _lines(when: ColumnElement[bool], charged: ColumnElement[bool]) -> Select[Any]:
    day = (g.completed_at // _DAY).label("day")
    return (
        select(
            day,
            g.model,
            *(
                func.sum(case((g.state == state, 1), else_=0)).label(state)
                for state in FINAL_STATES
            ),
            func.sum(_CAPTURED).label("captured"),
            func.sum(_COST).label("cost"),
            func.sum(_LOSSES).label("losses"),
            func.sum(case((charged, _UNKNOWN), else_=0)).label("unknown"),
        )
        .select_from(_MONEY)
        .where(when)
        .group_by(day, g.model)
        .order_by(day, g.model)
    )


def _line(row: Any) -> Line:
    # PostgreSQL's sums are decimals.
    sums = {field.name: int(getattr(row, field.name)) for field in fields(Sums)}
    return Line(to_datetime(Instant(row.day * _DAY)).date(), row.model, Sums(**sums))


def _captured_without_cost(when: ColumnElement[bool]) -> Select[Any]:
    return _unmatched_in(_MONEY, None, _CAPTURED).where(when, _CAPTURED > 0, _COST == 0)


_ATTEMPTS: Final = predictions.join(generations, g.id == p.generation_id)


def _cost_without_capture(when: ColumnElement[bool]) -> Select[Any]:
    return _unmatched_in(
        _ATTEMPTS.outerjoin(holds, holds.c.generation_id == g.id), p.attempt, p.cost_micros
    ).where(when, p.cost_micros > 0, p.loss_transfer_id.is_(None), _CAPTURED == 0)


def _cost_unknown(when: ColumnElement[bool], charged: ColumnElement[bool]) -> Select[Any]:
    return _unmatched_in(_ATTEMPTS, p.attempt, p.cost_micros).where(when, charged, _IS_UNKNOWN)


def _unmatched_in(
    source: FromClause, attempt: ColumnElement[Any] | None, amount: ColumnElement[Any]
) -> Select[Any]:
    number = literal(None, Int64) if attempt is None else attempt
    return select(
        g.id,
        number.label("attempt"),
        g.model,
        amount.label("amount"),
        g.completed_at.label("ended"),
    ).select_from(source)


def _unmatched(tx: Tx, found: Select[Any]) -> Unmatches:
    inner = found.subquery()
    count, amount = tx.execute(
        select(func.count(), func.coalesce(func.sum(inner.c.amount), 0)).select_from(inner)
    ).one()
    newest = tx.execute(
        select(inner)
        .order_by(inner.c.ended.desc(), inner.c.id.desc(), inner.c.attempt.desc())
        .limit(LISTED)
    )
    return Unmatches(
        int(count),
        int(amount),
        tuple(
            Unmatched(
                GenerationId(row.id),
                row.attempt,
                row.model,
                None if row.amount is None else int(row.amount),
            )
            for row in newest
        ),
    )
