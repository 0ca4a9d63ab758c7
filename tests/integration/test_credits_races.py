"""Two workers settle the same hold, on two connections of their own: one of them does it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from sayso.credits import store
from sayso.credits.audit import verify
from sayso.credits.rules import Hold, HoldState, Micros, ReleaseReason
from sayso.db.connect import Database, open_database
from sayso.db.tx import Tx
from sayso.errors import HoldAlreadySettled, InsufficientCredits
from sayso.ids import TransferId
from tests.builders import ALICE, NOON, a_generation, a_hold, an_account, finish

pytestmark = pytest.mark.anyio

AMOUNT = 40


@pytest.fixture
async def other(database: Database, database_url: str) -> AsyncIterator[Database]:
    """A second process, as far as the database can tell."""
    db = await open_database(database_url)
    yield db
    await db.close()


async def race(one: Database, other: Database, *, holds: int, seed: int) -> Counter[str]:
    """Settle each hold from both sides, in an order and with pauses that the seed draws."""
    chance = random.Random(seed)
    placed = await one.write(
        lambda tx: (
            an_account(tx, balance=AMOUNT * holds),
            [a_hold(tx, amount=AMOUNT) for _ in range(holds)],
        )[1]
    )
    sides = [(hold, way) for hold in placed for way in (captured, released)]
    chance.shuffle(sides)
    workers: list[list[tuple[Hold, Callable[[Tx, Hold], None]]]] = [[], []]
    for hold, way in sides:
        workers[way is released].append((hold, way))

    async def work(
        db: Database, share: list[tuple[Hold, Callable[[Tx, Hold], None]]]
    ) -> Counter[str]:
        at_once = asyncio.Semaphore(16)

        async def settle(hold: Hold, way: Callable[[Tx, Hold], None], pause_s: float) -> str:
            async with at_once:
                await asyncio.sleep(pause_s)
                try:
                    await db.write(lambda tx: way(tx, hold))
                except HoldAlreadySettled:
                    return "lost"
                return way.__name__

        tries = (settle(hold, way, chance.uniform(0, 0.01)) for hold, way in share)
        return Counter(await asyncio.gather(*tries))

    first, second = await asyncio.gather(work(one, workers[0]), work(other, workers[1]))
    return first + second


def captured(tx: Tx, hold: Hold) -> None:
    store.capture(tx, hold_id=hold.id, amount=hold.amount, at=NOON)
    finish(tx, hold.generation_id, "succeeded")


def released(tx: Tx, hold: Hold) -> None:
    store.release(tx, hold_id=hold.id, reason=ReleaseReason.CANCELED, at=NOON)
    finish(tx, hold.generation_id, "canceled")


async def check_race(database: Database, other: Database, *, holds: int, seed: int) -> None:
    outcomes = await race(database, other, holds=holds, seed=seed)

    assert outcomes["captured"] + outcomes["released"] == holds
    assert outcomes["lost"] == holds
    balance = await database.read(lambda tx: store.balance(tx, ALICE))
    assert (balance.total, balance.held) == (AMOUNT * outcomes["released"], 0)
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []


@pytest.mark.parametrize("seed", [1, 2])
async def test_of_two_settlements_one_wins(database: Database, other: Database, seed: int) -> None:
    await check_race(database, other, holds=100, seed=seed)


@pytest.mark.soak
async def test_of_two_settlements_one_wins_for_long(database: Database, other: Database) -> None:
    await check_race(database, other, holds=10_000, seed=3)


async def test_the_same_hold_from_many_sides_is_placed_once(
    database: Database, other: Database
) -> None:
    generation = await database.write(
        lambda tx: (an_account(tx, balance=AMOUNT), a_generation(tx, price=AMOUNT))[1]
    )
    holds = await asyncio.gather(
        *(
            db.write(lambda tx: a_hold(tx, generation_id=generation, amount=AMOUNT))
            for db in (database, other) * 20
        )
    )
    assert len({hold.id for hold in holds}) == 1
    balance = await database.read(lambda tx: store.balance(tx, ALICE))
    assert (balance.total, balance.held) == (AMOUNT, AMOUNT)
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []


async def test_the_same_grant_from_many_sides_counts_once(
    database: Database, other: Database
) -> None:
    def grant(tx: Tx) -> None:
        store.grant(
            tx,
            transfer_id=TransferId("gift"),
            account_id=ALICE,
            amount=Micros(7),
            reason="",
            at=NOON,
        )

    await database.write(an_account)
    await asyncio.gather(*(db.write(grant) for db in (database, other) * 20))
    assert (await database.read(lambda tx: store.balance(tx, ALICE))).total == 7
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []


async def test_many_holds_at_once_never_overdraw(database: Database, other: Database) -> None:
    """Forty holds of 40 race for 400: ten are placed."""
    await database.write(lambda tx: an_account(tx, balance=400))

    async def place(db: Database) -> HoldState | None:
        try:
            return (await db.write(lambda tx: a_hold(tx, amount=AMOUNT))).state
        except InsufficientCredits:
            return None

    placed = await asyncio.gather(*(place(db) for db in (database, other) * 20))
    assert Counter(placed) == {HoldState.HELD: 10, None: 30}
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []
