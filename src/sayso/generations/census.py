"""How many generations there are and how long they have waited, for an operator's alarms.

census()    what is not over yet, by model and state
Ended       how generations ended in this process, and what was captured for them
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import func, select

from sayso.clock import SECOND, Instant
from sayso.db.tables import generations
from sayso.db.tx import Tx
from sayso.generations.rules import End, State
from sayso.generations.written import Step

g = generations.c


@dataclass(frozen=True, slots=True)
class Standing:
    """Generations of one model in one state; `oldest_s` is how long ago the first was ordered."""

    model: str
    state: str
    count: int
    oldest_s: float


def census(tx: Tx, *, now: Instant) -> list[Standing]:
    """Return what is not over yet; it reads only the rows that are."""
    return [
        Standing(model, state, count, max(now - oldest_at, 0) / SECOND)
        for model, state, count, oldest_at in tx.execute(_CENSUS)
    ]


_CENSUS: Final = (
    select(g.model, g.state, func.count(), func.min(g.created_at))
    .where(g.due_at.is_not(None))
    .group_by(g.model, g.state)
)


@dataclass(slots=True)
class Ended:
    """Counts since this process began."""

    counts: Counter[tuple[str, State]] = field(default_factory=Counter)
    """By model and final state."""
    captured_micros: int = 0

    def add(self, steps: Iterable[Step]) -> None:
        """Count the ends among steps that were written."""
        for step in steps:
            if not isinstance(step.outcome, End):
                continue
            state = step.outcome.state
            self.counts[step.job.model, state] += 1
            if state is State.SUCCEEDED:
                self.captured_micros += step.job.price_micros
