"""Show a portrait's mouth shapes and how it speaks, in one picture to look at.

    python -m tools.contact_sheet PORTRAIT SPEECH OUT.jpg [--size 720] [--crop face] [--start S]

The first row shows eight visemes as still frames, the second eight frames of the speech, a fifth of
a second apart; below each row the same mouths, enlarged. No figure replaces looking at this.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.face import choose_face
from sayso.engine.motion import plan_motion
from sayso.engine.render import render_frame
from sayso.engine.rig import Rig, build_rig
from sayso.engine.shapes import NUMBER, OPENING, VISEMES, WIDTH
from sayso.engine.track import MouthFrames
from sayso.engine.visemes import find_visemes
from sayso.media.audio import read_speech
from sayso.media.image import read_picture

Bgr = npt.NDArray[np.uint8]

SHOWN: Final = ("PP", "FF", "TH", "SS", "ih", "aa", "oh", "ou")
TILE_PX: Final = 240
FPS: Final = 25
STEP_S: Final = 0.2
FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
# Each still is the last of so many equal frames, so that smoothing has settled.
HELD_FRAMES: Final = 25


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheet that the command line asks for."""
    options = _parser().parse_args(arguments)
    face = choose_face(read_picture(options.portrait))
    rig = build_rig(face.picture.rgb, face.mesh, long_side_px=options.size, crop=options.crop)
    stills = [render_frame(rig, _still(rig, viseme)) for viseme in SHOWN]
    frames, times = _speaking(rig, options.speech, options.start)
    sheet = np.vstack([*_rows(rig, stills, SHOWN), *_rows(rig, frames, times)])
    quality = [cv2.IMWRITE_JPEG_QUALITY, 86]
    if not cv2.imwrite(str(options.out), sheet, quality):
        raise SystemExit(f"cannot write {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="contact_sheet", description=__doc__)
    parser.add_argument("portrait", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=720, help="the frame's long side, px")
    parser.add_argument("--crop", choices=("picture", "face"), default="picture")
    parser.add_argument("--start", type=float, default=1.0, help="where in the speech, s")
    return parser


def _still(rig: Rig, viseme: str) -> npt.NDArray[np.float32]:
    """Return the row of a viseme that is held, the head at rest."""
    number = NUMBER[viseme]

    def held(value: float) -> npt.NDArray[np.float32]:
        return np.full(HELD_FRAMES, value, np.float32)

    mouth = MouthFrames(
        fps=FPS,
        open=held(float(OPENING[number])),
        wide=held(float(WIDTH[number])),
        close=held(float(viseme == "PP")),
        tuck=held(float(viseme == "FF")),
        speech=held(1.0),
        weights=np.tile(np.eye(len(VISEMES), dtype=np.float32)[number], (HELD_FRAMES, 1)),
    )
    return np.asarray(plan_motion(mouth, fps=FPS, seed=0, rig=rig).rows[0], np.float32)


def _speaking(rig: Rig, speech: Path, start_s: float) -> tuple[list[Bgr], list[str]]:
    """Return eight frames of the speech and their times."""
    heard = read_speech(speech)
    n_frames = int(heard.duration_s * FPS)
    mouth = find_visemes(heard).sample(FPS, n_frames)
    motion = plan_motion(mouth, fps=FPS, seed=1, rig=rig)
    numbers = [round((start_s + STEP_S * step) * FPS) for step in range(len(SHOWN))]
    numbers = [min(number, n_frames - 1) for number in numbers]
    frames = [render_frame(rig, motion.rows[number]) for number in numbers]
    return frames, [f"{number / FPS:.2f} s" for number in numbers]


def _rows(rig: Rig, frames: Sequence[Bgr], names: Sequence[str]) -> tuple[Bgr, Bgr]:
    """Return a row of whole faces and a row of their mouths."""
    mouth = rig.anatomy.mouth
    unit = mouth.px_per_cm
    faces = [_tile(frame, rig.anatomy.middle, 13.0 * unit, 13.0 * unit) for frame in frames]
    middle = mouth.origin + 0.6 * unit * mouth.down
    mouths = [_tile(frame, middle, 4.0 * unit, 2.6 * unit) for frame in frames]
    for tile, name in zip(faces, names, strict=True):
        (width, _), _ = cv2.getTextSize(name, FONT, 0.5, 1)
        cv2.rectangle(tile, (0, 0), (width + 12, 24), (0, 0, 0), cv2.FILLED)
        cv2.putText(tile, name, (6, 17), FONT, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.hstack(faces), np.hstack(mouths)


def _tile(frame: Bgr, middle: npt.NDArray[np.float64], half_x: float, half_y: float) -> Bgr:
    """Cut a part out of a frame and bring it to the tile's width; black beyond the frame."""
    scale = TILE_PX / (2 * half_x)
    size = (TILE_PX, round(2 * half_y * scale))
    shift = np.array([half_x, half_y]) - middle
    matrix = scale * np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    return np.asarray(cv2.warpAffine(frame, matrix, size, flags=how), np.uint8)


if __name__ == "__main__":
    main()
