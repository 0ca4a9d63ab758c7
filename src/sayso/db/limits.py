"""How long the database may keep us waiting, and how much it does at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatabaseLimits:
    """Bounds of waiting and of concurrency."""

    group: int = 200
    """Functions that SQLite's writer commits together at most."""
    queued_writes: int = 10_000
    """Functions that may wait to be run before `write` raises `DatabaseBusy`."""
    readers: int = 4
    """Connections for lists."""
    writers: int = 8
    """PostgreSQL: connections for writing."""
    busy_timeout_s: float = 10.0
    """SQLite: how long to wait for another process that writes."""
    pool_timeout_s: float = 10.0
    """PostgreSQL: how long to wait for a free connection."""
    lock_timeout_s: float = 2.0
    """PostgreSQL: how long a statement waits for a row that another transaction holds."""
    statement_timeout_s: float = 10.0
    """PostgreSQL: how long a statement, or a transaction between two of them, may take."""
    connect_timeout_s: float = 5.0
    """PostgreSQL: how long to wait for a new connection."""
    write_tries: int = 6
    """PostgreSQL: runs of a write whose outcome was a lost race or a lost connection."""
    watch_interval_s: float = 0.2
    """SQLite: how often the writer looks for other processes' commits while somebody listens."""
