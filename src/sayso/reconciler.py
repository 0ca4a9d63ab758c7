"""The reconciler: claim what is due, take one step, write it down, again.

    Reconciler.run()      the loop, until `stop`; then it drains
    Reconciler.turn()     one look around, and the claims that follow from it
    Reconciler.settled()  wait until everything in hand is done (tests step it this way)

Poll, callback, cancel, deadline and restart only make a row due; nothing but this loop moves one.
Any process may run it, several may at once: a row belongs to whoever claimed it until its lease is
over. The steps themselves are in `generations/lane.py`, what is decided in `generations/rules.py`,
what is written in `generations/steps.py`.

It wakes when the database announces that something is due, when the next row will be, and once a
second in any case.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from sayso.catalogue.catalogue import Catalogue, Model
from sayso.clock import SECOND, Clock, Instant, after
from sayso.db.changes import Wake
from sayso.db.connect import Database
from sayso.db.tx import Topic, Tx
from sayso.errors import DatabaseUnavailable
from sayso.generations import claims, evidence, steps
from sayso.generations.census import Ended
from sayso.generations.claims import Due
from sayso.generations.lane import Keeper, Lane, LaneLimits
from sayso.generations.pace import learned_pace
from sayso.generations.policy import Policy
from sayso.generations.recorder import Batch, Recorder
from sayso.generations.rules import Job, State, before_submit, is_open_again, orphaned
from sayso.generations.steps import Tell
from sayso.generations.sweep import Sweep
from sayso.generations.written import Step
from sayso.ids import GenerationId, Ids
from sayso.providers.base import LipSyncInputs, Provider, ProviderTraits

log = structlog.get_logger()

_COUNT_EVERY_S: Final = 5.0
_KEY_LIFE_S: Final = 86_400
_CALLBACK_LIFE_S: Final = 7 * 86_400


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """When the loop looks around, and how long it holds what it claimed."""

    lease_s: float = 90
    """How long a claim lasts whose create call is out; longer than any call."""
    hold_s: float = 20
    """How long any other claim lasts; it is renewed while the row is in hand."""
    renew_s: float = 5
    """Time between two renewals."""
    tick_s: float = 0.1
    """Shortest time between two turns that only the clock asked for."""
    wake_s: float = 0.01
    """Shortest time between two turns."""
    idle_s: float = 1.0
    """Longest time between two turns."""
    sweep_s: float = 60
    """Time between two rounds of housekeeping."""
    drain_s: float = 10
    """How long `stop` waits for calls that are out."""


@dataclass(slots=True)
class Figures:
    """What the loop has done, for metrics and benchmarks."""

    turns: int = 0
    claims: int = 0
    claimed: int = 0
    lag_s: float = 0.0
    """How late the oldest look of the latest turn was."""
    ended: Ended = field(default_factory=Ended)
    """How generations ended."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a claim took: jobs to take a step with, and those that are over without one."""

    token: str
    state: State
    jobs: Sequence[Job] = ()
    ended: Sequence[Step] = ()
    inputs: Mapping[GenerationId, LipSyncInputs] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.jobs) + len(self.ended)


class Reconciler:
    """See the module's docstring. `tell` writes webhooks in the transaction of a change."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        ids: Ids,
        catalogue: Catalogue,
        providers: Sequence[Provider],
        keeper: Keeper,
        policy: Policy | None = None,
        rhythm: Rhythm | None = None,
        limits: LaneLimits | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._catalogue = catalogue
        self._policy = policy or Policy()
        self._rhythm = rhythm or Rhythm()
        self._recorder = Recorder(db, clock=clock, tell=tell, on_written=self._look_around_soon)
        self._paces: dict[str, float] = {}
        self._lanes = {
            provider.traits.name: Lane(
                provider,
                clock=clock,
                catalogue=catalogue,
                recorder=self._recorder,
                keeper=keeper,
                policy=self._policy,
                limits=limits or LaneLimits(),
                typical_s=self._typical_s,
            )
            for provider in providers
        }
        self._sweep = Sweep(db, clock=clock, lanes=self._lanes, policy=self._policy)
        self._in_hand: Counter[tuple[str, State]] = Counter()
        self._held: dict[GenerationId, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dropped: list[_Taken] = []
        self._wake: Wake | None = None
        self._stopping = asyncio.Event()
        self.figures = Figures(ended=self._recorder.ended)

    async def run(self) -> None:
        """Turn until `stop` is called, then drain."""
        with self._db.listen(Topic.DUE) as wake:
            self._wake = wake
            beside = [
                asyncio.create_task(self._for_ever(self._renew, self._rhythm.renew_s)),
                asyncio.create_task(self._for_ever(self._count, _COUNT_EVERY_S)),
                asyncio.create_task(self._for_ever(self.keep_house, self._rhythm.sweep_s)),
            ]
            try:
                while not self._stopping.is_set():
                    await self._turn_and_rest(wake)
            finally:
                self._wake = None
                await self._drain()
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)

    def stop(self) -> None:
        """Let `run` claim nothing more and return when what is in hand is done."""
        self._stopping.set()
        self._look_around_soon()

    async def turn(self) -> Instant | None:
        """Claim what is due and start on it; return when the next row will be due.

        Rows for which there is no room in hand are left until something in hand is done.
        """
        now = self._clock.now()
        sight = await self._db.read_point(lambda tx: claims.look_around(tx, now=now))
        self.figures.turns += 1
        looks = [due.since for due in sight.due if due.state is State.RUNNING]
        self.figures.lag_s = (now - min(looks)) / SECOND if looks else 0.0
        for due in sight.due:
            await self._claim(due)
        return sight.next_at

    async def settled(self) -> None:
        """Wait until everything in hand is done and written."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def keep_house(self) -> None:
        """End what still runs for nobody, learn how long models take, forget what is old."""
        await self._learn_paces()
        await self._sweep.run()
        now = self._clock.now()

        def forget(tx: Tx) -> None:
            steps.prune_keys(tx, before=after(now, -_KEY_LIFE_S))
            evidence.forget_callbacks(tx, before=after(now, -_CALLBACK_LIFE_S))

        await self._db.write(forget)

    # the loop

    async def _turn_and_rest(self, wake: Wake) -> None:
        rhythm = self._rhythm
        next_at: Instant | None = None
        try:
            next_at = await self.turn()
        except DatabaseUnavailable as error:
            log.warning("the reconciler cannot reach the database", code=error.code)
            await asyncio.sleep(rhythm.idle_s)
        rest_s = rhythm.idle_s
        if next_at is not None:
            rest_s = min(max((next_at - self._clock.now()) / SECOND, rhythm.tick_s), rest_s)
        await wake.wait(timeout_s=rest_s)
        # Wakes come in bursts; what is claimed together is written together.
        await asyncio.sleep(rhythm.wake_s)

    async def _drain(self) -> None:
        """Finish what is in hand; hand back what takes too long.

        A create call that is cut off keeps its lease: what became of it has to be found out.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._rhythm.drain_s)
        for task in self._tasks:
            task.cancel()
        await self.settled()
        now = self._clock.now()
        for taken in self._dropped:
            if taken.state in {State.RUNNING, State.STORING}:
                unchanged = [(job.id, now) for job in taken.jobs]
                await self._recorder.record(Batch(taken.token, (), unchanged))

    def _look_around_soon(self) -> None:
        if self._wake is not None:
            self._wake.ring()

    # claims

    async def _claim(self, due: Due) -> None:
        lane = self._lanes.get(due.provider)
        hand = (due.provider, due.state)
        room = claims.MOST_CLAIMED if lane is None else lane.capacity(due.state)
        limit = min(due.count, room - self._in_hand[hand], claims.MOST_CLAIMED)
        if limit <= 0:
            return
        taken = await self._db.write(self._taking(due, lane, limit))
        if not taken.count:
            return
        self.figures.claims += 1
        self.figures.claimed += taken.count
        self._in_hand[hand] += taken.count
        if self._lease_s(due, lane) == self._rhythm.hold_s:
            self._held |= {job.id: taken.token for job in taken.jobs}
        self._start(lane, taken, hand)

    def _taking(self, due: Due, lane: Lane | None, limit: int) -> Callable[[Tx], _Taken]:
        """Return the transaction of a claim; for created rows it writes the attempts down too."""
        now = self._clock.now()
        lease_until = after(now, self._lease_s(due, lane))
        token = self._ids.new()
        sends = due.state is State.CREATED and lane is not None
        nonces = [self._ids.nonce() for _ in range(limit if sends else 0)]
        claim = partial(
            claims.claim,
            provider=due.provider,
            state=due.state,
            limit=limit,
            token=token,
            now=now,
            lease_until=lease_until,
        )

        def take(tx: Tx) -> _Taken:
            # If an earlier run was committed after all, its attempts have our nonces.
            before = sends and claims.claimed_before(tx, token=token, lease_until=lease_until)
            jobs = before or claim(tx)
            if lane is None or due.state not in {State.CREATED, State.SUBMITTING}:
                return _Taken(token, due.state, jobs)
            ended: list[Step] = []
            if sends:
                claims.adopt(tx, [job for job in jobs if is_open_again(job)], now=now)
                jobs = [job for job in jobs if not is_open_again(job)]
                sent = [job for job in jobs if job.state is State.SUBMITTING]
                jobs = [job for job in jobs if job.state is State.CREATED]
                jobs, ended = _sorted_out(jobs, token, now=now, traits=lane.traits)
                jobs = [*sent, *claims.intend(tx, jobs, nonces[: len(jobs)], now=now)]
            inputs = claims.inputs_of(tx, [job.id for job in jobs]) if jobs else {}
            return _Taken(token, due.state, jobs, ended, inputs)

        return take

    def _lease_s(self, due: Due, lane: Lane | None) -> float:
        """Return how long a claim lasts: a create call that may not be repeated is left alone."""
        is_once = due.state is State.CREATED and lane and not lane.traits.submit_is_idempotent
        return self._rhythm.lease_s if is_once else self._rhythm.hold_s

    def _start(self, lane: Lane | None, taken: _Taken, hand: tuple[str, State]) -> None:
        task = asyncio.create_task(self._step(lane, taken))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._in_hand[hand] -= taken.count
            for job in taken.jobs:
                # Its lease may have run out: then it is the later claim that is to be renewed.
                if self._held.get(job.id) == taken.token:
                    del self._held[job.id]
            if task.cancelled():
                self._dropped.append(taken)
            elif task.exception() is not None:
                log.error("a claim broke", exc_info=task.exception())
            self._look_around_soon()

        task.add_done_callback(done)

    async def _step(self, lane: Lane | None, taken: _Taken) -> None:
        token = taken.token
        await self._recorder.record(Batch(token, taken.ended))
        if lane is None:
            await self._wait_for_a_provider(taken)
            return
        match taken.state:
            case State.CREATED:
                await lane.send(taken.jobs, taken.inputs, token)
            case State.SUBMITTING:
                await lane.search(taken.jobs, taken.inputs, token)
            case State.RUNNING:
                await lane.look(taken.jobs, token)
            case _:
                await lane.keep(taken.jobs, token)

    async def _wait_for_a_provider(self, taken: _Taken) -> None:
        """Let the generations of a provider that is not set up wait until their time is over."""
        now = self._clock.now()
        log.error("a provider is not set up", provider=taken.jobs[0].provider, count=taken.count)
        ended = [
            Step(job=job, token=taken.token, outcome=end)
            for job in taken.jobs
            if (end := orphaned(job, now=now, policy=self._policy)) is not None
        ]
        done = {step.job.id for step in ended}
        later = after(now, self._policy.settle_s)
        unchanged = [(job.id, later) for job in taken.jobs if job.id not in done]
        await self._recorder.record(Batch(taken.token, ended, unchanged))

    # housekeeping

    async def _for_ever(self, chore: Callable[[], Awaitable[None]], every_s: float) -> None:
        """Do something now and again; a time that goes wrong is logged, the next one comes."""
        while True:
            try:
                await chore()
            except Exception:
                log.exception("housekeeping went wrong", chore=chore.__name__)
            await asyncio.sleep(every_s)

    async def _renew(self) -> None:
        """Keep the rows that are in hand, however long their steps take."""
        if self._held:
            ids, tokens = list(self._held), list(set(self._held.values()))
            lease_until = after(self._clock.now(), self._rhythm.hold_s)
            await self._db.write(
                lambda tx: claims.extend(tx, tokens=tokens, ids=ids, lease_until=lease_until)
            )

    async def _count(self) -> None:
        counts = await self._db.read(claims.in_flight)
        for name, lane in self._lanes.items():
            lane.in_flight = counts.get(name, 0)

    async def _learn_paces(self) -> None:
        """Learn from the latest successes how long a model takes for a second of speech."""
        for model in self._catalogue.models:
            taken = await self._db.read(partial(steps.pace_of, model=model.name))
            pace = learned_pace(taken)
            if pace is not None:
                self._paces[model.name] = pace

    def _typical_s(self, model: Model, seconds: int) -> float:
        pace = self._paces.get(model.name)
        return model.typical_s(seconds) if pace is None else pace * seconds


def _sorted_out(
    jobs: Sequence[Job], token: str, *, now: Instant, traits: ProviderTraits
) -> tuple[list[Job], list[Step]]:
    """Part the jobs that are to be sent from those that end before that."""
    to_send: list[Job] = []
    ended: list[Step] = []
    for job in jobs:
        end = before_submit(job, now=now, traits=traits)
        if end is None:
            to_send.append(job)
        else:
            ended.append(Step(job=job, token=token, outcome=end))
    return to_send, ended
