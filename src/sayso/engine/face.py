"""Where the faces are in a picture, their 468 points and how each head is held.

    find_faces(rgb)        -> tuple[Face, ...]   boxes, largest first; only true faces
    mesh_of(rgb, face)     -> Mesh               468 points in pixels of the picture, and the pose

Points are in pixel units where pixel (i, j) has its middle at x = i, y = j, as OpenCV's `remap` has
it. Point numbers are those of MediaPipe's face mesh (152 is the chin, 13 and 14 the inner lips).
The networks are in `face_nets`; this module is the geometry around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.face_nets import (
    PROPOSAL_SIDE_PX,
    TRACE_SIDE_PX,
    canonical_points,
    propose,
    trace,
)

Rgb = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

# Outer corners of the face's right and left eye.
EYE_CORNERS: Final = (33, 263)

# Measured on faces, cats, cartoons and hands: BlazeFace alone calls look-alikes faces with a score
# of up to .71, while the mesh's own score parts them widely (true >= .9, false <= .2).
_PROPOSAL_MIN: Final = 0.5
_TILE_PROPOSAL_MIN: Final = 0.6
_FACE_SCORE_MIN: Final = 0.8

# A face found in the whole picture that is this large leaves nothing for the tiles to add: others
# of its size would have been seen with it.
_LARGE_SHARE: Final = 0.12
_TILE_SHARES: Final = (1.0, 0.6, 0.4)
# Smaller tiles would show faces too small to animate, and a narrow strip has thousands of them.
_TILE_SIDE_MIN_PX: Final = 64
_SAME_FACE_IOU: Final = 0.3
# Detection sees 128 px, so a larger picture than this only costs time.
_SEARCH_SIDE_PX: Final = 1280

# The crop that the mesh network was trained on is the face's box, half as wide again.
_CROP_PER_BOX: Final = 1.5
# The first pass finds the crop; the others, at slightly different scales, are averaged, which
# removes most of the network's sub-pixel noise.
_PASS_SCALES: Final = (1.0, 1.0, 1.06, 0.94)


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    `box` is (left, top, right, bottom) in pixels, from the brows to the chin; `score` is 0..1;
    `eyes` are the middles of both eyes, (x, y), the face's right eye first.
    """

    box: tuple[float, float, float, float]
    score: float
    eyes: tuple[tuple[float, float], tuple[float, float]]

    @property
    def size_px(self) -> float:
        """The longer side of the box."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


@dataclass(frozen=True, eq=False)
class Pose:
    """How a head is held: the similarity from the standard head (cm, y down, z away) to pixels.

    `rotation` is float64[3, 3]: pitch about x (positive: the head nods), then yaw about y
    (positive: it turns to the picture's left), then roll about z (positive: clockwise); the angles
    are in radians. `scale_px_per_cm` is the unit of what is built on the face.
    """

    scale_px_per_cm: float
    rotation: Points
    yaw_rad: float
    pitch_rad: float
    roll_rad: float


@dataclass(frozen=True, eq=False)
class Mesh:
    """The 468 points of one face.

    `points` is float64[468, 3] in px of the picture (z in the same unit, smaller is nearer);
    `score` is 0..1: how sure it is a face.
    """

    points: Points
    score: float
    pose: Pose


def find_faces(rgb: Rgb) -> tuple[Face, ...]:
    """Return the faces of an upright RGB picture, largest first; an empty tuple if there is none.

    The whole picture is looked at first (3 ms); only if that shows no large face, overlapping tiles
    are searched for smaller ones. Faces down to about 24 px are found, heads within about 60
    degrees of upright.
    """
    small, factor = _shrink(rgb, _SEARCH_SIDE_PX / max(rgb.shape[:2]))
    short, long = sorted(small.shape[:2])
    candidates = _propose_in(small, (0, 0, long), _PROPOSAL_MIN)
    if max((face.size_px for face in candidates), default=0.0) < _LARGE_SHARE * short:
        candidates += _propose_in_tiles(small)
    faces = [
        Face(face.box, mesh_score, face.eyes)
        for face in _without_repeats(candidates)
        if (mesh_score := _trace_around(small, _crop_of_face(face))[1]) >= _FACE_SCORE_MIN
    ]
    faces.sort(key=lambda face: face.size_px * face.score, reverse=True)
    return tuple(_scaled(face, 1.0 / factor) for face in faces)


def mesh_of(rgb: Rgb, face: Face) -> Mesh:
    """Return the points of `face`, found by `find_faces` in the same RGB picture.

    Four passes of the network, 5 to 15 ms in all. The result does not depend on where exactly the
    box lies.
    """
    first = _crop_of_face(face)
    small, factor = _shrink(rgb, TRACE_SIDE_PX / first.side_px)
    crop = first.scaled(factor)
    found: list[Points] = []
    scores: list[float] = []
    for scale in _PASS_SCALES:
        points, score = _trace_around(small, crop.widened(scale))
        found.append(points)
        scores.append(score)
        crop = _crop_of_points(points)
    points = np.mean(found[1:], axis=0)
    # Pixel middles: (x + .5) scales, not x.
    points[:, :2] = (points[:, :2] + 0.5) / factor - 0.5
    points[:, 2] /= factor
    return Mesh(points=points, score=float(np.mean(scores[1:])), pose=pose_of(points))


def pose_of(points: Points) -> Pose:
    """Fit the standard head to a face's points (float64[468, 3], px).

    A least-squares similarity in closed form: S. Umeyama, "Least-squares estimation of
    transformation parameters between two point patterns", IEEE PAMI 13(4), 1991.
    """
    head = canonical_points() * (1.0, -1.0, -1.0)
    head = head - head.mean(axis=0)
    seen = points - points.mean(axis=0)
    u, singular, vt = np.linalg.svd(seen.T @ head)
    mirror = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation: Points = (u * mirror) @ vt
    return Pose(
        scale_px_per_cm=float((singular * mirror).sum() / (head**2).sum()),
        rotation=rotation,
        yaw_rad=float(np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0]))),
        pitch_rad=float(np.arctan2(rotation[2, 1], rotation[2, 2])),
        roll_rad=float(np.arctan2(rotation[1, 0], rotation[0, 0])),
    )


# Detection.


def _propose_in_tiles(rgb: Rgb) -> list[Face]:
    """Search overlapping squares of three sizes, each half a side further than the last."""
    height, width = rgb.shape[:2]
    faces: list[Face] = []
    for share in _TILE_SHARES:
        side = max(round(share * min(height, width)), _TILE_SIDE_MIN_PX)
        for top in _tile_starts(height, side):
            for left in _tile_starts(width, side):
                faces += _propose_in(rgb, (left, top, side), _TILE_PROPOSAL_MIN)
    return faces


def _tile_starts(length: int, side: int) -> list[int]:
    room = max(length - side, 0)
    return [round(start) for start in np.linspace(0, room, int(np.ceil(room / (side / 2))) + 1)]


def _propose_in(rgb: Rgb, square: tuple[int, int, int], score_min: float) -> list[Face]:
    """Return the candidates within a square (left, top, side); beyond the picture it is black."""
    left, top, side = square
    square_px = np.zeros((side, side, 3), np.uint8)
    tile = rgb[top : top + side, left : left + side]
    square_px[: tile.shape[0], : tile.shape[1]] = tile
    found = propose(_resized(square_px, (PROPOSAL_SIDE_PX, PROPOSAL_SIDE_PX)))
    corner = np.array([left, top], np.float64)
    faces = []
    for index in np.flatnonzero(found.scores >= score_min):
        low = corner + side * (found.centers[index] - found.sizes[index] / 2)
        high = corner + side * (found.centers[index] + found.sizes[index] / 2)
        eyes = corner + side * found.eyes[index]
        faces.append(
            Face(
                box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
                score=float(found.scores[index]),
                eyes=(
                    (float(eyes[0, 0]), float(eyes[0, 1])),
                    (float(eyes[1, 0]), float(eyes[1, 1])),
                ),
            )
        )
    return faces


def _without_repeats(faces: list[Face]) -> list[Face]:
    """Keep the best of each group of overlapping boxes (non-maximum suppression)."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.score, reverse=True):
        if all(_overlap(face, other) < _SAME_FACE_IOU for other in kept):
            kept.append(face)
    return kept


def _overlap(one: Face, other: Face) -> float:
    """Return the boxes' shared area over their united area."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in (one, other)]
    return shared / (sum(areas) - shared)


def _scaled(face: Face, factor: float) -> Face:
    left, top, right, bottom = (edge * factor for edge in face.box)
    (right_x, right_y), (left_x, left_y) = face.eyes
    return Face(
        box=(left, top, right, bottom),
        score=face.score,
        eyes=((right_x * factor, right_y * factor), (left_x * factor, left_y * factor)),
    )


def _shrink(rgb: Rgb, factor: float) -> tuple[Rgb, float]:
    """Return the picture scaled down by `factor` and the factor it got; never enlarge."""
    if factor >= 1.0:
        return rgb, 1.0
    height, width = rgb.shape[:2]
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return _resized(rgb, size), size[0] / width


def _resized(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


# The mesh.


@dataclass(frozen=True)
class _Crop:
    """A square in the picture: its middle and side in px, turned so that the eyes are level."""

    x: float
    y: float
    side_px: float
    roll_rad: float

    def scaled(self, factor: float) -> _Crop:
        return _Crop(self.x * factor, self.y * factor, self.side_px * factor, self.roll_rad)

    def widened(self, scale: float) -> _Crop:
        return _Crop(self.x, self.y, self.side_px * scale, self.roll_rad)

    def to_picture(self) -> npt.NDArray[np.float64]:
        """Return the affine map, float64[2, 3], from pixels of the net's input to the picture's."""
        scale = self.side_px / TRACE_SIDE_PX
        turn = scale * np.array(
            [
                [np.cos(self.roll_rad), -np.sin(self.roll_rad)],
                [np.sin(self.roll_rad), np.cos(self.roll_rad)],
            ]
        )
        middle = (TRACE_SIDE_PX - 1) / 2
        shift = np.array([self.x, self.y]) - turn @ (middle, middle)
        return np.concatenate([turn, shift[:, None]], axis=1)


def _crop_of_face(face: Face) -> _Crop:
    left, top, right, bottom = face.box
    (right_x, right_y), (left_x, left_y) = face.eyes
    return _Crop(
        x=(left + right) / 2,
        y=(top + bottom) / 2,
        side_px=_CROP_PER_BOX * face.size_px,
        roll_rad=float(np.arctan2(left_y - right_y, left_x - right_x)),
    )


def _crop_of_points(points: Points) -> _Crop:
    right, left = points[EYE_CORNERS[0], :2], points[EYE_CORNERS[1], :2]
    roll = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    along = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    level = points[:, :2] @ along.T
    low, high = level.min(axis=0), level.max(axis=0)
    x, y = along.T @ ((low + high) / 2)
    return _Crop(float(x), float(y), _CROP_PER_BOX * float((high - low).max()), roll)


def _trace_around(rgb: Rgb, crop: _Crop) -> tuple[Points, float]:
    """Return the points of the face in the crop, in px of the picture, and the mesh's score."""
    to_picture = crop.to_picture()
    upright = cv2.warpAffine(
        rgb,
        to_picture,
        (TRACE_SIDE_PX, TRACE_SIDE_PX),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    points, score = trace(np.asarray(upright, np.uint8))
    # The network counts from the crop's edge, the picture from the middle of its first pixel.
    flat = points[:, :2] - 0.5
    depth = points[:, 2:] * (crop.side_px / TRACE_SIDE_PX)
    return np.concatenate([flat @ to_picture[:, :2].T + to_picture[:, 2], depth], axis=1), score
