"""The two small networks that look at faces: where a face is, and its 468 points.

    propose(rgb)     -> boxes, eyes, scores   BlazeFace short range, a 128 px square
    trace(crop)      -> points, score         Face Mesh, a 192 px crop around one face

Both are MediaPipe's (Apache-2.0, see `weights/NOTICE`) and run on OpenCV's DNN module. Everything
here is in the network's own units; `face` turns it into pixels of the picture.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

PROPOSAL_SIDE_PX: Final = 128
TRACE_SIDE_PX: Final = 192
TRACE_POINTS: Final = 468

# BlazeFace's output grids, as (cells per side, anchors per cell): SSD layers with strides 8, 16, 16
# and 16, two anchors each (MediaPipe's face_detection_short_range graph).
_ANCHOR_GRIDS: Final = ((16, 2), (8, 6))

# A net keeps its input and layers' buffers in itself, so one thread at a time.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Proposals:
    """What BlazeFace says of one square: n candidates, in fractions of the square's side.

    `centers` and `sizes` are float64[n, 2] (x, y), `eyes` is float64[n, 2, 2] (left in the picture
    first), `scores` is float64[n] in 0..1.
    """

    centers: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.float64]
    eyes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]


def propose(square: npt.NDArray[np.uint8]) -> Proposals:
    """Look for faces in an RGB square of 128 px."""
    blob = square.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1.0
    raw, logits = _run(_detector(), blob, ("regressors", "classificators"))
    places = raw.reshape(-1, 16).astype(np.float64) / PROPOSAL_SIDE_PX
    anchors = _anchors()
    return Proposals(
        centers=places[:, 0:2] + anchors,
        sizes=places[:, 2:4],
        eyes=places[:, 4:8].reshape(-1, 2, 2) + anchors[:, None],
        scores=_sigmoid(logits.reshape(-1)),
    )


def trace(crop: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], float]:
    """Return the 468 points of the face in an upright RGB crop of 192 px, and how sure it is one.

    The points are float64[468, 3] in pixels of the crop, z towards the viewer negative; the score
    is 0..1. True faces score above 0.9, look-alikes below 0.2.
    """
    blob = crop.astype(np.float32).transpose(2, 0, 1)[None] / 255.0
    points, logit = _run(_tracer(), blob, ("conv2d_21", "conv2d_31"))
    return points.reshape(TRACE_POINTS, 3).astype(np.float64), float(_sigmoid(logit.reshape(-1))[0])


@lru_cache(maxsize=1)
def canonical_points() -> npt.NDArray[np.float64]:
    """Return MediaPipe's standard head: float64[468, 3] in cm, y up and z towards the viewer."""
    with (files("sayso.engine") / "weights" / "canonical.npy").open("rb") as file:
        points: npt.NDArray[np.float64] = np.load(file).astype(np.float64)
    points.setflags(write=False)
    return points


def _run(
    net: Any, blob: npt.NDArray[np.float32], outputs: tuple[str, ...]
) -> list[npt.NDArray[np.float32]]:
    with _one_at_a_time:
        net.setInput(blob)
        # The outputs may be views of the net's own memory.
        return [np.array(output) for output in net.forward(outputs)]


@lru_cache(maxsize=1)
def _detector() -> Any:
    return _load("face_detection_short_range.tflite")


@lru_cache(maxsize=1)
def _tracer() -> Any:
    return _load("face_landmark.tflite")


def _load(name: str) -> Any:
    # OpenCV 5.0's default engine loses the second output of both networks, and reading from memory
    # instead of a path ignores the choice of engine.
    with as_file(files("sayso.engine") / "weights" / name) as path:
        return cv2.dnn.readNetFromTFLite(str(path), cv2.dnn.ENGINE_CLASSIC)


@lru_cache(maxsize=1)
def _anchors() -> npt.NDArray[np.float64]:
    """Return the centre of each of the 896 anchors: float64[896, 2], fractions of the side."""
    grids = []
    for cells, per_cell in _ANCHOR_GRIDS:
        middle = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(middle, middle, indexing="ij")
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), per_cell, axis=0))
    return np.concatenate(grids)


def _sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    # BlazeFace's logits reach +-100 and more, as in its own graph (score_clipping_thresh).
    scores: npt.NDArray[np.float64] = 1.0 / (
        1.0 + np.exp(-np.clip(logits.astype(np.float64), -100, 100))
    )
    return scores
