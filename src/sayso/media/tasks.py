"""What a child may be asked to do without the engine: plain values in, plain values out.

    inspect_speech   what a recording is
    probe_video      what is in a video file

`inspection.py` is the parent's side; `engine/tasks.py` has the tasks that need the engine.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av

from sayso.media import probe
from sayso.media.audio import FORMATS, SpeechLimits, read_speech

if TYPE_CHECKING:
    from sayso.media.child import Json, Report

_SUFFIXES: Final = ("wav", "mp3", "ogg", "flac", "aac", "webm")


def inspect_speech(arguments: dict[str, Any], _report: Report) -> Json:
    """Decode a recording to its end and say how long it is."""
    path = Path(arguments["path"])
    speech = read_speech(path, limits=SpeechLimits(**arguments["limits"]))
    return {
        "suffix": _suffix_of_recording(path),
        "duration_s": speech.duration_s,
        "codec": speech.codec,
        "notices": [asdict(notice) for notice in speech.notices],
    }


def probe_video(arguments: dict[str, Any], _report: Report) -> Json:
    """Measure a video file."""
    return asdict(probe.probe_video(Path(arguments["path"])))


def _suffix_of_recording(path: Path) -> str:
    """Return the ending that a file of this content should have, `bin` for a rare one."""
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    with av.open(str(path.absolute()), mode="r", container_options=options) as container:
        names = container.format.name.split(",")
        if "mp4" in names:
            return "mp4" if container.streams.video else "m4a"
    return next((suffix for suffix in _SUFFIXES if suffix in names), "bin")
