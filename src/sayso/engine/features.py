"""Sound as numbers, 100 frames a second: how loud it is, and its log-mel spectrum.

Frame i is the 25 ms window around its centre, (i + 0.5) * 10 ms. The spectrum has 40 mel bands from
60 to 7600 Hz and is normalised to the recording itself, so that distance, microphone and level
matter little: the mean of the speech frames within 3 s either side is taken away.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sayso.media.audio import SPEECH_RATE_HZ, Pcm

Floats = NDArray[np.float32]

HOP: Final = 160
WINDOW: Final = 400
MELS: Final = 40
_FFT: Final = 512
_CELL: Final = 40  # samples; windows and hops are whole numbers of these
_LEAD_IN: Final = 120  # samples of the window before the frame's own 160
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7600.0
_POWER_FLOOR: Final = 1e-7
BLOCK: Final = 3_000
"""Frames worked on at a time, half a minute: keeps memory small whatever the length."""


_MEAN_FRAMES: Final = 300
_SPEECH_BELOW_PEAK: Final = 4.0  # nepers of power
_GATED_OUT: Final = 1e-3
_BANDS_AT_ONCE: Final = 8  # keeps memory small
_SPREAD: Final = 2.5


def count_frames(samples: Pcm) -> int:
    """Return how many 10 ms frames a recording at 16 kHz has; the last may be part empty."""
    return -(-len(samples) // HOP)


def levels_db(samples: Pcm) -> Floats:
    """Return the loudness of each frame in dB of full scale, f32[n]; -120 for digital silence."""
    cells = np.zeros(-(-len(samples) // _CELL) + 1)
    for first in range(0, len(samples), BLOCK * HOP):
        part = samples[first : first + BLOCK * HOP].astype(np.float64) / 32768
        padded = np.pad(part, (0, -len(part) % _CELL)).reshape(-1, _CELL)
        at = first // _CELL + 1
        cells[at : at + len(padded)] = np.square(padded).sum(axis=1)
    sums = np.cumsum(cells)
    starts = (np.arange(count_frames(samples)) * HOP - _LEAD_IN) // _CELL
    last = len(sums) - 1
    power = sums[(starts + WINDOW // _CELL).clip(0, last)] - sums[starts.clip(0, last)]
    return np.asarray(10 * np.log10((power / WINDOW).clip(1e-12)), np.float32)


def log_mels(samples: Pcm, *, block: int = BLOCK) -> Floats:
    """Return the logarithm of the power in each band, f32[n, 40]; `block` frames at a time."""
    n_frames = count_frames(samples)
    spectrum = np.empty((n_frames, MELS), np.float32)
    for first in range(0, n_frames, block):
        end = min(first + block, n_frames)
        spectrum[first:end] = _log_mels_of(samples, first, end)
    return spectrum


def normalised(spectrum: Floats) -> Floats:
    """Take the recording's own colour and level out of a log-mel spectrum, f32[n, 40]."""
    if len(spectrum) == 0:
        return spectrum
    loudness = spectrum.mean(axis=1)
    speaks = loudness > np.percentile(loudness, 95) - _SPEECH_BELOW_PEAK
    gate = np.where(speaks, 1.0, _GATED_OUT)
    near_weight = _moving_sum(gate[:, None])
    trust = np.minimum(1.0, near_weight / 100)
    result = np.empty_like(spectrum)
    for band in range(0, MELS, _BANDS_AT_ONCE):
        part = spectrum[:, band : band + _BANDS_AT_ONCE]
        gated = gate[:, None] * part.astype(np.float64)
        near = _moving_sum(gated) / near_weight
        whole = gated.sum(axis=0) / gate.sum()
        result[:, band : band + _BANDS_AT_ONCE] = part - trust * near - (1 - trust) * whole
    return np.asarray(result / _SPREAD, np.float32)


def _log_mels_of(samples: Pcm, first: int, end: int) -> Floats:
    start, stop = first * HOP - _LEAD_IN, (end - 1) * HOP - _LEAD_IN + WINDOW
    part = samples[max(0, start) : stop].astype(np.float32) / 32768
    part = np.pad(part, (max(0, -start), stop - max(0, start) - len(part)))
    windows = np.lib.stride_tricks.sliding_window_view(part, WINDOW)[::HOP]
    windows = (windows - windows.mean(axis=1, keepdims=True)) * _hann()
    power = np.abs(np.fft.rfft(windows, _FFT, axis=1)) ** 2
    mels: Floats = np.log(power.astype(np.float32) @ _filters() + _POWER_FLOOR)
    return mels


def _moving_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    index = np.arange(len(values))
    last = (index + _MEAN_FRAMES + 1).clip(max=len(values))
    return np.asarray(sums[last] - sums[(index - _MEAN_FRAMES).clip(0)])


@cache
def _hann() -> Floats:
    return np.hanning(WINDOW).astype(np.float32)


@cache
def _filters() -> Floats:
    """Return 40 triangular filters as f32[257, 40], evenly spaced on the mel scale."""

    def mel(hz: float) -> float:
        return 2595 * float(np.log10(1 + hz / 700))

    centres_mel = np.linspace(mel(_LOWEST_HZ), mel(_HIGHEST_HZ), MELS + 2)
    centres_hz = 700 * (10 ** (centres_mel / 2595) - 1)
    bins_hz = np.arange(_FFT // 2 + 1) * SPEECH_RATE_HZ / _FFT
    rising = (bins_hz[:, None] - centres_hz[:-2]) / np.diff(centres_hz)[:-1]
    falling = (centres_hz[2:] - bins_hz[:, None]) / np.diff(centres_hz)[1:]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
