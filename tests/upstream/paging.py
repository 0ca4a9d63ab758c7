"""Lists in pieces, newest first: cursors that say from which time, and how many of that time.

A cursor is what the real service hands out: base 64 of `p=<time>` with `r=1` for the way back, and
`o=<number>` where several things have the same time.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from sayso.clock import Instant
from tests.upstream.runs import Running


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a list, and the cursors of its neighbours."""

    items: Sequence[Running]
    next: str | None
    previous: str | None


def page_of(oldest_first: Sequence[Running], cursor: str | None, *, size: int) -> Page | None:
    """Return the piece that a cursor names, the first one without; None for a senseless cursor."""
    low, high = 0, len(oldest_first)
    if cursor is not None:
        read = _read(cursor)
        if read is None:
            return None
        place, offset, is_back = read
        if is_back:
            low = min(high, bisect_left(oldest_first, place, key=_time) + offset)
            high = min(high, low + size)
        else:
            high = max(0, bisect_right(oldest_first, place, key=_time) - offset)
    low = max(low, high - size)
    items = oldest_first[low:high][::-1]
    following = previous = None
    if items and low > 0:
        last = items[-1].created_at
        following = _write(last, bisect_right(oldest_first, last, key=_time) - low)
    if items and high < len(oldest_first):
        first = items[0].created_at
        before = bisect_left(oldest_first, first, key=_time)
        previous = _write(first, high - before, is_back=True)
    return Page(items, following, previous)


def _time(running: Running) -> Instant:
    return running.created_at


def _write(place: Instant, offset: int, *, is_back: bool = False) -> str:
    query = {"r": 1} if is_back else {}
    text = urlencode({**query, "o": offset, "p": place})
    return b64encode(text.encode()).decode()


def _read(cursor: str) -> tuple[Instant, int, bool] | None:
    try:
        query = parse_qs(b64decode(cursor, validate=True).decode())
        return Instant(int(query["p"][0])), int(query["o"][0]), "r" in query
    except (ValueError, KeyError):
        return None
