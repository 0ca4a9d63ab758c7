"""How often a provider is asked for one finished video, whoever watches.

The real service with the real provider's client, over a faithful upstream in the same process, on a
simulated clock: nothing here depends on the machine. Every prediction takes 148 s. Watchers look by
the route of `GET /api/check-lipsync`, every tenth of them each 250 ms, the others each 5 s.

The limit beside the figures is the design that most services have: a look of a watcher is passed on
to the provider. It is run against the same upstream, whose answers take 158 ms.

    python -m benchmarks upstream_calls

| figure | goal |
|---|---|
| calls for a finished generation, with callbacks | 3 |
| list calls for each poll of 100 in flight, without callbacks | 1 |
| the same with 200 watchers | the same |
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import structlog

from sayso.db.connect import open_database
from sayso.db.upgrade import upgrade
from sayso.generations.generation import Generation
from sayso.http.auth import ACCOUNT
from sayso.http.check import Check
from sayso.http.wire import check_of
from sayso.providers.scripted import Script
from tests.builders import ALICE, NOON
from tests.simulation.loop import SimulatedClock, SimulatedLoop, run
from tests.simulation.process import LINKS
from tests.simulation.world import Companion, Weather, World, live
from tests.upstream import Run, Upstream, UpstreamTransport
from tests.upstream.customer import create, customer
from tests.upstream.switches import HookHabits

START_S: Final = 8.0
RUN_S: Final = 140.0
MANY: Final = 100
WATCHERS: Final = 200
OFTEN_S: Final = 0.25
SELDOM_S: Final = 5.0
ANSWER_S: Final = 0.158
# Fetching the video and the secret of callbacks is no question about a prediction.
ASKED: Final = ("create", "read", "list", "cancel", "file")


@dataclass
class Figures:
    """What one run came to."""

    name: str
    generations: int
    calls: Counter[str]
    looks: int

    @property
    def per_generation(self) -> float:
        """Return the calls for a finished generation."""
        return sum(self.calls[kind] for kind in ASKED) / self.generations


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = asyncio.run(migrated(folder / "template.db"))
        rows = [
            measured(folder, template, count, watchers=watchers, callbacks=callbacks)
            for callbacks in (True, False)
            for count in (1, MANY)
            for watchers in (0, WATCHERS)
        ]
    print("| | generations | looks of watchers | create | single | list | files | for one video |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        kinds = " | ".join(str(row.calls[kind]) for kind in ("create", "read", "list", "file"))
        cells = f"{row.name} | {row.generations} | {row.looks} | {kinds}"
        print(f"| {cells} | {row.per_generation:.2f} |")
    polls = (START_S + RUN_S) / SELDOM_S
    lists = rows[-1].calls["list"]
    print(f"\nList calls for each poll of {MANY} in flight: {lists / polls:.2f} (goal 1).\n")
    print("| a look is passed on to the provider | calls a minute | for one video |")
    print("|---|---|---|")
    for every_s in (OFTEN_S, SELDOM_S):
        calls = passed_on(every_s)
        a_minute = calls * 60 / (START_S + RUN_S)
        print(f"| one watcher, every {every_s:g} s | {a_minute:.0f} | {calls} |")


def measured(
    folder: Path, template: Path, count: int, *, watchers: int, callbacks: bool
) -> Figures:
    """Let some generations come and go; return what the provider was asked."""
    weather = Weather(
        generations=count,
        crash_part=0,
        lag_s=0,
        hooks=HookHabits(),
        faults=False,
        jumps=False,
        has_public_url=callbacks,
        starts_within_s=4,
        change_their_minds=False,
        run=Run(script=Script(start_s=START_S, run_s=RUN_S)),
    )
    calls: Counter[str] = Counter()
    looks: Counter[str] = Counter()

    async def remember(world: World) -> None:
        while True:
            calls.clear()
            calls.update(world.upstream.counts)
            await asyncio.sleep(1)

    companions: Sequence[Companion] = [
        remember,
        *(a_watcher(number, looks) for number in range(watchers)),
    ]
    verdict, _ = live(1, folder, template, weather=weather, companions=companions)
    assert not verdict.wrong, verdict.wrong[:3]
    assert verdict.counts["succeeded"] == count
    told = "callbacks" if callbacks else "no callbacks"
    name = f"{told}, {watchers} watchers"
    return Figures(name, count, calls, looks["looks"])


def a_watcher(number: int, looks: Counter[str]) -> Companion:
    """Return somebody who looks at one generation until it is over, and goes on looking."""
    every_s = OFTEN_S if number % 10 == 0 else SELDOM_S
    route = Check()

    async def watch(world: World) -> None:
        while True:
            await asyncio.sleep(every_s)
            orders = list(world.orders.values())
            if world.process is not None and orders:
                await route(scope_of(world, orders[number % len(orders)]), never, drop)
                looks["looks"] += 1

    return watch


def scope_of(world: World, generation_id: str) -> dict[str, Any]:
    """Return the scope of a look, with what the route needs of the doors."""
    assert world.process is not None
    services = SimpleNamespace(generations=world.process.generations, clock=world.clock)

    def body_of(generation: Generation, base: str) -> dict[str, Any]:
        return check_of(generation, links=LINKS, now=world.clock.now(), base=base)

    settings = SimpleNamespace(public_url=None, link_s=3_600)
    doors = SimpleNamespace(services=services, settings=settings, check_of=body_of)
    return {
        "type": "http",
        "app": SimpleNamespace(state=SimpleNamespace(doors=doors)),
        "scheme": "http",
        "headers": [(b"host", b"localhost:8000")],
        "query_string": f"prediction_id={generation_id}".encode(),
        ACCOUNT: ALICE,
    }


async def never() -> Any:
    raise NotImplementedError("a look has no body")


async def drop(message: Any) -> None:
    """Take an answer."""
    assert message.get("status", 200) == 200, message


def passed_on(every_s: float) -> int:
    """Return the provider's calls of one watcher whose looks are passed on, for one video."""

    async def watch(loop: SimulatedLoop) -> int:
        clock = SimulatedClock(NOON, loop)
        usual = Run(script=Script(start_s=START_S, run_s=RUN_S))
        upstream = Upstream(clock, run=usual)
        async with customer(upstream, UpstreamTransport(upstream)) as http:
            made = (await create(http)).json()["id"]
            while True:
                await asyncio.sleep(ANSWER_S)
                answer = (await http.get(f"/predictions/{made}")).json()
                if answer["status"] == "succeeded":
                    return sum(upstream.counts.values())
                await asyncio.sleep(every_s)

    return run(watch)


async def migrated(path: Path) -> Path:
    """Make a migrated, empty database."""
    db = await open_database(f"sqlite:///{path}")
    await upgrade(db)
    await db.close()
    return path


if __name__ == "__main__":
    main()
