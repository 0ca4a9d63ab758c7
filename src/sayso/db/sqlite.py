"""SQLite: one writer thread, read-only connections of their own, point reads on the loop.

- Writes: `sqlite_writer.py`. WAL, `synchronous=FULL` (a forgotten hold whose provider call went out
  would be a video nobody pays for), foreign keys on, `BEGIN IMMEDIATE` so that several processes
  may share the file: they take turns, and wait `busy_timeout_s` at most.
- Reads have engines of their own in AUTOCOMMIT and `query_only`: on the writer's engine a SELECT
  would take the write lock. Lists run in a thread; a read by key runs on the loop's thread, because
  it takes 13-30 us and a hop to a thread 50 (WAL readers do not wait for the writer).
- Every cursor is fetched to its end: an open one pins the write-ahead log.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, Select, create_engine, event
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from sayso.db.changes import ChangeHub, Wake
from sayso.db.limits import DatabaseLimits
from sayso.db.sqlite_writer import GroupWriter, driver_of, translated
from sayso.db.tx import Topic, Tx, forbid_commits
from sayso.errors import DatabaseUnavailable, DatabaseUnsupported

T = TypeVar("T")

OLDEST: Final = (3, 37, 0)
"""STRICT tables; RETURNING came with 3.35."""
WAL_LIMIT_BYTES: Final = 64 << 20
"""What the write-ahead log is cut back to after a checkpoint."""
INLINE_WAIT_S: Final = 0.2
"""How long a read on the loop's thread may wait (only while another process recovers the log)."""


class SqliteDatabase:
    """A `Database` in one file."""

    kind: Final = "sqlite"

    def __init__(self, path: Path, limits: DatabaseLimits) -> None:
        self.path = path
        self._hub = ChangeHub()
        self._write_engine = _engine(path, wait_s=limits.busy_timeout_s, is_writer=True)
        self._read_engine = _engine(path, wait_s=limits.busy_timeout_s, readers=limits.readers)
        self._inline_engine = _engine(path, wait_s=INLINE_WAIT_S)
        self._writer = GroupWriter(self._write_engine, self._hub, limits)
        self._threads = ThreadPoolExecutor(limits.readers, thread_name_prefix="sayso-reader")
        self._inline: Connection | None = None

    @classmethod
    async def open(cls, url: URL, limits: DatabaseLimits) -> SqliteDatabase:
        """Open the file, made if missing; its folder must exist."""
        if sqlite3.sqlite_version_info < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise DatabaseUnsupported(
                f"This Python has SQLite {sqlite3.sqlite_version}; Sayso needs {oldest} or later."
            )
        if url.database in {None, "", ":memory:"}:
            raise DatabaseUnsupported("Sayso needs a database in a file, not in memory.")
        assert url.database is not None
        database = cls(Path(url.database), limits)
        try:
            await asyncio.to_thread(database._make_file)
            database._inline = database._inline_engine.connect()
        except OSError as error:
            raise DatabaseUnavailable(f"The database's file cannot be made: {error}.") from error
        except (DBAPIError, sqlite3.Error) as error:
            database._dispose()
            raise translated(error) from error
        database._writer.start()
        return database

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a group of the writer thread; see `Database.write`."""
        value: T = await self._writer.submit(fn)
        return value

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a reader thread; see `Database.read`."""
        return await self._in_thread(self._read, fn)

    async def snapshot(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a reader thread, in one read transaction; see `Database.snapshot`."""
        return await self._in_thread(self._read_at_one_moment, fn)

    async def read_point(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` here and now; see `Database.read_point`."""
        try:
            return fn(self._open_inline())
        except DBAPIError as error:
            raise translated(error) from error

    def prepare(self, select: Select[Any]) -> SqlitePointRead:
        """Compile a select by key; see `Database.prepare`."""
        return SqlitePointRead(driver_of(self._open_inline()), select)

    def listen(self, *topics: Topic) -> AbstractContextManager[Wake]:
        """Be woken by announcements; see `changes.py`."""
        return self._hub.listen(*topics)

    async def close(self) -> None:
        """Commit what is queued, then close; see `Database.close`."""
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._threads.shutdown)
        self._dispose()

    def _make_file(self) -> None:
        """Make the file, readable by its owner alone (it holds signing keys), and enter WAL."""
        self.path.touch(mode=0o600)
        with self._write_engine.connect():
            pass

    def _dispose(self) -> None:
        if self._inline is not None:
            self._inline.close()
            self._inline = None
        for engine in (self._inline_engine, self._read_engine, self._write_engine):
            engine.dispose()

    def _open_inline(self) -> Connection:
        if self._inline is None:
            raise DatabaseUnavailable("The database is closed.")
        return self._inline

    async def _in_thread(self, run: Callable[[Callable[[Tx], T]], T], fn: Callable[[Tx], T]) -> T:
        self._open_inline()
        return await asyncio.get_running_loop().run_in_executor(self._threads, run, fn)

    def _read(self, fn: Callable[[Tx], T]) -> T:
        try:
            with self._read_engine.connect() as connection:
                return fn(connection)
        except DBAPIError as error:
            raise translated(error) from error

    def _read_at_one_moment(self, fn: Callable[[Tx], T]) -> T:
        def in_transaction(connection: Tx) -> T:
            connection.exec_driver_sql("BEGIN")
            try:
                return fn(connection)
            finally:
                connection.exec_driver_sql("ROLLBACK")

        return self._read(in_transaction)


class SqlitePointRead:
    """A compiled select, run on the driver's connection in about 10 us."""

    def __init__(self, raw: sqlite3.Connection, select: Select[Any]) -> None:
        compiled = select.compile(
            dialect=sqlite_dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
        )
        self._raw = raw
        self._sql = str(compiled)
        self._fixed = {k: v for k, v in compiled.params.items() if v is not None}

    async def __call__(self, **parameters: object) -> tuple[Any, ...] | None:
        """Return the row, or None."""
        try:
            rows = self._raw.execute(self._sql, {**self._fixed, **parameters}).fetchall()
        except sqlite3.OperationalError as error:
            raise translated(error) from error
        return rows[0] if rows else None


def _engine(path: Path, *, wait_s: float, is_writer: bool = False, readers: int = 0) -> Engine:
    """Return an engine; one connection unless `readers` are asked for."""
    pool: dict[str, Any] = (
        {"pool_size": readers, "max_overflow": 0} if readers else {"poolclass": StaticPool}
    )
    # `isolation_level: None` turns the driver's own transactions off: it would begin them late and
    # without the write lock.
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": wait_s},
        **pool,
        **({} if is_writer else {"isolation_level": "AUTOCOMMIT"}),
    )
    if is_writer:
        event.listen(engine, "connect", _prepare_writer)
        forbid_commits(engine)
    else:
        event.listen(engine, "connect", _prepare_reader)
    return engine


def _prepare_writer(raw: sqlite3.Connection, _record: object) -> None:
    _enter_wal(raw)
    for pragma in (
        "synchronous=FULL",
        "foreign_keys=ON",
        "recursive_triggers=ON",  # INSERT OR REPLACE deletes, so it meets the guards too.
        "fullfsync=ON",  # macOS: plain fsync leaves the bytes in the drive's cache.
        "checkpoint_fullfsync=ON",
        f"journal_size_limit={WAL_LIMIT_BYTES}",
    ):
        raw.execute(f"PRAGMA {pragma}").fetchall()


def _prepare_reader(raw: sqlite3.Connection, _record: object) -> None:
    raw.execute("PRAGMA query_only=ON").fetchall()


def _enter_wal(raw: sqlite3.Connection, *, tries: int = 100, pause_s: float = 0.05) -> None:
    """Switch to WAL; when two processes do so at once SQLite may refuse without waiting."""
    for left in reversed(range(tries)):
        try:
            raw.execute("PRAGMA journal_mode=WAL").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not left:
                raise
            time.sleep(pause_s)
        else:
            return
