"""SQLite for the simulation: the real transactions, in the loop's own thread.

SimulatedDatabase   `SqliteDatabase` whose writer and readers run where they are called
ProcessDatabase     the same as one process sees it, which may die before or after each write
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from sqlalchemy import Select

from sayso.db.changes import Wake
from sayso.db.connect import PointRead
from sayso.db.limits import DatabaseLimits
from sayso.db.sqlite import SqliteDatabase
from sayso.db.sqlite_writer import GroupWriter, _commit_surely, _Job, _resolve, driver_of
from sayso.db.tx import Topic, Tx

T = TypeVar("T")


class _WriterHere(GroupWriter):
    """Commits each function as it is handed in, and answers in the next round of the loop."""

    def start(self) -> None:
        """There is no thread."""

    def submit(self, fn: Callable[[Tx], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        job = _Job(fn, loop.create_future())
        loop.call_soon(_resolve, self._hub, _commit_surely(self._engine, [job]))
        return job.answer

    def close(self) -> None:
        """Everything is written already."""


class SimulatedDatabase(SqliteDatabase):
    """See the module's docstring. Nothing survives the machine: its disk is not waited for."""

    def __init__(self, path: Path) -> None:
        limits = DatabaseLimits()
        super().__init__(path, limits)
        self._writer = _WriterHere(self._write_engine, self._hub, limits)
        self._make_file()
        with self._write_engine.connect() as connection:
            driver_of(connection).execute("PRAGMA synchronous=OFF").fetchall()
        self._inline = self._inline_engine.connect()

    async def _in_thread(self, run: Callable[[Callable[[Tx], T]], T], fn: Callable[[Tx], T]) -> T:
        return run(fn)


class Mortal(Protocol):
    """A process."""

    def require_life(self) -> None:
        """Raise `CancelledError` when it is dead: nothing that it still does has an effect."""

    async def step(self) -> None:
        """A moment at which it may die."""


class ProcessDatabase:
    """See the module's docstring."""

    kind: Literal["sqlite"] = "sqlite"

    def __init__(self, db: SimulatedDatabase, process: Mortal) -> None:
        self._db = db
        self._process = process

    async def write(self, fn: Callable[[Tx], T]) -> T:
        await self._process.step()
        value = await self._db.write(fn)
        await self._process.step()
        return value

    async def read(self, fn: Callable[[Tx], T]) -> T:
        return await self._alive(self._db.read(fn))

    async def snapshot(self, fn: Callable[[Tx], T]) -> T:
        return await self._alive(self._db.snapshot(fn))

    async def read_point(self, fn: Callable[[Tx], T]) -> T:
        return await self._alive(self._db.read_point(fn))

    def prepare(self, select: Select[Any]) -> PointRead:
        return self._db.prepare(select)

    def listen(self, *topics: Topic) -> AbstractContextManager[Wake]:
        return self._db.listen(*topics)

    async def close(self) -> None:
        """The database outlives its processes."""

    async def _alive(self, read: Awaitable[T]) -> T:
        value = await read
        self._process.require_life()
        return value
