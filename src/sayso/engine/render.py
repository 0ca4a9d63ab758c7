"""One motion row -> one frame.

    render_frame(rig, row)              -> uint8[height, width, 3] BGR, a pure function
    render_frames(rig, motion, ...)     -> frames in order, drawn by a few threads

Where a pixel comes from is worked out on the rig's coarse grid and enlarged. What lies outside the
moving box is copied; within it everything is one cubic resampling, and the mouth is drawn over it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.fields import LOW, UP
from sayso.engine.lids import close_lids
from sayso.engine.motion import Motion
from sayso.engine.mouth import draw_mouth
from sayso.engine.params import COLUMN
from sayso.engine.resample import look_up_sharply
from sayso.engine.rig import Rig

Frame = npt.NDArray[np.uint8]
Row = npt.NDArray[np.float32]


def render_frame(rig: Rig, row: Row) -> Frame:
    """Draw one frame, BGR uint8[rig.height, rig.width, 3]; nothing but the arguments decides it.

    `row` is float32[len(COLUMNS)], see `params`.
    """
    fields = rig.fields
    backward = fields.backward(fields.forward(row))
    source = rig.picture.copy()
    close_lids(source, rig.lids, float(row[COLUMN["blink"]]))
    frame = source.copy()
    base = np.where(rig.is_low, backward[LOW], backward[UP])
    for band in fields.moving:
        frame[fields.slices(band)] = look_up_sharply(source, fields.origins(base, band))
    if not rig.anatomy.is_hidden:
        draw_mouth(rig, row, source, backward, frame)
    return frame


def render_frames(rig: Rig, motion: Motion, *, workers: int = 2) -> Iterator[Frame]:
    """Give the frames of a motion in order, drawn by `workers` threads; two more wait at most.

    OpenCV and numpy free the interpreter while they work, so threads are enough. Closing the
    iterator early ends them.
    """
    # Threads across frames, not within each: OpenCV's own would only fight ours. For the process.
    cv2.setNumThreads(1)
    pending: deque[Future[Frame]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="render") as pool:
        try:
            for row in motion.rows:
                if len(pending) == workers + 2:
                    yield pending.popleft().result()
                pending.append(pool.submit(render_frame, rig, row))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
