"""A workshop: the service without doors, on a clock that is moved by hand.

    workshop = await Workshop.open(database)
    generation = await workshop.start()
    generation = await workshop.live_until_final(generation)

The provider is the scripted one. The keeper stores nothing unless it is replaced: what it would do
is tested with `VideoKeeper` itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert, select

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.store import folder_artifacts
from sayso.catalogue.catalogue import Catalogue, InputNames, Model
from sayso.clock import SettableClock, after
from sayso.credits import store as ledger
from sayso.credits.audit import Violation, verify
from sayso.credits.rules import Balance
from sayso.db.connect import Database
from sayso.db.tables import artifacts, holds, predictions
from sayso.db.tx import Tx
from sayso.errors import SaysoError
from sayso.generations.generation import Generation, Key, Order, Started
from sayso.generations.lane import LaneLimits
from sayso.generations.policy import Policy
from sayso.generations.rules import Job
from sayso.generations.service import Generations
from sayso.generations.written import KeptVideo
from sayso.ids import AccountId, ArtifactId, GenerationId, Ids, Nonce
from sayso.providers.base import Attempt, LipSyncInputs, Provider, StoredInput
from sayso.providers.scripted import Script, ScriptedProvider
from sayso.reconciler import Reconciler
from tests.builders import ALICE, NOON, an_account

DOLLAR: Final = 1_000_000
SPEECH_S: Final = 9.6
PRICE: Final = 200_000

_numbers: Final = itertools.count(1)

MODEL: Final = Model(
    name="test/model",
    provider="scripted",
    description="for tests",
    rate_micros=20_000,
    price_read_on=date(2026, 11, 22),
    inputs=InputNames(prompt="prompt"),
    typical_start_s=0,
    typical_s_per_speech_s=2,
)


@dataclass
class StubKeeper:
    """Says that a video is stored; raises what it is told to raise first."""

    errors: list[SaysoError] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    before: Callable[[], Awaitable[None]] | None = None

    async def keep(self, job: Job, provider: Provider) -> KeptVideo:
        if self.before is not None:
            await self.before()
        if self.errors:
            raise self.errors.pop(0)
        self.kept.append(job.id)
        sha256 = hashlib.sha256(job.id.encode()).hexdigest()
        return KeptVideo(
            id=ArtifactId(f"video-{job.id}"),
            key=f"{job.account_id}/video/{sha256}.mp4",
            sha256=sha256,
            size_bytes=1000,
            facts={"width": 64, "height": 64},
        )


@dataclass
class Workshop:
    """See the module's docstring."""

    db: Database
    clock: SettableClock
    ids: Ids
    provider: ScriptedProvider
    keeper: StubKeeper
    generations: Generations
    catalogue: Catalogue
    limits: LaneLimits | None
    reconciler: Reconciler
    portrait_id: ArtifactId
    speech_id: ArtifactId

    @classmethod
    async def open(
        cls,
        db: Database,
        folder: Path,
        script: Script | None = None,
        *,
        balance: int = 5 * DOLLAR,
        policy: Policy | None = None,
        limits: LaneLimits | None = None,
        queues: Mapping[str, int] | None = None,
        model: Model = MODEL,
        **provider_options: Any,
    ) -> Workshop:
        clock = SettableClock(NOON)
        ids = Ids(clock.now)
        provider = ScriptedProvider(clock, script, **provider_options)
        keeper = StubKeeper()
        await db.write(lambda tx: an_account(tx, balance=balance))
        portrait_id = await db.write(lambda tx: an_artifact(tx, "portrait"))
        speech_id = await db.write(lambda tx: an_artifact(tx, "speech"))
        generations = Generations(
            db,
            clock=clock,
            ids=ids,
            artifacts=folder_artifacts(folder / "artifacts"),
            traits={"scripted": provider.traits},
            queues=queues,
            policy=policy,
        )
        catalogue = Catalogue([model], providers=["scripted"])
        reconciler = Reconciler(
            db,
            clock=clock,
            ids=ids,
            catalogue=catalogue,
            providers=[provider],
            keeper=keeper,
            policy=policy,
            limits=limits,
        )
        return cls(
            db=db,
            clock=clock,
            ids=ids,
            provider=provider,
            keeper=keeper,
            generations=generations,
            catalogue=catalogue,
            limits=limits,
            reconciler=reconciler,
            portrait_id=portrait_id,
            speech_id=speech_id,
        )

    def order(self, **changes: Any) -> Order:
        """Return an order of ten billed seconds: $0.20."""
        values: dict[str, Any] = {
            "account_id": ALICE,
            "door": "api",
            "model": MODEL,
            "portrait_id": self.portrait_id,
            "speech_id": self.speech_id,
            "speech_s": SPEECH_S,
            "prompt": "person talking",
        }
        return Order(**values | changes)

    async def start(self, *, key: Key | None = None, **changes: Any) -> Generation:
        """Start a generation."""
        return (await self.place(key=key, **changes)).generation

    async def place(self, *, key: Key | None = None, **changes: Any) -> Started:
        """Start a generation; say whether it is new."""

        async def make() -> Order:
            return self.order(**changes)

        return await self.generations.start(make, key=key)

    def another_reconciler(self, *, providers: Sequence[Provider] | None = None) -> Reconciler:
        """Return a second reconciler on the same database, as another process would run one."""
        return Reconciler(
            self.db,
            clock=self.clock,
            ids=self.ids,
            catalogue=self.catalogue,
            providers=[self.provider] if providers is None else providers,
            keeper=self.keeper,
            limits=self.limits,
        )

    async def turn(self) -> None:
        """Let the reconciler do what is due now, and everything that follows at once."""
        for _ in range(200):
            before = self.reconciler.figures.claimed
            await self.reconciler.turn()
            await self.reconciler.settled()
            if self.reconciler.figures.claimed == before:
                return
        raise AssertionError("the reconciler does not come to rest")

    async def live(self, seconds: float, *, step_s: float = 1) -> None:
        """Let time pass in steps, the reconciler turning after each."""
        await self.turn()
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            await self.turn()

    async def live_until_final(
        self, generation: Generation, *, most_s: float = 2_000
    ) -> Generation:
        """Let time pass until the generation has ended; return it."""
        await self.turn()
        end = after(self.clock.now(), most_s)
        while self.clock.now() < end:
            now = await self.get(generation)
            if now.is_final:
                return now
            self.clock.advance(1)
            await self.turn()
        raise AssertionError(f"still {(await self.get(generation)).state} after {most_s} s")

    async def get(self, generation: Generation) -> Generation:
        """Look at it."""
        return await self.generations.get(generation.account_id, generation.id)

    async def balance(self, account_id: AccountId = ALICE) -> Balance:
        """Return what the account has."""
        return await self.db.read(lambda tx: ledger.balance(tx, account_id))

    async def violations(self) -> list[Violation]:
        """Check the ledger's invariants."""
        now = self.clock.now()
        return await self.db.snapshot(lambda tx: verify(tx, now=now))

    async def attempts(self, generation: Generation) -> list[Any]:
        """Return the rows of its attempts."""
        query = (
            select(predictions)
            .where(predictions.c.generation_id == generation.id)
            .order_by(predictions.c.attempt)
        )
        return await self.db.read(lambda tx: list(tx.execute(query)))

    async def hold_state(self, generation: Generation) -> str:
        """Return what became of its hold."""
        query = select(holds.c.state).where(holds.c.generation_id == generation.id)
        return str(await self.db.read(lambda tx: tx.execute(query).scalar_one()))


def an_artifact(
    tx: Tx,
    kind: str,
    *,
    account_id: AccountId = ALICE,
    speech_s: float = SPEECH_S,
    name: str | None = None,
) -> ArtifactId:
    """Insert a stored file's row; there is no file."""
    named = name or f"{kind}-{next(_numbers)}"
    sha256 = hashlib.sha256(named.encode()).hexdigest()
    suffix, content_type = ("png", "image/png") if kind == "portrait" else ("ogg", "audio/ogg")
    tx.execute(
        insert(artifacts).values(
            id=named,
            account_id=account_id,
            kind=kind,
            sha256=sha256,
            size_bytes=1000,
            content_type=content_type,
            storage_key=f"{account_id}/{kind}/{sha256}.{suffix}",
            facts={"duration_s": speech_s} if kind == "speech" else {"width": 64, "height": 64},
            created_at=NOON,
        )
    )
    return ArtifactId(named)


async def together(calls: list[Awaitable[Any]]) -> list[Any]:
    """Await calls at the same time; errors are among the results."""
    return list(await asyncio.gather(*calls, return_exceptions=True))


# What goes to a provider.

STORED_S: Final = 1.0


def stored(kind: str) -> StoredInput:
    sha256 = f"{sum(map(ord, kind)):064x}"
    suffix = "png" if kind == "portrait" else "ogg"
    return StoredInput(
        id=ArtifactId(kind),
        key=ArtifactKey(f"alice/{kind}/{sha256}.{suffix}"),
        content_type="image/png",
        size_bytes=1,
        sha256=sha256,
    )


def an_attempt() -> Attempt:
    number = next(_numbers)
    return Attempt(
        generation_id=GenerationId(f"g{number}"),
        number=1,
        nonce=Nonce(f"nonce{number}"),
        model=MODEL,
    )


INPUTS = LipSyncInputs(
    portrait=stored("portrait"), speech=stored("speech"), speech_s=STORED_S, prompt="talking"
)
