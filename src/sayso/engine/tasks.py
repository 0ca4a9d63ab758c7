"""What a child may be asked to do (`media.child.TASKS`): plain values in, plain values out.

    inspect_image    what a picture is, the face that would speak, and a thumbnail (asked by
                     `media.inspection`)
    render           a portrait and a recording to a video, with progress
    inspect_video    how well a video's lips follow the recording

The arguments come from our own parent process; the files they name are strangers'. What needs no
engine is in `media/tasks.py`, so that its child starts in half the time.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sayso.engine.face import Face, FaceChoice, choose_face
from sayso.engine.quality import SAMPLE_FRAMES
from sayso.engine.quality import inspect_video as inspect_video_file
from sayso.engine.talk import Progress, Talk, TalkOptions, make_video
from sayso.errors import ImageRejected, Notice, SaysoError
from sayso.media.audio import SpeechLimits, write_beginning
from sayso.media.image import ImageLimits, Picture, kind_of, read_picture
from sayso.media.thumbnail import thumbnail_of

if TYPE_CHECKING:
    from sayso.media.child import Json, Report

# The parent tells its listeners twice a second; more often would only cost.
_REPORT_EVERY_S: Final = 0.1

_FIRST_BYTES: Final = 512
_IMAGE_SUFFIXES: Final = {"JPEG": "jpg"}


def inspect_image(arguments: dict[str, Any], _report: Report) -> Json:
    """Read a picture and look for its face; `face_problem` says why none could speak.

    The box is in the pixels of the picture as it is used: upright, and reduced if it was huge.
    """
    path = Path(arguments["path"])
    picture = read_picture(path, limits=ImageLimits(**arguments["limits"]))
    with path.open("rb") as file:
        kind = kind_of(file.read(_FIRST_BYTES))
    found = _face_in(picture)
    choice = found if isinstance(found, FaceChoice) else None
    problem = found if isinstance(found, ImageRejected) else None
    used = choice.picture if choice else picture
    face = choice.faces[choice.number - 1] if choice else None
    height, width = used.rgb.shape[:2]
    return {
        "suffix": _IMAGE_SUFFIXES.get(kind, kind.lower()),
        "width": width,
        "height": height,
        "face": _box_of(face) if face else None,
        "n_faces": len(choice.faces) if choice else 0,
        "face_problem": {"code": problem.code, "text": str(problem)} if problem else None,
        "notices": _plain(choice.notices if choice else picture.notices),
        "thumbnail": _as_text(thumbnail_of(used.rgb, face.box if face else None)),
    }


def render(arguments: dict[str, Any], report: Report) -> Json:
    """Make a video; report the stage and how much of it is done, at most ten times a second.

    `first_s`, where it is given, makes it of the recording's first seconds alone. With `measure`
    the finished file is measured as well, which is cheapest here: what the recording says is known.
    """
    output = Path(arguments["output"])
    reported_s = float("-inf")

    def on_progress(progress: Progress) -> None:
        nonlocal reported_s
        now_s = time.monotonic()
        if progress.done in {0, progress.total} or now_s - reported_s >= _REPORT_EVERY_S:
            reported_s = now_s
            report(asdict(progress))

    talk = make_video(
        Path(arguments["portrait"]),
        _beginning(Path(arguments["speech"]), output, arguments.get("first_s")),
        output,
        options=TalkOptions(**arguments.get("options", {})),
        image_limits=ImageLimits(**arguments.get("image_limits", {})),
        speech_limits=SpeechLimits(**arguments.get("speech_limits", {})),
        on_progress=on_progress,
    )
    return {
        "duration_s": talk.duration_s,
        "n_frames": talk.n_frames,
        "fps": talk.fps,
        "width": talk.width,
        "height": talk.height,
        "method": talk.method,
        "notices": _plain(talk.notices),
        "quality": _measured(talk, arguments) if arguments.get("measure") else None,
    }


def inspect_video(arguments: dict[str, Any], _report: Report) -> Json:
    """Measure a sample of a video's frames against the recording it was made of."""
    quality = inspect_video_file(
        Path(arguments["path"]), speech=Path(arguments["speech"]), most_frames=SAMPLE_FRAMES
    )
    return dict(quality.as_dict())


def _measured(talk: Talk, arguments: dict[str, Any]) -> Json:
    """Return the figures of a video that was just made; None where there are none."""
    # A transcript made the track; the measure is what is heard without one.
    is_heard = arguments.get("options", {}).get("transcript") is None
    try:
        quality = inspect_video_file(
            talk.path,
            speech=Path(arguments["speech"]),
            most_frames=SAMPLE_FRAMES,
            track=talk.track if is_heard else None,
        )
    except SaysoError:
        return None
    return dict(quality.as_dict())


def _beginning(speech: Path, output: Path, first_s: float | None) -> Path:
    """Return the recording, or a copy of its first seconds beside the output."""
    if first_s is None:
        return speech
    target = output.with_suffix(".wav")
    write_beginning(speech, target, seconds=first_s)
    return target


def _face_in(picture: Picture) -> FaceChoice | ImageRejected:
    try:
        return choose_face(picture)
    except ImageRejected as error:
        return error


def _box_of(face: Face) -> Json:
    left, top, right, bottom = (round(edge) for edge in face.box)
    return {"left": left, "top": top, "width": right - left, "height": bottom - top}


def _as_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _plain(notices: Iterable[Notice]) -> list[Json]:
    return [{"code": notice.code, "text": notice.text} for notice in notices]
