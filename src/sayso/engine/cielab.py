"""CIELAB: colours as the eye tells them apart, from and to sRGB.

    lab_of(bgr)    lightness 0..100, then redness and yellowness about -100..100
    bgr_of(lab)    the way back

The formulas are those of CIE 15 for the white D65. OpenCV has them too, but fills tables for a
tenth of a second when they are first used: as long as all else that a face takes.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

# IEC 61966-2-1: sRGB's primaries as XYZ, the columns being blue, green and red.
_XYZ_OF_BGR: Final = np.array(
    [
        [0.180423, 0.357580, 0.412453],
        [0.072169, 0.715160, 0.212671],
        [0.950227, 0.119193, 0.019334],
    ]
)
# Below these sRGB's curve is a line, coded and in light.
_CODED_DARK: Final = 0.04045
_LIGHT_DARK: Final = 0.0031308
_WHITE: Final = _XYZ_OF_BGR.sum(axis=1)
# Below this the cube root would be too steep, and a line goes on.
_DARK: Final = (6.0 / 29.0) ** 3
_SLOPE: Final = (29.0 / 6.0) ** 2 / 3.0
_FOOT: Final = 4.0 / 29.0


def lab_of(bgr: npt.NDArray[np.uint8]) -> Pixels:
    """Return the CIELAB values, float32[..., 3], of sRGB colours, BGR uint8[..., 3]."""
    wide = bgr.reshape(-1, 1, 3) if bgr.ndim != 3 else bgr  # noqa: PLR2004  # A picture has three.
    linear = cv2.LUT(wide, _LINEAR)
    x, y, z = cv2.split(_rooted(cv2.transform(linear, _XYZ_OF_BGR / _WHITE[:, np.newaxis])))
    lab = cv2.merge([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)])
    return np.asarray(lab, np.float32).reshape(bgr.shape)


def bgr_of(lab: npt.NDArray[Any]) -> Floats:
    """Return the sRGB colours, BGR 0..255 as float64[..., 3], of CIELAB values [..., 3]."""
    lightness, redness, yellowness = np.moveaxis(np.asarray(lab, np.float64), -1, 0)
    y = (lightness + 16.0) / 116.0
    roots = np.stack([y + redness / 500.0, y, y - yellowness / 200.0], axis=-1)
    shares = np.where(roots**3 > _DARK, roots**3, (roots - _FOOT) / _SLOPE)
    linear = np.clip((shares * _WHITE) @ np.linalg.inv(_XYZ_OF_BGR).T, 0.0, 1.0)
    coded = np.where(linear > _LIGHT_DARK, 1.055 * linear ** (1.0 / 2.4) - 0.055, 12.92 * linear)
    return np.asarray(255.0 * coded)


def _linear_levels() -> Pixels:
    """Return the light of each of the 256 levels that sRGB codes, 0..1."""
    level = np.arange(256) / 255.0
    light = np.where(level > _CODED_DARK, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)
    return light.astype(np.float32)


_LINEAR: Final = _linear_levels()


def _rooted(shares: npt.NDArray[Any]) -> Pixels:
    root = cv2.pow(shares, 1.0 / 3.0)
    return np.where(shares > _DARK, root, _SLOPE * shares + _FOOT).astype(np.float32)
