"""Planes show the picture's colours, and parts of them fit in without a seam."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from sayso.engine.planes import Bgr, Planes, planes_of


def smooth_picture(height: int, width: int) -> Bgr:
    noise = np.random.default_rng(3).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def shown(planes: Planes) -> Bgr:
    """Return what FFmpeg makes of planes with the tags that our videos carry."""
    frame = av.VideoFrame.from_ndarray(planes.buffer, format="yuv420p")
    frame.colorspace, frame.color_range = Colorspace.ITU709, ColorRange.MPEG
    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    return np.asarray(frame.reformat(format="bgr24", interpolation=exact).to_ndarray(), np.uint8)


@pytest.mark.parametrize(
    "bgr",
    [(0, 0, 0), (255, 255, 255), (128, 128, 128), (40, 80, 200), (200, 60, 30), (10, 220, 90)],
)
def test_a_plain_colour_is_shown_as_it_is(bgr: tuple[int, int, int]) -> None:
    picture = np.full((16, 32, 3), bgr, np.uint8)

    assert np.abs(shown(planes_of(picture)).astype(int) - picture).max() <= 2


def test_a_picture_is_shown_as_it_is() -> None:
    picture = smooth_picture(96, 128)

    off = shown(planes_of(picture)).astype(float) - picture

    assert np.abs(off.mean(axis=(0, 1))).max() < 0.5
    assert np.abs(off).mean() < 3


# A height of 46 ends each plane of colour amid a row of the buffer.
@pytest.mark.parametrize("size", [(48, 64), (46, 50)])
def test_a_part_fits_where_it_is_put(size: tuple[int, int]) -> None:
    picture = smooth_picture(*size)
    blank = planes_of(np.zeros_like(picture))
    changed = np.zeros_like(picture)
    changed[8:30, 12:40] = picture[8:30, 12:40]

    planes = blank.with_part(picture[8:30, 12:40], at=(12, 8))

    assert planes.size == (size[1], size[0])
    assert np.array_equal(planes.buffer, planes_of(changed).buffer)
    assert np.array_equal(blank.buffer, planes_of(np.zeros_like(picture)).buffer)
