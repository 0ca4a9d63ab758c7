"""Where a list of generations goes on: the time and the id of the last one that was shown.

Text that a client hands back to us, so it is read like any input: what is not exactly of this form
is none of ours. With `BACK` before it, it leads to newer ones.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from sayso.clock import Instant
from sayso.errors import OptionInvalid

BACK: Final = "-"

_ID: Final = re.compile(r"[0-9a-z]{0,40}")
_LATEST: Final = 2**63 - 1  # What both databases hold.


def to_cursor(created_at: Instant, identifier: str) -> str:
    """Return the text for a place in the list."""
    text = json.dumps([created_at, identifier], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def from_cursor(cursor: str) -> tuple[Instant, str]:
    """Return the place that a text names; raise `OptionInvalid` for one that is none of ours."""
    try:
        place = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        place = None
    match place:
        case [int(created_at), str(identifier)] if (
            not isinstance(created_at, bool)
            and 0 <= created_at <= _LATEST
            and _ID.fullmatch(identifier)
        ):
            return Instant(created_at), identifier
    raise OptionInvalid("The cursor is not one that we gave.")
