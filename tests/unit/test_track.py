"""Curves of the mouth: closures that survive sampling, rest in silence, exact frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.engine.shapes import FF, NUMBER, PP, SIL, VISEMES
from sayso.engine.track import Evidence, VisemeTrack, draw, stretches

AA = NUMBER["aa"]


def heard(*stretches_: tuple[int, int], level_db: float = -20.0) -> VisemeTrack:
    """Draw a mouth from (viseme, frames) pairs, each shape certain."""
    viseme = np.concatenate([np.full(n, number, np.uint8) for number, n in stretches_])
    weights = np.eye(len(VISEMES), dtype=np.float32)[viseme]
    speech = (viseme != SIL).astype(np.float32)
    return draw(Evidence(viseme, weights, speech, np.full(len(viseme), level_db), "phones"))


def test_silence_keeps_the_mouth_exactly_closed() -> None:
    track = heard((SIL, 100))

    assert not track.open.any()
    assert not track.wide.any()
    assert not track.close.any()


def test_vowel_opens_the_mouth_and_silence_closes_it_again() -> None:
    track = heard((SIL, 30), (AA, 30), (SIL, 30))

    assert track.open[45] == pytest.approx(1.0)
    assert track.open[:20].max() == 0
    assert track.open[75:].max() == 0
    assert np.all(np.diff(track.open[24:36]) >= 0)


@pytest.mark.parametrize("closed_frames", [1, 2, 3, 4])
def test_short_closure_lasts_50_ms(closed_frames: int) -> None:
    track = heard((AA, 40), (PP, closed_frames), (AA, 40))

    assert [end - first for first, end in stretches(track.viseme == PP)] == [5]


@given(start=st.integers(8, 60), closed_frames=st.integers(1, 12))
def test_every_closure_is_seen_at_25_frames_a_second(start: int, closed_frames: int) -> None:
    track = heard((AA, start), (PP, closed_frames), (AA, 40))

    frames = track.sample(25, len(track.viseme) // 4)

    assert frames.close.max() == pytest.approx(1.0)
    assert frames.open[frames.close.argmax()] == pytest.approx(0.0, abs=1e-6)


def test_lip_is_tucked_for_f_and_the_mouth_hardly_open() -> None:
    track = heard((AA, 30), (FF, 10), (AA, 30))

    assert track.tuck[35] == pytest.approx(1.0)
    assert track.open[35] < 0.2
    assert track.tuck[:25].max() == 0


def test_rounded_and_spread_vowels_differ_in_width() -> None:
    track = heard((NUMBER["ou"], 30), (NUMBER["ih"], 30))

    assert track.wide[10] == pytest.approx(-1.0)
    assert track.wide[50] == pytest.approx(0.6)


def test_quiet_vowel_opens_less_than_a_loud_one() -> None:
    viseme = np.full(200, AA, np.uint8)
    weights = np.eye(len(VISEMES), dtype=np.float32)[viseme]
    level_db = np.where(np.arange(200) < 100, -40.0, -15.0).astype(np.float32)

    track = draw(Evidence(viseme, weights, np.ones(200, np.float32), level_db, "phones"))

    assert track.open[50] == pytest.approx(0.8, abs=0.01)
    assert track.open[150] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("fps", [10, 24, 25, 29.97, 30, 60, 100, 240])
def test_sampling_gives_every_frame_a_value(fps: float) -> None:
    track = heard((SIL, 20), (AA, 40), (PP, 5), (NUMBER["E"], 35))

    frames = track.sample(fps, 50)

    for curve in (frames.open, frames.wide, frames.close, frames.tuck, frames.speech):
        assert curve.shape == (50,)
        assert curve.dtype == np.float32
        assert np.isfinite(curve).all()
    assert frames.weights.shape == (50, len(VISEMES))
    np.testing.assert_allclose(frames.weights.sum(axis=1), 1, atol=1e-4)


def test_mouth_leads_its_sound_by_20_ms() -> None:
    """The vowel starts at 0.5 s: the frame from 0.48 s on is the first that shows all of it."""
    track = heard((SIL, 50), (AA, 50))

    frames = track.sample(25, 25)

    assert frames.weights[12, AA] == pytest.approx(1.0)
    assert frames.weights[11, AA] == pytest.approx(0.0)


def test_frames_past_the_end_hold_the_last_mouth_but_no_closure() -> None:
    track = heard((AA, 40), (PP, 10), (SIL, 50))

    frames = track.sample(25, 60)

    assert frames.open[30:].max() == 0
    assert frames.close[30:].max() == 0


def test_cues_cover_the_recording_without_gaps() -> None:
    track = heard((SIL, 30), (PP, 7), (AA, 20), (SIL, 43))

    cues = track.cues()

    assert cues == [(0.0, 0.3, "sil"), (0.3, 0.37, "PP"), (0.37, 0.57, "aa"), (0.57, 1.0, "sil")]
