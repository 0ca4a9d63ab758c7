"""Speech of the Kokoro-82M voice model, with the time of every sound in it.

The model (Apache-2.0) lies in four PyPI packages, its 54 voices in an npm package; nothing is
fetched from anywhere else. `speak` writes sound and phones; the model's own durations come in
steps of 25 ms, so `aligned` finds the borders with pocketsphinx, which knows the very phones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from sayso.engine.phones import Phone, align_phones
from sayso.media.audio import SPEECH_RATE_HZ, read_speech
from tools.viseme_training.corpus import Utterance, labels_of
from tools.viseme_training.spelling import CMU_OF_IPA, VISEME_OF_IPA, Segment, resolved

# pocketsphinx's frame starts at i * 10 ms and is 25.6 ms long; ours is centred at (i + .5) * 10 ms.
_FRAME_OFFSET_S: Final = 0.0078
_UNIT_S: Final = 0.025
# The model's sound starts this much before its durations say (median of 90 alignments).
_MODEL_LAG_S: Final = 0.065
# Alignments that are typically farther from the model's own durations are taken for mistakes.
_WORST_MISS_S: Final = 0.04
_PAUSE: Final = frozenset(" ,.;:!?_—…")


def aligned(folder: Path) -> Iterator[Utterance]:
    """Yield what `speak` wrote, labelled; utterances that do not align well are left out."""
    for path in sorted(folder.glob("*.json")):
        spoken = json.loads(path.read_text(encoding="utf-8"))
        samples = read_speech(path.with_suffix(".wav")).samples
        words, times_s = _words(spoken["phones"])
        pronunciations = [[" ".join(CMU_OF_IPA[symbol] for symbol in word)] for word in words]
        found = align_phones(samples, pronunciations)
        if found is None or _miss_s(found, times_s) > _WORST_MISS_S:
            continue
        segments = resolved(_segments(words, found, len(samples) / SPEECH_RATE_HZ))
        yield Utterance(
            f"kokoro_{path.stem}",
            f"kokoro-{spoken['lang']}",
            samples,
            labels_of(segments, -(-len(samples) // 160)),
            is_validation=spoken["val"],
        )


def _words(phones: list[list[Any]]) -> tuple[list[list[str]], list[list[float]]]:
    """Split the model's symbols into words of sounds, with the start the model gave each sound."""
    words: list[list[str]] = [[]]
    times_s: list[list[float]] = [[]]
    at_s = 0.0
    for symbol, units in phones:
        if symbol in _PAUSE and words[-1]:
            words.append([])
            times_s.append([])
        elif symbol == "ɹ" and words[-1][-1:] == ["ɜ"]:
            pass  # The pair is one sound, spelled with two symbols.
        elif symbol in CMU_OF_IPA and symbol in VISEME_OF_IPA:
            words[-1].append(symbol)
            times_s[-1].append(at_s)
        at_s += units * _UNIT_S
    if not words[-1]:
        words.pop()
        times_s.pop()
    return words, times_s


def _miss_s(found: list[list[Phone]], times_s: list[list[float]]) -> float:
    """Return the median distance of the sounds' starts from where the model put them."""
    misses = [
        abs(phone.first / 100 + _FRAME_OFFSET_S + _MODEL_LAG_S - start_s)
        for phones, starts_s in zip(found, times_s, strict=True)
        for phone, start_s in zip(phones, starts_s, strict=True)
    ]
    return float(np.median(misses))


def _segments(words: list[list[str]], found: list[list[Phone]], length_s: float) -> list[Segment]:
    segments: list[Segment] = []
    at_s = 0.0
    for word, phones in zip(words, found, strict=True):
        for symbol, phone in zip(word, phones, strict=True):
            start_s = phone.first / 100 + _FRAME_OFFSET_S
            end_s = phone.end / 100 + _FRAME_OFFSET_S
            if start_s > at_s:
                segments.append((at_s, start_s, "sil"))
            viseme = "RR" if symbol == "ɜ" else VISEME_OF_IPA[symbol]
            segments.append((start_s, end_s, viseme))
            at_s = end_s
    segments.append((at_s, length_s, "sil"))
    return segments
