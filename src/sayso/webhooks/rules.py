"""Which webhook a change makes, and when a failed delivery is tried again. Pure.

    event_of()         the event to tell of, if any
    retry_after_s()    how long until the next attempt, or None when it was the last

As Replicate does it (its documents' "receive webhooks"): `start` and `completed` come once each,
`logs` at most twice a second, and only the last event of a generation is tried again, because what
the earlier ones say is overtaken by then. One change is one delivery, under its weightiest event.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from sayso.clock import SECOND, Instant

Event = Literal["start", "output", "logs", "completed"]

DEFAULT_EVENTS: Final[tuple[Event, ...]] = ("output", "completed")
"""What is told where the customer names no events."""

LAST_EVENTS: Final[frozenset[str]] = frozenset({"output", "completed"})
"""The events of a generation that has ended; here a video comes as a whole."""

TRIES: Final = 20
"""Attempts for such an event: they span about eight hours."""

_FIRST_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 3_600.0
_LOGS_APART: Final = SECOND // 2


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a customer has been told of a generation so far."""

    events: frozenset[str] = frozenset()
    logs: str = ""
    at: Instant | None = None


def event_of(
    wanted: Collection[Event], *, status: str, logs: str, told: Told, now: Instant
) -> Event | None:
    """Return the event that a changed generation is told of, or None.

    `status` is the public one. What comes after the last event is not told.
    """
    if told.events & LAST_EVENTS:
        return None
    if status in {"succeeded", "failed", "canceled"}:
        if "completed" in wanted:
            return "completed"
        return "output" if status == "succeeded" and "output" in wanted else None
    if status != "processing":
        return None
    if "start" in wanted and "start" not in told.events:
        return "start"
    is_soon = told.at is not None and now < told.at + _LOGS_APART
    return "logs" if "logs" in wanted and logs != told.logs and not is_soon else None


def retry_after_s(event: str, *, attempts: int) -> float | None:
    """Return how long to wait after so many failed attempts; None to give up."""
    if event not in LAST_EVENTS or attempts >= TRIES:
        return None
    return min(_FIRST_RETRY_S * 2.0 ** (attempts - 1), _LONGEST_RETRY_S)
