"""Takes a provider's video into our store: fetch, probe, measure, keep.

    VideoKeeper       the real one behind `lane.Keeper`
    measure_lips()    how well the lips follow the recording, measured in a limited child

Nothing is captured before this is done. Repeating it is harmless: the video's name in the store is
made of its content and its generation. Measuring is a service to the customer and never fails a
generation. Our own engine has measured what it rendered; a video from elsewhere is measured here,
by a sample of its frames.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import select

from sayso.artifacts.keys import ArtifactKey, own_key
from sayso.artifacts.store import ArtifactStore
from sayso.db.connect import Database
from sayso.db.tables import artifacts, generations
from sayso.db.tx import Tx
from sayso.errors import ChildCrashed, InputTooHard, OutputLost, SaysoError, VideoRefused
from sayso.generations.rules import Job
from sayso.generations.written import KeptVideo
from sayso.ids import ArtifactId, GenerationId, Ids
from sayso.media.child import ChildLimits, run_child
from sayso.media.inspection import Inspector
from sayso.media.probe import judge
from sayso.providers import renders
from sayso.providers.base import Provider

log = structlog.get_logger()


# A sample of frames, 15 ms each; for each second of speech 50 ms to hear it, and 15 ms to decode
# what lies between them (`engine.quality`). Frames may be larger, and machines slower.
_MEASURE_CPU_S: Final = 30
_MEASURE_CPU_PER_SPEECH_S: Final = 1


class Measure(Protocol):
    """Says how good a video is."""

    async def __call__(self, video: Path, *, speech: Path, speech_s: float) -> Mapping[str, Any]:
        """Return figures for the receipt; raises an error of ours when there are none."""
        ...


async def measure_lips(video: Path, *, speech: Path, speech_s: float) -> Mapping[str, Any]:
    """Measure in a child how well the lips follow the recording; see `engine.quality.Quality`.

    Raises what `run_child` raises.
    """
    cpu_s = math.ceil(_MEASURE_CPU_S + _MEASURE_CPU_PER_SPEECH_S * speech_s)
    limits = ChildLimits(cpu_s=cpu_s, wall_s=4.0 * cpu_s, memory_bytes=2 << 30)
    said = await run_child(
        "inspect_video", {"path": str(video), "speech": str(speech)}, limits=limits
    )
    match said:
        case dict():
            return said
        case _:
            raise ChildCrashed("The measurement makes no sense.")


@dataclass(frozen=True)
class _Inputs:
    """What a video was made of."""

    speech_key: str | None
    speech_s: float


class VideoKeeper:
    """See the module's docstring."""

    def __init__(
        self,
        db: Database,
        *,
        ids: Ids,
        store: ArtifactStore,
        inspector: Inspector,
        folder: Path,
        measure: Measure | None = None,
        measure_max_s: float = 600.0,
    ) -> None:
        self._db = db
        self._ids = ids
        self._store = store
        self._inspector = inspector
        self._folder = folder
        self._measure = measure
        self._measure_max_s = measure_max_s

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
            quality = await self._quality(job, provider, video, inputs)
            sha256, size_bytes = await asyncio.to_thread(_digest, video)
            key = own_key(job.account_id, "video", owner=job.id, sha256=sha256, suffix="mp4")
            await self._store.put_file(key, video)
        facts = {
            "sha256": sha256,
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
            quality={**asdict(probe), **quality},
            notices=notices,
        )

    async def _quality(
        self, job: Job, provider: Provider, video: Path, inputs: _Inputs
    ) -> Mapping[str, Any]:
        """Return what the render measured of its video, or measure it; nothing if that fails."""
        provider_id = job.attempt.provider_id
        if provider.traits.is_ours and provider_id is not None:
            known = await self._db.read_point(lambda tx: renders.quality_of(tx, provider_id))
            if known is not None:
                return known
        if self._measure is None or inputs.speech_key is None:
            return {}
        if inputs.speech_s > self._measure_max_s:
            return {}
        try:
            speech = await self._fetched(inputs.speech_key, video.with_name("speech"))
            return await self._measure(video, speech=speech, speech_s=inputs.speech_s)
        except SaysoError as error:
            log.warning("a video was not measured", generation_id=job.id, code=error.code)
        except Exception:
            # No room for a copy of the speech, no process to be had: the video is there.
            log.exception("measuring a video broke", generation_id=job.id)
        return {}

    async def _fetched(self, key: str, target: Path) -> Path:
        own = self._store.local_path(ArtifactKey(key))
        if own is not None and own.exists():
            return own
        await self._store.copy_to(ArtifactKey(key), target)
        return target


def _inputs_of(tx: Tx, generation_id: GenerationId) -> _Inputs:
    g = generations.c
    row = tx.execute(
        select(artifacts.c.storage_key, artifacts.c.facts)
        .select_from(generations.outerjoin(artifacts, artifacts.c.id == g.speech_id))
        .where(g.id == generation_id)
    ).one()
    facts = row[1] or {}
    return _Inputs(row[0], float(facts.get("duration_s") or 0.0))


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
