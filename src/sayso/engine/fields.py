"""How the skin moves: one smooth displacement field per column of a motion row.

    build_fields(shape, anatomy)   -> Fields        what each column does, on a coarse grid
    fields.displacements(row)      -> float32[2, gh, gw, 2]   where each frame's pixels come from

There are two layers, the upper lip's and the lower lip's, that hold the whole face each. Beyond the
corners of the mouth both are the same field, so that they join without a tear; between the corners
they part. All fields are linear in their column, so a frame's two layers are one product. Amounts
and falloffs are centimetres of a standard head, tuned by eye on photographs and paintings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.lipline import LipLine, MouthFrame
from sayso.engine.params import MOVING
from sayso.engine.resample import look_up

Floats = npt.NDArray[np.float64]
Grid = npt.NDArray[np.float32]

UP: Final = 0
LOW: Final = 1

# How far the chin goes at jaw = 1, and how far the lips part then.
JAW_CM: Final = 1.25
_UPPER_LIP_SHARE: Final = 0.05
JAW_APERTURE_CM: Final = JAW_CM * (1.0 + _UPPER_LIP_SHARE)
# How far uplip = 1 and lowlip = 1 part the lips.
UPLIP_CM: Final = 0.24
LOWLIP_CM: Final = 0.34
# Cells of about a quarter of a centimetre are as smooth to the eye as single pixels.
_CELL_CM: Final = 0.28
_CELL_PX: Final = (2, 8)
# Each step of the fixed-point inversion shrinks the error by the field's steepness (.3 or so).
_INVERSION_STEPS: Final = 3


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What the fields are measured from, in the pixels of the working picture.

    `nose_cm` and `chin_cm` are the distances from the lip line to the nose's base and to the chin;
    `middle` is the middle of the face (between the eyes and the mouth), `brows` that of the brows,
    float64[2] each. `lateral` scales the sideways moves of the lips (less on a turned face).
    """

    mouth: MouthFrame
    lips: LipLine
    nose_cm: float
    chin_cm: float
    middle: Floats
    brows: Floats
    lateral: float


@dataclass(frozen=True, eq=False)
class Fields:
    """The displacement of each moving column, on a grid over the part of the picture that moves.

    `box` is (left, top, columns, rows) of the grid in pixels and cells: cell (i, j) is the square
    of `cell_px` pixels at left + cell_px * i, top + cell_px * j, and its value holds in its middle.
    `basis` is float32[n_moving, 2 * rows * columns * 2], displacements in cells, (dx, dy).
    """

    left: int
    top: int
    columns: int
    rows: int
    cell_px: int
    basis: Grid
    rest: Grid
    nodes: Grid

    def forward(self, row: npt.NDArray[np.float32]) -> Grid:
        """Return where skin goes, float32[2, rows, columns, 2] in cells, for a motion row."""
        flat = row[: len(MOVING)] @ self.basis
        flat += self.rest
        return flat.reshape(2, self.rows, self.columns, 2)

    def backward(self, forward: Grid) -> Grid:
        """Return, per layer, how far each cell's content has come: the inverse of `forward`.

        By fixed-point iteration: what is at p has come by D(p - come), whatever D is.
        """
        back = np.empty_like(forward)
        for layer in (UP, LOW):
            come = forward[layer]
            for _ in range(_INVERSION_STEPS):
                come = look_up(forward[layer], self.nodes - come)
            back[layer] = come
        return back

    def enlarge(self, cells: Grid) -> Grid:
        """Bring displacements of whole cells, float32[rows, columns, 2], to their pixels, in px."""
        rows, columns = cells.shape[:2]
        size = (columns * self.cell_px, rows * self.cell_px)
        scaled = cells * np.float32(self.cell_px)
        return np.asarray(cv2.resize(scaled, size, interpolation=cv2.INTER_LINEAR), np.float32)


def build_fields(height: int, width: int, anatomy: Anatomy) -> Fields:
    """Work out the fields of a face in a picture of the given size."""
    px_per_cm = anatomy.mouth.px_per_cm
    cell = int(np.clip(round(_CELL_CM * px_per_cm), *_CELL_PX))
    left, top, columns, rows = _moving_box(height, width, anatomy, cell)
    xs = left + cell * (np.arange(columns) + 0.5) - 0.5
    ys = top + cell * (np.arange(rows) + 0.5) - 0.5
    at = np.stack(np.meshgrid(xs, ys), axis=-1)
    border = _border_ramp(at, height, width)
    mouth = _mouth_fields(at, anatomy)
    head = _head_fields(at, anatomy)
    basis = np.stack([*mouth, *head]) * border[..., np.newaxis]
    rest = _closing_field(at, anatomy) * border[..., np.newaxis]
    scale = px_per_cm / cell
    return Fields(
        left,
        top,
        columns,
        rows,
        cell,
        basis=(basis * scale).reshape(len(basis), -1).astype(np.float32),
        rest=(rest * scale).reshape(-1).astype(np.float32),
        nodes=np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).astype(
            np.float32
        ),
    )


def _moving_box(height: int, width: int, anatomy: Anatomy, cell: int) -> tuple[int, int, int, int]:
    """Return the grid that covers all that moves: (left, top, columns, rows)."""
    reach = np.array([_HEAD_WIDE_CM, _HEAD_HIGH_CM]) * np.sqrt(_STILL_R2) * anatomy.mouth.px_per_cm
    low = np.maximum(np.floor(anatomy.middle - reach), 0).astype(int)
    high = np.minimum(np.ceil(anatomy.middle + reach), (width, height)).astype(int)
    columns, rows = -(-(high - low) // cell)
    return int(low[0]), int(low[1]), int(columns), int(rows)


_BORDER_SHARE: Final = 0.14


def _border_ramp(at: Floats, height: int, width: int) -> Floats:
    """Nothing moves at the picture's border: 0 there, 1 from 14 % of the shorter side inwards."""
    x, y = at[..., 0], at[..., 1]
    near = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    return _smoothstep(near / (_BORDER_SHARE * min(height, width)))


def _smoothstep(t: Floats) -> Floats:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


# The mouth.


@dataclass(frozen=True, eq=False)
class _MouthGrid:
    """The grid in the mouth's terms, centimetres, float64[rows, columns] each.

    `x` is across, `y` below the seam, `above` and `under` the depth into the upper and the lower
    lip's skin; `part` is 1 amid the mouth and 0 from its corners on; `up_near` and `low_near` fade
    with the distance from the lips.
    """

    x: Floats
    y: Floats
    part: Floats
    up_near: Floats
    low_near: Floats
    half_width: float
    nose: float
    chin: float
    above: Floats
    under: Floats


def _mouth_grid(at: Floats, anatomy: Anatomy) -> _MouthGrid:
    mouth, lips = anatomy.mouth, anatomy.lips
    a, b = mouth.of_px(at)
    nose, chin = anatomy.nose_cm, anatomy.chin_cm
    y = (b - lips.at(a, lips.seam)) / mouth.px_per_cm
    above = np.minimum((b - lips.at(a, lips.upper)) / mouth.px_per_cm, 0.0)
    under = np.maximum((b - lips.at(a, lips.lower)) / mouth.px_per_cm, 0.0)
    up_near = np.exp(-((above / (0.55 * nose)) ** 2)) * _smoothstep((above + 1.05 * nose) / nose)
    return _MouthGrid(
        x=a * mouth.half_width_cm,
        y=y,
        part=np.maximum(0.0, 1.0 - a**2) ** 0.8,
        up_near=up_near,
        low_near=np.exp(-((under / (0.5 * chin)) ** 2)),
        half_width=mouth.half_width_cm,
        nose=nose,
        chin=chin,
        above=above,
        under=under,
    )


def _mouth_fields(at: Floats, anatomy: Anatomy) -> list[Floats]:
    """Return the fields of the mouth's columns in their order, float64[2, rows, columns, 2] cm."""
    grid = _mouth_grid(at, anatomy)
    fields = (
        _jaw(grid),
        _seal(grid),
        _spread(grid, anatomy.lateral),
        _pucker(grid, anatomy.lateral),
        _lift(grid, up=-UPLIP_CM),
        _lift(grid, low=LOWLIP_CM),
        _press(grid),
        _fv(grid),
    )
    return [_in_picture(field, anatomy.mouth) for field in fields]


def _in_picture(field: Floats, mouth: MouthFrame) -> Floats:
    """Turn a field given along the mouth's axes into the picture's."""
    return np.asarray(field[..., :1] * mouth.along + field[..., 1:] * mouth.down)


def _layers(dx_up: Floats, dy_up: Floats, dx_low: Floats, dy_low: Floats) -> Floats:
    return np.stack([np.stack([dx_up, dy_up], -1), np.stack([dx_low, dy_low], -1)])


def _jaw(grid: _MouthGrid) -> Floats:
    """Return a jaw's drop: lower lip and chin ride on it, cheeks are dragged, the upper lip stays.

    Beyond the corners both layers are the drag alone. Writing (1 - drag0) for (1 - drag) would
    stretch the lower lip.
    """
    ramp = 0.9 * grid.nose + 0.62 * grid.chin
    sideways = 1.0 / (1.0 + (np.abs(grid.x) / 4.6) ** 4)
    neck = 1.0 - _smoothstep((grid.y - 1.02 * grid.chin) / (0.95 * grid.chin))
    drag = _smoothstep((grid.y + 0.9 * grid.nose) / ramp) * sideways * neck
    drag0 = float(_smoothstep(np.array(0.9 * grid.nose / ramp)))
    up = drag - (drag0 + _UPPER_LIP_SHARE) * grid.part * grid.up_near
    low = drag + (1.0 - drag) * grid.part * grid.low_near * neck
    fade = 1.0 / (1.0 + (np.abs(grid.x) / (1.3 * grid.half_width)) ** 6)
    inwards = -0.10 * drag0 * grid.x * grid.up_near * grid.low_near * fade
    return JAW_CM * _layers(inwards, up, inwards, low)


def _seal(grid: _MouthGrid) -> Floats:
    """Return how the lower lip, and a little the upper one, cross the opening the jaw has made.

    In front of the teeth, seal = jaw leaves no opening.
    """
    low = (
        -(1.0 + _UPPER_LIP_SHARE - 0.20)
        * grid.part
        * np.exp(-((grid.under / (0.36 * grid.chin)) ** 2))
    )
    up = 0.20 * grid.part * grid.up_near
    none = np.zeros_like(up)
    return JAW_CM * _layers(none, up, none, low)


def _spread(grid: _MouthGrid, lateral: float) -> Floats:
    reach = np.exp(-((np.abs(grid.x) / (1.35 * grid.half_width)) ** 4)) * _around_lips(grid)
    dx = 0.20 * lateral * grid.x * reach
    dy = -0.10 * np.minimum(np.abs(grid.x) / grid.half_width, 1.3) ** 2 * reach
    return _layers(dx, dy, dx, dy)


def _pucker(grid: _MouthGrid, lateral: float) -> Floats:
    reach = np.exp(-((np.abs(grid.x) / (1.35 * grid.half_width)) ** 4)) * _around_lips(grid)
    dx = -0.30 * lateral * grid.x * reach
    part = grid.part**0.75
    return _layers(dx, -0.08 * part * grid.up_near, dx, 0.10 * part * grid.low_near)


def _around_lips(grid: _MouthGrid) -> Floats:
    reach = np.where(grid.y < 0, 0.8 * grid.nose, 0.62 * grid.chin)
    return np.asarray(np.exp(-((grid.y / reach) ** 2)))


def _lift(grid: _MouthGrid, *, up: float = 0.0, low: float = 0.0) -> Floats:
    none = np.zeros_like(grid.x)
    return _layers(none, up * grid.part**0.9 * grid.up_near, none, low * grid.part * grid.low_near)


def _press(grid: _MouthGrid) -> Floats:
    none = np.zeros_like(grid.x)
    near_up = np.exp(-((grid.above / 0.75) ** 2))
    near_low = np.exp(-((grid.under / 0.85) ** 2))
    return _layers(none, 0.09 * grid.part**0.6 * near_up, none, -0.11 * grid.part**0.6 * near_low)


def _fv(grid: _MouthGrid) -> Floats:
    """Return how the upper lip lifts off its teeth and the lower one rolls in under them."""
    none = np.zeros_like(grid.x)
    near_low = np.exp(-((grid.under / 0.8) ** 2))
    return _layers(none, -0.15 * grid.part * grid.up_near, none, -0.10 * grid.part * near_low)


def _closing_field(at: Floats, anatomy: Anatomy) -> Floats:
    """Return what closes an open mouth: each contour goes to the seam, a little across it."""
    grid = _mouth_grid(at, anatomy)
    none = np.zeros_like(grid.x)
    if not anatomy.lips.is_open:
        return _layers(none, none, none, none)
    mouth, lips = anatomy.mouth, anatomy.lips
    a, _ = mouth.of_px(at)
    across = 0.05 * grid.part**0.5
    down = lips.at(a, lips.seam - lips.upper) / mouth.px_per_cm + across
    up = lips.at(a, lips.seam - lips.lower) / mouth.px_per_cm - across
    inside = np.abs(a) < 1.0
    field = _layers(
        none,
        np.where(inside, down, 0.0) * np.exp(-((grid.above / (0.6 * grid.nose)) ** 2)),
        none,
        np.where(inside, up, 0.0) * np.exp(-((grid.under / (0.65 * grid.chin)) ** 2)),
    )
    return _in_picture(field, mouth)


# The head.

_HEAD_WIDE_CM: Final = 9.5
_HEAD_HIGH_CM: Final = 13.0
_HEAD_DEEP_CM: Final = 7.0
# Beyond this the head's weight is nought (r2 = 1 is the head's own outline).
_STILL_R2: Final = 3.6
_PIVOT_CM: Final = 9.0


def _head_fields(at: Floats, anatomy: Anatomy) -> list[Floats]:
    """Return yaw, pitch, roll, both shifts and the brows, float64[2, rows, columns, 2] in cm.

    The head is half an ellipsoid: turning moves its points by their depth. Its weight fades beyond
    its outline, so that the picture around it bends instead of tearing.
    """
    mouth = anatomy.mouth
    offset = (at - anatomy.middle) / mouth.px_per_cm
    x, y = offset @ mouth.along, offset @ mouth.down
    r2 = (x / _HEAD_WIDE_CM) ** 2 + (y / _HEAD_HIGH_CM) ** 2
    weight = 1.0 / (1.0 + (r2 / 1.9) ** 2.2) * (1.0 - _smoothstep((r2 - 1.6) / (_STILL_R2 - 1.6)))
    dome = 1.0 - 0.8 * r2
    depth = _HEAD_DEEP_CM * np.sqrt(0.5 * (dome + np.sqrt(dome**2 + 0.02))) * weight
    none = np.zeros_like(x)
    brow_y = (at - anatomy.brows) @ mouth.down / mouth.px_per_cm
    brow = np.exp(-((brow_y / np.where(brow_y < 0, 1.6, 0.8)) ** 2) - (x / 6.5) ** 4)
    single = (
        (depth, none),
        (none, depth),
        (-(y - _PIVOT_CM) * weight, x * weight),
        (weight, none),
        (none, weight),
        (none, -0.3 * brow),
    )
    along = [_in_picture(np.stack(pair, axis=-1), mouth) for pair in single]
    return [np.stack([field, field]) for field in along]
