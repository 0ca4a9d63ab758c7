"""Where in a recording there is anything to listen to."""

from __future__ import annotations

from typing import Final

import numpy as np

from sayso.engine.track import Curve, stretches

# Below this nobody speaks, however quiet the rest is (RMS of 25 ms, dB of full scale).
FLOOR_DB: Final = -60.0
# Softer than the loudest speech by more than this is background, not speech.
_BELOW_PEAK_DB: Final = 45.0
# Weak sounds at the edges of a word, and pauses too short to close the mouth in, are kept.
_MARGIN: Final = 20  # frames


def sounding_spans(level_db: Curve) -> list[tuple[int, int]]:
    """Return (first, end) in frames of each stretch that is loud enough to hold speech."""
    if len(level_db) == 0:
        return []
    threshold = max(FLOOR_DB, float(np.percentile(level_db, 95)) - _BELOW_PEAK_DB)
    loud = level_db > threshold
    near = np.convolve(loud, np.ones(2 * _MARGIN + 1), "same") > 0
    return stretches(near[: len(level_db)])
