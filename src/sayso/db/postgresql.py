"""PostgreSQL over asyncpg: writes with retries, reads on read-only pools, NOTIFY for wakes.

- READ COMMITTED is enough: every guard of ours is one conditional UPDATE, and the row's lock makes
  it read its WHERE again.
- A write is run again after a serialization failure, a deadlock, or a lost connection, also when
  COMMIT was under way and its outcome is unclear: ids are arguments, a repeat finds its own rows.
- Three pools: SQLAlchemy's for writing, SQLAlchemy's in AUTOCOMMIT for lists, and a bare asyncpg
  pool for the hottest reads (73 us of CPU against 182 through SQLAlchemy).
- Announcements travel by NOTIFY in the transaction itself, so they arrive if and when it commits.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, TypeVar

import asyncpg
from sqlalchemy import URL, Compiled, Select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.compiler import SQLCompiler

from sayso.db.changes import ChangeHub, Wake
from sayso.db.limits import DatabaseLimits
from sayso.db.tx import Topic, Tx, forbid_commits, run_guarded
from sayso.errors import DatabaseBusy, DatabaseFull, DatabaseUnavailable, SaysoError

T = TypeVar("T")

CHANNEL: Final = "sayso"
RETRY_FIRST_S: Final = 0.05
"""The first pause before a repeat; it doubles, and is drawn between half and whole."""
LISTEN_CHECK_S: Final = 30.0
"""How often the listening connection is asked whether it still lives."""
LISTEN_RETRY_S: Final = 1.0

_RACE_LOST: Final = frozenset({"40001", "40P01"})  # Serialization failure, deadlock.
_TRY_LATER: Final = frozenset({"55P03", "57014", "53300"})  # Lock or statement time-out, too many.
_GONE: Final = frozenset({"57P01", "57P02", "57P03"})  # Shutting down, crashed, starting.
_GONE_CLASS: Final = "08"  # Connection exceptions.
_DISK_FULL: Final = "53100"
_READ_ONLY: Final = "25006"

_DRIVER_ERRORS: Final = (
    DBAPIError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    PoolTimeout,
    TimeoutError,
)


class PostgresDatabase:
    """A `Database` on a server."""

    kind: Final = "postgresql"

    def __init__(self, url: URL, limits: DatabaseLimits) -> None:
        url = _with_asyncpg(url)
        self._limits = limits
        self._hub = ChangeHub()
        self._writes = _engine(url, limits, size=limits.writers)
        self._reads = _engine(url, limits, size=limits.readers, is_read_only=True)
        self._lists = self._reads.execution_options(isolation_level="AUTOCOMMIT")
        self._snapshots = self._reads.execution_options(isolation_level="REPEATABLE READ")
        self._connect_arguments = dict(self._writes.dialect.create_connect_args(url)[1])
        self._points: asyncpg.Pool | None = None
        self._listener = _Listener(self._connect_arguments, self._hub)
        self._running: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(cls, url: URL, limits: DatabaseLimits) -> PostgresDatabase:
        """Connect; raise `DatabaseUnavailable` when there is nobody."""
        database = cls(url, limits)
        try:
            async with database._writes.connect():
                pass
            database._points = await asyncpg.create_pool(
                min_size=0,
                max_size=limits.readers,
                reset=_keep,
                timeout=limits.connect_timeout_s,
                command_timeout=limits.statement_timeout_s,
                server_settings=_server_settings(limits, is_read_only=True),
                **database._connect_arguments,
            )
        except _DRIVER_ERRORS as error:
            await database._writes.dispose()
            raise translated(error) from error
        return database

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn`, again if it must be; see `Database.write`."""
        self._open_points()
        if len(self._running) >= self._limits.queued_writes:
            raise DatabaseBusy("Too many changes wait to be written; try again in a moment.")
        task = asyncio.get_running_loop().create_task(self._write_surely(fn))
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` outside a transaction; see `Database.read`."""
        return await self._read_from(self._lists, fn)

    async def snapshot(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a repeatable read; see `Database.snapshot`."""
        return await self._read_from(self._snapshots, fn)

    async def read_point(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` as `read` does: there is no quicker way but `prepare`."""
        return await self._read_from(self._lists, fn)

    def prepare(self, select: Select[Any]) -> PostgresPointRead:
        """Compile a select by key; see `Database.prepare`."""
        compiled = select.compile(
            dialect=self._reads.dialect, compile_kwargs={"render_postcompile": True}
        )
        return PostgresPointRead(self._open_points(), compiled, wait_s=self._limits.pool_timeout_s)

    def listen(self, *topics: Topic) -> AbstractContextManager[Wake]:
        """Be woken by announcements; the first call starts listening to the server."""
        self._open_points()
        self._listener.start()
        return self._hub.listen(*topics)

    async def close(self) -> None:
        """Wait for the writes that run, then close; see `Database.close`."""
        points, self._points = self._points, None
        if points is None:
            return
        await self._listener.stop()
        if self._running:
            await asyncio.wait(self._running)
        await points.close()
        await self._writes.dispose()
        await self._reads.dispose()

    def _open_points(self) -> asyncpg.Pool:
        if self._points is None:
            raise DatabaseUnavailable("The database is closed.")
        return self._points

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # Its caller may have been cancelled; then nobody else asks.

    async def _write_surely(self, fn: Callable[[Tx], T]) -> T:
        value, topics = await _repeated(
            lambda: self._write_once(fn), tries=self._limits.write_tries
        )
        self._hub.wake(topics)
        return value

    async def _write_once(self, fn: Callable[[Tx], T]) -> tuple[T, frozenset[Topic]]:
        def run(tx: Tx) -> tuple[T, frozenset[Topic]]:
            value, topics = run_guarded(fn, tx)
            if topics:
                words = f"{self._listener.name}:{','.join(sorted(topics))}"
                tx.execute(_NOTIFY, {"channel": CHANNEL, "words": words})
            return value, topics

        async with self._writes.begin() as connection:
            return await connection.run_sync(run)

    async def _read_from(self, engine: AsyncEngine, fn: Callable[[Tx], T]) -> T:
        self._open_points()

        async def once() -> T:
            async with engine.connect() as connection:
                return await connection.run_sync(fn)

        return await _repeated(once, tries=2)


_NOTIFY: Final = text("SELECT pg_notify(:channel, :words)")


class PostgresPointRead:
    """A compiled select, run on a connection of the bare pool."""

    def __init__(self, pool: asyncpg.Pool, select: Compiled, *, wait_s: float) -> None:
        assert isinstance(select, SQLCompiler)
        self._pool = pool
        self._sql = str(select)
        self._fixed = select.params
        self._names: Sequence[str] = select.positiontup or ()
        self._wait_s = wait_s

    async def __call__(self, **parameters: object) -> tuple[Any, ...] | None:
        """Return the row, or None."""
        given = {**self._fixed, **parameters}
        values = [given[name] for name in self._names]

        async def once() -> tuple[Any, ...] | None:
            async with self._pool.acquire(timeout=self._wait_s) as connection:
                row = await connection.fetchrow(self._sql, *values)
            return None if row is None else tuple(row)

        return await _repeated(once, tries=2)


async def _keep(_connection: object) -> None:
    """Reset nothing when a connection returns to the pool: a point read sets nothing."""


class _Listener:
    """A connection that waits for NOTIFY, made anew when it is lost."""

    def __init__(self, connect_arguments: dict[str, Any], hub: ChangeHub) -> None:
        self.name = f"{random.getrandbits(64):016x}"
        self._connect_arguments = connect_arguments
        self._hub = hub
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen, once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen_for_ever())

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _listen_for_ever(self) -> None:
        while True:
            with suppress(*_DRIVER_ERRORS):
                await self._listen_until_lost()
            await asyncio.sleep(LISTEN_RETRY_S)

    async def _listen_until_lost(self) -> None:
        is_lost = asyncio.Event()
        connection = await asyncpg.connect(**self._connect_arguments)
        try:
            connection.add_termination_listener(lambda _: is_lost.set())
            await connection.add_listener(CHANNEL, self._hear)
            self._hub.wake(Topic)  # What was announced before we listened.
            while not is_lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(LISTEN_CHECK_S):
                        await is_lost.wait()
                        return
                await connection.execute("SELECT 1", timeout=LISTEN_RETRY_S)
        finally:
            connection.terminate()

    def _hear(self, _connection: object, _pid: int, _channel: str, words: str) -> None:
        sender, _, topics = words.partition(":")
        if sender != self.name:  # Our own listeners were woken when the write committed.
            known = {topic.value for topic in Topic}
            self._hub.wake(Topic(word) for word in topics.split(",") if word in known)


async def _repeated(once: Callable[[], Awaitable[T]], *, tries: int) -> T:
    """Await `once` again while it may help; raise our own error when it does not."""
    pause_s = RETRY_FIRST_S
    for left in reversed(range(tries)):
        try:
            return await once()
        except _DRIVER_ERRORS as error:
            if not (left and _may_repeat(error)):
                raise translated(error) from error
        await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 (not a secret)
        pause_s *= 2
    raise AssertionError("the last try returns or raises")


def _may_repeat(error: BaseException) -> bool:
    return _sqlstate(error) in _RACE_LOST or _is_gone(error)


def translated(error: BaseException) -> BaseException:
    """Return our error for what is the server's own trouble, else the error itself."""
    state = _sqlstate(error)
    ours: SaysoError
    if isinstance(error, PoolTimeout | TimeoutError) or state in _TRY_LATER | _RACE_LOST:
        ours = DatabaseBusy("The database is busy; try again in a moment.")
    elif state == _DISK_FULL:
        ours = DatabaseFull("The disk that holds the database is full.")
    elif state == _READ_ONLY:
        ours = DatabaseUnavailable("The database refuses changes: it is read-only.")
    elif _is_gone(error):
        ours = DatabaseUnavailable("The database does not answer.")
    else:
        return error
    ours.__cause__ = error
    return ours


def _is_gone(error: BaseException) -> bool:
    """Whether the connection, or the server, is not there (any more)."""
    if isinstance(error, DBAPIError):
        gone_with_it = error.connection_invalidated
    else:
        is_slow = isinstance(error, TimeoutError)
        gone_with_it = isinstance(error, OSError | asyncpg.InterfaceError) and not is_slow
    state = _sqlstate(error) or ""
    return gone_with_it or state in _GONE or state.startswith(_GONE_CLASS)


def _sqlstate(error: BaseException) -> str | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(cause, "sqlstate", None)
    return state if isinstance(state, str) else None


def _engine(
    url: URL, limits: DatabaseLimits, *, size: int, is_read_only: bool = False
) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=limits.pool_timeout_s,
        connect_args={
            "timeout": limits.connect_timeout_s,
            # The server's own time-outs come first; this is for a network that went silent.
            "command_timeout": limits.statement_timeout_s + limits.connect_timeout_s,
            "server_settings": _server_settings(limits, is_read_only=is_read_only),
        },
    )
    if not is_read_only:
        forbid_commits(engine.sync_engine)
    return engine


def _server_settings(limits: DatabaseLimits, *, is_read_only: bool) -> dict[str, str]:
    statement_ms = str(round(limits.statement_timeout_s * 1_000))
    return {
        "application_name": "sayso",
        "lock_timeout": str(round(limits.lock_timeout_s * 1_000)),
        "statement_timeout": statement_ms,
        "idle_in_transaction_session_timeout": statement_ms,
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "on" if is_read_only else "off",
        "jit": "off",  # Our statements are short; compiling them costs more than it saves.
    }


def _with_asyncpg(url: URL) -> URL:
    """Name the driver, and say `sslmode` (libpq's word) in asyncpg's way."""
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)
