"""What the upstream is like in general; each switch stands for an item of Replicate's own habits.

Switches        the switches, as they stand on an ordinary day
HookHabits      what becomes of webhooks on their way
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class HookHabits:
    """What becomes of a delivery; the parts of 1 are drawn by the upstream's own random numbers."""

    are_sent: bool = True
    """Whether any go out: at times all have stopped for hours."""
    dropped: float = 0
    """The part whose first attempt is lost on the way; the last event is tried again."""
    doubled: float = 0
    """The part that arrives twice under one id."""
    late: float = 0
    """The part that comes late, and so out of order."""
    late_s: tuple[float, float] = (1, 30)
    forged: float = 0
    """The part that somebody else has signed."""


@dataclass(frozen=True, kw_only=True)
class Switches:
    """How the upstream behaves until it is told otherwise."""

    checks_token: bool = True
    """401 without the token."""
    credit: Literal["good", "low", "none"] = "good"
    """Low: six creates a minute and one at a time; none: 402."""
    limits_rate: bool = True
    """600 creates and 3,000 other calls a minute, then 429."""
    quirks: bool = True
    """Keys that come and go, `created_at` that moves, fractions of any length, logs that are null.
    Off, every key is always there and every time has six digits."""
    echoes_output_null: bool = False
    """Whether a create's answer has `output: null` and `data_removed`, as newer ones do."""
    has_metrics: bool = True
    predict_time: Literal["there", "missing", "null"] = "there"
    starts_before_created: bool = False
    """`started_at` before `created_at`: two clocks."""
    checks_inputs: bool = True
    """422 with `invalid_fields` by the model's schema."""
    fetches_inputs: bool = True
    """Whether inputs are fetched when the run starts (`run_due` asks the outside for them)."""
    removes_after_s: float | None = 3600
    """When input, output, files and logs of a finished prediction go."""
    file_life_s: float = 86_400
    run_limit_s: float = 1800
    """What takes longer ends as `Prediction timed out`."""
    page_size: int = 100
    largest_file_bytes: int = 100 * 1000 * 1000
    cancel_of_final: Literal["as it is", "404", "409"] = "as it is"
    """What is answered to a cancel that comes too late: the documents do not say."""
    cancel_says: Literal["truth", "canceled"] = "truth"
    """Whether the answer to a cancel claims an end that a success may still overtake."""
    tells_aborted: bool = False
    """Whether a prediction that never started tells of its end: the documents do not say."""
    waits: bool = True
    """Whether `Prefer: wait` is followed; an answer of the wait says `processing` with output."""
    answers_any_id: bool = False
    """Whether a look at an unknown id invents a prediction."""
    hooks: HookHabits = field(default_factory=HookHabits)
