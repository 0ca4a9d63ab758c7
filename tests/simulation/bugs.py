"""Bugs that somebody might write one day; each has to be caught by the judge in a few seeds.

BUGS    by name: a context in which the service has the bug

Without them a simulation that finds nothing would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, Final

import pytest
from sqlalchemy import update

from sayso.clock import after
from sayso.credits import store as ledger
from sayso.credits.rules import capturing
from sayso.db.tables import generations
from sayso.errors import ProviderTimedOut, ProviderUnavailable
from sayso.generations import claims, evidence, rules, steps, store, sweep
from sayso.generations.rules import Recreate, Refused
from sayso.generations.written import KeptVideo
from sayso.ids import HoldId
from sayso.providers import replicate, replicate_reading
from sayso.providers.base import PredictionStatus
from tests.simulation.process import SimulatedKeeper

Patch = pytest.MonkeyPatch
Bug = Callable[[], AbstractContextManager[None]]


def _bug(put: Callable[[Patch], None]) -> Bug:
    @contextmanager
    def with_bug() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            put(patch)
            yield

    return with_bug


def _blind_resend(patch: Patch) -> None:
    """A create call without an answer is sent again, as most clients do."""
    usual = rules.after_submit_error

    def after_submit_error(error: Any, **circumstances: Any) -> Any:
        if isinstance(error, ProviderTimedOut):
            return Refused(due_at=after(circumstances["now"], 5))
        return usual(error, **circumstances)

    patch.setattr("sayso.generations.lane.after_submit_error", after_submit_error)


def _absent_at_first_sight(patch: Patch) -> None:
    """One search that finds nothing is taken for proof."""
    usual = rules.after_search

    def after_search(job: Any, sought: Any, **circumstances: Any) -> Any:
        decided = usual(job, sought, **circumstances)
        is_miss = isinstance(decided, rules.Search) and sought.is_answered
        return Recreate() if is_miss else decided

    patch.setattr("sayso.generations.lane.after_search", after_search)


def _silence_is_absence(patch: Patch) -> None:
    """A search that fails counts as one that found nothing."""
    usual = rules.after_search

    def after_search(job: Any, sought: Any, **circumstances: Any) -> Any:
        return usual(job, replace(sought, is_answered=True, missed_for_s=1e9), **circumstances)

    patch.setattr("sayso.generations.lane.after_search", after_search)


def _capture_without_store(patch: Patch) -> None:
    """A video counts as stored when its provider has it."""

    async def keep(self: SimulatedKeeper, job: Any, provider: Any) -> Any:
        digest = f"{sum(map(ord, job.id)):064x}"
        return KeptVideo(
            id=f"video-{job.id}",  # type: ignore[arg-type]  # The text of an id.
            key=f"alice/video/{job.id}.mp4",
            sha256=digest + job.id,
            size_bytes=1,
            facts={},
        )

    patch.setattr(SimulatedKeeper, "keep", keep)


def _callback_settles(patch: Patch) -> None:
    """A callback is believed: it captures the hold of its generation."""
    usual = evidence._let_look

    def let_look(tx: Any, attempt: Any, provider_id: Any, now: Any) -> None:
        usual(tx, attempt, provider_id, now)
        hold = ledger.hold_of(tx, attempt.generation_id)
        if hold is not None and hold.closed_at is None:
            ledger.capture(tx, hold_id=HoldId(hold.id), amount=hold.amount, at=now)

    patch.setattr(evidence, "_let_look", let_look)


def _failures_are_charged(patch: Patch) -> None:
    """Every end captures."""
    patch.setattr(steps, "_settlement", lambda _end, price: capturing(price))


def _holds_are_forgotten(patch: Patch) -> None:
    """What is canceled keeps its hold."""
    usual = steps.settle

    def settle(tx: Any, ends: Any, **when: Any) -> None:
        usual(tx, [one for one in ends if one.end.state is not rules.State.CANCELED], **when)

    patch.setattr(steps, "settle", settle)


def _nobody_sweeps(patch: Patch) -> None:
    """Nobody looks for what still runs after its generation has ended."""

    async def run(self: sweep.Sweep) -> None:
        """Do nothing."""

    patch.setattr(sweep.Sweep, "run", run)


def _losses_are_not_booked(patch: Patch) -> None:
    """What an attempt cost and nobody pays is forgotten."""
    patch.setattr(steps, "book_loss", lambda *_: None)
    patch.setattr("sayso.generations.strays.book_loss", lambda *_: None)


def _keys_are_not_kept(patch: Patch) -> None:
    """An `Idempotency-Key` stands for nothing."""
    patch.setattr(store, "reserve", lambda *_args, **_keywords: None)
    patch.setattr(store, "_bind_key", lambda *_: None)


def _answers_need_the_claim(patch: Patch) -> None:
    """The answer of a create call is dropped, the generation runs with nothing."""

    def record_answers(tx: Any, answers: Any, now: Any) -> None:
        """Write nothing."""

    patch.setattr(steps, "_record_answers", record_answers)


def _intent_after_the_call(patch: Patch) -> None:
    """An attempt that was out when its process died is sent again."""
    usual = claims.claim

    def claim(tx: Any, **what: Any) -> Any:
        jobs = usual(tx, **what)
        if what["state"] is rules.State.SUBMITTING:
            tx.execute(
                update(generations)
                .where(generations.c.id.in_([job.id for job in jobs]))
                .values(state="created", due_at=what["now"], lease_until=0)
            )
            return []
        return jobs

    patch.setattr(claims, "claim", claim)
    patch.setattr("sayso.reconciler.is_open_again", lambda _job: False)


def _refused_is_sent(patch: Patch) -> None:
    """Half an answer counts as a refusal."""
    usual = replicate.ReplicateProvider.submit

    async def submit(self: Any, attempt: Any, inputs: Any) -> Any:
        try:
            return await usual(self, attempt, inputs)
        except ProviderTimedOut as error:
            raise ProviderUnavailable(str(error), retry_after_s=5) from error

    patch.setattr(replicate.ReplicateProvider, "submit", submit)


def _aborted_is_waited_for(patch: Patch) -> None:
    """What the provider gave up before it began counts as not begun yet."""
    waiting = {**replicate_reading._STATUSES, "aborted": PredictionStatus.STARTING}
    patch.setattr(replicate_reading, "_STATUSES", waiting)


BUGS: Final[Mapping[str, Bug]] = {
    put.__name__.removeprefix("_").replace("_", "-"): _bug(put)
    for put in (
        _blind_resend,
        _absent_at_first_sight,
        _silence_is_absence,
        _capture_without_store,
        _callback_settles,
        _failures_are_charged,
        _holds_are_forgotten,
        _nobody_sweeps,
        _losses_are_not_booked,
        _keys_are_not_kept,
        _answers_need_the_claim,
        _intent_after_the_call,
        _refused_is_sent,
        _aborted_is_waited_for,
    )
}
