"""Taking a provider's video into the store: fetched, probed, measured, kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from sayso.artifacts.keys import ArtifactKey, own_key
from sayso.artifacts.store import ArtifactStore, folder_artifacts
from sayso.clock import after
from sayso.db.connect import Database
from sayso.db.tables import generations, renders
from sayso.db.tx import Tx
from sayso.errors import ChildCrashed, OutputLost, VideoRefused, VideoUnreadable
from sayso.generations import claims
from sayso.generations.keeping import VideoKeeper
from sayso.generations.rules import Job, State
from sayso.media.inspection import Inspector
from sayso.providers.scripted import TRAITS, Script, ScriptedProvider
from tests.builders import NOON
from tests.workshop import SPEECH_S, Workshop

pytestmark = pytest.mark.anyio


class Kept:
    """A generation whose video waits to be stored, and the real keeper."""

    def __init__(self, shop: Workshop, store: ArtifactStore, folder: Path, job: Job) -> None:
        self.shop = shop
        self.store = store
        self.folder = folder
        self.job = job

    def keeper(self, measure: Any = None, **options: Any) -> VideoKeeper:
        return VideoKeeper(
            self.shop.db,
            ids=self.shop.ids,
            store=self.store,
            inspector=Inspector(),
            folder=self.folder,
            measure=measure,
            **options,
        )


@pytest.fixture
async def waiting(database: Database, tmp_path: Path) -> Kept:
    """Carry a generation to `storing`, and claim it."""
    shop = await Workshop.open(database, tmp_path, Script(start_s=0, run_s=1))
    generation = await shop.start()
    await shop.turn()
    shop.clock.advance(10)
    await shop.reconciler.turn()  # Look: it has succeeded.
    await shop.reconciler.settled()
    state = select(generations.c.state).where(generations.c.id == generation.id)
    assert await shop.db.read(lambda tx: tx.execute(state).scalar_one()) == "storing"
    now = shop.clock.now()
    jobs = await shop.db.write(
        lambda tx: claims.claim(
            tx,
            provider="scripted",
            state=State.STORING,
            limit=1,
            token="t",
            now=now,
            lease_until=after(now, 60),
        )
    )
    return Kept(shop, folder_artifacts(tmp_path / "artifacts"), tmp_path, jobs[0])


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def test_a_video_is_kept_under_a_name_of_its_own_with_what_was_found(waiting: Kept) -> None:
    kept = await waiting.keeper().keep(waiting.job, waiting.shop.provider)
    again = await waiting.keeper().keep(waiting.job, waiting.shop.provider)

    assert (await waiting.store.stat(ArtifactKey(kept.key))).size_bytes == kept.size_bytes
    assert kept.key == own_key(
        "alice", "video", owner=waiting.job.id, sha256=kept.sha256, suffix="mp4"
    )
    assert kept.facts["sha256"] == kept.sha256
    assert kept.facts["duration_s"] == pytest.approx(SPEECH_S, abs=0.1)
    assert kept.quality is not None
    assert kept.quality["video_codec"] == "h264"
    assert again.key == kept.key
    assert not list(waiting.folder.glob("keep-*"))


async def test_measuring_adds_its_figures_and_never_fails_a_generation(waiting: Kept) -> None:
    source = waiting.folder / "speech.ogg"
    source.write_bytes(b"x")
    speech = await waiting.shop.db.read(
        lambda tx: claims.inputs_of(tx, [waiting.job.id])[waiting.job.id].speech
    )
    await waiting.store.put_file(ArtifactKey(speech.key), source)

    async def measures(video: Path, *, speech: Path, speech_s: float) -> Mapping[str, Any]:
        assert content_of(video).startswith(b"\x00\x00")
        assert content_of(speech) == b"x"
        assert speech_s == SPEECH_S
        return {"sync_r": 0.9}

    async def breaks(*_: Any, **__: Any) -> Mapping[str, Any]:
        raise ChildCrashed("it died")

    async def cannot_begin(*_: Any, **__: Any) -> Mapping[str, Any]:
        raise OSError(12, "Cannot allocate memory")

    kept = await waiting.keeper(measures).keep(waiting.job, waiting.shop.provider)
    unmeasured = await waiting.keeper(breaks).keep(waiting.job, waiting.shop.provider)
    no_child = await waiting.keeper(cannot_begin).keep(waiting.job, waiting.shop.provider)
    too_long = await waiting.keeper(measures, measure_max_s=5).keep(
        waiting.job, waiting.shop.provider
    )

    assert kept.quality is not None
    assert kept.quality["sync_r"] == 0.9
    assert unmeasured.quality is not None
    assert "sync_r" not in unmeasured.quality
    assert no_child == replace(unmeasured, id=no_child.id)
    assert too_long.quality is not None
    assert "sync_r" not in too_long.quality


async def test_what_our_engine_measured_is_not_measured_again(waiting: Kept) -> None:
    provider_id = waiting.job.attempt.provider_id
    assert provider_id is not None
    row = a_render(provider_id, quality={"sync_r": 0.75})

    def add(tx: Tx) -> None:
        tx.execute(insert(renders).values(row))

    await waiting.shop.db.write(add)
    ours = ScriptedProvider(waiting.shop.clock, traits=replace(TRAITS, is_ours=True))
    ours._keep(next(iter(waiting.shop.provider._by_id.values())))

    async def never(*_: Any, **__: Any) -> Mapping[str, Any]:
        raise AssertionError("measured twice")

    kept = await waiting.keeper(never).keep(waiting.job, ours)

    assert kept.quality is not None
    assert kept.quality["sync_r"] == 0.75
    assert kept.quality["video_codec"] == "h264"


def a_render(provider_id: str, **columns: Any) -> dict[str, Any]:
    return {
        "id": provider_id,
        "nonce": f"nonce-{provider_id}",
        "state": "succeeded",
        "output_key": "key",
        "created_at": NOON,
        "finished_at": NOON,
        **columns,
    }


async def test_our_own_video_must_have_the_length_of_the_speech(waiting: Kept) -> None:
    class TooLong(ScriptedProvider):
        async def save_output(self, provider_id: Any, output: str, target: Path) -> None:
            self._known(provider_id).speech_s = SPEECH_S + 2
            await super().save_output(provider_id, output, target)

    clock = waiting.shop.clock
    ours = TooLong(clock, traits=replace(TRAITS, is_ours=True))
    cloud = TooLong(clock)
    for provider in (ours, cloud):
        provider._keep(next(iter(waiting.shop.provider._by_id.values())))

    with pytest.raises(VideoRefused):
        await waiting.keeper().keep(waiting.job, ours)
    kept = await waiting.keeper().keep(waiting.job, cloud)

    assert [notice.code for notice in kept.notices] == ["video_length_differs"]


async def test_rubbish_is_not_a_video(waiting: Kept) -> None:
    class Rubbish(ScriptedProvider):
        async def save_output(self, provider_id: Any, output: str, target: Path) -> None:
            write(target, b"this is no video at all" * 100)

    with pytest.raises(VideoUnreadable):
        await waiting.keeper().keep(waiting.job, Rubbish(waiting.shop.clock))


async def test_a_video_that_nobody_can_name_is_lost(waiting: Kept) -> None:
    unnamed = replace(waiting.job, tried=(replace(waiting.job.attempt, output=None),))

    with pytest.raises(OutputLost):
        await waiting.keeper().keep(unnamed, waiting.shop.provider)
