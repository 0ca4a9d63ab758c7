"""Faces of which the picture's border has left a half.

    shows_half_a_face(rgb) -> bool   for a picture in which no face was found

Mirrored at the border that cuts it, half a face is a whole one, and its middle lies on the border.
Measured on forty halves of portraits: three in four are seen so, and none in pictures without.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from sayso.engine.face_mesh import Rgb, shrink
from sayso.engine.face_search import find_faces

# Mirroring doubles the picture, and half a face that matters is large in it.
_SIDE_PX: Final = 640
# The middles of mirrored halves lie within .07 of their size from the border, those of others
# at .86 and more.
_NEAR: Final = 0.25


def shows_half_a_face(rgb: Rgb) -> bool:
    """Whether a face of the picture, RGB uint8[h, w, 3], is cut in two by its border."""
    small, _ = shrink(rgb, _SIDE_PX / max(rgb.shape[:2]))
    return any(_has_face_on_border(small, axis) for axis in (0, 1))


def _has_face_on_border(rgb: Rgb, axis: int) -> bool:
    """Mirror the picture at both ends of an axis (0: x, 1: y) and look at where they were."""
    length = rgb.shape[1 - axis]
    beyond = length // 2
    x, y = (beyond, 0) if axis == 0 else (0, beyond)
    mirrored = np.asarray(cv2.copyMakeBorder(rgb, y, y, x, x, cv2.BORDER_REFLECT_101), np.uint8)
    for face in find_faces(mirrored, tiles="never"):
        middle = face.middle[axis] - beyond
        if min(abs(middle), abs(middle - length)) < _NEAR * face.size_px:
            return True
    return False
