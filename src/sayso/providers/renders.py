"""The embedded provider's queue in SQL: renders that workers claim with a lease.

    enqueue, find_by_nonce, fetch, quality_of, request_cancel     the provider's side
    claim, report, hand_back, finish, forget                      the workers' side
    find_preview, count_previews, count_open                      the previews' side (`previews.py`)

A render waits as `queued`, is `rendering` while a worker has it, and ends once. A worker that dies
leaves a lease that runs out; the next one takes the render up from its beginning, `MOST_TAKEN`
times at most. Every write of a worker carries its claim's token.

A preview waits in the same line. It belongs to no attempt: what stands in the place of the nonce
says whose it is and of what, `preview.{account}.{digest}.{id}`, and no nonce has a dot in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, delete, func, or_, select, update

from sayso.clock import Instant
from sayso.db.insert import insert_if_new
from sayso.db.tables import generations, predictions, renders
from sayso.db.tx import Topic, Tx, announce
from sayso.errors import Notice
from sayso.ids import AccountId, Nonce, ProviderId

MOST_TAKEN: Final = 3
"""How often a render may be taken up; one that kills its workers is not taken up for ever."""

PREVIEW_KEEP_S: Final = 3600.0
"""How long a preview is there, and for how long it counts against its account's limit."""

_PREVIEW: Final = "preview."

OnChange = Callable[[Tx, Nonce], None]
"""Called in the transaction of each change of a render, with the nonce of its attempt."""

r = renders.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Render:
    """A row of the queue."""

    id: ProviderId
    nonce: Nonce
    state: str
    inputs: Mapping[str, Any]
    frames_done: int
    frames_total: int | None
    attempts: int
    cancel_requested_at: Instant | None
    error_code: str | None
    error: str | None
    output_key: str | None
    notices: tuple[Notice, ...]
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None


_COLUMNS: Final = (
    r.id,
    r.nonce,
    r.state,
    r.inputs,
    r.frames_done,
    r.frames_total,
    r.attempts,
    r.cancel_requested_at,
    r.error_code,
    r.error,
    r.output_key,
    r.notices,
    r.created_at,
    r.started_at,
    r.finished_at,
)


def enqueue(
    tx: Tx, *, render_id: ProviderId, nonce: Nonce, inputs: Mapping[str, Any], now: Instant
) -> Render:
    """Queue a render; return the one that is there if the nonce was used."""
    is_new = insert_if_new(
        tx,
        renders,
        id=render_id,
        nonce=nonce,
        state="queued",
        inputs=dict(inputs),
        created_at=now,
    )
    if is_new:
        announce(tx, Topic.RENDERS)
    found = find_by_nonce(tx, nonce)
    assert found is not None
    return found


def find_by_nonce(tx: Tx, nonce: Nonce) -> Render | None:
    """Return the render of an attempt, or None."""
    row = tx.execute(select(*_COLUMNS).where(r.nonce == nonce)).one_or_none()
    return None if row is None else _to_render(row)


def fetch(tx: Tx, ids: Sequence[ProviderId]) -> list[Render]:
    """Return those of these renders that are known."""
    rows = tx.execute(select(*_COLUMNS).where(r.id.in_(ids)))
    return [_to_render(row) for row in rows]


def quality_of(tx: Tx, render_id: ProviderId) -> Mapping[str, Any] | None:
    """Return what was measured of a render's video; None where nothing was."""
    found: Mapping[str, Any] | None = tx.execute(
        select(r.quality).where(r.id == render_id)
    ).scalar_one_or_none()
    return found


def request_cancel(tx: Tx, render_id: ProviderId, *, now: Instant) -> None:
    """End a render that waits; ask the worker of one that does not."""
    waiting = and_(r.id == render_id, r.state == "queued")
    tx.execute(update(renders).where(waiting).values(state="canceled", finished_at=now))
    tx.execute(
        update(renders)
        .where(r.id == render_id, r.finished_at.is_(None), r.cancel_requested_at.is_(None))
        .values(cancel_requested_at=now)
    )
    announce(tx, Topic.RENDERS)


def claim(
    tx: Tx,
    *,
    worker: str,
    token: str,
    now: Instant,
    lease_until: Instant,
    on_change: OnChange,
) -> Render | None:
    """Take the render that has waited longest, or whose worker is gone; None if there is none.

    One that was to be canceled, or was taken up too often, is ended on the way.
    """
    while True:
        row = tx.execute(
            select(*_COLUMNS)
            .where(r.finished_at.is_(None), r.lease_until <= now)
            .order_by(r.created_at, r.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return None
        render = _to_render(row)
        on_change(tx, render.nonce)
        if render.cancel_requested_at is not None:
            _end(tx, render.id, now, state="canceled")
        elif render.attempts >= MOST_TAKEN:
            text = "The render was given up after it ended without a result several times"
            _end(tx, render.id, now, state="failed", error_code="child_crashed", error=text)
        else:
            tx.execute(
                update(renders)
                .where(r.id == render.id)
                .values(
                    state="rendering",
                    worker=worker,
                    claim_token=token,
                    lease_until=lease_until,
                    attempts=render.attempts + 1,
                    started_at=func.coalesce(r.started_at, now),
                    frames_done=0,
                )
            )
            return render


def report(
    tx: Tx,
    render: Render,
    *,
    token: str,
    frames: tuple[int, int | None] | None,
    lease_until: Instant,
    on_change: OnChange,
) -> bool | None:
    """Extend the lease and note progress (done, total); return whether it is to be canceled.

    None: the render is no longer this worker's.
    """
    values: dict[str, Any] = {"lease_until": lease_until}
    if frames is not None:
        values |= {"frames_done": frames[0], "frames_total": frames[1]}
    row = tx.execute(
        update(renders)
        .where(r.id == render.id, r.claim_token == token, r.finished_at.is_(None))
        .values(values)
        .returning(r.cancel_requested_at)
    ).one_or_none()
    if row is None:
        return None
    if frames is not None:
        on_change(tx, render.nonce)
    return row.cancel_requested_at is not None


def hand_back(tx: Tx, render: Render, *, token: str) -> None:
    """Let another worker take it up at once; this did not count."""
    tx.execute(
        update(renders)
        .where(r.id == render.id, r.claim_token == token, r.finished_at.is_(None))
        .values(lease_until=0, claim_token=None, attempts=render.attempts)
    )
    announce(tx, Topic.RENDERS)


def finish(
    tx: Tx,
    render: Render,
    *,
    token: str,
    now: Instant,
    on_change: OnChange,
    **ending: Any,
) -> bool:
    """End a render with `state` and what belongs to it; return False if it is not ours any more."""
    ended = tx.execute(
        update(renders)
        .where(r.id == render.id, r.claim_token == token, r.finished_at.is_(None))
        .values(finished_at=now, lease_until=0, claim_token=None, **ending)
    ).rowcount
    if ended:
        on_change(tx, render.nonce)
    return bool(ended)


def forget(tx: Tx, *, before: Instant, previews_before: Instant) -> list[str]:
    """Delete renders and previews that ended before these; return the keys of their videos.

    One whose generation has not ended stays: nobody may have been there to store its video.
    """
    is_old_preview = and_(r.nonce.startswith(_PREVIEW), r.finished_at < previews_before)
    is_old = or_(r.finished_at < before, is_old_preview)
    rows = tx.execute(delete(renders).where(is_old, ~_IS_WANTED).returning(r.output_key))
    return [key for (key,) in rows if key is not None]


_IS_WANTED: Final = (
    select(predictions.c.nonce)
    .join(generations, generations.c.id == predictions.c.generation_id)
    .where(
        predictions.c.nonce == r.nonce,
        or_(generations.c.completed_at.is_(None), predictions.c.finished_at.is_(None)),
    )
    .exists()
)


def preview_nonce(account_id: AccountId, digest: str, render_id: ProviderId) -> Nonce:
    """Return what stands in the place of a preview's nonce."""
    return Nonce(f"{_PREVIEW}{account_id}.{digest}.{render_id}")


def find_preview(tx: Tx, account_id: AccountId, digest: str, *, since: Instant) -> Render | None:
    """Return the account's latest preview of the same, unless it failed; None if there is none."""
    row = tx.execute(
        select(*_COLUMNS)
        .where(
            r.nonce.startswith(f"{_PREVIEW}{account_id}.{digest}.", autoescape=True),
            r.state.in_(("queued", "rendering", "succeeded")),
            r.created_at >= since,
        )
        .order_by(r.created_at.desc(), r.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _to_render(row)


def count_previews(tx: Tx, account_id: AccountId, *, since: Instant) -> tuple[int, Instant | None]:
    """Return how many previews the account has asked for since then, and when the first was."""
    row = tx.execute(
        select(func.count(), func.min(r.created_at)).where(
            r.nonce.startswith(f"{_PREVIEW}{account_id}.", autoescape=True), r.created_at >= since
        )
    ).one()
    return row[0], row[1]


def count_open(tx: Tx) -> int:
    """Return how many renders wait or run."""
    query = select(func.count()).select_from(renders).where(r.finished_at.is_(None))
    return int(tx.execute(query).scalar_one())


def _end(tx: Tx, render_id: ProviderId, now: Instant, **ending: Any) -> None:
    tx.execute(
        update(renders)
        .where(r.id == render_id)
        .values(finished_at=now, lease_until=0, claim_token=None, **ending)
    )


def _to_render(row: Sequence[Any]) -> Render:
    values = dict(zip((column.name for column in _COLUMNS), row, strict=True))
    values["notices"] = tuple(Notice(**notice) for notice in values["notices"])
    return Render(**values)
