"""The small net that hears visemes: features and phones in, fifteen likelihoods per frame out.

A residual time-delay network (Waibel et al. 1989; the layers of Peddinti et al. 2015) in plain
numpy: the first layer sees five frames of the spectrum and the phones that pocketsphinx heard
around them, the others see their own layer before, at and after each frame, ever farther away.
`tools/train_visemes.py` trains it; `weights/visemes.json` says on what, and how well it does.

The phones may be left out: the net was trained with and without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import BLOCK, Floats
from sayso.engine.shapes import VISEMES

SPECTRUM_AT: Final = (-2, -1, 0, 1, 2)
PHONES_AT: Final = (-4, -2, 0, 2, 4)
REACHES: Final = (2, 4, 8, 12)
"""How far each hidden layer looks before and after, in frames."""

REACH: Final = max(PHONES_AT) + sum(REACHES)
_POWER_FLOOR: Final = 1e-4


@dataclass(frozen=True, eq=False)
class Net:
    """The weights, all f32.

    `spectrum` [5 * 40, h], `phones` [5, 40, h], `first_bias` [h]; for each hidden layer `hidden`
    [3 * h, h] and `hidden_bias` [h]; `out` [h, 15], `out_bias` [15].
    """

    spectrum: Floats
    phones: Floats
    first_bias: Floats
    hidden: tuple[Floats, ...]
    hidden_bias: tuple[Floats, ...]
    out: Floats
    out_bias: Floats

    def likelihoods(
        self, features: Floats, phones: NDArray[np.uint8] | None, *, block: int = BLOCK
    ) -> Floats:
        """Return how likely each viseme is in each frame, f32[n, 15], rows summing to 1.

        `features` f32[n, 40] as `features.normalised` gives them; `phones` u8[n] as
        `phones.phone_numbers` does, or None. `block` frames are worked on at a time; blocks overlap
        by the net's reach, so that the result does not depend on them.
        """
        result = np.empty((len(features), len(VISEMES)), np.float32)
        for first in range(0, len(features), block):
            end = min(first + block, len(features))
            begin, stop = max(0, first - REACH), min(len(features), end + REACH)
            heard = None if phones is None else phones[begin:stop]
            around = self._run(features[begin:stop], heard)
            result[first:end] = around[first - begin : end - begin]
        return result

    def _run(self, features: Floats, phones: NDArray[np.uint8] | None) -> Floats:
        n_frames = len(features)
        state = _spliced(features, SPECTRUM_AT) @ self.spectrum + self.first_bias
        if phones is not None:
            for weights, offset in zip(self.phones, PHONES_AT, strict=True):
                first, end = max(0, -offset), n_frames - max(0, offset)
                if first < end:
                    state[first:end] += weights[phones[first + offset : end + offset]]
        state = _activated(state)
        for weights, bias, reach in zip(self.hidden, self.hidden_bias, REACHES, strict=True):
            state = state + _activated(_spliced(state, (-reach, 0, reach)) @ weights + bias)
        return _softmax(state @ self.out + self.out_bias)


@cache
def trained_net() -> Net:
    """Return the net whose weights are shipped; raises `FileNotFoundError` where they are not."""
    with as_file(files("sayso.engine") / "weights" / "visemes.npz") as path:
        return load_net(path)


def load_net(path: Path) -> Net:
    """Read weights as `tools/train_visemes.py` writes them."""
    with np.load(path) as stored:
        weights = {name: stored[name].astype(np.float32) for name in stored.files}
    layers = range(len(REACHES))
    return Net(
        spectrum=weights["spectrum"],
        phones=weights["phones"],
        first_bias=weights["first_bias"],
        hidden=tuple(weights[f"hidden_{layer}"] for layer in layers),
        hidden_bias=tuple(weights[f"hidden_bias_{layer}"] for layer in layers),
        out=weights["out"],
        out_bias=weights["out_bias"],
    )


def _spliced(rows: Floats, offsets: tuple[int, ...]) -> Floats:
    """Put the rows at some offsets side by side; beyond the ends everything is zero."""
    n_rows, width = rows.shape
    spliced = np.zeros((n_rows, width * len(offsets)), np.float32)
    for place, offset in enumerate(offsets):
        first, end = max(0, -offset), n_rows - max(0, offset)
        if first < end:
            spliced[first:end, place * width : (place + 1) * width] = rows[
                first + offset : end + offset
            ]
    return spliced


def _activated(state: Floats) -> Floats:
    positive = np.maximum(state, 0)
    scale = np.sqrt(np.square(positive).mean(axis=1, keepdims=True) + _POWER_FLOOR)
    return np.asarray(positive / scale, np.float32)


def _softmax(scores: NDArray[Any]) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
