"""Colours in CIELAB agree with OpenCV's, and come back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sayso.engine.cielab import bgr_of, lab_of

COLOURS = np.random.default_rng(4).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_values_agree_with_opencv() -> None:
    theirs = cv2.cvtColor(COLOURS.astype(np.float32) / 255.0, cv2.COLOR_BGR2LAB)

    # Its tables are coarse: they are off by up to half a unit themselves.
    assert np.abs(lab_of(COLOURS) - theirs).max() < 0.6
    assert np.abs(lab_of(COLOURS) - theirs).mean() < 0.15


@pytest.mark.parametrize(
    ("bgr", "lab"),
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((0, 0, 255), (53.24, 80.09, 67.20)),
        ((255, 0, 0), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
    ],
)
def test_known_colours(bgr: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    assert lab_of(np.array([bgr], np.uint8))[0] == pytest.approx(lab, abs=0.05)


def test_colours_come_back() -> None:
    assert np.abs(bgr_of(lab_of(COLOURS)) - COLOURS).max() < 0.1


def test_any_shape_is_kept() -> None:
    assert lab_of(COLOURS).shape == COLOURS.shape
    assert np.array_equal(lab_of(COLOURS.reshape(-1, 3)), lab_of(COLOURS).reshape(-1, 3))
