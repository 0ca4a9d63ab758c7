"""What every provider must do; run against each of them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.artifacts.store import ArtifactStore, folder_artifacts
from sayso.catalogue.catalogue import Catalogue
from sayso.clock import SettableClock, after
from sayso.db.connect import Database, open_database
from sayso.errors import ImageUnreadable, OutputLost
from sayso.ids import Ids, Nonce, ProviderId
from sayso.media.probe import probe_video
from sayso.providers.base import (
    Prediction,
    PredictionStatus,
    Provider,
)
from sayso.providers.embedded import EmbeddedProvider
from sayso.providers.render_worker import RenderWorkers
from sayso.providers.replicate import ReplicateProvider
from sayso.providers.replicate_client import ReplicateSettings
from sayso.providers.scripted import Script, ScriptedProvider, write_grey_video
from tests.builders import NOON
from tests.upstream import Run, Upstream, UpstreamTransport
from tests.upstream.models import model as upstream_model
from tests.upstream.service import TOKEN
from tests.workshop import INPUTS, MODEL, STORED_S, an_attempt, stored

pytestmark = pytest.mark.anyio

UPSTREAM_MODEL = upstream_model(
    MODEL.name,
    is_official=True,
    image={"type": "string", "format": "uri"},
    audio={"type": "string", "format": "uri"},
    prompt={"type": "string"},
)


@dataclass
class Harness:
    """A provider, and how to make its predictions end."""

    provider: Provider
    clock: SettableClock
    succeed: Callable[[], Awaitable[None]]
    """Let the next prediction to be created come to a good end."""
    fail: Callable[[], Awaitable[None]]
    """Let the predictions that run fail; said before they are created."""
    finish: Callable[[], Awaitable[None]]
    """Let time pass until all that run have ended."""


@pytest.fixture(params=["scripted", "embedded", "replicate"])
async def harness(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path
) -> AsyncIterator[Harness]:
    clock = SettableClock(NOON)
    if request.param == "scripted":
        yield scripted(clock)
        return
    if request.param == "replicate":
        made, provider = await replicate(clock, tmp_path)
        yield made
        await provider.aclose()
        return
    shutil.copy(sqlite_template, tmp_path / "sayso.db")
    db = await open_database(f"sqlite:///{tmp_path / 'sayso.db'}")
    store = folder_artifacts(tmp_path / "artifacts")
    yield await embedded(clock, db, store, tmp_path)
    await db.close()


def scripted(clock: SettableClock) -> Harness:
    provider = ScriptedProvider(clock, Script(start_s=1, run_s=10))

    async def succeed() -> None:
        provider.will(Script(start_s=1, run_s=10))

    async def fail() -> None:
        provider.will(Script(start_s=1, run_s=10, end="failed"))

    async def finish() -> None:
        clock.advance(20)

    return Harness(provider, clock, succeed, fail, finish)


async def embedded(
    clock: SettableClock, db: Database, store: ArtifactStore, folder: Path
) -> Harness:
    provider = EmbeddedProvider(db, clock=clock, ids=Ids(clock.now), artifacts=store)
    problems: list[Exception] = []

    async def run(task: str, arguments: Any, **_: Any) -> Any:
        if problems:
            raise problems[0]
        write_grey_video(Path(arguments["output"]), STORED_S)
        return {"notices": []}

    workers = RenderWorkers(
        db,
        clock=clock,
        ids=Ids(clock.now),
        artifacts=store,
        folder=folder,
        on_change=lambda _tx, _nonce: None,
        run=run,
    )
    await store_inputs(store, folder)

    async def succeed() -> None:
        problems.clear()

    async def fail() -> None:
        problems.append(ImageUnreadable("The picture is damaged."))

    async def finish() -> None:
        while await workers.render_one():
            pass

    return Harness(provider, clock, succeed, fail, finish)


async def replicate(clock: SettableClock, folder: Path) -> tuple[Harness, ReplicateProvider]:
    run = Run(script=Script(start_s=1, run_s=10), video_s=STORED_S)
    upstream = Upstream(clock, run=run, models={MODEL.name: UPSTREAM_MODEL})
    store = folder_artifacts(folder / "artifacts")
    await store_inputs(store, folder)
    provider = ReplicateProvider(
        ReplicateSettings(token=TOKEN),
        clock=clock,
        artifacts=store,
        links=FileLinks([LinkSecret("a", bytes(32))]),
        catalogue=Catalogue([MODEL], providers=["replicate"]),
        transport=UpstreamTransport(upstream),
    )

    async def succeed() -> None:
        upstream.will(run)

    async def fail() -> None:
        upstream.will(run.failing("The input is too long."))

    async def finish() -> None:
        clock.advance(20)

    return Harness(provider, clock, succeed, fail, finish), provider


async def store_inputs(store: ArtifactStore, folder: Path) -> None:
    """Store files under the keys of the inputs, whatever their content."""
    for name in ("portrait", "speech"):
        source = folder / name
        source.write_bytes(b"x" * stored(name).size_bytes)
        await store.put_file(ArtifactKey(stored(name).key), source)


async def look(harness: Harness, prediction: Prediction) -> Prediction:
    seen = await harness.provider.fetch_many([prediction.provider_id])
    return seen[prediction.provider_id]


async def test_what_was_created_can_be_looked_at(harness: Harness) -> None:
    made = await harness.provider.submit(an_attempt(), INPUTS)

    assert not made.status.is_final
    assert (await look(harness, made)).provider_id == made.provider_id


async def test_each_attempt_is_a_prediction_of_its_own(harness: Harness) -> None:
    made = [await harness.provider.submit(an_attempt(), INPUTS) for _ in range(3)]

    ids = [prediction.provider_id for prediction in made]
    assert len(set(ids)) == 3
    assert set(await harness.provider.fetch_many(ids)) == set(ids)


async def test_the_same_attempt_again_is_what_the_traits_say(harness: Harness) -> None:
    attempt = an_attempt()
    first = await harness.provider.submit(attempt, INPUTS)
    second = await harness.provider.submit(attempt, INPUTS)

    is_same = first.provider_id == second.provider_id
    assert is_same == harness.provider.traits.submit_is_idempotent


async def test_an_unknown_prediction_is_missing_from_the_answer(harness: Harness) -> None:
    assert await harness.provider.fetch_many([ProviderId("nobodys")]) == {}


async def test_a_nonce_finds_its_prediction(harness: Harness) -> None:
    attempt = an_attempt()
    made = await harness.provider.submit(attempt, INPUTS)
    since = after(NOON, -300)

    found = await harness.provider.find(attempt.nonce, since=since)

    assert isinstance(found, Prediction)
    assert found.provider_id == made.provider_id
    absent = await harness.provider.find(Nonce("nobodys"), since=since)
    assert not isinstance(absent, Prediction)


async def test_success_has_an_output_that_can_be_saved(harness: Harness, tmp_path: Path) -> None:
    await harness.succeed()
    made = await harness.provider.submit(an_attempt(), INPUTS)
    await harness.finish()

    done = await look(harness, made)

    assert done.status is PredictionStatus.SUCCEEDED
    assert done.output is not None
    assert done.started_at is not None
    assert done.finished_at is not None
    target = tmp_path / "saved.mp4"
    await harness.provider.save_output(done.provider_id, done.output, target)
    assert probe_video(target).duration_video_s == pytest.approx(STORED_S, abs=0.1)


async def test_failure_says_why_in_a_sentence(harness: Harness) -> None:
    await harness.fail()
    made = await harness.provider.submit(an_attempt(), INPUTS)
    await harness.finish()

    done = await look(harness, made)

    assert done.status is PredictionStatus.FAILED
    assert done.failure is not None
    assert done.failure.text.endswith(".")


async def test_cancel_ends_what_runs(harness: Harness) -> None:
    made = await harness.provider.submit(an_attempt(), INPUTS)
    await harness.provider.cancel(made.provider_id)

    assert (await look(harness, made)).status is PredictionStatus.CANCELED


async def test_cancel_of_what_has_ended_or_is_unknown_does_nothing(harness: Harness) -> None:
    await harness.succeed()
    made = await harness.provider.submit(an_attempt(), INPUTS)
    await harness.finish()

    await harness.provider.cancel(made.provider_id)
    await harness.provider.cancel(ProviderId("nobodys"))

    assert (await look(harness, made)).status is PredictionStatus.SUCCEEDED


async def test_an_output_that_is_gone_says_so(harness: Harness, tmp_path: Path) -> None:
    made = await harness.provider.submit(an_attempt(), INPUTS)
    gone = f"alice/video/{'0' * 64}.mp4"

    with pytest.raises(OutputLost):
        await harness.provider.save_output(made.provider_id, gone, tmp_path / "x.mp4")
