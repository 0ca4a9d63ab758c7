"""A portrait made ready to speak: everything about it that no frame changes.

    build_rig(rgb, mesh, long_side_px=..., crop=...)   -> Rig

The picture is brought to the output's size once. Then its lip line is found (`lipline`), its skin's
moves are laid down (`fields`), its mouth's inside is drawn (`interior`) in its own light (`tone`)
and its eyelids are closed (`lids`). A rig is never written to again, so threads may share it.
"""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from dataclasses import fields as dataclass_fields
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.face import Mesh, Pose, is_mouth_hidden
from sayso.engine.fields import JAW_CM, UP, Anatomy, CellBox, Fields, build_fields
from sayso.engine.interior import Interior, build_interior
from sayso.engine.lids import Lid, build_lids
from sayso.engine.lipline import find_lip_line, mouth_frame, settle_lips
from sayso.engine.params import COLUMN, COLUMNS, SKULL
from sayso.engine.tone import read_tone

Rgb = npt.NDArray[np.uint8]
Bgr = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Crop = Literal["picture", "face"]

# A square this many times the face leaves room for hair and shoulders.
_FACE_CROP: Final = 2.7
# Beyond twice its size a picture only gets blurred and costly.
_MAX_ENLARGEMENT: Final = 2.0
_NOSE_BASE, _CHIN = 2, 152
_BROWS: Final = (105, 66, 334, 296)
_EYES: Final = (33, 133, 362, 263)
# On a turned face, corners that move sideways by the full amount leave the cheek.
_TURNED_RAD: Final = (np.radians(15.0), np.radians(35.0))


@dataclass(frozen=True, eq=False)
class Rig:
    """What `render_frame` draws from.

    `picture` is the working picture, BGR uint8[height, width, 3] of even size; `points`
    float64[468, 3] is the mesh in it. `mouth_cells` are the cells in which the two layers part, and
    `lip_depths` float32[2, h, w] says for their pixels how many px each lies below the upper lip's
    and below the lower lip's edge; elsewhere the lower layer fills the cells of `is_low`,
    bool[rows, columns, 1].
    `skull` float32[len(COLUMNS), 2] is the px by which each column moves the skull
    behind the mouth. All that ever moves lies within the rows and columns of `stage`, of even
    place and size.
    """

    picture: Bgr
    points: Floats
    anatomy: Anatomy
    fields: Fields
    is_low: npt.NDArray[np.bool_]
    skull: npt.NDArray[np.float32]
    mouth_cells: CellBox
    stage: tuple[slice, slice]
    lip_depths: npt.NDArray[np.float32]
    interior: Interior
    lids: tuple[Lid, ...]

    @property
    def width(self) -> int:
        """The frame's width, px, even."""
        return int(self.picture.shape[1])

    @property
    def height(self) -> int:
        """The frame's height, px, even."""
        return int(self.picture.shape[0])

    def skull_shift(self, row: npt.NDArray[np.float32]) -> Floats:
        """Return how far the head's motion carries the mouth's place in the skull, (x, y) px."""
        return np.asarray(row @ self.skull, np.float64)


def build_rig(rgb: Rgb, mesh: Mesh, *, long_side_px: int = 720, crop: Crop = "picture") -> Rig:
    """Make the face `mesh` of a picture, RGB uint8[h, w, 3], ready to speak.

    `crop="picture"` shows all of it with its longer side at `long_side_px`, `crop="face"` a square
    of 2.7 times the face, or what the picture has of it. Sizes are rounded down to even numbers.
    Smaller pictures are enlarged (cubic), but at most to twice their size.
    """
    picture, points, px_per_cm = _working_picture(rgb, mesh, long_side_px, crop)
    is_hidden = is_mouth_hidden(rgb, mesh)
    anatomy = _anatomy(picture, points, px_per_cm, mesh.pose, is_hidden=is_hidden)
    fields = build_fields(picture.shape[0], picture.shape[1], anatomy)
    mouth_cells = _mouth_cells(anatomy, fields)
    lids = build_lids(picture, points)
    rig = Rig(
        picture=picture,
        points=points,
        anatomy=anatomy,
        fields=fields,
        is_low=_is_low(anatomy, fields),
        skull=_skull(anatomy, fields),
        mouth_cells=mouth_cells,
        stage=_stage(fields, mouth_cells, lids, picture.shape[:2]),
        lip_depths=_lip_depths(anatomy, fields, mouth_cells),
        interior=build_interior(picture, anatomy, read_tone(picture, points)),
        lids=lids,
    )
    _freeze(rig)
    return rig


# The working picture.


def _working_picture(
    rgb: Rgb, mesh: Mesh, long_side_px: int, crop: Crop
) -> tuple[Bgr, Floats, float]:
    """Return the picture at the output's size (BGR), and the mesh's points and scale in it."""
    left, top, width, height = (
        (0, 0, rgb.shape[1], rgb.shape[0]) if crop == "picture" else _face_square(rgb, mesh)
    )
    scale = min(long_side_px / max(width, height), _MAX_ENLARGEMENT)
    size = [max(2, 2 * int(side * scale / 2 + 1e-6)) for side in (width, height)]
    part = rgb[top : top + height, left : left + width]
    how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    picture = cv2.resize(part, size, interpolation=how) if size != [width, height] else part
    factors = np.array([size[0] / width, size[1] / height, scale])
    half = np.array([0.5, 0.5, 0.0])
    points = (mesh.points - (left, top, 0.0) + half) * factors - half
    bgr = np.ascontiguousarray(picture[..., ::-1], np.uint8)
    return (
        bgr,
        np.asarray(points),
        mesh.pose.scale_px_per_cm * float(np.sqrt(factors[0] * factors[1])),
    )


def _face_square(rgb: Rgb, mesh: Mesh) -> tuple[int, int, int, int]:
    """Return the square around the face, cut to the picture: (left, top, width, height)."""
    low, high = mesh.points[:, :2].min(axis=0), mesh.points[:, :2].max(axis=0)
    side = _FACE_CROP * float((high - low).max())
    start = np.maximum(np.round((low + high) / 2 - side / 2), 0).astype(int)
    end = np.minimum(np.round((low + high) / 2 + side / 2), rgb.shape[1::-1]).astype(int)
    return int(start[0]), int(start[1]), int(end[0] - start[0]), int(end[1] - start[1])


# Measures.


def _anatomy(
    picture: Bgr, points: Floats, px_per_cm: float, pose: Pose, *, is_hidden: bool
) -> Anatomy:
    points = settle_lips(picture, points, px_per_cm)
    mouth = mouth_frame(points, px_per_cm)
    lips = find_lip_line(picture, points, mouth)
    middle_a = float(mouth.of_px(points[[13, 14], :2].mean(axis=0))[0])
    seam = mouth.to_px(np.array(middle_a), lips.at(np.array(middle_a), lips.seam))

    def from_seam(number: int) -> float:
        return float(abs((points[number, :2] - seam) @ mouth.down)) / px_per_cm

    eyes = points[list(_EYES), :2].mean(axis=0)
    turned = (abs(pose.yaw_rad) - _TURNED_RAD[0]) / (_TURNED_RAD[1] - _TURNED_RAD[0])
    return Anatomy(
        mouth=mouth,
        lips=lips,
        nose_cm=max(from_seam(_NOSE_BASE), 1.0),
        chin_cm=max(from_seam(_CHIN), 2.0),
        middle=(eyes + seam) / 2,
        brows=points[list(_BROWS), :2].mean(axis=0),
        midline_cm=middle_a * mouth.half_width_cm,
        is_hidden=is_hidden,
        lateral=float(np.clip(1.0 - 0.5 * turned, 0.5, 1.0)),
    )


# What the renderer looks up.


def _is_low(anatomy: Anatomy, fields: Fields) -> npt.NDArray[np.bool_]:
    """Return the cells that the lower layer fills outside the mouth's, bool[rows, columns, 1]."""
    cell = fields.cell_px
    at = fields.places[::cell, ::cell].astype(np.float64) + 0.5 * (cell - 1)
    a, b = anatomy.mouth.of_px(at)
    below = (b - anatomy.lips.at(a, anatomy.lips.seam)) / anatomy.mouth.px_per_cm
    return np.asarray(below > 0.5 * JAW_CM)[..., np.newaxis]


def _skull(anatomy: Anatomy, fields: Fields) -> npt.NDArray[np.float32]:
    cell = (anatomy.mouth.origin - (fields.left, fields.top) + 0.5) / fields.cell_px - 0.5
    column, line = (int(place) for place in np.round(cell))
    basis = fields.basis.reshape(-1, 2, fields.rows, fields.columns, 2)
    skull = np.zeros((len(COLUMNS), 2), np.float32)
    for name in SKULL:
        skull[COLUMN[name]] = basis[COLUMN[name], UP, line, column] * fields.cell_px
    return skull


# How far the mouth's box reaches beyond the corners, above and below the lips, cm: as far as the
# lips go at their widest while the head turns as far as it may.
_BESIDE_CM: Final = 0.7
_ABOVE_CM: Final = 1.1
_BELOW_CM: Final = 2.3


def _mouth_cells(anatomy: Anatomy, fields: Fields) -> CellBox:
    mouth, seam = anatomy.mouth, anatomy.lips.seam
    reach = 1.2 + _BESIDE_CM / mouth.half_width_cm
    a = np.array([-reach, reach, -reach, reach])
    low_b = float(seam.min()) - _ABOVE_CM * mouth.px_per_cm
    high_b = float(seam.max()) + _BELOW_CM * mouth.px_per_cm
    corners = mouth.to_px(a, np.array([low_b, low_b, high_b, high_b]))
    cells = (corners - (fields.left, fields.top)) / fields.cell_px
    low = np.maximum(np.floor(cells.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(cells.max(axis=0)), (fields.columns, fields.rows)).astype(int)
    return CellBox(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _lip_depths(anatomy: Anatomy, fields: Fields, cells: CellBox) -> npt.NDArray[np.float32]:
    rows, columns = fields.slices(cells)
    at = fields.places[
        rows.start - fields.top : rows.stop - fields.top,
        columns.start - fields.left : columns.stop - fields.left,
    ]
    a, b = anatomy.mouth.of_px(at.astype(np.float64))
    lips = anatomy.lips
    depths = np.stack([b - lips.at(a, lips.upper), b - lips.at(a, lips.lower)])
    return depths.astype(np.float32)


def _stage(
    fields: Fields, mouth_cells: CellBox, lids: tuple[Lid, ...], shape: tuple[int, int]
) -> tuple[slice, slice]:
    boxes = [fields.slices(cells) for cells in (*fields.moving, mouth_cells)]
    boxes += [
        (
            slice(lid.top, lid.top + lid.depth.shape[0]),
            slice(lid.left, lid.left + lid.depth.shape[1]),
        )
        for lid in lids
    ]
    rows, columns = (
        slice(
            min(box[axis].start for box in boxes) // 2 * 2,
            min(-(-max(box[axis].stop for box in boxes) // 2) * 2, shape[axis]),
        )
        for axis in (0, 1)
    )
    return rows, columns


def _freeze(part: object) -> None:
    """Make every array of a rig, however deep, read-only."""
    if isinstance(part, np.ndarray):
        part.setflags(write=False)
    elif isinstance(part, tuple):
        for member in part:
            _freeze(member)
    elif is_dataclass(part):
        for field in dataclass_fields(part):
            _freeze(getattr(part, field.name))
