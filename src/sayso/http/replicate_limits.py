"""How much one account may ask of `/v1` in a minute, as Replicate's documents have it.

    RateLimits.take()   one request: whether it may pass, and what is left
    Allowance           the answer, with the headers that every answer of `/v1` carries

600 creates a minute, 3,000 other requests, and 60,000 looks at a prediction: what the real service
grants (its documents' "rate limits", and the headers of its recorded answers). A bucket fills
evenly, so a short burst passes. Each process counts for itself: N of them let N times as much pass.
It paces clients; what must not be exceeded, credits and queues, is counted in the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

from sayso.ids import AccountId

RequestKind = Literal["create", "look", "other"]

_PER_MINUTE: Final[dict[RequestKind, int]] = {"create": 600, "look": 60_000, "other": 3_000}
_MINUTE_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What is left after a request; `retry_after_s` is 0 where it may pass."""

    remaining: int
    reset_s: int
    retry_after_s: int

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that tell it."""
        return {
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(self.reset_s),
        }


@dataclass(slots=True)
class _Bucket:
    left: float
    filled_at_s: float


class RateLimits:
    """The buckets of one process."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[AccountId, RequestKind], _Bucket] = {}

    def take(self, account_id: AccountId, kind: RequestKind, *, now_s: float) -> Allowance:
        """Count one request; `now_s` is a monotonic clock's reading."""
        capacity = _PER_MINUTE[kind]
        per_s = capacity / _MINUTE_S
        bucket = self._buckets.setdefault((account_id, kind), _Bucket(capacity, now_s))
        bucket.left = min(capacity, bucket.left + (now_s - bucket.filled_at_s) * per_s)
        bucket.filled_at_s = now_s
        if bucket.left < 1:
            wait_s = max(1, ceil((1 - bucket.left) / per_s))
            return Allowance(remaining=0, reset_s=wait_s, retry_after_s=wait_s)
        bucket.left -= 1
        return Allowance(remaining=int(bucket.left), reset_s=1, retry_after_s=0)
