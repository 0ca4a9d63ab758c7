"""Levels and spectra: right in dB, right in time, free of level and colour once normalised."""

from __future__ import annotations

import numpy as np
import pytest

from sayso.engine.features import count_frames, levels_db, log_mels, normalised
from tests.recordings import noise, pcm16, tone


def test_level_of_a_sine_of_half_scale_is_minus_9_db() -> None:
    level_db = levels_db(pcm16(tone(1.0)))

    assert level_db[5:95] == pytest.approx(-9.03, abs=0.3)


def test_digital_silence_has_the_lowest_level() -> None:
    assert levels_db(np.zeros(1600, np.int16)).max() <= -119


@pytest.mark.parametrize("n_samples", [1, 159, 160, 161, 399, 400, 16_001])
def test_every_started_frame_counts(n_samples: int) -> None:
    samples = pcm16(noise(2.0))[:n_samples]

    assert count_frames(samples) == -(-n_samples // 160)
    assert len(levels_db(samples)) == len(log_mels(samples)) == count_frames(samples)


def test_click_shows_in_the_frame_it_lies_in() -> None:
    samples = np.zeros(16_000, np.int16)
    samples[50 * 160 + 80] = 30_000

    spectrum = log_mels(samples).mean(axis=1)

    assert spectrum.argmax() in {49, 50, 51}
    assert spectrum[50] == spectrum[[49, 50, 51]].max()


def test_higher_tone_lies_in_a_higher_band() -> None:
    bands = [int(log_mels(pcm16(tone(0.5, pitch_hz=hz)))[25].argmax()) for hz in (200, 800, 3200)]

    assert bands == sorted(bands)
    assert len(set(bands)) == 3


def test_blocks_do_not_show() -> None:
    samples = pcm16(noise(3.0))

    np.testing.assert_allclose(log_mels(samples, block=37), log_mels(samples), rtol=1e-5)


def test_level_does_not_change_normalised_features() -> None:
    sound = noise(2.0) * np.hanning(32_000)

    loud, soft = (normalised(log_mels(pcm16(sound * gain))) for gain in (1.0, 0.25))

    assert np.abs(loud - soft)[30:170].max() < 0.1
