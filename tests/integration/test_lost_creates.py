"""Create calls whose answers are lost: found, sent again, adopted, or ended as a twin.

One sentence of the rule is one test here: never sent again blindly; found by callback, by its input
being fetched, or by list; sent again only when it is proven absent; a late twin is bound, or ended
and booked as our loss.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from sayso.clock import after
from sayso.db.connect import Database
from sayso.db.tables import callbacks_seen
from sayso.errors import ProviderTimedOut
from sayso.generations.evidence import Callback, Taken
from sayso.generations.generation import Generation
from sayso.generations.rules import State
from sayso.ids import Nonce, ProviderId
from sayso.providers.scripted import Create, Script
from tests.builders import ALICE, NOON
from tests.workshop import DOLLAR, PRICE, Workshop

pytestmark = pytest.mark.anyio

WHOLE = 5 * DOLLAR
RUN = Script(run_s=100, cost_micros=7)
LOST = Script(create=Create.LOST_ANSWER, run_s=100, cost_micros=7)
UNSEEN = Script(create=Create.LOST_ANSWER, run_s=100, cost_micros=7, listed_s=100_000)


@pytest.fixture
def shop_of(database: Database, tmp_path: Path) -> Any:
    async def open_shop(script: Script = RUN, *first: Script) -> Workshop:
        shop = await Workshop.open(database, tmp_path, script)
        shop.provider.will(*first)
        return shop

    return open_shop


async def spent(shop: Workshop) -> tuple[int, int]:
    balance = await shop.balance()
    assert await shop.violations() == []
    return WHOLE - balance.total, balance.held


async def states(shop: Workshop, generation: Generation) -> list[tuple[str, int, bool]]:
    """Return each attempt's state, cost, and whether that is booked as our loss."""
    rows = await shop.attempts(generation)
    return [(row.state, row.cost_micros, row.loss_transfer_id is not None) for row in rows]


def first_created(shop: Workshop) -> tuple[ProviderId, Nonce]:
    return next(iter(shop.provider.created.items()))


async def call_back(
    shop: Workshop, nonce: Nonce, provider_id: ProviderId | None, *, delivery: str = "d1"
) -> Taken:
    callback = Callback(
        provider="scripted", nonce=nonce, provider_id=provider_id, delivery_id=delivery
    )
    return await shop.generations.take_callback(callback)


# Found


async def test_a_callback_finds_what_no_list_shows(shop_of: Any) -> None:
    shop = await shop_of(RUN, UNSEEN)
    generation = await shop.start()
    await shop.live(10)
    provider_id, nonce = first_created(shop)

    assert await call_back(shop, nonce, provider_id) is Taken.NEW
    await shop.turn()

    assert (await shop.get(generation)).state is State.RUNNING
    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert len(shop.provider.created) == 1
    assert await spent(shop) == (PRICE, 0)


async def test_a_fetched_input_lets_the_search_begin_at_once(shop_of: Any) -> None:
    shop = await shop_of(RUN, LOST)
    generation = await shop.start()
    await shop.live(5)
    _, nonce = first_created(shop)
    assert shop.provider.counts["find"] == 0

    assert await shop.generations.note_fetch(nonce)
    await shop.turn()

    assert (await shop.get(generation)).state is State.RUNNING
    assert shop.clock.now() == after(NOON, 5)
    # Only the first fetch is evidence of anything new.
    assert not await shop.generations.note_fetch(nonce)
    assert not await shop.generations.note_fetch(Nonce("nobodys"))


async def test_a_fetch_while_the_call_is_out_asks_nobody(shop_of: Any) -> None:
    shop = await shop_of()

    async def fetch(nonce: Nonce, _provider_id: ProviderId) -> None:
        assert await shop.generations.note_fetch(nonce)

    shop.provider.on_created = fetch
    generation = await shop.start()
    await shop.turn()

    assert (await shop.get(generation)).state is State.RUNNING
    assert (shop.provider.counts["find"], shop.provider.counts["read"]) == (0, 0)


async def test_a_fetched_create_is_never_sent_again(shop_of: Any) -> None:
    shop = await shop_of(RUN, UNSEEN)
    generation = await shop.start()
    await shop.turn()
    _, nonce = first_created(shop)
    await shop.generations.note_fetch(nonce)

    done = await shop.live_until_final(generation)

    assert shop.provider.counts["create"] == 1
    assert done.error == "Generation timed out after 10 minutes"
    assert await spent(shop) == (0, 0)


async def test_a_late_success_of_a_lost_create_is_our_loss(shop_of: Any) -> None:
    # It shows in the list only after its customer has his money back.
    late = Script(create=Create.LOST_ANSWER, run_s=100, cost_micros=7, listed_s=700)
    shop = await shop_of(RUN, late)
    generation = await shop.start()
    await shop.turn()
    await shop.generations.note_fetch(first_created(shop)[1])
    done = await shop.live_until_final(generation)

    await shop.live(120, step_s=20)
    await shop.reconciler.keep_house()

    assert done.state is State.FAILED
    assert await states(shop, generation) == [("succeeded", 7, True)]
    assert await spent(shop) == (0, 0)


# Proven absent


async def test_what_was_never_sent_is_sent_again_without_a_search(shop_of: Any) -> None:
    """A connection that was never made is a refusal: there is nothing to be found."""
    shop = await shop_of(Script(run_s=1), Script(create=Create.REFUSED, retry_after_s=5))
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert (shop.provider.counts["find"], shop.provider.counts["create"]) == (0, 2)
    assert shop.clock.now() < after(NOON, 30)


async def test_a_clock_that_jumps_proves_no_absence(shop_of: Any) -> None:
    lagging = Script(create=Create.LOST_ANSWER, run_s=100, listed_s=50)
    shop = await shop_of(RUN, lagging)
    generation = await shop.start()
    await shop.live(2)
    for _ in range(3):
        shop.clock.jump(100)
        await shop.live(2)

    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert len(shop.provider.created) == 1


async def test_a_call_that_is_still_out_is_not_searched_for(shop_of: Any) -> None:
    shop = await shop_of()
    generation = await shop.start()
    shop.provider.hold_calls()
    await shop.reconciler.turn()  # The create call is out, and hangs.
    await asyncio.sleep(0)

    shop.clock.jump(400)  # Its lease is over by the date.
    await shop.reconciler.turn()
    await asyncio.sleep(0.05)
    assert shop.provider.counts["find"] == 0
    shop.provider.resume_calls()
    await shop.reconciler.settled()

    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert len(shop.provider.created) == 1


# After all


async def test_a_refused_create_that_calls_back_is_adopted(shop_of: Any) -> None:
    shop = await shop_of(RUN, Script(create=Create.REFUSED, retry_after_s=200))
    generation = await shop.start()
    await shop.live(5)
    assert (await shop.get(generation)).state is State.CREATED
    nonce = Nonce((await shop.attempts(generation))[0].nonce)
    # It was made all the same: a proxy in between refused the answer.
    made = shop.provider._create(nonce, RUN, 1.0)

    await call_back(shop, nonce, made.id)
    await shop.live(1)

    assert (await shop.get(generation)).state is State.RUNNING
    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert shop.provider.counts["create"] == 1
    assert await states(shop, generation) == [("succeeded", 7, False)]


async def test_a_callback_while_a_search_finds_nothing_is_not_lost(shop_of: Any) -> None:
    shop = await shop_of(RUN, UNSEEN)
    generation = await shop.start()
    await shop.live(119)
    provider_id, nonce = first_created(shop)
    shop.clock.advance(1)
    shop.provider.hold_calls()
    await shop.reconciler.turn()  # The search that would prove its absence is out.
    await asyncio.sleep(0.05)
    assert shop.provider.counts["find"] == 2

    await call_back(shop, nonce, provider_id)
    shop.provider.resume_calls()
    await shop.reconciler.settled()
    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert len(shop.provider.created) == 1
    assert await spent(shop) == (PRICE, 0)


async def test_an_input_fetched_while_a_search_finds_nothing_stops_the_resend(
    shop_of: Any,
) -> None:
    shop = await shop_of(RUN, UNSEEN)
    generation = await shop.start()
    await shop.live(119)
    _, nonce = first_created(shop)
    shop.clock.advance(1)
    shop.provider.hold_calls()
    await shop.reconciler.turn()
    await asyncio.sleep(0.05)

    await shop.generations.note_fetch(nonce)
    shop.provider.resume_calls()
    await shop.reconciler.settled()
    await shop.turn()

    assert (await shop.get(generation)).state is State.SUBMITTING
    assert shop.provider.counts["create"] == 1


async def test_a_late_twin_is_found_by_list_and_ended(shop_of: Any) -> None:
    late = Script(create=Create.LOST_ANSWER, run_s=1_000, cost_micros=11, listed_s=200)
    shop = await shop_of(Script(run_s=30, cost_micros=7), late)
    generation = await shop.start()
    done = await shop.live_until_final(generation)

    await shop.live(120, step_s=20)
    await shop.reconciler.keep_house()

    assert done.state is State.SUCCEEDED
    assert await states(shop, generation) == [("canceled", 11, True), ("succeeded", 7, False)]
    assert await spent(shop) == (PRICE, 0)


async def test_a_late_search_ends(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=30), Script(create=Create.LOST_REQUEST))
    generation = await shop.start()
    await shop.live_until_final(generation)
    await shop.reconciler.keep_house()
    assert (await shop.attempts(generation))[0].finished_at is None

    shop.clock.advance(900)
    await shop.reconciler.keep_house()
    asked = shop.provider.counts["find"]
    await shop.reconciler.keep_house()

    row = (await shop.attempts(generation))[0]
    assert (row.state, row.finished_at) == ("absent", shop.clock.now())
    assert shop.provider.counts["find"] == asked


async def test_a_clock_that_jumps_ends_no_late_search(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=30), Script(create=Create.LOST_REQUEST))
    generation = await shop.start()
    await shop.live_until_final(generation)
    shop.clock.jump(1_000)
    await shop.reconciler.keep_house()
    await shop.reconciler.keep_house()
    assert (await shop.attempts(generation))[0].finished_at is None

    shop.clock.advance(120)
    await shop.reconciler.keep_house()

    assert (await shop.attempts(generation))[0].finished_at == shop.clock.now()


# Twins


async def test_a_callback_of_the_other_twin_first(shop_of: Any) -> None:
    shop = await shop_of(RUN, Script(create=Create.DOUBLED, run_s=100, cost_micros=7))

    async def call_about_the_first(nonce: Nonce, _provider_id: ProviderId) -> None:
        await call_back(shop, nonce, first_created(shop)[0])

    shop.provider.on_created = call_about_the_first
    generation = await shop.start()
    await shop.live(5)
    await shop.reconciler.keep_house()
    done = await shop.live_until_final(generation)

    first, second = shop.provider.created
    rows = {row.provider_id: row for row in await shop.attempts(generation)}
    assert done.state is State.SUCCEEDED
    assert (rows[first].state, rows[first].twin_of) == ("succeeded", None)
    assert (rows[second].state, rows[second].twin_of) == ("canceled", 1)
    assert rows[second].loss_transfer_id is not None
    assert await spent(shop) == (PRICE, 0)
    # A customer made one order and is told of one attempt.
    assert len((await shop.generations.receipt(ALICE, generation.id)).attempts) == 1


async def test_a_callback_of_the_other_twin_last(shop_of: Any) -> None:
    shop = await shop_of(RUN, Script(create=Create.DOUBLED, run_s=100, cost_micros=7))
    generation = await shop.start()
    await shop.live(5)
    twin, nonce = first_created(shop)

    for delivery in ("d1", "d2"):
        assert await call_back(shop, nonce, twin, delivery=delivery) is Taken.NEW
    await shop.reconciler.keep_house()
    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert await states(shop, generation) == [("succeeded", 7, False), ("canceled", 7, True)]
    assert await spent(shop) == (PRICE, 0)


async def test_after_a_twin_the_next_attempt_has_a_number_of_its_own(shop_of: Any) -> None:
    doubled = Script(create=Create.DOUBLED, run_s=2, end="canceled")
    shop = await shop_of(RUN, doubled)
    generation = await shop.start()
    await shop.turn()
    twin, nonce = first_created(shop)
    await call_back(shop, nonce, twin)
    job_attempts = await shop.attempts(generation)
    assert [row.attempt for row in job_attempts] == [1, 2]

    assert (await shop.live_until_final(generation)).state is State.FAILED
    await shop.reconciler.keep_house()
    assert [row.state for row in await shop.attempts(generation)] == ["canceled", "canceled"]


# Callbacks that say nothing new


async def test_a_delivery_counts_once(shop_of: Any) -> None:
    shop = await shop_of()
    await shop.start()
    await shop.turn()
    provider_id, nonce = first_created(shop)

    assert await call_back(shop, nonce, provider_id) is Taken.NEW
    assert await call_back(shop, nonce, provider_id) is Taken.REPEATED
    assert await call_back(shop, nonce, provider_id, delivery="d2") is Taken.NEW
    await shop.live(1)
    assert shop.provider.counts["read"] == 1


async def test_an_unknown_nonce_leaves_no_trace(shop_of: Any) -> None:
    shop = await shop_of()

    assert await call_back(shop, Nonce("nobodys"), ProviderId("x")) is Taken.UNKNOWN
    other = Callback(provider="replicate", nonce=Nonce("n"), provider_id=None, delivery_id="d")
    assert await shop.generations.take_callback(other) is Taken.UNKNOWN
    count = select(func.count()).select_from(callbacks_seen)
    assert await shop.db.read(lambda tx: tx.execute(count).scalar_one()) == 0


async def test_a_nonce_belongs_to_one_provider(shop_of: Any) -> None:
    shop = await shop_of()
    generation = await shop.start()
    await shop.turn()
    nonce = Nonce((await shop.attempts(generation))[0].nonce)
    forged = Callback(provider="other", nonce=nonce, provider_id=None, delivery_id="d")

    assert await shop.generations.take_callback(forged) is Taken.UNKNOWN


async def test_the_prediction_of_another_attempt_is_not_bound(shop_of: Any) -> None:
    shop = await shop_of(RUN, RUN, UNSEEN)
    running, waiting = await shop.start(), await shop.start()
    await shop.turn()
    rows = [(await shop.attempts(one))[0] for one in (running, waiting)]
    known, lost = sorted(rows, key=lambda row: row.provider_id is None)

    assert await call_back(shop, Nonce(lost.nonce), ProviderId(known.provider_id)) is Taken.NEW
    await shop.turn()

    after_it = {row.nonce: row for g in (running, waiting) for row in await shop.attempts(g)}
    assert after_it[lost.nonce].provider_id is None
    assert after_it[known.nonce].provider_id == known.provider_id


async def test_a_callback_of_an_earlier_attempt_asks_nobody(shop_of: Any) -> None:
    shop = await shop_of(RUN, Script(create=Create.LOST_REQUEST))
    generation = await shop.start()
    await shop.live(125)
    first, _ = await shop.attempts(generation)
    reads = shop.provider.counts["read"]

    await call_back(shop, Nonce(first.nonce), None)
    await shop.turn()

    assert shop.provider.counts["read"] == reads


async def test_old_callbacks_are_forgotten(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=1))
    generation = await shop.start()
    await shop.live_until_final(generation)
    provider_id, nonce = first_created(shop)
    await call_back(shop, nonce, provider_id)

    shop.clock.advance(8 * 86_400)
    await shop.reconciler.keep_house()

    count = select(func.count()).select_from(callbacks_seen)
    assert await shop.db.read(lambda tx: tx.execute(count).scalar_one()) == 0


async def test_a_stray_that_cannot_be_canceled_holds_up_no_other(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=5_000))
    for _ in range(3):
        await shop.start()
    await shop.live(2)
    listed = (await shop.generations.list(ALICE)).items
    shop.provider.fail_cancels(100, ProviderTimedOut("no answer"))
    for generation in listed:
        await shop.generations.cancel(ALICE, generation.id)
    await shop.live(40)
    shop.provider._faults.cancels.clear()
    shop.provider.fail_cancels(1, ProviderTimedOut("no answer"))

    await shop.reconciler.keep_house()

    ended = [(await states(shop, generation))[0][0] for generation in listed]
    assert sorted(ended) == ["canceled", "canceled", "starting"]
    assert await spent(shop) == (0, 0)
