"""What the face does in each frame: the mouth's shapes, the idle head, the blinks.

    plan_motion(mouth, fps=..., seed=..., rig=...)   -> Motion

The mouth opens by exactly what the speech asks for; the kind of sound only decides how, by the jaw
or by the lips. A still head with a moving mouth is what looks dead, so the head drifts on slow
sines, nods with the loudness and blinks. Nothing here is random but for the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sayso.engine.fields import JAW_APERTURE_CM, LOWLIP_CM, UPLIP_CM
from sayso.engine.params import COLUMN, COLUMNS
from sayso.engine.rig import Rig
from sayso.engine.shapes import VISEMES
from sayso.engine.track import MouthFrames

Curve = npt.NDArray[np.float64]

# Turned further than this, the flat picture's stretching shows (its area changes by 10 %).
MAX_TURN_RAD: Final = 0.10


@dataclass(frozen=True, eq=False)
class Motion:
    """`rows` float32[n_frames, len(COLUMNS)] (see `params`), one for each frame of `fps`."""

    rows: npt.NDArray[np.float32]
    fps: float


def plan_motion(mouth: MouthFrames, *, fps: float, seed: int, rig: Rig) -> Motion:
    """Plan every frame of a video; the same arguments give the same rows, bit for bit.

    `mouth` is `VisemeTrack.sample(fps, n_frames)`; `seed` (any int >= 0) decides the idle motion.
    """
    n_frames = len(mouth.open)
    random = np.random.default_rng(seed)
    columns = _mouth_columns(mouth, fps)
    columns |= _head_columns(mouth, fps, random)
    if rig.lids:
        columns["blink"] = _blinks(n_frames, fps, random)
    rows = np.zeros((n_frames, len(COLUMNS)), np.float32)
    for name, curve in columns.items():
        rows[:, COLUMN[name]] = curve
    return Motion(rows=rows, fps=fps)


# The mouth.

# How far the lips part in front at an opening of 1.
_WIDEST_CM: Final = 1.03
# Small openings are shown a little larger: at a portrait's size they would not be seen at all.
_SMALL_SHOWS: Final = 0.8
# Per viseme: how much the upper lip rises, the lower lip drops, and the tongue's tip rises.
_LIPS: Final = {
    "sil": (0.0, 0.0, 0.0),
    "PP": (0.0, 0.0, 0.0),
    "FF": (0.0, 0.0, 0.0),
    "TH": (0.30, 0.25, 1.0),
    "DD": (0.15, 0.30, 0.1),
    "kk": (0.15, 0.20, 0.0),
    "CH": (0.40, 0.50, 0.0),
    "SS": (0.25, 0.45, 0.0),
    "nn": (0.12, 0.20, 0.25),
    "RR": (0.15, 0.25, 0.0),
    "aa": (0.30, 0.30, 0.0),
    "E": (0.25, 0.35, 0.0),
    "ih": (0.20, 0.30, 0.0),
    "oh": (0.15, 0.15, 0.0),
    "ou": (0.10, 0.15, 0.0),
}
_LIP_TABLE: Final = np.array([_LIPS[viseme] for viseme in VISEMES])
_SPREAD: Final = 0.8
_PRESS: Final = 0.8
# The jaw is slower than the lips: it stays half down while they close for a "b".
_JAW_STAYS: Final = 0.5
_JAW_SLOW_S: Final = 0.08
_LIPS_SLOW_S: Final = 0.025


def _mouth_columns(mouth: MouthFrames, fps: float) -> dict[str, Curve]:
    """Return the columns that shape the mouth; its opening in front is `open` times the widest."""
    free = 1.0 - mouth.close.astype(np.float64)
    tuck = mouth.tuck.astype(np.float64) * free
    wide = mouth.wide.astype(np.float64)
    pucker = np.maximum(-wide, 0.0)
    aperture = _WIDEST_CM * mouth.open.astype(np.float64) ** _SMALL_SHOWS
    # What a round mouth loses in width it gains in height.
    aperture *= (1.0 - 0.5 * tuck) * (1.0 + 0.3 * pucker)
    uplip, lowlip, tongue = (
        _softened(mouth.weights.astype(np.float64) @ _LIP_TABLE, _LIPS_SLOW_S * fps).T
        * free
        * (1.0 - tuck)
    )
    by_lips = UPLIP_CM * uplip + LOWLIP_CM * lowlip
    # Lips that part by more than the sound asks for would show teeth in silence.
    share = np.minimum(1.0, (aperture + 0.02) / np.maximum(by_lips, 1e-6))
    uplip, lowlip = uplip * share, lowlip * share
    jaw = np.maximum(aperture - by_lips * share, 0.0) / JAW_APERTURE_CM
    held = np.maximum(jaw, _JAW_STAYS * _softened(jaw, _JAW_SLOW_S * fps))
    return {
        "jaw": held,
        "seal": held - jaw,
        "spread": _SPREAD * np.maximum(wide, 0.0),
        "pucker": pucker,
        "uplip": uplip,
        "lowlip": lowlip,
        "press": _PRESS * mouth.close.astype(np.float64),
        "fv": tuck,
        "tongue": tongue,
    }


def _softened(curve: Curve, sigma_frames: float) -> Curve:
    """Blur along time, continuing the ends; curves of any shape [n_frames, ...]."""
    radius = max(1, int(np.ceil(3 * sigma_frames)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma_frames, 1e-3)) ** 2)
    kernel /= kernel.sum()
    padded = np.concatenate(
        [np.repeat(curve[:1], radius, axis=0), curve, np.repeat(curve[-1:], radius, axis=0)]
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0)
    return np.asarray(windows @ kernel)


# The head.

# Half the range of each axis' drift: radians, then centimetres.
_DRIFT: Final = {"yaw": 0.035, "pitch": 0.018, "roll": 0.012, "shift_x": 0.08, "shift_y": 0.06}
_DRIFT_PERIODS_S: Final = (2.9, 7.9)
# The first frame is the portrait as it is; the drift sets in over this time.
_DRIFT_IN_S: Final = 0.8
_NOD_RAD: Final = 0.075
_NOD_BAND_HZ: Final = (0.9, 2.2)


def _head_columns(mouth: MouthFrames, fps: float, random: np.random.Generator) -> dict[str, Curve]:
    """Return the head's turns and shifts and the brows: slow drift, and nods with the speech."""
    n_frames = len(mouth.open)
    time_s = np.arange(n_frames) / fps
    ease = _smoothstep(time_s / _DRIFT_IN_S)
    columns = {name: ease * half * _drift(time_s, random) for name, half in _DRIFT.items()}
    low_hz, high_hz = _NOD_BAND_HZ
    loud = mouth.open.astype(np.float64)
    # A Gaussian of sigma 1 / (2 pi f) passes what is slower than f.
    stress = _softened(loud, fps / (2 * np.pi * high_hz)) - _softened(
        loud, fps / (2 * np.pi * low_hz)
    )
    columns["pitch"] = columns["pitch"] + ease * _NOD_RAD * stress
    columns["brow"] = ease * np.clip(2.2 * _softened(stress, 0.08 * fps), 0.0, 0.6)
    for name in ("yaw", "pitch"):
        columns[name] = np.clip(columns[name], -MAX_TURN_RAD, MAX_TURN_RAD)
    return columns


def _drift(time_s: Curve, random: np.random.Generator) -> Curve:
    """Return the sum of two slow sines, within -1..1, that starts at nought."""
    periods = random.uniform(*_DRIFT_PERIODS_S, size=2)
    phases = random.uniform(0.0, 2 * np.pi, size=2)
    waves = np.sin(2 * np.pi * time_s[:, np.newaxis] / periods + phases)
    return np.asarray(waves @ (0.6, 0.4))


def _smoothstep(t: Curve) -> Curve:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


# The blinks.

_BLINK_DOWN_S: Final = 0.10
_BLINK_SHUT_S: Final = 0.05
_BLINK_UP_S: Final = 0.17
# Pauses between blinks while talking, log-normal: about 3 s, seldom beyond 7.
_BLINK_PAUSE: Final = (1.15, 0.45)
_BLINK_PAUSE_S: Final = (1.2, 7.0)


def _blinks(n_frames: int, fps: float, random: np.random.Generator) -> Curve:
    """Return how far the eyes are closed in each frame, 0..1."""
    time_s = np.arange(n_frames) / fps
    closed = np.zeros(n_frames)
    start_s = 0.6 + random.uniform(0.0, 1.4)
    while start_s < n_frames / fps:
        since = time_s - start_s
        down = _smoothstep(since / _BLINK_DOWN_S)
        up = _smoothstep((since - _BLINK_DOWN_S - _BLINK_SHUT_S) / _BLINK_UP_S)
        closed = np.maximum(closed, down - up)
        pause_s = float(np.clip(random.lognormal(*_BLINK_PAUSE), *_BLINK_PAUSE_S))
        start_s += _BLINK_DOWN_S + _BLINK_SHUT_S + _BLINK_UP_S + pause_s
    return closed
