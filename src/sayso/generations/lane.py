"""A lane: the calls to one provider, and what is decided on their answers.

    send()     created, intended   -> create calls, each answer recorded as it comes
    search()   submitting          -> find, or send again where that is harmless
    look()     running             -> one list call for many, cancels before it
    keep()     storing             -> fetch, probe and store the video
    find(), fetch(), cancel()      single calls, bounded, for the sweep

Each provider has a lane of its own, and each kind of call a bound of its own, so a provider that is
slow or hangs holds up nobody else, and hanging creates do not hold up the looks. A lane touches no
database: it hands batches to the recorder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import structlog

from sayso.catalogue.catalogue import Catalogue, Model
from sayso.clock import SECOND, Clock, Instant, after
from sayso.errors import (
    ModelUnknown,
    ProviderError,
    ProviderTimedOut,
    SaysoError,
    StoreUnavailable,
)
from sayso.generations.last_words import LastWords
from sayso.generations.pace import age_class, next_look_at
from sayso.generations.policy import Policy
from sayso.generations.recorder import Batch, Recorder
from sayso.generations.rules import (
    Bind,
    End,
    Job,
    Search,
    Sought,
    State,
    View,
    Wait,
    after_keep_error,
    after_search,
    after_submit_error,
    failed,
    observe,
    stop_of,
)
from sayso.generations.written import KeptVideo, Outcome, Step
from sayso.ids import GenerationId, Nonce, ProviderId
from sayso.providers.base import (
    Attempt,
    LipSyncInputs,
    Prediction,
    PredictionStatus,
    Provider,
)

T = TypeVar("T")

# A search looks back further than the call: our clock may have been set meanwhile, and the
# provider's is another one.
_SINCE_S: Final = 3_600
# Searches whose beginning is remembered; to forget them all only makes them longer.
_MOST_MISSED: Final = 10_000

log = structlog.get_logger()


class Keeper(Protocol):
    """Takes a provider's video into our store."""

    async def keep(self, job: Job, provider: Provider) -> KeptVideo:
        """Fetch, probe, measure and store it; repeating that is harmless.

        Raises `OutputLost`, `VideoRefused`, `VideoUnreadable` for good, other errors of ours for
        now.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LaneLimits:
    """Bounds of one provider's lane."""

    creates: int = 100
    """Create calls at the same time."""
    searches: int = 16
    """Lost creates that are searched for at the same time."""
    looks: int = 2_000
    """Rows that are looked at at the same time."""
    reads: int = 8
    """Read calls at the same time."""
    keeps: int = 8
    """Videos that are fetched and stored at the same time."""
    call_s: float = 60
    """Longest time of one call; a claim's lease is longer."""


class Lane:
    """See the module's docstring."""

    def __init__(
        self,
        provider: Provider,
        *,
        clock: Clock,
        catalogue: Catalogue,
        recorder: Recorder,
        keeper: Keeper,
        policy: Policy,
        limits: LaneLimits,
        typical_s: Callable[[Model, int], float],
    ) -> None:
        self.provider = provider
        self.traits = provider.traits
        self.limits = limits
        self.in_flight = 0
        self._clock = clock
        self._catalogue = catalogue
        self._recorder = recorder
        self._keeper = keeper
        self._policy = policy
        self._typical_s = typical_s
        self._reads = asyncio.Semaphore(limits.reads)
        self._out: set[Nonce] = set()
        self._missed_at_s: dict[Nonce, float] = {}
        self._last_words = LastWords(clock, provider=self.traits.name, ask_s=self.traits.ask_s)

    def capacity(self, state: State) -> int:
        """Return how many rows in this state may be in hand at the same time."""
        match state:
            case State.CREATED:
                return self.limits.creates
            case State.SUBMITTING:
                return self.limits.searches
            case State.RUNNING:
                return self.limits.looks
            case _:
                return self.limits.keeps

    async def send(
        self, jobs: Sequence[Job], inputs: Mapping[GenerationId, LipSyncInputs], token: str
    ) -> None:
        """Make the create calls of intended jobs, side by side."""
        await _all(self._send(job, inputs.get(job.id), token) for job in jobs)

    async def search(
        self, jobs: Sequence[Job], inputs: Mapping[GenerationId, LipSyncInputs], token: str
    ) -> None:
        """Find out what became of create calls whose answers were lost."""
        await _all(self._search(job, inputs.get(job.id), token) for job in jobs)

    async def look(self, jobs: Sequence[Job], token: str) -> None:
        """Look at running predictions, as many in one call as the provider takes."""
        size = self.traits.reads_per_call
        chunks = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        await _all(self._look(chunk, token) for chunk in chunks)

    async def keep(self, jobs: Sequence[Job], token: str) -> None:
        """Fetch and store finished videos, side by side."""
        await _all(self._keep(job, token) for job in jobs)

    # created

    async def _send(self, job: Job, inputs: LipSyncInputs | None, token: str) -> None:
        await self._record(token, await self._sent(job, inputs, token))

    async def _sent(self, job: Job, inputs: LipSyncInputs | None, token: str) -> Step:
        try:
            model = self._catalogue.find(job.model)
        except ModelUnknown as error:
            return self._step(job, token, failed(error.code, str(error)), raw_error=str(error))
        if inputs is None:
            gone = failed("artifact_missing", "An input is no longer there")
            return self._step(job, token, gone, raw_error="an input is missing")
        attempt = Attempt(
            generation_id=job.id,
            number=job.attempt.number,
            nonce=job.attempt.nonce,
            model=model,
            deadline_at=job.deadline_at,
        )
        self._out.add(attempt.nonce)
        try:
            made = await self._call(self.provider.submit(attempt, inputs))
        except ProviderError as error:
            log.warning("a create call failed", code=error.code, raw=error.raw, **_ids(job))
            outcome = after_submit_error(
                error, now=self._clock.now(), traits=self.traits, policy=self._policy
            )
            return self._step(job, token, outcome, raw_error=error.raw or str(error))
        finally:
            self._out.discard(attempt.nonce)
        return self._bind(job, token, made)

    def _bind(self, job: Job, token: str, made: Prediction) -> Step:
        # Counted again every few seconds; meanwhile a rush of creates slows the looks down.
        self.in_flight += 1
        self._last_words.hear(job, made)
        look_at = self._look_at(job)
        return Step(job=job, token=token, outcome=Bind(made), seen=made, look_at=look_at)

    # submitting

    async def _search(self, job: Job, inputs: LipSyncInputs | None, token: str) -> None:
        provider_id = job.attempt.provider_id
        if provider_id is not None:
            self.forget(job.attempt.nonce)
            # The answer was recorded after all: by the call itself, or by a callback.
            known = Prediction(provider_id=provider_id, status=PredictionStatus.STARTING)
            outcome: Outcome = Bind(known)
            step = Step(job=job, token=token, outcome=outcome, look_at=self._clock.now())
        elif self.traits.submit_is_idempotent:
            outcome = self._after_search(job, Sought(is_answered=False))
            is_over = isinstance(outcome, End)
            step = (
                self._step(job, token, outcome) if is_over else await self._sent(job, inputs, token)
            )
        else:
            step = self._step(job, token, await self._searched(job))
        await self._record(token, step)

    async def _searched(self, job: Job) -> Outcome:
        nonce = job.attempt.nonce
        if nonce in self._out:
            # The date has jumped over the lease: the call is not lost, it is still out.
            return self._after_search(job, Sought(is_answered=False))
        try:
            sought = await self.seek(nonce, job.attempt.submitted_at or job.created_at)
        except ProviderError as error:
            log.warning("a search failed", code=error.code, raw=error.raw, **_ids(job))
            return self._after_search(job, Sought(is_answered=False))
        outcome = self._after_search(job, sought)
        if not isinstance(outcome, Search):
            self.forget(nonce)
            log.warning("a lost create was cleared up", how=type(outcome).__name__, **_ids(job))
        return outcome

    def _after_search(self, job: Job, sought: Sought) -> Outcome:
        now = self._clock.now()
        return after_search(job, sought, now=now, traits=self.traits, policy=self._policy)

    async def seek(self, nonce: Nonce, submitted_at: Instant) -> Sought:
        """Search for the prediction of a create call that was made then; raise `ProviderError`."""
        begun_s = self._clock.monotonic_s()
        async with self._reads:
            found = await self._call(
                self.provider.find(nonce, since=after(submitted_at, -_SINCE_S))
            )
        if len(self._missed_at_s) >= _MOST_MISSED:
            self._missed_at_s.clear()
        missed_at_s = self._missed_at_s.setdefault(nonce, begun_s)
        return Sought(found=found, missed_for_s=begun_s - missed_at_s)

    def forget(self, nonce: Nonce) -> None:
        """Take note that an attempt is searched for no longer."""
        self._missed_at_s.pop(nonce, None)

    # running

    async def _look(self, jobs: Sequence[Job], token: str) -> None:
        now = self._clock.now()
        await _all(self.cancel(_provider_id(job)) for job in jobs if stop_of(job, now) is not None)
        seen = await self._seen(jobs, now)
        steps: list[Step] = []
        unchanged: list[tuple[GenerationId, Instant]] = []
        now = self._clock.now()
        views: dict[tuple[str, int, int], View] = {}
        for job in jobs:
            prediction = seen.get(_provider_id(job))
            alike = (job.model, job.seconds, age_class((now - job.created_at) / SECOND))
            if alike not in views:
                views[alike] = self._view(job, now)
            outcome = observe(job, prediction, views[alike])
            if isinstance(outcome, Wait):
                if outcome.alarm is not None:
                    log.error(
                        "the provider said something unknown", what=outcome.alarm, **_ids(job)
                    )
                if not outcome.is_news:
                    unchanged.append((job.id, outcome.due_at))
                    continue
            steps.append(Step(job=job, token=token, outcome=outcome, seen=prediction))
        await self._recorder.record(Batch(token, steps, unchanged))

    async def _seen(self, jobs: Sequence[Job], now: Instant) -> dict[ProviderId, Prediction]:
        """Return what is known of predictions: asked now, or said lately by one that calls back."""
        seen: dict[ProviderId, Prediction] = {}
        asked: list[Job] = []
        for job in jobs:
            if stop_of(job, now) is not None:
                self._last_words.forget(job)
            said = self._last_words.of(job, done_by=self._done_by(job))
            if said is None:
                asked.append(job)
            else:
                seen[said.provider_id] = said
        answers = await self.fetch([_provider_id(job) for job in asked]) if asked else {}
        for job in asked:
            if (answer := answers.get(_provider_id(job))) is not None:
                self._last_words.hear(job, answer)
        return seen | dict(answers)

    def _done_by(self, job: Job) -> Instant:
        """Return when a prediction ought to be done, given twice the time that such ones take."""
        model = self._model(job)
        typical_s = 0.0 if model is None else self._typical_s(model, job.seconds)
        return after(job.started_at or job.created_at, 2 * typical_s)

    async def cancel(self, provider_id: ProviderId) -> None:
        """Ask for the end of a prediction; whoever looks at it next sees what came of that."""
        try:
            async with self._reads:
                await self._call(self.provider.cancel(provider_id))
        except ProviderError as error:
            log.warning("a cancel failed", code=error.code, raw=error.raw, provider_id=provider_id)

    async def fetch(self, ids: Sequence[ProviderId]) -> Mapping[ProviderId, Prediction]:
        """Return what the provider says of these; nothing when it does not answer."""
        try:
            async with self._reads:
                return await self._call(self.provider.fetch_many(ids))
        except ProviderError as error:
            log.warning("a look failed", provider=self.traits.name, code=error.code, raw=error.raw)
            return {}

    def _view(self, job: Job, now: Instant) -> View:
        model = self._model(job)
        deadline_s = self._policy.deadline_s
        typical_s = float(deadline_s)
        if model is not None:
            deadline_s = model.deadline_s or deadline_s
            typical_s = self._typical_s(model, job.seconds)
        return View(
            now=now,
            traits=self.traits,
            policy=self._policy,
            look_at=self._look_at(job),
            typical_s=typical_s,
            deadline_s=deadline_s,
        )

    def _look_at(self, job: Job) -> Instant:
        now = self._clock.now()
        age_s = (now - job.created_at) / SECOND
        return next_look_at(now, age_s, self.in_flight, traits=self.traits, policy=self._policy)

    def _model(self, job: Job) -> Model | None:
        try:
            return self._catalogue.find(job.model)
        except ModelUnknown:
            return None

    # storing

    async def _keep(self, job: Job, token: str) -> None:
        try:
            kept = await self._keeper.keep(job, self.provider)
        except SaysoError as error:
            raw = (error.raw if isinstance(error, ProviderError) else None) or str(error)
            log.warning("a video was not stored", code=error.code, raw=raw, **_ids(job))
            await self._record(token, self._not_kept(job, token, error, raw))
        except Exception as error:
            # A full disk, or a mistake of ours: as long as it may heal, and no longer.
            log.exception("storing a video broke", **_ids(job))
            trouble = StoreUnavailable("The video could not be stored.")
            await self._record(token, self._not_kept(job, token, trouble, repr(error)))
        else:
            done = End(state=State.SUCCEEDED)
            await self._record(token, Step(job=job, token=token, outcome=done, kept=kept))

    def _not_kept(self, job: Job, token: str, error: SaysoError, raw: str) -> Step:
        outcome = after_keep_error(
            job, error, now=self._clock.now(), traits=self.traits, policy=self._policy
        )
        return self._step(job, token, outcome, raw_error=raw)

    # all of them

    def _step(
        self, job: Job, token: str, outcome: Outcome, *, raw_error: str | None = None
    ) -> Step:
        seen = outcome.prediction if isinstance(outcome, Bind) else None
        look_at = self._look_at(job) if seen is not None else None
        return Step(
            job=job, token=token, outcome=outcome, seen=seen, raw_error=raw_error, look_at=look_at
        )

    async def _record(self, token: str, step: Step) -> None:
        await self._recorder.record(Batch(token, (step,)))

    async def _call(self, call: Awaitable[T]) -> T:
        """Bound a call in time, whatever the provider's own client does."""
        try:
            async with asyncio.timeout(self.limits.call_s):
                return await call
        except TimeoutError as error:
            raise ProviderTimedOut(f"{self.traits.label} did not answer.") from error
        except SaysoError:
            raise
        except Exception as error:
            # A mistake of ours is no reason to take a step for ever: its generation still ends.
            log.exception("a provider's call broke", provider=self.traits.name)
            raise ProviderTimedOut(
                f"{self.traits.label} did not answer.", raw=repr(error)
            ) from error


async def _all(steps: Iterable[Coroutine[None, None, None]]) -> None:
    """Take steps side by side; one that breaks does not hold up the others."""
    for result in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(result, Exception):
            log.error("a step broke", exc_info=result)


def _provider_id(job: Job) -> ProviderId:
    provider_id = job.attempt.provider_id
    assert provider_id is not None, "a running generation has a prediction"
    return provider_id


def _ids(job: Job) -> dict[str, object]:
    return {"generation_id": job.id, "provider": job.provider, "attempt": job.attempts}
