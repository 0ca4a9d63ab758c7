"""SQLite when the disk is full, PostgreSQL when it hangs up: what was acknowledged is there."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import insert, select, text

from sayso.credits import store
from sayso.credits.audit import verify
from sayso.credits.rules import Micros
from sayso.db.connect import Database, open_database
from sayso.db.limits import DatabaseLimits
from sayso.db.tables import callbacks_seen, secrets
from sayso.db.tx import Tx
from sayso.db.upgrade import upgrade
from sayso.errors import DatabaseBusy, DatabaseFull, DatabaseUnavailable
from sayso.ids import TransferId
from tests.builders import ALICE, NOON, a_hold, an_account
from tests.databases import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each test here says which database it is about."""
    marker = request.node.get_closest_marker("parametrize")
    assert marker is None or "database_kind" not in marker.args
    return "postgresql" if "postgres" in request.node.name else "sqlite"


def large(name: str, size: int = 100_000) -> Callable[[Tx], str]:
    def add(tx: Tx) -> str:
        tx.execute(insert(secrets).values(name=name, value="x" * size, created_at=1))
        return name

    return add


def small(name: str) -> Callable[[Tx], str]:
    def add(tx: Tx) -> str:
        tx.execute(insert(callbacks_seen).values(id=name, received_at=1))
        return name

    return add


def stored(tx: Tx) -> set[str]:
    return set(tx.execute(select(callbacks_seen.c.id)).scalars()) | set(
        tx.execute(select(secrets.c.name)).scalars()
    )


def limit_pages(pages: int) -> Callable[[Tx], None]:
    """Let the file grow by so many pages and then be full."""

    def limit(tx: Tx) -> None:
        (now,) = tx.exec_driver_sql("PRAGMA page_count").all()[0]
        tx.exec_driver_sql(f"PRAGMA max_page_count={now + pages}").all()

    return limit


async def test_sqlite_full_in_a_group_fails_only_what_does_not_fit(database: Database) -> None:
    """SQLite then ends the whole transaction; the rest of the group is written all the same."""
    await database.write(limit_pages(5))
    writes = [database.write(small(f"before-{n}")) for n in range(20)]
    writes += [database.write(large("too large"))]
    writes += [database.write(small(f"after-{n}")) for n in range(20)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)

    acknowledged = {one for one in outcomes if isinstance(one, str)}
    assert [type(one) for one in outcomes if not isinstance(one, str)] == [DatabaseFull]
    assert len(acknowledged) == 40
    assert await database.read(stored) == acknowledged

    await database.write(limit_pages(1_000))
    assert await database.write(large("too large")) == "too large"


async def test_sqlite_full_is_not_hidden_by_a_function_that_goes_on(database: Database) -> None:
    """The function swallows the error; without a transaction its next insert would stay alone."""

    def carry_on(tx: Tx) -> str:
        small("half")(tx)
        try:
            large("too large")(tx)
        except Exception:  # noqa: BLE001 (the mistake that this test is about)
            return small("other half")(tx)
        raise AssertionError("the file was not full")

    await database.write(limit_pages(5))
    with pytest.raises(DatabaseUnavailable):
        await database.write(carry_on)
    assert await database.read(stored) <= {"other half"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Two MiB of disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_sqlite_on_a_full_disk_keeps_every_acknowledged_hold(small_disk: Path) -> None:
    db = await open_database(f"sqlite:///{small_disk / 'sayso.db'}")
    await upgrade(db)
    await db.write(lambda tx: an_account(tx, balance=10**9))
    acknowledged: list[str] = []

    async def fill() -> None:
        for n in range(5_000):
            acknowledged.append((await db.write(a_hold)).id)
            await db.write(large(f"ballast-{n}", 20_000))

    with pytest.raises(DatabaseFull):
        await fill()
    with pytest.raises(DatabaseFull):
        await db.write(large("more", 200_000))
    await db.close()

    again = await open_database(f"sqlite:///{small_disk / 'sayso.db'}")
    found = await again.read(lambda tx: store.open_holds(tx, ALICE))
    assert {hold.id for hold in found} >= set(acknowledged)
    assert len(acknowledged) > 5
    assert await again.snapshot(lambda tx: verify(tx, now=NOON)) == []
    await again.close()


async def test_sqlite_waits_for_another_process_and_then_says_it_is_busy(
    database: Database, database_url: str
) -> None:
    other = await open_database(database_url, limits=DatabaseLimits(busy_timeout_s=0.2))
    loop = asyncio.get_running_loop()

    def occupy(tx: Tx) -> BaseException | None:
        """Hold the write lock while the other one tries."""
        small("first")(tx)
        trial = asyncio.run_coroutine_threadsafe(other.write(small("second")), loop)
        return trial.exception(timeout=30)

    assert isinstance(await database.write(occupy), DatabaseBusy)
    assert await other.write(small("second")) == "second"
    await other.close()


async def test_sqlite_refuses_more_than_its_queue_holds(database_url: str) -> None:
    db = await open_database(database_url, limits=DatabaseLimits(queued_writes=10))
    outcomes = await asyncio.gather(
        *(db.write(small(f"{n}")) for n in range(200)), return_exceptions=True
    )
    kept = {one for one in outcomes if isinstance(one, str)}

    assert {type(one) for one in outcomes if not isinstance(one, str)} == {DatabaseBusy}
    assert len(kept) >= 10
    assert await db.read(stored) == kept
    await db.close()


async def test_postgres_terminating_our_connections_loses_and_doubles_nothing(
    database: Database, database_url: str, postgres: PostgresServer
) -> None:
    """Grants go on while every backend of the database is ended again and again."""

    def granting(number: int) -> Callable[[Tx], None]:
        def grant(tx: Tx) -> None:
            store.grant(
                tx,
                transfer_id=TransferId(f"grant-{number}"),
                account_id=ALICE,
                amount=Micros(1),
                reason="",
                at=NOON,
            )

        return grant

    async def harass() -> None:
        for _ in range(5):
            await asyncio.sleep(0.1)
            await asyncio.to_thread(postgres.hang_up, database_url)

    await database.write(an_account)
    harassing = asyncio.create_task(harass())
    granted = 0
    while not harassing.done():
        await asyncio.gather(*(database.write(granting(granted + n)) for n in range(8)))
        granted += 8
    await harassing

    assert (await database.read(lambda tx: store.balance(tx, ALICE))).total == granted
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []


async def test_postgres_serialization_failures_are_run_again(database: Database) -> None:
    runs: list[int] = []

    def lose_the_race_once(tx: Tx) -> str:
        runs.append(1)
        if len(runs) == 1:
            tx.execute(text("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$"))
        return small("a")(tx)

    assert await database.write(lose_the_race_once) == "a"
    assert len(runs) == 2


async def test_postgres_rows_that_stay_locked_are_busy(
    database: Database, database_url: str
) -> None:
    impatient = await open_database(database_url, limits=DatabaseLimits(lock_timeout_s=0.1))
    await database.write(lambda tx: an_account(tx, balance=100))

    async with locked(database_url, "accounts"):
        with pytest.raises(DatabaseBusy):
            await impatient.write(a_hold)
    await impatient.write(a_hold)
    await impatient.close()


async def test_postgres_with_no_free_connection_is_busy(database_url: str) -> None:
    db = await open_database(database_url, limits=DatabaseLimits(writers=1, pool_timeout_s=0.1))
    async with locked(database_url, "callbacks_seen"):
        writes = [asyncio.create_task(db.write(small(name))) for name in "ab"]
        [refused], [waiting] = await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
        assert isinstance(refused.exception(), DatabaseBusy)
    assert await waiting in {"a", "b"}
    await db.close()


@asynccontextmanager
async def locked(url: str, table: str) -> AsyncIterator[None]:
    """Let nobody else write to a table while the block lasts."""
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        yield
    await other.close()


async def test_postgres_listeners_are_woken_after_a_lost_connection(
    database: Database, database_url: str, postgres: PostgresServer
) -> None:
    with database.listen() as wake:
        assert await wake.wait(timeout_s=30)
        postgres.hang_up(database_url)
        assert await wake.wait(timeout_s=30)
