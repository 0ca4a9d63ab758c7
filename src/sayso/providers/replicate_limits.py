"""How often Replicate may be called, and when it may not be called at all.

    CallLimits     asked before each call, told of each answer
    TokenBucket    calls a minute with a burst; what Replicate's answers say makes it stricter
    Breaker        stops calling while nothing works, and lets one call at a time try again
    Pause          creates wait, ever longer, while Replicate refuses our token or our money

Nothing here sleeps: what may not be called now is refused with the seconds to wait, so that the
generation waits in its row and not in a task. All of it counts on the clock's monotonic seconds.
Source of the limits: https://replicate.com/docs/topics/predictions/rate-limits
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from sayso.clock import Clock

CallKind = Literal["create", "other"]

CREATES_PER_MIN: Final = 600
OTHERS_PER_MIN: Final = 3_000

# Calls that may come at once, as a share of a minute's: short bursts are allowed.
_BURST: Final = 1 / 6

# Answers that count as an outage, in a row, before the breaker opens.
FAILURES_TO_OPEN: Final = 5
_OPEN_S: Final = 5.0
_OPEN_MAX_S: Final = 60.0
# A probe that never comes back does not keep the breaker half open.
_PROBE_S: Final = 60.0

_PAUSE_S: Final = 30.0
_PAUSE_MAX_S: Final = 300.0

# Longest wait that we believe an answer; a limit of ours is only ever made stricter for so long.
_RETRY_MAX_S: Final = 300.0
_STRICT_S: Final = 600.0
_RETRY_DEFAULT_S: Final = 5.0

# "... reduced to 6 requests per minute with a burst of 1 requests while you have less than ..."
_REDUCED: Final = re.compile(r"reduced to (\d{1,5}) requests? per minute with a burst of (\d{1,5})")
# "... Your rate limit resets in ~30s."
_RESETS_IN: Final = re.compile(r"resets in ~?(\d{1,5}(?:\.\d+)?) ?s")


class TokenBucket:
    """Calls a minute with a burst; callers that are refused are told different times."""

    def __init__(self, clock: Clock, *, per_min: float) -> None:
        self._clock = clock
        self._full = _Rate(per_s=per_min / 60, burst=max(per_min * _BURST, 1.0))
        self._rate = self._full
        self._strict_until_s = 0.0
        self._tokens = self._full.burst
        self._refused = 0.0
        self._counted_at_s = clock.monotonic_s()
        self._shut_until_s = 0.0

    def take(self) -> float:
        """Take a call and return 0.0, or return the seconds after which to ask again.

        Each caller that is refused gets a later time than the one before, so that they come back
        one by one.
        """
        now_s = self._count()
        if self._tokens >= 1 and now_s >= self._shut_until_s:
            self._tokens -= 1
            return 0.0
        missing = max(1 - self._tokens, 0.0) + self._refused
        self._refused += 1
        wait_s = max(self._shut_until_s - now_s, 0.0) + missing / self._rate.per_s
        return min(wait_s, _RETRY_MAX_S)

    def remaining(self, count: int, *, reset_s: float) -> None:
        """Believe an answer that says how many calls are left, and for how long."""
        now_s = self._count()
        self._tokens = min(self._tokens, float(count))
        if count <= 0:
            self._shut_until_s = max(self._shut_until_s, now_s + min(reset_s, _RETRY_MAX_S))

    def throttled(self, retry_after_s: float) -> None:
        """Take no call until the time that a 429 names."""
        now_s = self._count()
        self._tokens = min(self._tokens, 1.0)
        self._shut_until_s = max(self._shut_until_s, now_s + min(retry_after_s, _RETRY_MAX_S))

    def reduce(self, *, per_min: float, burst: float) -> None:
        """Keep to a stricter limit for a while; the next 429 renews it."""
        now_s = self._count()
        self._rate = _Rate(per_s=max(per_min, 1.0) / 60, burst=max(burst, 1.0))
        self._tokens = min(self._tokens, self._rate.burst)
        self._strict_until_s = now_s + _STRICT_S

    def _count(self) -> float:
        """Add what time has brought, and return the time."""
        now_s = self._clock.monotonic_s()
        gained = max(now_s - self._counted_at_s, 0.0) * self._rate.per_s
        self._counted_at_s = now_s
        self._tokens = min(self._tokens + gained, self._rate.burst)
        self._refused = max(self._refused - gained, 0.0)
        if now_s >= self._strict_until_s:
            self._rate = self._full
        return now_s


@dataclass(frozen=True, slots=True)
class _Rate:
    per_s: float
    burst: float


class Breaker:
    """Opens after failures in a row; half open, it lets one call at a time find out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._open_s = _OPEN_S
        self._open_until_s = 0.0
        self._probe_until_s = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether nothing seems to be wrong."""
        return self._failures < FAILURES_TO_OPEN

    def ask(self) -> float:
        """Return 0.0 for a call that may be made, else the seconds after which to ask again."""
        if self.is_closed:
            return 0.0
        now_s = self._clock.monotonic_s()
        if now_s < self._open_until_s:
            return self._open_until_s - now_s
        if now_s < self._probe_until_s:
            # Somebody is finding out just now.
            return min(self._probe_until_s - now_s, _OPEN_S)
        self._probe_until_s = now_s + _PROBE_S
        return 0.0

    def worked(self) -> None:
        """Close: an answer came that makes sense."""
        self._failures, self._open_s, self._probe_until_s = 0, _OPEN_S, 0.0

    def failed(self) -> bool:
        """Count a failure; return whether this one opened the breaker."""
        was_closed = self.is_closed
        self._failures += 1
        if self.is_closed:
            return False
        self._probe_until_s = 0.0
        self._open_until_s = self._clock.monotonic_s() + self._open_s
        self._open_s = min(self._open_s * 2, _OPEN_MAX_S)
        return was_closed


class Pause:
    """Creates wait, ever longer, until one of them works again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wait_s = _PAUSE_S
        self._until_s = 0.0
        self._is_trying = False
        self.reason: str | None = None

    def ask(self) -> float:
        """Return 0.0 for a create that may be made, else the seconds after which to ask again.

        When the wait is over one create tries; the others wait for what becomes of it.
        """
        if self.reason is None:
            return 0.0
        now_s = self._clock.monotonic_s()
        if now_s < self._until_s:
            return self._until_s - now_s
        self._until_s = now_s + self._wait_s
        self._is_trying = True
        return 0.0

    def begin(self, reason: str) -> float:
        """Pause, or go on pausing, and return for how long.

        Only a create that tried makes the pause longer; whatever else is refused meanwhile does
        not.
        """
        now_s = self._clock.monotonic_s()
        if self.reason is not None and not self._is_trying and now_s < self._until_s:
            return self._until_s - now_s
        if self.reason is not None:
            self._wait_s = min(self._wait_s * 2, _PAUSE_MAX_S)
        self.reason, self._is_trying = reason, False
        self._until_s = now_s + self._wait_s
        return self._wait_s

    def end(self) -> bool:
        """End the pause; return whether there was one."""
        was_paused = self.reason is not None
        self.reason, self._wait_s, self._until_s = None, _PAUSE_S, 0.0
        self._is_trying = False
        return was_paused


class CallLimits:
    """See the module's docstring."""

    def __init__(self, clock: Clock) -> None:
        self.breaker = Breaker(clock)
        self.pause = Pause(clock)
        self._buckets: dict[CallKind, TokenBucket] = {
            "create": TokenBucket(clock, per_min=CREATES_PER_MIN),
            "other": TokenBucket(clock, per_min=OTHERS_PER_MIN),
        }

    def ask(self, kind: CallKind) -> float:
        """Return 0.0 for a call that may be made now, else the seconds after which to ask again."""
        wait_s = self._buckets[kind].take()
        return wait_s or self.breaker.ask()

    def counted(self, kind: CallKind, *, remaining: str | None, reset: str | None) -> None:
        """Believe the `ratelimit-*` headers of an answer."""
        if remaining is not None and remaining.isdecimal():
            reset_s = float(reset) if reset is not None and reset.isdecimal() else 1.0
            self._buckets[kind].remaining(int(remaining[:9]), reset_s=reset_s)

    def throttled(self, kind: CallKind, *, detail: str, stated_s: float | None) -> float:
        """Believe a 429, and return the seconds after which to try again.

        `stated_s` is what a field or a header says; else the sentence does.
        """
        said = _RESETS_IN.search(detail)
        wait_s = stated_s if stated_s is not None else float(said[1]) if said else _RETRY_DEFAULT_S
        wait_s = min(max(wait_s, 1.0), _RETRY_MAX_S)
        bucket = self._buckets[kind]
        reduced = is_low_on_credit(detail)
        if reduced is not None:
            bucket.reduce(per_min=reduced[0], burst=reduced[1])
        bucket.throttled(wait_s)
        return max(bucket.take(), wait_s)


def is_low_on_credit(detail: str) -> tuple[int, int] | None:
    """Return the calls a minute and the burst that a 429 for little credit leaves us, or None."""
    match = _REDUCED.search(detail)
    return None if match is None else (int(match[1]), int(match[2]))
