"""Recordings that the tests make themselves: tones, noise and files of many formats."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

Sound = NDArray[np.float64]


def tone(duration_s: float = 1.0, *, rate_hz: int = 16_000, pitch_hz: float = 220.0) -> Sound:
    """Return a sine of half the full scale."""
    times = np.arange(round(duration_s * rate_hz)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * pitch_hz * times)


def noise(duration_s: float = 1.0, *, rate_hz: int = 16_000, level_db: float = -20.0) -> Sound:
    """Return white noise of a level relative to full scale; the same each time."""
    random = np.random.default_rng(7)
    return random.normal(0, 10 ** (level_db / 20), round(duration_s * rate_hz)).clip(-1, 1)


def pcm16(sound: Sound) -> NDArray[np.int16]:
    """Return a sound of -1..1 as 16-bit samples."""
    return np.round(sound * 32_767).astype(np.int16)


def write_recording(
    path: Path,
    sound: Sound,
    *,
    codec: str = "pcm_s16le",
    rate_hz: int = 16_000,
    layout: str = "mono",
    container: str | None = None,
) -> Path:
    """Write a mono sound to every channel of a file; its name's ending picks the container."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(stream, AudioStream)
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate_hz)
        frame = av.AudioFrame.from_ndarray(pcm16(sound)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        for converted in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(converted))
        out.mux(stream.encode(None))
    return path


def write_video(path: Path, sound: Sound | None, *, duration_s: float = 1.0) -> Path:
    """Write a grey video of 10 frames a second, with the sound as its track if there is one."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = None if sound is None else out.add_stream("aac", rate=16_000, layout="mono")
        grey = np.full((64, 64, 3), 128, np.uint8)
        for _ in range(round(duration_s * 10)):
            out.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        out.mux(video.encode(None))
        if audio is not None and sound is not None:
            samples = sound.astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
            out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return path
