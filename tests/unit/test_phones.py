"""Phones of a recording: heard in pieces that end where it is quiet, and by two at once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sayso.engine.features import HOP
from sayso.engine.phones import LONGEST_PIECE, Phone, decode_phones
from sayso.media.audio import Pcm, read_speech

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "speech.ogg"
SECOND = 100
HUSH = 30


@pytest.fixture(scope="module")
def samples() -> Pcm:
    """Four seconds of speech, three tenths of a second without, and four more."""
    speech = read_speech(EXAMPLE).samples
    hush = np.zeros(HUSH * HOP, np.int16)
    return np.concatenate([speech[: 4 * SECOND * HOP], hush, speech[: 4 * SECOND * HOP]])


def names(phones: list[Phone]) -> list[str]:
    return [phone.name for phone in phones if phone.name != "SIL"]


def test_phones_lie_in_their_order_within_their_spans(samples: Pcm) -> None:
    spans = [(10, 380), (430, 800)]

    phones = decode_phones(samples, spans)

    assert all(one.end <= other.first for one, other in pairwise(phones))
    assert all(
        any(first <= phone.first and phone.end <= end for first, end in spans) for phone in phones
    )


def test_a_recording_is_cut_where_it_is_quiet(samples: Pcm) -> None:
    """What follows the cut is heard as if it had come first."""
    alone = decode_phones(samples, [(4 * SECOND + HUSH // 2, 830)])

    phones = decode_phones(samples, [(0, 830)])

    after = [phone for phone in phones if phone.first >= 4 * SECOND + HUSH // 2 - 2]
    assert len(names(after)) > 20
    assert names(after) == names(alone)


def test_two_hear_what_one_hears(samples: Pcm) -> None:
    spans = [(0, 400), (430, 830)]

    assert decode_phones(samples, spans) == [
        phone for span in spans for phone in decode_phones(samples, [span])
    ]


def test_progress_is_told_piece_by_piece(samples: Pcm) -> None:
    told: list[float] = []

    decode_phones(samples, [(0, 400), (430, 830)], on_progress=told.append)

    assert told == [0.5, 1.0]


def test_listening_ends_when_nobody_wants_it_any_more(samples: Pcm) -> None:
    long = np.tile(samples, 10)
    told = []

    def stop(share: float) -> None:
        told.append(share)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_phones(long, [(0, 2 * LONGEST_PIECE)], on_progress=stop)

    assert len(told) == 1
