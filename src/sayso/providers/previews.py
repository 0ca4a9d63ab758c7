"""Previews: the first two seconds of a portrait with a speech, by our own engine, for nothing.

    Previews.make()    a preview, made now or less than an hour ago
    Preview            where its video lies, and until when

A preview is no generation: nothing is held, nothing is kept, nobody is told. It is a row in the
queue of renders, so the same limited children make it, a worker that dies loses nothing, and the
queue's bound holds for it. Its account may ask for so many an hour; the same inputs again are the
same preview, and do not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sayso.artifacts.intake import Artifact
from sayso.artifacts.keys import ArtifactKey
from sayso.clock import SECOND, Clock, Instant, after
from sayso.db.connect import Database
from sayso.db.tx import Topic, Tx
from sayso.errors import (
    InputRejected,
    Notice,
    PreviewNotReady,
    PreviewsUsedUp,
    ProviderUnavailable,
    QueueFull,
)
from sayso.ids import AccountId, Ids, ProviderId
from sayso.providers import renders
from sayso.providers.renders import PREVIEW_KEEP_S, Render

PREVIEW_S: Final = 2.0
"""How much of the speech is previewed."""

_LONG_SIDE_PX: Final = 480
# A look is one read of one row; nobody tells us of a render's end.
_LOOK_S: Final = 0.2
_RETRY_S: Final = 5.0
# One that is about to be deleted is made again.
_STILL_THERE_S: Final = 600.0


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A preview: its video, how long that is, when it is deleted, and what to know about it."""

    id: ProviderId
    video_key: ArtifactKey
    duration_s: float
    expires_at: Instant
    notices: tuple[Notice, ...]


class Previews:
    """See the module's docstring."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        ids: Ids,
        per_hour: int,
        queue: int,
        wait_s: float,
    ) -> None:
        """`queue` is how many renders may wait, `wait_s` how long a caller does."""
        self._db = db
        self._clock = clock
        self._ids = ids
        self._per_hour = per_hour
        self._queue = queue
        self._wait_s = wait_s

    async def make(
        self,
        account_id: AccountId,
        portrait: Artifact,
        speech: Artifact,
        *,
        notices: tuple[Notice, ...] = (),
    ) -> Preview:
        """Return the preview of a portrait and a speech that our engine can use.

        `notices` are what is known of them already. Raises `PreviewsUsedUp`, `QueueFull`,
        `PreviewNotReady` when it takes too long (the work goes on: ask again), `InputRejected` for
        what the engine cannot use after all, and `ProviderUnavailable` when it broke.
        """
        length_s = min(PREVIEW_S, speech.duration_s or PREVIEW_S)
        render_id, now = ProviderId(self._ids.new()), self._clock.now()
        digest = hashlib.sha256(f"{portrait.sha256} {speech.sha256}".encode()).hexdigest()[:32]
        inputs = {
            "portrait_key": portrait.key,
            "speech_key": speech.key,
            "speech_s": length_s,
            "first_s": PREVIEW_S,
            "options": {"size": _LONG_SIDE_PX},
        }
        render = await self._db.write(
            lambda tx: self._asked(
                tx, account_id, digest=digest, render_id=render_id, inputs=inputs, now=now
            )
        )
        render = await self._until_ended(render)
        _require_success(render)
        assert render.output_key is not None
        assert render.finished_at is not None
        return Preview(
            id=render.id,
            video_key=ArtifactKey(render.output_key),
            duration_s=length_s,
            expires_at=after(render.finished_at, PREVIEW_KEEP_S),
            notices=(*notices, *(n for n in render.notices if n not in notices)),
        )

    def _asked(
        self,
        tx: Tx,
        account_id: AccountId,
        *,
        digest: str,
        render_id: ProviderId,
        inputs: Mapping[str, Any],
        now: Instant,
    ) -> Render:
        """Find the preview or queue it."""
        fresh = after(now, _STILL_THERE_S - PREVIEW_KEEP_S)
        earlier = renders.find_preview(tx, account_id, digest, since=fresh)
        if earlier is not None:
            return earlier
        hour_ago = after(now, -PREVIEW_KEEP_S)
        asked, first_at = renders.count_previews(tx, account_id, since=hour_ago)
        if asked >= self._per_hour:
            assert first_at is not None
            raise PreviewsUsedUp(
                f"{asked} previews were made in an hour, which is as many as this service gives.",
                retry_after_s=(first_at - hour_ago) / SECOND,
            )
        if renders.count_open(tx) >= self._queue:
            raise QueueFull(
                "Too many videos wait to be made; try again in a little while.",
                retry_after_s=_RETRY_S,
            )
        nonce = renders.preview_nonce(account_id, digest, render_id)
        return renders.enqueue(tx, render_id=render_id, nonce=nonce, inputs=inputs, now=now)

    async def _until_ended(self, render: Render) -> Render:
        """Look until the render has ended; raise `PreviewNotReady` when that takes too long."""
        render_id = render.id
        end_s = self._clock.monotonic_s() + self._wait_s
        with self._db.listen(Topic.RENDERS) as wake:
            while render.finished_at is None:
                if self._clock.monotonic_s() >= end_s:
                    raise PreviewNotReady(
                        "The preview is not there yet and goes on being made; ask again.",
                        retry_after_s=_RETRY_S,
                    )
                await wake.wait(timeout_s=_LOOK_S)
                render = (await self._db.read_point(lambda tx: renders.fetch(tx, [render_id])))[0]
        return render


def _require_success(render: Render) -> None:
    if render.state == "succeeded":
        return
    text = render.error or "The preview could not be made; try again."
    kind = _INPUT_ERRORS.get(render.error_code or "")
    if kind is not None:
        raise kind(text)
    raise ProviderUnavailable(text, retry_after_s=_RETRY_S)


def _classes_from(root: type[InputRejected]) -> Iterator[type[InputRejected]]:
    yield root
    for kind in root.__subclasses__():
        yield from _classes_from(kind)


# A render keeps the code of its error; its caller is told with the class of it.
_INPUT_ERRORS: Final = {kind.code: kind for kind in _classes_from(InputRejected)}
