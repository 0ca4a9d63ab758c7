"""A text is found in its own recording, at any length, and not in another's."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sayso.engine.alignment import MOST_MISFIT, align_text, rough_words
from sayso.engine.features import log_mels, normalised
from sayso.engine.net import trained_net
from sayso.engine.shapes import SIL, VISEMES
from sayso.engine.words import pronounced
from sayso.media.audio import Pcm, read_speech

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "speech.ogg"
WORDS = EXAMPLE.with_suffix(".txt").read_text(encoding="utf-8")
OTHER = (
    "The river froze early that year, and nobody crossed it until the bells rang in March. "
    "Fourteen old wagons stood under the bridge, covered with snow up to their wheels."
)


@pytest.fixture(scope="module")
def samples() -> Pcm:
    return read_speech(EXAMPLE).samples


def heard(samples: Pcm) -> NDArray[np.float32]:
    return trained_net().likelihoods(normalised(log_mels(samples)), None)


def test_text_fits_its_own_recording_and_not_another(samples: Pcm) -> None:
    likelihoods = heard(samples)

    _, right = rough_words(pronounced(WORDS), likelihoods)
    _, wrong = rough_words(pronounced(OTHER), likelihoods)

    assert right < MOST_MISFIT - 0.2
    assert wrong > MOST_MISFIT + 0.2
    assert align_text(samples, pronounced(OTHER), likelihoods) is None


def test_words_come_in_order_and_inside_the_recording(samples: Pcm) -> None:
    likelihoods = heard(samples)

    phones = align_text(samples, pronounced(WORDS), likelihoods)

    assert phones is not None
    assert len(phones) > 100
    assert all(a.end <= b.first + 1 for a, b in itertools.pairwise(phones))
    assert phones[0].first >= 0
    assert phones[-1].end <= len(likelihoods)


def test_long_recording_is_aligned_in_pieces(samples: Pcm) -> None:
    """Five times the same sentence: every turn is found where it is, long past one piece."""
    turns = 5
    likelihoods = heard(np.tile(samples, turns))

    phones = align_text(np.tile(samples, turns), pronounced(WORDS * turns), likelihoods)
    once = align_text(samples, pronounced(WORDS), heard(samples))

    assert phones is not None
    assert once is not None
    assert len(phones) == turns * len(once)
    starts = [phones[turn * len(once)].first / 100 for turn in range(turns)]
    assert np.diff(starts) == pytest.approx(len(samples) / 16_000, abs=0.1)


def test_more_text_than_sound_does_not_fit(samples: Pcm) -> None:
    short = samples[:16_000]

    assert align_text(short, pronounced(WORDS * 3), heard(short)) is None


def test_band_follows_a_text_of_thousands_of_sounds() -> None:
    """A made-up recording that says its text without a doubt is followed to the frame."""
    text = pronounced("map of five moons " * 100)
    shapes = [SIL]
    for word in text.words:
        phones = word[0].split()
        shapes += [VISEMES.index(name) for name in _VISEMES_OF[" ".join(phones)]] + [SIL]
    viseme = np.repeat(shapes, 8)
    likelihoods = np.full((len(viseme), len(VISEMES)), 0.01, np.float32)
    likelihoods[np.arange(len(viseme)), viseme] = 0.86

    words, misfit = rough_words(text, likelihoods)

    assert misfit < 0.2
    assert len(words) == 400
    assert words[-1].end >= len(viseme) - 20


_VISEMES_OF = {
    "M AE P": ("PP", "aa", "PP"),
    "AH V": ("aa", "FF"),
    "F AY V": ("FF", "aa", "FF"),
    "M UW N Z": ("PP", "ou", "nn", "SS"),
}
