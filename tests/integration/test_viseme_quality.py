"""The viseme floors on speech with known phones: labelled clips that nobody trained on.

The clips and the scoring tool lie in `../shared` beside the repository; where they are missing,
these tests are skipped. The floors lie a little below what the model card says was reached.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks.visemes import (
    ENGLISH,
    LABELLED,
    RUSSIAN,
    SCORER,
    TRANSCRIPTS,
    lip_teeth,
    tally_in_noise,
)
from sayso.engine.visemes import Method, find_visemes
from sayso.media.audio import read_speech

pytestmark = pytest.mark.skipif(
    not (LABELLED.exists() and SCORER.exists()),
    reason="the labelled clips are not beside the repository",
)


@pytest.fixture(scope="module")
def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_visemes", SCORER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["score_visemes"] = module
    spec.loader.exec_module(module)
    return module


def figures_of(
    scorer: ModuleType, patterns: list[str], method: Method, transcripts: dict[str, str]
) -> dict[str, Any]:
    total = scorer.Tally()
    for path in sorted(path for pattern in patterns for path in LABELLED.glob(f"{pattern}.wav")):
        track = find_visemes(
            read_speech(path), method=method, transcript=transcripts.get(path.stem)
        )
        truth = scorer.read_truth(path.with_suffix(".truth.json"))
        cues = scorer.to_frames(track.cues(), len(truth), gap=scorer.SIL)
        total += scorer.count(truth, cues, scorer.resized(np.asarray(track.open), len(truth)))
    return dict(scorer.figures(total))


FLOORS: list[tuple[str, list[str], Method, dict[str, str], dict[str, float]]] = [
    (
        "English",
        ENGLISH,
        "auto",
        {},
        {"acc": 0.77, "tol": 0.90, "open r": 0.80, "clos rec": 0.875},
    ),
    (
        "English with its text",
        ENGLISH,
        "auto",
        TRANSCRIPTS,
        {"acc": 0.84, "tol": 0.94, "open r": 0.85, "clos rec": 0.875},
    ),
    (
        "Russian",
        RUSSIAN,
        "auto",
        {},
        {"acc": 0.78, "tol": 0.89, "open r": 0.85, "clos rec": 0.9},
    ),
    ("English by the net alone", ENGLISH, "net", {}, {"acc": 0.65, "open r": 0.75}),
]


@pytest.mark.parametrize(
    ("patterns", "method", "transcripts", "floors"),
    [floor[1:] for floor in FLOORS],
    ids=[floor[0] for floor in FLOORS],
)
def test_visemes_reach_their_floors(
    scorer: ModuleType,
    patterns: list[str],
    method: Method,
    transcripts: dict[str, str],
    floors: dict[str, float],
) -> None:
    figures = figures_of(scorer, patterns, method, transcripts)

    for name, floor in floors.items():
        assert figures[name] >= floor, (name, figures)
    assert abs(figures["lag ms"]) <= 15


@pytest.mark.parametrize(
    ("ratio_db", "acc", "found", "right"), [(20, 0.82, 0.72, 0.5), (10, 0.76, 0.45, 0.33)]
)
def test_f_and_v_are_still_heard_in_noise(
    scorer: ModuleType, ratio_db: float, acc: float, found: float, right: float
) -> None:
    total = tally_in_noise(scorer, RUSSIAN, ratio_db)

    assert scorer.figures(total)["acc"] >= acc
    assert lip_teeth(total)[0] >= found
    assert lip_teeth(total)[1] >= right
