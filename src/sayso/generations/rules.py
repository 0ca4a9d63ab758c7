"""The rules of a generation's life, pure: what may follow what, and what to do next.

    State, MOVES, FINAL     the state table of the service
    Job                     what the reconciler knows of a generation when it takes a step
    observe()               a look at a running prediction -> Wait | Store | Retry | End
    after_search()          a search for a lost prediction -> Bind | Search | Recreate | End
    is_open_again()         an attempt that was given up and turned out to run after all
    after_submit_error()    a create call that failed      -> Refused | Unclear | End
    before_submit()         what ends a generation before anything is sent
    after_keep_error()      a video that could not be stored -> Later | End
    no_later_than_stop()    when to take the next step, at the latest

Poll, callback, cancel, deadline and restart all end in these functions; nothing else decides. They
take the time as an argument and touch nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from sayso.clock import SECOND, Instant, after
from sayso.errors import (
    DownloadTooLarge,
    OutputLost,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    SaysoError,
    VideoRefused,
    VideoUnreadable,
)
from sayso.generations.pace import Basis, percent_of
from sayso.generations.policy import Policy
from sayso.ids import AccountId, GenerationId, Nonce, ProviderId
from sayso.providers.base import (
    FailureKind,
    Prediction,
    PredictionStatus,
    ProviderTraits,
)


class State(StrEnum):
    """Where a generation stands. Customers see `PublicStatus`."""

    CREATED = "created"
    SUBMITTING = "submitting"
    RUNNING = "running"
    STORING = "storing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether nothing moves it any more."""
        return self in FINAL


MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.CREATED: frozenset({State.SUBMITTING, State.FAILED, State.CANCELED}),
    State.SUBMITTING: frozenset({State.RUNNING, State.CREATED, State.FAILED, State.CANCELED}),
    State.RUNNING: frozenset({State.STORING, State.CREATED, State.FAILED, State.CANCELED}),
    State.STORING: frozenset({State.SUCCEEDED, State.FAILED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELED: frozenset(),
}
FINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED})

PublicStatus = Literal["starting", "processing", "succeeded", "failed", "canceled"]
ReleaseReason = Literal["failed", "canceled", "expired"]

_ORDER: Final[Mapping[str, int]] = {
    "starting": 0,
    "processing": 1,
    "succeeded": 2,
    "failed": 2,
    "canceled": 2,
}


class IllegalMove(RuntimeError):
    """A step that the state table does not have: a mistake in our code."""


def require_move(state: State, to: State) -> None:
    """Raise `IllegalMove` unless the state table has this step."""
    if to not in MOVES[state]:
        raise IllegalMove(f"{state} -> {to}")


def later_status(old: PublicStatus, new: PublicStatus) -> PublicStatus:
    """Return the one that is further: public statuses never go backwards."""
    return new if _ORDER[new] > _ORDER[old] else old


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One row of `predictions`."""

    number: int
    nonce: Nonce
    provider_id: ProviderId | None
    state: str
    output: str | None
    submitted_at: Instant | None
    missed_at: Instant | None
    finished_at: Instant | None
    fetched_at: Instant | None = None
    """When its provider first fetched an input by a link of its own: it has the create call."""
    called_at: Instant | None = None
    """When its last callback came."""
    twin_of: int | None = None
    """The attempt that it doubles: one create call, two predictions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the reconciler knows of a generation when it takes a step."""

    id: GenerationId
    account_id: AccountId
    model: str
    provider: str
    state: State
    public_status: PublicStatus
    percent: int
    basis: Basis
    stage: str | None
    attempts: int
    seconds: int
    price_micros: int
    created_at: Instant
    started_at: Instant | None
    deadline_at: Instant | None
    cancel_requested_at: Instant | None
    cancel_after_s: int | None
    tried: tuple[AttemptRecord, ...] = ()

    @property
    def attempt(self) -> AttemptRecord:
        """The latest attempt; there is one in every state but `created`."""
        return next(record for record in self.tried if record.number == self.attempts)

    @property
    def next_number(self) -> int:
        """The number of an attempt that is made now."""
        return max((record.number for record in self.tried), default=0) + 1

    def count(self, state: str) -> int:
        """Return how many attempts ended in this state."""
        return sum(record.state == state and not record.twin_of for record in self.tried)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What a search for a lost prediction came to.

    `is_answered` says whether the provider answered at all. `missed_for_s` is how long this process
    has searched for it in vain, by a clock that does not jump.
    """

    found: Prediction | None = None
    is_answered: bool = True
    missed_for_s: float = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """A generation is to end, since when and why."""

    reason: Literal["cancel", "deadline"]
    since: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do but look again; `is_news` says that the customer sees a change."""

    due_at: Instant
    public_status: PublicStatus
    percent: int
    basis: Basis
    stage: str | None
    started_at: Instant | None
    deadline_at: Instant | None
    is_news: bool
    alarm: str | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """The provider has a video: fetch it, probe it, keep it."""

    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The attempt failed by bad luck: make a new one at `due_at`."""

    due_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """It is over. `code` and `text` are None for a success and a cancel."""

    state: State
    code: str | None = None
    text: str | None = None
    release_reason: ReleaseReason | None = None


@dataclass(frozen=True, slots=True)
class Bind:
    """The prediction of a create call is known: the generation runs."""

    prediction: Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The prediction was not found, which proves nothing yet: search again."""

    due_at: Instant
    missed_at: Instant | None


@dataclass(frozen=True, slots=True)
class Recreate:
    """The create call is proven to have had no effect: make a new attempt, with a new nonce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider did not take it for now: the same attempt again at `due_at`."""

    due_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """Nobody knows whether the create call had an effect: find out at `due_at`."""

    due_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """Something was out of order just now: take the same step again at `due_at`."""

    due_at: Instant


Observed = Wait | Store | Retry | End
Searched = Bind | Search | Recreate | End


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The circumstances of a look.

    `look_at` is when to look again if nothing else comes, `typical_s` how long this model takes
    for such a speech.
    """

    now: Instant
    traits: ProviderTraits
    policy: Policy
    look_at: Instant
    typical_s: float
    deadline_s: float


def first_deadline(
    created_at: Instant, *, traits: ProviderTraits, deadline_s: float, policy: Policy
) -> Instant:
    """Return when a new generation has taken too long; in a queue its own clock has not started."""
    return after(created_at, policy.queue_max_s if traits.queues else deadline_s)


def stop_of(job: Job, now: Instant) -> Stop | None:
    """Return why and since when a generation is to end, the earliest reason, or None."""
    first: Stop | None = None
    # In this order: of two that come at the same time the customer's own counts.
    asked_at = job.cancel_requested_at
    if asked_at is not None and asked_at <= now:
        first = Stop("cancel", asked_at)
    if job.cancel_after_s is not None:
        cancel_at = after(job.created_at, job.cancel_after_s)
        if cancel_at <= now and (first is None or cancel_at < first.since):
            first = Stop("cancel", cancel_at)
    deadline_at = job.deadline_at
    is_over = deadline_at is not None and deadline_at <= now
    if is_over and deadline_at is not None and (first is None or deadline_at < first.since):
        first = Stop("deadline", deadline_at)
    return first


def before_submit(job: Job, *, now: Instant, traits: ProviderTraits) -> End | None:
    """Return how a generation ends that was never sent, or None when it is to be sent."""
    stop = stop_of(job, now)
    return None if stop is None else end_of(stop, job, traits)


def orphaned(job: Job, *, now: Instant, policy: Policy) -> End | None:
    """Return how a generation ends whose provider is no longer set up, or None while it waits."""
    stop = stop_of(job, now)
    if stop is None or job.state is State.STORING:
        return None
    if now < after(stop.since, policy.cancel_grace_s):
        return None
    return end_of(stop, job, ProviderTraits(name=job.provider, label=job.provider))


def observe(job: Job, seen: Prediction | None, view: View) -> Observed:
    """Decide what follows from a look at a running prediction.

    `seen` is None when the provider did not answer or does not know it.
    """
    stop = stop_of(job, view.now)
    match seen.status if seen is not None else None:
        case PredictionStatus.SUCCEEDED:
            assert seen is not None
            # Also after a cancel or the deadline: a success that wins is delivered and paid.
            return Store(seen.output) if seen.output else _without_output(view.traits)
        case PredictionStatus.FAILED:
            assert seen is not None
            return _after_failure(job, seen, stop, view)
        case PredictionStatus.CANCELED:
            return end_of(stop, job, view.traits) if stop else _canceled_by(view.traits)
    if stop is not None and view.now >= after(stop.since, view.policy.cancel_grace_s):
        # The provider stays silent or goes on: the customer does not wait for it.
        return end_of(stop, job, view.traits)
    due_at = view.look_at if stop is None else after(view.now, view.policy.stop_poll_s)
    return _wait(job, due_at, view) if seen is None else _progress(job, seen, due_at, view)


def end_of(stop: Stop, job: Job, traits: ProviderTraits) -> End:
    """Return the end that a customer's cancel or the deadline brings."""
    if stop.reason == "cancel":
        return End(state=State.CANCELED, release_reason="canceled")
    has_own_clock = traits.queues and job.started_at is not None
    begun_at = (job.started_at if has_own_clock else None) or job.created_at
    spent = span_text((stop.since - begun_at) / SECOND)
    return End(
        state=State.FAILED,
        code="timed_out",
        text=f"Generation timed out after {spent}",
        release_reason="expired",
    )


def failed(code: str, text: str) -> End:
    """Return the end of a generation that failed for this reason."""
    return End(state=State.FAILED, code=code, text=text, release_reason="failed")


def after_submit_error(
    error: ProviderError, *, now: Instant, traits: ProviderTraits, policy: Policy
) -> Refused | Unclear | End:
    """Decide what follows from a create call that raised."""
    if isinstance(error, ProviderRejected):
        return failed(error.code, str(error))
    if isinstance(error, ProviderUnavailable):
        wait_s = min(max(error.retry_after_s, 1.0), policy.refused_max_s)
        return Refused(due_at=after(now, wait_s))
    wait_s = policy.poll_s if traits.submit_is_idempotent else policy.settle_s
    return Unclear(due_at=after(now, wait_s))


def is_open_again(job: Job) -> bool:
    """Whether a generation that waits to be sent has an attempt that runs after all.

    It was refused or counted as absent, and then its callback came, or its input was fetched: to
    send another now would be to pay twice.
    """
    if job.state is not State.CREATED or not job.attempts:
        return False
    attempt = job.attempt
    return attempt.finished_at is None and attempt.state in _MAY_RUN


_MAY_RUN: Final = frozenset({"submitting", "starting", "processing"})


def after_search(
    job: Job, sought: Sought, *, now: Instant, traits: ProviderTraits, policy: Policy
) -> Searched:
    """Decide what follows from a search for the prediction of a create call without an answer.

    It counts as absent when two searches, `settle_s` apart, did not see it, and the first was
    made no earlier than `settle_s` after the call: a list may lag behind. The date alone does not
    prove that so much time has passed, nor does a search without an answer prove anything. Whose
    input was fetched is not absent, whatever the lists say: it is searched for until its time is
    over.
    """
    if sought.found is not None:
        return Bind(sought.found)
    stop = stop_of(job, now)
    if stop is not None:
        since = max(stop.since, job.attempt.submitted_at or job.created_at)
        if now >= after(since, policy.cancel_grace_s):
            return end_of(stop, job, traits)
        return Search(due_at=after(now, policy.stop_poll_s), missed_at=job.attempt.missed_at)
    if not sought.is_answered:
        return _search_again(job, after(now, policy.poll_s), job.attempt.missed_at, now)
    return _after_miss(job, sought.missed_for_s, now=now, traits=traits, policy=policy)


def after_keep_error(
    job: Job, error: SaysoError, *, now: Instant, traits: ProviderTraits, policy: Policy
) -> Later | End:
    """Decide what follows when a video could not be fetched, probed or stored.

    What can heal is tried again, ever less often, for `keep_max_s` after the provider's success.
    """
    match error:
        case OutputLost():
            return failed(error.code, f"{traits.label} no longer has the video")
        case VideoRefused() | VideoUnreadable() | DownloadTooLarge():
            return failed("video_refused", f"The video from {traits.label} cannot be used: {error}")
    since = job.attempt.finished_at or job.created_at
    age_s = (now - since) / SECOND
    if age_s >= policy.keep_max_s:
        return failed("not_stored", f"The video from {traits.label} could not be stored")
    wait_s = min(max(age_s / 2, policy.keep_retry_s), policy.refused_max_s)
    if isinstance(error, ProviderUnavailable):
        wait_s = min(max(wait_s, error.retry_after_s), policy.refused_max_s)
    return Later(due_at=after(now, wait_s))


def no_later_than_stop(
    job: Job, deadline_at: Instant | None, due_at: Instant, now: Instant
) -> Instant:
    """Be there when the deadline or the customer's `Cancel-After` comes."""
    if deadline_at is not None and now < deadline_at < due_at:
        due_at = deadline_at
    if job.cancel_after_s is not None:
        cancel_at = after(job.created_at, job.cancel_after_s)
        if now < cancel_at < due_at:
            due_at = cancel_at
    return due_at


def span_text(seconds: float) -> str:
    """Return a time as a person says it: `10 minutes`, `1 hour`, `90 seconds`."""
    whole = round(seconds)
    for unit, length in (("hour", 3600), ("minute", 60), ("second", 1)):
        if whole % length == 0 and whole >= length:
            count = whole // length
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return "0 seconds"


def _wait(job: Job, due_at: Instant, view: View) -> Wait:
    """Look again at `due_at`, with nothing to tell."""
    return Wait(
        due_at=no_later_than_stop(job, job.deadline_at, due_at, view.now),
        public_status=job.public_status,
        percent=job.percent,
        basis=job.basis,
        stage=job.stage,
        started_at=job.started_at,
        deadline_at=job.deadline_at,
        is_news=False,
    )


def _progress(job: Job, seen: Prediction, due_at: Instant, view: View) -> Wait:
    """Look again at `due_at`, and tell how far it is."""
    started_at, deadline_at = job.started_at, job.deadline_at
    if started_at is None and seen.started_at is not None:
        started_at = seen.started_at
        if view.traits.queues:
            deadline_at = after(started_at, view.deadline_s)
    is_processing = seen.status is PredictionStatus.PROCESSING
    public_status = later_status(job.public_status, "processing" if is_processing else "starting")
    percent, basis = job.percent, job.basis
    if public_status == "processing":
        spent_s = (view.now - (started_at or job.created_at)) / SECOND
        reached, reached_basis = percent_of(seen, spent_s=spent_s, typical_s=view.typical_s)
        if reached > percent:
            percent, basis = reached, reached_basis
    stage = seen.stage or job.stage
    told = (job.public_status, job.percent, job.stage, job.started_at)
    return Wait(
        due_at=no_later_than_stop(job, deadline_at, due_at, view.now),
        public_status=public_status,
        percent=percent,
        basis=basis,
        stage=stage,
        started_at=started_at,
        deadline_at=deadline_at,
        is_news=(public_status, percent, stage, started_at) != told,
        alarm="unknown status" if seen.status is PredictionStatus.UNKNOWN else None,
    )


def _after_failure(job: Job, seen: Prediction, stop: Stop | None, view: View) -> Retry | End:
    failure = seen.failure
    is_late = failure is not None and failure.kind is FailureKind.TIMEOUT
    if stop is not None and (stop.reason == "cancel" or is_late):
        return end_of(stop, job, view.traits)
    if failure is None:
        return failed("provider_error", f"{view.traits.label} could not make the video")
    # The attempt that has just failed is not among them yet.
    new_attempts = job.count("failed")
    is_worth_it = failure.kind is FailureKind.TRANSIENT and stop is None
    if is_worth_it and new_attempts < view.policy.new_attempts:
        return Retry(due_at=after(view.now, view.policy.retry_s * 4**new_attempts))
    return failed(failure.code, failure.text)


def _after_miss(
    job: Job, missed_for_s: float, *, now: Instant, traits: ProviderTraits, policy: Policy
) -> Searched:
    is_fetched = job.attempt.fetched_at is not None
    missed_at = job.attempt.missed_at
    settled_at = after(job.attempt.submitted_at or job.created_at, policy.settle_s)
    if missed_at is None and now < settled_at:
        return _search_again(job, settled_at, None, now)
    proven_at = after(missed_at or now, policy.settle_s)
    if now >= proven_at and missed_for_s >= policy.settle_s and not is_fetched:
        return _recreate(job, traits, policy)
    left_s = policy.settle_s if is_fetched else policy.settle_s - missed_for_s
    due_at = max(proven_at, after(now, max(left_s, policy.stop_poll_s)))
    return _search_again(job, due_at, missed_at or now, now)


def _search_again(job: Job, due_at: Instant, missed_at: Instant | None, now: Instant) -> Search:
    return Search(due_at=no_later_than_stop(job, job.deadline_at, due_at, now), missed_at=missed_at)


def _recreate(job: Job, traits: ProviderTraits, policy: Policy) -> Recreate | End:
    # The attempt that has just proved absent is not among them yet.
    if job.count("absent") + 1 >= policy.lost_creates:
        return failed("provider_error", f"{traits.label} did not take the generation")
    return Recreate()


def _without_output(traits: ProviderTraits) -> End:
    return failed("no_output", f"No video URL returned from {traits.label}")


def _canceled_by(traits: ProviderTraits) -> End:
    return failed("provider_error", f"{traits.label} canceled the generation")
