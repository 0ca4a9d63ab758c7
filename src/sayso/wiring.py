"""The composition root: from settings to services that run.

    open_services()   the services, migrated and started; drained and closed when the block ends
    Services          what the doors are given
    catalogue_of()    the catalogue of an installation, without opening anything

Nothing else creates a service. What a test replaces (clock, providers, the transport of fetches)
comes in here as an argument.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import httpx
import structlog
from sqlalchemy import select

from sayso.artifacts.files import Files
from sayso.artifacts.intake import InputLimits, Inputs
from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.artifacts.store import ArtifactStore, open_artifacts
from sayso.catalogue.catalogue import Catalogue, read_catalogue
from sayso.clock import SECOND, Clock, SystemClock
from sayso.credits.rules import Micros
from sayso.credits.service import Credits
from sayso.db import tables
from sayso.db.connect import Database, open_database
from sayso.db.insert import insert_if_new
from sayso.db.tx import Tx
from sayso.db.upgrade import upgrade
from sayso.generations import evidence
from sayso.generations.keeping import VideoKeeper, measure_lips
from sayso.generations.policy import Policy
from sayso.generations.service import Generations
from sayso.generations.telling import teller
from sayso.ids import Ids, Nonce
from sayso.media.fetch import Fetcher, FetchLimits
from sayso.media.guard import GuardedTransport
from sayso.media.inspection import Inspector
from sayso.media.intake import Intake
from sayso.providers import embedded, replicate
from sayso.providers.base import CallsBack, Provider
from sayso.providers.embedded import EmbeddedProvider
from sayso.providers.previews import Previews
from sayso.providers.render_worker import RenderLimits, RenderWorkers
from sayso.providers.replicate import ReplicateProvider
from sayso.providers.replicate_client import ReplicateSettings
from sayso.reconciler import Reconciler
from sayso.settings import Settings
from sayso.webhooks.service import WebhookSender

Role = Literal["reconciler", "renders"]

ALL_ROLES: Final[Collection[Role]] = ("reconciler", "renders")

_RESTART_S: Final = 1.0
_SECRET_BYTES: Final = 32

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the doors are given."""

    settings: Settings
    clock: Clock
    ids: Ids
    db: Database
    catalogue: Catalogue
    credits: Credits
    generations: Generations
    inputs: Inputs
    previews: Previews
    files: Files
    artifacts: ArtifactStore
    links: FileLinks
    fetcher: Fetcher
    webhook_secret: str
    providers: Mapping[str, Provider]
    callers: Mapping[str, CallsBack]
    webhooks: WebhookSender | None
    reconciler: Reconciler | None
    renders: RenderWorkers | None


def catalogue_of(settings: Settings, *, providers: Collection[str] = ()) -> Catalogue:
    """Return the models of an installation; `providers` are set up besides our own engine.

    Raises `SettingsInvalid` when the operator's file cannot be used.
    """
    return read_catalogue(
        settings.models,
        providers={embedded.TRAITS.name, *providers, *_set_up(settings)},
        our_rate_micros=settings.portrait_rate_micros,
    )


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    roles: Collection[Role] = ALL_ROLES,
    clock: Clock | None = None,
    providers: Sequence[Provider] = (),
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Services]:
    """Migrate, open and start everything; drain and close it when the block ends.

    `roles` are what this process does besides the doors. `providers` are further ones, `transport`
    what input URLs are fetched and webhooks are sent through. Raises `SettingsInvalid`,
    `DatabaseUnavailable`, `SchemaTooNew`, `StoreUnavailable`.
    """
    clock = clock or SystemClock()
    upstream = ReplicateSettings.of(settings)
    catalogue = catalogue_of(settings, providers=[p.traits.name for p in providers])
    async with AsyncExitStack() as stack:
        base = await _opened(stack, settings, clock, catalogue)
        transport = transport or GuardedTransport(trusted_peers=settings.trusted_peers)
        fetcher = Fetcher(
            base.intake,
            limits=FetchLimits.of(settings),
            trusted_peers=settings.trusted_peers,
            transport=transport,
        )
        stack.push_async_callback(fetcher.aclose)
        own = EmbeddedProvider(base.db, clock=clock, ids=base.ids, artifacts=base.artifacts)
        everyone: list[Provider] = [own, *providers]
        if upstream is not None:
            everyone.append(_replicate(stack, base, upstream))
        webhook_secret = await _secret(base.db, clock, "webhooks", _new_webhook_secret)
        sender = _webhook_sender(base, webhook_secret, transport)
        services = Services(
            settings=settings,
            clock=clock,
            ids=base.ids,
            db=base.db,
            catalogue=catalogue,
            credits=Credits(base.db, clock=clock, ids=base.ids),
            generations=_generations(base, everyone),
            inputs=_inputs(base, fetcher),
            previews=_previews(base),
            files=await _files(base),
            artifacts=base.artifacts,
            links=base.links,
            fetcher=fetcher,
            webhook_secret=webhook_secret,
            providers={one.traits.name: one for one in everyone},
            callers={one.traits.name: one for one in everyone if isinstance(one, CallsBack)},
            webhooks=sender if "reconciler" in roles else None,
            reconciler=_reconciler(base, everyone) if "reconciler" in roles else None,
            renders=_render_workers(base) if "renders" in roles else None,
        )
        await services.credits.open_local_account(starting=Micros(settings.opening_balance_micros))
        await _sweep(base)
        await services.files.sweep()
        runners: tuple[tuple[str, _Runner | None], ...] = (
            ("webhooks", services.webhooks),
            ("reconciler", services.reconciler),
            ("renders", services.renders),
        )
        for name, runner in runners:
            if runner is not None:
                await stack.enter_async_context(_running(name, runner))
        yield services


@dataclass(frozen=True)
class _Base:
    """What everything else is built on."""

    settings: Settings
    clock: Clock
    ids: Ids
    db: Database
    catalogue: Catalogue
    artifacts: ArtifactStore
    links: FileLinks
    inspector: Inspector
    intake: Intake
    work: Path
    policy: Policy


async def _opened(
    stack: AsyncExitStack, settings: Settings, clock: Clock, catalogue: Catalogue
) -> _Base:
    """Open the database, migrated, and the store; closed with `stack`."""
    work = _work_folder(settings)
    db = await open_database(settings.database)
    stack.push_async_callback(db.close)
    await upgrade(db)
    link_secret = bytes.fromhex(await _secret(db, clock, "links", secrets.token_hex))
    return _Base(
        settings=settings,
        clock=clock,
        ids=Ids(clock.now),
        db=db,
        catalogue=catalogue,
        artifacts=open_artifacts(settings),
        links=FileLinks([LinkSecret("a", link_secret)], lifetime_s=settings.link_s),
        inspector=Inspector.of(settings),
        intake=Intake(work / "arriving"),
        work=work,
        policy=Policy(poll_s=settings.poll_s, deadline_s=settings.deadline_s),
    )


def _set_up(settings: Settings) -> Collection[str]:
    """Return the providers that the settings set up, besides our own engine."""
    return [replicate.TRAITS.name] if settings.replicate_api_token is not None else []


def _replicate(
    stack: AsyncExitStack, base: _Base, upstream: ReplicateSettings
) -> ReplicateProvider:
    provider = ReplicateProvider(
        upstream,
        clock=base.clock,
        artifacts=base.artifacts,
        links=base.links,
        catalogue=base.catalogue,
    )
    stack.push_async_callback(provider.aclose)
    return provider


def _generations(base: _Base, providers: Sequence[Provider]) -> Generations:
    return Generations(
        base.db,
        clock=base.clock,
        ids=base.ids,
        artifacts=base.artifacts,
        traits={provider.traits.name: provider.traits for provider in providers},
        queues={embedded.TRAITS.name: base.settings.render_queue},
        policy=base.policy,
    )


def _inputs(base: _Base, fetcher: Fetcher) -> Inputs:
    return Inputs(
        base.db,
        clock=base.clock,
        ids=base.ids,
        store=base.artifacts,
        links=base.links,
        intake=base.intake,
        fetcher=fetcher,
        inspector=base.inspector,
        limits=InputLimits(
            image_bytes=base.settings.image_max_bytes, speech_bytes=base.settings.speech_max_bytes
        ),
    )


def _previews(base: _Base) -> Previews:
    return Previews(
        base.db,
        clock=base.clock,
        ids=base.ids,
        per_hour=base.settings.previews_per_hour,
        queue=base.settings.render_queue,
        wait_s=base.settings.preview_wait_s,
    )


async def _files(base: _Base) -> Files:
    limits = base.settings.image_max_bytes, base.settings.speech_max_bytes
    return Files(
        base.db,
        clock=base.clock,
        ids=base.ids,
        store=base.artifacts,
        intake=base.intake,
        secret=bytes.fromhex(await _secret(base.db, base.clock, "files", secrets.token_hex)),
        max_bytes=max(limits),
    )


def _reconciler(base: _Base, providers: Sequence[Provider]) -> Reconciler:
    keeper = VideoKeeper(
        base.db,
        ids=base.ids,
        store=base.artifacts,
        inspector=base.inspector,
        folder=base.work,
        measure=measure_lips,
        measure_max_s=base.settings.measure_max_s,
    )
    return Reconciler(
        base.db,
        clock=base.clock,
        ids=base.ids,
        catalogue=base.catalogue,
        providers=providers,
        keeper=keeper,
        policy=base.policy,
        tell=teller(catalogue=base.catalogue, links=base.links),
    )


def _webhook_sender(base: _Base, secret: str, transport: httpx.AsyncBaseTransport) -> WebhookSender:
    return WebhookSender(
        base.db,
        clock=base.clock,
        ids=base.ids,
        secret=secret,
        transport=transport,
        trusted_peers=base.settings.trusted_peers,
    )


def _render_workers(base: _Base) -> RenderWorkers | None:
    settings = base.settings
    if settings.render_children == 0:
        return None

    def make_due(tx: Tx, nonce: Nonce) -> None:
        evidence.make_due(tx, nonce=nonce, provider_id=None, now=base.clock.now())

    limits = RenderLimits(
        cpu_s=settings.render_cpu_s,
        cpu_per_speech_s=settings.render_cpu_per_speech_s,
        memory_bytes=settings.render_memory_bytes,
        file_bytes=settings.render_file_bytes,
        measure_max_s=settings.measure_max_s,
        image={"size_bytes": settings.image_max_bytes, "pixels": settings.image_max_pixels},
        speech={
            "size_bytes": settings.speech_max_bytes,
            "shortest_s": settings.speech_min_s,
            "longest_s": settings.speech_max_s,
        },
    )
    return RenderWorkers(
        base.db,
        clock=base.clock,
        ids=base.ids,
        artifacts=base.artifacts,
        folder=base.work,
        on_change=make_due,
        at_once=settings.render_children,
        limits=limits,
    )


class _Runner(Protocol):
    async def run(self) -> None: ...

    def stop(self) -> None: ...


@asynccontextmanager
async def _running(name: str, runner: _Runner) -> AsyncIterator[None]:
    """Run something beside the block; when the block ends, let it drain."""
    is_ending = False

    async def run() -> None:
        while not is_ending:
            try:
                await runner.run()
            except Exception:
                # The edge of a worker: it is our mistake, it is logged, and work goes on.
                log.exception("a loop broke and is started again", loop=name)
                await asyncio.sleep(_RESTART_S)

    task = asyncio.create_task(run(), name=f"sayso-{name}")
    try:
        yield
    finally:
        is_ending = True
        runner.stop()
        await task


async def _secret(db: Database, clock: Clock, name: str, make: Callable[[int], str]) -> str:
    """Return a secret of this installation, made when it is first asked for."""
    value, now = make(_SECRET_BYTES), clock.now()

    def get_or_make(tx: Tx) -> str:
        insert_if_new(tx, tables.secrets, name=name, value=value, created_at=now)
        s = tables.secrets.c
        return str(tx.execute(select(s.value).where(s.name == name)).scalar_one())

    return await db.write(get_or_make)


def _new_webhook_secret(size: int) -> str:
    return f"whsec_{b64encode(secrets.token_bytes(size)).decode()}"


def _work_folder(settings: Settings) -> Path:
    """Return the folder of unfinished work, made with the data folder when missing."""
    work = settings.data.resolve() / "work"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    return work


async def _sweep(base: _Base) -> None:
    """Remove what a crash left behind long ago."""
    before_s = base.clock.now() / SECOND - base.settings.upload_keep_s
    await asyncio.to_thread(base.intake.sweep, before_s=before_s)
    await base.artifacts.sweep(before_s=before_s)
    await asyncio.to_thread(_sweep_work, base.work, before_s)


def _sweep_work(work: Path, before_s: float) -> None:
    for folder in (*work.glob("render-*"), *work.glob("keep-*")):
        if folder.stat().st_mtime < before_s:
            shutil.rmtree(folder, ignore_errors=True)
