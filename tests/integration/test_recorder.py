"""The recorder and the loop when the database, a step or a process lets them down."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sayso.db.connect import Database
from sayso.errors import DatabaseUnavailable
from sayso.generations import recorder as recorder_module
from sayso.generations.rules import State
from sayso.providers.scripted import Script
from sayso.reconciler import Rhythm
from tests.builders import ALICE
from tests.workshop import PRICE, Workshop

pytestmark = pytest.mark.anyio


class Flaky:
    """A database that is away for some writes."""

    def __init__(self, db: Database, away: int) -> None:
        self._db = db
        self.away = away

    async def write(self, fn: Any) -> Any:
        if self.away > 0:
            self.away -= 1
            raise DatabaseUnavailable("It is away.")
        return await self._db.write(fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


async def test_answers_wait_for_a_database_that_is_away(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "PAUSE_S", 0.001)
    shop = await Workshop.open(database, tmp_path, Script(run_s=5))
    generation = await shop.start()
    flaky = Flaky(database, away=0)
    shop.reconciler._recorder._db = flaky

    flaky.away = 5
    await shop.turn()

    assert (await shop.get(generation)).state is State.RUNNING
    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert shop.provider.counts["create"] == 1


async def test_answers_that_were_given_up_are_found_by_the_search(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "PAUSE_S", 0.0)
    shop = await Workshop.open(database, tmp_path, Script(run_s=5))
    generation = await shop.start()
    flaky = Flaky(database, away=0)
    shop.reconciler._recorder._db = flaky

    flaky.away = recorder_module.TRIES
    await shop.turn()

    assert (await shop.get(generation)).state is State.SUBMITTING
    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert shop.provider.counts["create"] == 1


async def test_a_step_that_cannot_be_written_spoils_no_other(
    database: Database, tmp_path: Path
) -> None:
    shop = await Workshop.open(database, tmp_path, Script(start_s=0, run_s=5))
    good, bad, fine = [await shop.start() for _ in range(3)]
    await shop.turn()
    keep = shop.keeper.keep

    async def keeps_nonsense(job: Any, provider: Any) -> Any:
        kept = await keep(job, provider)
        if job.id == bad.id:
            return type(kept)(**{**kept.__dict__, "facts": {"not": object()}})
        return kept

    shop.keeper.keep = keeps_nonsense  # type: ignore[method-assign]
    for _ in range(10):
        shop.clock.advance(1)
        await shop.reconciler.turn()
        await shop.reconciler.settled()

    assert (await shop.get(good)).state is State.SUCCEEDED
    assert (await shop.get(fine)).state is State.SUCCEEDED
    assert (await shop.get(bad)).state is State.STORING
    assert (await shop.balance()).held == PRICE


async def test_the_loop_runs_by_itself_and_stops_when_asked(
    database: Database, tmp_path: Path
) -> None:
    shop = await Workshop.open(database, tmp_path, Script(start_s=0, run_s=0))
    shop.reconciler._rhythm = Rhythm(tick_s=0.01, idle_s=0.05)
    running = asyncio.create_task(shop.reconciler.run())

    generation = await shop.start()
    shop.clock.advance(6)
    done = await _until_final(shop, generation.id)
    shop.reconciler.stop()
    await asyncio.wait_for(running, timeout=60)

    assert done is State.SUCCEEDED


async def test_a_stop_hands_back_what_takes_too_long(database: Database, tmp_path: Path) -> None:
    shop = await Workshop.open(database, tmp_path, Script(start_s=0, run_s=0))
    shop.reconciler._rhythm = Rhythm(tick_s=0.01, idle_s=0.02, drain_s=0.05)
    entered, never = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        entered.set()
        await never.wait()

    shop.keeper.before = hang
    generation = await shop.start()
    running = asyncio.create_task(shop.reconciler.run())
    while not entered.is_set():
        shop.clock.advance(1)
        with shop.generations.listen() as wake:
            await wake.wait(timeout_s=0.05)
    shop.reconciler.stop()
    await asyncio.wait_for(running, timeout=60)

    shop.keeper.before = None
    other = shop.another_reconciler()
    await other.turn()  # At once: no lease has to run out.
    await other.settled()
    assert (await shop.get(generation)).state is State.SUCCEEDED


async def test_a_slow_step_whose_lease_ran_out_is_taken_again_once(
    database: Database, tmp_path: Path
) -> None:
    """The first step ends while the second is in hand, and takes nothing of it along."""
    shop = await Workshop.open(database, tmp_path, Script(start_s=0, run_s=1))
    begun: list[float] = []

    async def keep_slowly() -> None:
        begun.append(shop.clock.monotonic_s())
        end_s = begun[-1] + 40
        while shop.clock.monotonic_s() < end_s:  # noqa: ASYNC110 (the clock is moved by hand)
            await asyncio.sleep(0.001)

    shop.keeper.before = keep_slowly
    generation = await shop.start()
    await shop.turn()
    await _pass(shop, 30)
    shop.clock.jump(30)  # The machine slept: every lease is over.
    await _pass(shop, 90)
    shop.clock.advance(1_000)  # Whatever is in hand still may end.
    await shop.reconciler.settled()

    assert len(begun) == 2
    assert (await shop.get(generation)).state is State.SUCCEEDED
    assert (await shop.balance()).held == 0


async def _pass(shop: Workshop, seconds: int) -> None:
    """Let time pass with the loop's turns and renewals, without waiting for what is in hand."""
    for second in range(seconds):
        shop.clock.advance(1)
        await shop.reconciler.turn()
        if second % 5 == 0:
            await shop.reconciler._renew()
        await asyncio.sleep(0.002)


async def _until_final(shop: Workshop, generation_id: Any) -> State:
    async with asyncio.timeout(120):
        while True:
            done = await shop.generations.wait(ALICE, generation_id, timeout_s=0)
            if done.is_final:
                return done.state
            shop.clock.advance(1)
            with shop.generations.listen() as wake:
                await wake.wait(timeout_s=0.05)
