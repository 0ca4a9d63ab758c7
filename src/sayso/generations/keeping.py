"""Takes a provider's video into our store: fetch, probe, measure, keep.

Nothing is captured before this is done. Repeating it is harmless: the video's name in the store is
its content. Measuring is a service to the customer and never fails a generation.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import structlog
from sqlalchemy import select

from sayso.artifacts.keys import ArtifactKey, artifact_key
from sayso.artifacts.store import ArtifactStore
from sayso.db.connect import Database
from sayso.db.tables import artifacts, generations
from sayso.db.tx import Tx
from sayso.errors import InputTooHard, OutputLost, SaysoError, VideoRefused
from sayso.generations.rules import Job
from sayso.generations.written import KeptVideo
from sayso.ids import ArtifactId, GenerationId, Ids
from sayso.media.inspection import Inspector
from sayso.media.probe import judge
from sayso.providers.base import Provider

log = structlog.get_logger()


class Measure(Protocol):
    """Says how good a video is: lips in time with the speech, and the picture's own figures."""

    async def __call__(
        self, video: Path, *, portrait: Path, speech: Path, speech_s: float
    ) -> Mapping[str, Any]:
        """Return figures for the receipt; raises what `run_child` raises."""
        ...


@dataclass(frozen=True)
class _Inputs:
    """What a video was made of."""

    portrait_key: str | None
    speech_key: str | None
    speech_s: float


class VideoKeeper:
    """See the module's docstring; the real one behind `lane.Keeper`."""

    def __init__(
        self,
        db: Database,
        *,
        ids: Ids,
        store: ArtifactStore,
        inspector: Inspector,
        folder: Path,
        measure: Measure | None = None,
    ) -> None:
        self._db = db
        self._ids = ids
        self._store = store
        self._inspector = inspector
        self._folder = folder
        self._measure = measure

    async def keep(self, job: Job, provider: Provider) -> KeptVideo:
        """Fetch, probe, measure and store the video of a generation.

        Raises `OutputLost`, `VideoRefused`, `VideoUnreadable` for good, other errors of ours for
        now.
        """
        inputs = await self._db.read_point(lambda tx: _inputs_of(tx, job.id))
        provider_id, output = job.attempt.provider_id, job.attempt.output
        if provider_id is None or output is None:
            raise OutputLost("Nobody knows where the video lies.")
        with TemporaryDirectory(prefix="keep-", dir=self._folder) as name:
            video = Path(name) / "video.mp4"
            await provider.save_output(provider_id, output, video)
            try:
                probe = await self._inspector.video(video)
            except InputTooHard as error:
                raise VideoRefused("It takes too much time or memory to read.") from error
            is_ours = provider.traits.is_ours
            notices = judge(probe, speech_s=inputs.speech_s, is_ours=is_ours)
            quality = await self._measured(job, video, inputs, Path(name))
            sha256, size_bytes = await asyncio.to_thread(_digest, video)
            key = artifact_key(job.account_id, "video", sha256=sha256, suffix="mp4")
            await self._store.put_file(key, video)
        facts = {
            "width": probe.width,
            "height": probe.height,
            "duration_s": probe.duration_video_s,
            "probe": asdict(probe),
        }
        return KeptVideo(
            id=ArtifactId(self._ids.new()),
            key=key,
            sha256=sha256,
            size_bytes=size_bytes,
            facts=facts,
            quality={"probe": asdict(probe), **quality},
            notices=notices,
        )

    async def _measured(
        self, job: Job, video: Path, inputs: _Inputs, folder: Path
    ) -> Mapping[str, Any]:
        if self._measure is None or inputs.portrait_key is None or inputs.speech_key is None:
            return {}
        try:
            return await self._measure(
                video,
                portrait=await self._fetched(inputs.portrait_key, folder / "portrait"),
                speech=await self._fetched(inputs.speech_key, folder / "speech"),
                speech_s=inputs.speech_s,
            )
        except SaysoError as error:
            log.warning("a video was not measured", generation_id=job.id, code=error.code)
            return {}

    async def _fetched(self, key: str, target: Path) -> Path:
        own = self._store.local_path(ArtifactKey(key))
        if own is not None and own.exists():
            return own
        await self._store.copy_to(ArtifactKey(key), target)
        return target


def _inputs_of(tx: Tx, generation_id: GenerationId) -> _Inputs:
    g = generations.c
    portrait, speech = artifacts.alias("portrait"), artifacts.alias("speech")
    row = tx.execute(
        select(portrait.c.storage_key, speech.c.storage_key, speech.c.facts)
        .select_from(
            generations.outerjoin(portrait, portrait.c.id == g.portrait_id).outerjoin(
                speech, speech.c.id == g.speech_id
            )
        )
        .where(g.id == generation_id)
    ).one()
    facts = row[2] or {}
    return _Inputs(row[0], row[1], float(facts.get("duration_s") or 0.0))


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
