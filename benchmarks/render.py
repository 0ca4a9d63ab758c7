"""What a frame costs, stage by stage: CPU ms, and the ratio to one plain cubic remap of the frame.

The remap is the least that any warping renderer does: one `cv2.remap` (cubic) of the whole frame,
measured in the same run, in turns with the stages, so that a busy machine slows both alike. Each
figure is the median of many. The portrait is the sample, cropped to the face and whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.face import choose_face
from sayso.engine.fields import LOW, UP
from sayso.engine.lids import close_lids
from sayso.engine.mouth import draw_mouth
from sayso.engine.params import COLUMN, COLUMNS
from sayso.engine.planes import planes_of
from sayso.engine.render import render_frame
from sayso.engine.resample import look_up_sharply
from sayso.engine.rig import Rig, build_rig
from sayso.media.image import read_picture

PORTRAIT: Final = Path(__file__).resolve().parent.parent / "examples" / "portrait.jpg"
ROUNDS: Final = 40
CASES: Final[tuple[tuple[int, Literal["face", "picture"]], ...]] = (
    (512, "face"),
    (512, "picture"),
    (720, "face"),
    (720, "picture"),
)
# An open mouth, a turned head and a blink at once: nothing is skipped.
ROW: Final = {"jaw": 0.35, "uplip": 0.2, "lowlip": 0.2, "spread": 0.2, "yaw": 0.03, "blink": 0.5}


def main() -> None:
    cv2.setNumThreads(1)
    face = choose_face(read_picture(PORTRAIT))
    print("| frame | stage | CPU ms | of a plain cubic remap |")
    print("|---|---|---|---|")
    for long_side_px, crop in CASES:
        start_s = time.process_time()
        rig = build_rig(face.picture.rgb, face.mesh, long_side_px=long_side_px, crop=crop)
        rigging_ms = 1000 * (time.process_time() - start_s)
        costs = measure(stages_of(rig))
        plain_ms = costs.pop("plain cubic remap")
        name = f"{rig.width} x {rig.height}, {crop}"
        for stage, cost_ms in costs.items():
            print(f"| {name} | {stage} | {cost_ms:.2f} | {cost_ms / plain_ms:.2f} |")
        print(f"| {name} | plain cubic remap | {plain_ms:.2f} | 1.00 |")
        print(f"| {name} | the rig, once | {rigging_ms:.0f} | {rigging_ms / plain_ms:.0f} |")


def stages_of(rig: Rig) -> dict[str, Callable[[], object]]:
    """Return each stage of a frame, ready to be called."""
    row = row_of(ROW)
    fields = rig.fields
    forward = fields.forward(row)
    backward = fields.backward(forward)
    base = np.where(rig.is_low, backward[LOW], backward[UP])
    source = rig.picture.copy()
    frame = source.copy()
    still = planes_of(rig.picture)
    stage = frame[rig.stage].copy()
    corner = (rig.stage[1].start, rig.stage[0].start)
    x, y = np.meshgrid(np.arange(rig.width), np.arange(rig.height))
    moved = np.stack([x + 0.3, y + 0.3], axis=-1).astype(np.float32)

    def move() -> None:
        for band in fields.moving:
            frame[fields.slices(band)] = look_up_sharply(source, fields.origins(base, band))

    return {
        "plain cubic remap": lambda: look_up_sharply(source, moved),
        "whole frame": lambda: render_frame(rig, row),
        "fields": lambda: fields.forward(row),
        "inverse": lambda: fields.backward(forward),
        "moving bands": move,
        "mouth": lambda: draw_mouth(rig, row, source, backward),
        "planes": lambda: still.with_part(stage, at=corner),
        "blink": lambda: close_lids(source, rig.lids, 0.5),
    }


def row_of(columns: dict[str, float]) -> npt.NDArray[np.float32]:
    """Return a motion row with the given columns, 0 elsewhere."""
    row = np.zeros(len(COLUMNS), np.float32)
    for name, value in columns.items():
        row[COLUMN[name]] = value
    return row


def measure(stages: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return each stage's median CPU time, ms, the stages taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in stages}
    for round_number in range(ROUNDS + 3):
        for name, stage in stages.items():
            start_s = time.thread_time()
            stage()
            # The first rounds warm the caches.
            if round_number >= 3:
                taken[name].append(1000 * (time.thread_time() - start_s))
    return {name: float(np.median(costs)) for name, costs in taken.items()}


if __name__ == "__main__":
    main()
