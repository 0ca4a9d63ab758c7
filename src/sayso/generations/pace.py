"""Pace: when to look at a prediction again, and how far it is, pure.

next_look_at()   with age, with how many are in flight, on a common grid
percent_of()     measured by the provider, or estimated from the time it takes
learned_pace()   how long a model takes for a second of speech, by what it has made
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final, Literal

from sayso.clock import SECOND, Instant, after
from sayso.generations.policy import Policy
from sayso.providers.base import Prediction, ProviderTraits

Basis = Literal["measured", "estimated"]

# How far the bar is; rendering moves it from the first to the second.
PERCENT_STORED_INPUTS: Final = 10
PERCENT_RENDERED: Final = 90
PERCENT_STORING: Final = 95
PERCENT_DONE: Final = 100
ESTIMATE_STEP: Final = 5

# Fewer successes of a model say little about the next one.
_ENOUGH_TO_LEARN: Final = 3

# Age of a generation from which it is looked at less often, and how much less.
_AGE_STEPS: Final = ((120.0, 1.0), (300.0, 2.0), (math.inf, 3.0))


_FINEST_GRID_S: Final = 1.0


def age_class(age_s: float) -> int:
    """Return which of the steps of age this is: within one, looks are equally far apart."""
    return next(n for n, (limit_s, _) in enumerate(_AGE_STEPS) if age_s < limit_s)


def look_interval_s(
    age_s: float, in_flight: int, *, traits: ProviderTraits, policy: Policy
) -> float:
    """Return how long to wait between two looks at one prediction.

    It grows with age, and with how many are in flight: polling takes at most half of what the
    provider allows, and of what one process can look at.
    """
    shortest_s = policy.poll_s if traits.look_s is None else traits.look_s
    factor = _AGE_STEPS[age_class(age_s)][1]
    by_rate_s = 0.0
    if traits.calls_per_s is not None:
        by_rate_s = in_flight / (traits.reads_per_call * traits.calls_per_s / 2)
    return max(shortest_s * factor, by_rate_s, in_flight / policy.looks_per_s)


def next_look_at(
    now: Instant, age_s: float, in_flight: int, *, traits: ProviderTraits, policy: Policy
) -> Instant:
    """Return when to look at a prediction again.

    Looks meet on a grid that is as coarse as it takes for a list call to come out full, and no
    finer than a second: with few predictions in flight all are looked at in one call, with many
    they are at least claimed and written together.
    """
    interval_s = look_interval_s(age_s, in_flight, traits=traits, policy=policy)
    if traits.reads_per_call == 1:
        return after(now, interval_s)
    grid_s = max(interval_s * traits.reads_per_call / max(in_flight, 1), _FINEST_GRID_S)
    grid_s = min(grid_s, interval_s)
    grid = max(1, round(grid_s * SECOND))
    earliest = after(now, interval_s - grid_s / 2)
    return Instant(-(-earliest // grid) * grid)


def percent_of(seen: Prediction | None, *, spent_s: float, typical_s: float) -> tuple[int, Basis]:
    """Return how far a running generation is, and whether that was measured.

    Without a measure it is an estimate from the time that such a generation takes, in steps of 5.
    """
    room = PERCENT_RENDERED - PERCENT_STORED_INPUTS
    if seen is not None and seen.percent is not None:
        share = min(max(seen.percent, 0), 100) / 100
        return PERCENT_STORED_INPUTS + int(room * share), "measured"
    share = min(max(spent_s, 0.0) / max(typical_s, 1.0), 1.0)
    estimate = PERCENT_STORED_INPUTS + int(room * share)
    return estimate - estimate % ESTIMATE_STEP, "estimated"


def learned_pace(taken: Sequence[tuple[float, int]]) -> float | None:
    """Return the seconds that a second of speech takes, from (seconds taken, seconds of speech).

    None where there are too few to learn from.
    """
    if len(taken) < _ENOUGH_TO_LEARN:
        return None
    return median(spent_s / seconds for spent_s, seconds in taken)
