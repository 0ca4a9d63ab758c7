"""From likelihoods to one viseme per frame: the likeliest path, where every change costs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import Floats

# A change must be worth this much (nepers of likelihood): keeps single frames from flickering.
SWITCH_COST: Final = 1.5
_LEAST: Final = 1e-4


def scores_of(likelihoods: Floats) -> Floats:
    """Return the logarithm of likelihoods; nothing is quite impossible."""
    return np.asarray(np.log(likelihoods + _LEAST), np.float32)


def likeliest_path(scores: Floats, switch_cost: float = SWITCH_COST) -> NDArray[np.uint8]:
    """Return the path u8[n] through scores f32[n, k] with the highest sum less its changes' costs.

    Viterbi's algorithm for one cost for every change: the best path to a state either stays in it
    or comes from the best state of the frame before.
    """
    n_frames, n_states = scores.shape
    path = np.empty(n_frames, np.uint8)
    if n_frames == 0:
        return path
    stays = np.empty((n_frames, n_states), bool)
    sources = np.empty(n_frames, np.intp)
    reached = scores[0].astype(np.float64)
    for frame in range(1, n_frames):
        sources[frame] = reached.argmax()
        changed = reached[sources[frame]] - switch_cost
        stays[frame] = reached >= changed
        reached = np.maximum(reached, changed) + scores[frame]
        reached -= reached.max()
    state = int(reached.argmax())
    for frame in range(n_frames - 1, 0, -1):
        path[frame] = state
        if not stays[frame, state]:
            state = int(sources[frame])
    path[0] = state
    return path
