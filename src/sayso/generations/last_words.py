"""What a provider that calls back said last, which serves the looks between its callbacks.

    LastWords.of()     its last word on a prediction, None when it has to be asked
    LastWords.hear()   keep a new one

It has to be asked when a callback has come since, when the prediction ought to be done by now, and
from then on every `ask_s`. One that has ended without a callback shows that they do not arrive:
for a while it is asked at each look, as one that does not call back.

All of this is memory of one process, and no decision rests on it: another process asks for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from sayso.clock import Clock, Instant
from sayso.generations.rules import Job
from sayso.ids import Nonce
from sayso.providers.base import Prediction

log = structlog.get_logger()

# To forget them all only asks again.
_MOST: Final = 20_000
_DISTRUST_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Word:
    """What was said, when, and which callback was known by then."""

    prediction: Prediction
    at: Instant
    at_s: float
    called_at: Instant | None


class LastWords:
    """See the module's docstring. `ask_s` is None for a provider that does not call back."""

    def __init__(self, clock: Clock, *, provider: str, ask_s: float | None) -> None:
        self._clock = clock
        self._provider = provider
        self._ask_s = ask_s
        self._words: dict[Nonce, _Word] = {}
        self._distrust_until_s = 0.0

    def of(self, job: Job, *, done_by: Instant) -> Prediction | None:
        """Return what was said last of a prediction that ought to be done by then."""
        word = self._words.get(job.attempt.nonce)
        now_s = self._clock.monotonic_s()
        if word is None or self._ask_s is None or now_s < self._distrust_until_s:
            return None
        if word.called_at != job.attempt.called_at:
            return None
        is_late = self._clock.now() >= done_by
        if is_late and (word.at < done_by or now_s - word.at_s >= self._ask_s):
            return None
        return word.prediction

    def hear(self, job: Job, said: Prediction) -> None:
        """Keep what was said; an end that no callback told of is a reason to ask more often."""
        if self._ask_s is None:
            return
        before = self._words.pop(job.attempt.nonce, None)
        now_s = self._clock.monotonic_s()
        if said.status.is_final:
            if before is not None and before.called_at == job.attempt.called_at:
                self._distrust_until_s = now_s + _DISTRUST_S
                log.warning("no callback told of an end", provider=self._provider, id=job.id)
            return
        if len(self._words) >= _MOST:
            self._words.clear()
        word = _Word(said, self._clock.now(), now_s, job.attempt.called_at)
        self._words[job.attempt.nonce] = word

    def forget(self, job: Job) -> None:
        """Ask at the next look; the prediction is to end, or nobody waits for it any more."""
        self._words.pop(job.attempt.nonce, None)
