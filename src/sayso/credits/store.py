"""The ledger in SQL: double entry, append only.

Every function takes `tx` and does its part of one transaction; ids and times are arguments, so any
of them may be run again. A repeat with the same id and the same content changes nothing and returns
what is there; with other content it raises.

    open_account  grant  adjust  book_loss      money comes in, is corrected, is lost
    place_hold  capture  release                a generation's money
    balance  hold_of  entries  open_holds       reads
    CLOSE  closed_by  capture_id  to_hold       what `batch` says in the same words

- The guards are in the statements: a hold is placed by `UPDATE ... WHERE balance - held >= amount`,
  settled by `UPDATE ... WHERE state = 'held'`. Whoever changes no row has lost a race, and looks.
- Nothing is written before the guard has let it pass: an error leaves no half of a step behind.
- A customer's account carries its balance, and its entries are numbered; a system account carries
  none (each capture would queue for that row), its entries are summed when somebody asks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NoReturn

from sqlalchemy import Row, and_, bindparam, func, insert, select, update

from sayso.clock import Instant
from sayso.credits.rules import (
    Balance,
    Entry,
    Hold,
    HoldState,
    Micros,
    ReleaseReason,
    Settlement,
    TransferKind,
    capturing,
    decimal_text,
    dollars,
    is_settled_by,
    positive,
    releasing,
)
from sayso.db.insert import insert_if_new
from sayso.db.tables import accounts, entries, holds, predictions, transfers
from sayso.db.tx import Tx
from sayso.errors import IdReused, InsufficientCredits, NoSuchAccount, NoSuchHold
from sayso.ids import AccountId, GenerationId, HoldId, TransferId

GRANTS: Final = AccountId("sys:grants")
REVENUE: Final = AccountId("sys:revenue")
ADJUSTMENTS: Final = AccountId("sys:adjustments")
LOSSES: Final = AccountId("sys:losses")
PROVIDERS: Final = AccountId("sys:providers")

LONGEST_PAGE: Final = 200
"""Lines of a statement that are read at once, at most."""


def open_account(tx: Tx, *, account_id: AccountId, at: Instant) -> bool:
    """Open a customer's account; return False if it is there already."""
    return insert_if_new(tx, accounts, id=account_id, kind="customer", created_at=at)


def grant(
    tx: Tx,
    *,
    transfer_id: TransferId,
    account_id: AccountId,
    amount: Micros,
    reason: str,
    at: Instant,
) -> Balance:
    """Give credits to a customer; raise `NoSuchAccount`, `AmountInvalid`, `IdReused`."""
    balance(tx, account_id)  # Raises for anybody but a customer.
    given = _Transfer(transfer_id, TransferKind.GRANT, GRANTS, account_id, amount, reason)
    _post_once(tx, given, at)
    return balance(tx, account_id)


def adjust(
    tx: Tx,
    *,
    transfer_id: TransferId,
    account_id: AccountId,
    amount: Micros,
    reason: str,
    at: Instant,
) -> Balance:
    """Correct a customer's balance by a signed amount; what is held stays covered.

    Raises `NoSuchAccount`, `AmountInvalid`, `InsufficientCredits`, `IdReused`.
    """
    balance(tx, account_id)  # The same.
    sides = (ADJUSTMENTS, account_id) if amount > 0 else (account_id, ADJUSTMENTS)
    corrected = Micros(abs(amount))
    _post_once(tx, _Transfer(transfer_id, TransferKind.ADJUSTMENT, *sides, corrected, reason), at)
    return balance(tx, account_id)


def book_loss(
    tx: Tx, *, generation_id: GenerationId, attempt: int, reason: str, at: Instant
) -> TransferId | None:
    """Book what an attempt cost us as our loss: nobody will pay for it.

    Returns the transfer, the same one when it is booked already; None if it cost nothing that we
    know of.
    """
    this = and_(predictions.c.generation_id == generation_id, predictions.c.attempt == attempt)
    cost = tx.execute(select(predictions.c.cost_micros).where(this)).scalar_one()
    if not cost:
        return None
    lost = _Transfer(
        id=TransferId(f"loss:{generation_id}:{attempt}"),
        kind=TransferKind.LOSS,
        debit_account=LOSSES,
        credit_account=PROVIDERS,
        amount=cost,
        reason=reason,
    )
    _post_once(tx, lost, at)
    tx.execute(update(predictions).where(this).values(loss_transfer_id=lost.id))
    return lost.id


def place_hold(
    tx: Tx,
    *,
    hold_id: HoldId,
    account_id: AccountId,
    generation_id: GenerationId,
    amount: Micros,
    at: Instant,
) -> Hold:
    """Promise part of what is available to a generation, whose row must be there.

    Raises `InsufficientCredits`, `NoSuchAccount`, `AmountInvalid`; `IdReused` when the id or the
    generation has another hold.
    """
    wanted = Hold(
        id=hold_id,
        account_id=account_id,
        generation_id=generation_id,
        amount=positive(amount),
        state=HoldState.HELD,
        captured=Micros(0),
        release_reason=None,
        created_at=at,
        closed_at=None,
    )
    if tx.execute(_RESERVE, {"account": account_id, "micros": amount}).rowcount == 0:
        return _earlier_hold(tx, wanted) or _refuse(tx, wanted)
    is_new = insert_if_new(
        tx,
        holds,
        id=hold_id,
        account_id=account_id,
        generation_id=generation_id,
        amount=amount,
        state=HoldState.HELD,
        created_at=at,
    )
    if is_new:
        return wanted
    tx.execute(_UNRESERVE, {"account": account_id, "micros": amount})
    earlier = _earlier_hold(tx, wanted)
    if earlier is None:
        raise IdReused(f"Generation {generation_id} has another hold already.")
    return earlier


def capture(tx: Tx, *, hold_id: HoldId, amount: Micros, at: Instant) -> Hold:
    """Spend part or all of a hold and release the rest, in one step.

    Raises `NoSuchHold`, `CaptureTooLarge`, `AmountInvalid`; `HoldAlreadySettled` if it was released
    or captured with another amount. The same capture again changes nothing.
    """
    hold, is_new = _settle(tx, hold_id, capturing(amount), at)
    if is_new:
        tx.execute(_UNRESERVE, {"account": hold.account_id, "micros": hold.amount})
        is_posted = _post(
            tx,
            _Transfer(
                id=capture_id(hold_id),
                kind=TransferKind.CAPTURE,
                debit_account=hold.account_id,
                credit_account=REVENUE,
                amount=amount,
                reason="",
                hold_id=hold_id,
            ),
            at,
        )
        assert is_posted, "a hold that was open has no capture"
    return hold


def release(tx: Tx, *, hold_id: HoldId, reason: ReleaseReason, at: Instant) -> Hold:
    """Give a hold back whole.

    Raises `NoSuchHold`; `HoldAlreadySettled` if it was captured or released for another reason. The
    same release again changes nothing.
    """
    hold, is_new = _settle(tx, hold_id, releasing(reason), at)
    if is_new:
        tx.execute(_UNRESERVE, {"account": hold.account_id, "micros": hold.amount})
    return hold


def balance(tx: Tx, account_id: AccountId) -> Balance:
    """Return what a customer has; raise `NoSuchAccount`."""
    row = tx.execute(
        select(accounts.c.balance, accounts.c.held).where(
            accounts.c.id == account_id, accounts.c.kind == "customer"
        )
    ).one_or_none()
    if row is None:
        raise NoSuchAccount(f"There is no account {account_id!r}.")
    return Balance(Micros(row.balance), Micros(row.held))


def system_total(tx: Tx, account_id: AccountId) -> Micros:
    """Return the sum of a system account's entries: what was granted, earned, lost."""
    total = tx.execute(
        select(func.coalesce(func.sum(entries.c.amount), 0)).where(
            entries.c.account_id == account_id
        )
    ).scalar_one()
    return Micros(int(total))


def hold_of(tx: Tx, generation_id: GenerationId) -> Hold | None:
    """Return the hold of a generation; a free one has none."""
    row = tx.execute(select(holds).where(holds.c.generation_id == generation_id)).one_or_none()
    return None if row is None else to_hold(row)


def open_holds(tx: Tx, account_id: AccountId, *, limit: int = LONGEST_PAGE) -> list[Hold]:
    """Return an account's open holds, the oldest first."""
    rows = tx.execute(
        select(holds)
        .where(holds.c.account_id == account_id, holds.c.closed_at.is_(None))
        .order_by(holds.c.created_at, holds.c.id)
        .limit(min(limit, LONGEST_PAGE))
    )
    return [to_hold(row) for row in rows]


def count_held(tx: Tx) -> tuple[int, Micros]:
    """Return how many holds are open, and what they hold in all."""
    found = select(func.count(), func.sum(holds.c.amount)).where(holds.c.closed_at.is_(None))
    count, amount = tx.execute(found).one()
    return count, Micros(int(amount or 0))


def page_of_entries(
    tx: Tx, account_id: AccountId, *, before: int | None = None, limit: int = 50
) -> list[Entry]:
    """Return a customer's entries, the newest first; `before` is the last page's lowest version."""
    query = (
        select(
            entries,
            transfers.c.kind,
            transfers.c.reason,
            transfers.c.created_at,
            holds.c.generation_id,
        )
        .join(transfers, transfers.c.id == entries.c.transfer_id)
        .outerjoin(holds, holds.c.id == transfers.c.hold_id)
        .where(entries.c.account_id == account_id, entries.c.version.is_not(None))
        .order_by(entries.c.version.desc())
        .limit(min(limit, LONGEST_PAGE))
    )
    if before is not None:
        query = query.where(entries.c.version < before)
    return [_entry(row) for row in tx.execute(query)]


# Holds.

_RESERVE: Final = (
    update(accounts)
    .where(
        accounts.c.id == bindparam("account"),
        accounts.c.kind == "customer",
        accounts.c.balance - accounts.c.held >= bindparam("micros"),
    )
    .values(held=accounts.c.held + bindparam("micros"))
)
_UNRESERVE: Final = (
    update(accounts)
    .where(accounts.c.id == bindparam("account"))
    .values(held=accounts.c.held - bindparam("micros"))
)
CLOSE: Final = (
    update(holds)
    .where(
        holds.c.id == bindparam("hold"),
        holds.c.state == HoldState.HELD,
        holds.c.amount >= bindparam("taken"),
    )
    .values(
        state=bindparam("ending"),
        captured=bindparam("taken"),
        release_reason=bindparam("why"),
        closed_at=bindparam("at"),
    )
)
"""Ends an open hold that holds enough; its parameters are `closed_by()`."""
_CLOSE_AND_SHOW: Final = CLOSE.returning(holds)
_HOLD: Final = select(holds).where(holds.c.id == bindparam("hold"))


def _earlier_hold(tx: Tx, wanted: Hold) -> Hold | None:
    """Return the hold that has the id already; raise `IdReused` if it promises something else."""
    row = tx.execute(_HOLD, {"hold": wanted.id}).one_or_none()
    if row is None:
        return None
    found = to_hold(row)
    promise = (found.account_id, found.generation_id, found.amount)
    if promise != (wanted.account_id, wanted.generation_id, wanted.amount):
        raise IdReused(f"Hold {wanted.id} promises something else already.")
    return found


def _refuse(tx: Tx, wanted: Hold) -> NoReturn:
    available = balance(tx, wanted.account_id).available
    raise InsufficientCredits(
        f"This costs {dollars(wanted.amount)} and {dollars(available)} is available. "
        f"The operator can add credits: sayso credits grant {decimal_text(wanted.amount)}"
    )


def closed_by(settlement: Settlement, hold_id: HoldId, at: Instant) -> dict[str, Any]:
    """Return the parameters of `CLOSE` that end a hold in this way."""
    return {
        "hold": hold_id,
        "ending": settlement.state,
        "taken": settlement.captured,
        "why": settlement.release_reason,
        "at": at,
    }


def capture_id(hold_id: HoldId) -> TransferId:
    """Return the id of a hold's one capture: named after it, so a repeat cannot be another."""
    return TransferId(f"capture:{hold_id}")


def _settle(tx: Tx, hold_id: HoldId, settlement: Settlement, at: Instant) -> tuple[Hold, bool]:
    """End a hold; return it and whether it was us. Raise when it ended otherwise."""
    row = tx.execute(_CLOSE_AND_SHOW, closed_by(settlement, hold_id, at)).one_or_none()
    if row is not None:
        return to_hold(row), True
    row = tx.execute(_HOLD, {"hold": hold_id}).one_or_none()
    if row is None:
        raise NoSuchHold(f"There is no hold {hold_id!r}.")
    hold = to_hold(row)
    is_ended = is_settled_by(hold, settlement)
    assert is_ended, "an open hold that holds enough is closed by the statement above"
    return hold, False


def to_hold(row: Row[Any]) -> Hold:
    """Return the hold of a row of `holds`."""
    return Hold(
        id=row.id,
        account_id=row.account_id,
        generation_id=row.generation_id,
        amount=row.amount,
        state=HoldState(row.state),
        captured=row.captured,
        release_reason=None if row.release_reason is None else ReleaseReason(row.release_reason),
        created_at=row.created_at,
        closed_at=row.closed_at,
    )


# Transfers: each is two entries that cancel.

_BOOK: Final = (
    update(accounts)
    .where(
        accounts.c.id == bindparam("account"),
        accounts.c.kind == "customer",
        accounts.c.balance - accounts.c.held + bindparam("micros") >= 0,
    )
    .values(balance=accounts.c.balance + bindparam("micros"), version=accounts.c.version + 1)
    .returning(accounts.c.balance, accounts.c.version)
)


@dataclass(frozen=True)
class _Transfer:
    """What a transfer says; its fields are its columns."""

    id: TransferId
    kind: TransferKind
    debit_account: AccountId
    credit_account: AccountId
    amount: Micros
    reason: str
    hold_id: HoldId | None = None


def _post_once(tx: Tx, transfer: _Transfer, at: Instant) -> None:
    """Post a transfer that stands by itself; a repeat of the same one changes nothing."""
    positive(transfer.amount)
    if _is_posted(tx, transfer):
        return
    with tx.begin_nested() as attempt:
        was_first = _post(tx, transfer, at)
        if not was_first:
            attempt.rollback()
    if not was_first:
        _is_posted(tx, transfer)  # Another process was quicker: was it the same transfer?


def _is_posted(tx: Tx, transfer: _Transfer) -> bool:
    """Whether this transfer is there; raise `IdReused` if its id stands for another one."""
    row = tx.execute(select(transfers).where(transfers.c.id == transfer.id)).one_or_none()
    if row is None:
        return False
    if any(getattr(row, name) != value for name, value in asdict(transfer).items()):
        raise IdReused(f"Transfer {transfer.id} says something else already.")
    return True


def _post(tx: Tx, transfer: _Transfer, at: Instant) -> bool:
    """Book both entries and the transfer; return False if its id is taken (then roll back)."""
    sides = (
        (transfer.debit_account, Micros(-transfer.amount)),
        (transfer.credit_account, transfer.amount),
    )
    booked = [_book(tx, account_id, amount) for account_id, amount in sides]
    if not insert_if_new(tx, transfers, **asdict(transfer), created_at=at):
        return False
    tx.execute(insert(entries), [{"transfer_id": transfer.id, **entry} for entry in booked])
    return True


def _book(tx: Tx, account_id: AccountId, amount: Micros) -> dict[str, Any]:
    """Add a signed amount to an account; return its entry without the transfer's id."""
    entry = {"account_id": account_id, "amount": amount, "balance_after": None, "version": None}
    if account_id.startswith("sys:"):
        return entry
    row = tx.execute(_BOOK, {"account": account_id, "micros": amount}).one_or_none()
    if row is None:
        available = balance(tx, account_id).available
        raise InsufficientCredits(
            f"{dollars(-amount)} cannot be taken: {dollars(available)} is available."
        )
    return {**entry, "balance_after": row.balance, "version": row.version}


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        transfer_id=row.transfer_id,
        kind=TransferKind(row.kind),
        amount=row.amount,
        balance_after=row.balance_after,
        version=row.version,
        reason=row.reason,
        generation_id=row.generation_id,
        created_at=row.created_at,
    )
