"""Credits for the doors and the operator: each call is one transaction, or one read.

A generation's hold, capture and release are not here: they happen inside the transaction that moves
the generation, by `credits.store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sayso.clock import Clock
from sayso.credits import store
from sayso.credits.audit import GRACE_S, Violation, verify
from sayso.credits.rules import DOLLAR, Balance, Entry, Hold, Micros
from sayso.db.connect import Database
from sayso.db.tables import LOCAL_ACCOUNT
from sayso.db.tx import Tx
from sayso.ids import AccountId, Ids, TransferId

STARTING_CREDITS: Final = Micros(5 * DOLLAR)
"""What a new local account starts with, so that the first run shows the whole flow."""


@dataclass(frozen=True)
class Statement:
    """What an account has, and the newest lines of how it came to that."""

    balance: Balance
    entries: list[Entry]
    open_holds: list[Hold]


class Credits:
    """The ledger's service."""

    def __init__(self, db: Database, *, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids

    async def open_local_account(self, *, starting: Micros = STARTING_CREDITS) -> AccountId:
        """Open the local account if it is new, with its starting credits, once; return its id."""
        return await self.open_account(AccountId(LOCAL_ACCOUNT), starting=starting)

    async def open_account(self, account_id: AccountId, *, starting: Micros) -> AccountId:
        """Open an account with credits to start with; one that is there stays as it is."""
        at = self._clock.now()

        def open_and_grant(tx: Tx) -> None:
            if store.open_account(tx, account_id=account_id, at=at) and starting > 0:
                store.grant(
                    tx,
                    transfer_id=TransferId(f"start:{account_id}"),
                    account_id=account_id,
                    amount=starting,
                    reason="starting credits",
                    at=at,
                )

        await self._db.write(open_and_grant)
        return account_id

    async def grant(
        self,
        account_id: AccountId,
        amount: Micros,
        *,
        reason: str,
        transfer_id: TransferId | None = None,
    ) -> Balance:
        """Give credits; with a `transfer_id` of the caller's a repeat changes nothing.

        Raises `NoSuchAccount`, `AmountInvalid`, `IdReused`.
        """
        named = transfer_id or TransferId(self._ids.new())
        at = self._clock.now()
        return await self._db.write(
            lambda tx: store.grant(
                tx, transfer_id=named, account_id=account_id, amount=amount, reason=reason, at=at
            )
        )

    async def balance(self, account_id: AccountId) -> Balance:
        """Return what the account has; raise `NoSuchAccount`."""
        return await self._db.read_point(lambda tx: store.balance(tx, account_id))

    async def statement(
        self, account_id: AccountId, *, before: int | None = None, limit: int = 50
    ) -> Statement:
        """Return balance, entries (newest first, below version `before`) and open holds.

        All of one moment. Raises `NoSuchAccount`.
        """
        return await self._db.snapshot(
            lambda tx: Statement(
                store.balance(tx, account_id),
                store.page_of_entries(tx, account_id, before=before, limit=limit),
                store.open_holds(tx, account_id),
            )
        )

    async def verify(self, *, grace_s: float = GRACE_S) -> list[Violation]:
        """Return what is wrong with the ledger, by the invariants of `audit.py`."""
        now = self._clock.now()
        return await self._db.snapshot(lambda tx: verify(tx, now=now, grace_s=grace_s))
