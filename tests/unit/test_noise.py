"""Steady noise is noticed, and less of it is left; clean speech is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sayso.engine.features import Floats, log_mels
from sayso.engine.noise import noisiness, without_noise
from sayso.media.audio import Pcm, read_speech
from tests.recordings import noise, pcm16

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "speech.ogg"


@pytest.fixture(scope="module")
def samples() -> Pcm:
    return read_speech(EXAMPLE).samples[: 5 * 16_000]


def in_noise(samples: Pcm, ratio_db: float) -> Pcm:
    """Add white noise so many dB under the whole recording's power."""
    sound = samples / 32_768
    level_db = 20 * float(np.log10(sound.std())) - ratio_db
    return pcm16((sound + noise(5.0, level_db=level_db)).clip(-1, 1))


def likeness(one: Floats, other: Floats) -> NDArray[np.float64]:
    """Correlate two spectra band by band."""
    pairs = zip(one.T, other.T, strict=True)
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs])


def test_clean_speech_is_not_noisy(samples: Pcm) -> None:
    assert noisiness(log_mels(samples)) == 0.0


@pytest.mark.parametrize("ratio_db", [10, 15])
def test_noise_is_noticed(samples: Pcm, ratio_db: float) -> None:
    assert noisiness(log_mels(in_noise(samples, ratio_db))) == 1.0


def test_noise_is_noticed_more_the_louder_it_is(samples: Pcm) -> None:
    seen = [noisiness(log_mels(in_noise(samples, ratio_db))) for ratio_db in (45, 35, 25, 15)]

    assert seen == sorted(seen)
    assert seen[0] == 0.0


def test_what_is_left_is_more_like_the_speech(samples: Pcm) -> None:
    clean, noisy = log_mels(samples), log_mels(in_noise(samples, 10))

    before, after = likeness(noisy, clean), likeness(without_noise(noisy), clean)

    assert after.mean() > before.mean() + 0.01
    assert (after > before).mean() > 0.8


def test_short_and_empty_recordings_are_taken() -> None:
    nothing = log_mels(np.zeros(0, np.int16))

    assert noisiness(nothing) == 0.0
    assert without_noise(log_mels(pcm16(noise(0.05)))).shape == (5, 40)
