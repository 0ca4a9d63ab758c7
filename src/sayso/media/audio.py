"""Recordings: any common audio or video file in, 16 kHz mono PCM out, within limits.

- `read_speech` decodes a whole recording for analysis and refuses what cannot be used.
- `stream_pcm` decodes the same file again in blocks, at the rate of the finished video's sound,
  so that picture and sound come from one decoder without the sound being held in memory.
- `write_beginning` writes the first seconds as a file of their own.

All go through `_blocks`: demux, decode packet by packet (a bad packet is counted and skipped),
downmix and resample. PyAV (FFmpeg) does the work; only file formats that hold one recording are
opened, never playlists or lists of other files.
"""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from sayso.errors import (
    NoAudioTrack,
    Notice,
    SpeechEmpty,
    SpeechTooLarge,
    SpeechTooLong,
    SpeechTooShort,
    SpeechUnreadable,
)

Pcm = NDArray[np.int16]

SPEECH_RATE_HZ: Final = 16_000
VIDEO_RATE_HZ: Final = 48_000

# FFmpeg's names of the demuxers we allow. Playlists (hls, concat, dash, sdp) stay out: they name
# other files and hosts. Pictures stay out too, so that they are called what they are.
FORMATS: Final = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,"
    "nut,oga,ogg,rm,tta,voc,w64,wav,webm,wv"
)
# These have no index: what they claim as their length is a guess from their bit rate.
_GUESSED_LENGTH: Final = frozenset({"aac", "ac3", "amr", "dts", "eac3", "mp3", "mpeg", "mpegts"})
_MICROSECONDS: Final = 1_000_000
_TRUNCATED_SHARE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class SpeechLimits:
    """What a recording may be."""

    size_bytes: int = 128 * 1024 * 1024
    shortest_s: float = 0.2
    longest_s: float = 600.0
    bad_packet_share: float = 0.2
    """A recording with more damaged packets than this share is refused."""


@dataclass(frozen=True, eq=False)
class Speech:
    """A decoded recording: `samples` is int16[n], mono, 16 kHz, read-only."""

    path: Path
    samples: Pcm
    duration_s: float
    codec: str
    notices: tuple[Notice, ...] = ()


@dataclass
class _Tally:
    """What the decoder met on its way through one file."""

    packets: int = 0
    bad_packets: int = 0
    broke_off: bool = False

    @property
    def is_damaged(self) -> bool:
        return self.broke_off or self.bad_packets > 0


@dataclass(frozen=True)
class _Claim:
    """What a file's header says of itself; `duration_s` is None where it says nothing."""

    codec: str
    duration_s: float | None
    is_guess: bool


@dataclass
class _Source:
    """An open file with an audio track."""

    container: InputContainer
    stream: AudioStream
    tally: _Tally = field(default_factory=_Tally)


def read_speech(path: Path, *, limits: SpeechLimits | None = None) -> Speech:
    """Decode a recording, or the sound of a video, to 16 kHz mono.

    Damage that leaves most of the recording intact becomes a notice: `speech_damaged` for packets
    that had to be skipped, `speech_truncated` for a file that ends before its header says.
    Decoding stops as soon as the longest allowed length is passed.

    Raises `SpeechUnreadable`, `NoAudioTrack`, `SpeechTooLarge`, `SpeechTooLong`, `SpeechTooShort`
    or `SpeechEmpty`.
    """
    limits = limits or SpeechLimits()
    _check_file(path, limits)
    with _opened(path) as container:
        source = _Source(container, _audio_track(container))
        claim = _claim_of(source)
        _check_claim(claim, limits)
        samples = _collected(_blocks(source, rate_hz=SPEECH_RATE_HZ), limits)
    _check_samples(samples, source.tally, limits)
    duration_s = len(samples) / SPEECH_RATE_HZ
    notices = tuple(_notices(source.tally, claim, duration_s))
    return Speech(path, samples, duration_s, claim.codec, notices)


def stream_pcm(path: Path, *, rate_hz: int = VIDEO_RATE_HZ) -> Iterator[Pcm]:
    """Yield the recording as blocks of int16[n], mono, at `rate_hz`.

    The blocks together last as long as `read_speech(path)` says, give or take a sample. Raises
    `SpeechUnreadable` or `NoAudioTrack` if the file is no longer what `read_speech` accepted.
    """
    with _opened(path) as container:
        yield from _blocks(_Source(container, _audio_track(container)), rate_hz=rate_hz)


def write_beginning(path: Path, target: Path, *, seconds: float) -> None:
    """Write the first seconds of a recording to `target` as mono WAV; a shorter one as a whole.

    No more of it is decoded than that. Raises `SpeechUnreadable` or `NoAudioTrack`.
    """
    left = round(seconds * VIDEO_RATE_HZ)
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(VIDEO_RATE_HZ)
        for block in stream_pcm(path):
            file.writeframes(block[:left].astype("<i2").tobytes())
            left -= len(block)
            if left <= 0:
                break


def _check_file(path: Path, limits: SpeechLimits) -> None:
    if not path.is_file():
        raise SpeechUnreadable(f"There is no recording at {path.name}.")
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise SpeechEmpty("The recording is an empty file.")
    if size_bytes > limits.size_bytes:
        raise SpeechTooLarge(
            f"The recording has {size_bytes / 1e6:.0f} MB; "
            f"at most {limits.size_bytes / 1e6:.0f} MB are allowed."
        )


def _opened(path: Path) -> InputContainer:
    # An absolute path starts with a slash, so FFmpeg cannot take a part of it for a protocol.
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        return av.open(str(path.absolute()), mode="r", container_options=options)
    except (av.FFmpegError, ValueError, OSError) as problem:
        raise SpeechUnreadable("The file is not a recording that can be read.") from problem


def _audio_track(container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        raise NoAudioTrack("The file has no sound in it.")
    stream = container.streams.audio[0]
    # PyAV's types do not say so, but a codec that FFmpeg does not know has no context.
    if cast("object", stream.codec_context) is None:
        raise SpeechUnreadable("The sound is of a kind that cannot be read.")
    return stream


def _claim_of(source: _Source) -> _Claim:
    names = set(source.container.format.name.split(","))
    duration = source.container.duration
    return _Claim(
        codec=source.stream.codec_context.name,
        duration_s=None if duration is None else duration / _MICROSECONDS,
        is_guess=bool(names & _GUESSED_LENGTH),
    )


def _check_claim(claim: _Claim, limits: SpeechLimits) -> None:
    """Refuse a recording that calls itself too long before a packet of it is decoded."""
    if claim.duration_s is None:
        return
    # A guess may be wrong by a lot; decoding stops at the limit anyway.
    allowed_s = limits.longest_s * 2 if claim.is_guess else limits.longest_s + 1
    if claim.duration_s > allowed_s:
        raise _too_long(limits)


def _too_long(limits: SpeechLimits) -> SpeechTooLong:
    return SpeechTooLong(f"The recording is longer than the {limits.longest_s:g} s allowed.")


def _collected(blocks: Iterable[Pcm], limits: SpeechLimits) -> Pcm:
    """Join the blocks, and stop as soon as they are longer than allowed."""
    longest = round(limits.longest_s * SPEECH_RATE_HZ)
    buffer = bytearray()
    for block in blocks:
        buffer += block.tobytes()
        if len(buffer) // 2 > longest:
            raise _too_long(limits)
    return np.frombuffer(bytes(buffer), np.int16)


def _check_samples(samples: Pcm, tally: _Tally, limits: SpeechLimits) -> None:
    if tally.bad_packets > limits.bad_packet_share * tally.packets:
        raise SpeechUnreadable("The recording is too damaged to be used.")
    if len(samples) == 0:
        if tally.broke_off:
            raise SpeechUnreadable("The recording is too damaged to be used.")
        raise SpeechEmpty("The recording holds no sound.")
    if len(samples) < limits.shortest_s * SPEECH_RATE_HZ:
        raise SpeechTooShort(
            f"The recording lasts {len(samples) / SPEECH_RATE_HZ:.2f} s; "
            f"at least {limits.shortest_s:g} s are needed."
        )


def _notices(tally: _Tally, claim: _Claim, duration_s: float) -> Iterator[Notice]:
    if tally.is_damaged:
        yield Notice("speech_damaged", "Parts of the recording are damaged and were left out.")
    # MP3 counts its frames in its header; the other guesses are too rough to complain about.
    is_trusted = not claim.is_guess or claim.codec.startswith("mp3")
    if is_trusted and claim.duration_s and duration_s < claim.duration_s * _TRUNCATED_SHARE:
        yield Notice(
            "speech_truncated",
            f"The recording ends after {duration_s:.1f} s, "
            f"but says that it lasts {claim.duration_s:.1f} s.",
        )


def _blocks(source: _Source, *, rate_hz: int) -> Iterator[Pcm]:
    for frame in _resampled(_frames(source), rate_hz):
        yield frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)


def _frames(source: _Source) -> Iterator[AudioFrame]:
    """Decode packet by packet; count what cannot be decoded and go on."""
    tally = source.tally
    packets = source.container.demux(source.stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            tally.broke_off = True
            return
        if packet is None:
            return
        tally.packets += 1
        try:
            frames = packet.decode()
        except av.FFmpegError:
            tally.bad_packets += 1
            continue
        yield from frames


def _resampled(frames: Iterable[AudioFrame], rate_hz: int) -> Iterator[AudioFrame]:
    """Bring frames to mono s16 at one rate, also where their own format changes on the way."""
    resampler: AudioResampler | None = None
    kind: tuple[str, str, int] | None = None
    for frame in frames:
        frame_kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or frame_kind != kind:
            yield from _flushed(resampler)
            resampler = AudioResampler(format="s16", layout="mono", rate=rate_hz)
            kind = frame_kind
        # Positions in the file do not matter, and broken ones would confuse the resampler.
        frame.pts = None
        yield from resampler.resample(frame)
    yield from _flushed(resampler)


def _flushed(resampler: AudioResampler | None) -> list[AudioFrame]:
    return [] if resampler is None else resampler.resample(None)
