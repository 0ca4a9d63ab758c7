"""What rooms, microphones and lives do to speech, done to clean recordings on purpose.

Speed and pitch, a microphone's colour, a room's echo, telephone bands, noises, music, other
voices, level and clipping: `worn` does some of them at random to samples and labels together.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import HOP
from sayso.engine.shapes import SIL
from sayso.media.audio import SPEECH_RATE_HZ, Pcm
from tools.viseme_training.corpus import UNKNOWN, Labels, coloured, music

Sound = NDArray[np.float64]
_TELEPHONE_HZ: Final = 3_600


def at_speed(samples: Pcm, labels: Labels, random: np.random.Generator) -> tuple[Pcm, Labels]:
    """Play a recording faster or slower, pitch and all, with a silence before or after."""
    sound = samples / 32_768
    factor = random.uniform(0.84, 1.20) if random.uniform() < 0.7 else 1.0
    sound, labels = _stretched(sound, labels, factor)
    if random.uniform() < 0.35:
        before, after = (random.uniform(0, 0.8, 2) * 100).astype(int)
        sound = np.pad(sound, (before * HOP, after * HOP))
        labels = np.pad(labels, (before, after), constant_values=SIL)
    return _as_pcm(sound), labels


def worn(
    samples: Pcm, labels: Labels, others: list[Pcm], random: np.random.Generator
) -> tuple[Pcm, Labels]:
    """Do to a recording what happens to recordings; `others` are voices for the background."""
    spoken, labels = at_speed(samples, labels, random)
    sound = spoken / 32_768
    if random.uniform() < 0.6:
        sound = _through_microphone(sound, random)
    if random.uniform() < 0.3:
        sound = _in_room(sound, random)
    if random.uniform() < 0.2:
        sound = _below(sound, _TELEPHONE_HZ)
    if random.uniform() < 0.75:
        sound = sound + _background(sound, others, random)
    sound = sound * 10 ** (random.uniform(-25, 0) / 20) / max(np.abs(sound).max(), 1e-6)
    if random.uniform() < 0.1:
        sound = (sound * random.uniform(2, 6)).clip(-1, 1)
    return _as_pcm(sound), labels


def _as_pcm(sound: Sound) -> Pcm:
    return np.round(sound.clip(-1, 1) * 32_767).astype(np.int16)


def _stretched(sound: Sound, labels: Labels, factor: float) -> tuple[Sound, Labels]:
    """Resample by cutting or extending the spectrum; lengths are multiples of a frame."""
    n_frames = round(len(labels) / factor)
    padded = np.pad(sound, (0, max(0, len(labels) * HOP - len(sound))))[: len(labels) * HOP]
    spectrum = np.fft.rfft(padded)
    bins = n_frames * HOP // 2 + 1
    fitted = np.pad(spectrum[:bins], (0, max(0, bins - len(spectrum))))
    resampled = np.fft.irfft(fitted, n_frames * HOP) * n_frames / len(labels)
    sources = ((np.arange(n_frames) + 0.5) * len(labels) / n_frames).astype(int)
    return resampled, labels[sources.clip(max=len(labels) - 1)]


def _through_microphone(sound: Sound, random: np.random.Generator) -> Sound:
    """Tilt the spectrum and put a broad bump or dip into it, up to 9 dB."""
    spectrum = np.fft.rfft(sound)
    octave = np.log2(np.fft.rfftfreq(len(sound), 1 / SPEECH_RATE_HZ).clip(50) / 1000)
    gain_db = random.uniform(-4, 4) * octave
    gain_db += random.uniform(-9, 9) * np.exp(-(((octave - random.uniform(-3, 2.5)) / 0.8) ** 2))
    return np.asarray(np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(sound)))


def _in_room(sound: Sound, random: np.random.Generator) -> Sound:
    """Add the decaying noise that stands for a room's echo."""
    decay_s = random.uniform(0.05, 0.35)
    times = np.arange(int(decay_s * 2 * SPEECH_RATE_HZ)) / SPEECH_RATE_HZ
    echo = random.normal(0, 1, len(times)) * np.exp(-6.9 * times / decay_s)
    echo *= random.uniform(0.1, 0.6) / np.sqrt((echo**2).sum())
    echo[0] += 1
    size = len(sound) + len(echo)
    both = np.fft.rfft(sound, size) * np.fft.rfft(echo, size)
    return np.asarray(np.fft.irfft(both, size)[: len(sound)])


def _below(sound: Sound, cut_hz: float) -> Sound:
    spectrum = np.fft.rfft(sound)
    above = np.fft.rfftfreq(len(sound), 1 / SPEECH_RATE_HZ) > cut_hz
    spectrum[above] *= 1e-3
    return np.asarray(np.fft.irfft(spectrum, len(sound)))


def _background(sound: Sound, others: list[Pcm], random: np.random.Generator) -> Sound:
    n = len(sound)
    kind = random.choice(["white", "coloured", "music", "babble"], p=[0.15, 0.45, 0.2, 0.2])
    match kind:
        case "white":
            noise = random.normal(0, 0.3, n)
        case "coloured":
            noise = coloured(n, random, random.uniform(0.5, 2))
        case "music":
            noise = music(n, random)
        case _:
            noise = np.zeros(n)
            for index in random.integers(0, len(others), 4):
                noise += np.resize(others[index] / 32_768, n)
    wanted_db = random.uniform(5, 40)
    speech_power = np.percentile(sound.reshape(-1, HOP).var(axis=1), 80) if n >= HOP else 1e-6
    scale = np.sqrt(max(speech_power, 1e-9) / max(noise.var(), 1e-12)) * 10 ** (-wanted_db / 20)
    return np.asarray(noise * scale)


__all__ = ["UNKNOWN", "at_speed", "worn"]
