"""The small square picture by which a portrait is known in a list.

    thumbnail_of(rgb, face) -> bytes   a WebP of `SIDE_PX`, at most `LARGEST_BYTES`
    is_webp(content) -> bool           whether bytes start as one

It is cut around the face, with air for the hair and the chin. Where there is no face it is as large
as it can be, from the middle of a wide picture and from the upper part of a tall one, where people
have their heads. It is made of pixels alone, so nothing of the file's metadata is in it.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE_PX: Final = 96
"""Twice and more what a list shows, for screens with small pixels."""

LARGEST_BYTES: Final = 4096
"""It lies in a row of a table, so it must stay small; a CHECK there says the same."""

# How many faces wide the cut is, and how much of a face above its box the middle lies: a box goes
# from the brows to the chin, and hair belongs to how somebody looks.
_AIR: Final = 1.9
_UP: Final = 0.1
# Where the cut of a tall picture without a face lies: this share of what is left over is above it.
_HEADROOM: Final = 0.25
# Faces take 2 to 3 KB at the first; pure noise fits at the last.
_QUALITIES: Final = (70, 50, 30, 10, 0)
# Averaging whole pixels before the fine filter costs a tenth of the time for huge pictures.
_REDUCING_GAP: Final = 3.0

Rgb = npt.NDArray[np.uint8]


def thumbnail_of(rgb: Rgb, face: tuple[float, float, float, float] | None) -> bytes:
    """Return the thumbnail of a picture, uint8[h, w, 3] and upright.

    `face` is a box in its pixels: left, top, right, bottom.
    """
    left, top, side = _square(rgb.shape[1], rgb.shape[0], face)
    cut = Image.fromarray(np.ascontiguousarray(rgb[top : top + side, left : left + side]))
    small = cut.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    return _encoded(small)


def is_webp(content: bytes) -> bool:
    """Say whether bytes start as a WebP file does."""
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def _square(
    width: int, height: int, face: tuple[float, float, float, float] | None
) -> tuple[int, int, int]:
    """Return left, top and side of the cut: whole pixels, all of them in the picture."""
    most = min(width, height)
    if face is None:
        return (width - most) // 2, round((height - most) * _HEADROOM), most
    left, top, right, bottom = face
    size = max(right - left, bottom - top)
    side = max(1, min(most, round(size * _AIR)))
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2 - _UP * size
    return (
        _within(round(middle_x - side / 2), width - side),
        _within(round(middle_y - side / 2), height - side),
        side,
    )


def _within(start: int, last: int) -> int:
    return min(max(start, 0), last)


def _encoded(picture: Image.Image) -> bytes:
    """Return it as WebP, in the best of the qualities whose file is small enough."""
    content = b""
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality, method=6)
        content = file.getvalue()
        if len(content) <= LARGEST_BYTES:
            break
    return content
