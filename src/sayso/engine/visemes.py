"""From speech to visemes: what shape the mouth has, 100 times a second.

    find_visemes(speech)                 -> VisemeTrack
    track.sample(fps, n_frames)          -> MouthFrames, what the renderer needs
    track.cues()                         -> segments for files

The steps: find where there is sound at all (`voice`), hear phones there (`phones`), choose one
viseme per frame, and draw the mouth's curves (`track`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from sayso.engine.features import levels_db
from sayso.engine.phones import decode_phones, visemes_of
from sayso.engine.shapes import SIL, VISEMES
from sayso.engine.track import RATE_HZ, Curve, Evidence, MouthFrames, VisemeTrack, draw
from sayso.engine.voice import sounding_spans
from sayso.errors import Notice
from sayso.media.audio import Speech

Method = Literal["auto", "fused", "net", "phones", "energy"]

_NO_SPEECH: Final = Notice(
    "no_speech", "No speech was found in the recording; the mouth stays closed."
)

__all__ = ["RATE_HZ", "VISEMES", "Method", "MouthFrames", "VisemeTrack", "find_visemes"]


def find_visemes(
    speech: Speech,
    *,
    transcript: str | None = None,
    method: Method = "auto",
    on_progress: Callable[[float], None] | None = None,
) -> VisemeTrack:
    """Find the mouth shapes of a recording; the same recording always gives the same track.

    `on_progress` is told the share done, 0..1. A recording without speech is no error: the mouth
    stays closed and the track carries the notice `no_speech`.
    """
    del transcript, method
    report = on_progress or _ignore
    level_db = levels_db(speech.samples)
    spans = sounding_spans(level_db)
    phones = decode_phones(speech.samples, spans, on_progress=report) if spans else []
    viseme = visemes_of(phones, len(level_db))
    weights = np.eye(len(VISEMES), dtype=np.float32)[viseme]
    speaks: Curve = (viseme != SIL).astype(np.float32)
    notices = () if speaks.any() else (_NO_SPEECH,)
    report(1.0)
    return draw(Evidence(viseme, weights, speaks, level_db, "phones", notices))


def _ignore(share: float) -> None:
    """Take a share that nobody asked for."""
