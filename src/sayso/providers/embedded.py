"""Our own engine as a provider: predictions are renders in a queue of the same database.

A create call is an insert, idempotent by the attempt's nonce; a look is a select. The work is done
by render workers (`render_worker.py`), in this process or in others on the same database and store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.store import ArtifactStore
from sayso.clock import Clock, Instant
from sayso.db.connect import Database
from sayso.errors import (
    ArtifactMissing,
    ChildTimedOut,
    DatabaseUnavailable,
    InputRejected,
    OutputLost,
    ProviderTimedOut,
    ProviderUnavailable,
    SaysoError,
    StoreUnavailable,
)
from sayso.ids import Ids, Nonce, ProviderId
from sayso.providers import renders
from sayso.providers.base import (
    Attempt,
    Failure,
    FailureKind,
    LipSyncInputs,
    Prediction,
    PredictionStatus,
    ProviderTraits,
)
from sayso.providers.renders import Render

TRAITS: Final = ProviderTraits(
    name="embedded",
    label="Sayso",
    submit_is_idempotent=True,
    reads_per_call=100,
    # A render's change makes its generation due; looking is the net below that.
    look_s=30,
    queues=True,
    is_ours=True,
)

_STATUSES: Final[Mapping[str, PredictionStatus]] = {
    "queued": PredictionStatus.STARTING,
    "rendering": PredictionStatus.PROCESSING,
    "succeeded": PredictionStatus.SUCCEEDED,
    "failed": PredictionStatus.FAILED,
    "canceled": PredictionStatus.CANCELED,
}
_RETRY_S: Final = 5.0


class EmbeddedProvider:
    """See the module's docstring."""

    traits: Final = TRAITS

    def __init__(self, db: Database, *, clock: Clock, ids: Ids, artifacts: ArtifactStore) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._artifacts = artifacts

    async def submit(self, attempt: Attempt, inputs: LipSyncInputs) -> Prediction:
        """Queue a render for the attempt, or return the one that it has."""
        render_id = ProviderId(self._ids.new())
        now = self._clock.now()
        wanted = {
            "portrait_key": inputs.portrait.key,
            "speech_key": inputs.speech.key,
            "speech_s": inputs.speech_s,
            "options": dict(inputs.options),
        }
        try:
            render = await self._db.write(
                lambda tx: renders.enqueue(
                    tx, render_id=render_id, nonce=attempt.nonce, inputs=wanted, now=now
                )
            )
        except DatabaseUnavailable as error:
            raise ProviderTimedOut("The render could not be queued.") from error
        return to_prediction(render)

    async def fetch_many(self, ids: Sequence[ProviderId]) -> Mapping[ProviderId, Prediction]:
        """Look at renders."""
        found = await self._db.read_point(lambda tx: renders.fetch(tx, ids))
        return {render.id: to_prediction(render) for render in found}

    async def find(self, nonce: Nonce, *, since: Instant) -> Prediction | None:  # noqa: ARG002 (an index needs no time)
        """Find the render of an attempt."""
        found = await self._db.read_point(lambda tx: renders.find_by_nonce(tx, nonce))
        return None if found is None else to_prediction(found)

    async def cancel(self, provider_id: ProviderId) -> None:
        """Ask for the end of a render; one that waits ends at once."""
        now = self._clock.now()
        await self._db.write(lambda tx: renders.request_cancel(tx, provider_id, now=now))

    async def save_output(self, provider_id: ProviderId, output: str, target: Path) -> None:  # noqa: ARG002 (the output says it all)
        """Copy the render's video out of the store."""
        try:
            await self._artifacts.copy_to(ArtifactKey(output), target)
        except ArtifactMissing as error:
            raise OutputLost("The video is no longer there.") from error
        except StoreUnavailable as error:
            raise ProviderUnavailable(str(error), retry_after_s=_RETRY_S) from error


def to_prediction(render: Render) -> Prediction:
    """Return a render as the reconciler sees it."""
    percent = None
    if render.frames_total:
        percent = min(100, 100 * render.frames_done // render.frames_total)
    return Prediction(
        provider_id=render.id,
        status=_STATUSES[render.state],
        output=render.output_key,
        failure=_failure_of(render) if render.state == "failed" else None,
        percent=percent,
        stage=_stage_of(render),
        cost_micros=0,
        started_at=render.started_at,
        finished_at=render.finished_at,
        notices=render.notices,
    )


def _stage_of(render: Render) -> str:
    if render.state == "queued":
        return "queued"
    return "rendering" if render.frames_total else "listening"


def _failure_of(render: Render) -> Failure:
    code = render.error_code or SaysoError.code
    text = render.error or "The engine could not make the video"
    kind = FailureKind.TRANSIENT
    if code in _INPUT_CODES:
        kind = FailureKind.PERMANENT
    elif code == ChildTimedOut.code:
        kind = FailureKind.TIMEOUT
    return Failure(kind, code, text, text)


def _codes_of(root: type[SaysoError]) -> Iterator[str]:
    yield root.code
    for kind in root.__subclasses__():
        yield from _codes_of(kind)


_INPUT_CODES: Final = frozenset(_codes_of(InputRejected))
