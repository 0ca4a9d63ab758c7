"""Every habit and fault of Replicate, through the provider and the whole life of a generation.

One outcome each: the customer pays once, for a video that is kept; or the hold is released, with a
sentence that names no bill, host or code of somebody else. The upstream is the faithful fake.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sayso.clock import SettableClock
from sayso.db.connect import Database, open_database
from sayso.generations.generation import Generation
from sayso.providers.scripted import Create, Script
from tests.builders import NOON
from tests.replicate_shop import HELD, PAID, RELEASED, ReplicateShop
from tests.upstream import RUNS, CallKind, Fault, Run, Upstream
from tests.upstream.serving import served
from tests.upstream.switches import HookHabits
from tests.upstream.transport import Rerouted

pytestmark = pytest.mark.anyio

TRANSIENT = (
    *("interrupted", "director", "health_check", "start_error", "director_other"),
    *("stopped_early", "upload_failed", "unavailable", "high_demand", "unknown_code"),
    *("prompt_newlines", "fails_unstarted", "input_forbidden"),
)
PERMANENT = {
    "sensitive": "input_flagged",
    "sensitive_traced": "input_flagged",
    "nsfw": "input_flagged",
    "vendor_credits": "provider_fault",
    "vendor_key": "provider_fault",
    "out_of_memory": "too_much_for_model",
    "killed": "too_much_for_model",
    "memory_code": "too_much_for_model",
    "timed_out": "timed_out",
    "empty": "provider_failed",
    "fails_without_text": "provider_failed",
    "canceled_by_them": "provider_error",
    "null_output": "no_output",
    "empty_list": "no_output",
    "output_lost": "output_lost",
}
GOOD = ("succeeds", "list_output", "object_output", "unknown_word")
# What a customer must never read.
THEIRS = re.compile(r"replicate\.com|replicate\.delivery|billing|\bE\d{3,4}\b|code: PA|https?://")


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOON)


@pytest.fixture
def upstream(clock: SettableClock) -> Upstream:
    return Upstream(clock, random=Random(1))


@pytest.fixture
async def database(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Database]:
    """SQLite alone: what is tested is on the other side."""
    shutil.copy(sqlite_template, tmp_path / "sayso.db")
    db = await open_database(f"sqlite:///{tmp_path / 'sayso.db'}")
    yield db
    await db.close()


OpenShop = Callable[..., Awaitable[ReplicateShop]]


@pytest.fixture
async def shop_of(
    database: Database, tmp_path: Path, upstream: Upstream, clock: SettableClock
) -> AsyncIterator[OpenShop]:
    opened: list[ReplicateShop] = []

    async def open_shop(**options: Any) -> ReplicateShop:
        opened.append(await ReplicateShop.open(database, tmp_path, upstream, clock, **options))
        return opened[-1]

    yield open_shop
    for shop in opened:
        await shop.close()
    assert upstream.leaks == []
    # Nothing is left running for nobody, beyond what ends by itself.
    clock.advance(3600)
    assert upstream.alive() == []


async def ended(shop: ReplicateShop, **options: Any) -> Generation:
    """Run one generation to its end, and look at what a customer reads of it."""
    generation = await shop.live_until_final(await shop.start(), **options)
    assert THEIRS.search(f"{generation.error} {generation.logs}") is None
    return generation


# What predictions do.


@pytest.mark.parametrize("name", GOOD)
async def test_a_video_is_paid_once(shop_of: OpenShop, upstream: Upstream, name: str) -> None:
    shop = await shop_of()
    upstream.always(RUNS[name])

    generation = await ended(shop)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)
    assert len(upstream.predictions) == 1


@pytest.mark.parametrize("name", TRANSIENT)
async def test_bad_luck_is_tried_again(shop_of: OpenShop, upstream: Upstream, name: str) -> None:
    shop = await shop_of()
    upstream.will(RUNS[name], RUNS[name])

    generation = await ended(shop)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)
    assert [state for state, _ in await shop.attempts()] == ["failed", "failed", "succeeded"]


@pytest.mark.parametrize("name", TRANSIENT)
async def test_bad_luck_ends_at_the_third_time(
    shop_of: OpenShop, upstream: Upstream, name: str
) -> None:
    shop = await shop_of()
    upstream.always(RUNS[name])

    generation = await ended(shop)

    assert (generation.status, await shop.money()) == ("failed", RELEASED)
    assert len(upstream.predictions) == 3


@pytest.mark.parametrize("name", PERMANENT)
async def test_what_would_fail_again_is_released_at_once(
    shop_of: OpenShop, upstream: Upstream, name: str
) -> None:
    shop = await shop_of()
    upstream.will(RUNS[name])

    generation = await ended(shop)

    assert (generation.status, generation.error_code) == ("failed", PERMANENT[name])
    assert await shop.money() == RELEASED
    assert len(upstream.predictions) == 1


async def test_every_run_is_tried() -> None:
    of_their_own = {
        *("stuck_starting", "stuck_processing", "ignores_cancel", "slow_cancel"),
        "output_unavailable",
    }
    assert {*GOOD, *TRANSIENT, *PERMANENT, *of_their_own} == set(RUNS)


@pytest.mark.parametrize("name", ["stuck_starting", "stuck_processing"])
async def test_what_never_ends_is_given_up_and_canceled_there(
    shop_of: OpenShop, upstream: Upstream, name: str
) -> None:
    shop = await shop_of()
    upstream.will(RUNS[name])

    generation = await ended(shop)

    assert generation.error == "Generation timed out after 10 minutes"
    assert await shop.money() == RELEASED
    (made,) = upstream.predictions.values()
    assert made.canceled_at is not None


@pytest.mark.parametrize("says", ["truth", "canceled"])
@pytest.mark.parametrize("name", ["ignores_cancel", "slow_cancel", "succeeds"])
async def test_a_cancel_that_races_has_one_outcome(
    shop_of: OpenShop, upstream: Upstream, name: str, says: str
) -> None:
    """Who wins is told by the next look, whatever the answer to the cancel says."""
    shop = await shop_of()
    upstream.switch(cancel_says=says)
    upstream.will(RUNS[name])
    generation = await shop.start()
    await shop.live(6)
    await shop.generations.cancel(generation.account_id, generation.id)

    generation = await shop.live_until_final(generation)

    expected = ("canceled", RELEASED) if name == "succeeds" else ("succeeded", PAID)
    assert (generation.status, await shop.money()) == expected


@pytest.mark.parametrize("habit", ["as it is", "404", "409"])
async def test_a_cancel_after_the_end_changes_nothing(
    shop_of: OpenShop, upstream: Upstream, habit: str
) -> None:
    """It ended there a moment before; we have not looked since."""
    shop = await shop_of()
    upstream.switch(cancel_of_final=habit)
    generation = await shop.start()
    await shop.live(6)
    shop.clock.advance(10)
    await shop.generations.cancel(generation.account_id, generation.id)

    generation = await shop.live_until_final(generation)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)


async def test_a_video_that_cannot_be_fetched_for_now_is_fetched_later(
    shop_of: OpenShop, upstream: Upstream
) -> None:
    shop = await shop_of()
    upstream.will(RUNS["output_unavailable"])
    generation = await shop.start()
    await shop.live(60)
    waiting = await shop.get(generation)
    (made,) = upstream.predictions.values()
    made.run = RUNS["succeeds"]

    generation = await shop.live_until_final(generation)

    assert (waiting.status, generation.status) == ("processing", "succeeded")
    assert await shop.money() == PAID


async def test_a_video_that_is_gone_when_we_come_is_not_paid(
    shop_of: OpenShop, upstream: Upstream
) -> None:
    """We were down for more than the hour that Replicate keeps it."""
    shop = await shop_of()
    generation = await shop.start()
    await shop.live(3)
    shop.clock.advance(4000)

    generation = await shop.live_until_final(generation)

    assert generation.error == "No video URL returned from Replicate"
    assert await shop.money() == RELEASED


async def test_a_deadline_of_theirs_is_a_time_out(shop_of: OpenShop, upstream: Upstream) -> None:
    """It was never begun, and `aborted` says so; we were down meanwhile."""
    shop = await shop_of()
    upstream.will(RUNS["stuck_starting"])
    generation = await shop.start()
    await shop.live(3)
    shop.clock.advance(700)

    generation = await shop.live_until_final(generation)

    assert [upstream.state(made).status for made in upstream.predictions] == ["aborted"]
    assert (generation.status, generation.error_code) == ("failed", "timed_out")
    assert await shop.money() == RELEASED
    assert await shop.attempts() == [("failed", 0)]


async def test_what_they_gave_up_before_it_began_is_not_waited_for(
    database: Database, tmp_path: Path, clock: SettableClock
) -> None:
    """Their clock is set, so that their deadline is over long before ours."""
    theirs = SettableClock(NOON)
    upstream = Upstream(theirs, run=RUNS["stuck_starting"])
    shop = await ReplicateShop.open(database, tmp_path, upstream, clock)
    shop.other_clocks.append(theirs)
    generation = await shop.start()
    await shop.live(30)
    theirs.jump(700)

    generation = await shop.live_until_final(generation, most_s=60)

    assert [upstream.state(made).status for made in upstream.predictions] == ["aborted"]
    assert generation.error == "Replicate did not start the generation in time."
    assert await shop.attempts() == [("failed", 0)]
    assert await shop.money() == RELEASED
    await shop.close()


# What becomes of calls.


@pytest.mark.parametrize("public", [False, True], ids=["polling", "callbacks"])
@pytest.mark.parametrize("fault", Fault)
async def test_a_create_that_goes_wrong_runs_once(
    shop_of: OpenShop, upstream: Upstream, fault: Fault, *, public: bool
) -> None:
    """What was taken is found, what was not is sent again; in no case are there two."""
    shop = await shop_of(public=public)
    upstream.fail("create", fault)

    generation = await ended(shop)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)
    assert len(upstream.predictions) == 1
    assert upstream.counts["create"] == (1 if fault.has_effect else 2)


@asynccontextmanager
async def over_sockets(upstream: Upstream) -> AsyncIterator[Rerouted]:
    """Give the way to the upstream over real HTTP; it is asked by nobody else."""
    with served(upstream, slow_s=3, lives=False) as addresses:
        transport = Rerouted(addresses)
        yield transport
        await transport.aclose()


@pytest.mark.parametrize("kind", ["create", "read", "file", "output"])
@pytest.mark.parametrize(
    "fault", [Fault.RESET_BEFORE, Fault.RESET_AFTER, Fault.CUT, Fault.SLOW, Fault.LOST]
)
async def test_connections_that_break_cost_nothing(
    shop_of: OpenShop, upstream: Upstream, fault: Fault, kind: CallKind
) -> None:
    """The same with sockets that are really cut, or silent for longer than we wait."""
    async with over_sockets(upstream) as transport:
        shop = await shop_of(transport=transport, idle_s=0.5, total_s=2)
        upstream.fail(kind, fault)

        generation = await ended(shop, step_s=2)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)
    assert len(upstream.predictions) == 1
    assert upstream.counts[kind] >= 2 or (kind == "create" and fault.has_effect)


# A video that lies where we do not fetch from, or is whole as HTTP but half as MP4, is refused.
REFUSED_OUTPUTS = (Fault.REDIRECT, Fault.BAD_JSON)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (kind, fault)
        for kind in ("read", "list", "file", "output")
        for fault in Fault
        if kind != "output" or fault not in REFUSED_OUTPUTS
    ],
)
async def test_other_calls_that_go_wrong_are_made_again(
    shop_of: OpenShop, upstream: Upstream, kind: CallKind, fault: Fault
) -> None:
    shop = await shop_of()
    if kind == "list":
        # Lists are asked for where an answer was lost.
        upstream.fail("create", Fault.SLOW)
    upstream.fail(kind, fault, fault)

    generation = await ended(shop)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)
    assert len(upstream.predictions) == 1
    assert upstream.counts[kind] > 2


@pytest.mark.parametrize("fault", REFUSED_OUTPUTS)
async def test_a_video_that_cannot_be_used_is_not_paid(
    shop_of: OpenShop, upstream: Upstream, fault: Fault
) -> None:
    shop = await shop_of()
    upstream.fail("output", fault)

    generation = await ended(shop)

    assert (generation.status, await shop.money()) == ("failed", RELEASED)
    assert upstream.counts["output"] == 1


@pytest.mark.parametrize("fault", Fault)
async def test_a_cancel_that_goes_wrong_still_ends_it(
    shop_of: OpenShop, upstream: Upstream, fault: Fault
) -> None:
    shop = await shop_of()
    upstream.will(RUNS["stuck_processing"])
    upstream.fail("cancel", fault)
    generation = await shop.start()
    await shop.live(6)
    await shop.generations.cancel(generation.account_id, generation.id)

    generation = await shop.live_until_final(generation)

    assert (generation.status, await shop.money()) == ("canceled", RELEASED)
    assert upstream.alive() == []


@pytest.mark.parametrize("kind", ["secret", "model"])
@pytest.mark.parametrize("fault", Fault)
async def test_calls_beside_that_go_wrong_are_made_again(
    shop_of: OpenShop, upstream: Upstream, kind: CallKind, fault: Fault
) -> None:
    """The secret of callbacks, and the version of a model of the community."""
    shop = await shop_of(public=True)
    upstream.switch(checks_inputs=False)
    upstream.fail(kind, fault, fault)
    shop.model = shop.catalogue.find("lucataco/sadtalker")

    generation = await ended(shop, most_s=2_400)

    assert generation.status == "succeeded"
    assert len(upstream.predictions) == 1
    assert upstream.counts[kind] > 2


@pytest.mark.parametrize(
    "fault", [None, Fault.SLOW, Fault.CUT, Fault.BAD_JSON, Fault.HTML_502, Fault.THROTTLED]
)
async def test_many_at_once_are_looked_at_by_list(
    shop_of: OpenShop, upstream: Upstream, fault: Fault | None
) -> None:
    """Whatever lists do, each of them ends once, and looks stay few."""
    shop = await shop_of()
    upstream.always(Run(script=Script(start_s=5, run_s=60)))
    if fault is not None:
        upstream.chance("list", fault, 0.5)
    started = [await shop.start() for _ in range(20)]

    ends = [await shop.live_until_final(generation) for generation in started]

    assert [generation.status for generation in ends] == ["succeeded"] * 20
    assert (await shop.money()).spent == 20 * PAID.spent
    assert len(upstream.predictions) == 20
    if fault is None:
        # A page for all, every five seconds; the ends are asked for one by one.
        assert upstream.counts["list"] + upstream.counts["read"] < 60


@pytest.mark.parametrize("ahead_s", [-240, -30, 30, 240])
async def test_clocks_may_disagree(
    database: Database, tmp_path: Path, clock: SettableClock, ahead_s: int
) -> None:
    """Theirs is minutes before or behind ours: what was lost is found all the same."""
    theirs = SettableClock(NOON)
    theirs.jump(ahead_s)
    upstream = Upstream(theirs, run=Run(script=Script(run_s=100)))
    upstream.fail("create", Fault.SLOW)
    shop = await ReplicateShop.open(database, tmp_path, upstream, clock)
    shop.other_clocks.append(theirs)

    generation = await ended(shop)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)
    assert len(upstream.predictions) == 1
    await shop.close()


@pytest.mark.parametrize("create", [Create.LOST_REQUEST, Create.LOST_ANSWER, Create.REFUSED])
async def test_a_list_that_lags_makes_no_twin(
    shop_of: OpenShop, upstream: Upstream, create: Create
) -> None:
    shop = await shop_of()
    upstream.will(Run(script=Script(create=create, listed_s=40, run_s=200)))

    generation = await ended(shop)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)
    assert len(upstream.predictions) == 1


async def test_a_request_that_ran_twice_is_paid_once(shop_of: OpenShop, upstream: Upstream) -> None:
    shop = await shop_of(public=True)
    upstream.will(Run(script=Script(create=Create.DOUBLED)))

    generation = await ended(shop)
    await shop.live(60)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)
    assert len(upstream.predictions) == 2


# What the account may.


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"credit": "none"}, {"credit": "good"}),
        ({"credit": "low"}, {"credit": "good"}),
    ],
    ids=["no credit", "little credit"],
)
async def test_without_credit_generations_wait(
    shop_of: OpenShop, upstream: Upstream, wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    """No hold is lost, and nobody reads of the operator's bills."""
    shop = await shop_of()
    upstream.switch(**wrong)
    started = [await shop.start() for _ in range(3)]
    await shop.live(12)
    waiting = [await shop.get(generation) for generation in started]
    upstream.switch(**right)

    ends = [await shop.live_until_final(generation) for generation in started]

    assert not all(generation.is_final for generation in waiting)
    assert [generation.status for generation in ends] == ["succeeded"] * 3
    assert (await shop.money()).spent == 3 * PAID.spent
    assert len(upstream.predictions) == 3


async def test_a_token_that_is_refused_for_a_while_loses_nothing(
    shop_of: OpenShop, upstream: Upstream
) -> None:
    shop = await shop_of()
    token, upstream.token = upstream.token, "r8_another"
    generation = await shop.start()
    await shop.live(20)
    held = await shop.money()
    upstream.token = token

    generation = await shop.live_until_final(generation)

    assert held == HELD
    assert (generation.status, await shop.money()) == ("succeeded", PAID)


async def test_little_credit_serves_one_after_the_other(
    shop_of: OpenShop, upstream: Upstream
) -> None:
    shop = await shop_of()
    upstream.switch(credit="low")
    started = [await shop.start() for _ in range(5)]

    ends = [await shop.live_until_final(generation) for generation in started]

    assert [generation.status for generation in ends] == ["succeeded"] * 5
    assert len(upstream.predictions) == 5
    # The first 429 teaches the pace; more than a few would mean that it was not learnt.
    assert upstream.counts["create"] <= 8


async def test_inputs_that_do_not_fit_are_refused_in_our_words(
    shop_of: OpenShop, upstream: Upstream
) -> None:
    shop = await shop_of()
    generation = await shop.live_until_final(
        await shop.start(options={"num_frames_per_chunk": 400})
    )

    assert generation.status == "failed"
    assert generation.error == (
        "Replicate cannot use the option num_frames_per_chunk, which is too large."
    )
    assert await shop.money() == RELEASED
    assert len(upstream.predictions) == 0


async def test_files_that_are_too_large_for_them_are_refused(
    shop_of: OpenShop, upstream: Upstream
) -> None:
    shop = await shop_of()
    upstream.switch(largest_file_bytes=100)

    generation = await ended(shop)

    assert generation.error == "The files are larger than Replicate takes."
    assert (await shop.money(), upstream.counts["create"]) == (RELEASED, 0)


async def test_an_outage_of_everything_is_survived(shop_of: OpenShop, upstream: Upstream) -> None:
    shop = await shop_of()
    upstream.chance("any", Fault.HTML_503, 1)
    started = [await shop.start() for _ in range(3)]
    await shop.live(90)
    n_calls = upstream.counts.total()
    upstream.recover()

    ends = [await shop.live_until_final(generation) for generation in started]

    assert [generation.status for generation in ends] == ["succeeded"] * 3
    assert len(upstream.predictions) == 3
    assert (await shop.money()).spent == 3 * PAID.spent
    assert n_calls < 90


# Habits of bodies, files and webhooks.


@pytest.mark.parametrize(
    "habit",
    [
        {"quirks": False},
        {"echoes_output_null": True},
        {"starts_before_created": True},
        {"has_metrics": False},
        {"predict_time": "missing"},
        {"predict_time": "null"},
        {"page_size": 1},
        {"tells_aborted": True},
        {"checks_inputs": False},
        {"limits_rate": False},
    ],
    ids=str,
)
async def test_habits_of_bodies_change_nothing(
    shop_of: OpenShop, upstream: Upstream, habit: dict[str, Any]
) -> None:
    shop = await shop_of(public=True)
    upstream.switch(**habit)
    upstream.fail("create", None, Fault.SLOW)
    started = [await shop.start() for _ in range(4)]

    ends = [await shop.live_until_final(generation) for generation in started]

    assert [generation.status for generation in ends] == ["succeeded"] * 4
    assert all(
        generation.started_at is not None
        and generation.completed_at is not None
        and generation.started_at <= generation.completed_at
        for generation in ends
    )
    assert (await shop.money()).spent == 4 * PAID.spent
    assert len(upstream.predictions) == 4


@pytest.mark.parametrize(
    "habits",
    [
        HookHabits(),
        HookHabits(are_sent=False),
        HookHabits(dropped=1),
        HookHabits(doubled=1),
        HookHabits(late=1, late_s=(20, 200)),
        HookHabits(forged=1),
        HookHabits(dropped=0.3, doubled=0.3, late=0.5, forged=0.2),
    ],
    ids=["straight", "none", "dropped", "doubled", "late", "forged", "all at once"],
)
async def test_webhooks_may_do_what_they_like(
    shop_of: OpenShop, upstream: Upstream, habits: HookHabits
) -> None:
    shop = await shop_of(public=True)
    upstream.switch(hooks=habits)
    upstream.fail("create", None, Fault.SLOW, Fault.RESET_BEFORE)
    started = [await shop.start() for _ in range(6)]

    ends = [await shop.live_until_final(generation) for generation in started]
    await shop.live(100)

    assert [generation.status for generation in ends] == ["succeeded"] * 6
    assert (await shop.money()).spent == 6 * PAID.spent
    assert len(upstream.predictions) == 6


async def test_a_file_whose_day_is_over_is_handed_in_again(
    shop_of: OpenShop, upstream: Upstream, clock: SettableClock
) -> None:
    """The larger of the two is handed in once a day."""
    shop = await shop_of()
    await ended(shop)
    clock.advance(86_400)

    generation = await ended(shop)

    assert generation.status == "succeeded"
    assert upstream.counts["file"] >= 4


async def test_a_file_that_is_gone_before_the_start_is_bad_luck(
    shop_of: OpenShop, upstream: Upstream
) -> None:
    shop = await shop_of()
    upstream.switch(file_life_s=1)
    upstream.will(Run(script=Script(start_s=30, run_s=5)))
    generation = await shop.start()
    await shop.live(10)
    upstream.switch(file_life_s=86_400)

    generation = await shop.live_until_final(generation)

    assert (generation.status, await shop.money()) == ("succeeded", PAID)
    assert [state for state, _ in await shop.attempts()] == ["failed", "succeeded"]


async def test_what_it_cost_us_is_booked_by_their_count(
    shop_of: OpenShop, upstream: Upstream
) -> None:
    shop = await shop_of()
    upstream.always(Run(video_s=9.9))

    await ended(shop)

    # $0.02 for each second of video.
    assert await shop.attempts() == [("succeeded", 198_000)]
