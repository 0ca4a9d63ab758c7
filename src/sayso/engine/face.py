"""Which face of a picture is to speak, and whether it can.

    choose_face(picture) -> FaceChoice   the face to animate, upright, with its mesh
    is_mouth_hidden(rgb, mesh) -> bool   whether the lips can be seen at all

It also turns pictures that lie on their side and refuses faces that would not look right: too
small, turned away, cut by the border. Faces are found in `face_search`, their points in
`face_mesh`; both run the networks of `face_nets`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from sayso.engine.cielab import lab_of
from sayso.engine.face_halves import shows_half_a_face
from sayso.engine.face_mesh import Face, Mesh, Pose, Rgb, mesh_of
from sayso.engine.face_search import find_faces
from sayso.errors import (
    FaceCut,
    FaceTooSmall,
    FaceTurned,
    ImageRejected,
    NoFace,
    NoSuchFace,
    Notice,
)
from sayso.media.image import Picture

__all__ = [
    "Face",
    "FaceChoice",
    "Mesh",
    "Pose",
    "choose_face",
    "find_faces",
    "is_mouth_hidden",
    "mesh_of",
]

# A face this much smaller than the largest is somebody in the background.
_BYSTANDER_SHARE: Final = 0.25
# Measured on nine portraits each way up: whole faces from the front have a mesh score of .999 and
# more, but so do some that stand on their head. The detector's score parts those: upright .82 to
# .98, upside down .82 and less.
_SURE_SCORE: Final = 0.99
_SURE_PROPOSAL: Final = 0.85
# Looking at a picture in four ways gives four chances to see a face in an emblem or a fold.
_TURNED_PROPOSAL_MIN: Final = 0.75
# A head that leans further lies in a picture that lies on its side.
_LEAN_MAX_DEG: Final = 60.0

# What can be animated. Beyond these the result is a smear, not a face: there are no pixels of the
# far cheek, or too few of the lips.
WIDTH_MIN_PX: Final = 64
# Six portraits at widths of 66 to 150: lips follow the speech equally well (r .97 to .99), and all
# gates are passed. Below this a face fills a video of the usual size only when much enlarged.
WIDTH_GOOD_PX: Final = 80
YAW_MAX_DEG: Final = 35.0
PITCH_MAX_DEG: Final = 30.0
TURN_GOOD_DEG: Final = 20.0

# The outline of the lips and the chin: what the jaw moves.
_MOUTH: Final = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375),
    *(291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
)
_CHIN: Final = (148, 152, 377)
# The mesh overshoots the chin of a closely cropped face by a pixel or two.
_BORDER_SLACK_CM: Final = 0.3
_OUTSIDE_SHARE_MAX: Final = 0.25
_CUT: Final = (
    "The face is cut off by the picture's border. The whole face must be in the picture,"
    " mouth and chin above all."
)

_INNER_LIPS_UPPER: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_INNER_LIPS_LOWER: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
# Lightness (0..100) across the lips varies by 20 and more on photos and paintings, by 8 or less
# under masks, hands and thick beards; dark pictures have less of all, hence the ratio.
_LIP_CONTRAST_MIN: Final = 10.0
_LIP_CONTRAST_RATIO_MIN: Final = 0.25


@dataclass(frozen=True, eq=False)
class FaceChoice:
    """The face that will speak.

    `picture` is the picture given, turned upright if it lay on its side; `mesh` is in its pixels.
    `faces` are the faces to choose from, left to right: `number` counts them from 1. `notices` are
    the picture's own and those about the face.
    """

    picture: Picture
    mesh: Mesh
    faces: tuple[Face, ...]
    number: int
    notices: tuple[Notice, ...]


def choose_face(picture: Picture, *, number: int | None = None) -> FaceChoice:
    """Choose the face to animate: the largest, or by `number`, counted from 1 left to right.

    Faces less than a quarter as large as the largest are bystanders and are not counted.

    Raises `NoFace`, `NoSuchFace`, `FaceTooSmall` (less than 64 px across), `FaceTurned` (more than
    35 degrees to a side, 30 up or down) and `FaceCut` (mouth or chin outside the picture).
    """
    rgb, faces = _upright_faces(picture.rgb)
    if not faces and shows_half_a_face(picture.rgb):
        raise FaceCut(_CUT)
    if not faces:
        raise NoFace(
            "No face was found in the picture. It should show a whole face from the front."
        )
    if number is not None or len(faces) > 1:
        faces = find_faces(rgb, tiles="always") or faces
    near = [face for face in faces if face.size_px >= _BYSTANDER_SHARE * faces[0].size_px]
    faces = tuple(sorted(near, key=lambda face: face.middle[0]))
    notices = list(picture.notices)
    if rgb is not picture.rgb:
        notices.append(
            Notice("picture_turned", "The picture lay on its side; it was turned upright.")
        )
    chosen = _largest(faces) if number is None else number
    if not 1 <= chosen <= len(faces):
        shown = "one face" if len(faces) == 1 else f"{len(faces)} faces, counted from the left"
        raise NoSuchFace(f"There is no face number {chosen}: the picture shows {shown}.")
    crowd = (
        f"The picture shows {len(faces)} faces; number {chosen} from the left was chosen,"
        " another can be with --face N."
    )
    if number is None and len(faces) > 1:
        notices.append(Notice("several_faces", f"The largest face speaks. {crowd}"))
    mesh = mesh_of(rgb, faces[chosen - 1])
    try:
        notices += _judge(rgb, mesh)
    except ImageRejected as error:
        if len(faces) == 1:
            raise
        raise type(error)(f"{error} {crowd}") from error
    return FaceChoice(
        picture=picture if rgb is picture.rgb else replace(picture, rgb=rgb),
        mesh=mesh,
        faces=faces,
        number=chosen,
        notices=tuple(notices),
    )


def _upright_faces(rgb: Rgb) -> tuple[Rgb, tuple[Face, ...]]:
    """Return the picture the way its best face is upright, and the faces it then has.

    The other three ways are tried only if the picture as it is does not show an upright face for
    sure.
    """
    faces = find_faces(rgb)
    if faces and _is_surely_upright(faces[0]):
        return rgb, faces
    best, best_rgb, best_faces = _uprightness(faces), rgb, faces
    for quarters in (1, 3, 2):
        turned = np.ascontiguousarray(np.rot90(rgb, quarters))
        found = _without_doubtful(find_faces(turned, tiles="never" if faces else "if_needed"))
        if _uprightness(found) > best:
            best, best_rgb, best_faces = _uprightness(found), turned, found
    return best_rgb, best_faces


def _without_doubtful(faces: tuple[Face, ...]) -> tuple[Face, ...]:
    return tuple(
        face
        for face in faces
        if face.score >= _SURE_SCORE and face.proposal >= _TURNED_PROPOSAL_MIN
    )


def _is_surely_upright(face: Face) -> bool:
    return (
        face.score >= _SURE_SCORE
        and face.proposal >= _SURE_PROPOSAL
        and _lean_deg(face) <= _LEAN_MAX_DEG
    )


def _uprightness(faces: tuple[Face, ...]) -> tuple[bool, float]:
    """Rank a way of holding the picture by its largest face."""
    if not faces:
        return False, 0.0
    return _lean_deg(faces[0]) <= _LEAN_MAX_DEG, faces[0].proposal


def _lean_deg(face: Face) -> float:
    (right_x, right_y), (left_x, left_y) = face.eyes
    return abs(float(np.degrees(np.arctan2(left_y - right_y, left_x - right_x))))


def _largest(faces: tuple[Face, ...]) -> int:
    return max(range(len(faces)), key=lambda at: faces[at].size_px * faces[at].score) + 1


def _judge(rgb: Rgb, mesh: Mesh) -> list[Notice]:
    """Raise if the face cannot be animated; return what will make it look less than good."""
    notices = [*_judge_size(mesh), *_judge_turn(mesh.pose)]
    _judge_place(rgb, mesh)
    if is_mouth_hidden(rgb, mesh):
        notices.append(
            Notice(
                "mouth_hidden",
                "The lips can hardly be seen; behind a mask, a hand or a beard only the jaw moves.",
            )
        )
    return notices


def _judge_size(mesh: Mesh) -> list[Notice]:
    width_px = round(mesh.width_px)
    if width_px < WIDTH_MIN_PX:
        raise FaceTooSmall(
            f"The face is only {width_px} pixels wide; at least {WIDTH_MIN_PX} are needed."
            " Use a larger picture."
        )
    if width_px < WIDTH_GOOD_PX:
        return [
            Notice(
                "face_small",
                f"The face is only {width_px} pixels wide; a larger picture would look sharper.",
            )
        ]
    return []


def _judge_turn(pose: Pose) -> list[Notice]:
    yaw_deg = round(abs(float(np.degrees(pose.yaw_rad))))
    pitch_deg = round(abs(float(np.degrees(pose.pitch_rad))))
    if yaw_deg > YAW_MAX_DEG:
        raise FaceTurned(
            f"The face is turned {yaw_deg} degrees to the side; up to {YAW_MAX_DEG:.0f} can be"
            " animated. Use a picture from the front."
        )
    if pitch_deg > PITCH_MAX_DEG:
        way = "down" if pose.pitch_rad > 0 else "up"
        raise FaceTurned(
            f"The face looks {pitch_deg} degrees {way}; up to {PITCH_MAX_DEG:.0f} can be animated."
            " Use a picture from the front."
        )
    if max(yaw_deg, pitch_deg) > TURN_GOOD_DEG:
        return [
            Notice(
                "face_turned",
                f"The face is turned {max(yaw_deg, pitch_deg)} degrees away; it looks best from the"
                " front.",
            )
        ]
    return []


def _judge_place(rgb: Rgb, mesh: Mesh) -> None:
    height, width = rgb.shape[:2]
    slack_px = _BORDER_SLACK_CM * mesh.pose.scale_px_per_cm
    x, y = mesh.points[:, 0], mesh.points[:, 1]
    outside = (
        (x < -slack_px) | (y < -slack_px) | (x > width - 1 + slack_px) | (y > height - 1 + slack_px)
    )
    if outside[[*_MOUTH, *_CHIN]].any() or outside.mean() > _OUTSIDE_SHARE_MAX:
        raise FaceCut(_CUT)


def is_mouth_hidden(rgb: Rgb, mesh: Mesh) -> bool:
    """Whether lightness hardly changes across the lips, along lines from the nose to the chin."""
    scale = mesh.pose.scale_px_per_cm
    flat = mesh.points[:, :2]
    line = (flat[list(_INNER_LIPS_UPPER)] + flat[list(_INNER_LIPS_LOWER)]) / 2
    along = (line[-1] - line[0]) / np.hypot(*(line[-1] - line[0]))
    across = np.array([-along[1], along[0]]) * scale
    # The corners of the mouth say little, so they are left out.
    places = np.linspace(1.5, len(line) - 2.5, 15)
    middle = np.stack([np.interp(places, range(len(line)), line[:, axis]) for axis in (0, 1)], 1)
    points = middle[:, None] + np.linspace(-0.8, 0.8, 33)[:, None] * across
    smooth = cv2.GaussianBlur(rgb, (0, 0), max(0.05 * scale, 0.3))
    samples = cv2.remap(
        smooth,
        points[..., 0].astype(np.float32),
        points[..., 1].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    lightness = lab_of(np.asarray(samples[..., ::-1], np.uint8))[..., 0]
    highest = lightness.max(axis=1)
    contrast = highest - lightness.min(axis=1)
    ratio = contrast / np.maximum(highest, 1.0)
    return bool(
        np.median(contrast) < _LIP_CONTRAST_MIN and np.median(ratio) < _LIP_CONTRAST_RATIO_MIN
    )
