"""The lips are where the picture shows them, not where a mesh guesses."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.lipline import (
    INNER_LOWER,
    INNER_UPPER,
    OUTER_LOWER,
    OUTER_UPPER,
    PLACES,
    find_lip_line,
    mouth_frame,
    settle_lips,
)
from tests.drawn_faces import PX_PER_CM, a_drawn_face

AMID = np.abs(PLACES) < 0.7


def bgr_of(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(rgb[..., ::-1])


@pytest.mark.parametrize("off_px", [-2.0, 0.0, 2.5])
def test_a_closed_mouths_line_is_the_dark_one(off_px: float) -> None:
    """The drawn line lies on the true points; the mesh that is handed in is off by some px."""
    rgb, mesh = a_drawn_face()
    mouth = mouth_frame(mesh.points, PX_PER_CM)
    truth = mouth.of_px(mesh.points[list(INNER_UPPER), :2])
    points = mesh.points.copy()
    points[[*INNER_UPPER, *INNER_LOWER[1:-1]], 1] += off_px
    moved = mouth_frame(points, PX_PER_CM)

    lips = find_lip_line(bgr_of(rgb), points, moved)

    found = lips.seam + (moved.origin - mouth.origin) @ mouth.down
    error = found - np.interp(PLACES, *truth)
    assert not lips.is_open
    assert np.sqrt(np.mean(error[AMID] ** 2)) < 0.6
    assert lips.contrast > 8


def test_an_open_mouths_contours_are_the_lips_edges_wherever_the_mesh_has_them() -> None:
    rgb, mesh = a_drawn_face(mouth_gap_cm=1.2)
    mouth = mouth_frame(mesh.points, PX_PER_CM)
    upper, lower = (
        np.interp(PLACES, *mouth.of_px(mesh.points[list(numbers), :2]))
        for numbers in (INNER_UPPER, INNER_LOWER)
    )
    uppers, lowers = [], []
    for off_px in (-2.0, 0.0, 2.0):
        points = mesh.points.copy()
        points[list(INNER_UPPER)[1:-1], 1] += off_px
        points[list(INNER_LOWER)[1:-1], 1] -= off_px
        lips = find_lip_line(bgr_of(rgb), points, mouth)
        assert lips.is_open
        uppers.append((lips.upper - upper)[AMID])
        lowers.append((lips.lower - lower)[AMID])

    # Both lie up to .3 cm within the lip, so that no tooth sticks to it.
    assert -0.30 * PX_PER_CM < np.mean(uppers) < 0.0
    assert 0.0 < np.mean(lowers) < 0.30 * PX_PER_CM
    # The mesh was moved by 4 px in all.
    assert np.ptp(uppers, axis=0).max() < 2.0
    assert np.ptp(lowers, axis=0).max() < 1.0


def test_open_contours_meet_at_the_corners_around_the_seam() -> None:
    rgb, mesh = a_drawn_face(mouth_gap_cm=1.2)

    lips = find_lip_line(bgr_of(rgb), mesh.points, mouth_frame(mesh.points, PX_PER_CM))

    assert np.all(lips.upper <= lips.lower + 1e-9)
    assert np.all((lips.seam >= lips.upper - 1e-9) & (lips.seam <= lips.lower + 1e-9))
    assert lips.upper[0] == pytest.approx(lips.lower[0])
    assert lips.upper[-1] == pytest.approx(lips.lower[-1])


def test_lips_drawn_elsewhere_are_found() -> None:
    rgb, mesh = a_drawn_face()
    points = mesh.points.copy()
    lips = [*INNER_UPPER, *INNER_LOWER[1:-1], *OUTER_UPPER, *OUTER_LOWER[1:-1]]
    points[lips, 1] -= 0.6 * PX_PER_CM

    settled = settle_lips(bgr_of(rgb), points, PX_PER_CM)

    assert np.allclose(settled[lips, 1], mesh.points[lips, 1], atol=0.12 * PX_PER_CM)
    others = np.setdiff1d(np.arange(len(points)), lips)
    assert np.mean(np.any(settled[others] != points[others], axis=1)) < 0.2


def test_lips_in_their_place_stay() -> None:
    rgb, mesh = a_drawn_face()

    assert np.array_equal(settle_lips(bgr_of(rgb), mesh.points, PX_PER_CM), mesh.points)


def test_a_gray_picture_has_nothing_to_settle_by() -> None:
    rgb, mesh = a_drawn_face()
    gray = np.stack([cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)] * 3, axis=-1).astype(np.uint8)

    assert settle_lips(gray, mesh.points, PX_PER_CM) is mesh.points


def test_the_mouths_frame_goes_there_and_back() -> None:
    _, mesh = a_drawn_face()
    mouth = mouth_frame(mesh.points, PX_PER_CM)
    somewhere = np.random.default_rng(1).uniform(0, 300, (20, 2))

    assert np.allclose(mouth.to_px(*mouth.of_px(somewhere)), somewhere)
