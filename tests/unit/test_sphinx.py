"""The all-phone decoder: the same by either way into pocketsphinx, and it leaves others room."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from sayso.engine import sphinx
from sayso.engine.sphinx import all_phone_decoder
from sayso.media.audio import Pcm, read_speech

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "speech.ogg"


@pytest.fixture(scope="module")
def samples() -> Pcm:
    return read_speech(EXAMPLE).samples[:48_000]


@pytest.fixture
def functions_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a build of pocketsphinx whose library keeps its functions to itself."""

    def none_found(library: str) -> None:
        raise AttributeError(library)

    monkeypatch.setattr(sphinx, "_functions_of", none_found)


def test_phones_follow_each_other_through_the_recording(samples: Pcm) -> None:
    segments = all_phone_decoder().segments(samples)

    assert len({name for name, _, _ in segments}) > 8
    assert segments[0][1] == 0
    assert all(b[1] == a[2] + 1 for a, b in itertools.pairwise(segments))


def test_a_build_without_functions_hears_the_same(
    samples: Pcm, request: pytest.FixtureRequest
) -> None:
    free = all_phone_decoder()
    request.getfixturevalue("functions_hidden")
    bound = all_phone_decoder()

    assert type(free) is not type(bound)
    assert free.segments(samples) == bound.segments(samples)
    # What they heard before makes no difference.
    assert free.segments(samples[:16_000]) == bound.segments(samples[:16_000])


def test_other_threads_go_on_meanwhile(samples: Pcm) -> None:
    decoder = all_phone_decoder()
    done = threading.Event()
    turns = 0

    def listen() -> None:
        decoder.segments(samples)
        done.set()

    listening = threading.Thread(target=listen)
    listening.start()
    while not done.wait(0.001):
        turns += 1
    listening.join()

    # The package's own class would leave one turn or two.
    assert turns > 5


def test_nothing_is_heard_in_nothing() -> None:
    assert all_phone_decoder().segments(read_speech(EXAMPLE).samples[:0]) == []
