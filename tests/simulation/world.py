"""The world of one seed: customers, a provider on bad days, a clock that jumps, processes that die.

live(seed)    let it all happen; return what the judge found, and what it came to

Everything is drawn from the seed, each kind of thing from a stream of its own.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from sayso.artifacts.links import FILES_PATH
from sayso.catalogue.catalogue import Catalogue, Model, read_catalogue
from sayso.clock import SECOND
from sayso.errors import SaysoError
from sayso.generations.generation import Key, Order
from sayso.http.callbacks import CallbackDoor
from sayso.http.errors import status_of
from sayso.ids import ArtifactId, GenerationId, Nonce
from sayso.providers.replicate_client import ReplicateSettings
from sayso.providers.scripted import Script
from tests.builders import ALICE, NOON, an_account
from tests.simulation.database import SimulatedDatabase
from tests.simulation.judge import Verdict, is_at_rest, judge, owners_of
from tests.simulation.loop import OWNER, SimulatedClock, SimulatedLoop, run
from tests.simulation.network import SENT_FOR, Network
from tests.simulation.process import LINKS, Process
from tests.upstream import FAILURES, Fault, Run, Upstream, UpstreamTransport
from tests.upstream.calls import Answer, Call
from tests.upstream.switches import HookHabits, Switches
from tests.workshop import DOLLAR, SPEECH_S, an_artifact

PUBLIC: Final = "https://sayso.example"
MODEL: Final[Model] = read_catalogue(None, providers={"replicate"}).find("wan-video/wan-2.2-s2v")
CATALOGUE: Final = Catalogue([MODEL], providers={"replicate"})

# Shares of calls, of 1, that go wrong.
FAULTS: Final = {
    "create": {
        Fault.THROTTLED: 0.10,
        Fault.LOST: 0.05,
        Fault.SLOW: 0.05,
        Fault.RESET_AFTER: 0.05,
        Fault.ERROR_500_AFTER: 0.05,
    },
    "read": {Fault.RESET_BEFORE: 0.04, Fault.HTML_502: 0.04, Fault.SLOW: 0.02},
    "list": {Fault.RESET_BEFORE: 0.04, Fault.HTML_502: 0.04, Fault.LOST: 0.02},
    "cancel": {Fault.RESET_BEFORE: 0.05, Fault.RESET_AFTER: 0.05},
    "file": {Fault.RESET_BEFORE: 0.05, Fault.SLOW: 0.02},
    "output": {Fault.RESET_BEFORE: 0.05},
    "secret": {Fault.HTML_502: 0.2},
}
HOOKS: Final = HookHabits(dropped=0.25, doubled=0.20, late=1, late_s=(0.05, 20))
CRASH_PART: Final = 0.01
JUMPS_S: Final = (-30.0, 400.0)
# A list shows a prediction this late at most: sooner than the second search in vain.
LAG_S: Final = 100.0
STARTS_WITHIN_S: Final = 300.0
LONGEST_S: Final = 3 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What a seed's world is like besides the faults that all of them have."""

    generations: int = 20
    crash_part: float = CRASH_PART
    lag_s: float = LAG_S
    hooks: HookHabits = HOOKS
    faults: bool = True
    jumps: bool = True
    has_public_url: bool | None = None
    """Whether callbacks and links reach us; None for three seeds of four."""
    starts_within_s: float = STARTS_WITHIN_S
    change_their_minds: bool = True
    """Whether some customers cancel."""
    run: Run | None = None
    """What every prediction does; None to draw it."""


@dataclass
class Story:
    """What happened, for whoever has to understand a failing seed."""

    lines: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class World:
    """See the module's docstring."""

    seed: int
    weather: Weather
    loop: SimulatedLoop
    db: SimulatedDatabase
    folder: Path
    clock: SimulatedClock
    true_clock: SimulatedClock
    upstream: Upstream
    transport: UpstreamTransport
    settings: ReplicateSettings
    story: Story = field(default_factory=Story)
    process: Process | None = None
    orders: dict[str, GenerationId] = field(default_factory=dict)
    stored: set[GenerationId] = field(default_factory=set)
    made_for: dict[str, Nonce] = field(default_factory=dict)
    overlaps: list[str] = field(default_factory=list)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._answer = self.upstream.answer
        self.upstream.answer = self._watched  # type: ignore[method-assign]  # To see what it makes.

    def random(self, what: str) -> Random:
        """Return the stream of draws for one kind of thing."""
        return Random(f"{self.seed} {what}")

    async def live(self, companions: Sequence[Companion] = ()) -> Verdict:
        """Let everything happen, until it is over; `companions` live beside it."""
        self.spawn(self._run_processes())
        self.spawn(self._run_upstream())
        if self.weather.jumps:
            self.spawn(self._set_the_clock())
        if self.weather.faults:
            self.spawn(self._break_down())
        for companion in companions:
            self.spawn(companion(self))
        customers = [self.spawn(self._order(n)) for n in range(self.weather.generations)]
        await asyncio.gather(*customers)
        while self.loop.seconds < LONGEST_S and not await self.db.read(is_at_rest):  # noqa: ASYNC110 (simulated time)
            await asyncio.sleep(20)
        self.tell(f"at rest after {self.loop.seconds:.0f} s")
        return await self.db.snapshot(lambda tx: judge(tx, self))

    def tell(self, line: str) -> None:
        """Note what happened."""
        self.story.lines.append(f"{self.loop.seconds:8.1f}  {line}")

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start what no process owns."""
        context = copy_context()
        context.run(OWNER.set, None)
        task = self.loop.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever waits for it hears of it.

    # processes

    async def _run_processes(self) -> None:
        """Run one process after the other; each dies sooner or later."""
        random, number = self.random("downtime"), 0
        while True:
            number += 1
            self.process = process = self._a_process(number)
            process.start()
            await process.died.wait()
            self.process = None
            self.story.counts["crashes"] += 1
            self.tell(f"process {number} dies")
            await process.kill()
            await asyncio.sleep(random.uniform(0.2, 8))

    def _a_process(self, number: int) -> Process:
        # A service that has to live with a crash a minute is enough; none would ever start else.
        return Process(
            number,
            self.db,
            self.loop,
            clock=self.clock,
            random=self.random(f"process {number}"),
            crash_part=self.weather.crash_part if number < 40 else 0.0,
            settings=self.settings,
            catalogue=CATALOGUE,
            folder=self.folder,
            stored=self.stored,
            network=self._a_network,
        )

    def _a_network(self, process: Process) -> Network:
        return Network(
            process,
            self.transport,
            random=self.random(f"network {process.number}"),
            spawn=self.spawn,
        )

    async def _watched(self, call: Call) -> Answer:
        """Let the provider answer a call, and see what it made."""
        before = len(self.upstream.predictions)
        self._asked.set()
        answer = await self._answer(call)
        for identifier in list(self.upstream.predictions)[before:]:
            nonce = SENT_FOR.get()
            alive = [other for other in self.upstream.alive() if other != identifier]
            self.made_for[identifier] = nonce
            self.tell(f"{identifier} is created for {nonce}")
            await self._note_overlap(identifier, nonce, alive)
        return answer

    async def _note_overlap(self, identifier: str, nonce: Nonce, alive: list[str]) -> None:
        """Note a prediction that was made while another of its generation still ran."""
        owners = await self.db.read(lambda tx: owners_of(tx, [nonce, *self.made_for.values()]))
        for other in alive:
            of_other = owners.get(self.made_for.get(other, Nonce("")))
            if of_other is not None and of_other == owners.get(nonce):
                self.overlaps.append(f"{identifier} was made while {other} ran for {of_other}")

    # around them

    async def _run_upstream(self) -> None:
        """Let the provider fetch inputs and call back, when that is due; calls make things due."""
        outside = _Outside(self)
        while True:
            await self.upstream.run_due(outside)
            await asyncio.sleep(0.5)
            next_at = self.upstream.next_due()
            rest_s = None if next_at is None else (next_at - self.true_clock.now()) / SECOND
            with suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await self._asked.wait()
            self._asked.clear()

    async def _set_the_clock(self) -> None:
        random = self.random("jumps")
        for _ in range(random.choice((0, 1, 1, 2))):
            await asyncio.sleep(random.uniform(10, 600))
            jump_s = random.choice(JUMPS_S)
            self.clock.jump(jump_s)
            self.tell(f"the clock jumps {jump_s:+.0f} s")
            self.story.counts["jumps"] += 1
            if random.random() < 0.5:
                await asyncio.sleep(random.uniform(1, 120))
                self.clock.jump(-jump_s)
                self.tell("the clock is right again")

    async def _break_down(self) -> None:
        """Let the provider be out of order for minutes: it answers nonsense, or nothing."""
        random = self.random("outages")
        for _ in range(random.choice((0, 1, 2))):
            await asyncio.sleep(random.uniform(10, 300))
            hangs = random.random() < 0.5
            self.tell("the provider hangs" if hangs else "the provider is out of order")
            self.story.counts["outages"] += 1
            if hangs:
                self.transport.hold()
            self.upstream.chance("any", Fault.HTML_502, 0.0 if hangs else 1.0)
            await asyncio.sleep(random.uniform(30, 180))
            self.transport.release()
            self.upstream.chance("any", Fault.HTML_502, 0.0)
            self.tell("the provider works again")

    async def _order(self, number: int) -> None:
        """A customer orders until somebody says yes, and may change his mind."""
        random = self.random(f"customer {number}")
        await asyncio.sleep(random.uniform(0, self.weather.starts_within_s))
        key = Key(account_id=ALICE, key=f"order-{number}", fingerprint=f"order-{number}")
        may_cancel = self.weather.change_their_minds
        cancel_after_s = 60 if may_cancel and random.random() < 0.05 else None

        async def make() -> Order:
            return Order(
                account_id=ALICE,
                door="api",
                model=MODEL,
                portrait_id=ArtifactId("portrait"),
                speech_id=ArtifactId("speech"),
                speech_s=SPEECH_S,
                prompt="woman singing",
                cancel_after_s=cancel_after_s,
            )

        started = await self._insist(lambda process: process.generations.start(make, key=key))
        self.orders[key.key] = generation_id = started.generation.id
        self.tell(f"{key.key} is {generation_id}")
        if may_cancel and random.random() < 0.15:
            await asyncio.sleep(random.uniform(0, 200))
            await self._insist(lambda process: process.generations.cancel(ALICE, generation_id))
            self.tell(f"{generation_id} is to be canceled")
            self.story.counts["cancels"] += 1

    async def _insist(self, work: Callable[[Process], Coroutine[Any, Any, Any]]) -> Any:
        """Ask until there is an answer."""
        while True:
            process = self.process
            if process is not None:
                with suppress(ConnectionError, SaysoError):
                    return await process.do(work(process))
            await asyncio.sleep(3)


class _Outside:
    """What the provider meets when it calls back and fetches."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def fetch(self, url: str) -> int:
        process = self._world.process
        if process is None:
            raise ConnectionError("nobody listens there")
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        try:
            LINKS.verify(
                parts.path.removeprefix(FILES_PATH),
                query,
                now_s=self._world.clock.now() / SECOND,
            )
        except SaysoError as error:
            return status_of(type(error))
        process.note_fetch(Nonce(query["nonce"]))
        return 200

    async def deliver(self, url: str, headers: dict[str, str], body: bytes) -> int:
        process = self._world.process
        if process is None:
            raise ConnectionError("nobody listens there")
        nonce = url.rpartition("/")[2]
        status = await process.do(_taken(process.door, nonce, headers, body))
        self._world.story.counts[f"callbacks {status}"] += 1
        return status


async def _taken(door: CallbackDoor, nonce: str, headers: dict[str, str], body: bytes) -> int:
    try:
        await door.take("replicate", nonce, headers, body)
    except SaysoError as error:
        return status_of(type(error))
    return 204


Companion = Callable[[World], Coroutine[Any, Any, None]]


def a_run(random: Random, weather: Weather) -> Run:
    """Draw what one prediction does."""
    if weather.run is not None:
        return weather.run
    script = Script(
        start_s=random.uniform(1, 40),
        run_s=random.uniform(10, 200),
        listed_s=random.choice((0, 0.1, 0.5, 1)) * random.random() * weather.lag_s,
        cancel_s=random.choice((0, 0, 5)),
        ignores_cancel=random.random() < 0.05,
    )
    ordinary = Run(script=script)
    drawn = random.random()
    if drawn < 0.08:
        return ordinary.failing(FAILURES["interrupted"])
    if drawn < 0.12:
        return ordinary.failing(FAILURES["sensitive"])
    if drawn < 0.15:
        return Run(script=Script(start_s=5, end="never"))
    if drawn < 0.18:
        return Run(script=Script(start_s=10_000, ignores_cancel=True))
    return ordinary


def live(
    seed: int,
    folder: Path,
    template: Path,
    *,
    weather: Weather | None = None,
    companions: Sequence[Companion] = (),
) -> tuple[Verdict, Story]:
    """Live a seed from beginning to end; `template` is a migrated, empty database."""
    folder = folder / f"seed-{seed}"
    folder.mkdir()
    shutil.copy(template, folder / "sayso.db")
    weather = weather or Weather()

    async def whole(loop: SimulatedLoop) -> tuple[Verdict, Story]:
        world = await a_world(seed, folder, loop, weather)
        try:
            return await world.live(companions), world.story
        finally:
            await world.db.close()

    try:
        return run(whole)
    finally:
        shutil.rmtree(folder)


async def a_world(seed: int, folder: Path, loop: SimulatedLoop, weather: Weather) -> World:
    """Make the world of a seed, as it is before anything happens."""
    db = SimulatedDatabase(folder / "sayso.db")
    await db.write(lambda tx: an_account(tx, balance=100 * DOLLAR))
    await db.write(lambda tx: an_artifact(tx, "portrait", name="portrait"))
    await db.write(lambda tx: an_artifact(tx, "speech", name="speech"))
    random = Random(f"{seed} upstream")
    true_clock = SimulatedClock(NOON, loop)
    upstream = Upstream(true_clock, random=random, switches=Switches(hooks=weather.hooks))
    runs = Random(f"{seed} runs")
    upstream.will(*(a_run(runs, weather) for _ in range(weather.generations * 10)))
    if weather.faults:
        for kind, faults in FAULTS.items():
            for fault, part in faults.items():
                upstream.chance(kind, fault, part)  # type: ignore[arg-type]  # Its own words.
    has_public_url = weather.has_public_url
    if has_public_url is None:
        has_public_url = seed % 4 != 0
    return World(
        seed=seed,
        weather=weather,
        loop=loop,
        db=db,
        folder=folder,
        clock=SimulatedClock(NOON, loop),
        true_clock=true_clock,
        upstream=upstream,
        transport=UpstreamTransport(upstream),
        settings=ReplicateSettings(
            token=upstream.token, public_url=PUBLIC if has_public_url else None
        ),
    )
