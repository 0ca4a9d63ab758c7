"""Races for one generation, by the hundred: one outcome each, and the ledger agrees.

In CI a thousand of each kind on each database; `./run soak` does ten times as many.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from sayso.db.connect import Database
from sayso.generations.generation import Generation
from sayso.generations.lane import LaneLimits
from sayso.generations.rules import State
from sayso.ids import Nonce, ProviderId
from sayso.providers.scripted import Create, Script
from tests.builders import ALICE
from tests.workshop import DOLLAR, PRICE, Workshop

pytestmark = pytest.mark.anyio

SIZES = [1_000, pytest.param(10_000, marks=pytest.mark.soak)]
LIMITS = LaneLimits(creates=500, keeps=500)


async def opened(database: Database, folder: Path, script: Script, races: int) -> Workshop:
    return await Workshop.open(database, folder, script, balance=races * DOLLAR, limits=LIMITS)


async def all_final(shop: Workshop, races: int) -> Counter[State]:
    """Let time pass until every generation has ended; count the ends."""
    ends: Counter[State] = Counter()
    for _ in range(400):
        ends.clear()
        cursor: str | None = None
        while True:
            piece = await shop.generations.list(ALICE, cursor=cursor, limit=200)
            ends.update(generation.state for generation in piece.items)
            cursor = piece.next
            if cursor is None:
                break
        if all(state.is_final for state in ends) and ends.total() == races:
            return ends
        shop.clock.advance(1)
        await shop.turn()
    raise AssertionError(f"not all ended: {ends}")


async def started(shop: Workshop, races: int) -> list[Generation]:
    return [
        generation
        for start in range(0, races, 100)
        for generation in await asyncio.gather(
            *(shop.start() for _ in range(min(100, races - start)))
        )
    ]


async def settled_right(shop: Workshop, races: int, succeeded: int) -> None:
    balance = await shop.balance()
    assert (balance.total, balance.held) == (races * DOLLAR - succeeded * PRICE, 0)
    assert await shop.violations() == []


@pytest.mark.parametrize("races", SIZES)
async def test_cancel_against_success(database: Database, tmp_path: Path, races: int) -> None:
    shop = await opened(database, tmp_path, Script(start_s=0, run_s=10), races)
    shop.provider.will(
        *(Script(start_s=0, run_s=10, cancel_s=random.choice((0, 5))) for _ in range(races))
    )
    generations = await started(shop, races)
    await shop.live(8)
    other = shop.another_reconciler()

    # The successes come at 10 s; the cancels come from 8 s to 12 s, some sixty beside two turns.
    steps = races // 60
    random.shuffle(generations)
    for step in range(steps):
        shop.clock.advance(4 / steps)
        await asyncio.gather(
            shop.reconciler.turn(),
            other.turn(),
            *(shop.generations.cancel(ALICE, g.id) for g in generations[step::steps]),
        )
        await asyncio.gather(shop.reconciler.settled(), other.settled())
    ends = await all_final(shop, races)

    assert set(ends) <= {State.SUCCEEDED, State.CANCELED}
    # Both sides win some: else this is no race.
    assert ends[State.CANCELED] > races // 50
    assert ends[State.SUCCEEDED] > races // 50
    await settled_right(shop, races, ends[State.SUCCEEDED])


@pytest.mark.parametrize("races", SIZES)
async def test_two_reconcilers_for_every_row(
    database: Database, tmp_path: Path, races: int
) -> None:
    shop = await opened(database, tmp_path, Script(start_s=0, run_s=3), races)
    other = shop.another_reconciler()
    await started(shop, races)

    for _ in range(12):
        await asyncio.gather(shop.reconciler.turn(), other.turn())
        await asyncio.gather(shop.reconciler.settled(), other.settled())
        shop.clock.advance(1)
    ends = await all_final(shop, races)

    assert ends == {State.SUCCEEDED: races}
    assert shop.provider.counts["create"] == races
    assert sorted(shop.keeper.kept) == sorted(set(shop.keeper.kept))
    await settled_right(shop, races, races)


@pytest.mark.parametrize("races", SIZES)
async def test_a_callback_during_every_create(
    database: Database, tmp_path: Path, races: int
) -> None:
    shop = await opened(database, tmp_path, Script(start_s=0, run_s=2), races)
    shop.provider.will(
        *(
            Script(start_s=0, run_s=2, create=random.choice((Create.ANSWERED, Create.LOST_ANSWER)))
            for _ in range(races)
        )
    )
    other = shop.another_reconciler()

    async def call_back(nonce: Nonce, provider_id: ProviderId) -> None:
        assert await shop.generations.make_due(nonce=nonce, provider_id=provider_id)

    shop.provider.on_created = call_back
    await started(shop, races)

    for _ in range(6):
        await asyncio.gather(shop.reconciler.turn(), other.turn())
        await asyncio.gather(shop.reconciler.settled(), other.settled())
        shop.clock.advance(1)
    ends = await all_final(shop, races)

    assert ends == {State.SUCCEEDED: races}
    assert shop.provider.counts["create"] == races
    await settled_right(shop, races, races)
