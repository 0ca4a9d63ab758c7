"""Frames: still where nothing moves, the portrait itself at rest, the same for the same row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.face import find_faces, mesh_of
from sayso.engine.fields import LOW
from sayso.engine.lipline import INNER_LOWER, INNER_UPPER
from sayso.engine.motion import Motion
from sayso.engine.params import COLUMN, COLUMNS
from sayso.engine.planes import planes_of
from sayso.engine.render import render_frame, render_frames
from sayso.engine.resample import look_up_sharply
from sayso.engine.rig import Rig, build_rig
from sayso.media.image import read_picture
from tests.drawn_faces import a_drawn_face

Row = npt.NDArray[np.float32]
Frame = npt.NDArray[np.uint8]

CLOSED_PORTRAITS = ("hopper.jpg", "julia_jackson.jpg", "lincoln.jpg", "madeleine.jpg")


@pytest.fixture(scope="module")
def closed() -> Rig:
    rgb, mesh = a_drawn_face()
    return build_rig(rgb, mesh, long_side_px=420)


@pytest.fixture(scope="module")
def smiling() -> Rig:
    rgb, mesh = a_drawn_face(mouth_gap_cm=1.2)
    return build_rig(rgb, mesh, long_side_px=420)


def row(**columns: float) -> Row:
    values = np.zeros(len(COLUMNS), np.float32)
    for name, value in columns.items():
        values[COLUMN[name]] = value
    return values


def some_rows(count: int) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(3)
    rows = np.zeros((count, len(COLUMNS)), np.float32)
    rows[:, COLUMN["jaw"]] = random.uniform(0.0, 0.6, count)
    rows[:, COLUMN["yaw"]] = random.uniform(-0.05, 0.05, count)
    rows[:, COLUMN["blink"]] = random.uniform(0.0, 1.0, count)
    return rows


def down_the_middle(rig: Rig, frame: Frame) -> npt.NDArray[np.float64]:
    """Return the colours (BGR) down the first incisor's middle, a pixel each, from .3 cm above."""
    mouth, lips = rig.anatomy.mouth, rig.anatomy.lips
    seam = float(lips.at(np.array(0.0), lips.seam))
    down = np.arange(-0.3 * mouth.px_per_cm, 2.4 * mouth.px_per_cm)
    beside_the_gap = np.full(len(down), 0.15)
    at = np.round(mouth.to_px(beside_the_gap, seam + down)).astype(int)
    return np.asarray(frame[at[:, 1], at[:, 0]], np.float64)


def between_lips(rig: Rig, frame: Frame) -> npt.NDArray[np.float64]:
    """Return the brightness there."""
    return np.asarray(down_the_middle(rig, frame).mean(axis=-1))


def test_the_rest_of_a_closed_mouth_is_the_picture(closed: Rig) -> None:
    frame = render_frame(closed, row())

    assert np.abs(frame.astype(int) - closed.picture).max() <= 1


@pytest.mark.parametrize("name", CLOSED_PORTRAITS)
def test_the_rest_of_a_real_portrait_is_the_picture(shared_media: Path, name: str) -> None:
    rgb = read_picture(shared_media / "portraits" / name).rgb
    rig = build_rig(rgb, mesh_of(rgb, find_faces(rgb)[0]), long_side_px=512)

    frame = render_frame(rig, row())

    assert np.abs(frame.astype(int) - rig.picture).max() <= 1


def test_a_smile_is_closed_at_rest(smiling: Rig) -> None:
    teeth = smiling.picture.min(axis=-1) > 190

    frame = render_frame(smiling, row())

    rows, columns = smiling.fields.slices(smiling.mouth_cells)
    assert teeth[rows, columns].sum() > 300
    assert (frame.min(axis=-1) > 190)[rows, columns].sum() < 10


def test_a_smile_keeps_its_own_teeth() -> None:
    rgb, mesh = a_drawn_face(mouth_gap_cm=1.2, between=(40, 200, 60))
    rig = build_rig(rgb, mesh, long_side_px=420)

    def green(frame: Frame) -> int:
        pixels = frame.astype(int)
        return int((pixels[..., 1] > pixels[..., 2] + 40).sum())

    assert green(render_frame(rig, row())) < 20
    assert green(render_frame(rig, row(jaw=0.5))) > 150


def test_the_jaw_opens_the_mouth_as_far_as_asked(closed: Rig) -> None:
    def chin_side_of_lower_lip(jaw: float) -> float:
        """Return where the drawn lip's red ends, cm."""
        blue, _, red = down_the_middle(closed, render_frame(closed, row(jaw=jaw))).T
        is_lip = (red > 140) & (red - blue > 85)
        return float(np.flatnonzero(is_lip).max() / closed.anatomy.mouth.px_per_cm)

    ends = [chin_side_of_lower_lip(jaw) for jaw in (0.0, 0.2, 0.4)]

    assert ends[1] - ends[0] == pytest.approx(0.2 * 1.25, abs=0.09)
    assert ends[2] - ends[1] == pytest.approx(0.2 * 1.25, abs=0.09)


def test_sealed_lips_show_nothing_of_the_inside(closed: Rig) -> None:
    mouth = closed.fields.slices(closed.mouth_cells)
    darkest_lip = int(closed.picture[mouth].max(axis=-1).min())

    shut = render_frame(closed, row(jaw=0.3, seal=0.3, press=0.8))[mouth]
    agape = render_frame(closed, row(jaw=0.3))[mouth]

    assert shut.max(axis=-1).min() >= darkest_lip - 12
    assert agape.max(axis=-1).min() < darkest_lip - 12


def test_an_f_shows_the_upper_teeth_on_the_lower_lip(closed: Rig) -> None:
    def brightest(frame: Frame) -> float:
        return float(between_lips(closed, frame)[:10].max())

    assert brightest(render_frame(closed, row(fv=1.0))) > brightest(closed.picture) + 20


def test_a_tongue_tip_is_red(closed: Rig) -> None:
    without = render_frame(closed, row(jaw=0.2, uplip=0.3)).astype(int)
    with_tip = render_frame(closed, row(jaw=0.2, uplip=0.3, tongue=1.0)).astype(int)

    changed = np.abs(with_tip - without).max(axis=-1) > 20
    assert changed.sum() > 30
    assert (with_tip[changed][:, 2] > with_tip[changed][:, 0] + 20).mean() > 0.9


def test_what_is_not_the_head_never_changes(closed: Rig) -> None:
    still = np.ones(closed.picture.shape[:2], bool)
    for band in closed.fields.moving:
        still[closed.fields.slices(band)] = False

    everything = row(jaw=1.0, lowlip=1.0, yaw=0.1, pitch=-0.1, roll=0.02, brow=1.0, blink=1.0)
    frame = render_frame(closed, everything)

    assert still.sum() > 2000
    assert np.array_equal(frame[still], closed.picture[still])


@pytest.mark.parametrize(
    "extreme",
    [
        row(jaw=0.8, lowlip=1.0, uplip=1.0, yaw=0.1, pitch=0.1, shift_y=0.1),
        row(jaw=0.8, spread=1.0, yaw=-0.1, pitch=-0.1, shift_x=-0.1),
        row(pucker=1.0, fv=1.0, roll=0.02),
    ],
)
def test_the_mouths_box_joins_the_rest_of_the_frame(closed: Rig, extreme: Row) -> None:
    fields, box = closed.fields, closed.mouth_cells
    backward = fields.backward(fields.forward(extreme))
    base = np.where(closed.is_low, backward[LOW], backward[0])
    around = look_up_sharply(closed.picture, fields.origins(base, box)).astype(int)

    mouth = render_frame(closed, extreme)[fields.slices(box)].astype(int)

    difference = np.abs(mouth - around).max(axis=-1)
    rim = np.concatenate([difference[0], difference[-1], difference[:, 0], difference[:, -1]])
    assert rim.max() <= 2


def test_a_blink_closes_the_eyes_and_nothing_else(closed: Rig) -> None:
    shut = render_frame(closed, row(blink=1.0))

    changed = np.abs(shut.astype(int) - closed.picture).max(axis=-1) > 1
    near_eyes = np.zeros_like(changed)
    for lid in closed.lids:
        height, width = lid.depth.shape
        near_eyes[lid.top : lid.top + height, lid.left : lid.left + width] = True
    white = closed.picture.min(axis=-1) > 225
    assert len(closed.lids) == 2
    assert not changed[~near_eyes].any()
    assert (white & near_eyes).sum() > 40
    assert ((shut.min(axis=-1) > 225) & near_eyes).sum() == 0


def test_a_gray_portrait_stays_gray() -> None:
    rgb, mesh = a_drawn_face()
    light = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    gray = np.stack([light] * 3, axis=-1).astype(np.uint8)
    rig = build_rig(gray, mesh, long_side_px=420)

    frame = render_frame(rig, row(jaw=0.6, lowlip=0.5, uplip=0.5, tongue=0.5)).astype(int)

    assert np.ptp(frame, axis=-1).max() <= 2


def test_teeth_are_as_dim_as_the_picture() -> None:
    rgb, mesh = a_drawn_face()
    lights = []
    for light in (1.0, 0.4):
        rig = build_rig((rgb * light).astype(np.uint8), mesh, long_side_px=420)
        frame = render_frame(rig, row(jaw=0.3, uplip=1.0))
        lights.append(float(between_lips(rig, frame)[:8].max()))

    assert lights[1] < 0.55 * lights[0]


def test_the_same_input_gives_the_same_pixels() -> None:
    rgb, mesh = a_drawn_face(mouth_gap_cm=0.8)
    rows = some_rows(3)

    first, second = (
        [render_frame(build_rig(rgb, mesh, long_side_px=420), values) for values in rows]
        for _ in range(2)
    )

    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_threads_give_the_frames_in_order_and_unchanged(closed: Rig) -> None:
    rows = some_rows(14)
    expected = [planes_of(render_frame(closed, values)).buffer for values in rows]

    frames = [f.buffer for f in render_frames(closed, Motion(rows=rows, fps=25), workers=4)]

    assert len(frames) == len(expected)
    assert all(np.array_equal(one, other) for one, other in zip(frames, expected, strict=True))


def test_frames_that_are_not_wanted_are_not_drawn(closed: Rig) -> None:
    frames = render_frames(closed, Motion(rows=some_rows(5000), fps=25))
    next(frames)

    frames.close()  # type: ignore[attr-defined]  # The iterator is a generator.

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("render")]


def test_behind_a_mask_only_the_jaw_moves() -> None:
    rgb, mesh = a_drawn_face()
    chin = int(mesh.points[152, 1])
    rgb[int(mesh.points[2, 1]) : chin + 4, 90:270] = (170, 200, 210)
    rig = build_rig(rgb, mesh, long_side_px=420)

    rest, speaking = render_frame(rig, row()), render_frame(rig, row(jaw=0.6, uplip=1.0, fv=1.0))

    mask = rig.fields.slices(rig.mouth_cells)
    under_chin = np.abs(
        speaking[chin : chin + 12, 150:210].astype(int) - rig.picture[chin : chin + 12, 150:210]
    )
    assert np.array_equal(rest, rig.picture)
    assert np.ptp(speaking[mask][8:-8, 8:-8].astype(int), axis=(0, 1)).max() < 40
    assert under_chin.max() > 30


def test_a_rig_cannot_be_written_to(closed: Rig) -> None:
    for array in (closed.picture, closed.fields.basis, closed.interior.upper, closed.lids[0].depth):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize(
    ("long_side", "expected"),
    [(420, (360, 420)), (211, (180, 210)), (720, (616, 720)), (2000, (720, 840))],
)
def test_the_frame_is_even_and_never_more_than_twice_the_picture(
    long_side: int, expected: tuple[int, int]
) -> None:
    rgb, mesh = a_drawn_face()

    rig = build_rig(rgb, mesh, long_side_px=long_side)

    assert (rig.width, rig.height) == expected
    assert render_frame(rig, row()).shape == (rig.height, rig.width, 3)


def test_the_face_crop_is_a_square_around_the_face() -> None:
    rgb, mesh = a_drawn_face(height=900, width=1000)

    rig = build_rig(rgb, mesh, long_side_px=400, crop="face")

    face = rig.points[:, :2]
    assert (rig.width, rig.height) == (400, 400)
    assert np.allclose((face.min(axis=0) + face.max(axis=0)) / 2, 200, atol=3)
    assert 400 / np.ptp(face, axis=0).max() == pytest.approx(2.7, abs=0.05)


def test_points_move_with_the_picture() -> None:
    """A mesh point lies on the same detail after any scaling (pixel middles, not corners)."""
    rgb, mesh = a_drawn_face()
    lips = list({*INNER_UPPER, *INNER_LOWER})

    rig = build_rig(rgb, mesh, long_side_px=840)

    assert np.allclose(rig.points[lips, :2], 2 * mesh.points[lips, :2] + 0.5, atol=0.01)


@pytest.mark.parametrize("turn", [np.rot90, np.flipud])
def test_any_array_layout_is_read_alike(turn: Callable[..., Frame]) -> None:
    rgb, mesh = a_drawn_face()
    laid_out_otherwise = turn(turn(turn(turn(rgb))))

    one = build_rig(rgb, mesh, long_side_px=420)
    other = build_rig(laid_out_otherwise, mesh, long_side_px=420)

    assert np.array_equal(render_frame(one, row(jaw=0.2)), render_frame(other, row(jaw=0.2)))
