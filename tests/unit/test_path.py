"""The likeliest path is the best of all paths, and one lonely frame does not make a shape."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np

from sayso.engine.path import likeliest_path, scores_of


def worth(path: tuple[int, ...], scores: np.ndarray, switch_cost: float) -> float:
    changes = sum(a != b for a, b in pairwise(path))
    return float(sum(scores[frame, state] for frame, state in enumerate(path))) - (
        switch_cost * changes
    )


def test_path_is_the_best_of_all_paths() -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        scores = scores_of(random.dirichlet(np.ones(3), 6).astype(np.float32))

        path = likeliest_path(scores, 0.7)

        best = max(worth(candidate, scores, 0.7) for candidate in product(range(3), repeat=6))
        assert abs(worth(tuple(path.tolist()), scores, 0.7) - best) < 1e-4


def test_lonely_frame_is_smoothed_away() -> None:
    likelihoods = np.full((9, 2), 0.3, np.float32)
    likelihoods[:, 0] = 0.7
    likelihoods[4] = [0.3, 0.7]

    path = likeliest_path(scores_of(likelihoods))

    assert path.tolist() == [0] * 9


def test_no_frames_have_no_path() -> None:
    assert likeliest_path(np.empty((0, 15), np.float32)).shape == (0,)
