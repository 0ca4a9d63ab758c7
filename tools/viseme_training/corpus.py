"""The speech the net learns from: every source becomes the same thing, `Utterance`.

    real       festvox-ru, one Russian man, phone labels at 10 ms
    spoken     voices of flite, Festival, espeak-ng: exact phone times from the synthesiser
    kokoro     a neural voice model with dozens of speakers; see kokoro.py for its times
    quiet      no speech at all: silence, noises, tones, synthetic music

All of it comes from Debian, PyPI and npm packages; train_visemes.py lists them.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import HOP
from sayso.engine.shapes import NUMBER, SIL
from sayso.media.audio import SPEECH_RATE_HZ, Pcm, read_speech
from tools.viseme_training.spelling import (
    VISEME_OF_RUSSIAN,
    Segment,
    resolved,
    viseme_of_cmu,
    visemes_of_ipa,
)

Labels = NDArray[np.uint8]
UNKNOWN: Final = 255
"""The label of frames that nobody should learn from."""

RUSSIAN_FOLDER: Final = Path("/usr/share/festival/voices/russian/msu_ru_nsh_clunits")
# The scoring clips of the project; their numbers in the package's 620 utterances.
RUSSIAN_SCORED: Final = frozenset({1, 5, 17, 39, 56, 73, 89, 112, 132, 153, 176, 199, 218})
RUSSIAN_VALIDATION: Final = frozenset(range(600, 621))
FLITE_VOICES: Final = ("slt", "awb", "rms", "kal16")
FLITE_VALIDATION: Final = "rms"
ESPEAK_VOICES: Final = (
    "en-us+f3", "en+m3", "en-gb-scotland", "en-us+klatt4", "de", "de+f2", "es", "es-419+f4",
    "it+f1", "it", "pt-br+m7", "pl", "pl+f5", "cs", "cs+f3", "ru+f2", "fr",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Utterance:
    """Labelled speech: samples int16[n] at 16 kHz, one viseme per 10 ms frame (255 unknown)."""

    name: str
    source: str
    samples: Pcm
    labels: Labels
    is_validation: bool = False


def labels_of(segments: list[Segment], n_frames: int) -> Labels:
    """Return the viseme of each frame's centre; frames that no segment covers are unknown."""
    labels = np.full(n_frames, UNKNOWN, np.uint8)
    for start_s, end_s, viseme in segments:
        first, end = (max(0, int(np.ceil(100 * t - 0.5))) for t in (start_s, end_s))
        labels[first:end] = NUMBER.get(viseme, UNKNOWN)
    return labels


def utterance(
    name: str, source: str, path: Path, segments: list[Segment], **more: Any
) -> Utterance:
    """Read a recording and join it with its labels."""
    samples = read_speech(path).samples
    n_frames = -(-len(samples) // HOP)
    return Utterance(name, source, samples, labels_of(resolved(segments), n_frames), **more)


def russian(folder: Path = RUSSIAN_FOLDER) -> Iterator[Utterance]:
    """Yield festvox-ru's utterances but the scored ones, as far as label and sound agree."""
    for path in sorted((folder / "lab").glob("ru_*.lab")):
        number = int(path.stem.removeprefix("ru_"))
        sound = folder / "wav" / f"{path.stem}.wav"
        if number in RUSSIAN_SCORED or not sound.exists():
            continue
        segments = _segments_of_lab(path, VISEME_OF_RUSSIAN)
        spoken = utterance(
            path.stem, "festvox-ru", sound, segments, is_validation=number in RUSSIAN_VALIDATION
        )
        if abs(segments[-1][1] - len(spoken.samples) / SPEECH_RATE_HZ) < 0.25:
            yield spoken


def _segments_of_lab(path: Path, visemes: dict[str, str]) -> list[Segment]:
    segments: list[Segment] = []
    start_s = 0.0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        if len(fields) == 3:
            end_s = float(fields[0])
            segments.append((start_s, end_s, visemes.get(fields[2], "?")))
            start_s = end_s
    return segments


def flite(sentences: list[str], voices: tuple[str, ...] = FLITE_VOICES) -> Iterator[Utterance]:
    """Yield sentences spoken by flite's voices in turn, with the phone times it prints."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        for index, sentence in enumerate(sentences):
            voice = voices[index % len(voices)]
            command = ["flite", "-voice", voice, "-psdur", "-t", sentence, "-o", str(path)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            segments: list[Segment] = []
            start_s = 0.0
            for phone in printed.split():
                name, end = phone.rsplit(":", 1)
                segments.append((start_s, float(end), viseme_of_cmu(name)))
                start_s = float(end)
            yield utterance(
                f"flite_{index:04d}_{voice}",
                f"flite-{voice}",
                path,
                segments,
                is_validation=voice == FLITE_VALIDATION,
            )


def festival(sentences: list[str]) -> Iterator[Utterance]:
    """Yield sentences spoken by Festival's HTS voice slt."""
    with tempfile.TemporaryDirectory() as folder:
        lines = ["(voice_cmu_us_slt_arctic_hts)"]
        for index, sentence in enumerate(sentences):
            lines += [
                f'(set! utt (utt.synth (Utterance Text "{sentence}")))',
                f'(utt.save.wave utt "{folder}/{index}.wav" \'riff)',
                f'(utt.save.segs utt "{folder}/{index}.lab")',
            ]
        script = Path(folder) / "speak.scm"
        script.write_text("\n".join(lines))
        subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)
        visemes = _AnyCmu()
        for index in range(len(sentences)):
            segments = _segments_of_lab(Path(folder) / f"{index}.lab", visemes)
            sound = Path(folder) / f"{index}.wav"
            yield utterance(f"slt_hts_{index:04d}", "festival-slt-hts", sound, segments)


class _AnyCmu(dict[str, str]):
    def get(self, phone: str, default: Any = None) -> Any:
        del default
        return viseme_of_cmu(phone)


def espeak(sentences: dict[str, list[str]], count: int) -> Iterator[Utterance]:
    """Yield `count` sentences spoken by espeak-ng's voices, each in its own language."""
    speaker = _Espeak()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        for index in range(count):
            voice = ESPEAK_VOICES[index % len(ESPEAK_VOICES)]
            texts = sentences.get(re.split(r"[-+]", voice)[0])
            if not texts:
                continue
            sound, segments = speaker.say(texts[index % len(texts)], voice)
            with wave.open(str(path), "wb") as out:
                out.setparams((1, 2, speaker.rate_hz, 0, "NONE", ""))
                out.writeframes(sound.tobytes())
            yield utterance(f"espeak_{index:04d}_{voice}", "espeak-ng", path, segments)


class _EspeakId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _EspeakEvent(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EspeakId),
    )


_ESPEAK_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_EspeakEvent)
)
_SYNCHRONOUS, _PHONES_AS_IPA, _PHONE_EVENT, _UTF8 = 2, 3, 7, 1


class _Espeak:
    """espeak-ng's library, asked for the sound and the phones' times together."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate_hz: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONES_AS_IPA)
        self._sound: list[Pcm] = []
        self._phones: list[tuple[float, str]] = []
        self._callback = _ESPEAK_CALLBACK(self._hear)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str) -> tuple[Pcm, list[Segment]]:
        self._sound.clear()
        self._phones.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        content = text.encode() + b"\0"
        self._library.espeak_Synth(content, len(content), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        sound = np.concatenate(self._sound)
        ends_s = [start_s for start_s, _ in self._phones[1:]] + [len(sound) / self.rate_hz]
        segments: list[Segment] = []
        for (start_s, phone), end_s in zip(self._phones, ends_s, strict=True):
            shapes = visemes_of_ipa(phone) or ["sil"]
            cuts = np.linspace(start_s, end_s, len(shapes) + 1).tolist()
            segments += zip(cuts[:-1], cuts[1:], shapes, strict=True)
        return sound, segments

    def _hear(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != 0:
            if events[index].type == _PHONE_EVENT:
                phone = events[index].id.string.decode("utf-8", "replace")
                self._phones.append((events[index].audio_position / 1000, phone))
            index += 1
        return 0


def quiet(count: int, seed: int) -> Iterator[Utterance]:
    """Yield `count` recordings of 5 s in which nobody speaks."""
    random = np.random.default_rng(seed)
    kinds = (_silence, _white, _pink, _hum, _sine, _music, _clicks)
    for index in range(count):
        kind = kinds[index % len(kinds)]
        sound = kind(5 * SPEECH_RATE_HZ, random) * 10 ** (random.uniform(-45, -3) / 20)
        samples = np.round(sound.clip(-1, 1) * 32_767).astype(np.int16)
        labels = np.full(len(samples) // HOP, SIL, np.uint8)
        yield Utterance(f"quiet_{index:04d}{kind.__name__}", "quiet", samples, labels)


Sound = NDArray[np.float64]


def _silence(n: int, random: np.random.Generator) -> Sound:
    return random.normal(0, 10 ** random.uniform(-5, -3), n)


def _white(n: int, random: np.random.Generator) -> Sound:
    return random.normal(0, 0.3, n)


def coloured(n: int, random: np.random.Generator, slope: float) -> Sound:
    """Return noise whose power falls by `slope` x 3 dB per octave, peak 1."""
    spectrum = np.fft.rfft(random.normal(0, 1, n))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20) ** (slope / 2)
    sound = np.fft.irfft(spectrum, n)
    return np.asarray(sound / np.abs(sound).max())


def _pink(n: int, random: np.random.Generator) -> Sound:
    swell = 1 + 0.5 * np.sin(2 * np.pi * random.uniform(0.1, 2) * np.arange(n) / SPEECH_RATE_HZ)
    return coloured(n, random, random.uniform(0.5, 2)) * swell


def _hum(n: int, random: np.random.Generator) -> Sound:
    times = np.arange(n) / SPEECH_RATE_HZ
    pitch = random.choice([50, 60, 100, 120])
    parts = [random.uniform() * np.sin(2 * np.pi * pitch * k * times) for k in range(1, 9)]
    return np.asarray(sum(parts)) / 4 + coloured(n, random, 1) * 0.1


def _sine(n: int, random: np.random.Generator) -> Sound:
    times = np.arange(n) / SPEECH_RATE_HZ
    start, end = random.uniform(80, 3000, 2)
    end = end if random.uniform() < 0.4 else start
    pitch = np.linspace(start, end, n)
    sound = 0.5 * np.sin(2 * np.pi * np.cumsum(pitch) / SPEECH_RATE_HZ)
    if random.uniform() < 0.4:
        sound *= np.sin(2 * np.pi * random.uniform(0.3, 5) * times) > 0
    return sound


def music(n: int, random: np.random.Generator) -> Sound:
    """Return chords of decaying notes with harmonics over a noisy beat, peak 1."""
    times = np.arange(n) / SPEECH_RATE_HZ
    sound = np.zeros(n)
    beat_s = random.uniform(0.2, 0.8)
    for start_s in np.arange(0, n / SPEECH_RATE_HZ, beat_s):
        since = np.maximum(times - start_s, 0)
        envelope = (times >= start_s) * np.exp(-since * random.uniform(1, 6))
        for _ in range(int(random.integers(1, 4))):
            pitch = 55 * 2 ** (random.integers(0, 48) / 12)
            for harmonic in range(1, int(random.integers(2, 9))):
                wave_ = np.sin(2 * np.pi * pitch * harmonic * times)
                sound += envelope * wave_ / harmonic ** random.uniform(0.7, 2)
        sound += (times >= start_s) * np.exp(-since * 40) * random.normal(0, 0.6, n)
    return np.asarray(sound / np.abs(sound).max())


def _music(n: int, random: np.random.Generator) -> Sound:
    return music(n, random)


def _clicks(n: int, random: np.random.Generator) -> Sound:
    sound = coloured(n, random, 1) * 0.02
    for at in random.integers(0, n - 800, int(random.integers(3, 30))):
        sound[at : at + 800] += random.normal(0, 0.5, 800) * np.exp(-np.arange(800) / 120)
    return sound
