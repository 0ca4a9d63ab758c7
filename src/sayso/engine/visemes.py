"""From speech to visemes: what shape the mouth has, 100 times a second.

    find_visemes(speech)                 -> VisemeTrack
    track.sample(fps, n_frames)          -> MouthFrames, what the renderer needs
    track.cues()                         -> segments for files

The steps: find where there is sound at all (`voice`), hear phones there (`phones`), let the net
judge spectrum and phones together (`net`), choose the likeliest path (`path`), and draw the mouth's
curves (`track`). Where a part of this is missing, the rest still works: see `Method`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from sayso.engine.alignment import align_text
from sayso.engine.features import Floats, levels_db, log_mels, normalised
from sayso.engine.loudness import shapes_by_loudness
from sayso.engine.net import trained_net
from sayso.engine.noise import noisiness, without_noise
from sayso.engine.path import likeliest_path, scores_of
from sayso.engine.phones import (
    Phone,
    decode_phones,
    looks_of_phones,
    phone_numbers,
    visemes_of,
)
from sayso.engine.shapes import FF, GROUP, SIL, VISEMES
from sayso.engine.track import RATE_HZ, Evidence, MouthFrames, VisemeTrack, draw
from sayso.engine.voice import is_spoken, sounding_spans
from sayso.engine.words import pronounced
from sayso.errors import Notice
from sayso.media.audio import Pcm, Speech

Method = Literal["auto", "fused", "net", "phones", "energy"]
"""How visemes are found. `auto` is the best there is: aligned to the transcript if there is one
that fits, else `fused` (net and phones), else what works of `net`, `phones` and `energy`.
"""

_NO_SPEECH: Final = Notice(
    "no_speech", "No speech was found in the recording; the mouth stays closed."
)
_NO_FIT: Final = Notice(
    "transcript_unused", "The transcript does not fit the recording; it was not used."
)
_FOREIGN: Final = Notice(
    "transcript_unused", "Most words of the transcript are not English; it was not used."
)
_NO_PHONES: Final = Notice("phones_missing", "pocketsphinx is missing; lips may be less exact.")
_NO_NET: Final = Notice("net_missing", "The viseme weights are missing; lips may be less exact.")

# How far an aligned text is trusted beyond what the net makes of the sound (nepers).
_TEXT_TRUST: Final = 3.0
# The same for phones that pocketsphinx hears, by their agreement with the net. Recordings held out
# of training: clean English .63 to .84, clean Russian .64 to .72, pink noise at 20 dB .52 to .65.
_AGREEMENT: Final = (0.60, 0.75)
_MOST_PHONE_TRUST: Final = 1.0
# In noise the net judges twice, with and without it; its judgement without phones counts as much as
# with them; and f and v, the faintest sounds that a viewer sees, get this much for free (nepers).
# Pink noise at 10 dB then leaves .58 of them instead of .37, and no more of what is none.
_CLEANED_SHARE: Final = 0.5
_DOUBT: Final = 0.5
_FAINT: Final = 0.4
_MOST_UNKNOWN: Final = 0.4
_DECODING_SHARE: Final = 0.9

__all__ = ["RATE_HZ", "VISEMES", "Method", "MouthFrames", "VisemeTrack", "find_visemes"]


@dataclass(frozen=True, eq=False)
class _Sound:
    """A recording and what is measured of it once."""

    samples: Pcm
    level_db: Floats
    features: Floats
    spans: list[tuple[int, int]]
    noisiness: float
    """0 to 1; above 0, `cleaned` are the features of the sound with less noise."""
    cleaned: Floats

    @property
    def n_frames(self) -> int:
        return len(self.level_db)


def find_visemes(
    speech: Speech,
    *,
    transcript: str | None = None,
    method: Method = "auto",
    on_progress: Callable[[float], None] | None = None,
) -> VisemeTrack:
    """Find the mouth shapes of a recording; the same recording always gives the same track.

    A transcript helps if it is English and says what is said; otherwise the track carries the
    notice `transcript_unused`. `on_progress` is told the share done, 0..1. A recording without
    speech is no error: the mouth stays closed and the track carries the notice `no_speech`.

    With a `method` other than `auto`, raises `ImportError` or `FileNotFoundError` where that method
    needs something that is not installed.
    """
    report = on_progress or _ignore
    level_db = levels_db(speech.samples)
    spectrum = log_mels(speech.samples)
    noisy = noisiness(spectrum)
    sound = _Sound(
        samples=speech.samples,
        level_db=level_db,
        features=normalised(spectrum),
        spans=sounding_spans(level_db),
        noisiness=noisy,
        cleaned=normalised(without_noise(spectrum) if noisy else spectrum[:0]),
    )
    if not sound.spans:
        evidence = _evidence_of(sound, _silence(sound), "fused", ())
    elif method == "auto":
        evidence = _best(sound, transcript, report)
    else:
        evidence = _by(method, sound, report)
    report(1.0)
    return draw(evidence)


def _ignore(share: float) -> None:
    """Take a share that nobody asked for."""


def _best(sound: _Sound, transcript: str | None, report: Callable[[float], None]) -> Evidence:
    """Use the best of what is installed and fits."""
    notices: tuple[Notice, ...] = ()
    if transcript is not None:
        aligned = _align(sound, transcript)
        if not isinstance(aligned, Notice):
            return _by_text(sound, aligned)
        notices = (aligned,)
    try:
        phones = decode_phones(sound.samples, sound.spans, on_progress=_part(report))
    except ImportError:
        phones, notices = None, (*notices, _NO_PHONES)
    try:
        scores = _heard_by_net(sound, phones)
    except FileNotFoundError:
        notices = (*notices, _NO_NET)
        if phones is None:
            return _evidence_of(sound, _heard_by_loudness(sound), "energy", notices)
        return _evidence_of(sound, _heard_as_phones(sound, phones), "phones", notices)
    return _evidence_of(sound, scores, "net" if phones is None else "fused", notices)


def _by(
    method: Literal["fused", "net", "phones", "energy"],
    sound: _Sound,
    report: Callable[[float], None],
) -> Evidence:
    """Use one method and no other."""
    match method:
        case "energy":
            scores = _heard_by_loudness(sound)
        case "net":
            scores = _heard_by_net(sound, None)
        case "phones" | "fused":
            phones = decode_phones(sound.samples, sound.spans, on_progress=_part(report))
            fused = method == "fused"
            scores = _heard_by_net(sound, phones) if fused else _heard_as_phones(sound, phones)
        case _:
            assert_never(method)
    return _evidence_of(sound, scores, method, ())


def _part(report: Callable[[float], None]) -> Callable[[float], None]:
    return lambda share: report(share * _DECODING_SHARE)


def _align(sound: _Sound, transcript: str) -> list[Phone] | Notice:
    """Return the phones of the transcript's words where they are said, or why there are none."""
    try:
        text = pronounced(transcript)
        if not text.words or len(text.unknown) > _MOST_UNKNOWN * len(text.words):
            return _FOREIGN
        phones = align_text(sound.samples, text, _likelihoods(sound, None))
    except ImportError:
        return _NO_PHONES
    except FileNotFoundError:
        return _NO_NET
    return _NO_FIT if phones is None else phones


def _by_text(sound: _Sound, phones: list[Phone]) -> Evidence:
    """Follow the text, and let the net say how open its vowels are and where it pauses."""
    together = _likelihoods(sound, phones)
    scores = scores_of(together) + _TEXT_TRUST * looks_of_phones(phones, sound.n_frames)
    return _evidence_of(sound, scores, "transcript", ())


def _heard_by_net(sound: _Sound, phones: list[Phone] | None) -> Floats:
    alone = _likelihoods(sound, None)
    if phones is None:
        return scores_of(alone)
    trust = _trust_in_phones(alone, visemes_of(phones, sound.n_frames))
    looks = looks_of_phones(phones, sound.n_frames)
    doubt = _DOUBT * sound.noisiness
    together = (1.0 - doubt) * _likelihoods(sound, phones) + doubt * alone
    scores = scores_of(together) + trust * looks
    scores[:, FF] += _FAINT * sound.noisiness
    return scores


def _likelihoods(sound: _Sound, phones: list[Phone] | None) -> Floats:
    """Return what the net makes of a sound; in noise, of the sound with less noise as well."""
    numbers = None if phones is None else phone_numbers(phones, sound.n_frames)
    net = trained_net()
    likelihoods = net.likelihoods(sound.features, numbers)
    share = _CLEANED_SHARE * sound.noisiness
    if share > 0.0:
        likelihoods = (1.0 - share) * likelihoods
        likelihoods += share * net.likelihoods(sound.cleaned, numbers)
    return np.asarray(likelihoods, np.float32)


def _trust_in_phones(alone: Floats, heard: NDArray[np.uint8]) -> float:
    """Return how much the decoder's phones count beyond what the net makes of them (nepers).

    The net knows few real speakers, the decoder many, but the decoder is lost in noise and far
    from English. Where it mostly agrees with what the net hears alone, it is neither.
    """
    speaks = alone[:, SIL] < 0.5  # noqa: PLR2004  # More likely speech than not.
    if not speaks.any():
        return 0.0
    agreement = float((GROUP[alone.argmax(axis=1)] == GROUP[heard])[speaks].mean())
    return float(np.interp(agreement, _AGREEMENT, (0.0, _MOST_PHONE_TRUST)))


def _heard_as_phones(sound: _Sound, phones: list[Phone]) -> Floats:
    return scores_of(_certain(visemes_of(phones, sound.n_frames)))


def _heard_by_loudness(sound: _Sound) -> Floats:
    return scores_of(_certain(shapes_by_loudness(log_mels(sound.samples), sound.level_db)))


def _silence(sound: _Sound) -> Floats:
    return scores_of(_certain(np.full(sound.n_frames, SIL, np.uint8)))


def _certain(viseme: NDArray[np.uint8]) -> Floats:
    return np.eye(len(VISEMES), dtype=np.float32)[viseme]


def _evidence_of(
    sound: _Sound, scores: Floats, method: str, notices: tuple[Notice, ...]
) -> Evidence:
    """Choose the path, close the mouth where nobody speaks, and say so if nobody does at all."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    weights /= weights.sum(axis=1, keepdims=True)
    viseme = likeliest_path(scores)
    spoken = is_spoken(viseme, sound.spans)
    viseme = np.where(spoken, viseme, SIL).astype(np.uint8)
    weights[~spoken] = _certain(np.array([SIL], np.uint8))
    if not spoken.any():
        notices = (*notices, _NO_SPEECH)
    speech = spoken.astype(np.float32)
    return Evidence(viseme, weights, speech, sound.level_db, method, notices)
