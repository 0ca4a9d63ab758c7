"""What a function handed to `db.write` gets, and what it may not do.

A `Tx` is a plain synchronous SQLAlchemy connection inside a transaction. The function that has it
does no network, no await and no commit, and may run twice (decision 0002): a commit or a rollback
of the whole transaction raises `TransactionRule` here, on both databases. `tx.begin_nested()` is
allowed.

`announce(tx, Topic.DUE)` tells whoever listens (`changes.py`), once and only if this write commits.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, event

Tx = Connection
T = TypeVar("T")

_TOPICS: Final = "sayso.topics"
_GUARDED: Final = "sayso.guarded"


class Topic(StrEnum):
    """What a write may announce."""

    DUE = "due"
    """A generation or a webhook has become due before its time."""
    CHANGED = "changed"
    """A generation changed in a way that its watchers are told of."""
    RENDERS = "renders"
    """A render was queued, or asked to stop."""


class TransactionRule(RuntimeError):
    """A function handed to `db.write` broke the `tx` rule: a mistake in our code."""


def announce(tx: Tx, topic: Topic) -> None:
    """Wake the listeners of `topic` when this write has committed."""
    tx.info.setdefault(_TOPICS, set()).add(topic)


def run_guarded(fn: Callable[[Tx], T], tx: Tx) -> tuple[T, frozenset[Topic]]:
    """Run `fn`; return its value and what it announced. Raise `TransactionRule` if it cheats."""
    notes = tx.info  # Kept: a connection that was lost no longer gives it out.
    notes.pop(_TOPICS, None)
    notes[_GUARDED] = True
    try:
        value = fn(tx)
    finally:
        notes[_GUARDED] = False
    if tx.closed:
        raise TransactionRule("the connection was closed")
    if isinstance(value, CursorResult):
        raise TransactionRule("fetch the rows; a cursor does not outlive its transaction")
    if tx.in_nested_transaction():
        raise TransactionRule("a savepoint was left open")
    return value, frozenset(notes.pop(_TOPICS, ()))


def forbid_commits(engine: Engine) -> None:
    """Make commit and rollback raise on this engine's connections while a function runs."""
    event.listen(engine, "commit", _refuse)
    event.listen(engine, "rollback", _refuse)


def _refuse(connection: Connection) -> None:
    is_lost = connection.invalidated  # Then SQLAlchemy itself rolls back what is left of it.
    if not is_lost and connection.info.get(_GUARDED):
        raise TransactionRule("a function that takes `tx` neither commits nor rolls back")
