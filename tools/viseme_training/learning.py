"""The training itself: the engine's net in PyTorch, fitted to examples; fixed seeds, CPU only.

PyTorch is a tool here, never a dependency of the project: `pip install torch` beside this script.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sayso.engine.features import MELS
from sayso.engine.net import PHONES_AT, REACHES, SPECTRUM_AT
from sayso.engine.phones import PHONES
from sayso.engine.shapes import GROUP, NUMBER, VISEMES
from tools.viseme_training.corpus import UNKNOWN
from tools.viseme_training.examples import Examples

Weights = dict[str, NDArray[np.float16]]

# Rare shapes that a viewer misses most weigh more; pauses, which are easy, weigh less.
_IMPORTANCE: Final = {"sil": 0.9, "PP": 1.5, "FF": 1.9, "TH": 1.4, "CH": 1.3, "RR": 1.2, "ou": 1.2}
_POWER_FLOOR: Final = 1e-4


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what comes out, apart from the examples."""

    seed: int = 1
    width: int = 128
    steps: int = 2_200
    batch: int = 24
    frames: int = 220
    rate: float = 2e-3
    warm_up: int = 200
    dropout: float = 0.1
    deaf_share: float = 0.3
    """Share of the crops that get no phones."""
    smoothing: float = 0.05
    average: float = 0.998


STAGES: Final = (
    Recipe(),
    Recipe(seed=2, steps=1_000, rate=8e-4, warm_up=50),
    Recipe(seed=3, steps=1_600, rate=1.2e-3, warm_up=50),
    Recipe(seed=4, steps=1_100, rate=8e-4, warm_up=50),
    Recipe(seed=5, steps=1_500, rate=4e-4, warm_up=50),
)
"""What the shipped weights went through: each stage starts from the one before."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Weights under the engine's names, and group accuracy (with, without phones) per set."""

    weights: Weights
    scores: dict[str, tuple[float, float]]


class TimeDelayNet(nn.Module):  # type: ignore[misc]  # torch is only there for training.
    """The engine's net with the same weights in the same order."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.spectrum = nn.Linear(MELS * len(SPECTRUM_AT), width)
        self.phones = nn.Parameter(torch.randn(len(PHONES_AT), len(PHONES), width) * 0.05)
        self.hidden = nn.ModuleList(nn.Linear(3 * width, width) for _ in REACHES)
        self.out = nn.Linear(width, len(VISEMES))
        self.dropout = dropout

    def forward(self, features: Tensor, phones: Tensor) -> Tensor:
        """Return scores [b, n, 15]; phones are one-hot [b, n, 40], all zero where unknown."""
        state = self.spectrum(_spliced(features, SPECTRUM_AT))
        for weights, offset in zip(self.phones, PHONES_AT, strict=True):
            state = state + _shifted(phones, offset) @ weights
        state = _activated(state)
        for layer, reach in zip(self.hidden, REACHES, strict=True):
            dropped = functional.dropout(state, self.dropout, self.training)
            state = state + _activated(layer(_spliced(dropped, (-reach, 0, reach))))
        scores: Tensor = self.out(functional.dropout(state, self.dropout, self.training))
        return scores


def train(
    sources: Mapping[str, tuple[Examples, float]],
    validation: Mapping[str, Examples],
    recipe: Recipe,
    *,
    start: Weights | None = None,
) -> Fitted:
    """Fit a net to sources with their shares; print how it does on the validation sets.

    It starts from the weights of an earlier stage, or from chance.
    """
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    net = TimeDelayNet(recipe.width, recipe.dropout)
    if start is not None:
        net.load_state_dict(_imported(start))
    averaged = {name: value.clone() for name, value in net.state_dict().items()}
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, betas=(0.9, 0.99))
    importance = torch.tensor([_IMPORTANCE.get(viseme, 1.0) for viseme in VISEMES])
    begun = time.monotonic()
    running = 0.0
    scores: dict[str, tuple[float, float]] = {}
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * _schedule(step, recipe)
        features, phones, labels = _batch(sources, recipe, random)
        loss = functional.cross_entropy(
            net(features, phones).flatten(0, 1),
            labels.flatten(),
            weight=importance,
            ignore_index=UNKNOWN,
            label_smoothing=recipe.smoothing,
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        keep = min(recipe.average, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            averaged[name].mul_(keep).add_(value, alpha=1 - keep)
        running += (0.02 if step else 1.0) * (float(loss.detach()) - running)
        if (step + 1) % 250 == 0:
            scores = _scores(averaged, validation, recipe)
            elapsed_s = time.monotonic() - begun
            print(f"step {step + 1} loss {running:.3f} {elapsed_s:.0f} s  {scores}", flush=True)
    return Fitted(_exported(averaged), scores)


def _schedule(step: int, recipe: Recipe) -> float:
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    done = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.5 * (1 + math.cos(math.pi * done)) + 0.005


def _batch(
    sources: Mapping[str, tuple[Examples, float]], recipe: Recipe, random: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut crops out of random examples; hide mel bands and phones in some of them."""
    names = list(sources)
    shares = np.array([len(sources[name][0].labels) * sources[name][1] for name in names])
    size = (recipe.batch, recipe.frames)
    features = np.zeros((*size, MELS), np.float32)
    phones = np.zeros((*size, len(PHONES)), np.float32)
    labels = np.full(size, UNKNOWN, np.int64)
    for row, name in enumerate(random.choice(names, recipe.batch, p=shares / shares.sum())):
        examples = sources[name][0]
        middle = int(random.integers(len(examples.labels)))
        place = int(np.searchsorted(examples.starts, middle, side="right")) - 1
        start, end = int(examples.starts[place]), int(examples.starts[place + 1])
        first = int(np.clip(middle - recipe.frames // 2, start, max(start, end - recipe.frames)))
        count = min(end - first, recipe.frames)
        features[row, :count] = examples.features[first : first + count]
        labels[row, :count] = examples.labels[first : first + count]
        if random.uniform() > recipe.deaf_share:
            heard = examples.phones[first : first + count]
            phones[row, np.arange(count), heard] = 1
        if random.uniform() < 0.3:
            width = int(random.integers(1, 7))
            lowest = int(random.integers(MELS - width))
            features[row, :, lowest : lowest + width] = 0
    return torch.from_numpy(features), torch.from_numpy(phones), torch.from_numpy(labels)


def _scores(
    averaged: dict[str, Tensor], validation: Mapping[str, Examples], recipe: Recipe
) -> dict[str, tuple[float, float]]:
    """Return the group accuracy on each validation set, with and without phones."""
    net = TimeDelayNet(recipe.width, 0.0)
    net.load_state_dict(averaged)
    net.eval()
    scores: dict[str, tuple[float, float]] = {}
    for name, examples in validation.items():
        results = []
        for with_phones in (True, False):
            right = total = 0
            for start, end in zip(examples.starts[:-1], examples.starts[1:], strict=True):
                features = torch.from_numpy(examples.features[start:end].astype(np.float32))
                phones = torch.zeros(1, end - start, len(PHONES))
                if with_phones:
                    heard = torch.from_numpy(examples.phones[start:end].astype(np.int64))
                    phones[0, torch.arange(end - start), heard] = 1
                with torch.no_grad():
                    guess = net(features[None], phones)[0].argmax(1).numpy()
                labels = examples.labels[start:end]
                known = (labels != UNKNOWN) & _speech_span(labels)
                right += int((GROUP[guess[known]] == GROUP[labels[known]]).sum())
                total += int(known.sum())
            results.append(round(100 * right / max(total, 1), 1))
        scores[name] = (results[0], results[1])
    return scores


def _speech_span(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    speech = np.flatnonzero((labels != NUMBER["sil"]) & (labels != UNKNOWN))
    span = np.zeros(len(labels), bool)
    if len(speech):
        span[speech[0] : speech[-1] + 1] = True
    else:
        span[:] = True
    return span


def _exported(state: dict[str, Any]) -> Weights:
    """Return the weights under the engine's names, transposed for row vectors."""
    weights = {
        "spectrum": state["spectrum.weight"].T,
        "first_bias": state["spectrum.bias"],
        "phones": state["phones"],
        "out": state["out.weight"].T,
        "out_bias": state["out.bias"],
    }
    for layer in range(len(REACHES)):
        weights[f"hidden_{layer}"] = state[f"hidden.{layer}.weight"].T
        weights[f"hidden_bias_{layer}"] = state[f"hidden.{layer}.bias"]
    return {name: value.numpy().astype(np.float16) for name, value in weights.items()}


def _imported(weights: Weights) -> dict[str, Tensor]:
    """Return the state that `_exported` made weights of."""
    found = {name: torch.from_numpy(value.astype(np.float32)) for name, value in weights.items()}
    state = {
        "spectrum.weight": found["spectrum"].T,
        "spectrum.bias": found["first_bias"],
        "phones": found["phones"],
        "out.weight": found["out"].T,
        "out.bias": found["out_bias"],
    }
    for layer in range(len(REACHES)):
        state[f"hidden.{layer}.weight"] = found[f"hidden_{layer}"].T
        state[f"hidden.{layer}.bias"] = found[f"hidden_bias_{layer}"]
    return state


def _shifted(rows: Tensor, offset: int) -> Tensor:
    if offset == 0:
        return rows
    if offset > 0:
        return functional.pad(rows[:, offset:], (0, 0, 0, offset))
    return functional.pad(rows[:, :offset], (0, 0, -offset, 0))


def _spliced(rows: Tensor, offsets: tuple[int, ...]) -> Tensor:
    return torch.cat([_shifted(rows, offset) for offset in offsets], dim=2)


def _activated(state: Tensor) -> Tensor:
    positive = functional.relu(state)
    return positive / torch.sqrt((positive**2).mean(dim=2, keepdim=True) + _POWER_FLOOR)
