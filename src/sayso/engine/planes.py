"""Pictures as the encoder takes them: brightness in full, colour at half the size.

    planes_of(bgr)                 -> Planes
    planes.with_part(bgr, at=...)  -> Planes    a copy with a part drawn anew

BT.709 in limited range, 4:2:0, as the video's tags say. A frame's still part is converted once for
all frames, and threads that draw convert what they have drawn: the encoder's own has enough to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Bgr = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.uint8]

# ITU-R BT.709: Y, U and V of blue, green and red, all in 0..255; the last column is added.
_KR, _KB = 0.2126, 0.0722
_KG: Final = 1.0 - _KR - _KB
_YUV_OF_BGR: Final = np.array(
    [
        [219 / 255 * _KB, 219 / 255 * _KG, 219 / 255 * _KR, 16.0],
        [112 / 255, -112 / 255 * _KG / (1 - _KB), -112 / 255 * _KR / (1 - _KB), 128.0],
        [-112 / 255 * _KB / (1 - _KR), -112 / 255 * _KG / (1 - _KR), 112 / 255, 128.0],
    ]
)


@dataclass(frozen=True, eq=False)
class Planes:
    """A frame of even size: `buffer` uint8[height * 3 / 2, width] holds Y, then U, then V."""

    buffer: Plane

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height)."""
        rows, width = self.buffer.shape
        return int(width), int(rows * 2 // 3)

    def with_part(self, bgr: Bgr, *, at: tuple[int, int]) -> Planes:
        """Return a copy that shows `bgr` at (left, top); its size and place are even."""
        copy = Planes(self.buffer.copy())
        _draw(copy, bgr, at)
        return copy


def planes_of(bgr: Bgr) -> Planes:
    """Convert a whole picture, uint8[height, width, 3] of even size."""
    height, width = bgr.shape[:2]
    planes = Planes(np.empty((height * 3 // 2, width), np.uint8))
    _draw(planes, bgr, (0, 0))
    return planes


def _draw(planes: Planes, bgr: Bgr, at: tuple[int, int]) -> None:
    """Draw a part into planes, in place."""
    left, top = at
    height, width = bgr.shape[:2]
    whole_width, whole_height = planes.size
    luma, chroma = np.split(planes.buffer.reshape(-1), [whole_width * whole_height])
    y = luma.reshape(whole_height, whole_width)
    y[top : top + height, left : left + width] = cv2.transform(bgr, _YUV_OF_BGR)[..., 0]
    # Four pixels share one colour: that of their mean.
    half = (width // 2, height // 2)
    small = cv2.transform(cv2.resize(bgr, half, interpolation=cv2.INTER_AREA), _YUV_OF_BGR)
    uv = chroma.reshape(2, whole_height // 2, whole_width // 2)
    rows, columns = slice(top // 2, top // 2 + half[1]), slice(left // 2, left // 2 + half[0])
    uv[:, rows, columns] = np.moveaxis(small[..., 1:], -1, 0)
