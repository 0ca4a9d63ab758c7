"""The database as the rest of Sayso sees it: one protocol, two implementations.

    db = await open_database("sqlite:///data/sayso.db")        # or postgresql://user@host/name
    hold = await db.write(lambda tx: store.hold(tx, ...))      # together or not at all
    rows = await db.read(lambda tx: store.page(tx, ...))       # a list

`write` and the reads take plain synchronous functions over SQLAlchemy Core (`tx.py` says what they
may do), so that stores are written once. How each database runs them: `sqlite.py` (a writer thread
that commits in groups), `postgresql.py` (asyncpg, retries). Who hears of changes: `changes.py`.
Decisions: 0002 (the `tx` rule), 0004 (Core instead of ORM).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

from sqlalchemy import Select, make_url
from sqlalchemy.exc import ArgumentError

from sayso.db.changes import Wake
from sayso.db.limits import DatabaseLimits
from sayso.db.tx import Topic, Tx
from sayso.errors import DatabaseUnsupported

T = TypeVar("T")

Row = tuple[Any, ...]


class PointRead(Protocol):
    """A select of at most one row, compiled once and run on the driver."""

    async def __call__(self, **parameters: object) -> Row | None:
        """Return the row as the driver gives it (JSON columns are text), or None."""
        ...


class Database(Protocol):
    """What may be asked of a database. Safe to use from any task of the loop that opened it."""

    @property
    def kind(self) -> Literal["sqlite", "postgresql"]:
        """Which of the two it is; for claims, whose SQL differs, and for `doctor`."""
        ...

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a transaction; return its value once that is durable.

        `fn` may run more than once (a group is re-run, a serialization failure, an unclear
        COMMIT): it has no effect outside `tx`, and ids and times come in as arguments. What it
        raises rolls its work back and is raised here. Cancelling the await does not stop the
        write.

        Raises `DatabaseBusy`, `DatabaseFull`, `DatabaseUnavailable`.
        """
        ...

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` on a read-only connection; each statement sees what is committed by then."""
        ...

    async def snapshot(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` read-only, all its statements seeing one moment."""
        ...

    async def read_point(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn`, which reads a few rows by key: on SQLite at once, on the loop's thread."""
        ...

    def prepare(self, select: Select[Any]) -> PointRead:
        """Compile a select by key with named `bindparam`s for the hottest reads."""
        ...

    def listen(self, *topics: Topic) -> AbstractContextManager[Wake]:
        """Be woken when one of these is announced, here or in another process."""
        ...

    async def close(self) -> None:
        """Finish what was handed in, then close; later calls raise `DatabaseUnavailable`."""
        ...


async def open_database(url: str, *, limits: DatabaseLimits | None = None) -> Database:
    """Open `sqlite:///file` (made if missing) or `postgresql://...`; apply no migration.

    Raises `DatabaseUnsupported` for any other URL, `DatabaseUnavailable` when it cannot be opened.
    """
    limits = limits or DatabaseLimits()
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseUnsupported("The database's URL cannot be read.") from error
    match parsed.get_backend_name():
        case "sqlite":
            from sayso.db.sqlite import SqliteDatabase  # noqa: PLC0415 (only the one in use)

            return await SqliteDatabase.open(parsed, limits)
        case "postgresql" | "postgres":
            from sayso.db.postgresql import PostgresDatabase  # noqa: PLC0415 (the same)

            return await PostgresDatabase.open(parsed, limits)
        case other:
            raise DatabaseUnsupported(
                f"Sayso keeps its records in sqlite:// or postgresql://, not in {other}://."
            )
