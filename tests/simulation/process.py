"""One process of the service: everything that it remembers dies with it.

Process.run()    the reconciler, the callbacks' door, orders, until it dies or is told to stop
Process.step()   a moment at which it may die
Process.do()     let it do something, as a request would
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.catalogue.catalogue import Catalogue
from sayso.clock import Clock
from sayso.errors import StoreUnavailable
from sayso.generations.policy import Policy
from sayso.generations.rules import Job
from sayso.generations.service import Generations
from sayso.generations.written import KeptVideo
from sayso.http.callbacks import CallbackDoor
from sayso.http.fetches import Fetches
from sayso.ids import ArtifactId, GenerationId, Ids
from sayso.providers.base import Attempt, LipSyncInputs, Prediction, Provider
from sayso.providers.replicate import ReplicateProvider
from sayso.providers.replicate_client import ReplicateSettings
from sayso.reconciler import Reconciler, Rhythm
from tests.simulation.database import ProcessDatabase, SimulatedDatabase
from tests.simulation.loop import OWNER, SimulatedLoop
from tests.simulation.network import SENT_FOR, Network

T = TypeVar("T")

LINKS: Final = FileLinks([LinkSecret("a", b"the simulation signs its links.."[:32])])
# Wakes and due times do the rest; a turn a second for hours of silence would only take time.
RHYTHM: Final = Rhythm(idle_s=15)
# Nothing is listed later than this here; the product's patience would be minutes of silence.
POLICY: Final = Policy(search_max_s=400)


class Process:
    """See the module's docstring."""

    def __init__(
        self,
        number: int,
        db: SimulatedDatabase,
        loop: SimulatedLoop,
        *,
        clock: Clock,
        random: Random,
        crash_part: float,
        settings: ReplicateSettings,
        catalogue: Catalogue,
        folder: Path,
        stored: set[GenerationId],
        network: Callable[[Process], Network],
    ) -> None:
        self.number = number
        self.is_dead = False
        self.died = asyncio.Event()
        self.crash_part = crash_part
        self._loop = loop
        self._random = random
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, number)
        ids = Ids(clock.now, random_bits=random.getrandbits)
        self.db = ProcessDatabase(db, self)
        store: Any = SmallStore()
        self.provider = WatchedProvider(
            settings,
            clock=clock,
            artifacts=store,
            links=LINKS,
            catalogue=catalogue,
            transport=network(self),
        )
        self.generations = Generations(
            self.db,
            clock=clock,
            ids=ids,
            artifacts=store,
            traits={"replicate": self.provider.traits},
            policy=POLICY,
        )
        self.reconciler = Reconciler(
            self.db,
            clock=clock,
            ids=ids,
            catalogue=catalogue,
            providers=[self.provider],
            keeper=SimulatedKeeper(self, folder, random, stored),
            policy=POLICY,
            rhythm=RHYTHM,
        )
        self.door = CallbackDoor(
            self.generations, callers={"replicate": self.provider}, clock=clock
        )
        self.fetches = Fetches(self.generations)

    def start(self) -> None:
        """Begin to work."""
        self._spawn(self.reconciler.run())
        self._context.run(self.door.open)

    def note_fetch(self, nonce: Any) -> None:
        """Give an input to whoever has the link."""
        self._context.run(self.fetches.note, nonce)

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something for somebody outside; raise `ConnectionError` when it dies meanwhile."""
        if self.is_dead:
            work.close()
            raise ConnectionError("nobody listens there")
        task = self._spawn(work)
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled() and self.is_dead:
                raise ConnectionError("the connection was cut") from None
            raise

    def require_life(self) -> None:
        """See `Mortal`."""
        if self.is_dead:
            raise asyncio.CancelledError

    async def step(self) -> None:
        """See `Mortal`."""
        self.require_life()
        if self._random.random() < self.crash_part:
            self.is_dead = True
            self.died.set()
            await asyncio.Future()

    async def kill(self) -> None:
        """Take everything away that it has in memory."""
        self.is_dead = True
        for _ in range(100):
            left = self._loop.owned_by(self.number)
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
        raise AssertionError("a task of a dead process goes on")

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self._loop.create_task(work, context=self._context.copy())


class WatchedProvider(ReplicateProvider):
    """Replicate's provider, as it is; for whom it makes a create call can be seen."""

    async def submit(self, attempt: Attempt, inputs: LipSyncInputs) -> Prediction:
        SENT_FOR.set(attempt.nonce)
        return await super().submit(attempt, inputs)


class SimulatedKeeper:
    """Fetches videos from the provider and remembers which are stored, beyond any process."""

    def __init__(
        self, process: Process, folder: Path, random: Random, stored: set[GenerationId]
    ) -> None:
        self._process = process
        self._folder = folder
        self._random = random
        self._stored = stored

    async def keep(self, job: Job, provider: Provider) -> KeptVideo:
        await self._process.step()
        target = self._folder / f"{job.id}.mp4"
        assert job.attempt.provider_id is not None
        assert job.attempt.output is not None
        await provider.save_output(job.attempt.provider_id, job.attempt.output, target)
        size_bytes = target.stat().st_size
        target.unlink()
        if self._random.random() < 0.05:
            raise StoreUnavailable("The store does not answer.")
        self._stored.add(job.id)
        await self._process.step()
        sha256 = hashlib.sha256(job.id.encode()).hexdigest()
        return KeptVideo(
            id=ArtifactId(f"video-{job.id}"),
            key=f"{job.account_id}/video/{sha256}.mp4",
            sha256=sha256,
            size_bytes=size_bytes,
            facts={},
        )


class SmallStore:
    """Has every input, and each is a thousand bytes."""

    async def stream(self, _key: str, **_part: int) -> AsyncIterator[bytes]:
        yield bytes(1_000)
