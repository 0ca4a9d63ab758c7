"""The face that speaks is chosen and judged before any work, with a sentence if it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.face import FaceChoice, _judge_turn, choose_face
from sayso.engine.face_mesh import Mesh, pose_of
from sayso.engine.face_nets import canonical_points
from sayso.errors import (
    FaceCut,
    FaceTooSmall,
    FaceTurned,
    ImageRejected,
    NoFace,
    NoSuchFace,
    Notice,
)
from sayso.media.image import Picture, read_picture
from tests.conftest import EXAMPLES

Rgb = npt.NDArray[np.uint8]

# Where the head of the sample is: left, top, right, bottom.
HEAD = (130, 0, 330, 220)


@pytest.fixture(scope="module")
def sample() -> Rgb:
    return read_picture(EXAMPLES / "portrait.jpg").rgb


def chosen_in(rgb: npt.ArrayLike, *, number: int | None = None) -> FaceChoice:
    return choose_face(Picture(np.ascontiguousarray(rgb, np.uint8)), number=number)


def scaled(rgb: Rgb, factor: float) -> Rgb:
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=kind), np.uint8)


def side_by_side(sample: Rgb, *factors: float) -> Rgb:
    """Heads of several sizes on gray, from left to right."""
    left, top, right, bottom = HEAD
    heads = [scaled(sample[top:bottom, left:right], factor) for factor in factors]
    width = sum(head.shape[1] for head in heads)
    canvas = np.full((max(head.shape[0] for head in heads), width, 3), 128, np.uint8)
    at = 0
    for head in heads:
        canvas[: head.shape[0], at : at + head.shape[1]] = head
        at += head.shape[1]
    return canvas


def codes(choice: FaceChoice) -> list[str]:
    return [notice.code for notice in choice.notices]


# One face.


def test_sample_can_speak(sample: Rgb) -> None:
    choice = chosen_in(sample)

    assert choice.number == 1
    assert len(choice.faces) == 1
    assert choice.mesh.score > 0.99
    assert codes(choice) == []


def test_small_face_is_told(sample: Rgb) -> None:
    assert codes(chosen_in(scaled(sample, 0.75))) == ["face_small"]


def test_notices_of_the_picture_are_kept(sample: Rgb) -> None:
    told = Notice("picture_animated", "The picture is animated; its first frame is used.")

    choice = choose_face(Picture(sample, (told,)))

    assert choice.notices[0] == told


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rgb: rgb * 0.15, id="dark"),
        pytest.param(lambda rgb: 140 + rgb * 0.45, id="pale"),
        pytest.param(lambda rgb: np.repeat(rgb.mean(axis=2, keepdims=True), 3, axis=2), id="gray"),
        pytest.param(lambda rgb: rgb[:, ::-1], id="mirrored"),
        pytest.param(lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 2.0), id="blurred"),
        pytest.param(
            lambda rgb: np.pad(scaled(rgb, 1.5), ((900, 900), (2000, 100), (0, 0))), id="far off"
        ),
    ],
)
def test_face_is_found_however_it_looks(
    sample: Rgb, change: Callable[[Rgb], npt.ArrayLike]
) -> None:
    assert chosen_in(change(sample)).mesh.score > 0.9


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_picture_on_its_side_is_turned_upright(sample: Rgb, quarters: int) -> None:
    upright = chosen_in(sample)

    choice = chosen_in(np.rot90(sample, quarters))

    assert "picture_turned" in codes(choice)
    assert np.array_equal(choice.picture.rgb, sample)
    assert np.array_equal(choice.mesh.points, upright.mesh.points)


# Several faces.


@pytest.mark.parametrize(
    ("factors", "largest"), [((1.2, 1.5, 1.3), 2), ((1.6, 1.2, 1.0), 1), ((1.0, 1.4), 2)]
)
def test_largest_of_several_faces_speaks(
    sample: Rgb, factors: tuple[float, ...], largest: int
) -> None:
    choice = chosen_in(side_by_side(sample, *factors))

    assert choice.number == largest
    assert [face.middle[0] for face in choice.faces] == sorted(
        face.middle[0] for face in choice.faces
    )
    (notice,) = (notice for notice in choice.notices if notice.code == "several_faces")
    assert f"{len(factors)} faces; number {largest} from the left" in notice.text
    assert "--face N" in notice.text


@pytest.mark.parametrize("number", [1, 2, 3])
def test_face_is_chosen_by_its_number_from_the_left(sample: Rgb, number: int) -> None:
    choice = chosen_in(side_by_side(sample, 1.2, 1.5, 1.3), number=number)

    assert choice.number == number
    left, _, right, _ = choice.faces[number - 1].box
    assert left < choice.mesh.points[:, 0].mean() < right
    assert "several_faces" not in codes(choice)


@pytest.mark.parametrize("number", [-1, 0, 3])
def test_face_that_is_not_there_is_refused(sample: Rgb, number: int) -> None:
    with pytest.raises(NoSuchFace, match=f"no face number {number}: the picture shows 2 faces"):
        chosen_in(side_by_side(sample, 1.2, 1.5), number=number)


def test_bystanders_are_not_counted(sample: Rgb) -> None:
    choice = chosen_in(side_by_side(sample, 0.5, 3.0))

    assert len(choice.faces) == 1
    assert "several_faces" not in codes(choice)


def test_refusal_of_one_of_several_says_how_to_choose_another(sample: Rgb) -> None:
    with pytest.raises(FaceTooSmall, match=r"shows 2 faces; number 1 .*--face N"):
        chosen_in(side_by_side(sample, 0.6, 1.5), number=1)


# Refusals.


def test_picture_without_a_face_is_refused(sample: Rgb) -> None:
    with pytest.raises(NoFace, match="No face was found"):
        chosen_in(sample[280:])


@pytest.mark.parametrize(("factor", "width"), [(0.6, 60), (0.4, 40)])
def test_small_face_is_refused(sample: Rgb, factor: float, width: int) -> None:
    with pytest.raises(FaceTooSmall, match=r"only (\d+) pixels wide; at least 64") as caught:
        chosen_in(scaled(sample, factor))

    assert int(str(caught.value).split("only ")[1].split(" ")[0]) == pytest.approx(width, abs=3)


@pytest.mark.parametrize(
    "box", [(0, 0, 512, 150), (0, 0, 512, 168), (232, 0, 512, 512), (0, 0, 226, 512)]
)
def test_face_cut_by_the_border_is_refused(sample: Rgb, box: tuple[int, int, int, int]) -> None:
    """At the mouth, at the chin, and through the middle, which hides that it is a face at all."""
    left, top, right, bottom = box

    with pytest.raises(FaceCut, match="whole face"):
        chosen_in(scaled(sample, 1.5)[_times(top) : _times(bottom), _times(left) : _times(right)])


def _times(px: int) -> int:
    return round(1.5 * px)


def test_face_that_touches_the_border_with_its_chin_can_speak(sample: Rgb) -> None:
    larger = scaled(sample, 1.5)
    chin = chosen_in(larger).mesh.points[152, 1]

    assert chosen_in(larger[: round(chin) + 4]).mesh.score > 0.99


@pytest.mark.parametrize(
    ("yaw_deg", "pitch_deg", "outcome"),
    [
        (0, 0, None),
        (19, -19, None),
        (-24, 0, "face_turned"),
        (0, 26, "face_turned"),
        (34, 0, "face_turned"),
        (36.5, 0, FaceTurned),
        (-50, 5, FaceTurned),
        (0, 32, FaceTurned),
        (3, -40, FaceTurned),
    ],
)
def test_turned_head_is_told_or_refused(
    yaw_deg: float, pitch_deg: float, outcome: str | type[ImageRejected] | None
) -> None:
    pose = head_turned(yaw_deg, pitch_deg).pose

    if isinstance(outcome, type):
        with pytest.raises(outcome, match="from the front"):
            _judge_turn(pose)
    else:
        assert [notice.code for notice in _judge_turn(pose)] == ([outcome] if outcome else [])


def test_mask_over_the_mouth_is_told(sample: Rgb) -> None:
    larger = scaled(sample, 2.0)
    flat = chosen_in(larger).mesh.points[:, :2]
    jaw = flat[[234, 132, 172, 150, 152, 379, 397, 361, 454, 4]]
    cv2.fillPoly(larger, [np.rint(jaw).astype(np.int32)], (150, 190, 205))

    assert "mouth_hidden" in codes(chosen_in(cv2.GaussianBlur(larger, (0, 0), 1.0)))


# The evaluation media.


NEGATIVES: dict[str, type[ImageRejected] | tuple[str, ...]] = {
    "cat.jpg": NoFace,
    "cartoon_squirrel.png": NoFace,
    "back_of_head.jpg": NoFace,
    "cut_face.jpg": FaceCut,
    "profile_hypatia.jpg": FaceTurned,
    "small_face.jpg": FaceTooSmall,
    "masked_mouth.jpg": ("mouth_hidden",),
    "group.jpg": ("several_faces", "face_small", "face_turned"),
}


@pytest.mark.parametrize("name", NEGATIVES)
def test_hard_case_is_refused_or_told(shared_media: Path, name: str) -> None:
    picture = read_picture(shared_media / "negatives" / name)
    outcome = NEGATIVES[name]

    if isinstance(outcome, tuple):
        assert codes(choose_face(picture)) == list(outcome)
    else:
        with pytest.raises(outcome):
            choose_face(picture)


def test_group_has_its_ten_faces(shared_media: Path) -> None:
    group = read_picture(shared_media / "negatives" / "group.jpg")

    choices = [choose_face(group, number=number) for number in (5, 8)]

    assert len(choices[0].faces) == 10
    assert choices[0].mesh.points[0, 0] < choices[1].mesh.points[0, 0]


@pytest.mark.parametrize(
    "name",
    [
        "cartoon_man.png",
        "gypsy_girl.jpg",
        "hopper.jpg",
        "julia_jackson.jpg",
        "lincoln.jpg",
        "madeleine.jpg",
        "mona_lisa.jpg",
        "sally_ride.jpg",
    ],
)
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_portrait_can_speak_whichever_way_it_lies(
    shared_media: Path, name: str, quarters: int
) -> None:
    rgb = read_picture(shared_media / "portraits" / name).rgb

    choice = chosen_in(np.rot90(rgb, quarters))

    assert np.array_equal(choice.picture.rgb, rgb)
    assert {"several_faces", "mouth_hidden", "face_small"}.isdisjoint(codes(choice))


def head_turned(yaw_deg: float, pitch_deg: float) -> Mesh:
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    head = canonical_points() * (1.0, -1.0, -1.0)
    points = 12.0 * head @ (about_y @ about_x).T + (200.0, 200.0, 0.0)
    return Mesh(points=points, score=1.0, pose=pose_of(points))
