"""Training examples: what the net is shown and what it should say, kept in one file per source.

Each utterance becomes two examples, one nearly as it is and one worn (augment.py). An example
holds the features as the engine computes them, the phones that pocketsphinx hears in that very
sound, and the labels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import Floats, levels_db, log_mels, normalised
from sayso.engine.phones import decode_phones, phone_numbers
from sayso.engine.voice import sounding_spans
from sayso.media.audio import Pcm
from tools.viseme_training.augment import at_speed, worn
from tools.viseme_training.corpus import Labels, Utterance


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of one source, one after the other.

    Features f16[n, 40], phones u8[n], labels u8[n]; example i is rows `starts[i]` up to
    `starts[i + 1]`.
    """

    features: NDArray[np.float16]
    phones: NDArray[np.uint8]
    labels: Labels
    starts: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write everything to one file."""
        np.savez(
            path,
            features=self.features,
            phones=self.phones,
            labels=self.labels,
            starts=self.starts,
        )

    @staticmethod
    def load(path: Path) -> Examples:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return Examples(**{name: stored[name] for name in stored.files})


def examples_of(utterances: Iterable[Utterance], others: list[Pcm], *, copies: int = 2) -> Examples:
    """Make `copies` examples of each utterance; validation gets the sound as it is, once."""
    features: list[NDArray[np.float16]] = []
    phones: list[NDArray[np.uint8]] = []
    labels: list[Labels] = []
    for place, spoken in enumerate(utterances):
        random = np.random.default_rng(zlib.crc32(spoken.name.encode()))
        for copy in range(1 if spoken.is_validation else copies):
            heard, said = spoken.samples, spoken.labels
            if not spoken.is_validation:
                # A source with one copy alternates, one with more has one nearly clean each.
                is_worn = copy > 0 or (copies == 1 and place % 2 == 1)
                wear = worn(heard, said, others, random) if is_worn else None
                heard, said = wear or at_speed(heard, said, random)
            shown, numbers = inputs_of(heard)
            n_frames = min(len(shown), len(said))
            features.append(shown[:n_frames].astype(np.float16))
            phones.append(numbers[:n_frames])
            labels.append(said[:n_frames])
    starts = np.cumsum([0, *map(len, labels)])
    return Examples(
        np.concatenate(features), np.concatenate(phones), np.concatenate(labels), starts
    )


def inputs_of(samples: Pcm) -> tuple[Floats, NDArray[np.uint8]]:
    """Return what the net sees of a recording: features f32[n, 40] and phones u8[n]."""
    spans = sounding_spans(levels_db(samples))
    shown = normalised(log_mels(samples))
    return shown, phone_numbers(decode_phones(samples, spans), len(shown))
