"""Faces drawn by code on the standard head's own points: no picture, no network, no chance.

a_drawn_face()                       -> (rgb, mesh)   lips closed
a_drawn_face(mouth_gap_cm=1.2, ...)  -> (rgb, mesh)   lips parted, teeth between them
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.face import Mesh
from sayso.engine.face_mesh import pose_of
from sayso.engine.face_nets import canonical_points
from sayso.engine.lipline import INNER_LOWER, INNER_UPPER, OUTER_LOWER, OUTER_UPPER

Rgb = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

PX_PER_CM: Final = 13.0
SKIN: Final = (205, 160, 140)
LIPS: Final = (170, 70, 75)
TEETH: Final = (235, 230, 220)
_EYES: Final = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382),
)
_CHIN_RING: Final = (152, 148, 377, 176, 400, 175, 199, 200)


def a_drawn_face(
    *,
    height: int = 420,
    width: int = 360,
    mouth_gap_cm: float = 0.0,
    between: Colour = TEETH,
    rows: bool = False,
) -> tuple[Rgb, Mesh]:
    """Return a picture, RGB uint8[height, width, 3], and the mesh of the face in it.

    `rows` darkens the middle of the gap, which leaves an upper and a lower row of teeth.
    """
    points = _points(height, width, mouth_gap_cm)
    rgb = _background(height, width)
    _fill(rgb, cv2.convexHull(points[:, :2].astype(np.float32))[:, 0], SKIN)
    _fill(rgb, points[[*OUTER_UPPER, *OUTER_LOWER[-2:0:-1]], :2], LIPS)
    inner = points[[*INNER_UPPER, *INNER_LOWER[-2:0:-1]], :2]
    if mouth_gap_cm:
        _fill(rgb, inner, between)
        if rows:
            amid = points[list(INNER_UPPER), :2] * 0.45 + points[list(INNER_LOWER), :2] * 0.55
            line = np.round(amid * 16).astype(np.int32)
            thick = round(0.22 * mouth_gap_cm * PX_PER_CM)
            cv2.polylines(rgb, [line], False, (45, 15, 18), thick, cv2.LINE_AA, 4)
    else:
        line = np.round(points[list(INNER_UPPER), :2] * 16).astype(np.int32)
        cv2.polylines(rgb, [line], False, (95, 35, 40), 2, cv2.LINE_AA, 4)
    for eye in _EYES:
        _fill(rgb, points[list(eye), :2], (240, 240, 240))
        middle = points[list(eye), :2].mean(axis=0)
        cv2.circle(rgb, tuple(np.round(middle).astype(int).tolist()), 6, (60, 40, 30), -1)
    grain = np.random.default_rng(7).normal(0.0, 3.0, rgb.shape)
    grained = np.clip(cv2.GaussianBlur(rgb, (0, 0), 0.8) + grain, 0, 255).astype(np.uint8)
    return grained, Mesh(points=points, score=1.0, pose=pose_of(points))


def _points(height: int, width: int, mouth_gap_cm: float) -> Floats:
    """Return the standard head's points in px, float64[468, 3], its inner lips apart by the gap."""
    head = canonical_points() * (1.0, -1.0, -1.0)
    points = head * PX_PER_CM + (width / 2, 0.52 * height, 0.0)
    upper, lower = list(INNER_UPPER), list(INNER_LOWER)
    places = points[lower, 0] - points[13, 0]
    lens = 1.0 - (places / np.abs(places).max()) ** 2
    points[lower] = points[upper]
    points[lower, 1] += mouth_gap_cm * PX_PER_CM * lens
    points[list(OUTER_LOWER)[1:-1], 1] += mouth_gap_cm * PX_PER_CM * lens[1:-1]
    points[list(_CHIN_RING), 1] += 0.5 * mouth_gap_cm * PX_PER_CM
    return np.asarray(points, np.float64)


def _background(height: int, width: int) -> Rgb:
    y, x = np.mgrid[0:height, 0:width]
    stripes = 20 * ((x // 12 + y // 20) % 2)
    return np.stack([90 + stripes, 110 + stripes, 150 - stripes], axis=-1).astype(np.uint8)


def _fill(rgb: Rgb, outline: npt.NDArray[Any], colour: Colour) -> None:
    cv2.fillPoly(rgb, [np.round(outline * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
