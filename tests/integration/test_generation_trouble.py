"""What rarely goes wrong with a generation, on both databases: it ends, once, and hides no other.

Lost answers of COMMIT, keys of requests that counted as dead, calls and disks that break, files
that two delete at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.store import ArtifactStore
from sayso.clock import after
from sayso.db.connect import Database
from sayso.db.tables import artifacts, generations, idempotency_keys
from sayso.errors import ArtifactMissing, NoFace, StillCreating, StoreUnavailable
from sayso.generations import claims
from sayso.generations.generation import Generation, Key, Order
from sayso.generations.recorder import Batch
from sayso.generations.rules import State, Store
from sayso.generations.store import RESERVED_S
from sayso.generations.written import Step
from sayso.ids import ArtifactId
from sayso.providers.scripted import TRAITS, Create, Script
from tests.builders import ALICE, NOON
from tests.workshop import DOLLAR, PRICE, Workshop, an_artifact, together

pytestmark = pytest.mark.anyio

QUICK = Script(start_s=0, run_s=1)


@pytest.fixture
def shop_of(database: Database, tmp_path: Path) -> Any:
    async def open_shop(script: Script | None = None, **options: Any) -> Workshop:
        return await Workshop.open(database, tmp_path, script, **options)

    return open_shop


class Repeating:
    """A database that loses the answer of one COMMIT, and runs the function again."""

    def __init__(self, db: Database, meanwhile: Callable[[], Awaitable[Any]]) -> None:
        self._db = db
        self._meanwhile: Callable[[], Awaitable[Any]] | None = meanwhile

    async def write(self, fn: Any) -> Any:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            await self._db.write(fn)
            await meanwhile()
        return await self._db.write(fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


async def test_a_claim_that_was_committed_after_all_finds_its_own_rows(shop_of: Any) -> None:
    """What comes meanwhile is not sent under the nonces of what was claimed before."""
    shop = await shop_of(QUICK)
    refused = await _refused_once(shop)
    first = await shop.start()
    canceled = await shop.start()
    await shop.generations.cancel(ALICE, canceled.id)
    later: list[Generation] = []

    async def meanwhile() -> None:
        later.append(await shop.start())

    shop.reconciler._db = Repeating(shop.db, meanwhile)
    await shop.reconciler.turn()
    await shop.reconciler.settled()

    assert (await shop.get(refused)).state is State.RUNNING
    assert (await shop.get(first)).state is State.RUNNING
    assert (await shop.get(canceled)).state is State.CANCELED
    for generation in (refused, first, *later):
        assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert len(shop.provider.created) == 3
    assert (await shop.balance()).held == 0


async def _refused_once(shop: Workshop) -> Generation:
    """Start a generation that its provider refused, and that is due again."""
    shop.provider.will(Script(create=Create.REFUSED, retry_after_s=5))
    generation = await shop.start()
    await shop.turn()
    shop.clock.advance(5)
    return generation


async def test_a_key_that_another_request_took_over_is_not_the_first_ones(shop_of: Any) -> None:
    """The first request took so long that its key counted as free; its order comes to nothing."""
    shop = await shop_of(QUICK)
    first = Key(account_id=ALICE, key="k", fingerprint="first")
    second = replace(first, fingerprint="second")
    may_go = {"first": asyncio.Event(), "second": asyncio.Event()}

    def start(key: Key) -> asyncio.Task[Any]:
        async def make() -> Order:
            await may_go[key.fingerprint].wait()
            return shop.order(prompt=key.fingerprint)  # type: ignore[no-any-return]

        return asyncio.create_task(shop.generations.start(make, key=key))

    slow = start(first)
    await _until_reserved(shop, first)
    shop.clock.advance(RESERVED_S + 1)
    quick = start(second)
    await _until_reserved(shop, second)
    may_go["first"].set()
    with pytest.raises(StillCreating):
        await slow
    may_go["second"].set()
    started = await quick

    assert started.generation.prompt == "second"
    assert (await start(second)).generation.id == started.generation.id
    assert (await shop.balance()).held == PRICE


async def _until_reserved(shop: Workshop, key: Key) -> None:
    query = select(idempotency_keys.c.fingerprint)
    async with asyncio.timeout(30):
        while True:
            found = await shop.db.read(lambda tx: tx.execute(query).scalar_one_or_none())
            if found == key.fingerprint:
                return
            await asyncio.sleep(0.01)


async def test_requests_that_fail_with_one_key_hear_why_or_that_it_is_taken(shop_of: Any) -> None:
    """A key is given back between another's INSERT and its SELECT, sooner or later."""
    shop = await shop_of()

    async def fails() -> Order:
        raise NoFace("No face was found.")

    for number in range(20):
        key = Key(account_id=ALICE, key=f"k{number}", fingerprint="f")
        results = await together([shop.generations.start(fails, key=key) for _ in range(8)])

        assert {type(result) for result in results} <= {NoFace, StillCreating}
        assert NoFace in {type(result) for result in results}


async def test_a_file_goes_with_the_last_of_two_that_are_deleted_at_once(shop_of: Any) -> None:
    shop = await shop_of(QUICK, balance=100 * DOLLAR)
    for _ in range(10):
        inputs = await _own_inputs(shop)
        both = [await shop.start(**inputs) for _ in range(2)]
        both = [await shop.live_until_final(generation) for generation in both]

        await asyncio.gather(*(shop.generations.delete(ALICE, one.id) for one in both))

        left = select(artifacts.c.id).where(artifacts.c.id.in_(inputs.values()))
        assert await shop.db.read(lambda tx: tx.execute(left).all()) == []  # noqa: B023


async def test_an_order_that_comes_while_its_input_is_deleted_has_it_or_hears_of_it(
    shop_of: Any,
) -> None:
    shop = await shop_of(QUICK, balance=100 * DOLLAR)
    for _ in range(15):
        inputs = await _own_inputs(shop)
        earlier = await shop.live_until_final(await shop.start(**inputs))

        deleted, *ordered = await together(
            [
                shop.generations.delete(ALICE, earlier.id),
                *(shop.start(**inputs) for _ in range(3)),
            ]
        )

        assert deleted is None
        for result in ordered:
            assert isinstance(result, ArtifactMissing | Generation)
            if isinstance(result, Generation):
                assert (await shop.live_until_final(result)).state is State.SUCCEEDED


async def _own_inputs(shop: Workshop) -> dict[str, ArtifactId]:
    """Store inputs that no other generation has."""
    return await shop.db.write(
        lambda tx: {
            "portrait_id": an_artifact(tx, "portrait"),
            "speech_id": an_artifact(tx, "speech"),
        }
    )


async def test_a_file_that_cannot_be_deleted_does_not_keep_the_others(
    shop_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await shop_of(QUICK)
    done = await shop.live_until_final(await shop.start(**await _own_inputs(shop)))
    asked: list[ArtifactKey] = []

    async def delete(_store: ArtifactStore, key: ArtifactKey) -> None:
        asked.append(key)
        if len(asked) == 1:
            raise StoreUnavailable("The file store cannot be used just now.")

    monkeypatch.setattr(ArtifactStore, "delete", delete)
    with pytest.raises(StoreUnavailable):
        await shop.generations.delete(ALICE, done.id)

    assert len(set(asked)) == 3


async def test_a_disk_that_stays_full_does_not_hold_credits_for_ever(shop_of: Any) -> None:
    """Not an error of ours: the folder for the copy cannot even be made."""
    shop = await shop_of(QUICK)

    async def no_room() -> None:
        raise OSError(28, "No space left on device")

    shop.keeper.before = no_room
    generation = await shop.start()

    failed = await shop.live_until_final(generation, most_s=3 * 3600)

    assert (failed.state, failed.error_code) == (State.FAILED, "not_stored")
    assert (await shop.attempts(generation))[0].raw_error.startswith("OSError(28")
    assert (await shop.balance()).held == 0


async def test_a_disk_that_is_full_for_a_while_delays_a_video(shop_of: Any) -> None:
    shop = await shop_of(QUICK)
    generation = await shop.start()
    tries = 0

    async def no_room_at_first() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OSError(28, "No space left on device")

    shop.keeper.before = no_room_at_first

    assert (await shop.live_until_final(generation)).state is State.SUCCEEDED
    assert (await shop.balance()).total == 5 * DOLLAR - PRICE


@pytest.mark.parametrize("call", ["fetch_many", "find"])
async def test_a_call_that_breaks_does_not_outlive_the_deadline(
    shop_of: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A mistake of ours while a provider's answer is read."""
    shop = await shop_of(Script(create=Create.LOST_ANSWER) if call == "find" else Script())

    async def breaks(*_arguments: Any, **_keywords: Any) -> Any:
        raise OverflowError("int too large to convert to float")

    monkeypatch.setattr(shop.provider, call, breaks)
    generation = await shop.start()

    failed = await shop.live_until_final(generation)

    assert (failed.state, failed.error_code) == (State.FAILED, "timed_out")
    assert (await shop.balance()).held == 0


async def test_a_step_that_cannot_be_written_leaves_the_others_of_its_batch(shop_of: Any) -> None:
    shop = await shop_of(Script(start_s=0, run_s=100))
    for _ in range(3):
        await shop.start()
    await shop.turn()
    shop.clock.advance(60)
    now = shop.clock.now()
    bad, *others = await shop.db.write(
        lambda tx: claims.claim(
            tx,
            provider="scripted",
            state=State.RUNNING,
            limit=3,
            token="t",
            now=now,
            lease_until=after(now, 20),
        )
    )
    impossible: Any = object()
    step = Step(job=bad, token="t", outcome=Store(impossible))

    unchanged = [(job.id, after(now, 5)) for job in others]
    await shop.reconciler._recorder.record(Batch("t", (step,), unchanged))

    held = select(generations.c.id).where(generations.c.claim_token == "t")
    assert await shop.db.read(lambda tx: tx.execute(held).scalars().all()) == [bad.id]


async def test_strays_that_nobody_knows_do_not_hide_a_later_one(shop_of: Any) -> None:
    """The provider's account was changed: a hundred predictions never end for us."""
    shop = await shop_of(
        Script(start_s=0, end="never", ignores_cancel=True), balance=1_000 * DOLLAR
    )
    for _ in range(100):
        await shop.start()
    await shop.live(3)
    shop.provider._by_id.clear()
    await shop.live(700, step_s=50)
    shop.provider.will(Script(start_s=0, end="never", cancel_s=60))
    late = await shop.start()
    await shop.live(5)
    await shop.generations.cancel(ALICE, late.id)
    await shop.live(40)
    assert (await shop.get(late)).state is State.CANCELED
    shop.clock.advance(60)

    for _ in range(2):
        await shop.reconciler.keep_house()

    assert (await shop.attempts(late))[0].finished_at is not None


@pytest.mark.parametrize("stop", ["cancel_after", "deadline"])
async def test_a_provider_that_refuses_for_minutes_does_not_outlast_the_end(
    shop_of: Any, stop: str
) -> None:
    """It is asked again in minutes; its generation is over before that."""
    shop = await shop_of(Script(create=Create.REFUSED, retry_after_s=250))
    generation = await shop.start(cancel_after_s=20 if stop == "cancel_after" else None)
    end_s = 20 if stop == "cancel_after" else 600

    ended = await shop.live_until_final(generation)

    assert ended.state is (State.CANCELED if stop == "cancel_after" else State.FAILED)
    assert ended.completed_at == after(NOON, end_s)
    assert (await shop.balance()).held == 0


async def test_a_first_look_that_is_far_off_does_not_outlast_the_end(shop_of: Any) -> None:
    shop = await shop_of(Script(start_s=0, run_s=500), traits=replace(TRAITS, look_s=120))
    generation = await shop.start(cancel_after_s=20)

    ended = await shop.live_until_final(generation)

    assert (ended.state, ended.completed_at) == (State.CANCELED, after(NOON, 20))
