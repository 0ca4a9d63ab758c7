"""The migrations make what `tables.py` declares, once, and never over a newer schema."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from sayso.db import upgrade as upgrades
from sayso.db.connect import Database, open_database
from sayso.db.tables import LIVE_STATES, SYSTEM_ACCOUNTS, metadata
from sayso.db.tx import Tx
from sayso.db.upgrade import HEAD, migrate, revision, upgrade
from sayso.errors import SchemaTooNew
from sayso.ids import GenerationId
from tests.builders import NOON, a_generation, a_prediction, an_account
from tests.databases import PostgresServer

pytestmark = pytest.mark.anyio

SHAPE = {
    "sqlite": """
        SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'
           AND type IN ('table', 'index') ORDER BY type, name
    """,
    "postgresql": """
        SELECT 'column' AS what, c.table_name AS owner, c.column_name AS name,
               concat_ws(' ', c.data_type, c.is_nullable, c.column_default) AS definition
          FROM information_schema.columns c WHERE c.table_schema = 'public'
        UNION ALL
        SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
          FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL
        SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        ORDER BY 1, 2, 3
    """,
}


def shape(tx: Tx) -> list[tuple[Any, ...]]:
    """What the database says it consists of; the order within a statement does not count."""
    rows = tx.execute(text(SHAPE[tx.dialect.name])).all()
    return [tuple(_parts(value) for value in row) for row in rows if "alembic" not in str(row)]


def _parts(value: object) -> object:
    """Compare a CREATE statement by its parts: the two ways of making it order them apart."""
    if not isinstance(value, str):
        return value
    return sorted(part.strip() for part in re.split(r",(?![^(]*\))|\n", value) if part.strip())


@pytest.fixture
async def empty(
    database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[str]:
    """The URL of a database without any tables."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.make_database(template=None)
    yield url
    server.drop_database(url)


async def test_the_migrations_make_what_the_tables_declare(empty: str, database: Database) -> None:
    declared = await open_database(empty)
    await declared.write(metadata.create_all)

    assert await database.read(shape) == await declared.read(shape)
    await declared.close()


async def test_upgrading_again_changes_nothing(database: Database) -> None:
    before = await database.read(shape)
    await upgrade(database)
    await database.write(migrate)

    assert await database.read(shape) == before
    assert await database.read(revision) == HEAD


async def test_processes_that_start_at_once_take_turns(empty: str) -> None:
    databases = [await open_database(empty) for _ in range(3)]
    await asyncio.gather(*(upgrade(db) for db in databases))

    assert [await db.read(revision) for db in databases] == [HEAD] * 3
    for db in databases:
        await db.close()


async def test_an_upgrade_that_fails_has_not_happened(empty: str) -> None:
    def fail_at_the_end(tx: Tx) -> None:
        migrate(tx)
        raise ZeroDivisionError

    db = await open_database(empty)
    with pytest.raises(ZeroDivisionError):
        await db.write(fail_at_the_end)

    assert await db.read(shape) == []
    await upgrade(db)
    assert await db.read(revision) == HEAD
    await db.close()


async def test_an_earlier_cost_of_nothing_is_unknown_where_it_may_have_been(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What 0005 makes of the rows that it finds; all of each is kept, and so is their guard."""
    earlier = {
        # state, provider, cost, has it ended: what it cost
        "a": ("succeeded", "replicate", 0, True, None),
        "b": ("succeeded", "replicate", 7, True, 7),
        "c": ("succeeded", "embedded", 0, True, 0),
        "d": ("failed", "replicate", 0, True, 0),
        "e": ("processing", "replicate", 0, False, None),
        "f": ("refused", "replicate", 0, False, 0),
        "g": ("submitting", "replicate", 0, True, None),
    }

    def fill(tx: Tx) -> None:
        an_account(tx)
        a_generation(tx, generation_id="old")
        for number, (nonce, (state, provider, cost, is_over, _)) in enumerate(earlier.items(), 1):
            a_prediction(
                tx,
                GenerationId("old"),
                attempt=number,
                nonce=nonce,
                state=state,
                provider=provider,
                provider_id=f"id-{nonce}",
                cost_micros=cost,
                finished_at=NOON if is_over else None,
                fetched_at=5,
                twin_of=number,
            )

    db = await open_database(empty)
    monkeypatch.setattr(upgrades, "HEAD", "0004")
    await upgrade(db)
    await db.write(fill)
    kept = text("SELECT nonce, provider_id, state, fetched_at, twin_of FROM predictions")
    before = await db.read(lambda tx: set(map(tuple, tx.execute(kept))))
    monkeypatch.undo()
    await upgrade(db)

    costs = text("SELECT nonce, cost_micros FROM predictions")
    found = await db.read(lambda tx: dict(map(tuple, tx.execute(costs))))
    assert found == {nonce: row[-1] for nonce, row in earlier.items()}
    assert await db.read(lambda tx: set(map(tuple, tx.execute(kept)))) == before
    with pytest.raises(Exception, match="never changed"):
        await db.write(lambda tx: tx.execute(text("UPDATE predictions SET nonce = 'x'")).rowcount)
    await db.close()


async def test_a_newer_schema_is_left_alone(database: Database) -> None:
    def pretend(tx: Tx, number: str) -> None:
        tx.execute(text("UPDATE alembic_version SET version_num = :n"), {"n": number})

    await database.write(lambda tx: pretend(tx, "9999"))
    with pytest.raises(SchemaTooNew, match="9999"):
        await upgrade(database)
    await database.write(lambda tx: pretend(tx, HEAD))


async def test_the_head_is_the_newest_migration() -> None:
    folder = Path(upgrades.__file__).parent / "migrations"

    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


async def test_the_system_s_accounts_are_there(database: Database) -> None:
    rows = await database.read(
        lambda tx: tx.execute(text("SELECT id, kind, balance, held FROM accounts")).all()
    )
    assert sorted(map(tuple, rows)) == sorted((name, "system", 0, 0) for name in SYSTEM_ACCOUNTS)


@pytest.mark.parametrize(
    ("index", "query"),
    [
        ("generations_due", "SELECT id FROM generations WHERE due_at <= :n AND lease_until <= :n"),
        ("webhooks_due", "SELECT id FROM webhooks WHERE due_at <= :n"),
        (
            "renders_open",
            "SELECT id FROM renders WHERE finished_at IS NULL ORDER BY created_at, id",
        ),
        (
            "generations_listed",
            "SELECT id FROM generations WHERE account_id = 'a' ORDER BY created_at DESC, id DESC",
        ),
        (
            "generations_changed",
            "SELECT id FROM generations WHERE account_id = 'a' AND changed_at >= :n",
        ),
    ],
)
async def test_the_frequent_queries_are_served_by_an_index(
    database: Database, query: str, index: str
) -> None:
    """With bound parameters, as they are sent; PostgreSQL's choice among them needs real data."""

    def plan(tx: Tx) -> str:
        if tx.dialect.name == "postgresql":
            tx.execute(text("SET enable_seqscan = off"))
            tx.execute(text("SET enable_bitmapscan = off"))
        explain = "EXPLAIN QUERY PLAN " if tx.dialect.name == "sqlite" else "EXPLAIN "
        sent = explain + query.replace(":n", "CAST(:n AS BIGINT)")
        rows = tx.execute(text(sent), {"n": 1} if ":n" in query else {})
        return "\n".join(str(row) for row in rows)

    chosen = await database.read(plan)
    assert f"ix_{index}" in chosen or (database.kind == "postgresql" and "Index" in chosen)


def test_live_states_are_those_that_end_somewhere() -> None:
    assert LIVE_STATES == ("created", "submitting", "running", "storing")
