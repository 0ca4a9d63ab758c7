"""Where the lips meet: the mouth's own coordinates and its refined contours.

    settle_lips(bgr, points, px_per_cm)       -> points       lips that a mesh missed are found
    mouth_frame(points, px_per_cm)            -> MouthFrame
    find_lip_line(bgr, points, mouth)         -> LipLine
    cheapest_path(cost), smoothed(line)       -> what lines in pictures are found with

The mesh's inner lip points are off by about a millimetre of the face, which paints a bright rim of
lip inside the mouth once it opens. So the picture itself decides: a closed mouth's line is its
darkest path; an open mouth's upper lip ends where redness falls, its lower lip begins where the
colours part best into lip and not lip. All are found by dynamic programming from corner to corner.
Weights and windows were tuned by eye on photographs, paintings and a drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.cielab import lab_of
from sayso.engine.resample import look_up

Bgr = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Lab = npt.NDArray[np.float32]

# MediaPipe's inner lip contours, from the corner at the picture's left to the other one.
INNER_UPPER: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
# The outer ones.
OUTER_UPPER: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
_LIPS: Final = sorted(
    {*INNER_UPPER, *INNER_LOWER, *OUTER_UPPER, *OUTER_LOWER}
    | {62, 76, 96, 77, 90, 89, 180, 179, 85, 86, 16, 15, 315, 316, 404, 403, 320, 319, 307, 325}
    | {306, 292, 407, 408, 272, 304, 271, 303, 302, 268, 11, 12, 38, 72, 41, 73, 42, 74, 183, 184}
)

# Contours are kept at this many places from corner to corner.
SAMPLES: Final = 81
# Closed mouths' meshes show gaps of .04 to .20 cm, open ones 1.2 cm and more.
OPEN_GAP_CM: Final = 0.35
# The lips part from here on, between the mesh's inner and its outer corners.
_CORNER_SHARE: Final = 0.5
# In an open mouth the lips would meet this far down the opening: the lower lip is the mobile one.
_MEETING_SHARE: Final = 0.42
# An edge is a band, and its outer half is still tooth: without the push a strip of teeth sticks to
# the lip and never closes.
_PUSH_UP_CM: Final = 0.04
_PUSH_DOWN_CM: Final = 0.07


@dataclass(frozen=True, eq=False)
class MouthFrame:
    """The mouth's coordinates: `a` from corner (-1) to corner (1), `b` down from their line in px.

    `origin`, `along` and `down` are float64[2] in px of the picture; the last two have length 1.
    """

    origin: Floats
    along: Floats
    down: Floats
    half_width_px: float
    px_per_cm: float

    @property
    def half_width_cm(self) -> float:
        """Half the distance of the mouth's corners."""
        return self.half_width_px / self.px_per_cm

    def of_px(self, points: Floats) -> tuple[Floats, Floats]:
        """Return (a, b) of points, float64[..., 2] in px of the picture."""
        offset = points - self.origin
        return offset @ self.along / self.half_width_px, offset @ self.down

    def to_px(self, a: Floats, b: Floats) -> Floats:
        """Return the points, float64[..., 2] in px of the picture, of (a, b)."""
        across = (a * self.half_width_px)[..., np.newaxis] * self.along
        return self.origin + across + b[..., np.newaxis] * self.down


@dataclass(frozen=True, eq=False)
class LipLine:
    """The lips' contours, float64[SAMPLES] each: `b` in px at `a` = `places`.

    `upper` is the upper lip's lower edge, `lower` the lower lip's upper edge, `seam` the line on
    which they meet when the mouth is closed; all three are the same line if it is closed.
    `contrast` says by how many grey levels the line is darker than the lips around it.
    """

    upper: Floats
    lower: Floats
    seam: Floats
    is_open: bool
    gap_cm: float
    contrast: float

    def at(self, a: Floats, contour: Floats) -> Floats:
        """Return a contour's `b` at any `a`; beyond the corners it goes on level."""
        return np.interp(a, PLACES, contour)


PLACES: Final = np.linspace(-1.0, 1.0, SAMPLES)


def settle_lips(bgr: Bgr, points: Floats, px_per_cm: float) -> Floats:
    """Return the mesh with its lips moved onto the picture's, if they are plainly elsewhere.

    On drawn faces the mesh can miss the lips by half a centimetre. The shift along the face that
    makes the lips' outline redder inside than around it is taken if it is far better than none.
    """
    lab = lab_of(bgr)
    mouth = mouth_frame(points, px_per_cm)
    shifts = np.linspace(-_SETTLE_CM, _SETTLE_CM, 25) * px_per_cm
    scores = np.array([_redness_within(lab[..., 1], points + _shift(mouth, s)) for s in shifts])
    best, still = int(scores.argmax()), len(shifts) // 2
    is_plain = scores[best] > _SETTLE_REDDER and scores[best] > _SETTLE_BETTER * scores[still]
    if not is_plain:
        return points
    settled = points.copy()
    settled[_LIPS] += _shift(mouth, shifts[best])
    return settled


def mouth_frame(points: Floats, px_per_cm: float) -> MouthFrame:
    """Lay the mouth's coordinates through the corners of the lips."""
    inner = points[[INNER_UPPER[0], INNER_UPPER[-1]], :2]
    outer = points[[OUTER_UPPER[0], OUTER_UPPER[-1]], :2]
    left, right = inner + _CORNER_SHARE * (outer - inner)
    width = float(np.linalg.norm(right - left))
    along = (right - left) / width
    return MouthFrame(
        origin=(left + right) / 2,
        along=along,
        down=np.array([-along[1], along[0]]),
        half_width_px=width / 2,
        px_per_cm=px_per_cm,
    )


def find_lip_line(bgr: Bgr, points: Floats, mouth: MouthFrame) -> LipLine:
    """Return the contours of the lips in a picture, BGR uint8[h, w, 3], with its mesh's points."""
    upper, lower = (_contour(points, numbers, mouth) for numbers in (INNER_UPPER, INNER_LOWER))
    lower = np.maximum(lower, upper)
    gap_cm = float((lower - upper).max()) / mouth.px_per_cm
    lab = lab_of(bgr)
    if gap_cm <= OPEN_GAP_CM:
        seam, contrast = _darkest_path(lab, (upper + lower) / 2, mouth)
        return LipLine(seam, seam, seam, is_open=False, gap_cm=gap_cm, contrast=contrast)
    push = mouth.px_per_cm * (1.0 - PLACES**6)
    upper = _upper_border(lab, upper, mouth) - _PUSH_UP_CM * push
    lower = _lower_border(lab, lower, _contour(points, OUTER_LOWER, mouth), mouth)
    lower += _PUSH_DOWN_CM * push
    upper, lower = _meeting_at_corners(upper, lower)
    seam = upper + _MEETING_SHARE * (lower - upper)
    return LipLine(upper, lower, seam, is_open=True, gap_cm=gap_cm, contrast=0.0)


# How far lips may be from where the mesh has them, and how much redder (CIELAB a*) than around
# them, and than without a shift, they must be to be believed.
_SETTLE_CM: Final = 0.9
_SETTLE_REDDER: Final = 10.0
_SETTLE_BETTER: Final = 1.35


def _shift(mouth: MouthFrame, down_px: float) -> Floats:
    return np.array([*(mouth.down * down_px), 0.0])


def _redness_within(redness: npt.NDArray[Any], points: Floats) -> float:
    """Return how much redder the lips' outline is inside than in a ring around it."""
    outline = np.round(points[[*OUTER_UPPER, *OUTER_LOWER[-2:0:-1]], :2]).astype(np.int32)
    inside = np.zeros(redness.shape, np.uint8)
    cv2.fillPoly(inside, [outline], 1)
    side = 2 * max(1, int(np.ptp(outline[:, 1]) / 3)) + 1
    around = cv2.dilate(inside, np.ones((side, side), np.uint8)) - inside
    if not inside.any() or not around.any():
        return 0.0
    return float(redness[inside > 0].mean() - redness[around > 0].mean())


def _contour(points: Floats, numbers: tuple[int, ...], mouth: MouthFrame) -> Floats:
    """Return the mesh's contour at `PLACES`, rounded where its eleven points would make corners."""
    a, b = mouth.of_px(points[list(numbers), :2])
    return smoothed(np.interp(PLACES, np.maximum.accumulate(a), b), sigma=2.0)


def smoothed(line: Floats, *, sigma: float) -> Floats:
    """Blur along a contour without pulling its ends in."""
    radius = int(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    ends = (2 * line[0] - line[radius:0:-1], line, 2 * line[-1] - line[-2 : -radius - 2 : -1])
    return np.convolve(np.concatenate(ends), kernel / kernel.sum(), mode="valid")


# Closed mouths.

_DARK_REACH_CM: Final = 0.30
_DARK_STEPS: Final = 21


def _darkest_path(
    lab: npt.NDArray[np.float32], middle: Floats, mouth: MouthFrame
) -> tuple[Floats, float]:
    """Return the darkest path near `middle`, and by how much it is darker than its surroundings."""
    reach = _DARK_REACH_CM * mouth.px_per_cm
    offsets = np.linspace(-reach, reach, _DARK_STEPS)
    light = _sample_around(
        cv2.GaussianBlur(lab[..., 0], (0, 0), _blur_px(mouth)), middle, offsets, mouth
    )
    low, high = np.percentile(light, (5, 95))
    cost = (light - low) / max(high - low, 4.0)
    # Near the corners the lips' own shade misleads, so the mesh counts for more there.
    trust = 0.25 + 0.75 * np.abs(PLACES) ** 6
    cost += 0.5 * trust[:, np.newaxis] * (offsets / reach) ** 2
    path = cheapest_path(cost, step_cost=0.08)
    contrast = float(np.median(light.mean(axis=1) - light[np.arange(SAMPLES), path]))
    return smoothed(middle + offsets[path], sigma=3.0), contrast


# Open mouths: the upper lip.

_EDGE_REACH_CM: Final = 0.32
_EDGE_STEPS: Final = 25


def _upper_border(lab: Lab, contour: Floats, mouth: MouthFrame) -> Floats:
    """Return the upper lip's lower edge: near `contour`, where redness falls most on the way down.

    Teeth and the dark behind them are both less red than a lip.
    """
    reach = _EDGE_REACH_CM * mouth.px_per_cm
    offsets = np.linspace(-reach, reach, _EDGE_STEPS)
    redness = cv2.GaussianBlur(lab[..., 1] - 0.15 * lab[..., 0], (0, 0), _blur_px(mouth))
    fall = -np.gradient(_sample_around(redness, contour, offsets, mouth), axis=1)
    cost = -fall / max(float(np.percentile(fall, 95)), 1e-3)
    trust = 1.0 + 3.0 * np.abs(PLACES) ** 6
    cost += 2.0 * trust[:, np.newaxis] * (offsets / reach) ** 2
    path = cheapest_path(cost, step_cost=0.08)
    return smoothed(contour + offsets[path], sigma=5.0)


# Open mouths: the lower lip.

_REGION_REACH_CM: Final = 0.40
_REGION_STEPS: Final = 33
_SURE_LIP: Final = 0.7
# Differences of lightness, redness and yellowness at which a colour is as likely lip as not.
_LIP_LIKE: Final = np.array([13.0, 7.0, 9.0])


def _lower_border(lab: Lab, contour: Floats, outer: Floats, mouth: MouthFrame) -> Floats:
    """Return the lower lip's upper edge near `contour`; `outer` is that lip's other contour.

    Teeth, gaps and the dark below them have edges stronger than the lip's own. So the border is
    where the colours part best into lip (like the middle of the lip) and not lip: a segmentation
    into two regions at each place, joined by dynamic programming.
    """
    lab = np.asarray(cv2.GaussianBlur(lab, (0, 0), _blur_px(mouth)), np.float32)
    reach = _REGION_REACH_CM * mouth.px_per_cm
    offsets = np.linspace(-reach, reach, _REGION_STEPS)
    colours = _sample_around(lab, contour, offsets, mouth)
    lip = _sample_around(lab, contour + 0.55 * (outer - contour), np.zeros(1), mouth)
    lip = np.asarray(np.median(lip[np.abs(PLACES) < _SURE_LIP], axis=(0, 1)))
    strangeness = np.square((colours - lip) / _LIP_LIKE).sum(axis=-1)
    lip_like = (1.0 - strangeness) / (1.0 + strangeness)
    # What lies above the border should not be lip, what lies below should.
    before = np.cumsum(lip_like, axis=1) - lip_like
    cost = (2.0 * before - lip_like.sum(axis=1, keepdims=True)) / (_REGION_STEPS / 4)
    cost -= 1.5 * np.gradient(lip_like, axis=1)
    trust = 0.8 + 2.0 * np.abs(PLACES) ** 8
    cost += trust[:, np.newaxis] * (offsets / reach) ** 2
    # The border cannot leave its lip.
    room = 0.6 * np.abs(outer - contour)[:, np.newaxis]
    cost += 10.0 * np.maximum(offsets - room, 0.0) / mouth.px_per_cm
    path = cheapest_path(cost, step_cost=0.20)
    return smoothed(contour + offsets[path], sigma=3.0)


def _meeting_at_corners(upper: Floats, lower: Floats) -> tuple[Floats, Floats]:
    """Bring two contours together at both corners, and never across each other."""
    lower = np.maximum(lower, upper)
    middle = (upper + lower) / 2
    apart = np.minimum(1.0, (1.0 - np.abs(PLACES)) / 0.15)
    return middle + (upper - middle) * apart, middle + (lower - middle) * apart


# Both.


def _blur_px(mouth: MouthFrame) -> float:
    return max(0.6, 0.04 * mouth.px_per_cm)


def _sample_around(
    plane: npt.NDArray[Any], line: Floats, offsets: Floats, mouth: MouthFrame
) -> Floats:
    """Return a picture's values at each place of a line, moved down by each offset (px)."""
    b = line[:, np.newaxis] + offsets
    at = mouth.to_px(np.broadcast_to(PLACES[:, np.newaxis], b.shape), b).astype(np.float32)
    return np.asarray(look_up(np.ascontiguousarray(plane), at), np.float64)


def cheapest_path(cost: Floats, *, step_cost: float) -> npt.NDArray[np.intp]:
    """Return, for each row of `cost`, the column of the cheapest path (dynamic programming)."""
    n_rows, n_columns = cost.shape
    columns = np.arange(n_columns)
    steps = step_cost * np.abs(columns[:, np.newaxis] - columns)
    total = cost[0]
    came_from = np.zeros((n_rows, n_columns), np.intp)
    for row in range(1, n_rows):
        arrivals = total + steps
        came_from[row] = arrivals.argmin(axis=1)
        total = arrivals.min(axis=1) + cost[row]
    path = np.zeros(n_rows, np.intp)
    path[-1] = int(total.argmin())
    for row in range(n_rows - 1, 0, -1):
        path[row - 1] = came_from[row, path[row]]
    return path
