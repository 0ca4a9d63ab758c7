"""SQLite's one writer: a thread that commits functions in groups.

Callers put functions into a queue; the thread takes what is there (200 at most), runs each in a
savepoint of one `BEGIN IMMEDIATE` ... `COMMIT`, and wakes the callers only after the commit. One
fsync then serves the whole group: 23 times the rate of single commits (measured at 50 a group).

What can go wrong, and what is done (each was seen to happen):
- A function raises: its savepoint is rolled back, the others commit.
- SQLite ends the whole transaction by itself (disk full, `RAISE(ROLLBACK)`). What comes next would
  run in autocommit, and what went before is lost. So after each function `in_transaction` is looked
  at; when it is false the group has failed, and is run again one by one, each in a transaction of
  its own.
- COMMIT fails, or a function breaks the `tx` rule: the same.
- The caller is cancelled: the write goes on; only its answer is dropped.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sayso.db.changes import ChangeHub
from sayso.db.limits import DatabaseLimits
from sayso.db.tx import Topic, TransactionRule, Tx, run_guarded
from sayso.errors import DatabaseBusy, DatabaseFull, DatabaseUnavailable

_FOREIGN: Final = frozenset(Topic)
"""Another process's commit names no topic, so everybody looks."""


@dataclass(eq=False, slots=True)
class _Job:
    """A function that waits to be run, and the caller that waits for it."""

    fn: Callable[[Tx], Any]
    answer: asyncio.Future[Any]


@dataclass(eq=False, slots=True)
class _Outcome:
    """What became of a job: a value or an error."""

    job: _Job
    value: Any = None
    error: BaseException | None = None
    topics: frozenset[Topic] = field(default_factory=frozenset)


class _GroupLost(Exception):
    """SQLite ended the transaction: nothing of the group was kept."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class GroupWriter:
    """The thread, its queue and its connection, whose driver begins no transactions by itself."""

    def __init__(self, engine: Engine, hub: ChangeHub, limits: DatabaseLimits) -> None:
        self._engine = engine
        self._hub = hub
        self._limits = limits
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sayso-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, fn: Callable[[Tx], Any]) -> asyncio.Future[Any]:
        """Queue a function; its future is resolved on the caller's loop after the commit."""
        job = _Job(fn, asyncio.get_running_loop().create_future())
        with self._gate:
            if not self._is_open:
                raise DatabaseUnavailable("The database is closed.")
            if self._jobs.qsize() >= self._limits.queued_writes:
                raise DatabaseBusy("Too many changes wait to be written; try again in a moment.")
            self._jobs.put(job)
        return job.answer

    def close(self) -> None:
        """Run what was queued, then end the thread. Blocks; safe to repeat."""
        with self._gate:
            if self._is_open:
                self._is_open = False
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        with self._engine.connect() as connection:  # The pool has one, which stays the same.
            watch = _ForeignCommits(driver_of(connection), self._limits.watch_interval_s)
        is_last = False
        while not is_last:
            group, is_last = self._next_group()
            if group:
                _deliver(self._hub, _commit_surely(self._engine, group))
            if self._hub.has_listeners and watch.saw_one():
                _call(self._loop, self._hub.wake, _FOREIGN)

    def _next_group(self) -> tuple[list[_Job], bool]:
        """Wait for work; return it and whether it is the last. Empty: time to look around."""
        group: list[_Job] = []
        try:
            while len(group) < self._limits.group:
                job = (
                    self._jobs.get_nowait()
                    if group
                    else self._jobs.get(timeout=self._limits.watch_interval_s)
                )
                if job is None:
                    return group, True
                group.append(job)
        except queue.Empty:
            pass
        return group, False


class _ForeignCommits:
    """Notices commits of other processes: `data_version` ignores this connection's own."""

    def __init__(self, raw: sqlite3.Connection, interval_s: float) -> None:
        self._raw = raw
        self._interval_s = interval_s
        self._looked_at_s = 0.0
        self._seen = self._version()

    def saw_one(self) -> bool:
        """Whether somebody else committed since the last look; looks at most every interval."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s < self._interval_s:
            return False
        self._looked_at_s = now_s
        before, self._seen = self._seen, self._version()
        return before != self._seen or self._seen is None

    def _version(self) -> int | None:
        """Return the counter; None if it cannot be read, when it is safer to look at the tables."""
        try:
            return int(self._raw.execute("PRAGMA data_version").fetchall()[0][0])
        except sqlite3.OperationalError:
            return None


def _commit_surely(engine: Engine, group: Sequence[_Job]) -> list[_Outcome]:
    """Give every job an outcome, whatever happens: a caller without one would wait for ever."""
    try:
        return _commit_all(engine, group)
    except BaseException as error:  # noqa: BLE001 (a mistake of ours; the thread outlives it)
        return [_Outcome(job, error=error) for job in group]


def _commit_all(engine: Engine, group: Sequence[_Job]) -> list[_Outcome]:
    """Run a group, alone again each if SQLite gave it up as a whole."""
    try:
        return _commit_group(engine, group)
    except _GroupLost as lost:
        if len(group) == 1:
            return [_Outcome(group[0], error=translated(lost.cause))]
        return [outcome for job in group for outcome in _commit_all(engine, [job])]


def _commit_group(engine: Engine, group: Sequence[_Job]) -> list[_Outcome]:
    with engine.connect() as connection:
        raw = driver_of(connection)
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return [_Outcome(job, error=translated(error)) for job in group]
        try:
            transaction = connection.begin()
            outcomes = [_run_one(connection, raw, job) for job in group]
            transaction.commit()
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise _GroupLost(error) from error
        finally:
            if raw.in_transaction:
                raw.rollback()
    return outcomes


def _run_one(connection: Connection, raw: sqlite3.Connection, job: _Job) -> _Outcome:
    """Run one function in a savepoint; raise `_GroupLost` if the transaction ended under it."""
    raw.execute("SAVEPOINT one")
    try:
        value, topics = run_guarded(job.fn, connection)
    except BaseException as error:  # Whatever it is, it is the caller's.
        if isinstance(error, TransactionRule) or not raw.in_transaction:
            raise _GroupLost(error) from error
        raw.execute("ROLLBACK TO one")
        raw.execute("RELEASE one")
        return _Outcome(job, error=translated(error))
    if not raw.in_transaction:
        raise _GroupLost(DatabaseUnavailable("The database gave up the transaction."))
    raw.execute("RELEASE one")
    return _Outcome(job, value, topics=topics)


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the driver's own connection."""
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


def translated(error: BaseException) -> BaseException:
    """Return our error for one that SQLite raises for reasons of its own, else the error itself."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, StopIteration):  # A future cannot carry it.
        return RuntimeError("a function handed to `write` raised StopIteration")
    if not isinstance(cause, sqlite3.OperationalError):
        return error
    match cause.sqlite_errorcode & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            ours: Exception = DatabaseBusy(
                "Another process keeps the database busy; try again in a moment."
            )
        case sqlite3.SQLITE_FULL:
            ours = DatabaseFull("The disk that holds the database is full.")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            ours = DatabaseUnavailable(f"The database's file cannot be used: {cause}.")
        case _:
            return error
    ours.__cause__ = error
    return ours


def _deliver(hub: ChangeHub, outcomes: Sequence[_Outcome]) -> None:
    """Hand the outcomes to their loops, one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome.job.answer.get_loop(), []).append(outcome)
    for loop, theirs in by_loop.items():
        _call(loop, _resolve, hub, theirs)


def _call(loop: asyncio.AbstractEventLoop, fn: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # The loop is closed: nobody waits there any more.
        loop.call_soon_threadsafe(fn, *arguments)


def _resolve(hub: ChangeHub, outcomes: Sequence[_Outcome]) -> None:
    topics: set[Topic] = set()
    for outcome in outcomes:
        topics |= outcome.topics
        answer = outcome.job.answer
        if answer.done():
            continue  # Its caller was cancelled; the write stands.
        if outcome.error is None:
            answer.set_result(outcome.value)
        else:
            answer.set_exception(outcome.error)
    hub.wake(topics)
