"""Steady noise under speech: how much of it there is, and the spectrum with less of it.

    noisiness(spectrum)      -> 0..1
    without_noise(spectrum)  -> the same spectrum, the noise's power taken from every band

Spectral subtraction (S. F. Boll, "Suppression of acoustic noise in speech using spectral
subtraction", IEEE ASSP 27(2), 1979) on log-mel spectra as `features.log_mels` gives them. What is
quietest in a band for about a tenth of the recording is taken to be its noise.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import Floats

# From the quietest to the loudest of a band, mean of all bands. Clean recordings, among them room
# noise and telephones, have 30 dB and more; pink noise 20 dB below the speech leaves 16 to 25.
_QUIET_DB: Final = 30.0
_NOISY_DB: Final = 24.0
_QUIETEST, _LOUDEST = 10, 95  # percentiles
_SMOOTH: Final = 9  # frames
# Percentiles of a noise's power lie below its mean, and leaving some of it costs more than taking
# too much. Constants from recordings that are in no benchmark, with noise of four kinds.
_OVERTAKEN: Final = 1.8
_LEFT: Final = 0.02


def noisiness(spectrum: Floats) -> float:
    """Return 0 for a recording without noise worth mentioning, 1 for one that is full of it."""
    if len(spectrum) == 0:
        return 0.0
    quietest, loudest = np.percentile(_smooth(spectrum), (_QUIETEST, _LOUDEST), axis=0)
    range_db = float(10 * np.log10(loudest / quietest).mean())
    return float(np.interp(range_db, (_NOISY_DB, _QUIET_DB), (1.0, 0.0)))


def without_noise(spectrum: Floats) -> Floats:
    """Return the spectrum f32[n, bands] less its noise, but never less than a fiftieth of it."""
    power = np.exp(spectrum)
    noise = _OVERTAKEN * np.percentile(_smooth(spectrum), _QUIETEST, axis=0)
    return np.asarray(np.log(np.maximum(power - noise, _LEFT * power)), np.float32)


def _smooth(spectrum: Floats) -> NDArray[np.float64]:
    """Return the power, averaged over some frames."""
    reach = _SMOOTH // 2
    padded = np.pad(np.exp(spectrum), ((reach + 1, reach), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=0, dtype=np.float64)
    return np.asarray((sums[_SMOOTH:] - sums[:-_SMOOTH]) / _SMOOTH)
