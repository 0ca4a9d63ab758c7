"""Change feed: who wants to hear of changes, and how they are woken.

A listener says which topics it wants and waits; being woken means "look again", nothing more. Wakes
that come while nobody waits are kept as one. A wake can come twice, or for nothing; after a lost
connection to PostgreSQL it comes once for every topic. So a listener always reads the tables, and
has a slow tick of its own for the day when a wake is lost.

    with db.listen(Topic.DUE) as wake:
        while is_running:
            await wake.wait(timeout_s=0.5)
            ...

Within a process the wake follows the commit at once. From other processes it comes by NOTIFY on
PostgreSQL; on SQLite by `PRAGMA data_version`, which the writer looks at a few times a second while
somebody listens, and which names no topic: everybody is woken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sayso.db.tx import Topic


class Wake:
    """One listener's bell."""

    def __init__(self, topics: frozenset[Topic]) -> None:
        self.topics = topics
        self._bell = asyncio.Event()

    async def wait(self, *, timeout_s: float) -> bool:
        """Wait to be woken; return False when the time is over. Clears what it returns for."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._bell.wait()
        except TimeoutError:
            return False
        self._bell.clear()
        return True

    def ring(self) -> None:
        """Wake the listener; only from the loop's own thread."""
        self._bell.set()


class ChangeHub:
    """The listeners of one process. All of it happens on the event loop's thread."""

    def __init__(self) -> None:
        self._wakes: set[Wake] = set()

    @property
    def has_listeners(self) -> bool:
        """Whether anybody would be woken; safe to read from any thread."""
        return bool(self._wakes)

    @contextmanager
    def listen(self, *topics: Topic) -> Iterator[Wake]:
        """Be woken for these topics while the context is open; for all when none is named."""
        wake = Wake(frozenset(topics or Topic))
        self._wakes.add(wake)
        try:
            yield wake
        finally:
            self._wakes.discard(wake)

    def wake(self, topics: Iterable[Topic]) -> None:
        """Ring for everybody who listens to one of these topics."""
        wanted = frozenset(topics)
        for wake in tuple(self._wakes):
            if wanted & wake.topics:
                wake.ring()
