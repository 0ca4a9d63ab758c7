"""Render workers: claims, leases, cancels, and the engine itself at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from sayso.artifacts.store import ArtifactStore, folder_artifacts
from sayso.clock import SettableClock
from sayso.db.connect import Database
from sayso.db.tables import generations, predictions
from sayso.db.tables import renders as table
from sayso.db.tx import Tx
from sayso.errors import Canceled, ChildCrashed, ChildTimedOut, DatabaseBusy, StoreUnavailable
from sayso.ids import Ids, Nonce, ProviderId
from sayso.providers import render_worker, renders
from sayso.providers.base import FailureKind, PredictionStatus
from sayso.providers.embedded import EmbeddedProvider
from sayso.providers.render_worker import RenderLimits, RenderWorkers
from sayso.providers.scripted import write_grey_video
from tests.builders import NOON, a_generation, an_account
from tests.workshop import INPUTS, an_attempt, stored

pytestmark = pytest.mark.anyio


class Bench:
    """A queue, a store, and workers whose child is a function of the test's."""

    def __init__(self, db: Database, folder: Path) -> None:
        self.db = db
        self.folder = folder
        self.clock = SettableClock(NOON)
        self.ids = Ids(self.clock.now)
        self.store: ArtifactStore = folder_artifacts(folder / "artifacts")
        self.provider = EmbeddedProvider(db, clock=self.clock, ids=self.ids, artifacts=self.store)
        self.changed: list[Nonce] = []

    async def prepare(self) -> None:
        for kind in ("portrait", "speech"):
            source = self.folder / kind
            source.write_bytes(b"x")
            await self.store.put_file(stored(kind).key, source)  # type: ignore[arg-type]

    def workers(self, run: Callable[..., Any], limits: RenderLimits | None = None) -> RenderWorkers:
        return RenderWorkers(
            self.db,
            clock=self.clock,
            ids=self.ids,
            artifacts=self.store,
            folder=self.folder,
            on_change=lambda _tx, nonce: self.changed.append(nonce),
            run=run,
            limits=limits,
        )

    async def queue(self) -> ProviderId:
        return (await self.provider.submit(an_attempt(), INPUTS)).provider_id

    async def look(self, render_id: ProviderId) -> Any:
        return (await self.provider.fetch_many([render_id]))[render_id]

    async def row(self, render_id: ProviderId) -> Any:
        query = select(table).where(table.c.id == render_id)
        return await self.db.read(lambda tx: tx.execute(query).one())

    async def until(self, render_id: ProviderId, is_so: Callable[[Any], bool]) -> None:
        """Wait until something is true of a row; each report of a worker wakes us."""
        with self.db.listen() as wake:
            async with asyncio.timeout(60):
                while not is_so(await self.row(render_id)):
                    await wake.wait(timeout_s=0.05)


@pytest.fixture
async def bench(database: Database, tmp_path: Path) -> Bench:
    made = Bench(database, tmp_path)
    await made.prepare()
    return made


async def works(_task: str, arguments: Any, **_: Any) -> Any:
    write_grey_video(Path(arguments["output"]), 1.0)
    return {
        "notices": [{"code": "small_face", "text": "The face is small."}, "nonsense"],
        "quality": {"sync_r": 0.9} if arguments["measure"] else None,
    }


async def test_renders_are_taken_in_the_order_they_came(bench: Bench) -> None:
    first = await bench.queue()
    bench.clock.advance(1)
    second = await bench.queue()
    workers = bench.workers(works)

    assert await workers.render_one()

    done, waiting = await bench.look(first), await bench.look(second)
    assert (done.status, waiting.status) == (PredictionStatus.SUCCEEDED, PredictionStatus.STARTING)
    assert done.notices[0].code == "small_face"
    assert waiting.stage == "queued"
    assert await workers.render_one()
    assert not await workers.render_one()
    assert len(bench.changed) >= 4


async def test_what_was_measured_stays_with_the_render(bench: Bench) -> None:
    measured, unmeasured = await bench.queue(), await bench.queue()

    await bench.workers(works).render_one()
    await bench.workers(works, RenderLimits(measure_max_s=INPUTS.speech_s / 2)).render_one()

    async def quality_of(render_id: ProviderId) -> Any:
        return await bench.db.read(lambda tx: renders.quality_of(tx, render_id))

    assert sorted(map(str, [await quality_of(measured), await quality_of(unmeasured)])) == [
        "None",
        "{'sync_r': 0.9}",
    ]
    assert await quality_of(ProviderId("none")) is None


def test_a_preview_is_not_measured() -> None:
    limits = RenderLimits(measure_max_s=10)

    assert limits.measures({"speech_s": 10})
    assert not limits.measures({"speech_s": 11})
    assert not limits.measures({"speech_s": 2, "first_s": 2})


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ChildTimedOut("30 s"), FailureKind.TIMEOUT, "Making the video took too long"),
        (ChildCrashed("died"), FailureKind.TRANSIENT, "died"),
        (ValueError("our mistake"), FailureKind.TRANSIENT, "The engine could not make the video"),
    ],
)
async def test_a_child_that_ends_badly_fails_its_render(
    bench: Bench, error: Exception, kind: FailureKind, text: str
) -> None:
    async def breaks(*_: Any, **__: Any) -> Any:
        raise error

    render_id = await bench.queue()
    assert await bench.workers(breaks).render_one()

    failure = (await bench.look(render_id)).failure
    assert (failure.kind, failure.text) == (kind, text)


async def test_a_killed_workers_render_is_taken_up_when_its_lease_is_over(bench: Bench) -> None:
    render_id = await bench.queue()
    dead = bench.workers(works)
    claimed, _ = await dead._claim()  # Then the process is gone.
    assert claimed is not None
    other = bench.workers(works)

    bench.clock.advance(19)
    assert not await other.render_one()
    bench.clock.advance(2)
    assert await other.render_one()

    assert (await bench.look(render_id)).status is PredictionStatus.SUCCEEDED
    assert (await bench.row(render_id)).attempts == 2


async def test_a_render_that_kills_its_workers_is_given_up(bench: Bench) -> None:
    render_id = await bench.queue()
    for _ in range(renders.MOST_TAKEN):
        assert (await bench.workers(works)._claim())[0] is not None
        bench.clock.advance(60)

    assert not await bench.workers(works).render_one()

    assert (await bench.look(render_id)).status is PredictionStatus.FAILED


async def test_a_worker_that_lost_its_lease_cannot_finish(bench: Bench) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(task: str, arguments: Any, **keywords: Any) -> Any:
        entered.set()
        await leave.wait()
        return await works(task, arguments, **keywords)

    render_id = await bench.queue()
    paused = asyncio.create_task(bench.workers(slow).render_one())
    await entered.wait()
    bench.clock.advance(60)
    claimed, token = await bench.workers(works)._claim()
    assert claimed is not None
    leave.set()
    await paused

    assert (await bench.row(render_id)).state == "rendering"
    assert (await bench.row(render_id)).claim_token == token


async def test_cancel_stops_the_child(bench: Bench) -> None:
    async def until_canceled(*_: Any, cancel: asyncio.Event, **__: Any) -> Any:
        await cancel.wait()
        raise Canceled("stopped")

    render_id = await bench.queue()
    running = asyncio.create_task(bench.workers(until_canceled).render_one())
    await bench.until(render_id, lambda row: row.state == "rendering")
    await bench.provider.cancel(render_id)

    assert await running

    assert (await bench.look(render_id)).status is PredictionStatus.CANCELED


async def test_stopping_hands_renders_back_at_once(bench: Bench) -> None:
    async def until_canceled(*_: Any, cancel: asyncio.Event, **__: Any) -> Any:
        await cancel.wait()
        raise Canceled("stopped")

    render_id = await bench.queue()
    stopping = bench.workers(until_canceled)
    running = asyncio.create_task(stopping.run())
    await bench.until(render_id, lambda row: row.state == "rendering")
    stopping.stop()
    await running

    row = await bench.row(render_id)
    assert (row.lease_until, row.attempts) == (0, 0)
    assert await bench.workers(works).render_one()
    assert (await bench.look(render_id)).status is PredictionStatus.SUCCEEDED


async def test_progress_is_measured_in_frames(bench: Bench) -> None:
    reported, go_on = asyncio.Event(), asyncio.Event()

    async def reports(task: str, arguments: Any, *, on_progress: Any, **keywords: Any) -> Any:
        on_progress({"stage": "listening", "done": 1, "total": 100})
        on_progress({"stage": "rendering", "done": 30, "total": 120})
        reported.set()
        await go_on.wait()
        return await works(task, arguments, **keywords)

    render_id = await bench.queue()
    running = asyncio.create_task(bench.workers(reports).render_one())
    await reported.wait()
    await bench.until(render_id, lambda row: row.frames_total is not None)

    seen = await bench.look(render_id)
    assert (seen.percent, seen.stage) == (25, "rendering")
    go_on.set()
    await running


async def test_old_renders_and_their_videos_are_forgotten(bench: Bench) -> None:
    render_id = await bench.queue()
    workers = bench.workers(works)
    await workers.render_one()
    key = (await bench.look(render_id)).output

    await workers._forget_old()
    assert (await bench.store.stat(key)).size_bytes > 0
    bench.clock.advance(5 * 3600)
    await workers._forget_old()

    assert await bench.provider.fetch_many([render_id]) == {}
    assert not (bench.folder / "artifacts" / key).exists()


async def test_a_video_that_cannot_be_deleted_does_not_keep_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await bench.queue()
        await bench.workers(works).render_one()
    goes_away(monkeypatch, bench.store, "delete", times=1)
    bench.clock.advance(5 * 3600)

    with pytest.raises(StoreUnavailable):
        await bench.workers(works)._forget_old()

    assert len(list((bench.folder / "artifacts").glob("*/video/*"))) == 1


async def test_a_render_whose_generation_goes_on_is_not_forgotten(bench: Bench) -> None:
    """The service was off for a night, after the render and before its video was stored."""
    attempt = an_attempt()

    def order(tx: Tx) -> None:
        an_account(tx)
        a_generation(tx, generation_id=attempt.generation_id)
        tx.execute(
            insert(predictions).values(
                generation_id=attempt.generation_id,
                attempt=1,
                nonce=attempt.nonce,
                provider="embedded",
                state="succeeded",
                created_at=NOON,
                finished_at=NOON,
            )
        )

    await bench.db.write(order)
    render_id = (await bench.provider.submit(attempt, INPUTS)).provider_id
    workers = bench.workers(works)
    await workers.render_one()
    key = (await bench.look(render_id)).output

    bench.clock.advance(12 * 3600)
    await workers._forget_old()

    await bench.provider.save_output(render_id, key, bench.folder / "saved.mp4")
    ended = update(generations).values(
        state="failed", public_status="failed", error="x", completed_at=NOON, due_at=None
    )
    await bench.db.write(lambda tx: tx.execute(ended).rowcount)
    await workers._forget_old()
    assert await bench.provider.fetch_many([render_id]) == {}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_worker, "_PAUSES_S", (0.01, 0.01, 0.01))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("away", ["put_file", "write"])
async def test_a_finished_render_waits_for_a_store_or_database_that_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """Its video is made once."""
    render_id = await bench.queue()
    made = 0

    async def works_then_trouble(task: str, arguments: Any, **keywords: Any) -> Any:
        nonlocal made
        made += 1
        goes_away(monkeypatch, bench.store if away == "put_file" else bench.db, away)
        return await works(task, arguments, **keywords)

    assert await bench.workers(works_then_trouble).render_one()

    assert (await bench.look(render_id)).status is PredictionStatus.SUCCEEDED
    assert (await bench.row(render_id)).attempts == made == 1


@pytest.mark.usefixtures("hasty")
async def test_a_render_waits_for_its_inputs_while_the_store_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.store, "local_path", lambda _key: None)  # As in a bucket.
    goes_away(monkeypatch, bench.store, "copy_to")
    render_id = await bench.queue()

    assert await bench.workers(works).render_one()

    assert (await bench.look(render_id)).status is PredictionStatus.SUCCEEDED


async def test_a_cancel_does_not_wait_for_a_store_that_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_away(monkeypatch, bench.store, "put_file", times=1_000)
    render_id = await bench.queue()
    running = asyncio.create_task(bench.workers(works).render_one())
    await bench.until(render_id, lambda row: row.state == "rendering")
    await bench.provider.cancel(render_id)

    assert await running

    assert (await bench.look(render_id)).status is PredictionStatus.CANCELED


def goes_away(monkeypatch: pytest.MonkeyPatch, what: Any, name: str, *, times: int = 2) -> None:
    """Let a call of the store or the database fail so often."""
    usual, left = getattr(what, name), times
    error = DatabaseBusy("It is busy.") if name == "write" else StoreUnavailable("It is away.")

    async def call(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error
        return await usual(*arguments)

    monkeypatch.setattr(what, name, call)


def test_processor_time_grows_with_the_speech() -> None:
    assert RenderLimits().of(10).cpu_s == 50
    assert RenderLimits().of(600).cpu_s == 1230
