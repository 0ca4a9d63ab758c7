"""Claims in SQL: the reconciler takes what is due, and hands it back.

    look_around       how much is due for whom, and when the next one is
    claim             take rows whose time has come and whose lease is over
    claimed_before    what an earlier run of the same claim took
    intend            created -> submitting: the attempt and its nonce, before any call
    adopt             created -> submitting: an attempt that runs after all
    inputs_of         what a create call needs
    release, extend   hand rows back unchanged; keep those that are still being worked on

A claim sets `due_at` to the end of its lease, so whoever makes the row due meanwhile leaves a
trace: `due_at` differs from `lease_until`, and is kept. Every later write carries the claim's
token. What became of a row is written by `steps.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    bindparam,
    case,
    func,
    insert,
    select,
    update,
)

from sayso.clock import Instant
from sayso.db.listed import among, listed
from sayso.db.tables import artifacts, generations, predictions
from sayso.db.tx import Topic, Tx, announce
from sayso.generations.rules import AttemptRecord, Job, State
from sayso.ids import GenerationId, Nonce
from sayso.providers.base import LipSyncInputs, StoredInput

MOST_CLAIMED: Final = 500

g = generations.c
p = predictions.c

_JOB_COLUMNS: Final = (
    g.id,
    g.account_id,
    g.model,
    g.provider,
    g.state,
    g.public_status,
    g.percent,
    g.basis,
    g.stage,
    g.attempts,
    g.seconds,
    g.price_micros,
    g.created_at,
    g.started_at,
    g.deadline_at,
    g.cancel_requested_at,
    g.cancel_after_s,
)
_ATTEMPT_COLUMNS: Final = (
    p.attempt,
    p.nonce,
    p.provider_id,
    p.state,
    p.output,
    p.submitted_at,
    p.missed_at,
    p.finished_at,
    p.fetched_at,
    p.called_at,
    p.twin_of,
)
_ATTEMPT_FIELDS: Final = (
    "number",
    *(column.name for column in _ATTEMPT_COLUMNS[1:]),
)


@dataclass(frozen=True, slots=True)
class Due:
    """Rows of one provider in one state that wait to be claimed."""

    provider: str
    state: State
    count: int
    since: Instant


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look around sees; `next_at` is the next due time to come."""

    due: tuple[Due, ...]
    next_at: Instant | None


def look_around(tx: Tx, *, now: Instant) -> Sight:
    """Return what is due, and when the next row will be."""
    due = tx.execute(_DUE, {"now": now}).all()
    next_at = tx.execute(_NEXT, {"now": now}).scalar_one_or_none()
    return Sight(tuple(Due(name, State(state), n, at) for name, state, n, at in due), next_at)


_DUE: Final = (
    select(g.provider, g.state, func.count(), func.min(g.due_at))
    .where(g.due_at <= bindparam("now"), g.lease_until <= bindparam("now"))
    .group_by(g.provider, g.state)
)
_NEXT: Final = select(g.due_at).where(g.due_at > bindparam("now")).order_by(g.due_at).limit(1)


def in_flight(tx: Tx) -> dict[str, int]:
    """Return how many generations each provider works on."""
    counted = tx.execute(
        select(g.provider, func.count())
        .where(g.due_at.is_not(None), g.state == "running")
        .group_by(g.provider)
    )
    return {str(row[0]): int(row[1]) for row in counted}


def claim(
    tx: Tx,
    *,
    provider: str,
    state: State,
    limit: int,
    token: str,
    now: Instant,
    lease_until: Instant,
) -> list[Job]:
    """Take up to `limit` due rows of a provider in one state, those due longest first."""
    jobs = tx.execute(
        _CLAIM,
        {
            "of_provider": provider,
            "in_state": state,
            "now": now,
            "most": min(limit, MOST_CLAIMED),
            "lease": lease_until,
            "token": token,
        },
    ).all()
    return _with_attempts(tx, jobs)


def claimed_before(tx: Tx, *, token: str, lease_until: Instant) -> list[Job]:
    """Return what this very claim took when its commit went through after all."""
    return _with_attempts(tx, tx.execute(_CLAIMED, {"lease": lease_until, "token": token}).all())


def _with_attempts(tx: Tx, rows: Sequence[Any]) -> list[Job]:
    tried = _attempts(tx, [row.id for row in rows]) if any(row.attempts for row in rows) else {}
    return [_to_job(row, tried.get(row.id, ())) for row in rows]


_CLAIMED: Final = select(*_JOB_COLUMNS).where(
    g.due_at == bindparam("lease"), g.claim_token == bindparam("token")
)

_TAKEN: Final = (
    select(g.id)
    .where(
        g.due_at <= bindparam("now"),
        g.lease_until <= bindparam("now"),
        g.provider == bindparam("of_provider"),
        g.state == bindparam("in_state"),
    )
    .order_by(g.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
    .cte("taken")
)
_CLAIM: Final = (
    update(generations)
    .where(g.id.in_(select(_TAKEN.c.id)))
    .values(
        due_at=bindparam("lease"), lease_until=bindparam("lease"), claim_token=bindparam("token")
    )
    .returning(*_JOB_COLUMNS)
)


def intend(tx: Tx, jobs: Sequence[Job], nonces: Sequence[Nonce], *, now: Instant) -> list[Job]:
    """Write down the attempts that are about to be sent, one nonce for each job.

    An attempt that was refused is sent again as it is. Returns the jobs as they stand now.
    """
    if not jobs:
        return []
    intended: list[Job] = []
    fresh: list[dict[str, object]] = []
    for job, nonce in zip(jobs, nonces, strict=True):
        if job.tried and job.attempt.state == "refused":
            record = replace(job.attempt, state="submitting", submitted_at=now)
            tried = tuple(record if one.number == record.number else one for one in job.tried)
        else:
            record = AttemptRecord(
                number=job.next_number,
                nonce=nonce,
                provider_id=None,
                state="submitting",
                output=None,
                submitted_at=now,
                missed_at=None,
                finished_at=None,
            )
            tried = (*job.tried, record)
            fresh.append(_attempt_row(job, record, now))
        intended.append(replace(job, state=State.SUBMITTING, attempts=record.number, tried=tried))
    new = {row["nonce"] for row in fresh}
    if fresh:
        tx.execute(_NEW_ATTEMPT, fresh)
    again = [
        {"of_nonce": job.attempt.nonce, "now": now}
        for job in intended
        if job.attempt.nonce not in new
    ]
    if again:
        tx.execute(_SEND_AGAIN, again)
    tx.execute(_INTEND, [{"of_id": job.id, "number": job.attempts} for job in intended])
    return intended


def adopt(tx: Tx, jobs: Sequence[Job], *, now: Instant) -> None:
    """Hand back claimed jobs as submitted ones: nothing is sent, their attempts are searched for.

    See `rules.is_open_again`.
    """
    if jobs:
        tx.execute(_ADOPT, {"ids": listed(job.id for job in jobs), "now": now})
        announce(tx, Topic.DUE)


_ADOPT: Final = (
    update(generations)
    .where(among(g.id))
    .values(state="submitting", due_at=bindparam("now"), lease_until=0, claim_token=None)
)
_SEND_AGAIN: Final = (
    update(predictions)
    .where(p.nonce == bindparam("of_nonce"))
    .values(state="submitting", submitted_at=bindparam("now"))
)
_INTEND: Final = (
    update(generations)
    .where(g.id == bindparam("of_id"))
    .values(state="submitting", attempts=bindparam("number"))
)
_NEW_ATTEMPT: Final = insert(predictions)


def _attempt_row(job: Job, record: AttemptRecord, now: Instant) -> dict[str, object]:
    return {
        "generation_id": job.id,
        "attempt": record.number,
        "nonce": record.nonce,
        "provider": job.provider,
        "state": record.state,
        "created_at": now,
        "submitted_at": now,
    }


def inputs_of(tx: Tx, ids: Sequence[GenerationId]) -> dict[GenerationId, LipSyncInputs]:
    """Return what the create calls of these generations need."""
    rows = tx.execute(_INPUTS, {"ids": listed(ids)})
    return {
        GenerationId(row[0]): LipSyncInputs(
            prompt=row[1],
            options=row[2],
            portrait=StoredInput(**dict(zip(_STORED_AS, row[3:8], strict=True))),
            speech=StoredInput(**dict(zip(_STORED_AS, row[8:13], strict=True))),
            speech_s=float(row[13]["duration_s"]),
        )
        for row in rows
    }


_STORED: Final = ("id", "storage_key", "content_type", "size_bytes", "sha256")
_STORED_AS: Final = ("id", "key", "content_type", "size_bytes", "sha256")
_PORTRAIT: Final = artifacts.alias("portrait")
_SPEECH: Final = artifacts.alias("speech")
_INPUTS: Final = (
    select(
        g.id,
        g.prompt,
        g.options,
        *(_PORTRAIT.c[name] for name in _STORED),
        *(_SPEECH.c[name] for name in _STORED),
        _SPEECH.c.facts,
    )
    .select_from(
        generations.join(_PORTRAIT, _PORTRAIT.c.id == g.portrait_id).join(
            _SPEECH, _SPEECH.c.id == g.speech_id
        )
    )
    .where(among(g.id))
)


def release(tx: Tx, jobs: Iterable[tuple[GenerationId, Instant]], *, token: str) -> None:
    """Hand rows back to which nothing happened, each to be looked at at its time."""
    by_time: dict[Instant, list[GenerationId]] = {}
    for generation_id, due_at in jobs:
        by_time.setdefault(due_at, []).append(generation_id)
    for due_at, ids in by_time.items():
        tx.execute(_RELEASE, {"ids": listed(ids), "token": token, "due": due_at})


def extend(
    tx: Tx, *, tokens: Sequence[str], ids: Sequence[GenerationId], lease_until: Instant
) -> None:
    """Keep rows that are still being worked on; whoever made one due meanwhile is heard."""
    tx.execute(_EXTEND, {"ids": listed(ids), "tokens": listed(tokens), "due": lease_until})


# `due_at` stays, if somebody has made the row due since it was claimed.
_DUE_OR_SOONER: Final = case((g.due_at == g.lease_until, bindparam("due")), else_=g.due_at)
_RELEASE: Final = (
    update(generations)
    .where(among(g.id), g.claim_token == bindparam("token"))
    .values(lease_until=0, claim_token=None, due_at=_DUE_OR_SOONER)
)
_EXTEND: Final = (
    update(generations)
    .where(among(g.id), among(g.claim_token, name="tokens"))
    .values(lease_until=bindparam("due"), due_at=_DUE_OR_SOONER)
)


def _attempts(tx: Tx, ids: Sequence[GenerationId]) -> dict[GenerationId, tuple[AttemptRecord, ...]]:
    rows = tx.execute(_ATTEMPTS, {"ids": listed(ids)})
    tried: dict[GenerationId, tuple[AttemptRecord, ...]] = {}
    for generation_id, *values in rows:
        record = AttemptRecord(**dict(zip(_ATTEMPT_FIELDS, values, strict=True)))
        tried[generation_id] = (*tried.get(generation_id, ()), record)
    return tried


def _to_job(row: Sequence[Any], tried: tuple[AttemptRecord, ...]) -> Job:
    return Job(
        id=row[0],
        account_id=row[1],
        model=row[2],
        provider=row[3],
        state=State(row[4]),
        public_status=row[5],
        percent=row[6],
        basis=row[7],
        stage=row[8],
        attempts=row[9],
        seconds=row[10],
        price_micros=row[11],
        created_at=row[12],
        started_at=row[13],
        deadline_at=row[14],
        cancel_requested_at=row[15],
        cancel_after_s=row[16],
        tried=tried,
    )


_ATTEMPTS: Final = (
    select(p.generation_id, *_ATTEMPT_COLUMNS)
    .where(among(p.generation_id))
    .order_by(p.generation_id, p.attempt)
)
