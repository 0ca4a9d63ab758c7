"""A frame's mouth: both lips drawn by themselves, and the mouth's inside where they part.

    draw_mouth(rig, row, source, backward)   -> uint8[h, w, 3] BGR, the mouth's box of the frame

Within the box each layer is resampled on its own. How deep below the upper lip's edge, and how far
above the lower lip's, a pixel lies decides which of them covers it; what neither covers shows the
inside. Lips shade what is behind them: this occlusion does more for the look than any tooth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.fields import JAW_CM, LOW, UP
from sayso.engine.interior import Placement, paint_interior
from sayso.engine.params import COLUMN
from sayso.engine.resample import look_up, look_up_sharply
from sayso.engine.rig import Rig

Frame = npt.NDArray[np.uint8]
Row = npt.NDArray[np.float32]
Plane = npt.NDArray[np.floating]
Box = tuple[slice, slice]

# Lip edges are this soft, but at least as soft as a pixel.
_SOFT_CM: Final = 0.035
_SOFT_PX: Final = 0.8
# An inside that no pixel shows by more than this is not drawn.
_HARDLY: Final = 0.004
# The corners of the opening fade over this.
_CORNER_CM: Final = 0.15
# Even a slit's depth is not black.
_LEAST_LIGHT: Final = 0.22
# In an "f" the upper teeth stand on this much of the lower lip, amid the mouth.
_BITE_CM: Final = 0.22
_BITE_SOFT_CM: Final = 0.08
_BITE_REACH: Final = 0.62


@dataclass(frozen=True, eq=False)
class _Parting:
    """Where the box's pixels lie: float32[h, w] each.

    `under_up` is how many cm below the upper lip's edge (negative: on the lip), `over_low` how many
    above the lower lip's edge, `a` the place from corner (-1) to corner (1).
    """

    under_up: Plane
    over_low: Plane
    a: Plane

    def within(self, box: Box) -> _Parting:
        """Return the same for some rows and columns."""
        return _Parting(self.under_up[box], self.over_low[box], self.a[box])


def draw_mouth(rig: Rig, row: Row, source: Frame, backward: Plane) -> Frame:
    """Draw the mouth's box of a frame from the picture `source` and both layers' `backward`."""
    maps = [rig.fields.origins(backward[layer], rig.mouth_cells) for layer in (UP, LOW)]
    parting = _parting(rig, maps)
    soft = np.float32(2.0 * max(_SOFT_CM, _SOFT_PX / rig.anatomy.mouth.px_per_cm))
    cover_up = np.clip(0.5 - parting.under_up / soft, 0.0, 1.0)
    cover_low = np.clip(0.5 - parting.over_low / soft, 0.0, 1.0)
    corner = np.float32(rig.anatomy.mouth.half_width_cm / _CORNER_CM)
    inside = np.clip((1.0 - np.abs(parting.a)) * corner, 0.0, 1.0)
    inside *= np.clip(1.0 - cover_up - cover_low, 0.0, 1.0)
    bite = float(row[COLUMN["fv"]])
    opening = _bounds(inside, parting, bite)
    painted = None
    if opening is not None:
        part = parting.within(opening)
        painted, teeth = _paint(rig, row, opening)
        if bite > _HARDLY:
            # The teeth stand in front of the lip.
            bitten = _bitten(part, teeth, cover_low[opening], cover_up[opening]) * np.float32(bite)
            cover_low[opening] -= bitten
            inside[opening] += bitten
        light = _occlusion(part, bite)[..., np.newaxis]
        painted *= light + light * (1.0 - light) * rig.interior.blush
        painted = np.maximum(painted, rig.interior.black) * inside[opening][..., np.newaxis]
    # Beyond the corners both layers are the same picture and share what is left.
    share = (1.0 - inside) / np.maximum(cover_up + cover_low, 1e-6)
    cover_up *= share
    cover_low *= share
    _shade_rims(rig, parting, cover_up, cover_low)
    mixed = look_up_sharply(source, maps[UP]) * cover_up[..., np.newaxis]
    mixed += look_up_sharply(source, maps[LOW]) * cover_low[..., np.newaxis]
    if opening is not None:
        mixed[opening] += painted
    return np.asarray(cv2.convertScaleAbs(mixed), np.uint8)


def _bounds(inside: Plane, parting: _Parting, bite: float) -> Box | None:
    """Return the rows and columns that show the inside; None if the lips are shut."""
    shown = inside > _HARDLY
    if bite > _HARDLY:
        shown |= (np.abs(parting.over_low) < _BITE_CM + _BITE_SOFT_CM) & (np.abs(parting.a) < 1.0)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _paint(rig: Rig, row: Row, opening: Box) -> tuple[Plane, Plane]:
    """Paint the inside for a part of the mouth's box."""
    rows, columns = rig.fields.slices(rig.mouth_cells)
    corner = (columns.start + opening[1].start, rows.start + opening[0].start)
    size = (opening[1].stop - opening[1].start, opening[0].stop - opening[0].start)
    return paint_interior(rig.interior, _placement(rig, row), corner, size)


def _bitten(parting: _Parting, teeth: Plane, cover_low: Plane, cover_up: Plane) -> Plane:
    """Return the share of the lower lip that the upper teeth stand on in an "f"."""
    on_lip = np.clip((_BITE_CM + parting.over_low) / _BITE_SOFT_CM, 0.0, 1.0)
    on_lip *= np.exp(-((parting.a / _BITE_REACH) ** 4))
    return np.asarray(on_lip * cover_low * teeth * (1.0 - cover_up))


def _parting(rig: Rig, maps: list[Plane]) -> _Parting:
    rows, columns = rig.fields.slices(rig.mouth_cells)
    corner = np.array([columns.start, rows.start], np.float32)
    mouth = rig.anatomy.mouth
    per_px = np.float32(1.0 / mouth.px_per_cm)
    along_x, along_y = (mouth.along / mouth.half_width_px).astype(np.float32)
    start = np.float32(mouth.origin @ mouth.along / mouth.half_width_px)
    return _Parting(
        under_up=look_up(rig.lip_depths[UP], maps[UP] - corner) * per_px,
        over_low=look_up(rig.lip_depths[LOW], maps[LOW] - corner) * -per_px,
        a=maps[UP][..., 0] * along_x + maps[UP][..., 1] * along_y - start,
    )


def _shade_rims(rig: Rig, parting: _Parting, cover_up: Plane, cover_low: Plane) -> None:
    """Darken the lips' rims where they turn inwards, in place; not at all where they meet."""
    apart = np.clip((parting.under_up + parting.over_low) / 0.3, 0.0, 1.0)
    if rig.anatomy.lips.is_open:
        # This mouth's rims never met, so the line between them has to be drawn.
        apart = np.maximum(apart, 0.8 * np.clip(1.0 - parting.a**4, 0.0, 1.0))
    cover_up *= 1.0 - 0.25 * apart * np.exp(-np.square(np.minimum(parting.under_up, 0.0) / 0.09))
    cover_low *= 1.0 - 0.20 * apart * np.exp(-np.square(np.minimum(parting.over_low, 0.0) / 0.07))


def _occlusion(parting: _Parting, bite: float) -> Plane:
    """Return the share of light that reaches the inside: little under the lips and in corners.

    Teeth that bite the lip stand in the open.
    """
    under_up = 1.0 - 0.40 * np.exp(np.maximum(parting.under_up, 0.0) / -0.13)
    over_low = 1.0 - 0.40 * (1.0 - bite) * np.exp(np.maximum(parting.over_low, 0.0) / -0.10)
    corners = 1.0 - 0.60 * np.minimum(np.abs(parting.a), 1.0) ** 3
    # Through a slit less light comes in.
    gap = (parting.under_up + parting.over_low) / 0.6
    wide = 0.78 + 0.22 * np.clip(gap + bite, 0.0, 1.0)
    return np.maximum(under_up * over_low * corners * wide, np.float32(_LEAST_LIGHT))


def _placement(rig: Rig, row: Row) -> Placement:
    """Return where the skull is: the head's own fields at the mouth, and the jaw's drop."""
    mouth = rig.anatomy.mouth
    roll = float(row[COLUMN["roll"]])
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    axes = np.stack([mouth.along, mouth.down], axis=1) * mouth.px_per_cm
    return Placement(
        turn=turn @ axes,
        origin=mouth.origin + rig.skull_shift(row),
        jaw_cm=JAW_CM * float(row[COLUMN["jaw"]]),
        tongue=float(row[COLUMN["tongue"]]),
        uplift_cm=0.1 * float(row[COLUMN["pucker"]]) + 0.08 * float(row[COLUMN["fv"]]),
    )
