"""What a decision of the rules means for the row and for its attempt, pure.

Step        a claimed row, what was decided about it, and what it was decided on
KeptVideo   the stored video of a success
Written     the row's new values, and whether a watcher sees a difference
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from sayso.clock import Instant
from sayso.errors import Notice
from sayso.generations.pace import PERCENT_DONE, PERCENT_STORING
from sayso.generations.rules import (
    Bind,
    End,
    Job,
    Later,
    PublicStatus,
    Recreate,
    Refused,
    Retry,
    Search,
    State,
    Store,
    Unclear,
    Wait,
    later_status,
    no_later_than_stop,
    require_move,
)
from sayso.ids import ArtifactId, GenerationId
from sayso.providers.base import Prediction, PredictionStatus

LONGEST_LOGS: Final = 4_000
"""Characters of a provider's logs that are kept: the newest."""

Outcome = Wait | Store | Retry | End | Bind | Search | Recreate | Refused | Unclear | Later


class CurrentRow(Protocol):
    """The columns of a row that another may have written since it was claimed."""

    version: int
    due_at: int
    lease_until: int


@dataclass(frozen=True, kw_only=True)
class KeptVideo:
    """A video in the store, probed and measured."""

    id: ArtifactId
    key: str
    sha256: str
    size_bytes: int
    facts: Mapping[str, Any]
    quality: Mapping[str, Any] | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptChange:
    """New values of an attempt; None leaves a value as it is."""

    generation_id: GenerationId
    number: int
    state: str | None = None
    output: str | None = None
    cost_micros: int | None = None
    raw_error: str | None = None
    missed_at: Instant | None = None
    finished_at: Instant | None = None
    is_loss: bool = False
    """Whether nobody will pay for what it cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """New values of a row."""

    id: GenerationId
    state: State
    public_status: PublicStatus
    percent: int
    basis: str
    stage: str | None
    started_at: Instant | None
    deadline_at: Instant | None
    due_at: Instant | None
    version: int
    is_news: bool
    logs: str | None = None
    end: End | None = None
    kept: KeptVideo | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What was decided about a claimed row.

    `seen` is what the provider said; `kept` the stored video of a success; `raw_error` what only
    operators read. `look_at` is when to look first at a prediction that was just bound.
    """

    job: Job
    token: str
    outcome: Outcome
    seen: Prediction | None = None
    kept: KeptVideo | None = None
    raw_error: str | None = None
    look_at: Instant | None = None


def row_after(step: Step, row: CurrentRow, *, now: Instant) -> Written:
    """Return the row's new values; raise `IllegalMove` for a step that the table does not have."""
    job, outcome = step.job, step.outcome
    state = state_after(outcome, job.state)
    if state is not job.state:
        require_move(job.state, state)
    status, percent, basis, stage = job.public_status, job.percent, str(job.basis), job.stage
    started_at, deadline_at = job.started_at, job.deadline_at
    is_news = False
    match outcome:
        case Wait():
            status, percent, basis = outcome.public_status, outcome.percent, outcome.basis
            stage, is_news = outcome.stage, outcome.is_news
            started_at, deadline_at = outcome.started_at, outcome.deadline_at
        case Bind(prediction):
            if prediction.status is PredictionStatus.PROCESSING:
                status = later_status(status, "processing")
            is_news = status != job.public_status
        case Store():
            status = later_status(status, "processing")
            percent, basis, stage, is_news = PERCENT_STORING, "measured", "storing", True
            if step.seen is not None and started_at is None:
                started_at = step.seen.started_at
        case End():
            status, is_news = _final_status(outcome.state), True
            if outcome.state is State.SUCCEEDED:
                percent, basis, stage = PERCENT_DONE, "measured", None
    return Written(
        id=job.id,
        state=state,
        public_status=status,
        percent=percent,
        basis=basis,
        stage=stage,
        started_at=started_at,
        deadline_at=deadline_at,
        due_at=None if state.is_final else due_after(step, row, now=now),
        version=max(row.version + 1, now) if is_news else row.version,
        is_news=is_news,
        logs=_storable(_tail(step.seen.logs)) if step.seen is not None and is_news else None,
        end=outcome if isinstance(outcome, End) else None,
        kept=step.kept,
        notices=_notices(step),
    )


def state_after(outcome: Outcome, state: State) -> State:
    """Return the state that a decision leads to."""
    match outcome:
        case Bind():
            return State.RUNNING
        case Store():
            return State.STORING
        case Retry() | Recreate() | Refused():
            return State.CREATED
        case End():
            return outcome.state
        case _:
            return state


def due_after(step: Step, row: CurrentRow, *, now: Instant) -> Instant:
    """Return when the row is due next; one that was made due during its lease stays so."""
    if row.due_at != row.lease_until:
        return Instant(row.due_at)
    match step.outcome:
        case Retry() | Refused() | Unclear():
            return no_later_than_stop(step.job, step.job.deadline_at, step.outcome.due_at, now)
        case Wait() | Search() | Later():
            return step.outcome.due_at
        case Bind(prediction):
            if prediction.status.is_final or step.look_at is None:
                return now
            return no_later_than_stop(step.job, step.job.deadline_at, step.look_at, now)
        case _:
            return now


def attempt_after(  # noqa: PLR0911 (a table: one answer for each decision)
    step: Step, *, now: Instant
) -> AttemptChange | None:
    """Return what is noted on the latest attempt, or None."""
    if not step.job.tried:
        return None
    outcome, seen = step.outcome, step.seen
    change = AttemptChange(
        generation_id=step.job.id,
        number=step.job.attempt.number,
        cost_micros=None if seen is None else seen.cost_micros,
        raw_error=_storable(step.raw_error or _raw(seen)),
    )
    match outcome:
        case Store(output):
            return replace(change, state="succeeded", output=_storable(output), finished_at=now)
        case Retry():
            return replace(change, state="failed", finished_at=now, is_loss=True)
        case Search():
            return replace(change, missed_at=outcome.missed_at)
        case Recreate():
            # Not finished: it is searched for a while longer, should it come late after all.
            return replace(change, state="absent")
        case Refused():
            return replace(change, state="refused")
        case End():
            return _attempt_after_end(step, change, now)
        case _:
            return None


def _attempt_after_end(step: Step, change: AttemptChange, now: Instant) -> AttemptChange | None:
    seen, job = step.seen, step.job
    if step.kept is not None:
        return None
    if job.state is State.STORING:
        # What the provider made is not delivered; it costs us all the same.
        return replace(change, cost_micros=None, is_loss=True)
    if seen is not None and seen.status.is_final:
        return replace(change, state=seen.status.value, finished_at=now, is_loss=True)
    if step.raw_error is not None and job.attempt.provider_id is None:
        return replace(change, state="refused", finished_at=now)
    # It may still run at the provider: `strays` ends it, and books what it cost.
    return None


def _raw(seen: Prediction | None) -> str | None:
    return None if seen is None or seen.failure is None else seen.failure.raw


def _tail(logs: str | None) -> str | None:
    return None if logs is None else logs[-LONGEST_LOGS:]


def _storable(text: str | None) -> str | None:
    """Return a provider's text without what no database takes: NUL, and half of a character.

    A step that cannot be written would be taken for ever, and its hold would never end.
    """
    return None if text is None else _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def _notices(step: Step) -> tuple[Notice, ...]:
    if not isinstance(step.outcome, End):
        return ()
    return () if step.kept is None else step.kept.notices


def _final_status(state: State) -> PublicStatus:
    match state:
        case State.SUCCEEDED:
            return "succeeded"
        case State.FAILED:
            return "failed"
        case State.CANCELED:
            return "canceled"
    raise ValueError(f"{state} is not final")
