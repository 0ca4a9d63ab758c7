"""The whole engine in one call: a portrait and a recording in, a talking video out.

The steps are those of the other modules; here is only their order, and who waits for whom.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from sayso.engine.face import FaceChoice, choose_face
from sayso.engine.motion import Motion, plan_motion
from sayso.engine.mux import write_video
from sayso.engine.render import render_frames
from sayso.engine.rig import Rig, build_rig
from sayso.engine.visemes import VisemeTrack, find_visemes
from sayso.errors import Notice, OptionInvalid
from sayso.media.audio import Speech, SpeechLimits, read_speech, stream_pcm
from sayso.media.image import ImageLimits, read_picture

Crop = Literal["picture", "face"]
Stage = Literal["reading", "listening", "rendering"]

FPS_RANGE: Final = (10, 60)
LONG_SIDE_RANGE_PX: Final = (128, 1920)
# On a telephone less than 4 mm: whether the lips move can no longer be seen.
_WATCHED_PX: Final = 64


@dataclass(frozen=True, kw_only=True)
class TalkOptions:
    """What a caller may choose; the defaults are the product's.

    `long_side_px` bounds the frame, `face` numbers the face to animate from the left (None: the
    largest), `transcript` is what is said, `seed` moves the idle head and the blinks (None: from
    the inputs).
    """

    fps: int = 25
    long_side_px: int = 720
    crop: Crop = "picture"
    face: int | None = None
    transcript: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        _require_in_range("--fps", self.fps, FPS_RANGE)
        _require_in_range("--size", self.long_side_px, LONG_SIDE_RANGE_PX)
        if self.seed is not None and self.seed < 0:
            raise OptionInvalid(f"--seed must be 0 or more; {self.seed} was given.")


@dataclass(frozen=True)
class Progress:
    """How far a stage is: `done` of `total`, in frames while rendering, in hundredths before."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True)
class Talk:
    """What was made: the file, its measures, how the speech was heard and what to tell the user.

    `track` is how it was heard, for whoever measures the video next.
    """

    path: Path
    duration_s: float
    n_frames: int
    fps: int
    width: int
    height: int
    method: str
    seed: int
    notices: tuple[Notice, ...]
    track: VisemeTrack = field(repr=False, compare=False)


def make_video(
    portrait: Path | bytes,
    speech: Path,
    output: Path,
    *,
    options: TalkOptions | None = None,
    image_limits: ImageLimits | None = None,
    speech_limits: SpeechLimits | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Talk:
    """Make `portrait` say `speech` and write the MP4 to `output`.

    Both inputs are read and judged before any work; `output` appears only when it is whole.
    `on_progress` is called between frames on the calling thread; what it raises ends the work.

    Raises `ImageRejected` and `SpeechRejected` (see `sayso.errors`) for inputs that cannot be used.
    """
    chosen = options or TalkOptions()
    tell = on_progress or _ignore
    tell(Progress("reading", 0, 100))
    heard = read_speech(speech, limits=speech_limits or SpeechLimits())
    picture = read_picture(portrait, limits=image_limits or ImageLimits())
    face = choose_face(picture, number=chosen.face)
    seed = _seed_of(face, heard) if chosen.seed is None else chosen.seed

    track, rig = _listen_and_rig(face, heard, chosen, tell)
    motion = _plan(track, rig, heard, chosen.fps, seed)
    _write(output, rig, motion, heard=heard, fps=chosen.fps, tell=tell)
    return Talk(
        path=output,
        duration_s=heard.duration_s,
        n_frames=len(motion.rows),
        fps=chosen.fps,
        width=rig.width,
        height=rig.height,
        method=track.method,
        seed=seed,
        notices=(
            *face.notices,
            *_lost_in_the_picture(face, rig, chosen),
            *heard.notices,
            *track.notices,
        ),
        track=track,
    )


def frames_of(duration_s: float, fps: int) -> int:
    """Return how many frames cover a recording: the video is never shorter than the speech."""
    # The samples are counted at 16 kHz; a billionth keeps 11.0 s from becoming 276 frames.
    return max(1, int(-(-(duration_s * fps - 1e-6) // 1)))


def _listen_and_rig(
    face: FaceChoice, heard: Speech, chosen: TalkOptions, tell: Callable[[Progress], None]
) -> tuple[VisemeTrack, Rig]:
    """Hear the visemes and build the rig side by side; neither needs the other.

    Of a long recording hearing takes longer than anything before it, so it is done here: it tells
    how far it is, and Ctrl-C ends it.
    """
    tell(Progress("listening", 0, 100))
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(
            build_rig,
            face.picture.rgb,
            face.mesh,
            long_side_px=chosen.long_side_px,
            crop=chosen.crop,
        )
        track = find_visemes(
            heard,
            transcript=chosen.transcript,
            on_progress=lambda share: tell(Progress("listening", round(100 * share), 100)),
        )
        return track, building.result()


def _lost_in_the_picture(face: FaceChoice, rig: Rig, chosen: TalkOptions) -> tuple[Notice, ...]:
    """Say it where the whole picture is shown and the face is too small in it to be watched."""
    scale = rig.width / face.picture.rgb.shape[1]
    width_px = round(face.mesh.width_px * min(1.0, scale))
    if chosen.crop == "face" or width_px >= _WATCHED_PX:
        return ()
    text = f'The face is only {width_px} pixels wide in the video; with crop "face" it is larger.'
    return (Notice("face_small_in_video", text),)


def _plan(track: VisemeTrack, rig: Rig, heard: Speech, fps: int, seed: int) -> Motion:
    mouth = track.sample(fps, frames_of(heard.duration_s, fps))
    return plan_motion(mouth, fps=fps, seed=seed, rig=rig)


def _write(
    output: Path,
    rig: Rig,
    motion: Motion,
    *,
    heard: Speech,
    fps: int,
    tell: Callable[[Progress], None],
) -> None:
    total = len(motion.rows)
    tell(Progress("rendering", 0, total))
    frames = render_frames(rig, motion)
    try:
        write_video(
            output,
            frames,
            stream_pcm(heard.path),
            fps=fps,
            size=(rig.width, rig.height),
            n_frames=total,
            on_frame=lambda done: tell(Progress("rendering", done, total)),
        )
    finally:
        _close(frames)


def _close(frames: Iterator[object]) -> None:
    """End the render threads when the writer stopped early."""
    close = getattr(frames, "close", None)
    if close is not None:
        close()


def _seed_of(face: FaceChoice, heard: Speech) -> int:
    """Return a number that only the inputs decide: the same pair makes the same video."""
    digest = hashlib.sha256(face.picture.rgb.tobytes())
    digest.update(heard.samples.tobytes())
    return int.from_bytes(digest.digest()[:8], "big")


def _require_in_range(name: str, value: int, allowed: tuple[int, int]) -> None:
    low, high = allowed
    if not low <= value <= high:
        raise OptionInvalid(f"{name} must be from {low} to {high}; {value} was given.")


def _ignore(_progress: Progress) -> None:
    """Tell nobody."""
