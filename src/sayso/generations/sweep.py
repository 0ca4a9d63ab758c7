"""A sweep, now and again: what runs at a provider for nobody is found, asked to end, and booked.

    Sweep.run()    one round: search for lost creates, then end the strays

Strays are rare: a late twin, a deadline that the provider ignores, a create call whose generation
ended before its answer was found. A provider that hangs or breaks holds up no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from sayso.clock import SECOND, Clock
from sayso.db.connect import Database
from sayso.db.tx import Tx
from sayso.errors import ProviderError
from sayso.generations import evidence, strays
from sayso.generations.lane import Lane
from sayso.generations.policy import Policy
from sayso.generations.strays import BEGINNING, Lost, Place, Stray
from sayso.providers.base import Prediction

T = TypeVar("T", Lost, Stray)

_AT_ONCE: Final = 100

log = structlog.get_logger()


class Sweep:
    """See the module's docstring."""

    def __init__(
        self, db: Database, *, clock: Clock, lanes: Mapping[str, Lane], policy: Policy
    ) -> None:
        self._db = db
        self._clock = clock
        self._lanes = lanes
        self._policy = policy
        self._passed: dict[Callable[..., Any], Place] = {}

    async def run(self) -> None:
        """Take one round; what does not answer is left for the next."""
        lost = await self._read(strays.lost)
        await asyncio.gather(*(self._look_for(lane, those) for lane, those in self._by_lane(lost)))
        found = await self._read(strays.strays)
        await asyncio.gather(*(self._end(lane, those) for lane, those in self._by_lane(found)))

    async def _read(self, query: Callable[..., list[T]]) -> list[T]:
        """Return the next rows: those that never end leave room for the later ones."""
        beyond = self._passed.get(query, BEGINNING)
        found = await self._db.read(partial(query, beyond=beyond, limit=_AT_ONCE))
        self._passed[query] = BEGINNING
        if len(found) == _AT_ONCE:
            last = found[-1]
            self._passed[query] = Place(last.submitted_at, last.generation_id, last.number)
        return found

    def _by_lane(self, rows: Sequence[T]) -> list[tuple[Lane, list[T]]]:
        theirs: dict[str, list[T]] = {}
        for row in rows:
            theirs.setdefault(row.provider, []).append(row)
        return [(self._lanes[name], those) for name, those in theirs.items() if name in self._lanes]

    async def _look_for(self, lane: Lane, attempts: Sequence[Lost]) -> None:
        await asyncio.gather(*(self._look_for_one(lane, attempt) for attempt in attempts))

    async def _look_for_one(self, lane: Lane, attempt: Lost) -> None:
        ids = {"generation_id": attempt.generation_id, "attempt": attempt.number}
        try:
            sought = await lane.seek(attempt.nonce, attempt.submitted_at)
        except ProviderError as error:
            log.warning("a late search failed", code=error.code, raw=error.raw, **ids)
            return
        now = self._clock.now()
        if sought.found is not None:
            log.error("a create that was given up runs after all", **ids)
            provider_id = sought.found.provider_id
            lane.forget(attempt.nonce)

            def bind(tx: Tx) -> None:
                evidence.bind_late(tx, attempt.generation_id, attempt.number, provider_id, now=now)

            await self._db.write(bind)
            return
        # The date may have jumped: that alone is no reason to stop.
        age_s = (now - attempt.submitted_at) / SECOND
        policy = self._policy
        if age_s >= policy.search_max_s and sought.missed_for_s >= policy.search_min_s:
            lane.forget(attempt.nonce)
            if attempt.fetched_at is not None:
                log.error("a create was never found, though its input was fetched", **ids)
            await self._db.write(
                lambda tx: strays.give_up(tx, attempt.generation_id, attempt.number, now=now)
            )

    async def _end(self, lane: Lane, found: Sequence[Stray]) -> None:
        for stray in found:
            log.warning("a prediction runs for nobody", generation_id=stray.generation_id)
        ids = [stray.provider_id for stray in found]
        await asyncio.gather(*(lane.cancel(provider_id) for provider_id in ids))
        seen = await lane.fetch(ids)
        ended: list[tuple[Stray, Prediction]] = []
        for stray in found:
            prediction = seen.get(stray.provider_id)
            if prediction is not None and prediction.status.is_final:
                ended.append((stray, prediction))
        now = self._clock.now()
        if ended:
            await self._db.write(lambda tx: strays.end_strays(tx, ended, now=now))
