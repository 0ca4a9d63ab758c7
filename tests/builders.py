"""Builders: rows and values that a test needs but does not speak of."""

from __future__ import annotations

import itertools
from typing import Any, Final

from sqlalchemy import insert, select, update

from sayso.clock import Instant
from sayso.credits import store
from sayso.credits.rules import Hold, Micros, ReleaseReason
from sayso.db.tables import FINAL_STATES, artifacts, generations, predictions, renders
from sayso.db.tx import Tx
from sayso.ids import AccountId, GenerationId, HoldId, TransferId

ALICE: Final = AccountId("alice")
BOB: Final = AccountId("bob")
NOON: Final = Instant(1_790_000_000_000_000)
"""When things happen in tests, unless they say otherwise."""

_numbers: Final = itertools.count(1)


def an_account(tx: Tx, account_id: AccountId = ALICE, *, balance: int = 0) -> AccountId:
    """Open an account with some micros."""
    store.open_account(tx, account_id=account_id, at=NOON)
    if balance:
        store.grant(
            tx,
            transfer_id=TransferId(f"grant-{next(_numbers)}"),
            account_id=account_id,
            amount=Micros(balance),
            reason="builder",
            at=NOON,
        )
    return account_id


def a_generation(
    tx: Tx,
    *,
    generation_id: str | None = None,
    account_id: AccountId = ALICE,
    price: int = 40,
    state: str = "created",
    **columns: Any,
) -> GenerationId:
    """Insert a generation that costs `price` micros, without its hold."""
    named = generation_id or f"generation-{next(_numbers)}"
    is_final = state in FINAL_STATES
    row: dict[str, Any] = {
        "id": named,
        "account_id": account_id,
        "door": "api",
        "model": "sayso/portrait",
        "provider": "scripted",
        "state": state,
        "public_status": state if is_final else "starting",
        "price_micros": price,
        "rate_micros": price,
        "seconds": 1,
        "basis": "estimated",
        "due_at": None if is_final else NOON,
        "created_at": NOON,
        "changed_at": NOON,
        "completed_at": NOON if is_final else None,
        "error": "it failed" if state == "failed" else None,
        "video_id": a_video(tx, account_id, f"video-{named}") if state == "succeeded" else None,
    }
    tx.execute(insert(generations).values({**row, **columns}))
    return GenerationId(named)


def finish(tx: Tx, generation_id: GenerationId, state: str) -> None:
    """Move a generation to a final state, as the reconciler does with the settlement."""
    owner = select(generations.c.account_id).where(generations.c.id == generation_id)
    video = None
    if state == "succeeded":
        video = a_video(tx, tx.execute(owner).scalar_one(), f"video-{generation_id}")
    tx.execute(
        update(generations)
        .where(generations.c.id == generation_id)
        .values(
            state=state,
            public_status=state,
            completed_at=NOON,
            due_at=None,
            video_id=video,
            error="it failed" if state == "failed" else None,
            version=generations.c.version + 1,
        )
    )


def a_hold(
    tx: Tx,
    *,
    generation_id: GenerationId | None = None,
    account_id: AccountId = ALICE,
    amount: int = 40,
) -> Hold:
    """Place a hold, with a generation of that price unless one is named."""
    named = generation_id or a_generation(tx, account_id=account_id, price=amount)
    return store.place_hold(
        tx,
        hold_id=HoldId(f"hold-{named}"),
        account_id=account_id,
        generation_id=named,
        amount=Micros(amount),
        at=NOON,
    )


def a_prediction(tx: Tx, generation_id: GenerationId, *, attempt: int = 1, **columns: Any) -> None:
    """Insert an attempt."""
    row: dict[str, Any] = {
        "generation_id": generation_id,
        "attempt": attempt,
        "nonce": f"nonce-{next(_numbers)}",
        "provider": "scripted",
        "state": "submitting",
        "created_at": NOON,
    }
    tx.execute(insert(predictions).values({**row, **columns}))


def a_video(tx: Tx, account_id: AccountId = ALICE, artifact_id: str | None = None) -> str:
    """Insert a video's row."""
    named = artifact_id or f"video-{next(_numbers)}"
    tx.execute(
        insert(artifacts).values(
            id=named,
            account_id=account_id,
            kind="video",
            sha256=named,
            size_bytes=1,
            content_type="video/mp4",
            storage_key=named,
            created_at=NOON,
        )
    )
    return named


def a_history(tx: Tx) -> None:
    """One generation paid, one lost, one open, one free; a render that ended."""
    an_account(tx, balance=1_000)
    for name, ending in (("paid", "succeeded"), ("lost", "failed"), ("open", None)):
        generation = a_generation(tx, generation_id=name, price=40)
        hold = a_hold(tx, generation_id=generation, amount=40)
        a_prediction(tx, generation, provider_id=f"at-provider-{name}", nonce=f"nonce-{name}")
        if ending == "succeeded":
            store.capture(tx, hold_id=hold.id, amount=Micros(30), at=NOON)
        elif ending == "failed":
            store.release(tx, hold_id=hold.id, reason=ReleaseReason.FAILED, at=NOON)
        if ending:
            finish(tx, generation, ending)
    a_generation(tx, generation_id="free", price=0)
    tx.execute(
        insert(renders).values(
            id="done",
            nonce="nonce-of-render",
            state="succeeded",
            output_key="key",
            created_at=NOON,
            finished_at=NOON,
        )
    )
    tx.execute(
        update(generations)
        .where(generations.c.id == "open")
        .values(public_status="processing", version=7)
    )
