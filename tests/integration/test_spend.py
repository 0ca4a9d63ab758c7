"""The spend report: any history of generations and attempts, against sums made by hand."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from sayso.clock import SECOND, Instant, after, to_datetime
from sayso.credits import store as ledger
from sayso.credits.rules import Micros, ReleaseReason
from sayso.db.connect import Database
from sayso.db.tx import Tx
from sayso.generations.spend import LISTED, Line, Spend, Sums, Unmatched, spend_of, total_of
from sayso.ids import GenerationId
from tests.builders import ALICE, NOON, a_generation, a_hold, a_prediction, an_account

pytestmark = pytest.mark.anyio

TODAY: Final = to_datetime(NOON).date()
MIDNIGHT: Final = Instant(
    round(datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC).timestamp()) * SECOND
)
FREE: Final = "sayso/portrait"
MODELS: Final = (FREE, "a/cheap", "b/dear")


@dataclass(frozen=True)
class Try:
    """An attempt of a plan."""

    state: str
    cost: int | None
    is_finished: bool
    is_lost: bool
    has_id: bool


@dataclass(frozen=True)
class Plan:
    """A generation to be, with what it brought and cost."""

    id: str
    model: str
    state: str
    ended: Instant | None
    price: int
    captured: int
    tries: tuple[Try, ...]

    @property
    def cost(self) -> int:
        return sum(one.cost or 0 for one in self.tries)

    @property
    def losses(self) -> int:
        return sum(one.cost or 0 for one in self.tries if one.is_lost)

    @property
    def unknown(self) -> tuple[int, ...]:
        """The numbers of the attempts of which nobody knows what they cost."""
        if self.model == FREE:
            return ()
        tries = enumerate(self.tries, start=1)
        return tuple(n for n, one in tries if one.cost is None and one.state != "refused")

    @property
    def day(self) -> date:
        assert self.ended is not None
        return to_datetime(self.ended).date()


def any_plan(chance: random.Random, number: int) -> Plan:
    state = chance.choice(["succeeded", "succeeded", "failed", "canceled", "running"])
    moment = chance.choice([0, 1, 12 * 3600 * SECOND, 24 * 3600 * SECOND - 1])
    days_s = chance.randint(-2, 2) * 24 * 3600
    price = chance.choice([0, 40, 200_000, 7_000_000_001])
    is_paid = state == "succeeded" and price > 0
    return Plan(
        id=f"g{number:03}",
        model=chance.choice(MODELS),
        state=state,
        ended=None if state == "running" else Instant(after(MIDNIGHT, days_s) + moment),
        price=price,
        captured=chance.choice([price, max(1, price // 3)]) if is_paid else 0,
        tries=tuple(any_try(chance) for _ in range(chance.randint(0, 3))),
    )


def any_try(chance: random.Random) -> Try:
    state = chance.choice(
        ["succeeded", "failed", "canceled", "processing", "refused", "submitting"]
    )
    cost = chance.choice([None, 0, 1, 190_000, 8_000_000_000])
    return Try(
        state=state,
        cost=cost,
        is_finished=state != "processing" and chance.random() < 0.8,
        is_lost=bool(cost) and chance.random() < 0.5,
        has_id=state not in {"refused", "submitting"},
    )


def carry_out(tx: Tx, plan: Plan) -> None:
    """Insert what a plan says."""
    named = GenerationId(plan.id)
    ended: dict[str, Any] = {}
    if plan.ended is not None:
        ended = {"completed_at": plan.ended, "changed_at": plan.ended}
    a_generation(
        tx, generation_id=plan.id, price=plan.price, state=plan.state, model=plan.model, **ended
    )
    if plan.price:
        hold = a_hold(tx, generation_id=named, amount=plan.price)
        if plan.captured:
            ledger.capture(tx, hold_id=hold.id, amount=Micros(plan.captured), at=NOON)
        elif plan.ended is not None:
            ledger.release(tx, hold_id=hold.id, reason=ReleaseReason.FAILED, at=NOON)
    for number, one in enumerate(plan.tries, start=1):
        a_prediction(
            tx,
            named,
            attempt=number,
            state=one.state,
            cost_micros=one.cost,
            provider_id=f"{plan.id}-{number}" if one.has_id else None,
            finished_at=NOON if one.is_finished else None,
        )
        if one.is_lost:
            ledger.book_loss(tx, generation_id=named, attempt=number, reason="lost", at=NOON)


def naive_lines(plans: Iterable[Plan]) -> tuple[Line, ...]:
    by_key: dict[tuple[date, str], list[Sums]] = {}
    for plan in plans:
        one = Sums(
            **{plan.state: 1},
            captured=plan.captured,
            cost=plan.cost,
            losses=plan.losses,
            unknown=len(plan.unknown),
        )
        by_key.setdefault((plan.day, plan.model), []).append(one)
    return tuple(Line(*key, total_of(by_key[key])) for key in sorted(by_key))


def naive_without_cost(plans: Iterable[Plan]) -> set[Unmatched]:
    return {
        Unmatched(GenerationId(plan.id), None, plan.model, plan.captured)
        for plan in plans
        if plan.captured > 0 and plan.cost == 0 and plan.model != FREE
    }


def naive_without_capture(plans: Iterable[Plan]) -> set[Unmatched]:
    return {
        Unmatched(GenerationId(plan.id), number, plan.model, one.cost)
        for plan in plans
        for number, one in enumerate(plan.tries, start=1)
        if plan.captured == 0 and one.cost and not one.is_lost
    }


def naive_unknown(plans: Iterable[Plan]) -> set[Unmatched]:
    return {
        Unmatched(GenerationId(plan.id), number, plan.model, None)
        for plan in plans
        for number in plan.unknown
    }


async def report(
    database: Database, *, since: date | None = None, until: date | None = None
) -> Spend:
    return await database.snapshot(
        lambda tx: spend_of(tx, since=since, until=until, free_models=[FREE])
    )


@pytest.mark.parametrize("seed", range(6))
async def test_any_history_adds_up_to_what_a_naive_sum_says(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    plans = [any_plan(chance, number) for number in range(60)]

    def carry_all_out(tx: Tx) -> None:
        an_account(tx, ALICE, balance=10**12)
        for plan in plans:
            carry_out(tx, plan)

    await database.write(carry_all_out)
    ended = [plan for plan in plans if plan.ended is not None]
    day = timedelta(days=1)

    for since, until in (
        (None, None),
        (TODAY, TODAY),
        (TODAY - day, None),
        (None, TODAY - day),
        (TODAY + 9 * day, None),
        (date.min, date.max),
    ):
        found = await report(database, since=since, until=until)
        inside = [p for p in ended if (since or date.min) <= p.day <= (until or date.max)]
        assert found.lines == naive_lines(inside)
        assert found.total == total_of(line.sums for line in naive_lines(inside))
        assert found.total.margin == sum(p.captured for p in inside) - sum(p.cost for p in inside)
        for unmatches, naive in (
            (found.captured_without_cost, naive_without_cost(inside)),
            (found.cost_without_capture, naive_without_capture(inside)),
            (found.cost_unknown, naive_unknown(inside)),
        ):
            assert set(unmatches.newest) == naive
            assert unmatches.count == len(naive) == len(unmatches.newest)
            assert unmatches.amount == sum(one.amount or 0 for one in naive)


async def test_nothing_has_nothing_to_report(database: Database) -> None:
    found = await report(database)

    assert found.lines == ()
    assert found.total == Sums()
    assert found.total.margin == 0
    assert (found.cost_unknown.count, found.cost_unknown.amount) == (0, 0)


async def test_all_that_is_unmatched_is_counted_and_the_newest_is_listed(
    database: Database,
) -> None:
    many = LISTED + 5

    def fill(tx: Tx) -> None:
        an_account(tx, ALICE, balance=10**9)
        for number in range(many):
            carry_out(tx, Plan(f"g{number:03}", "a/cheap", "succeeded", NOON, 40, 40, ()))

    await database.write(fill)

    found = (await report(database)).captured_without_cost

    assert (found.count, found.amount, len(found.newest)) == (many, 40 * many, LISTED)
    assert found.newest[0].generation_id == f"g{many - 1:03}"
