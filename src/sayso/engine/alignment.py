"""When each word of a known text is said: first roughly and all at once, then exactly, in pieces.

    align_text(samples, text, likelihoods) -> phones, or None where the text is not what is said

The rough pass follows the text's visemes through what the net hears (Viterbi over the whole
recording, in steps of 20 ms), which is cheap, takes any length, and shows whether text and sound
belong together at all. Its pauses cut the recording into pieces of about 15 s, and in each of
them pocketsphinx finds the exact borders: its memory grows with what it aligns in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import HOP, Floats
from sayso.engine.path import scores_of
from sayso.engine.phones import Phone, align_phones, visemes_of
from sayso.engine.shapes import SIL
from sayso.engine.words import Text
from sayso.media.audio import Pcm

_STEP: Final = 2  # frames
# States that the rough pass keeps around where it should be by the share of speech gone by.
_BAND: Final = 1_280
_IMPOSSIBLE: Final = -1e9

_PIECE: Final = 1_500  # frames
_LONGEST_PIECE: Final = 2_500
_GAP: Final = 10  # frames of pause that are worth a cut
_ROOM: Final = 15  # frames around a piece, so that rough borders do not matter

# The text's shapes are this much less likely than the likeliest ones, at most, if the text is what
# is said (mean nepers over the speech). Of 71 recordings by 38 voices, right texts reach 0.1 to
# 0.6, others of the same length 1.1 to 2.4, and texts of which a half is missing 1.2 and more.
MOST_MISFIT: Final = 0.9
_NO_FIT_AT_ALL: Final = 10.0


@dataclass(frozen=True)
class _Word:
    """A word's place in the text and its rough stretch in the recording, in frames."""

    index: int
    first: int
    end: int


def align_text(samples: Pcm, text: Text, likelihoods: Floats) -> list[Phone] | None:
    """Return the phones of a text with their times, or None where it is not what is said.

    `likelihoods` f32[n, 15] is what the net makes of the recording. A piece that pocketsphinx
    cannot follow is left out: the net decides there. Raises `ImportError` without pocketsphinx.
    """
    words, misfit = rough_words(text, likelihoods)
    if misfit > MOST_MISFIT:
        return None
    phones: list[Phone] = []
    for piece in _pieces(words):
        first = max(0, piece[0].first - _ROOM)
        end = min(len(likelihoods), piece[-1].end + _ROOM)
        spoken = [text.words[word.index] for word in piece]
        found = align_phones(samples[first * HOP : end * HOP], spoken)
        for word_phones in found or ():
            phones += [Phone(p.name, p.first + first, p.end + first) for p in word_phones]
    return phones


def rough_words(text: Text, likelihoods: Floats) -> tuple[list[_Word], float]:
    """Return where each word is said, to about 50 ms, and how badly text and sound fit (nepers)."""
    shapes, word_of = _states(text)
    n_steps = len(likelihoods) // _STEP
    if n_steps < 1 or len(shapes) > len(likelihoods):
        return [], _NO_FIT_AT_ALL
    steps = likelihoods[: n_steps * _STEP].reshape(n_steps, _STEP, -1).mean(axis=1)
    scores = scores_of(steps)
    path = _followed(scores, shapes)
    spoken = steps[:, SIL] < 0.5  # noqa: PLR2004  # More likely speech than not.
    if not spoken.any():
        return [], _NO_FIT_AT_ALL
    missed = scores.max(axis=1) - scores[np.arange(n_steps), shapes[path]]
    words = []
    for index in range(len(text.words)):
        found = np.flatnonzero(word_of[path] == index)
        if len(found):
            words.append(_Word(index, int(found[0]) * _STEP, int(found[-1] + 1) * _STEP))
    return words, float(missed[spoken].mean())


def _states(text: Text) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the text as a row of shapes with a possible pause around each word.

    The second array names each state's word, -1 for pauses.
    """
    shapes, word_of = [SIL], [-1]
    for index, pronunciations in enumerate(text.words):
        names = pronunciations[0].split()
        phones = [Phone(name, place, place + 1) for place, name in enumerate(names)]
        looks = visemes_of(phones, len(phones)).tolist()
        shapes += [*looks, SIL]
        word_of += [*([index] * len(looks)), -1]
    return np.array(shapes, np.intp), np.array(word_of, np.intp)


def _followed(scores: Floats, shapes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the state of each step on the best way through all states; pauses may be skipped."""
    n_steps, n_states = len(scores), len(shapes)
    width = min(_BAND, n_states)
    starts = _band_starts(scores, n_states, width)
    skip_cost = np.full(n_states, _IMPOSSIBLE)
    skip_cost[2:][(shapes[1:-1] == SIL) & (shapes[2:] != SIL)] = 0
    came = np.zeros((n_steps, width), np.uint8)
    best = np.full(n_states + 2, _IMPOSSIBLE)  # Two places before the first state stay impossible.
    best[2 : 2 + min(2, n_states)] = scores[0, shapes[:2]]
    for step in range(1, n_steps):
        first = starts[step]
        here = slice(first, first + width)
        stay = best[first + 2 : first + 2 + width]
        move = best[first + 1 : first + 1 + width]
        skip = best[first : first + width] + skip_cost[here]
        moves = move > stay
        reached = np.maximum(stay, move)
        skips = skip > reached
        came[step] = np.where(skips, 2, moves)  # How many states it moves on.
        reached = np.maximum(reached, skip) + scores[step, shapes[here]]
        best[2 : 2 + first] = _IMPOSSIBLE
        best[first + 2 : first + 2 + width] = reached
        best[first + 2 + width :] = _IMPOSSIBLE
    state = n_states - 1 if best[-1] >= best[-2] else n_states - 2
    path = np.empty(n_steps, np.intp)
    for step in range(n_steps - 1, -1, -1):
        path[step] = state
        state -= int(came[step, min(max(state - starts[step], 0), width - 1)])
        state = max(state, 0)
    return path


def _band_starts(scores: Floats, n_states: int, width: int) -> list[int]:
    """Return the first state that is kept at each step: the text goes by as speech does."""
    speech = 1 - np.exp(scores[:, SIL]).clip(0, 1)
    share = np.cumsum(speech) / max(float(speech.sum()), 1e-6)
    middle = share * n_states
    starts: list[int] = (middle - width / 2).round().astype(int).clip(0, n_states - width).tolist()
    return starts


def _pieces(words: list[_Word]) -> Iterator[list[_Word]]:
    """Cut the text where it pauses, into pieces that are neither short nor long."""
    piece: list[_Word] = []
    for word in words:
        if piece:
            length = word.end - piece[0].first
            pauses = word.first - piece[-1].end >= _GAP
            if length > _LONGEST_PIECE or (length > _PIECE and pauses):
                yield piece
                piece = []
        piece.append(word)
    if piece:
        yield piece
