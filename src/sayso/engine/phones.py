"""Phones of a recording, by pocketsphinx: with its all-phone decoder, or aligned to a transcript.

pocketsphinx ships its US English acoustic model, a phone language model and a pronouncing
dictionary inside its package, so nothing is fetched. The all-phone decoder knows no words: it says
which of 39 phones it hears when, which makes it useful far beyond English.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import HOP, levels_db
from sayso.engine.shapes import NUMBER, SIL
from sayso.engine.sphinx import PhoneDecoder, all_phone_decoder
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
PHONES: Final = ("SIL", *sorted(VISEME_OF_PHONE), "HH")
"""The decoder's phones in the order of the net's inputs."""

_BREATH: Final = "HH"  # Looks like the vowel after it.

# Frames. A long utterance makes the decoder's search grow without bound; in a short one it does
# not get to know the voice.
LONGEST_PIECE: Final = 3_000
_SHORTEST_PIECE: Final = 350
# Pieces end where it is quiet, at most this far from where they would be equal.
_CUT_REACH: Final = 100
_CUT_WIDTH: Final = 15
# Two: more would take memory from machines that have the cores, and time from those that have not.
_DECODERS: Final = 2
# A text is followed through noise and slips as long as there is any path at all.
_ALIGN_BEAM: Final = 1e-60


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

    Two decoders take turns with the pieces, each of which is heard as if it were alone: the result
    does not depend on who hears what. `on_progress` is told the share done, on the calling thread.

    Raises `ImportError` where pocketsphinx is not installed.
    """
    pieces = _pieces(samples, spans)
    idle: SimpleQueue[PhoneDecoder] = SimpleQueue()
    for _ in range(min(_DECODERS, len(pieces))):
        idle.put(all_phone_decoder())

    def hear(piece: tuple[int, int]) -> list[Phone]:
        decoder = idle.get()
        try:
            return _decode_piece(decoder, samples, *piece)
        finally:
            idle.put(decoder)

    phones: list[Phone] = []
    total = sum(end - first for first, end in pieces)
    done = 0
    pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="listen")
    try:
        heard = [pool.submit(hear, piece) for piece in pieces]
        for (first, end), found in zip(pieces, heard, strict=True):
            phones += found.result()
            done += end - first
            if on_progress is not None:
                on_progress(done / total)
    finally:
        pool.shutdown(cancel_futures=True)
    return phones


def align_phones(samples: Pcm, words: Sequence[Sequence[str]]) -> list[list[Phone]] | None:
    """Find when each word of a known text is said; a word is one or more pronunciations.

    Returns the phones of every word in order, or None where sound and text do not fit each other.
    Pauses may lie between words. Raises `ImportError` where pocketsphinx is not installed.
    """
    decoder = _word_decoder(words)
    decoder.set_align_text(" ".join(f"w{index}" for index in range(len(words))))
    if not _heard(decoder, samples):
        return None
    decoder.set_alignment()
    _run(decoder, samples)
    alignment = decoder.get_alignment()
    if alignment is None:
        return None
    spoken = [
        [Phone(phone.name, phone.start, phone.start + phone.duration) for phone in word]
        for word in alignment
        if re.fullmatch(r"w\d+(\(\d+\))?", word.name)
    ]
    return spoken if len(spoken) == len(words) else None


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


def looks_of_phones(phones: list[Phone], n_frames: int) -> NDArray[np.float32]:
    """Return 1 for each viseme that a frame's phone may look like, else 0, f32[n, 15].

    The dictionary writes AH for the open vowel of "cup" and for the colourless one of "about".
    Frames without a phone say nothing.
    """
    viseme = visemes_of(phones, n_frames)
    looks = np.eye(len(NUMBER), dtype=np.float32)[viseme]
    covered = np.zeros(n_frames, bool)
    for phone in phones:
        covered[phone.first : phone.end] = True
        if phone.name == "AH":
            looks[phone.first : phone.end, NUMBER["E"]] = 1
    looks[~covered] = 0
    return looks


def phone_numbers(phones: list[Phone], n_frames: int) -> NDArray[np.uint8]:
    """Return the place in `PHONES` of each frame's phone, u8[n]; SIL where none is."""
    numbers = np.zeros(n_frames, np.uint8)
    for phone in phones:
        if phone.name in PHONES:
            numbers[phone.first : phone.end] = PHONES.index(phone.name)
    return numbers


def _word_decoder(words: Sequence[Sequence[str]]) -> Decoder:
    """Return a decoder whose dictionary holds exactly the given words, named w0, w1, ..."""
    from pocketsphinx import Decoder, get_model_path  # noqa: PLC0415  # Slow to load; optional.

    with NamedTemporaryFile("w", suffix=".dict", encoding="ascii") as dictionary:
        for index, pronunciations in enumerate(words):
            for variant, phones in enumerate(pronunciations, start=1):
                mark = f"({variant})" if variant > 1 else ""
                dictionary.write(f"w{index}{mark} {phones}\n")
        dictionary.flush()
        return Decoder(
            hmm=str(Path(get_model_path()) / "en-us" / "en-us"),
            dict=dictionary.name,
            lm=None,
            beam=_ALIGN_BEAM,
            pbeam=_ALIGN_BEAM,
            wbeam=_ALIGN_BEAM,
            bestpath=False,
            loglevel="FATAL",
        )


def _heard(decoder: Decoder, samples: Pcm) -> bool:
    """Let the decoder follow the text; say whether it came to its end."""
    try:
        _run(decoder, samples)
        return decoder.hyp() is not None
    except RuntimeError:  # What pocketsphinx raises where the search dies on the way.
        return False


def _run(decoder: Decoder, samples: Pcm) -> None:
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()


def _pieces(samples: Pcm, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut long spans where they are quietest: what one decoder can take, and work for them all."""
    total = sum(end - first for first, end in spans)
    longest = min(LONGEST_PIECE, max(_SHORTEST_PIECE, -(-total // _DECODERS)))
    pieces: list[tuple[int, int]] = []
    for first, end in spans:
        # A little too long is better than a cut too many.
        count = max(1, -(-(end - first - _CUT_REACH) // longest))
        count = max(count, -(-(end - first) // LONGEST_PIECE))
        even = np.linspace(first, end, count + 1).round().astype(int)[1:-1]
        cuts = [_quietest_near(samples, cut) for cut in even.tolist()]
        pieces += pairwise([first, *cuts, end])
    return pieces


def _quietest_near(samples: Pcm, frame: int) -> int:
    """Return the frame amid the quietest fifteen hundredths of a second near another."""
    first = max(0, frame - _CUT_REACH)
    near = samples[first * HOP : (frame + _CUT_REACH) * HOP]
    power = np.power(10.0, levels_db(near) / 10)
    smooth = np.convolve(power, np.ones(_CUT_WIDTH), "valid")
    return first + int(smooth.argmin()) + _CUT_WIDTH // 2


def _decode_piece(decoder: PhoneDecoder, samples: Pcm, first: int, end: int) -> list[Phone]:
    return [
        Phone(name, first + begin, min(end, first + last + 1))
        for name, begin, last in decoder.segments(samples[first * HOP : end * HOP])
    ]
