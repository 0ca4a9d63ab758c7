"""Finding visemes: still where nobody speaks, moving where somebody does, the same every time."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sayso.engine.net import Net
from sayso.engine.shapes import NUMBER, PP, SIL
from sayso.engine.visemes import Method, find_visemes
from sayso.media.audio import Speech, read_speech
from tests.recordings import noise, pcm16, tone

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "speech.ogg"
WORDS = EXAMPLE.with_suffix(".txt")
METHODS: tuple[Method, ...] = ("fused", "net", "phones", "energy")


def speech_of(sound: NDArray[np.float64]) -> Speech:
    samples = pcm16(sound)
    return Speech(Path("made.wav"), samples, len(samples) / 16_000, "pcm_s16le")


@pytest.fixture(scope="module")
def sentence() -> Speech:
    return read_speech(EXAMPLE)


@pytest.fixture(scope="module")
def example(sentence: Speech) -> Speech:
    """Its first three seconds: enough to see a mouth move."""
    return replace(sentence, samples=sentence.samples[:48_000], duration_s=3.0)


def coloured_noise(duration_s: float) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(noise(duration_s))
    sound = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)).clip(20)))
    return np.asarray(sound / sound.std() * 0.1)


SILENT = {
    "digital silence": np.zeros(48_000),
    "white noise at -60 dB": noise(3.0, level_db=-60),
    "white noise at -20 dB": noise(3.0, level_db=-20),
    "pink noise": coloured_noise(3.0),
    "a 440 Hz tone": tone(3.0, pitch_hz=440),
    "a 220 Hz tone": tone(3.0, pitch_hz=220),
    "a 1 kHz tone": tone(3.0, pitch_hz=1000),
}


@pytest.mark.parametrize("name", SILENT)
def test_mouth_rests_where_nobody_speaks(name: str) -> None:
    track = find_visemes(speech_of(SILENT[name]))

    assert (track.viseme != SIL).mean() < 0.02
    assert (track.open > 0.02).mean() < 0.02
    assert (track.close > 0.02).mean() < 0.02


def test_recording_without_speech_carries_a_notice() -> None:
    track = find_visemes(speech_of(np.zeros(16_000)))

    assert "no_speech" in {notice.code for notice in track.notices}
    assert track.cues() == [(0.0, 1.0, "sil")]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_moves_the_mouth_to_speech(example: Speech, method: Method) -> None:
    track = find_visemes(example, method=method)

    assert track.method == method
    assert len(track.viseme) == -(-len(example.samples) // 160)
    assert 0.4 < (track.viseme != SIL).mean() < 1.0
    assert track.open.max() > 0.5
    assert track.open.std() > 0.1


def test_lips_meet_for_the_sample_words(sentence: Speech) -> None:
    """The sentence has 17 sounds of p, b and m; the net must close the lips for most of them."""
    track = find_visemes(sentence)

    closures = [cue for cue in track.cues() if cue[2] == "PP"]

    assert track.method == "fused"
    assert track.notices == ()
    assert 7 <= len(closures) <= 17


def test_transcript_is_followed(sentence: Speech) -> None:
    track = find_visemes(sentence, transcript=WORDS.read_text(encoding="utf-8"))

    said = "".join(cue[2][0] for cue in track.cues() if cue[2] != "sil")
    assert track.method == "transcript"
    assert track.notices == ()
    assert said.count("P") >= 6
    assert (track.viseme == PP).sum() >= 30


@pytest.mark.parametrize(
    "transcript",
    ["Привет, я только картинка.", "Zzyxq wrlblgh fnordish blivet grokking", "", "..."],
)
def test_transcript_of_no_use_is_set_aside_with_a_notice(example: Speech, transcript: str) -> None:
    track = find_visemes(example, transcript=transcript)

    assert track.method == "fused"
    assert [notice.code for notice in track.notices] == ["transcript_unused"]


def test_same_recording_gives_the_same_track(example: Speech) -> None:
    first, second = find_visemes(example), find_visemes(example)

    for name in ("viseme", "open", "wide", "close", "tuck", "speech", "weights"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_silence_around_speech_stays_still(example: Speech) -> None:
    silence = np.zeros(32_000)
    sound = np.concatenate([silence, example.samples / 32_768, silence])

    track = find_visemes(speech_of(sound))

    assert track.open[:170].max() == 0
    assert track.open[-170:].max() == 0
    assert track.speech[:170].max() == 0


def test_quiet_recording_moves_as_much_as_a_loud_one(example: Speech) -> None:
    loud, quiet = (
        find_visemes(speech_of(example.samples / 32_768 * gain), method="net")
        for gain in (1.0, 0.05)
    )

    assert (loud.viseme == quiet.viseme).mean() > 0.9


def test_progress_goes_from_nothing_to_everything(example: Speech) -> None:
    told: list[float] = []

    find_visemes(example, on_progress=told.append)

    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.fixture
def no_pocketsphinx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the weights; they lie inside the package, so there is no seam but their reader."""

    def missing() -> Net:
        raise FileNotFoundError("visemes.npz")

    monkeypatch.setattr("sayso.engine.visemes.trained_net", missing)


@pytest.mark.usefixtures("no_pocketsphinx")
def test_net_works_alone_where_pocketsphinx_is_missing(example: Speech) -> None:
    track = find_visemes(example)

    assert track.method == "net"
    assert [notice.code for notice in track.notices] == ["phones_missing"]


@pytest.mark.usefixtures("no_weights")
def test_phones_work_alone_where_the_weights_are_missing(example: Speech) -> None:
    track = find_visemes(example)

    assert track.method == "phones"
    assert [notice.code for notice in track.notices] == ["net_missing"]


@pytest.mark.usefixtures("no_pocketsphinx", "no_weights")
def test_loudness_works_alone_where_everything_is_missing(example: Speech) -> None:
    track = find_visemes(example)

    assert track.method == "energy"
    assert (track.viseme == NUMBER["aa"]).any()


@pytest.mark.parametrize("n_samples", [3_200, 3_201, 4_000, 16_079])
def test_short_and_odd_lengths_work(n_samples: int) -> None:
    random = np.random.default_rng(2)

    track = find_visemes(speech_of(random.normal(0, 0.1, n_samples)))

    assert len(track.viseme) == -(-n_samples // 160)
