"""The 468 points of a face and how the head is held.

    mesh_of(rgb, face)  -> Mesh   points in pixels of the picture, and the pose
    mesh_near(rgb, last) -> Mesh  the same in a video's next frame
    pose_of(points)     -> Pose   the standard head fitted to the points
    look_at(rgb, face)  -> Face   whether what was proposed is a face at all, and its box

Points are in pixel units where pixel (i, j) has its middle at x = i, y = j, as OpenCV's `remap` has
it. Point numbers are those of MediaPipe's face mesh (152 is the chin, 13 and 14 the inner lips).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.face_nets import TRACE_SIDE_PX, canonical_points, trace

Rgb = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

# Outer corners of the face's right and left eye.
EYE_CORNERS: Final = (33, 263)
# The standard head from side to side, before the ears.
HEAD_WIDTH_CM: Final = 15.5

# The crop that the mesh network was trained on is the face's box, half as wide again.
_CROP_PER_BOX: Final = 1.5
# After two passes that find the crop, passes at slightly different scales are averaged, which
# removes most of the network's sub-pixel noise.
_SEARCHES: Final = 2
_PASS_SCALES: Final = (1.0, 1.06, 0.94)


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    `box` is (left, top, right, bottom) in pixels, from the hairline to the chin; `eyes` are the
    middles of both eyes, (x, y), the face's right eye first. `score` is how sure the mesh network
    is that this is a face, `proposal` how sure the detector was, both 0..1; the latter is the
    better judge of which way is up.
    """

    box: tuple[float, float, float, float]
    score: float
    proposal: float
    eyes: tuple[tuple[float, float], tuple[float, float]]

    @property
    def middle(self) -> tuple[float, float]:
        """The box's middle, (x, y)."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

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

    @property
    def width_px(self) -> float:
        """The width of the whole head as the pose has it, however the head is turned."""
        return HEAD_WIDTH_CM * self.pose.scale_px_per_cm


def mesh_of(rgb: Rgb, face: Face) -> Mesh:
    """Return the points of `face`, found by `find_faces` in the same RGB picture.

    Five passes of the network, 6 to 18 ms in all. Where exactly the box lies moves the points by
    less than a pixel.
    """
    return _mesh_in(rgb, _crop_of_face(face), searches=_SEARCHES)


def mesh_near(rgb: Rgb, last: Mesh) -> Mesh:
    """Return the points of a face that has hardly moved since `last`, as from frame to frame."""
    return _mesh_in(rgb, _crop_of_points(last.points), searches=0)


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


def _mesh_in(rgb: Rgb, crop: _Crop, *, searches: int) -> Mesh:
    small, factor = shrink(rgb, TRACE_SIDE_PX / crop.side_px)
    crop = crop.scaled(factor)
    for _ in range(searches):
        crop = _crop_of_points(_trace_around(small, crop)[0])
    found: list[Points] = []
    scores: list[float] = []
    for scale in _PASS_SCALES:
        points, score = _trace_around(small, crop.widened(scale))
        found.append(points)
        scores.append(score)
    points = np.mean(found, axis=0)
    # Pixel middles: (x + .5) scales, not x.
    points[:, :2] = (points[:, :2] + 0.5) / factor - 0.5
    points[:, 2] /= factor
    return Mesh(points=points, score=float(np.mean(scores)), pose=pose_of(points))


def look_at(rgb: Rgb, candidate: Face) -> Face:
    """Return a proposed face with the mesh's score and the box of its points, from one pass.

    The score is above 0.99 for whole faces from the front, 0.8 to 1 in profile, and mostly below
    0.8 for look-alikes.
    """
    crop = _crop_of_face(candidate)
    small, factor = shrink(rgb, TRACE_SIDE_PX / crop.side_px)
    points, score = _trace_around(small, crop.scaled(factor))
    left, top = points[:, :2].min(axis=0) / factor
    right, bottom = points[:, :2].max(axis=0) / factor
    return replace(
        candidate, box=(float(left), float(top), float(right), float(bottom)), score=score
    )


def shrink(rgb: Rgb, factor: float) -> tuple[Rgb, float]:
    """Return the picture scaled down by `factor` and the factor it got; never enlarge."""
    if factor >= 1.0:
        return rgb, 1.0
    height, width = rgb.shape[:2]
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return resized(rgb, size), size[0] / width


def resized(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    """Return the picture at a smaller size (width, height), each pixel the mean of its area."""
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


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
