"""How often the upstream may be called: evenly filled buckets, and the headers that tell of them.

600 creates a minute and 3,000 other calls, of which looks at single predictions have a bucket of
60,000 (the headers of recorded answers); with little credit six creates a minute, one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

BucketName = Literal["create", "look", "other", "low credit"]

# What a bucket holds, and what it gains in a second.
_SIZES: Final[dict[BucketName, tuple[int, float]]] = {
    "create": (600, 10),
    "look": (60_000, 1000),
    "other": (3000, 50),
    "low credit": (1, 0.1),
}


@dataclass(slots=True)
class _Bucket:
    left: float
    filled_at_s: float


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether a call may pass: `wait_s` is 0 where it may."""

    remaining: int
    wait_s: int


class Buckets:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._buckets: dict[BucketName, _Bucket] = {}

    def take(self, name: BucketName, *, now_s: float) -> Taken:
        """Count one call."""
        size, per_s = _SIZES[name]
        bucket = self._buckets.setdefault(name, _Bucket(size, now_s))
        bucket.left = min(size, bucket.left + max(0.0, now_s - bucket.filled_at_s) * per_s)
        bucket.filled_at_s = now_s
        if bucket.left < 1:
            return Taken(remaining=0, wait_s=max(1, ceil((1 - bucket.left) / per_s)))
        bucket.left -= 1
        return Taken(remaining=int(bucket.left), wait_s=0)
