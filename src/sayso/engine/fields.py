"""How the skin moves: one smooth displacement field per column of a motion row.

    build_fields(shape, anatomy)   -> Fields        what each column does, on a coarse grid
    fields.displacements(row)      -> float32[2, gh, gw, 2]   where each frame's pixels come from

There are two layers, the upper lip's and the lower lip's, that hold the whole face each. Beyond the
corners of the mouth both are the same field, so that they join without a tear; between the corners
they part. All fields are linear in their column, so a frame's two layers are one product. Amounts
and falloffs are centimetres of a standard head, tuned by eye on photographs and paintings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.lipline import LipLine, MouthFrame
from sayso.engine.params import MOUTH, MOVING
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
    float64[2] each. `midline_cm` is how far beside the mouth's middle the face's midline runs (the
    head is turned), `lateral` scales the sideways moves of the lips (less on a turned face). With
    `is_hidden` there are no lips to part: only the jaw moves what covers them.
    """

    mouth: MouthFrame
    lips: LipLine
    nose_cm: float
    chin_cm: float
    middle: Floats
    brows: Floats
    midline_cm: float
    lateral: float
    is_hidden: bool


@dataclass(frozen=True)
class CellBox:
    """Some cells of the grid, from `left`, `top` up to but without `right`, `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    def size_px(self, cell_px: int) -> tuple[int, int]:
        """Return the width and height of its pixels."""
        return (self.right - self.left) * cell_px, (self.bottom - self.top) * cell_px


@dataclass(frozen=True, eq=False)
class Fields:
    """The displacement of each moving column, on a grid over the part of the picture that moves.

    Cell (column, row) is the square of `cell_px` pixels at left + cell_px * column, top +
    cell_px * row; its value holds in its middle. `basis` is float32[len(MOVING), 2 * rows *
    columns * 2]: displacements (dx, dy) in cells, the upper layer's and the lower layer's; `rest`
    float32[2 * rows * columns * 2] is what they are when all columns are 0. `nodes` float32[rows,
    columns, 2] are the cells' own coordinates, `places` float32[h, w, 2] the pixels' in the
    picture. Outside `moving` nothing ever moves.
    """

    left: int
    top: int
    columns: int
    rows: int
    cell_px: int
    basis: Grid
    rest: Grid
    nodes: Grid
    places: Grid
    moving: tuple[CellBox, ...]

    def forward(self, row: npt.NDArray[np.float32]) -> Grid:
        """Return where skin goes, float32[2, rows, columns, 2] in cells, for a motion row."""
        # Not `@`: the threads of numpy's BLAS would spin beside those that draw the frames.
        flat: Grid = np.einsum("k,kn->n", row[: len(MOVING)], self.basis)
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

    def origins(self, backward: Grid, part: CellBox) -> Grid:
        """Return where the pixels of some cells come from, float32[h, w, 2] (x, y) in the picture.

        `backward` is one layer's, float32[rows, columns, 2].
        """
        # One more cell on each side, so that the enlargement knows its neighbours.
        left, top = max(part.left - 1, 0), max(part.top - 1, 0)
        cells = backward[top : part.bottom + 1, left : part.right + 1]
        size = (cells.shape[1] * self.cell_px, cells.shape[0] * self.cell_px)
        come = cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR)
        y, x = (part.top - top) * self.cell_px, (part.left - left) * self.cell_px
        width, height = part.size_px(self.cell_px)
        back: Grid = come[y : y + height, x : x + width] * np.float32(-self.cell_px)
        x, y = part.left * self.cell_px, part.top * self.cell_px
        back += self.places[y : y + height, x : x + width]
        return back

    def slices(self, part: CellBox) -> tuple[slice, slice]:
        """Return where the cells' pixels are in the picture, as (rows, columns)."""
        x, y = self.left + part.left * self.cell_px, self.top + part.top * self.cell_px
        width, height = part.size_px(self.cell_px)
        return slice(y, y + height), slice(x, x + width)


def build_fields(height: int, width: int, anatomy: Anatomy) -> Fields:
    """Work out the fields of a face in a picture of the given size."""
    px_per_cm = anatomy.mouth.px_per_cm
    cell = int(np.clip(round(_CELL_CM * px_per_cm), *_CELL_PX))
    left, top, columns, rows = _grid_around(height, width, anatomy, cell)
    places = _grid_of(np.arange(columns * cell) + left, np.arange(rows * cell) + top)
    middle = 0.5 * (cell - 1)
    at = places[::cell, ::cell] + middle
    border = _border_ramp(at, height, width)[..., np.newaxis]
    basis = np.stack([*_mouth_fields(at, anatomy), *_head_fields(at, anatomy)]) * border
    basis *= px_per_cm / cell
    rest = _closing_field(at, anatomy) * border * (px_per_cm / cell)
    return Fields(
        left=left,
        top=top,
        columns=columns,
        rows=rows,
        cell_px=cell,
        basis=basis.reshape(len(basis), -1).astype(np.float32),
        rest=rest.reshape(-1).astype(np.float32),
        nodes=_grid_of(np.arange(columns), np.arange(rows)).astype(np.float32),
        places=places.astype(np.float32),
        moving=_moving_bands(np.abs(basis).max(axis=(1, 4)), cell),
    )


def _grid_of(xs: npt.NDArray[np.int_], ys: npt.NDArray[np.int_]) -> Floats:
    return np.stack(np.meshgrid(xs, ys), axis=-1).astype(np.float64)


def _grid_around(height: int, width: int, anatomy: Anatomy, cell: int) -> tuple[int, int, int, int]:
    """Return whole cells, within the picture, that cover all that moves.

    They are (left, top) in px, then columns and rows.
    """
    reach = np.array([_HEAD_WIDE_CM, _HEAD_HIGH_CM]) * _STILL_R * anatomy.mouth.px_per_cm
    low = np.maximum(np.floor(anatomy.middle - reach), 0).astype(int)
    high = np.minimum(np.ceil(anatomy.middle + reach), (width, height)).astype(int)
    columns, rows = (high - low) // cell
    return int(low[0]), int(low[1]), int(columns), int(rows)


# A head is round: bands of so many rows of cells, each as wide as needed, spare a quarter of it.
_BAND_ROWS: Final = 14
# What moves less than this at the columns' largest values counts as still.
_STILL_PX: Final = 0.02
_LARGEST: Final = {"yaw": 0.1, "pitch": 0.1, "roll": 0.02, "shift_x": 0.1, "shift_y": 0.1}


def _moving_bands(sway: Floats, cell: int) -> tuple[CellBox, ...]:
    """Return the bands that hold all moving cells; `sway` float64[n_moving, rows, columns]."""
    largest = np.array([_LARGEST.get(name, 1.0) for name in MOVING])
    is_moving = np.tensordot(largest, sway, axes=1) * cell > _STILL_PX
    bands = []
    for top in range(0, len(is_moving), _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, len(is_moving))
        used = np.flatnonzero(is_moving[top:bottom].any(axis=0))
        if len(used):
            bands.append(CellBox(int(used[0]), top, int(used[-1]) + 1, bottom))
    return tuple(bands)


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

    `x` is across, `y` below the seam, `y_up` and `y_low` below the upper and the lower lip's edge,
    `above` and `under` the same where it is that lip's skin, else 0; `part` is 1 amid the mouth and
    0 from its corners on; `up_near` and `low_near` fade with the distance from the lips; `smile` is
    how far the seam's middle lies below its ends.
    """

    x: Floats
    y_up: Floats
    y: Floats
    y_low: Floats
    part: Floats
    up_near: Floats
    low_near: Floats
    half_width: float
    nose: float
    chin: float
    above: Floats
    under: Floats
    smile: float


def _mouth_grid(at: Floats, anatomy: Anatomy) -> _MouthGrid:
    mouth, lips = anatomy.mouth, anatomy.lips
    a, b = mouth.of_px(at)
    nose, chin = anatomy.nose_cm, anatomy.chin_cm
    y_up, y, y_low = (
        (b - lips.at(a, contour)) / mouth.px_per_cm
        for contour in (lips.upper, lips.seam, lips.lower)
    )
    above, under = np.minimum(y_up, 0.0), np.maximum(y_low, 0.0)
    up_near = np.exp(-((above / (0.55 * nose)) ** 2)) * _smoothstep((above + 1.05 * nose) / nose)
    return _MouthGrid(
        x=a * mouth.half_width_cm,
        y_up=y_up,
        y=y,
        y_low=y_low,
        part=np.maximum(0.0, 1.0 - a**2) ** 0.7,
        up_near=up_near,
        low_near=np.exp(-((under / (0.5 * chin)) ** 2)),
        half_width=mouth.half_width_cm,
        nose=nose,
        chin=chin,
        above=above,
        under=under,
        smile=float(lips.at(np.zeros(1), lips.seam)[0]) / mouth.px_per_cm,
    )


def _mouth_fields(at: Floats, anatomy: Anatomy) -> list[Floats]:
    """Return the fields of the mouth's columns in their order, float64[2, rows, columns, 2] cm."""
    grid = _mouth_grid(at, anatomy)
    if anatomy.is_hidden:
        still = np.zeros((2, *grid.x.shape, 2))
        jaw_alone = _in_picture(_jaw(replace(grid, part=np.zeros_like(grid.x))), anatomy.mouth)
        return [jaw_alone if name == "jaw" else still for name in MOUTH]
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
    drag0 = float(_smoothstep(np.array(0.9 * grid.nose / ramp)))

    def neck(y: Floats) -> Floats:
        return np.asarray(1.0 - _smoothstep((y - 1.02 * grid.chin) / (0.95 * grid.chin)))

    def drag(y: Floats) -> Floats:
        return np.asarray(_smoothstep((y + 0.9 * grid.nose) / ramp) * sideways * neck(y))

    up = drag(grid.y_up) - (drag0 + _UPPER_LIP_SHARE) * grid.part * grid.up_near
    dragged = drag(grid.y_low)
    low = dragged + (1.0 - dragged) * grid.part * grid.low_near * neck(grid.y_low)
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


# Lips that come forward narrow the mouth to about so much on each side, a smiling one by more.
_ROUND_CM: Final = 1.7
_NARROWING: Final = (0.35, 0.50)
# How much of a smile (how far its corners are above its middle, beyond what any mouth has) goes.
_PLAIN_CM: Final = 0.2
_SMILE_LOST: Final = 0.7


def _pucker(grid: _MouthGrid, lateral: float) -> Floats:
    reach = np.exp(-((np.abs(grid.x) / (1.35 * grid.half_width)) ** 4)) * _around_lips(grid)
    dx = -np.clip(1.0 - _ROUND_CM / grid.half_width, *_NARROWING) * lateral * grid.x * reach
    sagging = _SMILE_LOST * max(grid.smile - _PLAIN_CM, 0.0)
    down = sagging * np.minimum(np.abs(grid.x) / grid.half_width, 1.2) ** 2 * reach
    part = grid.part**0.75
    # A round opening: towards the corners the lips stay together.
    share2 = np.minimum((grid.x / grid.half_width) ** 2, 1.0)
    shut = 4.0 * share2 * (1.0 - share2)
    up = (0.04 * shut - 0.08 * part) * grid.up_near
    low = (0.10 * part - 0.12 * shut) * grid.low_near
    return _layers(dx, up + down, dx, low + down)


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
    if not anatomy.lips.is_open or anatomy.is_hidden:
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
# The head moves as one up to the first of these (1 is its own outline) and nothing from the second.
_FIRM_R: Final = 0.95
_STILL_R: Final = 1.5
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
    weight = 1.0 - _smoothstep((np.sqrt(r2) - _FIRM_R) / (_STILL_R - _FIRM_R))
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
