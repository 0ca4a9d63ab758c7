"""How good a finished video is, measured on the file that the user gets.

    inspect_video(video, portrait=..., speech=...) -> Quality
    GATES                                          what each figure must reach
    quality.failures()                             the gates that it misses

Nothing is taken from the renderer: the file is decoded, the face in it found and followed (`seen`),
and what its mouth does is compared with what the recording says (`agreement`). So the same figures
hold for a video that another engine made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sayso.engine.agreement import Agreement, agreement, curve_at_frames
from sayso.engine.face import choose_face
from sayso.engine.features import levels_db
from sayso.engine.rig import Crop, build_rig
from sayso.engine.seen import Reference, Seen, a_few_of, first_frame, watch
from sayso.engine.track import RATE_HZ, VisemeTrack
from sayso.engine.visemes import find_visemes
from sayso.media.audio import Speech, SpeechLimits, read_speech
from sayso.media.image import read_picture
from sayso.media.probe import Probe, probe_video

# What is inspected was made already, so it may be longer than what may be asked for.
_ANY_LENGTH: Final = SpeechLimits(size_bytes=2**34, shortest_s=0.0, longest_s=24 * 3600.0)
# Frames this far from any speech are silence: lips need time to close.
_SILENCE_MARGIN_S: Final = 0.16
_SILENT_FRAMES_MIN: Final = 5
_RANGE_PERCENT: Final = (2, 98)


SAMPLE_FRAMES: Final = 96
"""Enough for a receipt: `sync_r` of so many frames is that of all within .025."""

CROPS: Final[tuple[Crop, ...]] = ("picture", "face")
Framing = Literal["picture", "face", "other"]
"""How a video shows its portrait: all of it, a square around the face, or in no way of ours."""


@dataclass(frozen=True)
class Gate:
    """What one figure of `Quality` must reach."""

    figure: str
    way: Literal["at least", "at most", "within"]
    bound: float
    meaning: str

    def holds(self, value: float) -> bool:
        """Whether a value passes; `within` bounds it on both sides of 0."""
        match self.way:
            case "at least":
                return value >= self.bound
            case "at most":
                return value <= self.bound
            case "within":
                return abs(value) <= self.bound


GATES: Final = (
    Gate("length_difference_s", "at most", 0.1, "picture, sound and speech end together"),
    Gate("start_s", "within", 0.05, "both tracks start at 0"),
    Gate("sound_r", "at least", 0.9, "the sound is the recording"),
    Gate("sound_lag_ms", "within", 20.0, "the sound is where it was in the recording"),
    Gate("face_share", "at least", 0.98, "frames that show the face"),
    Gate("sync_r", "at least", 0.85, "the mouth opens as the speech asks"),
    Gate("sync_lag_ms", "within", 40.0, "and when it asks; negative is early"),
    Gate("sync_over_chance", "at least", 0.3, "more than for the speech turned in time"),
    Gate("loudness_r", "at least", 0.3, "the mouth opens with the loudness"),
    Gate("loudness_over_chance", "at least", 0.2, "more than for loudness turned in time"),
    # On smiling lips the mesh sees a gap of .045 where there is none, on others less than .02.
    Gate("closure", "at most", 0.06, "the gap of the lips in silence, in eye distances"),
    Gate("closure_share", "at most", 0.3, "the same as a share of how far the gap ranges"),
    Gate("activity", "at least", 2.0, "the mouth changes more than the rest of the face"),
    Gate("flicker", "at most", 0.3, "the background's mean change, in levels of gray"),
    Gate("flicker_p999", "at most", 15.0, "its 99.9th percentile"),
    Gate("border_ssim", "at least", 0.95, "the outer 12 px are the portrait's"),
    Gate("background_ssim", "at least", 0.93, "what surrounds the head is the portrait's"),
    Gate("face_ssim", "at least", 0.92, "the face above the lips, laid upright, is the portrait's"),
    Gate("shape_distance", "at most", 0.02, "its bones too, in eye distances"),
    # A wrong colour matrix shifts pictures by 1 to 3, truncation instead of rounding by 1.4.
    Gate("colour_shift", "at most", 0.7, "the background's mean colour, in levels of gray"),
    Gate("sharpness", "at least", 0.4, "its fine detail, as a share of the portrait's"),
)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The figures of one video; None is what could not be measured.

    Those of the sound and the lips need the recording, those of likeness the portrait and a framing
    that is not `other`. See `GATES` for what each means.
    """

    video_codec: str | None
    audio_codec: str | None
    width: int | None
    height: int | None
    n_frames: int
    n_looked_at: int
    fps: float
    duration_video_s: float | None
    duration_audio_s: float | None
    is_faststart: bool
    framing: Framing | None
    length_difference_s: float | None
    start_s: float
    sound_r: float | None = None
    sound_lag_ms: float | None = None
    face_share: float
    sync_r: float | None = None
    sync_lag_ms: float | None = None
    sync_over_chance: float | None = None
    loudness_r: float | None = None
    loudness_over_chance: float | None = None
    closure: float | None = None
    closure_share: float | None = None
    activity: float | None
    flicker: float
    flicker_p999: float
    border_ssim: float | None = None
    background_ssim: float | None = None
    face_ssim: float | None = None
    shape_distance: float | None = None
    colour_shift: float | None = None
    sharpness: float | None = None

    def failures(self) -> tuple[str, ...]:
        """Say which gates are missed, one sentence each; what was not measured misses none."""
        missed = [
            f"{gate.figure} is {value:.4g}, should be {gate.way} {gate.bound:g}: {gate.meaning}"
            for gate in GATES
            if (value := getattr(self, gate.figure)) is not None and not gate.holds(value)
        ]
        if self.video_codec != "h264" or self.audio_codec != "aac":
            missed.append(f"{self.video_codec} with {self.audio_codec}, should be h264 with aac")
        if self.framing == "other":
            missed.append("the video does not frame the portrait as Sayso does: likeness unknown")
        if not self.is_faststart:
            missed.append("the index is behind the content: players must load all of it first")
        return tuple(missed)

    def as_dict(self) -> dict[str, str | int | float | bool | None]:
        """Return the figures for JSON, rounded to what they can mean."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }

    def table(self) -> str:
        """Return the figures as lines of text, each gate with its verdict."""
        gates = {gate.figure: gate for gate in GATES}
        lines = []
        for field in fields(self):
            value, gate = getattr(self, field.name), gates.get(field.name)
            shown = "-" if value is None else f"{value:.4g}" if _is_figure(value) else str(value)
            line = f"{field.name:21} {shown:>9}"
            if gate is not None:
                verdict = "-   " if value is None else "ok  " if gate.holds(value) else "MISS"
                line += f"  {verdict}  {gate.way} {gate.bound:g}: {gate.meaning}"
            lines.append(line)
        return "\n".join(lines)


def inspect_video(
    video: Path,
    *,
    portrait: Path | None = None,
    speech: Path | None = None,
    face: int | None = None,
    most_frames: int | None = None,
    track: VisemeTrack | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> Quality:
    """Measure a video; with the portrait and the recording that it was made of, all of it.

    `face` is the number of the portrait's face that speaks, as `choose_face` counts; by default the
    largest. With `most_frames` no more than these are looked at, spread over the whole video
    (`SAMPLE_FRAMES` is enough for a receipt). `track` is what `find_visemes` makes of the
    recording, for a caller that has it already.
    Costs about 15 CPU-ms for each frame of 512 px that is looked at, and 50 ms for each second of
    speech without a track; memory does not grow with the length.

    Raises `VideoUnreadable`, `NoFace` if its first frame shows no face, and what `read_picture`,
    `choose_face` and `read_speech` raise for the other two.
    """
    probe = probe_video(video)
    framing, reference = (None, None) if portrait is None else _reference(portrait, face, video)
    heard = None if speech is None else read_speech(speech, limits=_ANY_LENGTH)
    at = None if most_frames is None else a_few_of(probe.n_frames, most=most_frames)
    seen = watch(video, reference=reference, at=at, on_frame=on_frame)
    lips: dict[str, float | None] = {}
    if heard is not None:
        track = find_visemes(heard) if track is None else track
        lips = _of_the_lips(seen, heard, track) | _of_the_sound(video, probe, heard)
    return Quality(
        video_codec=probe.video_codec,
        audio_codec=probe.audio_codec,
        width=probe.width,
        height=probe.height,
        n_frames=seen.n_frames,
        n_looked_at=len(seen.at),
        fps=seen.fps,
        duration_video_s=probe.duration_video_s,
        duration_audio_s=probe.duration_audio_s,
        is_faststart=probe.is_faststart,
        framing=framing,
        length_difference_s=_length_difference_s(probe, heard),
        start_s=seen.start_s,
        face_share=seen.face_share,
        activity=_activity(seen, track),
        flicker=seen.background_change,
        flicker_p999=seen.background_change_p999,
        border_ssim=seen.border_ssim,
        background_ssim=seen.background_ssim,
        face_ssim=seen.face_ssim,
        shape_distance=seen.shape_distance,
        colour_shift=seen.colour_shift,
        sharpness=seen.sharpness,
        **lips,
    )


def _is_figure(value: object) -> bool:
    return isinstance(value, float)


# The portrait.


def _reference(portrait: Path, face: int | None, video: Path) -> tuple[Framing, Reference | None]:
    """Return the portrait framed as the video frames it, if it is one of our ways to do so."""
    shown = first_frame(video)
    height, width = shown.shape[:2]
    choice = choose_face(read_picture(portrait), number=face)
    candidates: list[tuple[Framing, Reference]] = []
    for crop in CROPS:
        rig = build_rig(choice.picture.rgb, choice.mesh, long_side_px=max(height, width), crop=crop)
        if (rig.height, rig.width) == (height, width):
            rgb = np.ascontiguousarray(rig.picture[..., ::-1])
            candidates.append((crop, Reference(rgb=rgb, points=rig.points)))
    if not candidates:
        return "other", None
    return min(candidates, key=lambda candidate: _apart(candidate[1].rgb, shown))


def _apart(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


# The speech.


def _of_the_lips(seen: Seen, heard: Speech, track: VisemeTrack) -> dict[str, float | None]:
    """Compare what the mouth does with the visemes of the recording and with its loudness."""
    fps = seen.fps
    if not track.speech.any() or np.isnan(seen.opening).all():
        return {}
    opening = _without_gaps(seen.opening)
    said = track.open * (1.0 - track.close)
    sync = agreement(opening, said, rate_hz=RATE_HZ, fps=fps, at=seen.at)
    loud = levels_db(heard.samples)
    loudness = agreement(opening, loud, rate_hz=RATE_HZ, fps=fps, at=seen.at)
    return {
        "sync_r": sync.r if sync else 0.0,
        "sync_lag_ms": sync.lag_ms if sync else None,
        "sync_over_chance": _over_chance(sync),
        "loudness_r": loudness.r if loudness else 0.0,
        "loudness_over_chance": _over_chance(loudness),
        **_closure(seen, opening, track.speech),
    }


def _activity(seen: Seen, track: VisemeTrack | None) -> float | None:
    """Return how much more the mouth changes than the face; nothing where nobody speaks."""
    is_silent = track is not None and not track.speech.any()
    return None if is_silent or seen.face_change <= 0 else seen.mouth_change / seen.face_change


def _over_chance(found: Agreement | None) -> float | None:
    return found.r - found.chance_mean if found else None


def _closure(
    seen: Seen, opening: npt.NDArray[np.float64], speech: npt.NDArray[np.float32]
) -> dict[str, float | None]:
    """Return the median opening where nobody speaks; nothing if that is nowhere."""
    reach = round(_SILENCE_MARGIN_S * RATE_HZ)
    near = np.convolve(speech, np.ones(2 * reach + 1), mode="same")
    around = curve_at_frames(near, rate_hz=RATE_HZ, fps=seen.fps, n_frames=seen.n_frames)
    silent = around[seen.at] == 0
    if np.count_nonzero(silent) < _SILENT_FRAMES_MIN:
        return {}
    closed = float(np.median(opening[silent]))
    least, most = np.percentile(opening, _RANGE_PERCENT)
    return {
        "closure": closed,
        "closure_share": (closed - float(least)) / float(most - least) if most > least else None,
    }


def _without_gaps(opening: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Fill frames without a face from their neighbours."""
    known = np.flatnonzero(~np.isnan(opening))
    return np.interp(np.arange(len(opening)), known, opening[known])


def _of_the_sound(video: Path, probe: Probe, heard: Speech) -> dict[str, float | None]:
    """Compare the video's own sound with the recording."""
    if probe.audio_codec is None:
        return {"sound_r": 0.0}
    sound = levels_db(read_speech(video, limits=_ANY_LENGTH).samples)
    same = agreement(sound, levels_db(heard.samples), rate_hz=RATE_HZ, fps=RATE_HZ)
    return {"sound_r": same.r, "sound_lag_ms": same.lag_ms} if same else {}


def _length_difference_s(probe: Probe, heard: Speech | None) -> float | None:
    lengths = [probe.duration_video_s, probe.duration_audio_s]
    known = [length for length in lengths if length is not None]
    if heard is not None:
        known.append(heard.duration_s)
    return max(known) - min(known) if known else None
