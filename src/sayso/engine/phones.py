"""Phones of a recording, by pocketsphinx: with its all-phone decoder, or aligned to a transcript.

pocketsphinx ships its US English acoustic model, a phone language model and a pronouncing
dictionary inside its package, so nothing is fetched. The all-phone decoder knows no words: it says
which of 39 phones it hears when, which makes it useful far beyond English.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import HOP
from sayso.engine.shapes import NUMBER, SIL
from sayso.media.audio import Pcm

if TYPE_CHECKING:
    from pocketsphinx import Decoder

VISEME_OF_PHONE: Final = {
    **dict.fromkeys(("P", "B", "M"), "PP"),
    **dict.fromkeys(("F", "V"), "FF"),
    **dict.fromkeys(("TH", "DH"), "TH"),
    **dict.fromkeys(("T", "D"), "DD"),
    **dict.fromkeys(("K", "G", "NG"), "kk"),
    **dict.fromkeys(("CH", "SH", "ZH", "JH"), "CH"),
    **dict.fromkeys(("S", "Z"), "SS"),
    **dict.fromkeys(("N", "L"), "nn"),
    **dict.fromkeys(("R", "ER"), "RR"),
    **dict.fromkeys(("AA", "AE", "AH", "AY", "AW"), "aa"),
    **dict.fromkeys(("EH", "EY"), "E"),
    **dict.fromkeys(("IH", "IY", "Y"), "ih"),
    **dict.fromkeys(("AO", "OW", "OY"), "oh"),
    **dict.fromkeys(("UW", "UH", "W"), "ou"),
}
_BREATH: Final = "HH"  # Looks like the vowel after it.

# A long utterance makes the decoder's search grow without bound; see `pieces`.
LONGEST_PIECE: Final = 3_000  # frames
# From the method's own tests: a light language model lets the sound decide.
_LANGUAGE_WEIGHT: Final = 2.0
_BEAM: Final = 1e-20


@dataclass(frozen=True)
class Phone:
    """One sound: `name` as in the CMU dictionary or SIL, from frame `first` up to `end`."""

    name: str
    first: int
    end: int


def decode_phones(
    samples: Pcm,
    spans: list[tuple[int, int]],
    *,
    on_progress: Callable[[float], None] | None = None,
) -> list[Phone]:
    """Decode the given spans of a recording (frames, in order) into phones.

    Raises `ImportError` where pocketsphinx is not installed.
    """
    decoder = _all_phone_decoder()
    phones: list[Phone] = []
    total = sum(end - first for first, end in spans)
    done = 0
    for first, end in spans:
        for begin, stop in _pieces(first, end):
            phones += _decode_piece(decoder, samples, begin, stop)
            done += stop - begin
            if on_progress is not None:
                on_progress(done / total)
    return phones


def visemes_of(phones: list[Phone], n_frames: int) -> NDArray[np.uint8]:
    """Return the viseme of each frame, u8[n]; `sil` where no phone lies."""
    track = np.full(n_frames, SIL, np.uint8)
    following = SIL
    for phone in reversed(phones):
        if phone.name == _BREATH:
            viseme = following
        else:
            viseme = NUMBER[VISEME_OF_PHONE.get(phone.name, "sil")]
            following = viseme
        track[phone.first : phone.end] = viseme
    return track


def _all_phone_decoder() -> Decoder:
    from pocketsphinx import Decoder, get_model_path  # noqa: PLC0415  # Slow to load; optional.

    models = Path(get_model_path()) / "en-us"
    return Decoder(
        hmm=str(models / "en-us"),
        allphone=str(models / "en-us-phone.lm.bin"),
        lm=None,
        dict=None,
        lw=_LANGUAGE_WEIGHT,
        beam=_BEAM,
        pbeam=_BEAM,
        allphone_ci=True,
        loglevel="FATAL",
    )


def _pieces(first: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a long span into equal pieces that the decoder can take."""
    count = -(-(end - first) // LONGEST_PIECE)
    bounds = np.linspace(first, end, count + 1).round().astype(int).tolist()
    yield from pairwise(bounds)


def _decode_piece(decoder: Decoder, samples: Pcm, first: int, end: int) -> list[Phone]:
    decoder.start_utt()
    decoder.process_raw(samples[first * HOP : end * HOP].tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    return [
        Phone(segment.word, first + segment.start_frame, min(end, first + segment.end_frame + 1))
        for segment in decoder.seg() or ()
    ]
