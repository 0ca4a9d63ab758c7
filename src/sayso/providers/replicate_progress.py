"""How far a prediction is, as its model prints it; and logs as customers may see them.

    percent_of()   from the last line that counts: a tqdm bar, `frame 45/100`, `Step 3 of 20`
    shown_logs()   the end of the logs, without addresses and secrets

Models print what they like. A bar that counts a download or the loading of weights says nothing of
the rendering and is passed over; a model that starts a new bar for each chunk seems to go back,
which the rules of a generation hide.
"""

from __future__ import annotations

import re
from typing import Final

_TAIL: Final = 8_000
_SHOWN: Final = 4_000
_LONGEST_LINE: Final = 400

# ` 45%|####      | 45/100 [00:12<00:15]`: the bar is what makes a percentage a tqdm.
_BAR: Final = re.compile(r"(\d{1,3})%\|")
_COUNT: Final = re.compile(
    r"\b(?:frames?|steps?|chunks?|segments?|clips?|batch(?:es)?|iterations?)\b"
    r"\s*[:#=]?\s*(\d{1,6})\s*(?:/|of)\s*(\d{1,6})\b",
    re.IGNORECASE,
)
_NOT_RENDERING: Final = re.compile(
    r"load|download|fetch|checkpoint|shard|weight|extract|unpack|install|it/s\] *warm",
    re.IGNORECASE,
)

# A terminal's line is overwritten after a carriage return.
_LINE_END: Final = re.compile(r"[\r\n]+")
_ADDRESS: Final = re.compile(r"(?:https?|data|s3|gs):[^\s\"'<>)\]]+", re.IGNORECASE)
_SECRET: Final = re.compile(
    r"\b(?:r8|sk|hf|whsec|ghp|xoxb|AKIA)[_-]?[A-Za-z0-9+/_=-]{16,}|\bBearer\s+\S+|\beyJ[\w.-]{20,}"
)
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def percent_of(logs: str | None) -> int | None:
    """Return how many per cent are rendered by the last line that says so, None where none does."""
    if not logs:
        return None
    for line in reversed(_LINE_END.split(logs[-_TAIL:])):
        percent = _percent_in(line[-_LONGEST_LINE:])
        if percent is not None:
            return percent
    return None


def shown_logs(logs: str | None) -> str | None:
    """Return the end of the logs for customers: no addresses, no secrets, no control characters."""
    if not logs:
        return None
    # More than is shown, so that a secret is seen whole before the cut.
    text = logs[-_TAIL:]
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROL.sub("", text)
    text = _ADDRESS.sub("<address>", text)
    text = _SECRET.sub("<secret>", text)
    shown = text[-_SHOWN:]
    if len(shown) < len(text) or len(logs) > _TAIL:
        # Begin with a whole line.
        shown = shown.partition("\n")[2] or shown
    return shown


def _percent_in(line: str) -> int | None:
    if _NOT_RENDERING.search(line):
        return None
    bar = _BAR.search(line)
    if bar is not None:
        return min(int(bar[1]), 100)
    count = _COUNT.search(line)
    if count is None:
        return None
    done, total = int(count[1]), int(count[2])
    return min(100 * done // total, 100) if total > 0 else None
