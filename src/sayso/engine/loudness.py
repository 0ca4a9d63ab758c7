"""Mouth shapes from loudness and colour alone: the last resort, when nothing else is installed.

Loud means open, hissing means teeth, quiet between loud means closed. Good for vowels, blind to
most consonants.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import Floats
from sayso.engine.shapes import NUMBER, SIL

# dB below the loudest speech at which the mouth stops being wide open, half open, open at all.
_STEPS_DB: Final = ((-9.0, "aa"), (-16.0, "E"), (-26.0, "ih"))
_FIRST_HISS_BAND: Final = 26  # of 40: about 3 kHz
_HISS_SHARE: Final = 0.5


def shapes_by_loudness(spectrum: Floats, level_db: Floats) -> NDArray[np.uint8]:
    """Return a viseme for each frame, u8[n], from log-mels f32[n, 40] and levels in dB f32[n]."""
    viseme = np.full(len(level_db), SIL, np.uint8)
    if len(level_db) == 0:
        return viseme
    below_db = level_db - np.percentile(level_db, 97)
    for step_db, name in reversed(_STEPS_DB):
        viseme[below_db > step_db] = NUMBER[name]
    power = np.exp(spectrum)
    hiss = power[:, _FIRST_HISS_BAND:].sum(axis=1) / power.sum(axis=1)
    viseme[(hiss > _HISS_SHARE) & (viseme != SIL)] = NUMBER["SS"]
    return viseme
