"""What becomes of one call: faults by kind of call, the next ones by name or a part of all.

Fault           the faults; `has_effect` says whether the call was heard
Faults          which call gets which
"""

from __future__ import annotations

from collections import defaultdict, deque
from enum import StrEnum
from random import Random
from typing import Final, Literal

CallKind = Literal[
    "create", "read", "list", "cancel", "model", "file", "account", "secret", "output", "any"
]


class Fault(StrEnum):
    """What becomes of a call. `_AFTER` and `SLOW` are heard: a prediction is created."""

    UNREACHABLE = "unreachable"
    """No connection at all; over real HTTP a client is pointed at a closed port instead."""
    RESET_BEFORE = "reset_before"
    """The connection is cut before the request was read."""
    RESET_AFTER = "reset_after"
    """The request was taken, then the connection is cut."""
    SLOW = "slow"
    """Taken, but the answer comes later than anybody waits."""
    LOST = "lost"
    """Never heard, never answered."""
    CUT = "cut"
    """Taken; the answer stops in the middle of its body."""
    BAD_JSON = "bad_json"
    """Taken; the answer is whole as HTTP and half as JSON."""
    HTML_502 = "html_502"
    """A gateway's page; nothing was taken."""
    HTML_502_AFTER = "html_502_after"
    """A gateway's page; the request was taken all the same."""
    HTML_503 = "html_503"
    HTML_504_AFTER = "html_504_after"
    ERROR_500 = "error_500"
    ERROR_500_AFTER = "error_500_after"
    THROTTLED = "throttled"
    """429 with seconds in its text alone, as the documents show it."""
    REDIRECT = "redirect"
    """To another host, which must not be given the token."""
    EMPTY = "empty"
    """200 without a body."""

    @property
    def has_effect(self) -> bool:
        """Whether the request is carried out."""
        return self in _HEARD


_HEARD: Final = frozenset(
    {
        Fault.RESET_AFTER,
        Fault.SLOW,
        Fault.CUT,
        Fault.BAD_JSON,
        Fault.HTML_502_AFTER,
        Fault.HTML_504_AFTER,
        Fault.ERROR_500_AFTER,
    }
)


class Faults:
    """See the module's docstring; `random` decides where a fault has a chance only."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._next: defaultdict[CallKind, deque[Fault | None]] = defaultdict(deque)
        self._chances: defaultdict[CallKind, dict[Fault, float]] = defaultdict(dict)

    def add(self, kind: CallKind, *faults: Fault | None) -> None:
        """Let the next calls of this kind fail so, in this order; None is one that does not."""
        self._next[kind].extend(faults)

    def chance(self, kind: CallKind, fault: Fault, part: float) -> None:
        """Let this part of all such calls fail so; 0 ends it."""
        self._chances[kind][fault] = part

    def clear(self) -> None:
        """Forget all of them."""
        self._next.clear()
        self._chances.clear()

    def draw(self, kind: CallKind) -> Fault | None:
        """Return what becomes of a call of this kind."""
        both: tuple[CallKind, CallKind] = (kind, "any")
        for name in both:
            if self._next[name]:
                return self._next[name].popleft()
        for name in both:
            chances = self._chances[name]
            if chances:
                drawn = self._random.random()
                for fault, part in chances.items():
                    drawn -= part
                    if drawn < 0:
                        return fault
        return None
