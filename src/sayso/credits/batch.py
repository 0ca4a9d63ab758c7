"""Many holds settled in one go: what `capture` and `release` do, for a whole batch.

The reconciler ends hundreds of generations in one transaction; a statement for each step of each of
them would cost more than all the rest of their lives. Here each step is one statement for all:
lock the holds, close them, book the accounts, write transfers and entries. The guards are the same:
a hold that ended so already is left alone, one that ended otherwise raises before anything is
written. Accounts and holds are touched in the order of their ids, so two batches never wait for
each other in a ring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, insert, select, update

from sayso.clock import Instant
from sayso.credits.rules import Hold, Micros, Settlement, TransferKind, is_settled_by
from sayso.credits.store import CLOSE, REVENUE, capture_id, closed_by, to_hold
from sayso.db.listed import among, listed
from sayso.db.tables import accounts, entries, holds, transfers
from sayso.db.tx import Tx
from sayso.errors import NoSuchHold
from sayso.ids import AccountId, HoldId


def settle_all(tx: Tx, settlements: Mapping[HoldId, Settlement], *, at: Instant) -> None:
    """Capture or release these holds, all or none.

    Raises `NoSuchHold`, `CaptureTooLarge`, `HoldAlreadySettled`. The same batch again changes
    nothing.
    """
    if not settlements:
        return
    rows = tx.execute(_LOCK, {"ids": listed(settlements)})
    found = {row.id: to_hold(row) for row in rows}
    missing = settlements.keys() - found.keys()
    if missing:
        raise NoSuchHold(f"There is no hold {min(missing)!r}.")
    closing = [
        (hold, settlements[hold.id])
        for hold in found.values()
        if not is_settled_by(hold, settlements[hold.id])
    ]
    if not closing:
        return
    tx.execute(CLOSE, [closed_by(settlement, hold.id, at) for hold, settlement in closing])
    booked = _book(tx, closing)
    captured = [(hold, settlement) for hold, settlement in closing if settlement.captured]
    if captured:
        tx.execute(insert(transfers), [_transfer(h, s, at) for h, s in captured])
        tx.execute(insert(entries), _entries(captured, booked))


@dataclass(frozen=True)
class _Booked:
    """An account after the batch."""

    balance: int
    version: int


def _book(tx: Tx, closing: Sequence[tuple[Hold, Settlement]]) -> dict[AccountId, _Booked]:
    """Take the batch out of its accounts: what is captured, and what was held."""
    booked: dict[AccountId, _Booked] = {}
    for account_id in sorted({hold.account_id for hold, _ in closing}):
        theirs = [(hold, s) for hold, s in closing if hold.account_id == account_id]
        row = tx.execute(
            _BOOK,
            {
                "account": account_id,
                "taken": sum(s.captured for _, s in theirs),
                "no_longer_held": sum(hold.amount for hold, _ in theirs),
                "lines": sum(s.captured > 0 for _, s in theirs),
            },
        ).one()
        booked[account_id] = _Booked(row.balance, row.version)
    return booked


def _transfer(hold: Hold, settlement: Settlement, at: Instant) -> dict[str, Any]:
    return {
        "id": capture_id(hold.id),
        "kind": TransferKind.CAPTURE,
        "debit_account": hold.account_id,
        "credit_account": REVENUE,
        "amount": settlement.captured,
        "hold_id": hold.id,
        "reason": "",
        "created_at": at,
    }


def _entries(
    captured: Sequence[tuple[Hold, Settlement]], booked: Mapping[AccountId, _Booked]
) -> list[dict[str, Any]]:
    """Return the entries; each account's are numbered backwards from where the batch left it."""
    after = dict(booked)
    lines: list[dict[str, Any]] = []
    for hold, settlement in reversed(captured):
        account = after[hold.account_id]
        amount = settlement.captured
        lines.append(_entry(hold, hold.account_id, Micros(-amount), account))
        lines.append(_entry(hold, REVENUE, amount, None))
        after[hold.account_id] = _Booked(account.balance + amount, account.version - 1)
    return lines[::-1]


def _entry(
    hold: Hold, account_id: AccountId, amount: Micros, account: _Booked | None
) -> dict[str, Any]:
    return {
        "transfer_id": capture_id(hold.id),
        "account_id": account_id,
        "amount": amount,
        "balance_after": None if account is None else account.balance,
        "version": None if account is None else account.version,
    }


_LOCK: Final = select(holds).where(among(holds.c.id)).order_by(holds.c.id).with_for_update()
_BOOK: Final = (
    update(accounts)
    .where(accounts.c.id == bindparam("account"))
    .values(
        balance=accounts.c.balance - bindparam("taken"),
        held=accounts.c.held - bindparam("no_longer_held"),
        version=accounts.c.version + bindparam("lines"),
    )
    .returning(accounts.c.balance, accounts.c.version)
)
