"""Blinking: eyelids closed once per portrait, and drawn down to a moving line per frame.

    build_lids(bgr, points)            -> tuple[Lid, ...]   none for an eye that cannot blink
    close_lids(picture, lids, blink)   -> None              in place, on a copy of the picture

The lid is not stretched: that smears lashes and make-up into black combs. Its closed picture is
grown from the skin around the eye instead (A. Telea, "An image inpainting technique based on the
fast marching method", J. Graphics Tools 9(1), 2004), and shown above the line that moves down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Bgr = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Plane = npt.NDArray[np.float32]

# Upper and lower contour of each eye's opening, from the picture's left to its right.
_EYES: Final = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263)),
)
_MIN_WIDTH_PX: Final = 9.0
# Eyes more closed than this (opening over width) have nothing to cover.
_MIN_OPENING: Final = 0.10
# Inpainting works at this eye width, whatever the picture's: cost and texture stay the same.
_GROW_WIDTH_PX: Final = 28.0
# In eye widths: how far lashes and liner reach above and below the opening.
_LASHES_UP: Final = 0.17
_LASHES_DOWN: Final = 0.10
_LASHES_SIDE: Final = 0.06
_HIDDEN_SHARE: Final = 0.25
# A lid is at least this light, as a share of the skin under the eye.
_DARKEST_LID: Final = 0.6
# A closed lid turns down towards its lashes; what is grown there from below the eye is too light.
_TURNED_DOWN: Final = 0.16
# Half as far as the skin under the eye reaches that is looked at, in eye widths.
_BAND: Final = 0.15
_GLARE_PX: Final = 5
_GLARE_LIGHTER: Final = 1.25
_GLARE_LEAST: Final = 190.0
_LUMA: Final = np.array([0.114, 0.587, 0.299], np.float32)


@dataclass(frozen=True, eq=False)
class Lid:
    """One eye's box, at `left` and `top` in the picture.

    `closed` float32[h, w, 3] BGR is the closed lid; `depth` float32[h, w] says how many px a pixel
    lies below the upper contour, `opening` how many the lower contour does, `zone` 0..1 where the
    lid may cover; `lash_px` and `lash_dark` are the lash line's thickness and strength.
    """

    left: int
    top: int
    closed: Plane
    depth: Plane
    opening: Plane
    zone: Plane
    lash_px: float
    lash_dark: float


def build_lids(bgr: Bgr, points: Floats) -> tuple[Lid, ...]:
    """Prepare the lids of the face with the given mesh points in a picture, BGR uint8[h, w, 3]."""
    lids = (_build_lid(bgr, points, upper, lower) for upper, lower in _EYES)
    return tuple(lid for lid in lids if lid is not None)


def close_lids(picture: Bgr, lids: Sequence[Lid], blink: float) -> None:
    """Close the eyes of `picture` by the share `blink` (0..1), in place."""
    if blink <= 0.0:
        return
    appear = min(1.0, 4.0 * blink)
    for lid in lids:
        height, width = lid.depth.shape
        eye = picture[lid.top : lid.top + height, lid.left : lid.left + width]
        inside = blink * lid.opening - lid.depth
        cover = np.clip(inside + 0.5, 0.0, 1.0) * lid.zone * appear
        lash = np.exp(-(((inside - 0.4 * lid.lash_px) / lid.lash_px) ** 2))
        shade = (1.0 - lid.lash_dark * appear * lash * lid.zone)[..., np.newaxis]
        mixed = eye + (lid.closed - eye) * cover[..., np.newaxis]
        # Dark skin keeps its hue: lashes that only darkened it would look gray against it.
        light = (mixed @ _LUMA)[..., np.newaxis]
        mixed = light * shade + (mixed - light) * np.sqrt(shade)
        eye[:] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Eye:
    """The pixels of an eye's box, in eye widths; float64[h, w] each.

    `along` runs from corner (0) to corner (1), `depth` is below the upper contour, `opening` how
    far the lower contour is.
    """

    crop: Bgr
    along: Floats
    depth: Floats
    opening: Floats
    width_px: float


def _build_lid(
    bgr: Bgr, points: Floats, upper: tuple[int, ...], lower: tuple[int, ...]
) -> Lid | None:
    left, top, eye = _measure(bgr, points, upper, lower)
    if eye.width_px < _MIN_WIDTH_PX or eye.opening.max() < _MIN_OPENING:
        return None
    return Lid(
        left=left,
        top=top,
        closed=_closed_lid(eye),
        depth=(eye.depth * eye.width_px).astype(np.float32),
        opening=(eye.opening * eye.width_px).astype(np.float32),
        zone=(_zone(eye) * (1.0 - _glare(eye))).astype(np.float32),
        lash_px=max(0.8, 0.035 * eye.width_px),
        lash_dark=0.55,
    )


def _measure(
    bgr: Bgr, points: Floats, upper: tuple[int, ...], lower: tuple[int, ...]
) -> tuple[int, int, _Eye]:
    """Return the left and top of an eye's box, and the eye in it."""
    left, right = points[upper[0], :2], points[upper[-1], :2]
    width = float(np.linalg.norm(right - left))
    along = (right - left) / width
    down = np.array([-along[1], along[0]])
    reach = np.array([0.75, 0.6]) * width
    low = np.maximum(np.floor((left + right) / 2 - reach), 0).astype(int)
    high = np.minimum(np.ceil((left + right) / 2 + reach), bgr.shape[1::-1]).astype(int)
    grid = np.stack(np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1])), axis=-1)
    a, b = (grid - left) @ along / width, (grid - left) @ down / width
    contours = []
    for numbers in (upper, lower):
        offset = points[list(numbers), :2] - left
        places = np.maximum.accumulate(offset @ along / width)
        contours.append(np.interp(a, places, offset @ down / width))
    eye = _Eye(
        crop=bgr[low[1] : high[1], low[0] : high[0]],
        along=a,
        depth=b - contours[0],
        opening=np.maximum(contours[1] - contours[0], 0.0),
        width_px=width,
    )
    return int(low[0]), int(low[1]), eye


def _zone(eye: _Eye) -> Floats:
    """Return where the lid may cover: between the corners, from the lashes' roots down."""
    sides = _smoothstep((eye.along + 0.02) / 0.08) * _smoothstep((1.02 - eye.along) / 0.08)
    return np.asarray(sides * _smoothstep((eye.depth + _LASHES_UP) / (0.6 * _LASHES_UP)))


def _closed_lid(eye: _Eye) -> Plane:
    """Grow the skin around an eye over its opening and lashes, float32[h, w, 3]."""
    full = (eye.along.shape[1], eye.along.shape[0])
    size = tuple(max(8, round(side * _GROW_WIDTH_PX / eye.width_px)) for side in full)
    small = cv2.resize(eye.crop, size, interpolation=cv2.INTER_AREA)
    side = 2 * round(0.08 * _GROW_WIDTH_PX) + 1
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    bare = cv2.morphologyEx(small, cv2.MORPH_CLOSE, brush)
    hidden = (eye.depth > -_LASHES_UP) & (eye.depth < eye.opening + _LASHES_DOWN)
    hidden &= np.abs(eye.along - 0.5) < 0.5 + _LASHES_SIDE
    share = cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mask = (np.asarray(share) > _HIDDEN_SHARE).astype(np.uint8)
    grown = cv2.GaussianBlur(cv2.inpaint(bare, mask, 3.0, cv2.INPAINT_TELEA), (0, 0), 1.2)
    large = np.asarray(cv2.resize(grown, full, interpolation=cv2.INTER_CUBIC), np.float32)
    # The eyeball's dome under the lid: lighter above its middle, darker towards the lashes.
    t = np.clip(eye.depth / np.maximum(eye.opening, 1e-3), -0.5, 1.2)
    # Under a heavy brow the skin grown from above is all shadow; a lid comes forward out of it.
    least = _DARKEST_LID * _smoothstep((t + 0.3) / 1.3) * float(_skin_below(eye) @ _LUMA)
    large *= np.maximum(least / np.maximum(large @ _LUMA, 1.0), 1.0)[..., np.newaxis]
    dome = 1.0 + 0.03 * np.exp(-(((t - 0.3) / 0.4) ** 2)) - _TURNED_DOWN * _smoothstep(t / 1.1)
    return np.asarray(large * dome[..., np.newaxis], np.float32)


def _skin_below(eye: _Eye) -> Plane:
    """Return the usual colour of the skin under an eye, BGR float32[3]."""
    below = eye.depth - eye.opening
    where = (np.abs(below - 0.3) < _BAND) & (np.abs(eye.along - 0.5) < 1.0 - 4 * _BAND)
    pixels = eye.crop[where] if where.any() else eye.crop.reshape(-1, 3)
    return np.asarray(np.median(pixels, axis=0), np.float32)


def _glare(eye: _Eye) -> Floats:
    """Return where a pane shines, 0..1: glasses are in front of the lid and keep their shine.

    It is white, far brighter than the skin, and larger than the light in an eye.
    """
    light = np.asarray(cv2.medianBlur(eye.crop, _GLARE_PX) @ _LUMA, np.float64)
    brightest = max(_GLARE_LIGHTER * float(_skin_below(eye) @ _LUMA), _GLARE_LEAST)
    # Within the opening it may be the white of the eye.
    over_lid = (eye.depth < 0.0) | (eye.depth > eye.opening)
    return np.asarray(_smoothstep((light - brightest) / 20.0) * over_lid)


def _smoothstep(t: Floats) -> Floats:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))
