"""A frame's mouth: both lips drawn by themselves, and the mouth's inside where they part.

    draw_mouth(rig, row, source, backward, frame)   -> None   into the mouth's box of the frame

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
Plane = npt.NDArray[np.float32]

# Lip edges are this soft, but at least as soft as a pixel.
_SOFT_CM: Final = 0.035
_SOFT_PX: Final = 0.8
# An inside that no pixel shows by more than this is not drawn.
_HARDLY: Final = 0.004
# The corners of the opening fade over this.
_CORNER_CM: Final = 0.15
# In an "f" the upper teeth stand on this much of the lower lip.
_BITE_CM: Final = 0.30


@dataclass(frozen=True, eq=False)
class _Parting:
    """Where the box's pixels lie: float32[h, w] each.

    `under_up` is how many cm below the upper lip's edge (negative: on the lip), `over_low` how many
    above the lower lip's edge, `a` the place from corner (-1) to corner (1).
    """

    under_up: Plane
    over_low: Plane
    a: Plane


def draw_mouth(rig: Rig, row: Row, source: Frame, backward: Plane, frame: Frame) -> None:
    """Draw the mouth's box of `frame` from the picture `source` and both layers' `backward`."""
    left, top, width, height = rig.mouth_box
    maps = [layer_map(rig, backward[layer]) for layer in (UP, LOW)]
    parting = _parting(rig, maps)
    soft = 2.0 * max(_SOFT_CM, _SOFT_PX / rig.anatomy.mouth.px_per_cm)
    cover_up = np.clip(0.5 - parting.under_up / soft, 0.0, 1.0)
    cover_low = np.clip(0.5 - parting.over_low / soft, 0.0, 1.0)
    between = np.clip(
        (1.0 - np.abs(parting.a)) * (rig.anatomy.mouth.half_width_cm / _CORNER_CM), 0, 1
    )
    inside = np.clip(1.0 - cover_up - cover_low, 0.0, 1.0) * between
    bite = float(row[COLUMN["fv"]])
    painted = None
    if inside.max() > _HARDLY or bite > _HARDLY:
        painted, teeth = paint_interior(
            rig.interior, _placement(rig, row), (left, top), (width, height)
        )
        if bite > _HARDLY:
            # The teeth stand in front of the lip.
            on_lip = np.clip((_BITE_CM + parting.over_low) / 0.08, 0.0, 1.0)
            bitten = cover_low * teeth * on_lip * (1.0 - cover_up) * between * bite
            cover_low -= bitten
            inside += bitten
    # Beyond the corners both layers are the same picture and share what is left.
    share = (1.0 - inside) / np.maximum(cover_up + cover_low, 1e-6)
    cover_up *= share
    cover_low *= share
    _shade_rims(rig, parting, cover_up, cover_low)
    mixed = look_up_sharply(source, maps[UP]) * cover_up[..., np.newaxis]
    mixed += look_up_sharply(source, maps[LOW]) * cover_low[..., np.newaxis]
    if painted is not None:
        mixed += painted * (inside * _occlusion(parting))[..., np.newaxis]
    box = frame[top : top + height, left : left + width]
    box[:] = cv2.convertScaleAbs(mixed)


def layer_map(rig: Rig, layer: Plane) -> Plane:
    """Return where each pixel of the mouth's box comes from in one layer, float32[h, w, 2]."""
    left, top, width, height = rig.mouth_box
    fields = rig.fields
    cell = fields.cell_px
    x, y = left - fields.left, top - fields.top
    # One more cell on each side, so that the enlargement knows its neighbours.
    column, line = max(x // cell - 1, 0), max(y // cell - 1, 0)
    part = layer[line : -(-(y + height) // cell) + 1, column : -(-(x + width) // cell) + 1]
    come = fields.enlarge(part)
    inner_x, inner_y = x - column * cell, y - line * cell
    come = come[inner_y : inner_y + height, inner_x : inner_x + width]
    return rig.pixels[y : y + height, x : x + width] - come


def _parting(rig: Rig, maps: list[Plane]) -> _Parting:
    corner = np.array(rig.mouth_box[:2], np.float32)
    mouth = rig.anatomy.mouth
    per_px = np.float32(1.0 / mouth.px_per_cm)
    along = (mouth.along / mouth.half_width_px).astype(np.float32)
    return _Parting(
        under_up=look_up(rig.lip_depths[UP], maps[UP] - corner) * per_px,
        over_low=look_up(rig.lip_depths[LOW], maps[LOW] - corner) * -per_px,
        a=maps[UP] @ along - np.float32(mouth.origin @ along),
    )


def _shade_rims(rig: Rig, parting: _Parting, cover_up: Plane, cover_low: Plane) -> None:
    """Darken the lips' rims where they turn inwards, in place; not at all where they meet."""
    apart = np.clip((parting.under_up + parting.over_low) / 0.3, 0.0, 1.0)
    if rig.anatomy.lips.is_open:
        # This mouth's rims never met, so the line between them has to be drawn.
        apart = np.maximum(apart, 0.9 * np.clip(1.0 - parting.a**4, 0.0, 1.0))
    cover_up *= 1.0 - 0.30 * apart * np.exp(-np.square(np.minimum(parting.under_up, 0.0) / 0.11))
    cover_low *= 1.0 - 0.22 * apart * np.exp(-np.square(np.minimum(parting.over_low, 0.0) / 0.09))


def _occlusion(parting: _Parting) -> Plane:
    """Return the share of light that reaches the inside: little under the lips and in corners."""
    under_up = 1.0 - 0.50 * np.exp(np.maximum(parting.under_up, 0.0) / -0.10)
    over_low = 1.0 - 0.30 * np.exp(np.maximum(parting.over_low, 0.0) / -0.08)
    corners = 1.0 - 0.70 * np.minimum(np.abs(parting.a), 1.0) ** 3
    return np.asarray(under_up * over_low * corners, np.float32)


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
