"""The audit sees each kind of damage, and `Credits` hands it to the operator.

The guards are taken away first: with them none of this can be done.
"""

from __future__ import annotations

import pytest
from sqlalchemy import inspect, text

from sayso.clock import SettableClock, after
from sayso.credits import store
from sayso.credits.audit import GRACE_S, QUERIES, verify
from sayso.credits.rules import DOLLAR, Balance, Micros
from sayso.credits.service import Credits
from sayso.db.connect import Database
from sayso.db.tx import Tx
from sayso.errors import NoSuchAccount
from sayso.ids import AccountId, GenerationId, Ids, TransferId
from tests.builders import NOON, a_generation, a_history, a_hold, a_prediction, an_account

pytestmark = pytest.mark.anyio


def take_the_guards_away(tx: Tx) -> None:
    if tx.dialect.name == "postgresql":
        tx.execute(text("SET LOCAL session_replication_role = replica"))
        for table in ("accounts", "holds", "transfers", "generations"):
            for check in inspect(tx).get_check_constraints(table):
                tx.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {check['name']}"))
        return
    tx.execute(text("PRAGMA ignore_check_constraints = ON"))
    names = tx.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars()
    for name in names.all():
        tx.execute(text(f"DROP TRIGGER {name}"))


DAMAGE = {
    "an entry is changed": (
        {"I1", "I2", "I3"},
        "UPDATE entries SET amount = amount + 1 WHERE account_id = 'alice' AND amount > 0",
    ),
    "an entry is lost": (
        {"I1", "I2", "I3", "I9"},
        "DELETE FROM entries WHERE account_id = 'alice' AND amount < 0",
    ),
    "both entries are lost": (
        {"I2", "I3", "I9"},
        "DELETE FROM entries WHERE transfer_id LIKE 'capture:%'",
    ),
    "entries of another account": (
        {"I2"},
        "UPDATE transfers SET credit_account = 'sys:grants' WHERE kind = 'capture'",
    ),
    "a balance is changed": (
        {"I3"},
        "UPDATE accounts SET balance = balance + 1 WHERE id = 'alice'",
    ),
    "a system account has a balance": (
        {"I3"},
        "UPDATE accounts SET balance = 5 WHERE id = 'sys:revenue'",
    ),
    "an entry says another balance": (
        {"I3"},
        "UPDATE entries SET balance_after = balance_after + 1 WHERE version = 2",
    ),
    "what is held is changed": ({"I4"}, "UPDATE accounts SET held = held + 1 WHERE id = 'alice'"),
    "more is held than there is": (
        {"I3", "I5"},
        "UPDATE accounts SET balance = held - 1 WHERE id = 'alice'",
    ),
    "a capture's amount is changed": (
        {"I2", "I6"},
        "UPDATE transfers SET amount = 31 WHERE kind = 'capture'",
    ),
    "a hold says more was captured": (
        {"I6"},
        "UPDATE holds SET captured = 31 WHERE generation_id = 'paid'",
    ),
    "a capture has lost its hold": (
        {"I6"},
        "UPDATE transfers SET kind = 'grant', hold_id = NULL WHERE kind = 'capture'",
    ),
    "a generation succeeded and gave the money back": (
        {"I6", "I7"},
        (
            "UPDATE holds SET state = 'released', captured = 0, release_reason = 'failed'"
            " WHERE generation_id = 'paid'"
        ),
    ),
    "a generation ended and left its hold open": (
        {"I7"},
        (
            "UPDATE generations SET state = 'failed', public_status = 'failed', error = 'x',"
            " completed_at = 1 WHERE id = 'open'"
        ),
    ),
    "a live generation was paid": (
        {"I7"},
        (
            "UPDATE generations SET state = 'storing', public_status = 'processing',"
            " completed_at = NULL, due_at = 1 WHERE id = 'paid'"
        ),
    ),
    "a price without a hold": (
        {"I8"},
        "UPDATE generations SET price_micros = 9, rate_micros = 9 WHERE id = 'free'",
    ),
    "a hold of another amount than the price": (
        {"I8"},
        "UPDATE generations SET price_micros = 41, rate_micros = 41 WHERE id = 'paid'",
    ),
    "a hold of somebody else": (
        {"I8"},
        "UPDATE generations SET account_id = 'sys:revenue' WHERE id = 'open'",
    ),
    "a version is skipped": (
        {"I9"},
        "UPDATE entries SET version = 7 WHERE version = 2",
    ),
    "an account forgets its version": (
        {"I9"},
        "UPDATE accounts SET version = 1 WHERE id = 'alice'",
    ),
    "a hold outlives its deadline": (
        {"I10"},
        f"UPDATE generations SET deadline_at = {after(NOON, -GRACE_S) - 1} WHERE id = 'open'",
    ),
    "two attempts cost something": (
        {"I11"},
        "UPDATE predictions SET cost_micros = 5 WHERE generation_id = 'lost'",
    ),
    "a loss of another amount": (
        {"I2", "I11"},
        "UPDATE transfers SET amount = 9 WHERE kind = 'loss'",
    ),
    "a loss of no attempt": (
        {"I11"},
        "UPDATE predictions SET loss_transfer_id = NULL, cost_micros = 0",
    ),
}


class Seen(Exception):
    """Carries what the audit saw out of a write, so that the damage is undone."""

    def __init__(self, invariants: set[str], sentences: list[str]) -> None:
        super().__init__(*sentences)
        self.invariants = invariants


def history_with_a_loss(tx: Tx) -> None:
    """What lies before the damage: also attempts that were paid, and one booked as a loss."""
    a_history(tx)
    lost = GenerationId("lost")
    a_prediction(tx, lost, attempt=2)
    a_prediction(tx, lost, attempt=3, cost_micros=25)
    store.book_loss(tx, generation_id=lost, attempt=3, reason="late", at=NOON)
    a_prediction(tx, GenerationId("paid"), attempt=2, cost_micros=30)


@pytest.mark.parametrize(("invariants", "damage"), DAMAGE.values(), ids=DAMAGE.keys())
async def test_damage_is_seen(database: Database, invariants: set[str], damage: str) -> None:
    def do_damage_and_look(tx: Tx) -> None:
        take_the_guards_away(tx)
        assert tx.execute(text(damage)).rowcount > 0
        found = verify(tx, now=NOON)
        raise Seen({one.invariant for one in found}, [one.text for one in found])

    await database.write(history_with_a_loss)
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []
    with pytest.raises(Seen) as seen:
        await database.write(do_damage_and_look)

    assert seen.value.invariants == invariants, seen.value.args
    assert all(sentence and "{" not in sentence for sentence in seen.value.args)


def test_every_invariant_is_damaged_somewhere() -> None:
    named = {invariant for invariants, _ in DAMAGE.values() for invariant in invariants}

    assert named == {invariant for invariant, _, _ in QUERIES} == {f"I{n}" for n in range(1, 12)}


async def test_an_empty_ledger_is_sound(database: Database) -> None:
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []


async def test_a_storing_generation_may_outlive_its_deadline(database: Database) -> None:
    def overdue(tx: Tx) -> None:
        an_account(tx, balance=100)
        generation = a_generation(
            tx, state="storing", public_status="processing", deadline_at=NOON - 10**12
        )
        a_hold(tx, generation_id=generation)

    await database.write(overdue)
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []


@pytest.fixture
def credits_service(database: Database) -> Credits:
    clock = SettableClock(NOON)
    return Credits(database, clock=clock, ids=Ids(clock.now))


async def test_a_new_local_account_starts_with_five_dollars_once(credits_service: Credits) -> None:
    account = await credits_service.open_local_account()
    assert await credits_service.open_local_account() == account
    assert await credits_service.balance(account) == Balance(Micros(5 * DOLLAR), Micros(0))
    statement = await credits_service.statement(account)
    assert [entry.reason for entry in statement.entries] == ["starting credits"]


async def test_an_account_may_start_with_nothing(credits_service: Credits) -> None:
    account = await credits_service.open_account(AccountId("bob"), starting=Micros(0))

    assert (await credits_service.statement(account)).entries == []


async def test_the_operator_grants_and_reads(credits_service: Credits) -> None:
    account = await credits_service.open_account(AccountId("bob"), starting=Micros(0))
    await credits_service.grant(account, Micros(5), reason="by hand")
    for _ in range(2):
        named = TransferId("invoice-7")
        await credits_service.grant(account, Micros(7), reason="paid", transfer_id=named)
    statement = await credits_service.statement(account, limit=10)

    assert statement.balance.total == 12
    assert [entry.amount for entry in statement.entries] == [7, 5]
    assert (await credits_service.statement(account, before=2)).entries[0].amount == 5
    assert await credits_service.verify() == []


async def test_nobody_has_no_statement(credits_service: Credits) -> None:
    with pytest.raises(NoSuchAccount):
        await credits_service.statement(AccountId("nobody"))
    with pytest.raises(NoSuchAccount):
        await credits_service.balance(AccountId("nobody"))
