"""Bring a database to the schema that this code expects.

The whole upgrade is one transaction on both databases: killed in the middle, it has not happened,
and several processes that start at once take turns. A database that a newer Sayso has migrated is
left alone (`SchemaTooNew`).
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Final

from sqlalchemy import inspect, text

from sayso.db.connect import Database
from sayso.db.tx import Tx
from sayso.errors import SchemaTooNew

HEAD: Final = "0005"
"""The newest migration; a test compares it with the files."""

_LOCK: Final = 0x5A_79_50  # Any number, as long as it stays the same.
_WAIT_S: Final = 60


async def upgrade(db: Database) -> None:
    """Apply what is missing; do nothing (and load no Alembic) when the schema is current."""
    if await db.read(revision) != HEAD:
        await db.write(migrate)


def revision(tx: Tx) -> str | None:
    """Return the revision a database is at, None before its first migration."""
    if not inspect(tx).has_table("alembic_version"):
        return None
    found = tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if found is None else str(found)


def migrate(tx: Tx) -> None:
    """Apply the missing migrations in this transaction; raise `SchemaTooNew`."""
    if tx.dialect.name == "postgresql":
        tx.execute(text(f"SET LOCAL lock_timeout = '{_WAIT_S}s'"))
        tx.execute(text("SET LOCAL statement_timeout = 0"))
        tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    before = revision(tx)
    if before == HEAD:
        return
    # Alembic takes a second to load; a database that is up to date never needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    with as_file(files("sayso.db") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = tx
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if before is not None and before not in known:
            raise SchemaTooNew(before)
        command.upgrade(config, HEAD)
