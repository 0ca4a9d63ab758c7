"""Generations for the doors: start, look, wait, list, cancel, delete.

Nothing here asks a provider or waits for one: an order is written down, a cancel is noted, and the
reconciler moves the row. A look is one read of one row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from sayso.artifacts.store import ArtifactStore
from sayso.catalogue.catalogue import Model
from sayso.clock import Clock, Instant
from sayso.credits.rules import Micros, billed_seconds, price
from sayso.db.changes import Wake
from sayso.db.connect import Database
from sayso.db.tx import Topic, Tx
from sayso.errors import NoSuchGeneration, StillCreating
from sayso.generations import evidence, steps, store
from sayso.generations.cursor import BACK, from_cursor, to_cursor
from sayso.generations.evidence import Callback, Taken
from sayso.generations.generation import Cost, Generation, Key, Order, Page, Receipt, Started
from sayso.generations.pace import learned_pace
from sayso.generations.policy import Policy
from sayso.generations.rules import first_deadline
from sayso.generations.store import Queue
from sayso.ids import AccountId, GenerationId, Ids, Nonce, ProviderId
from sayso.providers.base import ProviderTraits

LONGEST_PAGE: Final = 200
# A wake can be lost (another process, a dropped connection); the row is read again after this.
_LOOK_AGAIN_S: Final = 1.0


class Generations:
    """The service behind every door."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        ids: Ids,
        artifacts: ArtifactStore,
        traits: Mapping[str, ProviderTraits],
        queues: Mapping[str, int] | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._artifacts = artifacts
        self._traits = traits
        self._queues = queues or {}
        self._policy = policy or Policy()
        self._check = db.prepare(store.CHECK)
        self._version = db.prepare(store.VERSION)

    async def start(
        self, make: Callable[[], Awaitable[Order]], *, key: Key | None = None
    ) -> Started:
        """Start a generation and hold its price; with a key that was used, return that generation.

        `make` takes the inputs in and is called only when the key is new; what it raises is passed
        on and gives the key back. Raises `InsufficientCredits`, `QueueFull`, `KeyReused`,
        `StillCreating`, `ArtifactMissing`.
        """
        if key is None:
            return Started(generation=await self._place(await make(), None), is_new=True)
        reserved_at = await self._reserve(key)
        if isinstance(reserved_at, Generation):
            return Started(generation=reserved_at, is_new=False)
        try:
            return Started(generation=await self._place(await make(), key), is_new=True)
        except BaseException:
            # Also when the caller has gone: the key must not stay taken.
            await self._db.write(lambda tx: store.give_back(tx, key, reserved_at=reserved_at))
            raise

    def quote(self, model: Model, speech_s: float) -> Cost:
        """Return what a generation of this model costs for such a speech."""
        seconds = billed_seconds(speech_s)
        return Cost(
            price_micros=price(seconds, Micros(model.rate_micros)),
            rate_micros=model.rate_micros,
            seconds=seconds,
        )

    async def typical_s(self, models: Sequence[Model], speech_s: float) -> dict[str, float]:
        """Return by name how long each model takes for such a speech.

        By its latest successes here, where there are some, else by the catalogue's word.
        """

        def typical_s_of(tx: Tx, model: Model) -> float:
            pace = learned_pace(steps.pace_of(tx, model=model.name))
            return model.typical_s(speech_s) if pace is None else pace * speech_s

        return await self._db.read(
            lambda tx: {model.name: typical_s_of(tx, model) for model in models}
        )

    async def require_room(self, model: Model) -> None:
        """Raise `QueueFull` when the model's provider has a queue and it is full."""
        queue = self._queue_of(model)
        if queue is not None:
            await self._db.read_point(lambda tx: store.require_room(tx, queue))

    async def get(self, account_id: AccountId, generation_id: GenerationId) -> Generation:
        """Return a generation as it is; raise `NoSuchGeneration`. One row is read, nobody asked."""
        row = await self._check(id=generation_id, account_id=account_id)
        if row is None:
            raise NoSuchGeneration("There is no such generation.")
        return store.to_generation(row)

    async def version(self, account_id: AccountId, generation_id: GenerationId) -> int:
        """Return its version alone, the cheapest look there is; raise `NoSuchGeneration`."""
        row = await self._version(id=generation_id, account_id=account_id)
        if row is None:
            raise NoSuchGeneration("There is no such generation.")
        return int(row[0])

    async def wait(
        self, account_id: AccountId, generation_id: GenerationId, *, timeout_s: float
    ) -> Generation:
        """Wait until it is final; return it as it is when the time is over.

        Raises `NoSuchGeneration`.
        """
        end_s = self._clock.monotonic_s() + timeout_s
        with self.listen() as wake:
            while True:
                generation = await self.get(account_id, generation_id)
                left_s = end_s - self._clock.monotonic_s()
                if generation.is_final or left_s <= 0:
                    return generation
                await wake.wait(timeout_s=min(left_s, _LOOK_AGAIN_S))

    async def list(
        self,
        account_id: AccountId,
        *,
        cursor: str | None = None,
        limit: int = 100,
        created_after: Instant | None = None,
        created_before: Instant | None = None,
    ) -> Page[Generation]:
        """Return a piece of the account's generations, newest first.

        Of those that were created at `created_after` or later and earlier than `created_before`.
        Raises `OptionInvalid` for a cursor that is none of ours.
        """
        size = max(1, min(limit, LONGEST_PAGE))
        place = None if cursor is None else from_cursor(cursor.removeprefix(BACK))
        is_back = cursor is not None and cursor.startswith(BACK)
        read = partial(store.page, since=created_after, until=created_before)

        def find(tx: Tx) -> Page[Generation]:
            found = read(tx, account_id, place=place, is_back=is_back, limit=size + 1)
            items = found[:size][::-1] if is_back else found[:size]
            if not items:
                return Page((), None)
            has_more = len(found) > size
            # What lies behind us; the first piece has nothing there.
            edge = items[-1] if is_back else items[0]
            here = edge.created_at, edge.id
            behind = place and read(tx, account_id, place=here, is_back=not is_back, limit=1)
            is_older, is_newer = (bool(behind), has_more) if is_back else (has_more, bool(behind))
            return Page(
                items,
                next=_cursor_of(items[-1]) if is_older else None,
                previous=BACK + _cursor_of(items[0]) if is_newer else None,
            )

        return await self._db.read(find)

    async def counts(self, account_id: AccountId) -> Mapping[str, int]:
        """Return how many generations of each model the account has had."""
        return await self._db.read(lambda tx: store.count_by_model(tx, account_id))

    async def receipt(self, account_id: AccountId, generation_id: GenerationId) -> Receipt:
        """Return what it did cost and why; raise `NoSuchGeneration`."""
        return await self._db.snapshot(lambda tx: store.receipt_of(tx, account_id, generation_id))

    async def cancel(self, account_id: AccountId, generation_id: GenerationId) -> Generation:
        """Ask for its end; one that has ended is returned as it is.

        A success that is on its way may still win. Raises `NoSuchGeneration`.
        """
        now = self._clock.now()
        return await self._db.write(
            lambda tx: store.request_cancel(tx, account_id, generation_id, now=now)
        )

    async def delete(self, account_id: AccountId, generation_id: GenerationId) -> None:
        """Delete one that has ended, and the files that no other generation uses.

        Raises `NoSuchGeneration`, `GenerationActive`, `StoreUnavailable`.
        """
        now = self._clock.now()
        keys = await self._db.write(lambda tx: store.erase(tx, account_id, generation_id, now=now))
        # Nobody can ask for it again: a file that stays does not keep the others.
        deleted = (self._artifacts.delete(key) for key in keys)
        for result in await asyncio.gather(*deleted, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def changed_since(
        self,
        account_id: AccountId,
        version: int,
        *,
        generation_id: GenerationId | None = None,
        limit: int = 500,
    ) -> tuple[Generation, ...]:
        """Return what changed after this version, in the order of the versions."""
        return await self._db.read(
            lambda tx: store.changed_since(
                tx, account_id, version, generation_id=generation_id, limit=limit
            )
        )

    def listen(self) -> AbstractContextManager[Wake]:
        """Be woken when any generation changed, here or in another process."""
        return self._db.listen(Topic.CHANGED)

    async def make_due(self, *, nonce: Nonce, provider_id: ProviderId | None = None) -> bool:
        """Let the generation of this attempt be looked at now; False for an unknown nonce.

        `provider_id` is the prediction that whoever says so names.
        """
        now = self._clock.now()
        return await self._db.write(
            lambda tx: evidence.make_due(tx, nonce=nonce, provider_id=provider_id, now=now)
        )

    async def take_callback(self, callback: Callback) -> Taken:
        """Take a verified callback, once: its generation will be looked at now."""
        now = self._clock.now()
        return await self._db.write(lambda tx: evidence.take_callback(tx, callback, now=now))

    async def note_fetch(self, nonce: Nonce) -> bool:
        """Note that a provider has fetched an input; False for an unknown nonce, or a second time.

        An attempt whose input was fetched is never counted as absent.
        """
        now = self._clock.now()
        return await self._db.write(lambda tx: evidence.note_fetch(tx, nonce, now=now))

    async def _place(self, order: Order, key: Key | None) -> Generation:
        model = order.model
        generation_id = GenerationId(self._ids.new())
        cost = self.quote(model, order.speech_s)
        now = self._clock.now()
        deadline_at = first_deadline(
            now,
            traits=self._traits[model.provider],
            deadline_s=model.deadline_s or self._policy.deadline_s,
            policy=self._policy,
        )
        return await self._db.write(
            lambda tx: store.place(
                tx,
                order,
                generation_id=generation_id,
                cost=cost,
                deadline_at=deadline_at,
                now=now,
                key=key,
                queue=self._queue_of(model),
            )
        )

    async def _reserve(self, key: Key) -> Instant | Generation:
        """Take a key; return when that was, or the generation that it stands for."""
        end_s = self._clock.monotonic_s() + key.wait_s
        with self.listen() as wake:
            while True:
                try:
                    now, earlier = await self._try_to_reserve(key)
                except StillCreating:
                    left_s = end_s - self._clock.monotonic_s()
                    if left_s <= 0:
                        raise
                    await wake.wait(timeout_s=min(left_s, _LOOK_AGAIN_S))
                    continue
                if earlier is None:
                    return now
                return await self.get(key.account_id, earlier)

    async def _try_to_reserve(self, key: Key) -> tuple[Instant, GenerationId | None]:
        now = self._clock.now()
        return now, await self._db.write(lambda tx: store.reserve(tx, key, now=now))

    def _queue_of(self, model: Model) -> Queue | None:
        limit = self._queues.get(model.provider)
        return None if limit is None else Queue(model.provider, limit)


def _cursor_of(generation: Generation) -> str:
    return to_cursor(generation.created_at, generation.id)
