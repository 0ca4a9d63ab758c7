"""Skin moves without tearing: the layers join, the inverse is one, the border stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.fields import JAW_APERTURE_CM, LOW, LOWLIP_CM, UP, UPLIP_CM, Fields
from sayso.engine.params import COLUMN, COLUMNS, MOVING
from sayso.engine.resample import look_up
from sayso.engine.rig import Rig, build_rig
from tests.drawn_faces import a_drawn_face

Row = npt.NDArray[np.float32]


@pytest.fixture(scope="module", params=[0.0, 1.2], ids=["closed", "open"])
def rig(request: pytest.FixtureRequest) -> Rig:
    rgb, mesh = a_drawn_face(mouth_gap_cm=request.param)
    return build_rig(rgb, mesh, long_side_px=420)


def row(**columns: float) -> Row:
    values = np.zeros(len(COLUMNS), np.float32)
    for name, value in columns.items():
        values[COLUMN[name]] = value
    return values


def places_of_cells(rig: Rig) -> npt.NDArray[np.float64]:
    """Return each cell's place from corner (-1) to corner (1), float64[rows, columns]."""
    cell = rig.fields.cell_px
    at = rig.fields.places[::cell, ::cell].astype(np.float64) + 0.5 * (cell - 1)
    return rig.anatomy.mouth.of_px(at)[0]


def basis_of(fields: Fields, name: str) -> npt.NDArray[np.float32]:
    basis: npt.NDArray[np.float32] = fields.basis[COLUMN[name]]
    return basis.reshape(2, fields.rows, fields.columns, 2)


@pytest.mark.parametrize("name", MOVING)
def test_beyond_the_corners_both_layers_are_the_same(rig: Rig, name: str) -> None:
    beyond = np.abs(places_of_cells(rig)) >= 1.0

    basis = basis_of(rig.fields, name)

    assert np.abs(basis[UP] - basis[LOW])[beyond].max() < 1e-6
    assert np.abs(basis).max() > 0.01


def test_what_closes_an_open_mouth_ends_at_its_corners(rig: Rig) -> None:
    beyond = np.abs(places_of_cells(rig)) >= 1.0

    rest = rig.fields.rest.reshape(2, rig.fields.rows, rig.fields.columns, 2)

    assert not rest[:, beyond].any()
    assert bool(rest.any()) == rig.anatomy.lips.is_open


def test_the_lips_part_by_what_the_columns_say(rig: Rig) -> None:
    lips, mouth, fields = rig.anatomy.lips, rig.anatomy.mouth, rig.fields
    places = np.array(0.0)

    def moved_down_cm(name: str, layer: int) -> float:
        contour = lips.upper if layer == UP else lips.lower
        at = mouth.to_px(places, lips.at(places, contour))
        cell = (at - (fields.left, fields.top) + 0.5) / fields.cell_px - 0.5
        moved = look_up(basis_of(fields, name)[layer], cell.astype(np.float32)[None, None])[0, 0]
        return float(moved @ mouth.down) * fields.cell_px / mouth.px_per_cm

    for name, apart_cm in (
        ("jaw", JAW_APERTURE_CM),
        ("seal", -JAW_APERTURE_CM),
        ("uplip", UPLIP_CM),
        ("lowlip", LOWLIP_CM),
    ):
        parted_cm = moved_down_cm(name, LOW) - moved_down_cm(name, UP)
        assert parted_cm == pytest.approx(apart_cm, abs=0.06), name


@pytest.mark.parametrize(
    ("motion", "usual_px", "worst_px"),
    [
        (row(jaw=0.62, uplip=0.3, lowlip=0.3), 0.05, 0.8),
        (row(jaw=1.0, lowlip=0.5), 0.2, 1.5),
        (row(jaw=0.4, seal=0.4, press=1.0), 0.05, 0.8),
        (row(jaw=0.2, pucker=1.0, yaw=0.1, pitch=-0.1, roll=0.02), 0.2, 0.8),
    ],
    ids=["speech", "scream", "closure", "turned"],
)
def test_the_inverse_brings_each_pixel_back(
    rig: Rig, motion: Row, usual_px: float, worst_px: float
) -> None:
    forward = rig.fields.forward(motion)

    backward = rig.fields.backward(forward)

    for layer in (UP, LOW):
        went = look_up(forward[layer], rig.fields.nodes - backward[layer])
        error_px = np.linalg.norm(went - backward[layer], axis=-1) * rig.fields.cell_px
        assert np.percentile(error_px, 99) < usual_px
        assert error_px.max() < worst_px


def test_nothing_moves_at_the_pictures_border(rig: Rig) -> None:
    lively = row(jaw=0.6, lowlip=0.4, yaw=0.035, pitch=0.04, roll=0.012, shift_x=0.08, brow=0.6)

    moved = np.abs(rig.fields.forward(lively)) * rig.fields.cell_px

    at = rig.fields.places[:: rig.fields.cell_px, :: rig.fields.cell_px]
    near = np.minimum(at, np.array([rig.width, rig.height]) - 1 - at).min(axis=-1) < 3
    assert near.any()
    assert moved[:, near].max() < 0.15


def test_outside_the_moving_bands_nothing_moves(rig: Rig) -> None:
    still = np.ones((rig.fields.rows, rig.fields.columns), bool)
    for band in rig.fields.moving:
        still[band.top : band.bottom, band.left : band.right] = False
    everything = row(jaw=1.0, seal=1.0, yaw=0.1, pitch=0.1, roll=0.02, shift_x=0.1, shift_y=0.1)

    moved = np.abs(rig.fields.forward(everything)) * rig.fields.cell_px

    assert still.any()
    assert moved[:, still].max() < 0.03


def test_pixels_come_from_where_their_cell_says(rig: Rig) -> None:
    """The enlargement puts a cell's value into its middle: a linear field stays linear."""
    fields = rig.fields
    linear = np.stack([fields.nodes[..., 0] * 0.1, fields.nodes[..., 1] * -0.2], axis=-1)

    origins = fields.origins(linear.astype(np.float32), rig.mouth_cells)

    rows, columns = fields.slices(rig.mouth_cells)
    y, x = np.mgrid[rows, columns].astype(float)
    cell = fields.cell_px
    column = (x - fields.left + 0.5) / cell - 0.5
    line = (y - fields.top + 0.5) / cell - 0.5
    assert np.allclose(origins[..., 0], x - 0.1 * column * cell, atol=1e-2)
    assert np.allclose(origins[..., 1], y + 0.2 * line * cell, atol=1e-2)
