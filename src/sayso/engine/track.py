"""What the mouth does over time: visemes turned into smooth curves, and curves into frames.

    draw(evidence) -> VisemeTrack       100 values a second
    track.sample(fps, n_frames)         one value for each frame of a video
    track.cues()                        segments, for files and other programs

Speech is not a row of still shapes: lips move all the time, each sound bends towards its
neighbours, and only a few gestures are sharp. So opening and width are smoothed over 90 ms, while
the lips' closure (p, b, m) and the lower lip's tuck under the teeth (f, v) keep edges of 30 and
50 ms and survive being shown at 25 frames a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.shapes import FF, OPENING, PP, VISEMES, WIDTH
from sayso.errors import Notice

Curve = NDArray[np.float32]

RATE_HZ: Final = 100
LEAD_S: Final = 0.02
"""The mouth is shown this much before its sound: viewers forgive early lips, not late ones."""

_SHAPE_FRAMES: Final = 9
_TUCK_FRAMES: Final = 5
_CLOSE_FRAMES: Final = 3
_SHORTEST_CLOSURE: Final = 5
# How much of the opening comes from all visemes by their weights; the rest from the chosen one.
_BLEND: Final = 0.6
_QUIETEST_SCALE: Final = 0.8
# Speech that is as even as this has no quiet syllables.
_LEAST_RANGE_DB: Final = 10.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was heard, 100 frames a second: all that `draw` needs.

    `viseme` u8[n] is the chosen shape, `weights` f32[n, 15] how likely each shape is (rows sum
    to 1), `speech` f32[n] is 1 where somebody speaks, `level_db` f32[n] the loudness.
    """

    viseme: NDArray[np.uint8]
    weights: Curve
    speech: Curve
    level_db: Curve
    method: str
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, eq=False)
class MouthFrames:
    """The mouth in each frame of a video; every curve is f32[n_frames].

    `open` 0..1, `wide` -1..1, `close` 0..1 (the lips pressed together; `open` is already 0 there),
    `tuck` 0..1 (the lower lip under the upper teeth), `speech` 0..1; `weights` f32[n_frames, 15].
    """

    fps: float
    open: Curve
    wide: Curve
    close: Curve
    tuck: Curve
    speech: Curve
    weights: Curve


@dataclass(frozen=True, eq=False)
class VisemeTrack:
    """The mouth 100 times a second; frame i stands for its centre, (i + 0.5) * 10 ms.

    `viseme` u8[n] indexes `VISEMES`; `open` f32[n] 0..1 already respects closures; `wide` f32[n]
    -1..1; `close`, `tuck`, `speech` f32[n] 0..1; `weights` f32[n, 15]. `method` says how it was
    found: transcript, fused, net, phones or energy.
    """

    viseme: NDArray[np.uint8]
    open: Curve
    wide: Curve
    close: Curve
    tuck: Curve
    speech: Curve
    weights: Curve
    method: str
    notices: tuple[Notice, ...] = ()
    rate_hz: int = RATE_HZ

    def sample(self, fps: float, n_frames: int, lead_s: float = LEAD_S) -> MouthFrames:
        """Return the mouth at each frame of a video.

        A frame shows what happens while it is on the screen: the mean of the curves, but the
        maximum of `close` and `tuck`, so that a closure between two frames is not lost.
        """
        edges = (np.arange(n_frames + 1) / fps + lead_s) * self.rate_hz
        close = _highest(self.close, edges)
        return MouthFrames(
            fps=fps,
            open=_mean(self.open, edges) * (1 - close),
            wide=_mean(self.wide, edges),
            close=close,
            tuck=_highest(self.tuck, edges),
            speech=_mean(self.speech, edges),
            weights=_mean(self.weights, edges),
        )

    def cues(self) -> list[tuple[float, float, str]]:
        """Return (start_s, end_s, viseme) for each unbroken stretch of one viseme."""
        if len(self.viseme) == 0:
            return []
        starts = np.flatnonzero(np.diff(self.viseme)) + 1
        bounds = [0, *starts.tolist(), len(self.viseme)]
        return [
            (first / self.rate_hz, end / self.rate_hz, VISEMES[self.viseme[first]])
            for first, end in pairwise(bounds)
        ]


def draw(evidence: Evidence) -> VisemeTrack:
    """Turn what was heard into the curves of a mouth."""
    viseme = _with_visible_closures(evidence.viseme)
    close = _smoothed((viseme == PP).astype(np.float32), _CLOSE_FRAMES)
    tuck = _smoothed((viseme == FF).astype(np.float32), _TUCK_FRAMES)
    scale = _loudness_scale(evidence.level_db, evidence.speech)
    opening = _smoothed(_blended(evidence.weights, viseme, OPENING), _SHAPE_FRAMES)
    return VisemeTrack(
        viseme=viseme,
        open=(opening * scale * (1 - close)).clip(0, 1),
        wide=_smoothed(_blended(evidence.weights, viseme, WIDTH), _SHAPE_FRAMES).clip(-1, 1),
        close=close,
        tuck=tuck,
        speech=evidence.speech,
        weights=evidence.weights,
        method=evidence.method,
        notices=evidence.notices,
    )


def _blended(weights: Curve, viseme: NDArray[np.uint8], looks: Curve) -> Curve:
    shown: Curve = _BLEND * (weights @ looks) + (1 - _BLEND) * looks[viseme]
    return shown


def _with_visible_closures(viseme: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch each closure to at least 50 ms, half into each neighbour; closures stay apart."""
    stretched = viseme.copy()
    for first, end in stretches(viseme == PP):
        missing = _SHORTEST_CLOSURE - (end - first)
        if missing > 0:
            begin = max(0, first - (missing + 1) // 2)
            stretched[begin : min(len(viseme), begin + _SHORTEST_CLOSURE)] = PP
    return stretched


def _loudness_scale(level_db: Curve, speech: Curve) -> Curve:
    """Return 1 for the loudest tenth of the speech, down to 0.8 for its quietest fifth."""
    voiced = level_db[speech > 0.5]  # noqa: PLR2004  # More speech than not.
    if len(voiced) == 0:
        return np.ones_like(level_db)
    quiet, loud = np.percentile(voiced, [20, 90])
    below = (loud - level_db) / max(float(loud - quiet), _LEAST_RANGE_DB)
    scale = 1 - (1 - _QUIETEST_SCALE) * below.clip(0, 1)
    return _smoothed(scale.astype(np.float32), _SHAPE_FRAMES)


def _smoothed(curve: Curve, frames: int) -> Curve:
    """Smooth with a triangle whose half-width is `frames` / 2, continuing the ends."""
    triangle = np.bartlett(frames + 2)[1:-1]
    padded = np.pad(curve, frames // 2, mode="edge")
    return np.convolve(padded, triangle / triangle.sum(), "valid").astype(np.float32)


def stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (first, end) of each unbroken stretch of True."""
    edges = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    firsts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(firsts.tolist(), ends.tolist(), strict=True))


def _mean(curve: Curve, edges: NDArray[np.float64]) -> Curve:
    """Return the mean between each two edges (in track frames); the last value goes on."""
    if len(curve) == 0:
        return np.zeros((len(edges) - 1, *curve.shape[1:]), np.float32)
    rows = curve.reshape(len(curve), -1)
    areas = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=float)])
    at = edges.clip(0, len(curve))
    below = np.floor(at).astype(int).clip(0, len(curve) - 1)
    area = areas[below] + (at - below)[:, None] * rows[below]
    area += (edges - at)[:, None] * rows[-1]
    means = np.diff(area, axis=0) / np.diff(edges)[:, None]
    return np.asarray(means.reshape(len(means), *curve.shape[1:]), np.float32)


def _highest(curve: Curve, edges: NDArray[np.float64]) -> Curve:
    """Return the highest value whose frame's centre lies between each two edges."""
    firsts = np.ceil(edges - 0.5).astype(int).clip(0, len(curve))
    highest = [
        curve[first:end].max() if first < end else _at(curve, first)
        for first, end in pairwise(firsts)
    ]
    return np.array(highest, np.float32)


def _at(curve: Curve, index: int) -> float:
    return float(curve[min(index, len(curve) - 1)]) if len(curve) and index < len(curve) else 0.0
