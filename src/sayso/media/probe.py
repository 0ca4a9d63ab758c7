"""What is really in a video file, and whether it may be delivered and paid.

    probe_video()   measures a file: every packet is read, the first frame is decoded
    Probe           what was found
    judge()         the rules before a capture (pure): a refusal, or notices for the receipt

Lengths are counted from the packets and not taken from the header, which may promise what is not
there. Only single files are opened, never playlists, which name other files and hosts. A provider's
file is a stranger's: probe it in a child (`inspection.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from sayso.errors import Notice, VideoRefused, VideoUnreadable

FORMATS: Final = "avi,matroska,mov,mpegts,webm"
# What every current browser plays.
_COMMON_CODECS: Final = frozenset({"h264", "vp8", "vp9", "av1"})

# Our own videos: half a frame more than one, as the last frame covers the end of the speech.
_OUR_TOLERANCE_S: Final = 0.1
_OUR_TOLERANCE_FRAMES: Final = 1.5
_LEAST_SHARE: Final = 0.5
_NOTED_DIFFERENCE_S: Final = 0.5

_MAX_PACKETS: Final = 1_000_000
_MAX_BOXES: Final = 1000
_BOX_HEADER_BYTES: Final = 8
_LARGE_SIZE_BYTES: Final = 8


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a video file holds. A length is None where the track is missing."""

    width: int | None
    height: int | None
    duration_video_s: float | None
    duration_audio_s: float | None
    video_codec: str | None
    audio_codec: str | None
    n_frames: int
    is_faststart: bool
    """Whether a player can start before it has the whole file; True for formats without index."""
    size_bytes: int


def probe_video(path: Path) -> Probe:
    """Measure a video file; raise `VideoUnreadable` when it cannot be read or shows nothing."""
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        with av.open(str(path.absolute()), mode="r", container_options=options) as container:
            tracks = _tracks_of(container)
        is_faststart = _is_faststart(path)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise VideoUnreadable("The file is not a video that can be read.") from error
    video, audio = tracks.get("video"), tracks.get("audio")
    return Probe(
        width=video.width if video else None,
        height=video.height if video else None,
        duration_video_s=video.duration_s if video else None,
        duration_audio_s=audio.duration_s if audio else None,
        video_codec=video.codec if video else None,
        audio_codec=audio.codec if audio else None,
        n_frames=video.n_packets if video else 0,
        is_faststart=is_faststart,
        size_bytes=path.stat().st_size,
    )


def judge(probe: Probe, *, speech_s: float, is_ours: bool) -> tuple[Notice, ...]:
    """Decide whether a video of a speech may be delivered; return what its receipt should say.

    Ours must have both tracks and last as long as the speech, within 0.1 s. Another provider's is
    refused only when it shows nothing or is shorter than half the speech: it cost something, and
    how long it is, is its model's decision.

    Raises `VideoRefused`.
    """
    if probe.duration_video_s is None or probe.n_frames == 0:
        raise VideoRefused("There is no picture in it.")
    if probe.duration_video_s < _LEAST_SHARE * speech_s:
        raise VideoRefused(
            f"It lasts {probe.duration_video_s:.1f} s, less than half of the speech."
        )
    if is_ours:
        _refuse_unless_exact(probe, probe.duration_video_s, speech_s)
        return ()
    return tuple(_oddities(probe, probe.duration_video_s, speech_s))


def _refuse_unless_exact(probe: Probe, duration_video_s: float, speech_s: float) -> None:
    if probe.duration_audio_s is None:
        raise VideoRefused("There is no sound in it.")
    frame_s = duration_video_s / probe.n_frames
    tolerance_s = max(_OUR_TOLERANCE_S, _OUR_TOLERANCE_FRAMES * frame_s)
    for name, duration_s in (("picture", duration_video_s), ("sound", probe.duration_audio_s)):
        if abs(duration_s - speech_s) > tolerance_s:
            raise VideoRefused(f"Its {name} lasts {duration_s:.2f} s, the speech {speech_s:.2f} s.")


def _oddities(probe: Probe, duration_video_s: float, speech_s: float) -> list[Notice]:
    notices = []
    if probe.duration_audio_s is None:
        notices.append(Notice("video_silent", "The video has no sound."))
    if abs(duration_video_s - speech_s) > _NOTED_DIFFERENCE_S:
        text = f"The video lasts {duration_video_s:.1f} s, the speech {speech_s:.1f} s."
        notices.append(Notice("video_length_differs", text))
    if probe.video_codec not in _COMMON_CODECS:
        text = f"Not every browser plays this kind of video ({probe.video_codec})."
        notices.append(Notice("video_codec_rare", text))
    return notices


@dataclass
class _Track:
    """What is counted of one track while its packets pass."""

    codec: str
    time_base: Fraction
    width: int = 0
    height: int = 0
    n_packets: int = 0
    start: int | None = None
    end: int = 0

    @property
    def duration_s(self) -> float:
        # What comes before 0 is a codec's run-up and is not played.
        return float((self.end - max(self.start or 0, 0)) * self.time_base)


def _tracks_of(container: InputContainer) -> dict[str, _Track]:
    """Read every packet of the first picture and the first sound track."""
    first: list[Stream] = [*container.streams.video[:1], *container.streams.audio[:1]]
    # PyAV's types do not say so, but a codec that FFmpeg does not know has no context.
    streams = [stream for stream in first if cast("object", stream.codec_context) is not None]
    tracks: dict[str, _Track] = {stream.type: _track_of(stream) for stream in streams}
    if not tracks:
        return {}
    is_shown = "video" not in tracks
    for count, packet in enumerate(_packets_of(container, streams)):
        if count > _MAX_PACKETS:
            raise ValueError("too many packets")
        if packet.pts is None or packet.size == 0:
            continue
        track = tracks[packet.stream.type]
        track.n_packets += 1
        track.start = packet.pts if track.start is None else min(track.start, packet.pts)
        track.end = max(track.end, packet.pts + (packet.duration or 0))
        if not is_shown and packet.stream.type == "video":
            is_shown = _shows(packet)
    if not is_shown:
        # A decoder may hold its first frames back to the end; a damaged one gives none.
        is_shown = bool(container.streams.video[0].decode(None))
    if not is_shown:
        raise ValueError("no frame can be decoded")
    return tracks


def _packets_of(container: InputContainer, streams: list[Stream]) -> Iterator[Packet[Stream]]:
    """Yield packets up to the first that cannot be read: what came before it counts."""
    packets = container.demux(streams)
    with suppress(av.FFmpegError):
        yield from packets


def _shows(packet: Packet[Stream]) -> bool:
    """Tell whether a frame comes out; a damaged one may be followed by better ones."""
    with suppress(av.FFmpegError):
        return bool(packet.decode())
    return False


def _track_of(stream: Stream) -> _Track:
    track = _Track(stream.codec_context.name, stream.time_base or Fraction(1))
    if isinstance(stream, VideoStream):
        track.width, track.height = stream.codec_context.width, stream.codec_context.height
    return track


def _is_faststart(path: Path) -> bool:
    """Tell whether an MP4's index (`moov`) comes before its content (`mdat`)."""
    with path.open("rb") as file:
        for _ in range(_MAX_BOXES):
            kind = _skip_box(file)
            if kind in {b"moov", b"mdat"}:
                return kind == b"moov"
            if kind is None:
                break
    return True


def _skip_box(file: BinaryIO) -> bytes | None:
    """Return the kind of the ISO media box at the file's position and go behind it."""
    header = file.read(_BOX_HEADER_BYTES)
    size, kind = int.from_bytes(header[:4], "big"), header[4:]
    read = _BOX_HEADER_BYTES
    if size == 1:
        size = int.from_bytes(file.read(_LARGE_SIZE_BYTES), "big")
        read += _LARGE_SIZE_BYTES
    if len(kind) < len(b"moov") or not kind.isascii() or size < read:
        return None
    file.seek(size - read, os.SEEK_CUR)
    return kind
