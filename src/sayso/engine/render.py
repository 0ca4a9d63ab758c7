"""One motion row -> one frame.

    render_frame(rig, row)           -> uint8[height, width, 3] BGR, a pure function
    render_frames(rig, motion, ...)  -> Planes in order, drawn and converted by a few threads

Where a pixel comes from is worked out on the rig's coarse grid and enlarged. What lies outside the
rig's `stage` is the picture itself, in every frame; within it each band of the head is one cubic
resampling, and the mouth is drawn over it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.fields import LOW, UP, CellBox
from sayso.engine.lids import close_lids
from sayso.engine.motion import Motion
from sayso.engine.mouth import draw_mouth
from sayso.engine.params import COLUMN
from sayso.engine.planes import Planes, planes_of
from sayso.engine.resample import look_up_sharply
from sayso.engine.rig import Rig

Frame = npt.NDArray[np.uint8]
Row = npt.NDArray[np.float32]


def render_frame(rig: Rig, row: Row) -> Frame:
    """Draw one frame, BGR uint8[rig.height, rig.width, 3]; nothing but the arguments decides it.

    `row` is float32[len(COLUMNS)], see `params`.
    """
    frame = rig.picture.copy()
    frame[rig.stage] = _draw_stage(rig, row)
    return frame


def render_frames(rig: Rig, motion: Motion, *, workers: int = 2) -> Iterator[Planes]:
    """Give the frames of a motion in order, drawn by `workers` threads; two more wait at most.

    OpenCV and numpy free the interpreter while they work, so threads are enough. Closing the
    iterator early ends them.
    """
    # Threads across frames, not within each: OpenCV's own would only fight ours. For the process.
    cv2.setNumThreads(1)
    still = planes_of(rig.picture)
    corner = (rig.stage[1].start, rig.stage[0].start)

    def draw(row: Row) -> Planes:
        return still.with_part(_draw_stage(rig, row), at=corner)

    pending: deque[Future[Planes]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="render") as pool:
        try:
            for row in motion.rows:
                if len(pending) == workers + 2:
                    yield pending.popleft().result()
                pending.append(pool.submit(draw, row))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _draw_stage(rig: Rig, row: Row) -> Frame:
    """Draw all that may differ from the picture, BGR uint8[h, w, 3] as large as `rig.stage`."""
    fields = rig.fields
    backward = fields.backward(fields.forward(row))
    source = rig.picture
    blink = float(row[COLUMN["blink"]])
    if blink > 0.0:
        source = source.copy()
        close_lids(source, rig.lids, blink)
    stage = source[rig.stage].copy()
    top, left = (part.start for part in rig.stage)

    def place(box: CellBox) -> tuple[slice, slice]:
        rows, columns = fields.slices(box)
        return (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )

    base = np.where(rig.is_low, backward[LOW], backward[UP])
    for band in fields.moving:
        stage[place(band)] = look_up_sharply(source, fields.origins(base, band))
    if not rig.anatomy.is_hidden:
        stage[place(rig.mouth_cells)] = draw_mouth(rig, row, source, backward)
    return stage
