"""Likeness: alike pictures score 1, and each kind of harm lowers what it should."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.face_mesh import Mesh, mesh_of
from sayso.engine.face_search import find_faces
from sayso.engine.likeness import (
    Regions,
    aligned,
    gray_of,
    mean_within,
    regions_of,
    shape_distance,
    sharpness,
    similarity_map,
)
from sayso.media.image import read_picture
from tests.conftest import EXAMPLES

Gray = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    rgb = read_picture(EXAMPLES / "portrait.jpg").rgb
    return mesh_of(rgb, find_faces(rgb)[0])


@pytest.fixture(scope="module")
def gray() -> Gray:
    return gray_of(read_picture(EXAMPLES / "portrait.jpg").rgb)


@pytest.fixture(scope="module")
def regions(mesh: Mesh, gray: Gray) -> Regions:
    return regions_of(mesh.points, *gray.shape)


def moved(gray: Gray, back: npt.NDArray[np.float64]) -> Gray:
    height, width = gray.shape
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(gray, back, (width, height), flags=flags), np.float32)


def test_picture_is_like_itself(gray: Gray) -> None:
    assert similarity_map(gray, gray).min() == pytest.approx(1.0, abs=1e-3)


def test_similarity_falls_with_noise_and_blur(gray: Gray) -> None:
    noise = np.random.default_rng(1).normal(0, 10, gray.shape).astype(np.float32)

    assert similarity_map(gray, gray + noise).mean() < 0.8
    assert similarity_map(gray, np.asarray(cv2.GaussianBlur(gray, (0, 0), 2.0))).mean() < 0.9


def test_regions_part_the_frame(regions: Regions, mesh: Mesh, gray: Gray) -> None:
    left_eye, chin, lip = (tuple(mesh.points[at, 1::-1].astype(int)) for at in (159, 152, 13))

    assert (regions.face[left_eye], regions.face[chin], regions.face[lip]) == (255, 0, 0)
    assert (regions.mouth[left_eye], regions.mouth[lip]) == (0, 255)
    assert not (regions.background & (regions.face | regions.mouth)).any()
    assert (regions.border > 0).sum() == gray.size - (gray.shape[0] - 24) * (gray.shape[1] - 24)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.6, -0.4), (2.5, 1.5)])
def test_moved_face_is_laid_back_to_a_fraction_of_a_pixel(
    gray: Gray, mesh: Mesh, regions: Regions, shift: tuple[float, float]
) -> None:
    back = np.array([[1.01, 0.02, -shift[0] - 7.0], [-0.02, 0.99, -shift[1] + 5.0]])
    frame = moved(gray, back)
    # What a mesh would say of the moved frame, off by a pixel as meshes are.
    points = mesh.points.copy()
    exact = np.linalg.solve(back[:, :2], (points[:, :2] - back[:, 2]).T).T
    points[:, :2] = exact + np.array([0.8, -0.7])

    upright = aligned(frame, points, gray, mesh.points, regions.face)

    assert mean_within(similarity_map(upright, gray), regions.face) > 0.97
    assert mean_within(similarity_map(frame, gray), regions.face) < 0.8


def test_unlike_picture_is_still_laid_by_its_points(
    gray: Gray, mesh: Mesh, regions: Regions
) -> None:
    noise = np.random.default_rng(2).uniform(0, 255, gray.shape).astype(np.float32)

    upright = aligned(noise, mesh.points, gray, mesh.points, regions.face)

    assert mean_within(similarity_map(upright, gray), regions.face) < 0.2


def test_shape_does_not_change_with_place_size_and_tilt(mesh: Mesh) -> None:
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])

    assert shape_distance(3.0 * mesh.points @ turn + 40.0, mesh.points) < 1e-9


def test_wider_face_is_another_shape(mesh: Mesh) -> None:
    assert shape_distance(mesh.points * (1.1, 1.0, 1.0), mesh.points) > 0.02


def test_blur_takes_sharpness(gray: Gray, regions: Regions) -> None:
    blurred = np.asarray(cv2.GaussianBlur(gray, (0, 0), 1.0), np.float32)

    assert sharpness(blurred, regions.face) < 0.3 * sharpness(gray, regions.face)
