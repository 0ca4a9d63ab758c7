"""A provider that calls back is asked when it did, and seldom otherwise; watchers see progress."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sayso.clock import SECOND
from sayso.db.connect import Database
from sayso.errors import ProviderTimedOut
from sayso.generations.evidence import Callback
from sayso.generations.generation import Generation
from sayso.providers.scripted import TRAITS, Script
from tests.workshop import Workshop

pytestmark = pytest.mark.anyio

CALLS_BACK = replace(TRAITS, ask_s=60)


@pytest.fixture
async def shop(database: Database, tmp_path: Path) -> Workshop:
    return await Workshop.open(database, tmp_path, Script(start_s=0, run_s=100), traits=CALLS_BACK)


async def call_back(shop: Workshop, generation: Generation, delivery: str) -> None:
    [attempt] = await shop.attempts(generation)
    await shop.generations.take_callback(
        Callback(
            provider="scripted",
            nonce=attempt.nonce,
            provider_id=attempt.provider_id,
            delivery_id=delivery,
        )
    )
    await shop.turn()


async def test_progress_moves_while_nobody_asks(shop: Workshop) -> None:
    generation = await shop.start()
    await shop.live(2)
    await call_back(shop, generation, "msg_start")
    percents = []
    for _ in range(5):
        await shop.live(5)
        percents.append((await shop.get(generation)).progress.percent)

    assert shop.provider.counts["read"] == 1
    assert percents == sorted(percents)
    assert percents[-1] > percents[0]


async def test_a_callback_is_a_reason_to_ask(shop: Workshop) -> None:
    shop.provider.will(Script(start_s=0, run_s=30))
    generation = await shop.start()
    await shop.live(31)
    assert shop.provider.counts["read"] == 0
    await call_back(shop, generation, "msg_1")

    assert (await shop.get(generation)).status == "succeeded"
    assert shop.provider.counts["read"] == 1


async def test_the_same_callback_again_asks_nothing(shop: Workshop) -> None:
    generation = await shop.start()
    await shop.live(6)
    await call_back(shop, generation, "msg_1")
    shop.clock.advance(1)
    await call_back(shop, generation, "msg_1")
    await shop.live(10)

    assert shop.provider.counts["read"] == 1


async def test_one_that_takes_too_long_is_asked_about(shop: Workshop) -> None:
    """Ten seconds of speech take twenty here, so after forty it ought to be done."""
    shop.provider.will(Script(start_s=0, run_s=1_000))
    await shop.start()
    await shop.live(39)
    assert shop.provider.counts["read"] == 0
    await shop.live(6)
    assert shop.provider.counts["read"] == 1
    await shop.live(180)

    assert shop.provider.counts["read"] == 4


async def test_callbacks_that_do_not_come_are_not_waited_for_twice(shop: Workshop) -> None:
    first = await shop.live_until_final(await shop.start())
    reads = shop.provider.counts["read"]
    second = await shop.live_until_final(await shop.start())

    assert first.status == second.status == "succeeded"
    assert reads == 2
    # Asked at each look: it ends within one of them.
    assert shop.provider.counts["read"] - reads > 15
    assert second.completed_at - second.created_at <= 106 * SECOND  # type: ignore[operator]  # Ended.


async def test_in_time_callbacks_are_trusted_again(shop: Workshop) -> None:
    await shop.live_until_final(await shop.start())
    await shop.live(600, step_s=10)
    reads = shop.provider.counts["read"]
    generation = await shop.start()
    await shop.live(101)
    assert shop.provider.counts["read"] - reads == 2
    await call_back(shop, generation, "msg_1")

    assert (await shop.get(generation)).status == "succeeded"


async def test_a_cancel_is_looked_after_at_once(shop: Workshop) -> None:
    generation = await shop.start()
    await shop.live(6)
    await shop.generations.cancel(generation.account_id, generation.id)
    await shop.turn()

    assert (await shop.get(generation)).status == "canceled"


async def test_what_was_not_answered_is_asked_again(shop: Workshop) -> None:
    shop.provider.fail_reads(1, ProviderTimedOut("no answer"))
    generation = await shop.start()
    await shop.live(1)
    await call_back(shop, generation, "msg_start")
    await shop.live(10)

    assert shop.provider.counts["read"] == 2


async def test_another_process_asks_for_itself(shop: Workshop) -> None:
    """Nothing that a decision needs is kept in a process alone."""
    generation = await shop.start()
    await shop.live(6)
    shop.reconciler = shop.another_reconciler()
    await shop.live(6)

    assert shop.provider.counts["read"] == 1
    assert (await shop.live_until_final(generation)).status == "succeeded"
