"""Frames and sound -> an MP4 that every browser plays, written as the frames come.

H.264 (High, 4:2:0, BT.709) and AAC-LC at 48 kHz, index first (`faststart`), both tracks start at 0
and end together. The file appears under its name only when it is whole; whatever goes wrong, an
interrupt included, leaves nothing behind.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from sayso.engine.planes import Planes, planes_of

Frame = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.int16]

AUDIO_RATE_HZ: Final = 48_000
AUDIO_BIT_RATE: Final = 128_000
AAC_FRAME: Final = 1024  # samples
KEYFRAME_EVERY_S: Final = 2
_SHOWN_LETTERS: Final = 40
# 20 removed the grain of film photographs; 18 keeps it, at a third more bytes.
CRF: Final = 18
# Said in the file's own comment field, so that tools can tell what the video is.
SYNTHETIC: Final = "synthetic: portrait animated by Sayso"


def write_video(
    path: Path,
    frames: Iterable[Planes | Frame],
    pcm: Iterable[Samples],
    *,
    fps: int,
    size: tuple[int, int],
    n_frames: int,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Write exactly `n_frames` frames and as much sound to `path`.

    `frames` gives planes, or uint8[height, width, 3] BGR; `size` is (width, height), even. `pcm`
    gives mono int16 blocks at 48 kHz of any length, cut or continued with silence to the video's
    end. `on_frame(done)` is called after each frame; what it raises ends the work.

    Raises `ValueError` when the frames end early.
    """
    sound = _SoundBlocks(pcm, total=round(n_frames * AUDIO_RATE_HZ / fps))
    with _whole_file_or_none(path) as part, _open_mp4(part) as container:
        video = _add_video(container, fps, size)
        audio = _add_audio(container)
        done = 0
        for picture in frames:
            if done == n_frames:
                break
            container.mux(video.encode(_to_video_frame(picture, done, fps)))
            done += 1
            # The tracks are written in step, so that a player needs no long look-ahead.
            for block in sound.until(round(done * AUDIO_RATE_HZ / fps)):
                container.mux(audio.encode(block))
            if on_frame is not None:
                on_frame(done)
        if done < n_frames:
            raise ValueError(f"{done} frames came, {n_frames} were announced")
        for block in sound.until(sound.total, flush=True):
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


@contextmanager
def _whole_file_or_none(path: Path) -> Iterator[Path]:
    """Give a name beside `path`; move it there at the end, or remove it when anything is raised."""
    # A name may be as long as names can be; what is added to it has to fit as well.
    prefix = f".{path.stem[:_SHOWN_LETTERS]}."
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".part.mp4")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the process's umask; `mkstemp` made the file private, a result is not."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextmanager
def _open_mp4(path: Path) -> Iterator[OutputContainer]:
    container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
    container.metadata["comment"] = SYNTHETIC
    try:
        yield container
    finally:
        container.close()


def _add_video(container: OutputContainer, fps: int, size: tuple[int, int]) -> VideoStream:
    options = {"preset": "veryfast", "crf": str(CRF), "profile": "high"}
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.gop_size = KEYFRAME_EVERY_S * fps
    # The renderer uses the cores; a second set of threads would only fight it.
    context.thread_count = 1
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    return stream


def _add_audio(container: OutputContainer) -> AudioStream:
    stream = container.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono")
    stream.bit_rate = AUDIO_BIT_RATE
    return stream


def _to_video_frame(picture: Planes | Frame, index: int, fps: int) -> av.VideoFrame:
    # Skin shifts when the conversion and the tags disagree; both say BT.709, limited range.
    planes = picture if isinstance(picture, Planes) else planes_of(picture)
    # PyAV 18 takes a buffer as it is, without copying it, only if its height divides by four.
    is_as_it_is = planes.size[1] % 4 == 0
    take = av.VideoFrame.from_numpy_buffer if is_as_it_is else av.VideoFrame.from_ndarray
    frame = take(planes.buffer, format="yuv420p")
    frame.pts = index
    frame.time_base = Fraction(1, fps)
    return frame


class _SoundBlocks:
    """Cut a stream of PCM into AAC frames, exactly `total` samples in all."""

    def __init__(self, pcm: Iterable[Samples], *, total: int) -> None:
        self._pcm = iter(pcm)
        self._pending = np.zeros(0, np.int16)
        self._given = 0
        self.total = total

    def until(self, sample: int, *, flush: bool = False) -> Iterator[av.AudioFrame]:
        """Give the blocks that end at or before `sample`; the rest as well with `flush`."""
        while self._given + AAC_FRAME <= sample:
            yield self._block(AAC_FRAME)
        if flush and self._given < sample:
            yield self._block(sample - self._given)

    def _block(self, length: int) -> av.AudioFrame:
        while len(self._pending) < length:
            more = next(self._pcm, None)
            if more is None:
                more = np.zeros(length - len(self._pending), np.int16)
            self._pending = np.concatenate([self._pending, more])
        block, self._pending = self._pending[:length], self._pending[length:]
        frame = av.AudioFrame.from_ndarray(block[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = AUDIO_RATE_HZ
        frame.time_base = Fraction(1, AUDIO_RATE_HZ)
        frame.pts = self._given
        self._given += length
        return frame
