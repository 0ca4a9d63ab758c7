"""Where the faces are in a picture.

    find_faces(rgb) -> tuple[Face, ...]   every true face, largest first

BlazeFace proposes, in the whole picture and then in tiles; the mesh network's own score decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

import numpy as np

from sayso.engine.face_mesh import Face, Rgb, look_at, resized, shrink
from sayso.engine.face_nets import PROPOSAL_SIDE_PX, propose

# BlazeFace's own score calls flags and folded hands faces with up to .71, so it only proposes. The
# mesh's score of a whole face from the front is .999 and more, of a profile .82 and more; but
# emblems, cats and folds in cloth reach .98 now and then, none of which the detector believed in.
_PROPOSAL_MIN: Final = 0.5
_SURE_SCORE: Final = 0.99
_SURE_PROPOSAL: Final = 0.75
_LIKELY_SCORE: Final = 0.8

# A face of this share of the picture leaves nothing of its size to be found in tiles.
_LARGE_SHARE: Final = 0.12
_TILE_SHARES: Final = (1.0, 0.6, 0.4)
# Smaller tiles would show faces too small to animate, and a narrow strip has thousands of them.
_TILE_SIDE_MIN_PX: Final = 64
_SAME_FACE_IOU: Final = 0.3
# Detection sees 128 px, so a larger picture than this only costs time.
_SEARCH_SIDE_PX: Final = 1280


def find_faces(
    rgb: Rgb, *, tiles: Literal["if_needed", "always", "never"] = "if_needed"
) -> tuple[Face, ...]:
    """Return the faces of an RGB picture, largest first; an empty tuple if there is none.

    The whole picture is looked at first (about 10 ms). If that shows no large face, overlapping
    tiles are searched as well (0.1 to 0.3 s): faces down to about 24 px are found. Heads may lean
    by about 60 degrees.
    """
    small, factor = shrink(rgb, _SEARCH_SIDE_PX / max(rgb.shape[:2]))
    short, long = sorted(small.shape[:2])
    faces = _true_faces(small, _propose_in(small, (0, 0, long)))
    is_large = bool(faces) and faces[0].size_px >= _LARGE_SHARE * short
    if tiles == "always" or (tiles == "if_needed" and not is_large):
        faces = _true_faces(small, [*faces, *_propose_in_tiles(small)])
    return tuple(_scaled(face, 1.0 / factor) for face in faces)


def _true_faces(rgb: Rgb, candidates: list[Face]) -> list[Face]:
    """Return what the mesh agrees to be faces, each once, largest first."""
    looked_at = (look_at(rgb, candidate) for candidate in _without_repeats(candidates))
    faces = [face for face in looked_at if _is_face(face)]
    return sorted(faces, key=lambda face: face.size_px * face.score, reverse=True)


def _is_face(face: Face) -> bool:
    return face.score >= _SURE_SCORE or (
        face.score >= _LIKELY_SCORE and face.proposal >= _SURE_PROPOSAL
    )


def _propose_in_tiles(rgb: Rgb) -> list[Face]:
    """Search overlapping squares of three sizes, each half a side further than the last."""
    height, width = rgb.shape[:2]
    faces: list[Face] = []
    for share in _TILE_SHARES:
        side = max(round(share * min(height, width)), _TILE_SIDE_MIN_PX)
        for top in _tile_starts(height, side):
            for left in _tile_starts(width, side):
                faces += _propose_in(rgb, (left, top, side))
    return faces


def _tile_starts(length: int, side: int) -> list[int]:
    room = max(length - side, 0)
    return [round(start) for start in np.linspace(0, room, int(np.ceil(room / (side / 2))) + 1)]


def _propose_in(rgb: Rgb, square: tuple[int, int, int]) -> list[Face]:
    """Return the candidates within a square (left, top, side); beyond the picture it is black."""
    left, top, side = square
    square_px = np.zeros((side, side, 3), np.uint8)
    tile = rgb[top : top + side, left : left + side]
    square_px[: tile.shape[0], : tile.shape[1]] = tile
    found = propose(resized(square_px, (PROPOSAL_SIDE_PX, PROPOSAL_SIDE_PX)))
    corner = np.array([left, top], np.float64)
    faces = []
    for index in np.flatnonzero(found.scores >= _PROPOSAL_MIN):
        low = corner + side * (found.centers[index] - found.sizes[index] / 2)
        high = corner + side * (found.centers[index] + found.sizes[index] / 2)
        eyes = corner + side * found.eyes[index]
        faces.append(
            Face(
                box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
                score=0.0,
                proposal=float(found.scores[index]),
                eyes=(
                    (float(eyes[0, 0]), float(eyes[0, 1])),
                    (float(eyes[1, 0]), float(eyes[1, 1])),
                ),
            )
        )
    return faces


def _without_repeats(faces: list[Face]) -> list[Face]:
    """Keep the best of each group of overlapping boxes (non-maximum suppression)."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.proposal, reverse=True):
        if all(_overlap(face, other) < _SAME_FACE_IOU for other in kept):
            kept.append(face)
    return kept


def _overlap(one: Face, other: Face) -> float:
    """Return the boxes' shared area over their united area."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in (one, other)]
    return shared / (sum(areas) - shared)


def _scaled(face: Face, factor: float) -> Face:
    left, top, right, bottom = (edge * factor for edge in face.box)
    (right_x, right_y), (left_x, left_y) = face.eyes
    return replace(
        face,
        box=(left, top, right, bottom),
        eyes=((right_x * factor, right_y * factor), (left_x * factor, left_y * factor)),
    )
