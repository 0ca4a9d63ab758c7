"""The life of a generation, from the order to its end, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sayso.clock import SECOND, Instant, after
from sayso.db.connect import Database
from sayso.errors import (
    ArtifactMissing,
    GenerationActive,
    InsufficientCredits,
    KeyReused,
    NoSuchGeneration,
    OutputLost,
    ProviderTimedOut,
    QueueFull,
    StillCreating,
    StoreUnavailable,
    VideoRefused,
)
from sayso.generations.generation import Key
from sayso.generations.lane import LaneLimits
from sayso.generations.rules import State
from sayso.ids import ArtifactId, GenerationId, Nonce, ProviderId
from sayso.providers.base import Failure, FailureKind
from sayso.providers.scripted import TRAITS, Create, Script
from tests.builders import ALICE, BOB, NOON
from tests.workshop import DOLLAR, MODEL, PRICE, Workshop, together

pytestmark = pytest.mark.anyio

WHOLE = 5 * DOLLAR
BAD_LUCK = Failure(FailureKind.TRANSIENT, "provider_busy", "The provider was interrupted.", "PA")


@pytest.fixture
def shop_of(database: Database, tmp_path: Path) -> Any:
    async def open_shop(script: Script | None = None, **options: Any) -> Workshop:
        return await Workshop.open(database, tmp_path, script, **options)

    return open_shop


async def spent(shop: Workshop) -> tuple[int, int]:
    balance = await shop.balance()
    assert await shop.violations() == []
    return WHOLE - balance.total, balance.held


async def test_success_is_stored_captured_and_costs_its_price(shop_of: Any) -> None:
    shop = await shop_of(Script(start_s=1, run_s=20, cost_micros=190_000))
    generation = await shop.start()
    assert (generation.state, generation.status) == (State.CREATED, "starting")
    assert generation.progress.percent == 10
    assert generation == await shop.get(generation)
    assert await spent(shop) == (0, PRICE)

    done = await shop.live_until_final(generation)

    assert (done.state, done.status, done.credit_state) == (
        State.SUCCEEDED,
        "succeeded",
        "captured",
    )
    assert done.progress.percent == 100
    assert done.video_key is not None
    assert done.failed_at is None
    assert await spent(shop) == (PRICE, 0)
    receipt = await shop.generations.receipt(ALICE, generation.id)
    assert receipt.captured_micros == PRICE
    assert [line.state for line in receipt.attempts] == ["succeeded"]


async def test_statuses_and_percents_only_go_forwards(shop_of: Any) -> None:
    shop = await shop_of(Script(start_s=8, run_s=40, measures=True))
    generation = await shop.start()
    seen = []
    while not (now := await shop.get(generation)).is_final:
        seen.append((now.status, now.progress.percent, now.version))
        await shop.live(1)

    statuses = [status for status, _, _ in seen]
    assert statuses == sorted(statuses, key=["starting", "processing"].index)
    assert [percent for _, percent, _ in seen] == sorted(percent for _, percent, _ in seen)
    assert 30 < max(percent for _, percent, _ in seen) <= 95
    versions = sorted({version for _, _, version in seen})
    # Nothing is written without news: about one change for each look, not one for each second.
    assert len(versions) <= 12


async def test_without_a_measure_the_percent_is_an_estimate_in_steps_of_five(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=30))
    generation = await shop.start()

    await shop.live(15)

    now = await shop.get(generation)
    assert now.progress.basis == "estimated"
    assert 10 < now.progress.percent < 90
    assert now.progress.percent % 5 == 0


async def test_failure_releases_the_hold_and_says_why(shop_of: Any) -> None:
    reason = Failure(FailureKind.PERMANENT, "input_flagged", "The inputs were refused.", "E005 raw")
    shop = await shop_of(Script(end="failed", failure=reason, run_s=3))
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert (done.state, done.error_code, done.error) == (
        State.FAILED,
        "input_flagged",
        "The inputs were refused.",
    )
    assert done.failed_at == done.completed_at
    assert await spent(shop) == (0, 0)
    assert (await shop.attempts(generation))[0].raw_error == "E005 raw"


async def test_success_without_a_video_is_a_failure(shop_of: Any) -> None:
    shop = await shop_of(Script(has_output=False, run_s=3, cost_micros=70))
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert (done.state, done.error) == (State.FAILED, "No video URL returned from Scripted")
    assert await spent(shop) == (0, 0)


async def test_a_silent_provider_ends_at_the_deadline(shop_of: Any) -> None:
    shop = await shop_of(Script(end="never"))
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert (done.state, done.error) == (State.FAILED, "Generation timed out after 10 minutes")
    assert done.completed_at is not None
    assert 600 <= (done.completed_at - NOON) / 1e6 <= 605
    assert await spent(shop) == (0, 0)
    assert shop.provider.counts["cancel"] >= 1


async def test_a_success_that_beats_the_deadline_is_delivered_and_paid(shop_of: Any) -> None:
    # The provider takes 10 s to cancel, and is done 4 s after the deadline.
    shop = await shop_of(Script(start_s=0, run_s=604, cancel_s=10))
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert await spent(shop) == (PRICE, 0)


async def test_a_provider_that_goes_on_after_the_deadline_costs_the_customer_nothing(
    shop_of: Any,
) -> None:
    shop = await shop_of(Script(start_s=0, run_s=700, ignores_cancel=True, cost_micros=99))
    generation = await shop.start()

    done = await shop.live_until_final(generation)
    await shop.live(100, step_s=20)
    await shop.reconciler.keep_house()

    assert done.error == "Generation timed out after 10 minutes"
    assert (await shop.get(generation)).state is State.FAILED
    row = (await shop.attempts(generation))[0]
    assert (row.state, row.cost_micros) == ("succeeded", 99)
    assert row.loss_transfer_id is not None
    assert await spent(shop) == (0, 0)


async def test_cancel_before_anything_is_sent_asks_no_provider(shop_of: Any) -> None:
    shop = await shop_of()
    generation = await shop.start()
    await shop.generations.cancel(ALICE, generation.id)

    await shop.turn()

    done = await shop.get(generation)
    assert (done.state, done.status, done.error) == (State.CANCELED, "canceled", None)
    assert shop.provider.counts["create"] == 0
    assert await spent(shop) == (0, 0)


async def test_cancel_of_a_running_generation_ends_it_upstream(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=100))
    generation = await shop.start()
    await shop.live(10)
    await shop.generations.cancel(ALICE, generation.id)

    await shop.live(3)

    assert (await shop.get(generation)).state is State.CANCELED
    assert await spent(shop) == (0, 0)
    assert [a.state for a in await shop.attempts(generation)] == ["canceled"]


async def test_a_success_that_beats_the_cancel_is_delivered_and_paid(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=20, cancel_s=10))
    generation = await shop.start()
    await shop.live(15)
    await shop.generations.cancel(ALICE, generation.id)

    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert await spent(shop) == (PRICE, 0)


async def test_a_cancel_that_the_provider_ignores_is_settled_after_a_grace(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=500, ignores_cancel=True))
    generation = await shop.start()
    await shop.live(10)
    await shop.generations.cancel(ALICE, generation.id)

    await shop.live(25)
    assert not (await shop.get(generation)).is_final
    await shop.live(8)

    assert (await shop.get(generation)).state is State.CANCELED
    assert await spent(shop) == (0, 0)


async def test_cancel_of_a_final_generation_changes_nothing(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=1))
    done = await shop.live_until_final(await shop.start())

    assert await shop.generations.cancel(ALICE, done.id) == done


async def test_cancel_after_is_the_customers_cancel(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=500))
    generation = await shop.start(cancel_after_s=30)

    done = await shop.live_until_final(generation)

    assert done.state is State.CANCELED
    assert done.completed_at is not None
    assert 30 <= (done.completed_at - NOON) / 1e6 <= 33


async def test_a_transient_failure_is_tried_again_at_most_twice(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=2, end="failed", failure=BAD_LUCK, cost_micros=5))
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert (done.state, done.error) == (State.FAILED, "The provider was interrupted.")
    attempts = await shop.attempts(generation)
    assert [(a.state, a.cost_micros) for a in attempts] == [("failed", 5)] * 3
    assert len({a.nonce for a in attempts}) == 3
    assert all(a.loss_transfer_id for a in attempts)
    assert await spent(shop) == (0, 0)


async def test_the_second_attempt_may_succeed(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=2))
    shop.provider.will(Script(run_s=2, end="failed", failure=BAD_LUCK))
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert await spent(shop) == (PRICE, 0)


async def test_a_refusal_for_now_waits_and_sends_the_same_attempt_again(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=2))
    shop.provider.will(Script(create=Create.REFUSED, retry_after_s=20))
    generation = await shop.start()

    await shop.live(15)
    assert (await shop.get(generation)).state is State.CREATED
    assert shop.provider.counts["create"] == 1
    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert len(await shop.attempts(generation)) == 1


async def test_a_rejected_order_is_a_failure_with_a_sentence(shop_of: Any) -> None:
    shop = await shop_of(Script(create=Create.REJECTED))
    generation = await shop.start()

    await shop.turn()

    done = await shop.get(generation)
    assert (done.state, done.error) == (State.FAILED, "The provider cannot use these inputs.")
    assert [(a.state, a.raw_error) for a in await shop.attempts(generation)] == [("refused", "422")]
    assert await spent(shop) == (0, 0)


async def test_a_lost_answer_is_found_and_paid_once(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=100, cost_micros=7))
    shop.provider.will(Script(create=Create.LOST_ANSWER, run_s=100, cost_micros=7))
    generation = await shop.start()
    await shop.live(30)
    assert (await shop.get(generation)).state is State.SUBMITTING

    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert shop.provider.counts["create"] == 1
    assert shop.provider.paid_micros() == 7
    assert await spent(shop) == (PRICE, 0)


async def test_a_lost_request_is_sent_again_only_when_it_is_proven_absent(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=10))
    shop.provider.will(Script(create=Create.LOST_REQUEST))
    generation = await shop.start()

    await shop.live(115)
    assert shop.provider.counts["create"] == 1
    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert [a.state for a in await shop.attempts(generation)] == ["absent", "succeeded"]
    assert len(shop.provider.created) == 1


async def test_creates_that_vanish_three_times_are_a_failure(shop_of: Any) -> None:
    shop = await shop_of(Script(create=Create.LOST_REQUEST))
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert (done.state, done.error_code) == (State.FAILED, "provider_error")
    assert shop.provider.counts["create"] == 3
    assert await spent(shop) == (0, 0)


async def test_an_idempotent_provider_is_asked_again_with_the_same_nonce(shop_of: Any) -> None:
    traits = replace(TRAITS, submit_is_idempotent=True)
    shop = await shop_of(Script(run_s=10), traits=traits)
    shop.provider.will(Script(create=Create.LOST_ANSWER, run_s=10))
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert (len(shop.provider.created), shop.provider.counts["create"]) == (1, 2)
    assert len(await shop.attempts(generation)) == 1
    assert shop.provider.counts["find"] == 0


async def test_a_stop_ends_what_an_idempotent_provider_never_answers(shop_of: Any) -> None:
    traits = replace(TRAITS, submit_is_idempotent=True)
    shop = await shop_of(Script(create=Create.LOST_REQUEST), traits=traits)
    generation = await shop.start()
    await shop.live(10)
    await shop.generations.cancel(ALICE, generation.id)

    await shop.live(40)

    assert (await shop.get(generation)).state is State.CANCELED
    assert await spent(shop) == (0, 0)


async def test_a_search_that_fails_is_repeated(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=10))
    shop.provider.will(Script(create=Create.LOST_ANSWER, run_s=10))
    generation = await shop.start()
    await shop.live(30)
    shop.provider.fail_reads(3, ProviderTimedOut("no answer"))

    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert shop.provider.counts["create"] == 1


async def test_a_model_that_left_the_catalogue_fails_what_was_not_sent(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=10))
    running = await shop.start()
    await shop.live(3)
    shop.catalogue._models.clear()
    waiting = await shop.start()

    assert (await shop.live_until_final(waiting)).error_code == "model_unknown"
    # What runs already needs no entry any more.
    assert (await shop.live_until_final(running)).state is State.SUCCEEDED
    assert await spent(shop) == (PRICE, 0)


async def test_a_late_twin_is_canceled_and_booked_as_our_loss(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=5))
    # It is listed so late that it counts as absent; then its callback comes.
    shop.provider.will(
        Script(create=Create.LOST_ANSWER, listed_s=10_000, run_s=1_000, cost_micros=11)
    )
    generation = await shop.start()
    done = await shop.live_until_final(generation)
    twin, nonce = next(iter(shop.provider.created.items()))

    assert await shop.generations.make_due(nonce=nonce, provider_id=twin)
    await shop.reconciler.keep_house()

    assert done.state is State.SUCCEEDED
    states = {a.attempt: (a.state, a.cost_micros) for a in await shop.attempts(generation)}
    assert states == {1: ("canceled", 11), 2: ("succeeded", 0)}
    assert await spent(shop) == (PRICE, 0)


async def test_a_callback_during_the_create_call_is_its_answer(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=5))

    async def call_back(nonce: Nonce, provider_id: ProviderId) -> None:
        assert await shop.generations.make_due(nonce=nonce, provider_id=provider_id)

    shop.provider.on_created = call_back
    shop.provider.will(Script(create=Create.LOST_ANSWER, run_s=5))
    generation = await shop.start()

    await shop.live(2)

    assert (await shop.get(generation)).state is State.RUNNING
    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert shop.provider.counts["find"] == 0


async def test_a_callback_of_an_unknown_nonce_is_told_apart(shop_of: Any) -> None:
    shop = await shop_of()

    assert not await shop.generations.make_due(nonce=Nonce("nobodys"), provider_id=None)


async def test_a_callback_makes_the_generation_due_at_once(shop_of: Any) -> None:
    shop = await shop_of(Script(start_s=0, run_s=1))
    generation = await shop.start()
    await shop.turn()
    shop.clock.advance(1)
    nonce = next(iter(shop.provider.created.values()))

    await shop.turn()
    assert not (await shop.get(generation)).is_final  # Its next look is in some seconds.
    await shop.generations.make_due(nonce=nonce)
    await shop.turn()

    assert (await shop.get(generation)).state is State.SUCCEEDED


async def test_an_unknown_status_waits(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=30, says_unknown_word=True))
    generation = await shop.start()

    await shop.live(20)
    assert (await shop.get(generation)).state is State.RUNNING

    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED


async def test_looks_that_fail_are_repeated(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=5))
    generation = await shop.start()
    shop.provider.fail_reads(4, ProviderTimedOut("no answer"))

    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED


async def test_a_hanging_provider_does_not_hold_up_the_deadline(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=1_000), limits=LaneLimits(call_s=0.02))
    generation = await shop.start()
    await shop.live(590, step_s=10)
    shop.provider.hold_calls()

    await shop.live(50, step_s=5)

    done = await shop.get(generation)
    assert done.error == "Generation timed out after 10 minutes"
    assert await spent(shop) == (0, 0)


async def test_storing_is_tried_again_until_it_works(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=2))
    shop.keeper.errors = [StoreUnavailable("full"), ProviderTimedOut("slow")]
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert done.state is State.SUCCEEDED
    assert await spent(shop) == (PRICE, 0)


async def test_storing_that_never_works_ends_with_a_release(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=2, cost_micros=3))
    shop.keeper.errors = [StoreUnavailable("full")] * 1_000
    generation = await shop.start()

    await shop.live(7_600, step_s=50)

    done = await shop.get(generation)
    assert (done.state, done.error_code) == (State.FAILED, "not_stored")
    assert await spent(shop) == (0, 0)
    assert (await shop.attempts(generation))[0].loss_transfer_id is not None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VideoRefused("There is no picture in it."), "video_refused"),
        (OutputLost("x"), "output_lost"),
    ],
)
async def test_a_video_that_cannot_be_used_is_a_failure(
    shop_of: Any, error: Exception, code: str
) -> None:
    shop = await shop_of(Script(run_s=2))
    shop.keeper.errors = [error]
    generation = await shop.start()

    done = await shop.live_until_final(generation)

    assert (done.state, done.error_code) == (State.FAILED, code)
    assert await spent(shop) == (0, 0)


async def test_a_free_model_needs_no_hold(shop_of: Any) -> None:
    free = replace(MODEL, rate_micros=0)
    shop = await shop_of(Script(run_s=2), balance=0, model=free)
    generation = await shop.start(model=free)

    done = await shop.live_until_final(generation)

    assert (done.state, done.credit_state) == (State.SUCCEEDED, None)
    assert await shop.violations() == []


# Orders


async def test_an_order_that_cannot_be_paid_leaves_nothing(shop_of: Any) -> None:
    shop = await shop_of(balance=PRICE - 1)
    key = Key(account_id=ALICE, key="k", fingerprint="f")

    for _ in range(2):
        with pytest.raises(InsufficientCredits):
            await shop.start(key=key)

    assert (await shop.generations.list(ALICE)).items == ()
    assert (await shop.balance()).held == 0


async def test_a_full_queue_refuses_before_the_hold(shop_of: Any) -> None:
    shop = await shop_of(queues={"scripted": 2})
    await shop.start()
    await shop.start()

    with pytest.raises(QueueFull) as refused:
        await shop.start()

    assert refused.value.retry_after_s > 0
    assert (await shop.balance()).held == 2 * PRICE


async def test_an_input_that_was_deleted_is_refused(shop_of: Any) -> None:
    shop = await shop_of()

    with pytest.raises(ArtifactMissing):
        await shop.start(portrait_id=ArtifactId("gone"))


async def test_fifty_equal_keys_are_one_generation_and_one_hold(shop_of: Any) -> None:
    """Twenty times over: a thousand requests."""
    shop = await shop_of()

    for number in range(1, 21):
        key = Key(account_id=ALICE, key=f"again-{number}", fingerprint="same", wait_s=20)
        answers = await together([shop.place(key=key) for _ in range(50)])

        assert len({answer.generation.id for answer in answers}) == 1
        assert sum(answer.is_new for answer in answers) == 1
        assert (await shop.balance()).held == number * PRICE


async def test_a_key_stands_for_one_request(shop_of: Any) -> None:
    shop = await shop_of()
    first = await shop.place(key=Key(account_id=ALICE, key="k", fingerprint="one"))

    with pytest.raises(KeyReused):
        await shop.place(key=Key(account_id=ALICE, key="k", fingerprint="other"))
    again = await shop.place(key=Key(account_id=ALICE, key="k", fingerprint="one"))

    assert (again.is_new, again.generation.id) == (False, first.generation.id)


async def test_a_fresh_key_stands_for_a_new_generation(shop_of: Any) -> None:
    shop = await shop_of()
    key = Key(account_id=ALICE, key="k", fingerprint="one", is_fresh=True)

    first, second = await shop.place(key=key), await shop.place(key=key)

    assert (second.is_new, second.generation.id != first.generation.id) == (True, True)


async def test_a_key_in_use_is_refused_and_given_back_by_a_failed_order(shop_of: Any) -> None:
    shop = await shop_of()
    key = Key(account_id=ALICE, key="k", fingerprint="one")
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow_order() -> Any:
        entered.set()
        await leave.wait()
        raise NoSuchGeneration("something is wrong with the inputs")

    first = asyncio.create_task(shop.generations.start(slow_order, key=key))
    await entered.wait()
    with pytest.raises(StillCreating):
        await shop.start(key=key)
    leave.set()
    with pytest.raises(NoSuchGeneration):
        await first

    assert (await shop.place(key=key)).is_new


async def test_a_key_of_a_dead_process_can_be_used_again(shop_of: Any) -> None:
    shop = await shop_of()
    key = Key(account_id=ALICE, key="k", fingerprint="one")
    assert not hasattr(await shop.generations._reserve(key), "id")
    with pytest.raises(StillCreating):
        await shop.start(key=key)

    shop.clock.advance(301)

    assert (await shop.place(key=key)).is_new


# Reads


async def test_lists_are_newest_first_and_paged(shop_of: Any) -> None:
    shop = await shop_of()
    started = []
    for _ in range(5):
        started.append((await shop.start()).id)
        shop.clock.advance(1)

    first = await shop.generations.list(ALICE, limit=2)
    second = await shop.generations.list(ALICE, limit=2, cursor=first.next)
    third = await shop.generations.list(ALICE, limit=2, cursor=second.next)

    again = await shop.generations.list(ALICE, limit=2, cursor=third.previous)
    begin = await shop.generations.list(ALICE, limit=2, cursor=again.previous)

    listed = [g.id for piece in (first, second, third) for g in piece.items]
    assert listed == started[::-1]
    assert (third.next, first.previous) == (None, None)
    assert (again, begin) == (second, first)
    # Bounds of time hold on the way back too.
    until = third.items[0].created_at + 2 * SECOND
    bounded = await shop.generations.list(
        ALICE, cursor=third.previous, created_before=Instant(until)
    )
    assert (bounded.items, bounded.previous) == (second.items[1:], None)
    assert (await shop.generations.list(BOB)).items == ()


async def test_a_generation_of_another_account_does_not_exist(shop_of: Any) -> None:
    shop = await shop_of()
    generation = await shop.start()

    for call in (shop.generations.get, shop.generations.cancel, shop.generations.receipt):
        with pytest.raises(NoSuchGeneration):
            await call(BOB, generation.id)
    with pytest.raises(NoSuchGeneration):
        await shop.generations.get(ALICE, GenerationId("nobody"))


async def test_changes_are_told_in_order_since_a_version(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=5))
    first = await shop.start()
    shop.clock.advance(1)
    second = await shop.start()

    everything = await shop.generations.changed_since(ALICE, 0)
    assert [g.id for g in everything] == [first.id, second.id]
    done = await shop.live_until_final(first)
    later = await shop.generations.changed_since(ALICE, everything[-1].version)

    assert {g.id for g in later} == {first.id, second.id}
    assert all(g.version > everything[-1].version for g in later)
    assert done.version in {g.version for g in later}


async def test_wait_returns_when_it_is_final(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=1))
    generation = await shop.start()
    waiting = asyncio.create_task(shop.generations.wait(ALICE, generation.id, timeout_s=60))
    await shop.live_until_final(generation)

    assert (await waiting).state is State.SUCCEEDED
    other = await shop.start()
    assert not (await shop.generations.wait(ALICE, other.id, timeout_s=0)).is_final


async def test_delete_waits_for_the_end_and_takes_files_that_nobody_shares(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=1))
    first, second = await shop.start(), await shop.start()
    with pytest.raises(GenerationActive):
        await shop.generations.delete(ALICE, first.id)
    await shop.live_until_final(first)
    await shop.live_until_final(second)

    await shop.generations.delete(ALICE, first.id)
    with pytest.raises(NoSuchGeneration):
        await shop.generations.get(ALICE, first.id)
    # The second one still uses the inputs.
    assert (await shop.get(second)).portrait_id == shop.portrait_id
    await shop.generations.delete(ALICE, second.id)

    with pytest.raises(ArtifactMissing):
        await shop.start()
    assert await spent(shop) == (2 * PRICE, 0)


async def test_the_generations_of_a_provider_that_is_gone_end_at_their_deadline(
    shop_of: Any,
) -> None:
    shop = await shop_of(Script(run_s=1_000))
    generation = await shop.start()
    await shop.turn()
    without = shop.another_reconciler(providers=[])

    for _ in range(12):
        shop.clock.advance(60)
        await without.turn()
        await without.settled()

    done = await shop.get(generation)
    assert done.error == "Generation timed out after 10 minutes"
    assert await spent(shop) == (0, 0)


async def test_the_history_of_a_model_makes_the_estimate(shop_of: Any) -> None:
    # The catalogue says 20 s for such a speech; it takes 200.
    shop = await shop_of(Script(start_s=0, run_s=200))
    for _ in range(3):
        await shop.start()
    await shop.live(220, step_s=5)
    await shop.reconciler.keep_house()
    generation = await shop.start()

    await shop.live(100, step_s=5)

    assert 40 <= (await shop.get(generation)).progress.percent <= 55


# Several reconcilers


async def test_a_claim_is_not_taken_twice_until_its_lease_is_over(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=5), limits=LaneLimits(call_s=1_000))
    generation = await shop.start()
    shop.provider.hold_calls()
    await shop.reconciler.turn()  # The create call is out, and hangs.
    await asyncio.sleep(0)

    shop.clock.advance(60)
    other = shop.another_reconciler()
    await other.turn()
    assert other.figures.claimed == 0

    shop.provider.resume_calls()
    await shop.reconciler.settled()
    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert shop.provider.counts["create"] == 1


async def test_an_answer_that_comes_after_the_lease_is_recorded_all_the_same(shop_of: Any) -> None:
    shop = await shop_of(Script(run_s=5), limits=LaneLimits(call_s=1_000))
    generation = await shop.start()
    shop.provider.hold_calls()
    await shop.reconciler.turn()
    await asyncio.sleep(0)

    shop.clock.advance(200)  # The lease is over; another process searches, in vain.
    shop.provider.resume_calls()
    await shop.reconciler.settled()

    assert (await shop.attempts(generation))[0].provider_id is not None
    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert after(NOON, 200) <= shop.clock.now()
    assert shop.provider.counts["create"] == 1


@pytest.mark.parametrize("text", ["half \ud83d", "\0 in it"], ids=["half a character", "NUL"])
async def test_texts_that_no_database_takes_do_not_keep_a_generation_open(
    shop_of: Any, text: str
) -> None:
    """A model logs what it likes; cut in the middle of a character it still has to be written."""
    bad = Failure(FailureKind.PERMANENT, "bad", "The model failed.", raw=text)
    shop = await shop_of(Script(start_s=0, run_s=5))
    look = shop.provider._look
    shop.provider._look = lambda running: replace(look(running), logs=text)
    good = await shop.live_until_final(await shop.start())
    shop.provider.will(Script(start_s=0, end="failed", failure=bad))
    failed = await shop.live_until_final(await shop.start())

    told = text.replace("\0", "\ufffd").replace("\ud83d", "\ufffd")
    assert (good.state, good.logs) == (State.SUCCEEDED, told)
    assert failed.state is State.FAILED
    assert (await shop.attempts(failed))[0].raw_error == told
    assert await spent(shop) == (PRICE, 0)
