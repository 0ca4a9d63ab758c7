"""Faces are found and measured: the sample's points, and what must not change them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.face import Face, Mesh, find_faces, mesh_of
from sayso.engine.face_mesh import pose_of
from sayso.engine.face_nets import canonical_points

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"

Rgb = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def portrait() -> Rgb:
    bgr = cv2.imread(str(ROOT / "examples" / "portrait.jpg"))
    assert bgr is not None
    return np.ascontiguousarray(bgr[:, :, ::-1])


@pytest.fixture(scope="module")
def face(portrait: Rgb) -> Face:
    (only,) = find_faces(portrait)
    return only


@pytest.fixture(scope="module")
def mesh(portrait: Rgb, face: Face) -> Mesh:
    return mesh_of(portrait, face)


def test_sample_has_the_points_that_were_stored(mesh: Mesh) -> None:
    """The guard against a new OpenCV that runs the networks differently."""
    stored = np.load(GOLDEN / "portrait_points.npy")

    assert mesh.points.shape == (468, 3)
    assert np.abs(mesh.points - stored).max() < 0.01


def test_points_do_not_depend_on_where_the_box_lies(portrait: Rgb, face: Face, mesh: Mesh) -> None:
    left, top, right, bottom = face.box
    rng = np.random.default_rng(1)

    for _ in range(5):
        moved = rng.uniform(-0.06, 0.06, 4) * face.size_px
        box = (left + moved[0], top + moved[1], right + moved[2], bottom + moved[3])
        again = mesh_of(portrait, replace(face, box=box))

        assert rms(again.points[:, :2] - mesh.points[:, :2]) < 0.003 * face.size_px


@pytest.mark.parametrize("shift", [(7, 0), (0, 12), (-9, 5)])
def test_points_move_with_the_picture(
    portrait: Rgb, face: Face, mesh: Mesh, shift: tuple[int, int]
) -> None:
    moved = np.roll(portrait, shift[::-1], axis=(0, 1))

    (found,) = find_faces(moved)
    again = mesh_of(moved, found)

    assert rms(again.points[:, :2] - mesh.points[:, :2] - shift) < 0.005 * face.size_px


@pytest.mark.parametrize("factor", [0.7, 2.0])
def test_points_grow_with_the_picture(portrait: Rgb, face: Face, mesh: Mesh, factor: float) -> None:
    scaled = as_rgb(cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))

    (found,) = find_faces(scaled)
    again = mesh_of(scaled, found)

    wanted = (mesh.points[:, :2] + 0.5) * factor - 0.5
    assert rms(again.points[:, :2] - wanted) < 0.01 * found.size_px
    assert again.pose.scale_px_per_cm == pytest.approx(factor * mesh.pose.scale_px_per_cm, rel=0.02)


def test_noise_moves_the_points_by_less_than_a_hundredth_of_the_face(
    portrait: Rgb, face: Face, mesh: Mesh
) -> None:
    noise = np.random.default_rng(2).normal(0.0, 5.0, portrait.shape)
    noisy = np.clip(portrait + noise, 0, 255).astype(np.uint8)

    again = mesh_of(noisy, face)

    assert rms(again.points[:, :2] - mesh.points[:, :2]) < 0.01 * face.size_px


@pytest.mark.parametrize("turn", [(0.3, -0.1, 0.0), (-0.2, 0.25, 0.5), (0.0, 0.0, -1.2)])
def test_pose_of_a_turned_standard_head_is_that_turn(turn: tuple[float, float, float]) -> None:
    yaw, pitch, roll = turn
    about_x = axis_turn(pitch, (1, 2))
    about_y = axis_turn(yaw, (2, 0))
    about_z = axis_turn(roll, (0, 1))
    head = canonical_points() * (1.0, -1.0, -1.0)

    pose = pose_of(11.0 * head @ (about_z @ about_y @ about_x).T + (300.0, 200.0, 5.0))

    assert pose.scale_px_per_cm == pytest.approx(11.0)
    assert (pose.yaw_rad, pose.pitch_rad, pose.roll_rad) == pytest.approx(turn)
    assert pose.rotation == pytest.approx(about_z @ about_y @ about_x)


def test_turning_the_picture_rolls_the_head(portrait: Rgb, mesh: Mesh) -> None:
    height, width = portrait.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -20.0, 1.0)
    turned = as_rgb(cv2.warpAffine(portrait, turn, (width, height)))

    (found,) = find_faces(turned)

    # OpenCV counts degrees anticlockwise, a pose clockwise.
    rolled = mesh_of(turned, found).pose.roll_rad - mesh.pose.roll_rad
    assert rolled == pytest.approx(np.radians(20.0), abs=0.05)


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (3, 900, 3), (900, 3, 3), (200, 300, 3)], ids=lambda shape: f"{shape[:2]}"
)
def test_pictures_without_anything_hold_no_face(shape: tuple[int, int, int]) -> None:
    assert find_faces(np.full(shape, 128, np.uint8)) == ()


def test_noise_holds_no_face() -> None:
    assert find_faces(np.random.default_rng(3).integers(0, 256, (256, 256, 3), np.uint8)) == ()


def as_rgb(array: npt.ArrayLike) -> Rgb:
    return np.asarray(array, np.uint8)


def rms(vectors: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt((vectors**2).sum(axis=1).mean()))


def axis_turn(angle: float, plane: tuple[int, int]) -> npt.NDArray[np.float64]:
    one, two = plane
    turn = np.eye(3)
    turn[one, one] = turn[two, two] = np.cos(angle)
    turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
    return turn
