"""Changes of generations, looked for once and handed to everybody who watches.

    EventHub    one reader of the database for all streams; `run()` is its one task
    Reader      one stream's tray: what waits to be sent to it

The hub is woken by the database, looks once for all readers of an account, and puts the newest
state of a generation into each reader's tray. A slow reader therefore misses states in between,
never the last one; one whose tray runs over is dropped. All of it happens on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from sayso.clock import SECOND, Clock
from sayso.errors import QueueFull, SaysoError
from sayso.generations.generation import Generation
from sayso.generations.service import Generations
from sayso.ids import AccountId, GenerationId

PING_S: Final = 15
"""Between two signs of life; also how soon a lost wake is made good."""
LOOK_ROWS: Final = 500
"""How many changes are read at once."""

_TRAY: Final = 1_000
_STREAMS: Final = 10_000
# Changes that come at once are looked at together.
_GATHER_S: Final = 0.05
# Commits of several processes do not come in the order of their times: a look overlaps the one
# before by this much, and one in each ping by more.
LATE: Final = 2 * SECOND
_VERY_LATE: Final = 2 * PING_S * SECOND

_log: Final = structlog.get_logger("sayso.http")


class Reader:
    """One stream: what waits to be sent to it."""

    def __init__(
        self, account_id: AccountId, generation_id: GenerationId | None, *, since: int
    ) -> None:
        """Take changes after the version `since`, of one generation or of all."""
        self.account_id = account_id
        self.generation_id = generation_id
        self._since = since
        self.is_dropped = False
        self._tray: dict[GenerationId, Generation] = {}
        self._sent: dict[GenerationId, int] = {}
        self._ping = False
        self._bell = asyncio.Event()

    def put(self, generation: Generation) -> None:
        """Lay the newest state of a generation into the tray."""
        if self.generation_id not in {None, generation.id}:
            return
        if self._sent.get(generation.id, self._since) >= generation.version:
            return
        self._tray[generation.id] = generation
        if len(self._tray) > _TRAY:
            self.drop()
        self._bell.set()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._ping = True
        self._bell.set()

    def drop(self) -> None:
        """End the stream; its reader comes back and says what it has seen."""
        self.is_dropped = True
        self._bell.set()

    async def take(self) -> tuple[list[Generation], bool]:
        """Wait for something to send; return it in the order of versions, and whether to ping."""
        await self._bell.wait()
        self._bell.clear()
        taken = sorted(self._tray.values(), key=lambda generation: generation.version)
        self._tray.clear()
        self.remember(taken)
        ping, self._ping = self._ping, False
        return taken, ping

    def remember(self, sent: Iterable[Generation]) -> None:
        """Note what goes out, so that a look that overlaps the one before sends nothing twice."""
        for generation in sent:
            self._sent[generation.id] = generation.version
        while len(self._sent) > _TRAY:
            del self._sent[next(iter(self._sent))]


class EventHub:
    """Looks for changes once for all readers. `run()` is its one task."""

    def __init__(self, generations: Generations, clock: Clock) -> None:
        self._generations = generations
        self._clock = clock
        self._readers: dict[AccountId, set[Reader]] = {}
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many streams are open."""
        return sum(len(readers) for readers in self._readers.values())

    @contextmanager
    def reading(self, reader: Reader) -> Iterator[None]:
        """Give the reader what changes while the context is open; raise `QueueFull`."""
        if self.count >= _STREAMS:
            raise QueueFull("Too many event streams are open.", retry_after_s=PING_S)
        readers = self._readers.setdefault(reader.account_id, set())
        readers.add(reader)
        if self._is_closed:
            # It came by a connection that was still open; nobody else would end its stream.
            reader.drop()
        try:
            yield
        finally:
            readers.discard(reader)
            if not readers:
                self._readers.pop(reader.account_id, None)

    def close(self) -> None:
        """End every stream, also of readers still to come: they go to whoever serves next."""
        self._is_closed = True
        for readers in self._readers.values():
            for reader in readers:
                reader.drop()

    async def run(self) -> None:
        """Look and distribute until canceled."""
        with self._generations.listen() as wake:
            since: int = self._clock.now()
            ping_at_s = self._clock.monotonic_s() + PING_S
            while True:
                left_s = ping_at_s - self._clock.monotonic_s()
                if await wake.wait(timeout_s=max(left_s, 0)):
                    await asyncio.sleep(_GATHER_S)
                back = LATE
                if self._clock.monotonic_s() >= ping_at_s:
                    ping_at_s = self._clock.monotonic_s() + PING_S
                    self._ping()
                    back = _VERY_LATE
                # Taken before the look, so that nothing falls between two looks.
                now = self._clock.now()
                if await self._look(since - back):
                    since = now

    async def _look(self, since: int) -> bool:
        """Hand out what changed; return False when the database could not be asked."""
        for account_id in tuple(self._readers):
            try:
                await self._look_for(account_id, since)
            except SaysoError as error:
                _log.warning("events wait for the database", code=error.code)
                return False
        return True

    async def _look_for(self, account_id: AccountId, since: int) -> None:
        while True:
            found = await self._generations.changed_since(account_id, since, limit=LOOK_ROWS)
            for generation in found:
                for reader in self._readers.get(account_id, ()):
                    reader.put(generation)
            if len(found) < LOOK_ROWS or found[-1].version <= since:
                return
            since = found[-1].version

    def _ping(self) -> None:
        for readers in self._readers.values():
            for reader in readers:
                reader.ping()
