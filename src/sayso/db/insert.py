"""Insert unless it is there: the one statement that the two databases' dialects spell apart."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

from sayso.db.tx import Tx


def insert_if_new(tx: Tx, table: Table, **values: Any) -> bool:
    """Insert a row; return False, having changed nothing, if a unique key of it is taken.

    On PostgreSQL this waits for a transaction that is about to insert the same key. Foreign keys
    and CHECKs are not excused: they raise.
    """
    return tx.execute(_statement(tx.dialect.name, table), values).rowcount == 1


@cache
def _statement(dialect: str, table: Table) -> Insert:
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
