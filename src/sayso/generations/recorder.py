"""Writes what became of claimed rows, many at a time.

Whoever finishes a step hands it in and goes on. One task writes: while a write is under way the
next steps gather, and then go out together, at most 500 in a transaction. So a hundred answers that
come at once are one write, and a single one does not wait.

When the database cannot be reached the same steps are handed in again for a while: among them are
the answers of create calls, which nobody else knows. After that the rows' leases run out, and the
search for lost creates takes over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from sayso.clock import Clock, Instant
from sayso.db.connect import Database
from sayso.db.tx import Tx
from sayso.errors import DatabaseUnavailable
from sayso.generations import claims, steps
from sayso.generations.census import Ended
from sayso.generations.steps import Tell
from sayso.generations.written import Step
from sayso.ids import GenerationId

MOST_AT_ONCE: Final = 500
TRIES: Final = 20
PAUSE_S: Final = 0.5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of some rows of one claim: steps, and rows to which nothing happened."""

    token: str
    steps: Sequence[Step] = ()
    unchanged: Sequence[tuple[GenerationId, Instant]] = ()

    def __len__(self) -> int:
        return len(self.steps) + len(self.unchanged)


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    done: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Recorder:
    """See the module's docstring. `on_written` is called after each write."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        tell: Tell | None = None,
        on_written: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._tell = tell
        self._on_written = on_written
        self._waiting: deque[_Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None
        self.ended = Ended()

    async def record(self, batch: Batch) -> None:
        """Hand a batch in; return when it is written, or given up and logged."""
        if not len(batch):
            return
        waiting = _Waiting(batch)
        self._waiting.append(waiting)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._drain())
        await asyncio.shield(waiting.done)

    async def _drain(self) -> None:
        while self._waiting:
            taken = self._take()
            try:
                await self._write([waiting.batch for waiting in taken])
            finally:
                for waiting in taken:
                    if not waiting.done.done():
                        waiting.done.set_result(None)
                self._on_written()

    def _take(self) -> list[_Waiting]:
        taken = [self._waiting.popleft()]
        size = len(taken[0].batch)
        while self._waiting and size + len(self._waiting[0].batch) <= MOST_AT_ONCE:
            taken.append(self._waiting.popleft())
            size += len(taken[-1].batch)
        return taken

    async def _write(self, batches: Sequence[Batch]) -> None:
        for attempt in range(TRIES):
            try:
                lost = await self._db.write(self._writing(batches))
            except DatabaseUnavailable:
                log.warning("steps wait for the database", tries=attempt + 1)
                await asyncio.sleep(PAUSE_S)
            except Exception:
                if len(batches) == 1 and (len(batches[0]) == 1 or not batches[0].steps):
                    ids = [step.job.id for step in batches[0].steps]
                    log.exception("a step could not be written", generation_ids=ids)
                    return
                await self._write_singly(batches)
                return
            else:
                written = (step for batch in batches for step in batch.steps)
                self.ended.add(step for step in written if step.job.id not in lost)
                for generation_id in lost:
                    log.info("a row was no longer ours", generation_id=generation_id)
                return
        log.error("steps were given up", count=sum(map(len, batches)))

    async def _write_singly(self, batches: Sequence[Batch]) -> None:
        """Write each step by itself, so that one that cannot be written spoils no other."""
        for batch in batches:
            for step in batch.steps:
                await self._write([Batch(batch.token, (step,))])
            if batch.unchanged:
                await self._write([Batch(batch.token, (), batch.unchanged)])

    def _writing(self, batches: Sequence[Batch]) -> Callable[[Tx], frozenset[GenerationId]]:
        now = self._clock.now()
        changed = [step for batch in batches for step in batch.steps]

        def write(tx: Tx) -> frozenset[GenerationId]:
            for batch in batches:
                if batch.unchanged:
                    claims.release(tx, batch.unchanged, token=batch.token)
            if not changed:
                return frozenset()
            return steps.write_steps(tx, changed, now=now, tell=self._tell)

        return write
