"""Where in a recording there is anything to listen to, and where somebody speaks."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import Floats
from sayso.engine.shapes import SIL
from sayso.engine.track import stretches

# Below this nobody speaks, however quiet the rest is (RMS of 25 ms, dB of full scale).
FLOOR_DB: Final = -60.0
# Softer than the loudest speech by more than this is background, not speech.
_BELOW_PEAK_DB: Final = 45.0
# Weak sounds at the edges of a word, and pauses too short to close the mouth in, are kept.
_MARGIN: Final = 20  # frames
# Speech that lasts no longer than this is a click or a cough.
_SHORTEST_SPEECH: Final = 8  # frames
# A mouth does not come to rest in a gap shorter than this.
_SHORTEST_REST: Final = 15  # frames


def sounding_spans(level_db: Floats) -> list[tuple[int, int]]:
    """Return (first, end) in frames of each stretch that is loud enough to hold speech."""
    if len(level_db) == 0:
        return []
    threshold = max(FLOOR_DB, float(np.percentile(level_db, 95)) - _BELOW_PEAK_DB)
    return stretches(widened(level_db > threshold, _MARGIN))


def is_spoken(viseme: NDArray[np.uint8], spans: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return where a path of visemes speaks: bridged over short gaps, without lone blips."""
    sounding = np.zeros(len(viseme), bool)
    for first, end in spans:
        sounding[first:end] = True
    spoken: NDArray[np.bool_] = (viseme != SIL) & sounding
    for first, end in stretches(~spoken):
        if end - first < _SHORTEST_REST and first > 0 and end < len(viseme):
            spoken[first:end] = True
    for first, end in stretches(spoken):
        if end - first < _SHORTEST_SPEECH:
            spoken[first:end] = False
    return spoken


def widened(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Return the frames that have a True frame at most `by` frames away."""
    index = np.arange(len(mask))
    counts: NDArray[np.intp] = np.concatenate([[0], np.cumsum(mask)])
    after, before = (index + by + 1).clip(max=len(mask)), (index - by).clip(0)
    near: NDArray[np.bool_] = counts[after] > counts[before]
    return near
