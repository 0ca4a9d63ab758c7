"""Both rows of teeth: drawn ones, and those that the portrait itself shows.

    draw_row(x, y, tone, upper=...)        -> float64[h, w, 4]    BGRA, alpha 0..1
    teeth_in(bgr, anatomy, x, y)           -> ShownTeeth

`x` and `y` are grids of the mouth's centimetres, y down from the line on which the lips meet. Drawn
teeth stand on an arch and are subdued: gaps, rounding and shade matter more than whiteness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sayso.engine.cielab import lab_of
from sayso.engine.fields import Anatomy
from sayso.engine.lipline import PLACES, cheapest_path, smoothed
from sayso.engine.resample import look_up, look_up_sharply
from sayso.engine.tone import Tone

Floats = npt.NDArray[np.float64]
Bgr = npt.NDArray[np.uint8]

# Colours under white light, BGR.
_IVORY: Final = np.array([194.0, 210.0, 220.0])
_GUM: Final = np.array([98.0, 92.0, 165.0])

# Widths of the teeth from the middle outwards, how much further than the first each reaches, and
# the radius of the arch they stand on, cm: an adult's averages.
_UPPER_WIDTHS: Final = (0.86, 0.66, 0.74, 0.70, 0.70, 0.90)
_LOWER_WIDTHS: Final = (0.53, 0.58, 0.66, 0.70, 0.72, 0.90)
_LONGER: Final = (0.0, -0.05, 0.01, -0.03, -0.06, -0.08)
_ARCH_CM: Final = 2.5
_CANINE: Final = 2
# How far below the line on which the lips meet the upper teeth end and the lower ones begin.
_UPPER_EDGE_CM: Final = 0.27
_LOWER_EDGE_CM: Final = 0.10


def draw_row(x: Floats, y: Floats, tone: Tone, *, upper: bool, blur_cm: float) -> Floats:
    """Draw one row of teeth, float64[h, w, 4] BGRA with alpha 0..1, in the picture's tone."""
    widths = np.array(_UPPER_WIDTHS if upper else _LOWER_WIDTHS)
    along = _ARCH_CM * np.arcsin(np.clip(np.abs(x) / _ARCH_CM, 0.0, 1.0))
    starts = np.concatenate([[0.0], np.cumsum(widths)])
    number = np.clip(np.searchsorted(starts, along, side="right") - 1, 0, len(widths) - 1)
    width = widths[number]
    across = 2.0 * (along - starts[number]) / width - 1.0
    inside = _depth_into_teeth(y, along, across, number, upper=upper)
    alpha = np.clip(inside / (0.03 + blur_cm) + 0.5, 0.0, 1.0)
    alpha *= np.clip((_ARCH_CM - np.abs(x)) / 0.25, 0.0, 1.0)
    from_gap = (1.0 - np.abs(across)) * width / 2
    gap = np.exp(-((from_gap / (0.028 + 0.5 * blur_cm)) ** 2)) * (0.30 if upper else 0.26)
    shade = (1.0 - gap) * (1.0 - 0.10 * across**2) * np.exp(-0.75 * (along / 2.6) ** 2)
    shade *= 1.0 - 0.10 * np.exp(-((inside / 0.10) ** 2))
    shade *= (1.0 - 0.30 * _smoothstep((inside - 0.45) / 0.5)) * (1.0 if upper else 0.74)
    gum = _smoothstep((inside - 0.88 + 0.10 * across**2) / 0.10)[..., np.newaxis]
    colour = (_IVORY * (1.0 - gum) + _GUM * gum) * shade[..., np.newaxis]
    return np.concatenate([tone.of(colour), alpha[..., np.newaxis]], axis=-1)


def _depth_into_teeth(
    y: Floats, along: Floats, across: Floats, number: npt.NDArray[np.intp], *, upper: bool
) -> Floats:
    """Return how far each place is from the biting edge, cm; positive within a tooth."""
    corner = 0.07 * np.abs(across) ** 5 + (number == _CANINE) * 0.05 * np.abs(across)
    if upper:
        longer = np.array(_LONGER)[number]
        return np.asarray(_UPPER_EDGE_CM + longer - corner - 0.018 * along**2 - y)
    return np.asarray(y - _LOWER_EDGE_CM - 0.5 * corner - 0.015 * along**2)


def _smoothstep(t: Floats) -> Floats:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


# The portrait's own.


@dataclass(frozen=True, eq=False)
class ShownTeeth:
    """What an open mouth shows between its lips, float64[h, w, 4] BGRA with alpha 0..1.

    `upper` stays with the skull; `lower`, if there is a dark gap between two rows, rides on the
    jaw and is given where it is once the mouth has closed.
    """

    upper: Floats
    lower: Floats | None


def teeth_in(bgr: Bgr, anatomy: Anatomy, x: Floats, y: Floats) -> ShownTeeth:
    """Cut out what the open mouth of a working picture, BGR uint8[h, w, 3], shows."""
    mouth, lips = anatomy.mouth, anatomy.lips
    gap = _gap_between_rows(bgr, anatomy)
    if gap is None:
        return ShownTeeth(_cut(bgr, anatomy, (x, y), lips.upper, lips.lower), None)
    drop_cm = float(np.interp(0.0, PLACES, lips.lower - lips.seam)) / mouth.px_per_cm
    return ShownTeeth(
        upper=_cut(bgr, anatomy, (x, y), lips.upper, gap),
        lower=_cut(bgr, anatomy, (x, y + drop_cm), gap, lips.lower),
    )


# What lies this near a lip's edge may be lip.
_FEATHER_CM: Final = 0.08


def _cut(
    bgr: Bgr, anatomy: Anatomy, at_cm: tuple[Floats, Floats], top: Floats, bottom: Floats
) -> Floats:
    """Return the picture between two contours, float64[h, w, 4] BGRA."""
    mouth, lips = anatomy.mouth, anatomy.lips
    x, y = at_cm
    a = x / mouth.half_width_cm
    found = look_up_sharply(bgr, mouth.to_px(a, y * mouth.px_per_cm).astype(np.float32))
    below = y - lips.at(a, top) / mouth.px_per_cm
    over = lips.at(a, bottom) / mouth.px_per_cm - y
    alpha = _smoothstep(below / _FEATHER_CM + 0.5) * _smoothstep(over / _FEATHER_CM - 0.2)
    alpha *= _smoothstep((1.0 - np.abs(a)) / 0.06)
    return np.concatenate([found.astype(np.float64), alpha[..., np.newaxis]], axis=-1)


# A gap parts two rows if it is so much darker (CIELAB L) than what is over and under it, amid the
# mouth, and leaves so much (cm) on both sides.
_GAP_DARKER: Final = 9.0
_ROW_CM: Final = 0.3
_GAP_STEPS: Final = 33
_AMID: Final = 0.5


def _gap_between_rows(bgr: Bgr, anatomy: Anatomy) -> Floats | None:
    """Return the dark line between upper and lower teeth, `b` in px at `PLACES`; None without one.

    It is the darkest path between the lips, by dynamic programming.
    """
    mouth, lips = anatomy.mouth, anatomy.lips
    share = np.linspace(0.08, 0.92, _GAP_STEPS)
    b = lips.upper[:, np.newaxis] + (lips.lower - lips.upper)[:, np.newaxis] * share
    at = mouth.to_px(np.broadcast_to(PLACES[:, np.newaxis], b.shape), b).astype(np.float32)
    light = np.asarray(look_up(np.ascontiguousarray(lab_of(bgr)[..., 0]), at), np.float64)
    low, high = np.percentile(light, (5, 95))
    path = cheapest_path((light - low) / max(high - low, 4.0), step_cost=0.10)
    amid = np.abs(PLACES) < _AMID
    row = np.arange(_GAP_STEPS)
    over = np.where(row < path[:, np.newaxis], light, np.nan)[amid]
    under = np.where(row > path[:, np.newaxis], light, np.nan)[amid]
    gap = smoothed(np.take_along_axis(b, path[:, np.newaxis], axis=1)[:, 0], sigma=3.0)
    upper_cm = float(np.median((gap - lips.upper)[amid])) / mouth.px_per_cm
    lower_cm = float(np.median((lips.lower - gap)[amid])) / mouth.px_per_cm
    if min(upper_cm, lower_cm) < _ROW_CM:
        return None
    darkest = float(np.median(light[np.arange(len(path)), path][amid]))
    lighter = min(float(np.nanpercentile(over, 70)), float(np.nanpercentile(under, 70)))
    return gap if lighter - darkest > _GAP_DARKER else None
