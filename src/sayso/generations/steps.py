"""Steps in SQL: what became of claimed rows, in one transaction for a whole claim.

    write_steps       move the rows, note it on their attempts, settle
    settle            the only way to money
    strays            attempts that still run for a generation that has ended or moved on
    pace_of           how long the latest generations of a model took
    prune_keys        forget old `Idempotency-Key`s

Every write carries the claim's token, except a create's answer: it is recorded on its attempt
whatever became of the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Text,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)

from sayso.clock import SECOND, Instant
from sayso.credits import store as ledger
from sayso.credits.rules import Micros, ReleaseReason
from sayso.db.insert import insert_if_new
from sayso.db.tables import artifacts, generations, idempotency_keys, predictions
from sayso.db.tx import Topic, Tx, announce
from sayso.generations.claims import among
from sayso.generations.rules import Bind, End, Job, State
from sayso.generations.store import hold_id_of
from sayso.generations.written import (
    AttemptChange,
    KeptVideo,
    Step,
    Written,
    attempt_after,
    row_after,
)
from sayso.ids import GenerationId, ProviderId
from sayso.providers.base import Prediction, PredictionStatus

Tell = Callable[[Tx, Sequence[GenerationId], Instant], None]
"""Writes what is to be told about changed generations, in the transaction of the change."""

g = generations.c
p = predictions.c


def write_steps(
    tx: Tx, steps: Sequence[Step], *, now: Instant, tell: Tell | None = None
) -> frozenset[GenerationId]:
    """Write what became of claimed rows; return the ids of those that were no longer ours.

    All steps share one transaction. The same steps again find their rows moved, and do nothing.
    `tell` hears of the rows whose watchers see a difference.
    """
    answered = [step for step in steps if isinstance(step.outcome, Bind)]
    _record_answers(tx, answered)
    rows = _lock(tx, [step.job.id for step in steps])
    won = [step for step in steps if _is_ours(rows.get(step.job.id), step)]
    lost = frozenset(step.job.id for step in steps) - {step.job.id for step in won}
    written = [row_after(step, rows[step.job.id], now=now) for step in won]
    changes = [c for step in won if (c := attempt_after(step, now=now)) is not None]
    _note_attempts(tx, changes)
    _move(tx, [w for w in written if w.end is None])
    for step, end in zip(won, written, strict=True):
        if end.end is not None:
            _finish(tx, step.job, end, rows[step.job.id].notices, now=now)
            settle(tx, step.job, end.end, now=now)
    for change in changes:
        if change.is_loss:
            _book_loss(tx, change, now)
    _wake_lost(tx, [step.job.id for step in answered if step.job.id in lost], now)
    news = [w.id for w in written if w.is_news]
    if news:
        announce(tx, Topic.CHANGED)
        if tell is not None:
            tell(tx, news, now)
    return lost


def settle(tx: Tx, job: Job, end: End, *, now: Instant) -> None:
    """End a generation's hold as the generation ended: the only way to money."""
    if job.price_micros == 0:
        return
    hold_id = hold_id_of(job.id)
    if end.state is State.SUCCEEDED:
        ledger.capture(tx, hold_id=hold_id, amount=Micros(job.price_micros), at=now)
    else:
        reason = ReleaseReason(end.release_reason or "failed")
        ledger.release(tx, hold_id=hold_id, reason=reason, at=now)


@dataclass(frozen=True, slots=True)
class Stray:
    """An attempt that may still run, for a generation that has ended or moved on."""

    generation_id: GenerationId
    number: int
    provider: str
    provider_id: ProviderId


def strays(tx: Tx, *, limit: int) -> list[Stray]:
    """Return attempts that nobody waits for any more and that have not ended yet."""
    rows = tx.execute(
        select(p.generation_id, p.attempt, p.provider, p.provider_id)
        .join(generations, g.id == p.generation_id)
        .where(
            p.finished_at.is_(None),
            p.provider_id.is_not(None),
            or_(g.completed_at.is_not(None), p.attempt < g.attempts),
        )
        .limit(limit)
    )
    return [Stray(*row) for row in rows]


def end_strays(tx: Tx, ended: Sequence[tuple[Stray, Prediction]], *, now: Instant) -> None:
    """Note how strays ended, and book what they cost as our loss."""
    for stray, seen in ended:
        change = AttemptChange(
            generation_id=stray.generation_id,
            number=stray.number,
            state=seen.status.value,
            cost_micros=seen.cost_micros,
            finished_at=now,
            is_loss=True,
        )
        _note_attempts(tx, [change])
        _book_loss(tx, change, now)


def pace_of(tx: Tx, *, model: str, limit: int = 20) -> list[tuple[float, int]]:
    """Return (seconds taken, seconds of speech) of the model's latest successes."""
    rows = tx.execute(
        select(g.completed_at - func.coalesce(g.started_at, g.created_at), g.seconds)
        .where(g.model == model, g.state == "succeeded")
        .order_by(g.completed_at.desc())
        .limit(limit)
    )
    return [(max(taken, 0) / SECOND, seconds) for taken, seconds in rows]


def prune_keys(tx: Tx, *, before: Instant) -> None:
    """Forget `Idempotency-Key`s that are older than anybody's retries."""
    tx.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at < before))


def _lock(tx: Tx, ids: Sequence[GenerationId]) -> dict[str, Any]:
    """Lock rows in the order of their ids, so that two batches never wait for each other."""
    rows = tx.execute(
        select(g.id, g.state, g.claim_token, g.version, g.due_at, g.lease_until, g.notices)
        .where(among(tx, g.id, ids))
        .order_by(g.id)
        .with_for_update()
    )
    return {row.id: row for row in rows}


def _is_ours(row: Any, step: Step) -> bool:
    return bool(row and row.claim_token == step.token and row.state == step.job.state)


def _record_answers(tx: Tx, steps: Sequence[Step]) -> None:
    """Record the answers of create calls on their attempts, whoever has the claim by now."""
    answers = [
        {
            "of_id": step.job.id,
            "number": step.job.attempt.number,
            "answer": step.outcome.prediction.provider_id,
            "new_state": _attempt_state(step.outcome.prediction),
        }
        for step in steps
        if isinstance(step.outcome, Bind)
    ]
    if answers:
        tx.execute(_ANSWER, answers)


_ANSWER: Final = (
    update(predictions)
    .where(
        p.generation_id == bindparam("of_id"),
        p.attempt == bindparam("number"),
        p.provider_id.is_(None),
    )
    .values(provider_id=bindparam("answer"), state=bindparam("new_state"))
)


def _attempt_state(seen: Prediction) -> str:
    """Return the attempt's state at its creation; how it ended is noted when it is looked at."""
    return "starting" if seen.status is PredictionStatus.STARTING else "processing"


def _wake_lost(tx: Tx, ids: Sequence[GenerationId], now: Instant) -> None:
    """Let whoever has the claim now see the answer that was recorded."""
    if ids:
        tx.execute(
            update(generations).where(among(tx, g.id, ids), g.due_at > now).values(due_at=now)
        )
        announce(tx, Topic.DUE)


def _note_attempts(tx: Tx, changes: Sequence[AttemptChange]) -> None:
    if changes:
        tx.execute(
            _NOTE,
            [
                {
                    "of_id": change.generation_id,
                    "number": change.number,
                    "new_state": change.state,
                    "new_output": change.output,
                    "cost": change.cost_micros,
                    "raw": change.raw_error,
                    "missed": change.missed_at,
                    "finished": change.finished_at,
                }
                for change in changes
            ],
        )


_NOTE: Final = (
    update(predictions)
    .where(p.generation_id == bindparam("of_id"), p.attempt == bindparam("number"))
    .values(
        state=func.coalesce(bindparam("new_state", type_=Text), p.state),
        output=func.coalesce(bindparam("new_output", type_=Text), p.output),
        cost_micros=func.coalesce(bindparam("cost", type_=BigInteger), p.cost_micros),
        raw_error=func.coalesce(bindparam("raw", type_=Text), p.raw_error),
        missed_at=func.coalesce(bindparam("missed", type_=BigInteger), p.missed_at),
        finished_at=func.coalesce(bindparam("finished", type_=BigInteger), p.finished_at),
    )
)


def _move(tx: Tx, written: Sequence[Written]) -> None:
    """Write rows that live on, and hand them back."""
    if written:
        tx.execute(
            _MOVE,
            [
                {
                    "of_id": w.id,
                    "new_state": w.state,
                    "status": w.public_status,
                    "new_percent": w.percent,
                    "new_basis": w.basis,
                    "new_stage": w.stage,
                    "new_logs": w.logs,
                    "started": w.started_at,
                    "deadline": w.deadline_at,
                    "due": w.due_at,
                    "new_version": w.version,
                }
                for w in written
            ],
        )


# `changed_at` is the version, which is the time of the change or just after the last one.
_MOVE: Final = (
    update(generations)
    .where(g.id == bindparam("of_id"))
    .values(
        state=bindparam("new_state"),
        public_status=bindparam("status"),
        percent=bindparam("new_percent"),
        basis=bindparam("new_basis"),
        stage=bindparam("new_stage"),
        logs=func.coalesce(bindparam("new_logs", type_=Text), g.logs),
        started_at=bindparam("started"),
        deadline_at=bindparam("deadline"),
        due_at=bindparam("due"),
        version=bindparam("new_version"),
        changed_at=bindparam("new_version"),
        lease_until=0,
        claim_token=None,
    )
)


def _finish(tx: Tx, job: Job, written: Written, notices: Any, *, now: Instant) -> None:
    """Write a row's end; the video's own row comes first."""
    assert written.end is not None
    kept = written.kept
    told = [{"code": notice.code, "text": notice.text} for notice in written.notices]
    tx.execute(
        update(generations)
        .where(g.id == job.id)
        .values(
            state=written.state,
            public_status=written.public_status,
            percent=written.percent,
            basis=written.basis,
            stage=written.stage,
            logs=func.coalesce(literal(written.logs, Text), g.logs),
            video_id=None if kept is None else _insert_video(tx, job, kept, now),
            error_code=written.end.code,
            error=written.end.text,
            quality=None if kept is None or kept.quality is None else dict(kept.quality),
            notices=[*notices, *told],
            due_at=None,
            lease_until=0,
            claim_token=None,
            completed_at=now,
            version=written.version,
            changed_at=written.version,
        )
    )


def _insert_video(tx: Tx, job: Job, kept: KeptVideo, now: Instant) -> str:
    """Insert the video's row; the same video of the same account is one file and one row."""
    insert_if_new(
        tx,
        artifacts,
        id=kept.id,
        account_id=job.account_id,
        kind="video",
        sha256=kept.sha256,
        size_bytes=kept.size_bytes,
        content_type="video/mp4",
        storage_key=kept.key,
        facts=dict(kept.facts),
        created_at=now,
    )
    a = artifacts.c
    found = tx.execute(
        select(a.id).where(
            a.account_id == job.account_id, a.kind == "video", a.sha256 == kept.sha256
        )
    )
    return str(found.scalar_one())


def _book_loss(tx: Tx, change: AttemptChange, now: Instant) -> None:
    ledger.book_loss(
        tx,
        generation_id=change.generation_id,
        attempt=change.number,
        reason="nothing was delivered",
        at=now,
    )
