"""The service without doors before a fake Replicate, on a clock that is moved by hand.

    shop = await ReplicateShop.open(database, folder, upstream)
    generation = await shop.start()
    generation = await shop.live_until_final(generation)
    assert await shop.money(generation) == PAID

Everything of ours is real but the keeper, which fetches and probes each video in this process, and
stores none. With `public=True` the upstream reaches us: inputs are links that it fetches
when a prediction starts, and webhooks come to the real callback door.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
from sqlalchemy import select

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.artifacts.store import ArtifactStore, folder_artifacts
from sayso.catalogue.catalogue import Catalogue, read_catalogue
from sayso.clock import SettableClock, after
from sayso.credits import store as ledger
from sayso.credits.audit import verify
from sayso.db.connect import Database
from sayso.db.tables import artifacts, predictions
from sayso.errors import OutputLost, SaysoError
from sayso.generations.generation import Generation, Order
from sayso.generations.rules import Job
from sayso.generations.service import Generations
from sayso.generations.written import KeptVideo
from sayso.http.callbacks import CallbackDoor
from sayso.http.errors import status_of
from sayso.ids import ArtifactId, Ids, Nonce
from sayso.media.probe import judge, probe_video
from sayso.providers.base import Provider
from sayso.providers.replicate import ReplicateProvider
from sayso.providers.replicate_client import ReplicateSettings
from sayso.reconciler import Reconciler
from tests.builders import ALICE, an_account
from tests.upstream import Upstream, UpstreamTransport
from tests.workshop import SPEECH_S, an_artifact

DOLLAR: Final = 1_000_000
WHOLE: Final = 5 * DOLLAR
PRICE: Final = 200_000
WAN: Final = "wan-video/wan-2.2-s2v"
PUBLIC: Final = "https://sayso.example.com"

_CALLBACKS: Final = "/callbacks/replicate/"


@dataclass(frozen=True)
class Money:
    """What a customer paid and has held."""

    spent: int
    held: int = 0


PAID: Final = Money(PRICE)
RELEASED: Final = Money(0)
HELD: Final = Money(0, PRICE)


class FetchingKeeper:
    """Fetches and probes a video as the real keeper does, but in this process, and stores none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.kept: list[str] = []

    async def keep(self, job: Job, provider: Provider) -> KeptVideo:
        provider_id, output = job.attempt.provider_id, job.attempt.output
        if provider_id is None or output is None:
            raise OutputLost("Nobody knows where the video lies.")
        with TemporaryDirectory(dir=self._folder) as name:
            video = Path(name) / "video.mp4"
            await provider.save_output(provider_id, output, video)
            size_bytes = video.stat().st_size
            judge(probe_video(video), speech_s=SPEECH_S, is_ours=False)
        self.kept.append(job.id)
        sha256 = hashlib.sha256(job.id.encode()).hexdigest()
        return KeptVideo(
            id=ArtifactId(f"video-{job.id}"),
            key=f"{job.account_id}/video/{sha256}.mp4",
            sha256=sha256,
            size_bytes=size_bytes,
            facts={"width": 64, "height": 64},
        )


class ReplicateShop:
    """See the module's docstring."""

    def __init__(
        self,
        db: Database,
        upstream: Upstream,
        clock: SettableClock,
        *,
        provider: ReplicateProvider,
        generations: Generations,
        reconciler: Reconciler,
        catalogue: Catalogue,
    ) -> None:
        self.db, self.upstream, self.clock = db, upstream, clock
        self.provider, self.generations, self.reconciler = provider, generations, reconciler
        self.catalogue, self.model = catalogue, catalogue.find(WAN)
        self.other_clocks: list[SettableClock] = []
        """Clocks that go as ours does, from another time."""
        self.door = CallbackDoor(generations, callers={"replicate": provider}, clock=clock)
        self.refused: list[type[SaysoError]] = []
        """Why callbacks were refused."""
        self._inputs: tuple[ArtifactId, ArtifactId] = (ArtifactId("portrait"), ArtifactId("speech"))

    @classmethod
    async def open(
        cls,
        db: Database,
        folder: Path,
        upstream: Upstream,
        clock: SettableClock,
        *,
        public: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
        **settings: Any,
    ) -> ReplicateShop:
        """Open a shop with an account of five dollars."""
        ids = Ids(clock.now)
        store = folder_artifacts(folder / "artifacts")
        catalogue = Catalogue(read_catalogue(providers=()).models, providers=["replicate"])
        provider = ReplicateProvider(
            ReplicateSettings(
                token=upstream.token, public_url=PUBLIC if public else None, **settings
            ),
            clock=clock,
            artifacts=store,
            links=FileLinks([LinkSecret("a", bytes(32))]),
            catalogue=catalogue,
            transport=transport or UpstreamTransport(upstream),
        )
        traits = {"replicate": provider.traits}
        generations = Generations(db, clock=clock, ids=ids, artifacts=store, traits=traits)
        reconciler = Reconciler(
            db,
            clock=clock,
            ids=ids,
            catalogue=catalogue,
            providers=[provider],
            keeper=FetchingKeeper(folder),
        )
        shop = cls(
            db,
            upstream,
            clock,
            provider=provider,
            generations=generations,
            reconciler=reconciler,
            catalogue=catalogue,
        )
        await db.write(lambda tx: an_account(tx, balance=WHOLE))
        await shop._take_inputs_in(store, folder)
        if public:
            shop.door.open()
        return shop

    async def close(self) -> None:
        """Close what was opened; the database is somebody else's."""
        await self.door.close()
        await self.provider.aclose()

    async def start(self, **changes: Any) -> Generation:
        """Start a generation of ten billed seconds: $0.20."""
        portrait, speech = self._inputs
        values: dict[str, Any] = {
            "account_id": ALICE,
            "door": "api",
            "model": self.model,
            "portrait_id": portrait,
            "speech_id": speech,
            "speech_s": SPEECH_S,
            "prompt": "woman singing",
        }

        async def make() -> Order:
            return Order(**values | changes)

        return (await self.generations.start(make)).generation

    async def turn(self) -> None:
        """Let everybody do what is due now, and everything that follows at once."""
        for _ in range(200):
            before = self.reconciler.figures.claimed
            n_done = await self.upstream.run_due(self)
            await self.reconciler.turn()
            await self.reconciler.settled()
            if self.reconciler.figures.claimed == before and not n_done:
                return
        raise AssertionError("the shop does not come to rest")

    async def live(self, seconds: float, *, step_s: float = 1) -> None:
        """Let time pass in steps."""
        await self.turn()
        for _ in range(round(seconds / step_s)):
            await self._step(step_s)

    async def live_until_final(
        self, generation: Generation, *, most_s: float = 1_200, step_s: float = 1
    ) -> Generation:
        """Let time pass until the generation has ended; return it."""
        end = after(self.clock.now(), most_s)
        await self.turn()
        while self.clock.now() < end:
            now = await self.get(generation)
            if now.is_final:
                return now
            await self._step(step_s)
        raise AssertionError(f"still {(await self.get(generation)).state} after {most_s} s")

    async def get(self, generation: Generation) -> Generation:
        """Look at it."""
        return await self.generations.get(ALICE, generation.id)

    async def money(self) -> Money:
        """Return what was spent and what is held; the ledger's invariants hold."""
        now = self.clock.now()
        assert await self.db.snapshot(lambda tx: verify(tx, now=now)) == []
        balance = await self.db.read(lambda tx: ledger.balance(tx, ALICE))
        return Money(WHOLE - balance.total, balance.held)

    async def attempts(self) -> list[tuple[str, int]]:
        """Return the state and the cost of every attempt, in the order of their making."""
        query = select(predictions.c.state, predictions.c.cost_micros).order_by(
            predictions.c.generation_id, predictions.c.attempt
        )
        rows = await self.db.read(lambda tx: tx.execute(query).all())
        return [(row[0], row[1]) for row in rows]

    async def _step(self, seconds: float) -> None:
        for clock in (self.clock, *self.other_clocks):
            clock.advance(seconds)
        await self.turn()

    # What the upstream sees of us.

    async def fetch(self, url: str) -> int:
        """Give an input to whoever has its link, and note that it was fetched."""
        parts = urlsplit(url)
        assert url.startswith(PUBLIC + "/files/")
        nonces = parse_qs(parts.query).get("nonce", [])
        for nonce in nonces:
            await self.generations.note_fetch(Nonce(nonce))
        return 200

    async def deliver(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """Take a webhook at the callback door."""
        assert url.startswith(PUBLIC + _CALLBACKS)
        nonce = url.removeprefix(PUBLIC + _CALLBACKS)
        try:
            await self.door.take("replicate", nonce, headers, body)
        except SaysoError as error:
            self.refused.append(type(error))
            return status_of(type(error))
        return 204

    async def _take_inputs_in(self, store: ArtifactStore, folder: Path) -> None:
        """Store a portrait and a speech, of as many bytes as their rows say."""
        for name in self._inputs:
            await self.db.write(lambda tx, name=name: an_artifact(tx, name, name=name))  # type: ignore[misc]  # A default binds it.
            columns = artifacts.c.storage_key, artifacts.c.size_bytes
            query = select(*columns).where(artifacts.c.id == name)
            row = (await self.db.read(lambda tx, query=query: tx.execute(query).all()))[0]  # type: ignore[misc]  # A default binds it.
            source = folder / name
            source.write_bytes(b"x" * row.size_bytes)
            await store.put_file(ArtifactKey(row.storage_key), source)
