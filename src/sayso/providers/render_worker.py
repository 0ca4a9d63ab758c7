"""Render workers: claim a render, run the engine in a limited child, store its video.

    RenderWorkers.run()    as many renders at a time as asked for, until `stop`
    RenderLimits           what one render may use

The child only renders: its parent, this module, writes the rows. While it runs the parent extends
the lease, notes progress at most twice a second and ends the child when a cancel was asked for. A
worker that is stopped hands its renders back; one that is killed leaves leases that run out. A
store or a database that is away for a minute or two is waited for: it costs no render.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import structlog

from sayso.artifacts.keys import ArtifactKey, artifact_key
from sayso.artifacts.store import ArtifactStore
from sayso.clock import Clock, Instant, after
from sayso.db.changes import Wake
from sayso.db.connect import Database
from sayso.db.tx import Topic
from sayso.errors import (
    ArtifactMissing,
    Canceled,
    ChildTimedOut,
    DatabaseUnavailable,
    SaysoError,
    StoreUnavailable,
)
from sayso.ids import Ids
from sayso.media.child import ChildLimits, Json, run_child
from sayso.providers import renders
from sayso.providers.renders import PREVIEW_KEEP_S, OnChange, Render

log = structlog.get_logger()

_LEASE_S: Final = 20.0
_HEARTBEAT_S: Final = 5.0
_REPORT_S: Final = 0.5
_IDLE_S: Final = 2.0
_SWEEP_S: Final = 600.0
# Longer than the reconciler tries to store a video (`Policy.keep_max_s`).
_FORGET_S: Final = 4 * 3600.0
_WALL_PER_CPU: Final = 4.0
# Between tries while the store or the database is away.
_PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0)

# What the engine calls the options of the catalogue.
_ENGINE_NAMES: Final[Mapping[str, str]] = {"size": "long_side_px"}


class RunRender(Protocol):
    """What `run_child` does for us."""

    async def __call__(
        self,
        task: str,
        arguments: Mapping[str, Json],
        *,
        limits: ChildLimits,
        on_progress: Any,
        cancel: asyncio.Event,
    ) -> Json:
        """Run a task in a child and return its result."""
        ...


@dataclass(frozen=True, kw_only=True)
class RenderLimits:
    """What a render may use; processor time grows with the speech."""

    cpu_s: float = 30
    cpu_per_speech_s: float = 2
    memory_bytes: int = 2 << 30
    file_bytes: int = 1 << 30
    measure_max_s: float = 600
    """Longest speech whose video is measured, in seconds."""
    image: Mapping[str, Json] = field(default_factory=dict)
    """Fields of `ImageLimits` that differ from their defaults."""
    speech: Mapping[str, Json] = field(default_factory=dict)
    """Fields of `SpeechLimits` that differ from their defaults."""

    def of(self, speech_s: float) -> ChildLimits:
        """Return the limits of one render."""
        cpu_s = math.ceil(self.cpu_s + self.cpu_per_speech_s * speech_s)
        return ChildLimits(
            cpu_s=cpu_s,
            wall_s=_WALL_PER_CPU * cpu_s,
            memory_bytes=self.memory_bytes,
            file_bytes=self.file_bytes,
        )

    def measures(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the video of these inputs is measured; nobody asks for figures of a preview."""
        return inputs.get("first_s") is None and float(inputs["speech_s"]) <= self.measure_max_s


@dataclass
class _InHand:
    """A render that a child works on."""

    render: Render
    token: str
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    frames: tuple[int, int | None] | None = None
    is_lost: bool = False


class RenderWorkers:
    """See the module's docstring."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        ids: Ids,
        artifacts: ArtifactStore,
        folder: Path,
        on_change: OnChange,
        at_once: int = 1,
        limits: RenderLimits | None = None,
        run: RunRender = run_child,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._artifacts = artifacts
        self._folder = folder
        self._on_change = on_change
        self._at_once = at_once
        self._limits = limits or RenderLimits()
        self._run_child = run
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._in_hand: set[_InHand] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Render until `stop` is called; then hand back what is in hand."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_house())
            for _ in range(self._at_once):
                group.create_task(self._work())

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()

    async def render_one(self) -> bool:
        """Take one render and finish it; return False when none waits."""
        render, token = await self._claim()
        if render is None:
            return False
        await self._finish(render, token)
        return True

    async def _work(self) -> None:
        with self._db.listen(Topic.RENDERS) as wake:
            while not self._stopping.is_set():
                try:
                    if await self.render_one():
                        continue
                except DatabaseUnavailable as error:
                    log.warning("a render worker cannot reach the database", code=error.code)
                await self._rest(wake, _IDLE_S)

    async def _rest(self, wake: Wake, seconds: float) -> bool:
        """Wait for a while, for news of renders, or for the end; return whether there was news."""
        hearing = asyncio.create_task(wake.wait(timeout_s=seconds))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({hearing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return hearing.done() and hearing.result()
        finally:
            hearing.cancel()
            stopping.cancel()
            await asyncio.gather(hearing, stopping, return_exceptions=True)

    async def _claim(self) -> tuple[Render | None, str]:
        token, now = self._ids.new(), self._clock.now()
        render = await self._db.write(
            lambda tx: renders.claim(
                tx,
                worker=self._name,
                token=token,
                now=now,
                lease_until=after(now, _LEASE_S),
                on_change=self._on_change,
            )
        )
        return render, token

    async def _finish(self, render: Render, token: str) -> None:
        """Render, and write down how it ended."""
        in_hand = _InHand(render, token)
        watching = asyncio.create_task(self._watch(in_hand))
        try:
            ending = await self._rendered(in_hand)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        if ending is None:
            await self._db.write(lambda tx: renders.hand_back(tx, render, token=token))
            return
        now = self._clock.now()
        finish = partial(
            renders.finish, render=render, token=token, now=now, on_change=self._on_change, **ending
        )
        await _patiently(
            lambda: self._db.write(finish), trouble=DatabaseUnavailable, stop=self._stopping
        )

    async def _rendered(self, in_hand: _InHand) -> dict[str, Any] | None:
        """Make and store the video; return how the render ended, None when it is to be resumed."""
        render = in_hand.render
        try:
            with TemporaryDirectory(prefix="render-", dir=self._folder) as name:
                return await self._rendered_in(Path(name), in_hand)
        except Canceled:
            return None if self._stopping.is_set() or in_hand.is_lost else {"state": "canceled"}
        except SaysoError as error:
            log.warning(
                "a render failed",
                render_id=render.id,
                code=error.code,
                notes=getattr(error, "__notes__", None),
            )
            return {"state": "failed", "error_code": error.code, "error": _sentence(error)}
        except Exception:
            log.exception("a render broke", render_id=render.id)
            text = "The engine could not make the video"
            return {"state": "failed", "error_code": SaysoError.code, "error": text}

    async def _rendered_in(self, folder: Path, in_hand: _InHand) -> dict[str, Any]:
        render, inputs = in_hand.render, in_hand.render.inputs
        output = folder / "video.mp4"
        arguments: dict[str, Json] = {
            kind: str(await self._fetched(in_hand, inputs[f"{kind}_key"], folder / kind))
            for kind in ("portrait", "speech")
        }
        arguments |= {
            "output": str(output),
            "options": {_ENGINE_NAMES.get(k, k): v for k, v in inputs["options"].items()},
            "image_limits": dict(self._limits.image),
            "speech_limits": dict(self._limits.speech),
            "first_s": inputs.get("first_s"),
            "measure": self._limits.measures(inputs),
        }

        def on_progress(progress: Json) -> None:
            match progress:
                case {"stage": "rendering", "done": int(done), "total": int(total)}:
                    in_hand.frames = (done, total)

        said = await self._run_child(
            "render",
            arguments,
            limits=self._limits.of(float(inputs["speech_s"])),
            on_progress=on_progress,
            cancel=in_hand.cancel,
        )
        sha256 = await asyncio.to_thread(_sha256_of, output)
        key = artifact_key(render.id, "video", sha256=sha256, suffix="mp4")
        await _from_store(lambda: self._artifacts.put_file(key, output), in_hand)
        return {
            "state": "succeeded",
            "output_key": key,
            "notices": _notices_of(said),
            "quality": said.get("quality") if isinstance(said, dict) else None,
        }

    async def _fetched(self, in_hand: _InHand, key: str, target: Path) -> Path:
        """Return where an input lies: in the store's own folder, or copied to `target`."""
        own = self._artifacts.local_path(ArtifactKey(key))
        if own is not None and own.exists():
            return own
        await _from_store(lambda: self._artifacts.copy_to(ArtifactKey(key), target), in_hand)
        return target

    async def _watch(self, in_hand: _InHand) -> None:
        """Extend the lease, tell progress, and end the child when that is asked for."""
        told: tuple[int, int | None] | None = None
        beat_s = self._clock.monotonic_s()
        with self._db.listen(Topic.RENDERS) as wake:
            while not in_hand.cancel.is_set():
                # News may be a cancel of this render.
                is_asked = await self._rest(wake, _REPORT_S)
                if self._stopping.is_set():
                    in_hand.cancel.set()
                    return
                now_s = self._clock.monotonic_s()
                is_news = in_hand.frames != told
                if is_news or is_asked or now_s - beat_s >= _HEARTBEAT_S:
                    told, beat_s = in_hand.frames, now_s
                    await self._report(in_hand, told if is_news else None)
                # A burst of news is one look.
                await asyncio.sleep(_REPORT_S / 2)

    async def _report(self, in_hand: _InHand, frames: tuple[int, int | None] | None) -> None:
        lease_until: Instant = after(self._clock.now(), _LEASE_S)
        try:
            is_canceled = await self._db.write(
                lambda tx: renders.report(
                    tx,
                    in_hand.render,
                    token=in_hand.token,
                    frames=frames,
                    lease_until=lease_until,
                    on_change=self._on_change,
                )
            )
        except DatabaseUnavailable:
            return
        in_hand.is_lost = is_canceled is None
        if is_canceled is not False:
            in_hand.cancel.set()

    async def _keep_house(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._forget_old()
            except (DatabaseUnavailable, StoreUnavailable) as error:
                log.warning("old renders stay for now", code=error.code)
            with suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_S):
                    await self._stopping.wait()

    async def _forget_old(self) -> None:
        """Forget old renders and their videos: by now they are stored, given up, or seen."""
        now = self._clock.now()
        keys = await self._db.write(
            lambda tx: renders.forget(
                tx, before=after(now, -_FORGET_S), previews_before=after(now, -PREVIEW_KEEP_S)
            )
        )
        # Their rows are gone: one that cannot be deleted does not keep the others.
        deleted = (self._artifacts.delete(ArtifactKey(key)) for key in keys)
        for result in await asyncio.gather(*deleted, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


async def _from_store(call: Callable[[], Awaitable[object]], in_hand: _InHand) -> None:
    """Call the store, again while it is away; raise `Canceled` when the render is to end."""
    try:
        await _patiently(call, trouble=StoreUnavailable, stop=in_hand.cancel)
    except StoreUnavailable:
        if in_hand.cancel.is_set():
            raise Canceled("The render was canceled.") from None
        raise


async def _patiently(
    call: Callable[[], Awaitable[object]], *, trouble: type[SaysoError], stop: asyncio.Event
) -> None:
    """Call, again for a while as long as this is the trouble, and once more when told to stop."""
    for pause_s in _PAUSES_S:
        try:
            await call()
        except trouble as error:
            log.warning("a render waits", code=error.code)
        else:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await stop.wait()
            break
    await call()


def _sentence(error: SaysoError) -> str:
    """Say it to a customer: what a child's limits are is not for them."""
    if isinstance(error, ChildTimedOut):
        return "Making the video took too long"
    if isinstance(error, ArtifactMissing):
        return "An input is no longer there"
    return str(error)


def _notices_of(said: Json) -> list[dict[str, str]]:
    match said:
        case {"notices": [*notices]}:
            return [
                {"code": code, "text": text}
                for notice in notices
                if isinstance(notice, dict)
                and isinstance(code := notice.get("code"), str)
                and isinstance(text := notice.get("text"), str)
            ]
    return []


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
