"""Curves are compared: how well they agree, at which lag, and against chance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayso.engine.agreement import agreement, curve_at_frames

RATE_HZ = 100


def syllables(seconds: float = 8.0, *, seed: int = 1) -> npt.NDArray[np.float64]:
    """Noise as slow as speech, 100 values a second."""
    random = np.random.default_rng(seed)
    return np.convolve(random.normal(size=round(seconds * RATE_HZ) + 14), np.hanning(15), "valid")


@settings(deadline=None, max_examples=30)
@given(lag_ms=st.integers(-38, 38).map(lambda tens: 10 * tens), fps=st.sampled_from([24, 25, 30]))
def test_lag_is_found_whatever_it_is(lag_ms: int, fps: int) -> None:
    heard = syllables()
    seen = curve_at_frames(
        heard, rate_hz=RATE_HZ, fps=fps, n_frames=8 * fps, shift_s=-lag_ms / 1000.0
    )

    found = agreement(seen, heard, rate_hz=RATE_HZ, fps=fps)

    assert found is not None
    assert found.lag_ms == pytest.approx(lag_ms)
    assert found.r == pytest.approx(1.0)


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_sample_of_the_frames_finds_the_same(every: int) -> None:
    heard = syllables()
    noise = np.random.default_rng(3).normal(size=200) * 0.5
    shown = curve_at_frames(heard, rate_hz=RATE_HZ, fps=25, n_frames=200, shift_s=-0.12) + noise
    at = np.arange(1, 200, every)

    whole = agreement(shown, heard, rate_hz=RATE_HZ, fps=25)
    sampled = agreement(shown[at], heard, rate_hz=RATE_HZ, fps=25, at=at)

    assert whole is not None
    assert sampled is not None
    assert sampled.lag_ms == pytest.approx(120, abs=10)
    assert sampled.r == pytest.approx(whole.r, abs=0.03)
    assert sampled.chance_mean == pytest.approx(whole.chance_mean, abs=0.1)


def test_unrelated_curves_agree_no_better_than_chance() -> None:
    seen = curve_at_frames(syllables(seed=2), rate_hz=RATE_HZ, fps=25, n_frames=200)

    found = agreement(seen, syllables(seed=1), rate_hz=RATE_HZ, fps=25)

    assert found is not None
    assert found.r < found.chance_p95 + 0.15
    assert found.chance_mean < 0.5


def test_noise_on_what_is_seen_lowers_the_agreement() -> None:
    heard = syllables()
    clean = curve_at_frames(heard, rate_hz=RATE_HZ, fps=25, n_frames=200)
    noise = clean.std() * np.random.default_rng(3).normal(size=200)

    found = agreement(clean + noise, heard, rate_hz=RATE_HZ, fps=25)

    assert found is not None
    assert found.r == pytest.approx(np.sqrt(0.5), abs=0.1)


@pytest.mark.parametrize(
    ("seen", "heard"), [(np.ones(100), syllables()), (np.arange(100), np.ones(400)), ([1, 2], [3])]
)
def test_what_never_changes_cannot_be_compared(seen: npt.ArrayLike, heard: npt.ArrayLike) -> None:
    assert agreement(seen, heard, rate_hz=RATE_HZ, fps=25) is None


@pytest.mark.parametrize("fps", [10, 20, 25, 50, 100])
def test_frames_hold_the_mean_of_their_time(fps: float) -> None:
    ramp = np.arange(1000.0)

    frames = curve_at_frames(ramp, rate_hz=RATE_HZ, fps=fps, n_frames=8)

    middles_s = (np.arange(8) + 0.5) / fps
    assert frames == pytest.approx(middles_s * RATE_HZ - 0.5)


def test_curve_is_constant_beyond_its_ends() -> None:
    frames = curve_at_frames([2.0, 4.0], rate_hz=1, fps=1, n_frames=5, shift_s=-2.0)

    assert frames == pytest.approx([2.0, 2.0, 2.0, 4.0, 4.0])
