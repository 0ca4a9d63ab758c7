"""How well two curves of one clip agree, and at which shift.

    curve_at_frames(curve, ...)   100 values a second -> one for each frame of a video
    agreement(seen, curve, ...)   -> Agreement: correlation, lag, and what chance would give

A lag is positive when what is seen comes after what is heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Curve = npt.NDArray[np.float64]

# Farther apart than this nobody would call it lip-sync, and syllables begin to repeat.
LAG_MAX_S: Final = 0.4
_LAG_STEP_S: Final = 0.01
_LAGS_S: Final = np.arange(-round(LAG_MAX_S / _LAG_STEP_S), round(LAG_MAX_S / _LAG_STEP_S) + 1) * (
    _LAG_STEP_S
)
# Turned by less than this, a curve still shares a syllable or two with itself.
_TURN_MIN_S: Final = 1.0
_LEAST_FRAMES: Final = 10


@dataclass(frozen=True)
class Agreement:
    """How a curve that is seen follows one that is heard.

    `r` is Pearson's correlation at the best lag, `lag_ms` that lag. `chance_mean` and `chance_p95`
    are the same for the heard curve turned in time, each time at its best lag within the same
    bounds: what two unrelated curves of this kind would reach.
    """

    r: float
    lag_ms: float
    chance_mean: float
    chance_p95: float


def curve_at_frames(
    curve: npt.ArrayLike, *, rate_hz: float, fps: float, n_frames: int, shift_s: float = 0.0
) -> Curve:
    """Return the mean of a curve while each frame is shown, float64[n_frames].

    With a shift, of what comes so much later; beyond its ends the curve is constant.
    """
    values = np.asarray(curve, np.float64)
    total = np.concatenate([[0.0], np.cumsum(values)])
    edges = (np.arange(n_frames + 1) / fps + shift_s) * rate_hz
    inside = np.interp(edges, np.arange(len(total)), total)
    before = np.minimum(edges, 0.0) * values[0]
    after = np.maximum(edges - len(values), 0.0) * values[-1]
    means: Curve = np.diff(inside + before + after) * (fps / rate_hz)
    return means


def agreement(
    seen: npt.ArrayLike,
    heard: npt.ArrayLike,
    *,
    rate_hz: float,
    fps: float,
    at: npt.ArrayLike | None = None,
) -> Agreement | None:
    """Compare what is seen in each frame with a curve of `rate_hz` values a second.

    `at` are the numbers of the frames, from 0, where not all of them were looked at; what chance
    would give is then that of frames filled in between. None if there are fewer than ten frames, or
    one of the two never changes.
    """
    frames = np.asarray(seen, np.float64)
    curve = np.asarray(heard, np.float64)
    if len(frames) < _LEAST_FRAMES or np.ptp(frames) == 0 or np.ptp(curve) == 0:
        return None
    numbers = np.arange(len(frames)) if at is None else np.asarray(at, np.intp)
    n_frames = int(numbers[-1]) + 1
    scores = [
        _correlation(
            frames,
            curve_at_frames(curve, rate_hz=rate_hz, fps=fps, n_frames=n_frames, shift_s=-lag_s)[
                numbers
            ],
        )
        for lag_s in _LAGS_S
    ]
    best = int(np.argmax(scores))
    filled = np.interp(np.arange(n_frames), numbers, frames)
    chance = _chance(filled, curve, rate_hz, fps)
    return Agreement(
        r=float(scores[best]),
        lag_ms=1000.0 * float(_LAGS_S[best]),
        chance_mean=float(chance.mean()),
        chance_p95=float(np.percentile(chance, 95)),
    )


def _chance(frames: Curve, curve: Curve, rate_hz: float, fps: float) -> Curve:
    """Return the best correlation with the curve turned in time, for each of many turns.

    All turns at once by Fourier transform: each frame is held while it is shown.
    """
    shown = np.minimum((np.arange(len(curve)) + 0.5) / rate_hz * fps, len(frames) - 1).astype(int)
    held = frames[shown] - frames[shown].mean()
    heard = curve_at_frames(curve, rate_hz=rate_hz, fps=fps, n_frames=len(frames))[shown]
    spread = float(np.sqrt(((heard - heard.mean()) ** 2).sum() * (held @ held)))
    product = np.fft.rfft(held) * np.conj(np.fft.rfft(curve - curve.mean()))
    turned = np.fft.irfft(product, len(curve)) / max(spread, 1e-12)
    apart = round(_TURN_MIN_S * rate_hz)
    reach = round(LAG_MAX_S * rate_hz)
    turns = np.arange(apart, len(curve) - apart)
    if len(turns) == 0:
        return np.zeros(1)
    around = (turns[:, np.newaxis] + np.arange(-reach, reach + 1)) % len(curve)
    best: Curve = turned[around].max(axis=1)
    return best


def _correlation(one: Curve, other: Curve) -> float:
    one, other = one - one.mean(), other - other.mean()
    spread = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / spread if spread > 0 else 0.0
