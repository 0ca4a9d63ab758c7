"""How like two pictures are: structural similarity, and a face's shape.

similarity_map(one, other)   SSIM of each pixel's surroundings
Regions                      which pixels are mouth, face, background, border
aligned(...)                 a frame moved so that its face lies on another's
shape_distance(...)          how far two faces' bones are from each other
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.face_mesh import EYE_CORNERS, Points, Rgb, pose_of

Gray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]

BORDER_PX: Final = 12

# Points on bone, that neither speech nor blinks move: temples, brow ridge, bridge and tip of the
# nose, corners of the eyes, cheekbones.
_BONES: Final = (
    *(33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 10, 151, 9, 8),
    *(54, 284, 103, 332, 127, 356, 234, 454, 116, 345, 117, 346, 50, 280),
)
# What the renderer may move with the head: an ellipse of this size around the face.
_HEAD_CM: Final = (9.5, 13.0)
# Around the lips: as far as they go.
_MOUTH_REACH: Final = 1.3
_MOUTH_HEIGHT_CM: Final = 2.6
_MOUTH_CORNERS: Final = (61, 291)
_LIP_MIDDLES: Final = (13, 14)
_NOSE_BASE, _BROW_MIDDLE, _CHIN = 2, 9, 152

_ALIGN_STEPS: Final = 30
_ALIGN_EPSILON: Final = 1e-4
_ALIGN_BLUR_PX: Final = 5

# Wang, Bovik, Sheikh, Simoncelli: "Image quality assessment: from error visibility to structural
# similarity", IEEE TIP 13(4), 2004: window of sigma 1.5, K1 = .01, K2 = .03.
_SIGMA_PX: Final = 1.5
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2


@dataclass(frozen=True, eq=False)
class Regions:
    """Masks of a frame, uint8[h, w] of 0 and 255, fixed for a whole video.

    `face` is the face above the lips, which the jaw does not move; `background` is outside the
    ellipse in which the head may move.
    """

    mouth: Mask
    face: Mask
    background: Mask
    border: Mask


def regions_of(points: Points, height: int, width: int) -> Regions:
    """Lay out the regions of a frame from the points of its face, float64[468, 3] px."""
    scale = pose_of(points).scale_px_per_cm
    flat = points[:, :2]
    hull = cv2.convexHull(flat.astype(np.float32)).astype(np.int32)
    outline = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), hull, 255)
    y, x = np.mgrid[0:height, 0:width]
    down = flat[_CHIN] - flat[_BROW_MIDDLE]
    is_above_lips = (x - flat[_NOSE_BASE, 0]) * down[0] + (y - flat[_NOSE_BASE, 1]) * down[1] < 0
    middle = flat[list(_LIP_MIDDLES)].mean(axis=0)
    corners = flat[_MOUTH_CORNERS[1]] - flat[_MOUTH_CORNERS[0]]
    tilt_deg = float(np.degrees(np.arctan2(corners[1], corners[0])))
    axes = (_MOUTH_REACH * float(np.hypot(*corners)) / 2, _MOUTH_HEIGHT_CM * scale)
    mouth = _ellipse(height, width, middle, axes, tilt_deg)
    head = _ellipse(
        height,
        width,
        flat.mean(axis=0),
        (_HEAD_CM[0] * scale, _HEAD_CM[1] * scale),
        tilt_deg,
    )
    border = np.full((height, width), 255, np.uint8)
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = 0
    return Regions(
        mouth=mouth,
        face=np.where(is_above_lips, np.asarray(outline, np.uint8), np.uint8(0)),
        background=np.asarray(cv2.bitwise_not(head), np.uint8),
        border=border,
    )


def _ellipse(
    height: int,
    width: int,
    middle: npt.NDArray[np.float64],
    axes: tuple[float, float],
    tilt_deg: float,
) -> Mask:
    mask = np.zeros((height, width), np.uint8)
    place = (round(float(middle[0])), round(float(middle[1])))
    size = (max(round(axes[0]), 1), max(round(axes[1]), 1))
    return np.asarray(cv2.ellipse(mask, place, size, tilt_deg, 0, 360, 255, -1), np.uint8)


def gray_of(rgb: Rgb) -> Gray:
    """Return the luma of an RGB picture, float32[h, w], 0..255."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)


def similarity_map(one: Gray, other: Gray) -> Gray:
    """Return the structural similarity of each pixel's surroundings, float32[h, w], at most 1."""
    mean_1, mean_2 = _blur(one), _blur(other)
    var_1 = _blur(one * one) - mean_1 * mean_1
    var_2 = _blur(other * other) - mean_2 * mean_2
    shared = _blur(one * other) - mean_1 * mean_2
    luma = (2 * mean_1 * mean_2 + _C1) / (mean_1 * mean_1 + mean_2 * mean_2 + _C1)
    return np.asarray(luma * (2 * shared + _C2) / (var_1 + var_2 + _C2), np.float32)


def _blur(gray: Gray) -> Gray:
    return np.asarray(cv2.GaussianBlur(gray, (11, 11), _SIGMA_PX), np.float32)


def mean_within(values: npt.NDArray[np.generic], mask: Mask) -> float:
    """Return the mean of the pixels that the mask shows; not a number if it shows none."""
    if not mask.any():
        return float("nan")
    return float(cv2.mean(np.asarray(values), mask)[0])


def aligned(gray: Gray, points: Points, onto: Gray, onto_points: Points, face: Mask) -> Gray:
    """Return a frame moved (affine) so that its face lies on another's within the mask `face`.

    The points bring it near: when the mouth opens, the mesh drags the whole face along by up to a
    pixel. The rest is done on the pixels: Evangelidis and Psarakis, "Parametric image alignment
    using enhanced correlation coefficient maximization", IEEE PAMI 30(10), 2008.
    """
    ones = np.ones((len(_BONES), 1))
    target = np.concatenate([onto_points[list(_BONES), :2], ones], axis=1)
    near, *_ = np.linalg.lstsq(target, points[list(_BONES), :2], rcond=None)
    back = np.ascontiguousarray(near.T, np.float32)
    left, top, width, height = cv2.boundingRect(face)
    window = (slice(top, top + height), slice(left, left + width))
    # The window's own origin goes in and comes out again.
    back[:, 2] += back[:, :2] @ (left, top)
    try:
        _, found = cv2.findTransformECCWithMask(
            onto[window],
            gray,
            face[window],
            np.full(gray.shape, 255, np.uint8),
            back,
            cv2.MOTION_AFFINE,
            (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ALIGN_STEPS, _ALIGN_EPSILON),
            _ALIGN_BLUR_PX,
        )
        back = np.asarray(found, np.float32)
    except cv2.error as error:
        # Faces that are not alike give no convergence; then the points must do.
        if error.code != cv2.Error.StsNoConv:
            raise
    back[:, 2] -= back[:, :2] @ (left, top)
    moved = cv2.warpAffine(
        gray,
        back,
        (gray.shape[1], gray.shape[0]),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(moved, np.float32)


def shape_distance(points: Points, other: Points) -> float:
    """Return how far the bones of two faces are apart once laid on each other.

    The root mean square over the bones, in three dimensions, after the similarity that fits best,
    as a share of the distance between the outer corners of the eyes.
    """
    one, two = points[list(_BONES)], other[list(_BONES)]
    one, two = one - one.mean(axis=0), two - two.mean(axis=0)
    u, singular, vt = np.linalg.svd(two.T @ one)
    mirror = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = float((singular * mirror).sum() / (one**2).sum())
    apart = scale * one @ ((u * mirror) @ vt).T - two
    return float(np.sqrt((apart**2).sum(axis=1).mean())) / eye_distance(other)


def eye_distance(points: Points) -> float:
    """Return the distance of the outer corners of the eyes, px."""
    return float(np.linalg.norm(points[EYE_CORNERS[1], :2] - points[EYE_CORNERS[0], :2]))


def sharpness(gray: Gray, mask: Mask) -> float:
    """Return the variance of the Laplacian within a mask: how much fine detail there is."""
    edges = np.asarray(cv2.Laplacian(gray, cv2.CV_32F))
    _, deviation = cv2.meanStdDev(edges, mask=mask)
    return float(np.ravel(deviation)[0]) ** 2


def colour_shift(rgb: Rgb, other: Rgb, mask: Mask) -> float:
    """Return how far the mean colours within a mask are apart: the worst channel, 0..255."""
    if not mask.any():
        return float("nan")
    one, two = cv2.mean(rgb, mask), cv2.mean(other, mask)
    return max(abs(a - b) for a, b in zip(one, two, strict=True))
