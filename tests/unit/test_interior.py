"""The mouth's inside: in the picture's tone, teeth where they belong."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.params import COLUMN, COLUMNS
from sayso.engine.render import render_frame
from sayso.engine.rig import Rig, build_rig
from sayso.engine.teeth import teeth_in
from sayso.engine.tone import read_tone
from tests.drawn_faces import a_drawn_face

Bgr = npt.NDArray[np.uint8]

IVORY = np.array([190.0, 210.0, 220.0])
RED = np.array([60.0, 60.0, 180.0])


def bgr_face(light: float = 1.0) -> tuple[Bgr, npt.NDArray[np.float64]]:
    rgb, mesh = a_drawn_face()
    return np.ascontiguousarray((rgb[..., ::-1] * light).astype(np.uint8)), mesh.points


def frame_with(rig: Rig, **columns: float) -> Bgr:
    row = np.zeros(len(COLUMNS), np.float32)
    for name, value in columns.items():
        row[COLUMN[name]] = value
    return render_frame(rig, row)


def test_colours_keep_their_hue_in_a_colour_picture() -> None:
    tone = read_tone(*bgr_face())

    blue, green, red = tone.of(RED)

    assert red > 1.8 * max(blue, green)


@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (0.62, 0.84, 1.0)], ids=["gray", "sepia"])
def test_colours_take_the_tint_of_a_tinted_picture(tint: tuple[float, float, float]) -> None:
    bgr, points = bgr_face()
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)[..., np.newaxis].astype(float)
    tone = read_tone((gray * tint).astype(np.uint8), points)

    shown = tone.of(np.stack([IVORY, RED]))

    for colour in shown:
        assert np.allclose(colour / colour[2], tint, atol=0.06)


def test_light_follows_the_skin() -> None:
    bright, dim = (read_tone(*bgr_face(light)).of(IVORY).mean() for light in (1.0, 0.5))

    assert bright > 170
    assert dim == pytest.approx(bright / 2, rel=0.15)


def test_nothing_is_darker_than_a_faded_print_can_be() -> None:
    bgr, points = bgr_face()
    faded = (70 + bgr * 0.6).astype(np.uint8)

    assert read_tone(faded, points).of(np.zeros(3)).mean() > 25


def test_two_rows_of_teeth_part_with_the_jaw() -> None:
    """The upper row stays with the skull, the lower one goes down with the jaw."""
    rgb, mesh = a_drawn_face(mouth_gap_cm=1.6, rows=True)
    rig = build_rig(rgb, mesh, long_side_px=420)

    def lowest_white_px(jaw: float) -> int:
        rows, columns = rig.fields.slices(rig.mouth_cells)
        middle = (columns.start + columns.stop) // 2
        column = frame_with(rig, jaw=jaw)[rows, middle].astype(int)
        is_white = (np.ptp(column, axis=-1) < 40) & (column.min(axis=-1) > 110)
        return int(np.flatnonzero(is_white).max())

    fall_px = lowest_white_px(0.9) - lowest_white_px(0.5)
    assert fall_px == pytest.approx(0.4 * 1.25 * rig.anatomy.mouth.px_per_cm, abs=2.5)


def test_one_row_of_teeth_stays_with_the_skull() -> None:
    rgb, mesh = a_drawn_face(mouth_gap_cm=1.2)
    rig = build_rig(rgb, mesh, long_side_px=420)
    x, y = np.meshgrid(np.linspace(-3, 3, 90), np.linspace(-1, 2, 60))

    shown = teeth_in(rig.picture, rig.anatomy, x, y)

    assert shown.lower is None
    white = (shown.upper[..., :3].min(axis=-1) > 180) & (shown.upper[..., 3] > 0.5)
    assert white.sum() > 100


def test_a_closed_portraits_drawn_teeth_are_hidden_at_rest() -> None:
    rgb, mesh = a_drawn_face()
    rig = build_rig(rgb, mesh, long_side_px=420)
    box = rig.fields.slices(rig.mouth_cells)

    def teeth_like(frame: Bgr) -> int:
        pixels = frame[box].astype(int)
        return int(((np.ptp(pixels, axis=-1) < 45) & (pixels.min(axis=-1) > 95)).sum())

    assert teeth_like(frame_with(rig)) == 0
    assert teeth_like(frame_with(rig, jaw=0.25, uplip=1.0)) > 60
