"""What is seen in a finished video, frame by frame, without knowing how it was made.

    watch(video)                     -> Seen   mouth opening and stillness
    watch(video, reference=...)      -> Seen   and likeness to the portrait
    watch(video, at=a_few_of(...))   -> Seen   the same of a sample of the frames, for a fraction

Frames are decoded, measured and dropped one at a time: memory does not grow with the length.
Regions of the frame are fixed by the first face; the face itself is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import av
import av.error
import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation

from sayso.engine.face_mesh import Mesh, Points, Rgb, mesh_near, mesh_of
from sayso.engine.face_search import find_faces
from sayso.engine.likeness import (
    Gray,
    Regions,
    aligned,
    colour_shift,
    eye_distance,
    gray_of,
    mean_within,
    regions_of,
    shape_distance,
    sharpness,
    similarity_map,
)
from sayso.errors import NoFace, VideoUnreadable

# Pairs of points on the inner lips, upper and lower: the middle and a third to either side.
_LIP_PAIRS: Final = ((13, 14), (82, 87), (312, 317))
# Likeness is measured in every fifth frame: the head drifts slowly, and it costs most.
_LIKENESS_EVERY: Final = 5
# In a sample, every eighth frame is compared with its next one.
_PAIR_EVERY: Final = 8
_FEWEST: Final = 48
# Below this the followed face is lost and looked for again.
_FOLLOWED_MIN: Final = 0.5
_GRAYS: Final = 256
_UNTAGGED: Final = 2  # AVCOL_SPC_UNSPECIFIED
# The converter's quick way is darker by more than a level of gray.
_EXACTLY: Final = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True, eq=False)
class Reference:
    """The portrait as the video shows it: RGB uint8[h, w, 3] of the frame's size, and its mesh."""

    rgb: Rgb
    points: Points


@dataclass(frozen=True, eq=False)
class Seen:
    """What was measured; likenesses are None without a reference.

    `n_frames` is how many frames the video has, `fps` their mean rate, `start_s` the time of the
    first, `face_share` the share of those looked at that show a face. `at`, intp[n], are the
    numbers of the frames that were looked at; `opening`, float64[n], is the gap of the inner lips
    there as a share of the eyes' distance, not a number where no face was seen. Changes are the
    mean differences from one frame to the next where both were looked at, in levels of gray
    (0..255): in the mouth's surroundings, in the rest of the face, and in the background, whose
    99.9th percentile over pixels and time comes with it.
    Likenesses are medians over the frames (see `likeness`).
    """

    n_frames: int
    fps: float
    start_s: float
    at: npt.NDArray[np.intp]
    opening: npt.NDArray[np.float64]
    face_share: float
    mouth_change: float
    face_change: float
    background_change: float
    background_change_p999: float
    border_ssim: float | None
    background_ssim: float | None
    face_ssim: float | None
    sharpness: float | None
    shape_distance: float | None
    colour_shift: float | None


def watch(
    video: Path,
    *,
    reference: Reference | None = None,
    at: Collection[int] | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> Seen:
    """Watch a video to its end; only the frames numbered in `at` where they are given.

    Costs about 15 CPU-ms for each frame of 512 px that is looked at, and half of one for each that
    is not. Raises `VideoUnreadable`, and `NoFace` if the first frame looked at shows no face.
    """
    # Its networks are small: a second thread costs them twice the time, and gains none.
    cv2.setNumThreads(1)
    wanted = None if at is None else frozenset(at)
    watcher: _Watcher | None = None
    times_s: list[float] = []
    for index, frame in enumerate(_frames(video)):
        times_s.append(frame.time or 0.0)
        if wanted is None or index in wanted:
            if watcher is None:
                watcher = _Watcher(_rgb_of(frame), reference)
            is_alone = wanted is not None and not wanted & {index - 1, index + 1}
            watcher.look(index, frame, is_alone=is_alone and reference is None)
        if on_frame is not None:
            on_frame(index + 1)
    if watcher is None:
        raise VideoUnreadable("The video has no frames.")
    return watcher.seen(times_s)


def a_few_of(n_frames: int, *, most: int) -> frozenset[int]:
    """Return the numbers of at most `most` frames, spread evenly; some are followed by their next.

    About every other frame of a short video, all of a very short one.
    """
    count = min(most, max(_FEWEST, n_frames // 2))
    if n_frames <= count:
        return frozenset(range(n_frames))
    pairs = max(1, count // (_PAIR_EVERY + 1))
    spread = [int((i + 0.25) * n_frames / (count - pairs)) for i in range(count - pairs)]
    following = [min(number + 1, n_frames - 1) for number in spread[::_PAIR_EVERY][:pairs]]
    return frozenset((*spread, *following))


def first_frame(video: Path) -> Rgb:
    """Return a video's first frame, RGB uint8[h, w, 3]; raise `VideoUnreadable`."""
    for frame in _frames(video):
        return _rgb_of(frame)
    raise VideoUnreadable("The video has no frames.")


def _frames(video: Path) -> Iterator[VideoFrame]:
    """Decode a video, frame by frame."""
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise VideoUnreadable("The file has no picture in it.")
            container.streams.video[0].thread_type = "AUTO"
            yield from container.decode(video=0)
    except av.error.FFmpegError as error:
        raise VideoUnreadable("The file is not a video that can be read.") from error


def _rgb_of(frame: VideoFrame, *, exactly: bool = True) -> Rgb:
    # What says nothing of itself is BT.709, as any video of today.
    colours = frame.colorspace if frame.colorspace != _UNTAGGED else Colorspace.ITU709
    rgb = frame.to_ndarray(
        format="rgb24",
        src_colorspace=colours,
        interpolation=_EXACTLY if exactly else Interpolation.BILINEAR,
    )
    return np.asarray(rgb, np.uint8)


def _first_mesh(rgb: Rgb, reference: Reference | None) -> Mesh:
    """Find the face in the first frame: the reference's own, else the largest."""
    faces = find_faces(rgb)
    if not faces:
        raise NoFace("No face was found in the video's first frame.")
    if reference is None:
        return mesh_of(rgb, faces[0])
    wanted = reference.points[:, :2].mean(axis=0)
    return mesh_of(rgb, min(faces, key=lambda face: float(np.hypot(*(wanted - face.middle)))))


class _Watcher:
    """Follows one face and gathers sums, never frames."""

    def __init__(self, first: Rgb, reference: Reference | None) -> None:
        height, width = first.shape[:2]
        mesh = _first_mesh(first, reference)
        self._mesh = mesh
        self._reference = reference
        self._regions = regions_of(
            mesh.points if reference is None else reference.points, height, width
        )
        self._likeness = (
            None
            if reference is None
            else _Likeness(reference.rgb, reference.points, gray_of(reference.rgb))
        )
        self._last: Gray | None = None
        self._at: list[int] = []
        self._n_compared = 0
        self._openings: list[float] = []
        self._n_lost = 0
        self._changes = np.zeros(2)
        self._background = np.zeros(_GRAYS)

    def look(self, index: int, frame: VideoFrame, *, is_alone: bool) -> None:
        """Look at a frame; the exact colours of one that stands alone do not matter."""
        n_before = len(self._at)
        is_next = n_before > 0 and self._at[-1] == index - 1
        self._at.append(index)
        rgb = _rgb_of(frame, exactly=not is_alone)
        is_seen = self._follow(rgb)
        self._openings.append(_opening(self._mesh.points) if is_seen else float("nan"))
        if is_alone:
            return
        gray = gray_of(rgb)
        if is_next and self._last is not None:
            self._compare(gray, self._last)
        self._last = gray
        if self._likeness is not None and is_seen and n_before % _LIKENESS_EVERY == 0:
            self._likeness.add(rgb, gray, self._mesh.points, self._regions)

    def _follow(self, rgb: Rgb) -> bool:
        mesh = mesh_near(rgb, self._mesh)
        if mesh.score < _FOLLOWED_MIN:
            faces = find_faces(rgb, tiles="never")
            if not faces:
                self._n_lost += 1
                return False
            mesh = mesh_of(rgb, faces[0])
        self._mesh = mesh
        return True

    def _compare(self, gray: Gray, last: Gray) -> None:
        self._n_compared += 1
        change = cv2.absdiff(gray, last)
        regions = self._regions
        self._changes += [mean_within(change, regions.mouth), mean_within(change, regions.face)]
        levels = cv2.calcHist([change], [0], regions.background, [_GRAYS], [0, _GRAYS])
        self._background += levels.ravel()

    def seen(self, times_s: list[float]) -> Seen:
        n_frames = len(times_s)
        lasting_s = times_s[-1] - times_s[0]
        mouth, face = self._changes / max(self._n_compared, 1)
        likeness = self._likeness.medians() if self._likeness is not None else {}
        return Seen(
            n_frames=n_frames,
            fps=(n_frames - 1) / lasting_s if lasting_s > 0 else 1.0,
            start_s=times_s[0],
            at=np.array(self._at, np.intp),
            opening=np.array(self._openings),
            face_share=1.0 - self._n_lost / len(self._at),
            mouth_change=float(mouth),
            face_change=float(face),
            background_change=_mean_level(self._background),
            background_change_p999=_level_at(self._background, 0.999),
            border_ssim=likeness.get("border_ssim"),
            background_ssim=likeness.get("background_ssim"),
            face_ssim=likeness.get("face_ssim"),
            sharpness=likeness.get("sharpness"),
            shape_distance=likeness.get("shape_distance"),
            colour_shift=likeness.get("colour_shift"),
        )


@dataclass
class _Likeness:
    """Likeness to the portrait, frame after frame."""

    rgb: Rgb
    points: Points
    gray: Gray
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, rgb: Rgb, gray: Gray, points: Points, regions: Regions) -> None:
        as_shown = similarity_map(gray, self.gray)
        upright = aligned(gray, points, self.gray, self.points, regions.face)
        found = {
            "border_ssim": mean_within(as_shown, regions.border),
            "background_ssim": mean_within(as_shown, regions.background),
            "face_ssim": mean_within(similarity_map(upright, self.gray), regions.face),
            # As shown: moving the frame onto the portrait would blur it.
            "sharpness": sharpness(gray, regions.face) / sharpness(self.gray, regions.face),
            "shape_distance": shape_distance(points, self.points),
            "colour_shift": colour_shift(rgb, self.rgb, regions.background),
        }
        for name, value in found.items():
            self.figures.setdefault(name, []).append(value)

    def medians(self) -> dict[str, float | None]:
        """Return the median of each figure; None where its region is empty."""
        medians = {name: float(np.median(values)) for name, values in self.figures.items()}
        return {name: None if np.isnan(value) else value for name, value in medians.items()}


def _opening(points: Points) -> float:
    gaps = [np.linalg.norm(points[low, :2] - points[up, :2]) for up, low in _LIP_PAIRS]
    return float(np.mean(gaps)) / eye_distance(points)


def _mean_level(histogram: npt.NDArray[np.float64]) -> float:
    return float(histogram @ np.arange(_GRAYS)) / max(float(histogram.sum()), 1.0)


def _level_at(histogram: npt.NDArray[np.float64], share: float) -> float:
    """Return the level that `share` of the pixels do not exceed."""
    return float(np.searchsorted(np.cumsum(histogram), share * histogram.sum()))
