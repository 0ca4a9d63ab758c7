"""Time: one kind of instant, one protocol to ask for it.

An `Instant` is a whole number of microseconds since 1970-01-01 00:00 UTC. It is what every `*_at`
and `*_until` column holds: exact on both databases, compared and added as an integer, and read by a
driver without conversion. `iso` gives the text that the doors send.

Nothing but this module asks the system for the date. Everything that depends on time takes a
`Clock`; tests hand in a `SettableClock` and never sleep.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final, NewType, Protocol

Instant = NewType("Instant", int)
"""Microseconds since the epoch, UTC."""

SECOND: Final = 1_000_000
"""Microseconds in a second: `later = now + 5 * SECOND`."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What the service asks for the time."""

    def now(self) -> Instant:
        """Return the present instant; it may jump when the system's clock is set."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards, for measuring durations."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> Instant:
        """Return the present instant."""
        return Instant(time.time_ns() // 1_000)

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()


class SettableClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now: Instant | None = None) -> None:
        self._now = now if now is not None else from_datetime(datetime(2026, 1, 1, tzinfo=UTC))
        self._monotonic_s = 0.0

    def now(self) -> Instant:
        """Return the instant it was set to."""
        return self._now

    def monotonic_s(self) -> float:
        """Return the seconds that `advance` has added up."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let time pass: both readings move."""
        if seconds < 0:
            raise ValueError("time passes forwards; `jump` sets the date back")
        self._now = after(self._now, seconds)
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the date forwards or back, as an administrator does; durations are not touched."""
        self._now = after(self._now, seconds)


def after(instant: Instant, seconds: float) -> Instant:
    """Return the instant so many seconds later (earlier when negative)."""
    return Instant(instant + round(seconds * SECOND))


def from_datetime(moment: datetime) -> Instant:
    """Return the instant of an aware `datetime`, exactly."""
    if moment.tzinfo is None:
        raise ValueError("a datetime without a time zone is not an instant")
    return Instant((moment - EPOCH) // timedelta(microseconds=1))


def to_datetime(instant: Instant) -> datetime:
    """Return the instant as a `datetime` in UTC, exactly."""
    return EPOCH + timedelta(microseconds=instant)


def iso(instant: Instant) -> str:
    """Return the instant as ISO 8601 in UTC with microseconds: `2026-01-31T09:08:07.123456Z`."""
    return to_datetime(instant).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
