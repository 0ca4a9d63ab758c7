"""Steps in SQL: what became of claimed rows, in one transaction for a whole claim.

    write_steps       move the rows, note it on their attempts, settle
    settle            the only way to money
    note_attempts     what became of attempts
    book_loss         what an attempt cost us and nobody pays for
    pace_of           how long the latest generations of a model took
    prune_keys        forget old `Idempotency-Key`s

Every write carries the claim's token, except a create's answer: it is recorded on its attempt
whatever became of the claim. An attempt that a callback has bound meanwhile, or whose input was
fetched, is neither refused nor absent, whatever the call or the search came to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Insert,
    Text,
    bindparam,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from sayso.artifacts.keys import digest_of
from sayso.clock import SECOND, Instant
from sayso.credits import batch as ledger_batch
from sayso.credits import store as ledger
from sayso.credits.rules import Micros, ReleaseReason, Settlement, capturing, releasing
from sayso.db.listed import among, listed
from sayso.db.tables import artifacts, generations, idempotency_keys, predictions
from sayso.db.tx import Topic, Tx, announce
from sayso.generations import evidence
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
from sayso.ids import GenerationId
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
    rows = _lock(tx, [step.job.id for step in steps])
    answered = [step for step in steps if isinstance(step.outcome, Bind)]
    _record_answers(tx, answered, now)
    won = [step for step in steps if _is_ours(rows.get(step.job.id), step)]
    lost = frozenset(step.job.id for step in steps) - {step.job.id for step in won}
    written = [row_after(step, rows[step.job.id], now=now) for step in won]
    changes = [c for step in won if (c := attempt_after(step, now=now)) is not None]
    note_attempts(tx, changes)
    _move(tx, [w for w in written if w.end is None])
    ends = [
        _Ending(step.job, w, w.end)
        for step, w in zip(won, written, strict=True)
        if w.end is not None
    ]
    _finish(tx, ends, now=now)
    settle(tx, ends, now=now)
    for change in changes:
        if change.is_loss:
            book_loss(tx, change, now)
    _wake_lost(tx, [step.job.id for step in answered if step.job.id in lost], now)
    news = [w.id for w in written if w.is_news]
    if news:
        announce(tx, Topic.CHANGED)
        if tell is not None:
            tell(tx, news, now)
    return lost


@dataclass(frozen=True, slots=True)
class _Ending:
    """A generation that ends: as it was, what it becomes, and why."""

    job: Job
    written: Written
    end: End


def settle(tx: Tx, ends: Sequence[_Ending], *, now: Instant) -> None:
    """End the holds of generations as the generations ended: the only way to money."""
    settlements = {
        hold_id_of(ending.job.id): _settlement(ending.end, ending.job.price_micros)
        for ending in ends
        if ending.job.price_micros > 0
    }
    ledger_batch.settle_all(tx, settlements, at=now)


def _settlement(end: End, price_micros: int) -> Settlement:
    if end.state is State.SUCCEEDED:
        return capturing(Micros(price_micros))
    return releasing(ReleaseReason(end.release_reason or "failed"))


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
    return {row.id: row for row in tx.execute(_LOCK, {"ids": listed(ids)})}


_LOCK: Final = (
    select(g.id, g.state, g.claim_token, g.version, g.due_at, g.lease_until)
    .where(among(g.id))
    .order_by(g.id)
    .with_for_update()
)


def _is_ours(row: Any, step: Step) -> bool:
    return bool(row and row.claim_token == step.token and row.state == step.job.state)


def _record_answers(tx: Tx, steps: Sequence[Step], now: Instant) -> None:
    """Record the answers of create calls on their attempts, whoever has the claim by now.

    An attempt that has another prediction by now, from a callback, has a twin.
    """
    answers: list[dict[str, Any]] = [
        {
            "of_id": step.job.id,
            "number": step.job.attempt.number,
            "answer": step.outcome.prediction.provider_id,
            "new_state": _attempt_state(step.outcome.prediction),
        }
        for step in steps
        if isinstance(step.outcome, Bind)
    ]
    if not answers or tx.execute(_ANSWER, answers).rowcount == len(answers):
        return
    rows = tx.execute(_ANSWERED, {"ids": listed(answer["of_id"] for answer in answers)})
    bound = {(row.generation_id, row.attempt): row for row in rows}
    for answer in answers:
        attempt = bound.get((answer["of_id"], answer["number"]))
        if attempt is None or attempt.provider_id == answer["answer"]:
            continue
        if not evidence.is_known(tx, attempt.provider, answer["answer"]):
            evidence.add_twin(tx, attempt, answer["answer"], now=now)


_ANSWERED: Final = select(
    p.generation_id, p.attempt, p.provider, p.provider_id, p.submitted_at
).where(among(p.generation_id))
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
        tx.execute(_WAKE, {"ids": listed(ids), "now": now})
        announce(tx, Topic.DUE)


_WAKE: Final = (
    update(generations)
    .where(among(g.id), g.due_at > bindparam("now"))
    .values(due_at=bindparam("now"))
)


def note_attempts(tx: Tx, changes: Sequence[AttemptChange]) -> None:
    """Write what became of attempts."""
    usual = [change for change in changes if change.state not in _NOT_CREATED]
    if usual:
        tx.execute(_NOTE, [_noted(change) for change in usual])
    not_created = [change for change in changes if change.state in _NOT_CREATED]
    if not_created:
        tx.execute(_NOTE_UNBOUND, [_noted(change) for change in not_created])


_NOT_CREATED: Final = frozenset({"refused", "absent"})


def _noted(change: AttemptChange) -> dict[str, Any]:
    return {
        "of_id": change.generation_id,
        "number": change.number,
        "new_state": change.state,
        "new_output": change.output,
        "cost": change.cost_micros,
        "raw": change.raw_error,
        "missed": change.missed_at,
        "finished": change.finished_at,
    }


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


_NOTE_UNBOUND: Final = _NOTE.where(p.provider_id.is_(None), p.fetched_at.is_(None))


def _move(tx: Tx, written: Sequence[Written]) -> None:
    """Write rows that live on, and hand them back."""
    if written:
        tx.execute(
            _MOVE,
            [
                {
                    **_standing(w),
                    "started": w.started_at,
                    "deadline": w.deadline_at,
                    "due": w.due_at,
                }
                for w in written
            ],
        )


def _standing(written: Written) -> dict[str, Any]:
    """Return the parameters of `_STAND`: where a row stands after any step."""
    return {
        "of_id": written.id,
        "new_state": written.state,
        "status": written.public_status,
        "new_percent": written.percent,
        "new_basis": written.basis,
        "new_stage": written.stage,
        "new_logs": written.logs,
        "new_version": written.version,
    }


# `changed_at` is the version, which is the time of the change or just after the last one.
_STAND: Final = (
    update(generations)
    .where(g.id == bindparam("of_id"))
    .values(
        state=bindparam("new_state"),
        public_status=bindparam("status"),
        percent=bindparam("new_percent"),
        basis=bindparam("new_basis"),
        stage=bindparam("new_stage"),
        logs=func.coalesce(bindparam("new_logs", type_=Text), g.logs),
        version=bindparam("new_version"),
        changed_at=bindparam("new_version"),
        lease_until=0,
        claim_token=None,
    )
)
_MOVE: Final = _STAND.values(
    started_at=bindparam("started"),
    deadline_at=bindparam("deadline"),
    due_at=bindparam("due"),
)


def _finish(tx: Tx, ends: Sequence[_Ending], *, now: Instant) -> None:
    """Write how generations ended; the rows of their videos come first."""
    if not ends:
        return
    videos = _insert_videos(tx, ends, now)
    found = tx.execute(_NOTICES, {"ids": listed(ending.job.id for ending in ends)})
    so_far = {row.id: row.notices for row in found}
    tx.execute(
        _FINISH,
        [
            {
                **_standing(ending.written),
                "video": _video_of(ending, videos),
                "code": ending.end.code,
                "text": ending.end.text,
                "figures": _quality_of(ending.written.kept),
                "told": [*so_far[ending.job.id], *map(asdict, ending.written.notices)],
                "now": now,
            }
            for ending in ends
        ],
    )


_FINISH: Final = _STAND.values(
    video_id=bindparam("video"),
    error_code=bindparam("code"),
    error=bindparam("text"),
    quality=bindparam("figures"),
    notices=bindparam("told"),
    due_at=None,
    completed_at=bindparam("now"),
)


_NOTICES: Final = select(g.id, g.notices).where(among(g.id))


def _quality_of(kept: KeptVideo | None) -> dict[str, Any] | None:
    return None if kept is None or kept.quality is None else dict(kept.quality)


def _video_of(ending: _Ending, videos: Mapping[str, str]) -> str | None:
    kept = ending.written.kept
    return None if kept is None else videos[kept.key]


def _insert_videos(tx: Tx, ends: Sequence[_Ending], now: Instant) -> dict[str, str]:
    """Insert the videos' rows; return their ids by the files' names.

    Each generation has a file and a row of its own, also where the content is the same.
    """
    rows = [
        {
            "id": kept.id,
            "account_id": ending.job.account_id,
            "kind": "video",
            "sha256": digest_of(kept.key),
            "size_bytes": kept.size_bytes,
            "content_type": "video/mp4",
            "storage_key": kept.key,
            "facts": dict(kept.facts),
            "created_at": now,
        }
        for ending in ends
        if (kept := ending.written.kept) is not None
    ]
    if not rows:
        return {}
    tx.execute(_insert_if_new(tx.dialect.name), rows)
    found = tx.execute(_VIDEOS, {"ids": listed({str(row["storage_key"]) for row in rows})})
    return {row.storage_key: row.id for row in found}


@cache
def _insert_if_new(dialect: str) -> Insert:
    if dialect == "postgresql":
        return postgresql.insert(artifacts).on_conflict_do_nothing()
    return sqlite.insert(artifacts).on_conflict_do_nothing()


_VIDEOS: Final = select(artifacts.c.storage_key, artifacts.c.id).where(
    among(artifacts.c.storage_key)
)


def book_loss(tx: Tx, change: AttemptChange, now: Instant) -> None:
    """Book what an attempt cost as our loss."""
    ledger.book_loss(
        tx,
        generation_id=change.generation_id,
        attempt=change.number,
        reason="nothing was delivered",
        at=now,
    )
