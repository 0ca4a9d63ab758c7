"""A portrait made ready to speak: everything about it that no frame changes.

    build_rig(rgb, mesh, long_side_px=..., crop=...)   -> Rig

The picture is brought to the output's size once. Then its lip line is found (`lipline`), its skin's
moves are laid down (`fields`), its mouth's inside is drawn (`interior`) in its own light (`tone`)
and its eyelids are closed (`lids`). A rig is never written to again, so threads may share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.face import Mesh
from sayso.engine.fields import JAW_CM, UP, Anatomy, Fields, build_fields
from sayso.engine.interior import Interior, build_interior
from sayso.engine.lids import Lid, build_lids
from sayso.engine.lipline import find_lip_line, mouth_frame
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

    `picture` is the working picture, BGR uint8[height, width, 3] of even size. `lip_depths`
    float32[2, h, w] covers `mouth_box` (left, top, width, height in px): how far a pixel lies below
    the upper lip's edge and below the lower lip's edge, px.
    """

    picture: Bgr
    anatomy: Anatomy
    fields: Fields
    pixels: npt.NDArray[np.float32]
    is_low: npt.NDArray[np.bool_]
    skull: npt.NDArray[np.float32]
    mouth_box: tuple[int, int, int, int]
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
    of 2.7 times the face. Sizes are rounded to even numbers. Smaller pictures are enlarged (cubic),
    but at most to twice their size.
    """
    picture, points, px_per_cm = _working_picture(rgb, mesh, long_side_px, crop)
    anatomy = _anatomy(picture, points, px_per_cm, mesh)
    fields = build_fields(picture.shape[0], picture.shape[1], anatomy)
    mouth_box = _mouth_box(anatomy, fields, picture)
    return Rig(
        picture=picture,
        anatomy=anatomy,
        fields=fields,
        pixels=_pixel_grid(fields, picture),
        is_low=_is_low(anatomy, fields),
        skull=_skull(anatomy, fields),
        mouth_box=mouth_box,
        lip_depths=_lip_depths(anatomy, mouth_box),
        interior=build_interior(picture, anatomy, read_tone(picture, points)),
        lids=build_lids(picture, points),
    )


# The working picture.


def _working_picture(
    rgb: Rgb, mesh: Mesh, long_side_px: int, crop: Crop
) -> tuple[Bgr, Floats, float]:
    """Return the picture at the output's size (BGR), and the mesh's points and scale in it."""
    left, top, width, height = (
        (0, 0, rgb.shape[1], rgb.shape[0]) if crop == "picture" else _face_square(rgb, mesh)
    )
    scale = min(long_side_px / max(width, height), _MAX_ENLARGEMENT)
    size = [max(2, 2 * round(side * scale / 2)) for side in (width, height)]
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


def _anatomy(picture: Bgr, points: Floats, px_per_cm: float, mesh: Mesh) -> Anatomy:
    mouth = mouth_frame(points, px_per_cm)
    lips = find_lip_line(picture, points, mouth)
    middle_a = float(mouth.of_px(points[[13, 14], :2].mean(axis=0))[0])
    seam = mouth.to_px(np.array(middle_a), lips.at(np.array(middle_a), lips.seam))

    def from_seam(number: int) -> float:
        return float(abs((points[number, :2] - seam) @ mouth.down)) / px_per_cm

    eyes = points[list(_EYES), :2].mean(axis=0)
    turned = (abs(mesh.pose.yaw_rad) - _TURNED_RAD[0]) / (_TURNED_RAD[1] - _TURNED_RAD[0])
    return Anatomy(
        mouth=mouth,
        lips=lips,
        nose_cm=max(from_seam(_NOSE_BASE), 1.0),
        chin_cm=max(from_seam(_CHIN), 2.0),
        middle=(eyes + seam) / 2,
        brows=points[list(_BROWS), :2].mean(axis=0),
        lateral=float(np.clip(1.0 - 0.5 * turned, 0.5, 1.0)),
    )


# What the renderer looks up.


def _pixel_grid(fields: Fields, picture: Bgr) -> npt.NDArray[np.float32]:
    """Return each moving pixel's own place, float32[h, w, 2]."""
    right = min(fields.left + fields.columns * fields.cell_px, picture.shape[1])
    bottom = min(fields.top + fields.rows * fields.cell_px, picture.shape[0])
    x, y = np.meshgrid(
        np.arange(fields.left, right, dtype=np.float32),
        np.arange(fields.top, bottom, dtype=np.float32),
    )
    return np.stack([x, y], axis=-1)


def _is_low(anatomy: Anatomy, fields: Fields) -> npt.NDArray[np.bool_]:
    """Return the cells that the lower layer fills outside the mouth box, bool[rows, columns, 1]."""
    at = (fields.nodes.astype(np.float64) + 0.5) * fields.cell_px - 0.5 + (fields.left, fields.top)
    a, b = anatomy.mouth.of_px(at)
    below = (b - anatomy.lips.at(a, anatomy.lips.seam)) / anatomy.mouth.px_per_cm
    return np.asarray(below > 0.5 * JAW_CM)[..., np.newaxis]


def _skull(anatomy: Anatomy, fields: Fields) -> npt.NDArray[np.float32]:
    """Return how far each column moves the skull at the mouth, float32[len(COLUMNS), 2] px."""
    cell = (anatomy.mouth.origin - (fields.left, fields.top) + 0.5) / fields.cell_px - 0.5
    column, line = (int(place) for place in np.round(cell))
    basis = fields.basis.reshape(-1, 2, fields.rows, fields.columns, 2)
    skull = np.zeros((len(COLUMNS), 2), np.float32)
    for name in SKULL:
        skull[COLUMN[name]] = basis[COLUMN[name], UP, line, column] * fields.cell_px
    return skull


def _mouth_box(anatomy: Anatomy, fields: Fields, picture: Bgr) -> tuple[int, int, int, int]:
    """Return the box in which the layers part, whole cells: (left, top, width, height) px.

    It reaches as far as the lips do at their widest while the head turns as far as it may.
    """
    mouth = anatomy.mouth
    seam = anatomy.lips.seam
    reach_x = 1.2 * mouth.half_width_px + 0.7 * mouth.px_per_cm
    low_b = float(seam.min()) - 1.1 * mouth.px_per_cm
    high_b = float(seam.max()) + 2.3 * mouth.px_per_cm
    corners = np.array(
        [
            mouth.to_px(np.array(sign * reach_x / mouth.half_width_px), np.array(b))
            for sign in (-1.0, 1.0)
            for b in (low_b, high_b)
        ]
    )
    start = np.array([fields.left, fields.top])
    low = np.maximum(np.floor((corners.min(axis=0) - start) / fields.cell_px), 0).astype(int)
    high = np.ceil((corners.max(axis=0) - start) / fields.cell_px).astype(int)
    low_px = start + low * fields.cell_px
    high_px = np.minimum(start + high * fields.cell_px, picture.shape[1::-1])
    width, height = high_px - low_px
    return int(low_px[0]), int(low_px[1]), int(width), int(height)


def _lip_depths(anatomy: Anatomy, box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
    left, top, width, height = box
    at = np.stack(
        np.meshgrid(np.arange(left, left + width), np.arange(top, top + height)), axis=-1
    ).astype(np.float64)
    a, b = anatomy.mouth.of_px(at)
    lips = anatomy.lips
    depths = np.stack([b - lips.at(a, lips.upper), b - lips.at(a, lips.lower)])
    return depths.astype(np.float32)
