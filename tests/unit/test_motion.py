"""The plan of a face's motion: closures survive, silence is still, the head keeps its bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.motion import MAX_TURN_RAD, Motion, plan_motion
from sayso.engine.params import COLUMN, MOUTH
from sayso.engine.render import render_frame
from sayso.engine.rig import Rig, build_rig
from sayso.engine.shapes import NUMBER, VISEMES
from sayso.engine.track import Evidence, MouthFrames, draw
from tests.drawn_faces import a_drawn_face

FPS = 25


@pytest.fixture(scope="module")
def rig() -> Rig:
    rgb, mesh = a_drawn_face()
    return build_rig(rgb, mesh, long_side_px=420)


def said(*segments: tuple[str, float], fps: float = FPS) -> MouthFrames:
    """Return the mouth that says visemes for so many seconds each."""
    viseme = np.concatenate(
        [np.full(round(100 * length_s), NUMBER[name], np.uint8) for name, length_s in segments]
    )
    speech = (viseme != NUMBER["sil"]).astype(np.float32)
    weights = np.eye(len(VISEMES), dtype=np.float32)[viseme]
    level = np.full(len(viseme), -20.0, np.float32)
    track = draw(Evidence(viseme, weights, speech, level, "phones"))
    return track.sample(fps, round(len(viseme) / 100 * fps))


def plan(rig: Rig, mouth: MouthFrames, *, seed: int = 1, fps: float = FPS) -> Motion:
    return plan_motion(mouth, fps=fps, seed=seed, rig=rig)


def column(motion: Motion, name: str) -> npt.NDArray[np.float32]:
    return motion.rows[:, COLUMN[name]]


@pytest.mark.parametrize("start_s", [0.30, 0.31, 0.32, 0.33])
def test_a_short_closure_is_seen_at_25_frames_a_second(rig: Rig, start_s: float) -> None:
    """Wherever a 40 ms /b/ falls between the frames, one frame shows shut lips."""
    mouth = said(("aa", start_s), ("PP", 0.04), ("aa", 0.4))

    motion = plan(rig, mouth)

    opening = column(motion, "jaw") - column(motion, "seal")
    shut = int(opening.argmin())
    assert abs(shut / FPS - start_s) < 0.06
    assert opening[shut] < 0.02
    assert column(motion, "press")[shut] > 0.5
    closed_rows, agape_rows = motion.rows[shut].copy(), motion.rows[shut - 4].copy()
    closed_rows[COLUMN["blink"]] = agape_rows[COLUMN["blink"]] = 0.0
    box = rig.fields.slices(rig.mouth_cells)
    assert render_frame(rig, agape_rows)[box].max(axis=-1).min() < 60
    assert render_frame(rig, closed_rows)[box].max(axis=-1).min() > 60


def test_the_jaw_stays_half_down_while_the_lips_close(rig: Rig) -> None:
    motion = plan(rig, said(("aa", 0.4), ("PP", 0.06), ("aa", 0.4)))

    shut = int((column(motion, "jaw") - column(motion, "seal")).argmin())

    assert column(motion, "jaw")[shut] > 0.1
    assert column(motion, "seal")[shut] == pytest.approx(column(motion, "jaw")[shut], abs=0.03)


def test_silence_keeps_the_mouth_shut(rig: Rig) -> None:
    motion = plan(rig, said(("sil", 2.0)))

    for name in MOUTH:
        assert not column(motion, name).any(), name
    assert not column(motion, "tongue").any()


def test_the_mouth_opens_as_the_speech_does(rig: Rig) -> None:
    mouth = said(*[("aa", 0.2), ("nn", 0.1), ("E", 0.15), ("SS", 0.1), ("oh", 0.2)] * 3)

    motion = plan(rig, mouth)

    parted = 1.31 * (column(motion, "jaw") - column(motion, "seal"))
    parted = parted + 0.24 * column(motion, "uplip") + 0.34 * column(motion, "lowlip")
    assert np.corrcoef(parted, mouth.open)[0, 1] > 0.94
    assert column(motion, "jaw").max() < 0.75


@pytest.mark.parametrize(
    ("viseme", "name", "least"),
    [
        ("FF", "fv", 0.9),
        ("TH", "tongue", 0.8),
        ("ou", "pucker", 0.9),
        ("ih", "spread", 0.4),
        ("SS", "lowlip", 0.2),
        ("PP", "press", 0.7),
    ],
)
def test_each_sound_has_its_own_shape(rig: Rig, viseme: str, name: str, least: float) -> None:
    motion = plan(rig, said(("sil", 0.2), (viseme, 0.3), ("sil", 0.2)))

    assert column(motion, name)[int(0.35 * FPS)] > least


def test_the_seed_alone_decides_the_idle_motion(rig: Rig) -> None:
    mouth = said(("sil", 1.0), ("aa", 3.0), ("sil", 1.0))

    first, again, other = (plan(rig, mouth, seed=seed) for seed in (5, 5, 6))

    assert np.array_equal(first.rows, again.rows)
    assert not np.array_equal(column(first, "yaw"), column(other, "yaw"))
    assert np.array_equal(column(first, "jaw"), column(other, "jaw"))


@pytest.mark.parametrize("seed", [0, 2**63, 123456789])
def test_the_head_moves_but_never_far(rig: Rig, seed: int) -> None:
    mouth = said(*[("aa", 0.25), ("PP", 0.05), ("sil", 0.3)] * 30)

    motion = plan(rig, mouth, seed=seed)

    for name in ("yaw", "pitch"):
        assert np.abs(column(motion, name)).max() <= MAX_TURN_RAD
        assert np.ptp(column(motion, name)) > 0.01
        # No jumps: less than a degree from frame to frame.
        assert np.abs(np.diff(column(motion, name))).max() < 0.017


def test_the_first_frame_holds_the_portraits_own_pose(rig: Rig) -> None:
    motion = plan(rig, said(("aa", 2.0)))

    for name in ("yaw", "pitch", "roll", "shift_x", "shift_y", "brow", "blink"):
        assert column(motion, name)[0] == 0.0, name


@pytest.mark.parametrize("seed", range(6))
def test_blinks_shut_the_eyes_and_come_at_a_human_pace(rig: Rig, seed: int) -> None:
    motion = plan(rig, said(("sil", 60.0)), seed=seed)

    blink = column(motion, "blink")
    edges = np.flatnonzero(np.diff((blink > 0.5).astype(int)) == 1)
    shut = [blink[edge : edge + 8].max() for edge in edges]
    pauses_s = np.diff(edges) / FPS
    assert 8 <= len(edges) <= 32
    assert min(shut) > 0.95
    assert pauses_s.min() >= 1.2
    assert pauses_s.max() <= 7.4


@pytest.mark.parametrize("fps", [12.5, 24, 30, 50, 60])
def test_motion_is_the_same_in_time_at_any_frame_rate(rig: Rig, fps: float) -> None:
    words = (("aa", 0.4), ("PP", 0.1), ("ou", 0.4), ("sil", 0.5), ("E", 0.6))

    motion, usual = plan(rig, said(*words, fps=fps), fps=fps), plan(rig, said(*words))

    time_s = np.arange(0.1, 1.9, 0.01)
    for name, apart in (("yaw", 0.002), ("jaw", 0.15), ("pucker", 0.25)):
        one, other = (
            np.interp(time_s, (np.arange(len(m.rows)) + 0.5) / m.fps, column(m, name))
            for m in (motion, usual)
        )
        assert np.abs(one - other).mean() < apart, name


def test_one_frame_is_enough(rig: Rig) -> None:
    assert plan(rig, said(("aa", 0.04))).rows.shape[0] == 1


def test_eyes_that_cannot_close_do_not_blink() -> None:
    rgb, mesh = a_drawn_face()
    points = mesh.points.copy()
    points[[161, 160, 159, 158, 157, 173]] = points[[163, 144, 145, 153, 154, 155]]
    points[[398, 384, 385, 386, 387, 388]] = points[[382, 381, 380, 374, 373, 390]]
    rig = build_rig(rgb, replace(mesh, points=points), long_side_px=420)

    motion = plan(rig, said(("sil", 20.0)))

    assert not rig.lids
    assert not column(motion, "blink").any()
