"""Raw SQL that rewrites history is refused by the database itself."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from sayso.credits import store
from sayso.credits.audit import verify
from sayso.credits.rules import Micros
from sayso.db.connect import Database
from sayso.db.tx import Tx
from sayso.ids import HoldId
from tests.builders import NOON, a_generation, a_history, finish

pytestmark = pytest.mark.anyio


TAMPERING = {
    "edit an entry": "UPDATE entries SET amount = amount + 1",
    "delete an entry": "DELETE FROM entries",
    "edit a transfer": "UPDATE transfers SET reason = 'x'",
    "delete a transfer": "DELETE FROM transfers WHERE kind = 'capture'",
    "delete a hold": "DELETE FROM holds WHERE state = 'held'",
    "delete an account": "DELETE FROM accounts WHERE id = 'sys:providers'",
    "reopen a captured hold": (
        "UPDATE holds SET state = 'held', captured = 0, closed_at = NULL"
        " WHERE generation_id = 'paid'"
    ),
    "capture a released hold": (
        "UPDATE holds SET state = 'captured', captured = 1, release_reason = NULL"
        " WHERE generation_id = 'lost'"
    ),
    "change how much was captured": "UPDATE holds SET captured = 31 WHERE state = 'captured'",
    "change what is promised": "UPDATE holds SET amount = 39 WHERE state = 'held'",
    "promise it to another account": (
        "UPDATE holds SET account_id = 'sys:revenue' WHERE state = 'held'"
    ),
    "capture more than is held": (
        "UPDATE holds SET state = 'captured', captured = 41, closed_at = 1 WHERE state = 'held'"
    ),
    "capture nothing": (
        "UPDATE holds SET state = 'captured', captured = 0, closed_at = 1 WHERE state = 'held'"
    ),
    "release without a reason": (
        "UPDATE holds SET state = 'released', closed_at = 1 WHERE state = 'held'"
    ),
    "place a hold that is settled": (
        "INSERT INTO holds (id, account_id, generation_id, amount, state, captured, created_at,"
        " closed_at) VALUES ('h', 'alice', 'free', 5, 'captured', 5, 1, 1)"
    ),
    "place a second hold": (
        "INSERT INTO holds (id, account_id, generation_id, amount, state, created_at)"
        " VALUES ('h', 'alice', 'open', 5, 'held', 1)"
    ),
    "place a hold for nothing there": (
        "INSERT INTO holds (id, account_id, generation_id, amount, state, created_at)"
        " VALUES ('h', 'alice', 'nothing', 5, 'held', 1)"
    ),
    "hold more than there is": "UPDATE accounts SET held = balance + 1 WHERE id = 'alice'",
    "hold less than nothing": "UPDATE accounts SET held = -1 WHERE id = 'alice'",
    "give a system account a balance": "UPDATE accounts SET balance = 5 WHERE kind = 'system'",
    "capture a hold twice": (
        "INSERT INTO transfers (id, kind, debit_account, credit_account, amount, hold_id, reason,"
        " created_at) VALUES ('t', 'capture', 'alice', 'sys:revenue', 1, 'hold-paid', '', 1)"
    ),
    "capture without a hold": (
        "INSERT INTO transfers (id, kind, debit_account, credit_account, amount, reason,"
        " created_at) VALUES ('t', 'capture', 'alice', 'sys:revenue', 1, '', 1)"
    ),
    "transfer to itself": (
        "INSERT INTO transfers (id, kind, debit_account, credit_account, amount, reason,"
        " created_at) VALUES ('t', 'grant', 'alice', 'alice', 1, '', 1)"
    ),
    "transfer less than nothing": (
        "INSERT INTO transfers (id, kind, debit_account, credit_account, amount, reason,"
        " created_at) VALUES ('t', 'grant', 'sys:grants', 'alice', -1, '', 1)"
    ),
    "number an entry twice": (
        "INSERT INTO entries (transfer_id, account_id, amount, balance_after, version)"
        " SELECT id, 'alice', 1, 1, 1 FROM transfers WHERE kind = 'capture'"
    ),
    "text as an amount": "UPDATE accounts SET balance = 'many' WHERE id = 'alice'",
    "revive a failed generation": (
        "UPDATE generations SET state = 'running', public_status = 'processing',"
        " completed_at = NULL, due_at = 1 WHERE id = 'lost'"
    ),
    "fail a generation that succeeded": (
        "UPDATE generations SET state = 'failed', public_status = 'failed', error = 'x'"
        " WHERE id = 'paid'"
    ),
    "change a price": (
        "UPDATE generations SET price_micros = 1, rate_micros = 1 WHERE id = 'paid'"
    ),
    "change an owner": "UPDATE generations SET account_id = 'sys:revenue' WHERE id = 'open'",
    "take a version back": "UPDATE generations SET version = 6 WHERE id = 'open'",
    "take a public status back": (
        "UPDATE generations SET public_status = 'starting' WHERE id = 'open'"
    ),
    "a public status that belies the state": (
        "UPDATE generations SET public_status = 'succeeded' WHERE id = 'open'"
    ),
    "a live generation that is never due": "UPDATE generations SET due_at = NULL WHERE id = 'open'",
    "a success without a video": "UPDATE generations SET video_id = NULL WHERE id = 'paid'",
    "exchange a provider's id": "UPDATE predictions SET provider_id = 'x' WHERE attempt = 1",
    "forget a provider's id": "UPDATE predictions SET provider_id = NULL WHERE attempt = 1",
    "exchange a nonce": "UPDATE predictions SET nonce = 'x' WHERE generation_id = 'open'",
    "revive a render": "UPDATE renders SET state = 'queued', finished_at = NULL",
}


@pytest.mark.parametrize("statement", TAMPERING.values(), ids=TAMPERING.keys())
async def test_tampering_is_refused(database: Database, statement: str) -> None:
    await database.write(a_history)
    with pytest.raises(DBAPIError) as caught:
        await database.write(lambda tx: tx.execute(text(statement)).rowcount)

    is_text = "'many'" in statement  # PostgreSQL finds the type wrong before any constraint.
    assert isinstance(caught.value, IntegrityError) or is_text
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []


async def test_what_is_allowed_is_not_refused(database: Database) -> None:
    """The same history goes on: guards that refuse everything would pass the test above."""

    def go_on(tx: Tx) -> None:
        store.capture(tx, hold_id=HoldId("hold-open"), amount=Micros(40), at=NOON)
        finish(tx, a_generation(tx, price=0), "canceled")
        tx.execute(
            text(
                "UPDATE generations SET percent = 50, version = version + 1, lease_until = 5,"
                " due_at = due_at + 1 WHERE id = 'open'"
            )
        )
        tx.execute(text("UPDATE generations SET deleted_at = 1, video_id = NULL WHERE id = 'paid'"))
        tx.execute(text("UPDATE predictions SET state = 'succeeded', cost_micros = 3"))
        tx.execute(text("UPDATE renders SET frames_done = 3"))

    await database.write(a_history)
    await database.write(go_on)


async def test_the_ledger_cannot_be_emptied(database: Database) -> None:
    if database.kind == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    await database.write(a_history)
    for table in ("entries", "transfers", "holds"):
        truncate = text(f"TRUNCATE {table} CASCADE")
        with pytest.raises(IntegrityError):
            await database.write(partial(Connection.execute, statement=truncate))


async def test_replacing_a_row_is_deleting_it(database: Database) -> None:
    if database.kind == "postgresql":
        pytest.skip("PostgreSQL has no REPLACE")
    await database.write(a_history)
    with pytest.raises(IntegrityError):
        await database.write(
            lambda tx: (
                tx.execute(text("INSERT OR REPLACE INTO entries SELECT * FROM entries")).rowcount
            )
        )
