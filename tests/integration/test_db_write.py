"""What `db.write` and the reads promise, on both databases."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from sayso.db.changes import Wake
from sayso.db.connect import Database, open_database
from sayso.db.insert import insert_if_new
from sayso.db.limits import DatabaseLimits
from sayso.db.tables import accounts, callbacks_seen
from sayso.db.tx import Topic, TransactionRule, Tx, announce
from sayso.errors import DatabaseUnavailable, DatabaseUnsupported
from tests.services import eventually

pytestmark = pytest.mark.anyio


def adding(name: str) -> Callable[[Tx], str]:
    """Return a function that inserts one small row."""

    def add(tx: Tx) -> str:
        tx.execute(insert(callbacks_seen).values(id=name, received_at=1))
        return name

    return add


def names(tx: Tx) -> set[str]:
    return set(tx.execute(select(callbacks_seen.c.id)).scalars())


async def test_a_write_returns_what_the_function_returns(database: Database) -> None:
    assert await database.write(adding("a")) == "a"
    assert await database.read(names) == {"a"}


async def test_what_a_function_raises_undoes_its_work_alone(database: Database) -> None:
    def fail(tx: Tx) -> None:
        adding("lost")(tx)
        raise ZeroDivisionError

    written = [database.write(adding(f"kept-{n}")) for n in range(20)]
    outcomes = await asyncio.gather(
        *written[:10], database.write(fail), *written[10:], return_exceptions=True
    )
    assert [type(one) for one in outcomes if not isinstance(one, str)] == [ZeroDivisionError]
    assert await database.read(names) == {f"kept-{n}" for n in range(20)}


async def test_a_broken_constraint_is_an_integrity_error(database: Database) -> None:
    await database.write(adding("a"))
    with pytest.raises(IntegrityError):
        await database.write(adding("a"))


async def test_a_function_may_try_and_undo_a_part(database: Database) -> None:
    def try_twice(tx: Tx) -> bool:
        adding("a")(tx)
        try:
            with tx.begin_nested():
                adding("a")(tx)
        except IntegrityError:
            return False
        return True

    assert await database.write(try_twice) is False
    assert await database.read(names) == {"a"}


@pytest.mark.parametrize(
    "cheat",
    [
        lambda tx: tx.commit(),
        lambda tx: tx.rollback(),
        lambda tx: tx.begin_nested(),
        lambda tx: tx.execute(text("SELECT 1")),
        lambda tx: tx.close(),
    ],
    ids=["commit", "rollback", "open savepoint", "open cursor", "close"],
)
async def test_a_function_that_breaks_the_rule_fails_alone(
    database: Database, cheat: Callable[[Tx], Any]
) -> None:
    outcomes = await asyncio.gather(
        *(database.write(adding(f"kept-{n}")) for n in range(3)),
        database.write(lambda tx: (adding("lost")(tx), cheat(tx))[1]),
        *(database.write(adding(f"kept-{n}")) for n in range(3, 6)),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes if not isinstance(one, str)] == [TransactionRule]
    assert await database.read(names) == {f"kept-{n}" for n in range(6)}
    assert await database.write(adding("afterwards")) == "afterwards"


async def test_a_cancelled_caller_does_not_cancel_the_write(
    database: Database, database_url: str
) -> None:
    is_running, may_end = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        is_running.set()
        if database.kind == "sqlite":  # On PostgreSQL it runs on the loop, which must not wait.
            may_end.wait(timeout=30)
        adding("slow")(tx)

    task = asyncio.create_task(database.write(slow))
    queued = asyncio.create_task(database.write(adding("queued")))
    await eventually(is_running.is_set)
    task.cancel()
    queued.cancel()
    may_end.set()
    for cancelled in (task, queued):
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    await database.close()
    again = await open_database(database_url)
    assert await again.read(names) == {"slow", "queued"}
    await again.close()


async def test_closing_finishes_what_was_handed_in(database: Database, database_url: str) -> None:
    writes = [asyncio.create_task(database.write(adding(f"{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*writes)
    again = await open_database(database_url)
    assert len(await again.read(names)) == 50
    await again.close()


async def test_a_closed_database_says_so(database: Database) -> None:
    await database.close()
    await database.close()
    with pytest.raises(DatabaseUnavailable):
        await database.write(adding("late"))
    for read in (database.read, database.snapshot, database.read_point):
        with pytest.raises(DatabaseUnavailable):
            await read(names)


async def test_reads_cannot_write(database: Database) -> None:
    for read in (database.read, database.snapshot, database.read_point):
        with pytest.raises(DatabaseUnavailable):
            await read(adding("x"))
    assert await database.read(names) == set()


async def test_a_snapshot_sees_one_moment(database: Database) -> None:
    """Another write commits between its two statements, and is not seen."""
    loop = asyncio.get_running_loop()
    counts: list[int] = []

    def count(tx: Tx) -> int:
        return tx.execute(select(func.count()).select_from(callbacks_seen)).scalar_one()

    if database.kind == "sqlite":

        def look_twice(tx: Tx) -> None:
            counts.append(count(tx))
            asyncio.run_coroutine_threadsafe(database.write(adding("between")), loop).result(30)
            counts.append(count(tx))

        await database.snapshot(look_twice)
    else:

        def look_and_wait(tx: Tx) -> None:
            counts.append(count(tx))
            tx.execute(text("SELECT pg_sleep(0.3)")).all()
            counts.append(count(tx))

        looking = asyncio.create_task(database.snapshot(look_and_wait))
        await eventually(lambda: bool(counts))
        await database.write(adding("between"))
        await looking
    assert counts == [0, 0]
    assert await database.read(count) == 1


async def test_a_point_read_gives_the_row_or_nothing(database: Database) -> None:
    await database.write(adding("a"))
    point = database.prepare(
        select(callbacks_seen.c.received_at, callbacks_seen.c.id).where(
            callbacks_seen.c.id == bindparam("id"), callbacks_seen.c.received_at > 0
        )
    )
    assert await point(id="a") == (1, "a")
    assert await point(id="b") is None
    assert await database.read_point(names) == {"a"}


async def test_a_point_read_sees_what_was_just_written(database: Database) -> None:
    point = database.prepare(
        select(callbacks_seen.c.id).where(callbacks_seen.c.id == bindparam("id"))
    )
    for n in range(50):
        await database.write(adding(f"{n}"))
        assert await point(id=f"{n}") == (f"{n}",)


async def test_insert_if_new_tells_whether_it_did(database: Database) -> None:
    def twice(tx: Tx) -> list[bool]:
        return [insert_if_new(tx, callbacks_seen, id="a", received_at=n) for n in (1, 2)]

    assert await database.write(twice) == [True, False]


async def test_concurrent_writes_of_one_row_all_count(database: Database) -> None:
    def insert_account(tx: Tx) -> None:
        tx.execute(insert(accounts).values(id="a", kind="customer", created_at=1))

    def count_up(tx: Tx) -> None:
        tx.execute(
            update(accounts).values(version=accounts.c.version + 1).where(accounts.c.id == "a")
        )

    await database.write(insert_account)
    await asyncio.gather(*(database.write(count_up) for _ in range(100)))
    version = await database.read(
        lambda tx: tx.execute(select(accounts.c.version).where(accounts.c.id == "a")).scalar_one()
    )
    assert version == 100


async def test_listeners_hear_what_they_asked_for(database: Database) -> None:
    def announcing(topic: Topic) -> Callable[[Tx], None]:
        return partial(announce, topic=topic)

    with database.listen(Topic.DUE) as due, database.listen() as everything:
        await settle(database, due, everything)
        await database.write(announcing(Topic.CHANGED))
        assert await everything.wait(timeout_s=30)
        assert not await due.wait(timeout_s=0.05)
        await database.write(announcing(Topic.DUE))
        assert await due.wait(timeout_s=30)


async def test_a_write_that_fails_announces_nothing(database: Database) -> None:
    def fail(tx: Tx) -> None:
        announce(tx, Topic.DUE)
        raise ZeroDivisionError

    with database.listen(Topic.DUE) as wake:
        await settle(database, wake)
        with pytest.raises(ZeroDivisionError):
            await database.write(fail)
        await database.write(adding("a"))
        assert not await wake.wait(timeout_s=0.3)


async def test_listeners_hear_other_processes(database: Database, database_url: str) -> None:
    """Another connection to the same database stands for another process."""
    other = await open_database(database_url)
    with database.listen(Topic.RENDERS) as wake:
        await settle(database, wake)
        await other.write(partial(announce, topic=Topic.RENDERS))
        await other.write(adding("a"))
        assert await wake.wait(timeout_s=30)
    await other.close()


async def test_a_database_s_own_quiet_writes_wake_nobody(database: Database) -> None:
    with database.listen() as wake:
        await settle(database, wake)
        for n in range(5):
            await database.write(adding(f"{n}"))
        assert not await wake.wait(timeout_s=0.5)


@pytest.mark.parametrize("url", ["", "mysql://host/name", "sqlite://", "sqlite:///:memory:"])
async def test_an_unknown_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(DatabaseUnsupported):
        await open_database(url)


async def test_a_new_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    db = await open_database(f"sqlite:///{tmp_path / 'sayso.db'}")
    await db.write(lambda tx: tx.exec_driver_sql("CREATE TABLE t (x)").rowcount)

    assert {mode_of(tmp_path / name) for name in ("sayso.db", "sayso.db-wal")} == {0o600}
    await db.close()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(DatabaseUnsupported, match=r"3\.37\.0"):
        await open_database(f"sqlite:///{tmp_path / 'sayso.db'}")


async def test_opening_waits_for_another_process_that_makes_the_file(tmp_path: Path) -> None:
    """SQLite refuses to change the journal's mode at once, whatever its busy time-out says."""
    path = tmp_path / "sayso.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN EXCLUSIVE")
        limits = DatabaseLimits(busy_timeout_s=0.01)
        opening = asyncio.create_task(open_database(f"sqlite:///{path}", limits=limits))
        await asyncio.sleep(0.3)
        assert not opening.done()
        other.execute("COMMIT")
        await (await opening).close()


@pytest.mark.parametrize(
    "url", ["sqlite:////no/such/folder/sayso.db", "postgresql://me@/db?host=/no/such/folder"]
)
async def test_a_database_that_is_not_there_says_so(url: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        await open_database(url, limits=DatabaseLimits(connect_timeout_s=2))


async def settle(database: Database, *wakes: Wake) -> None:
    """Let go of what came before: PostgreSQL's listener rings once when it is ready."""
    for wake in wakes:
        assert database.kind == "sqlite" or await wake.wait(timeout_s=30)
        while await wake.wait(timeout_s=0.3):
            pass
