"""Sentences to be spoken, from Debian's fortune packages: prompts in six languages.

They are only read aloud by synthesisers; no text becomes a part of the project.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Final

from sayso.engine.words import dictionary_words

FORTUNES: Final = Path("/usr/share/games/fortunes")
_ENGLISH: Final = (
    "literature", "wisdom", "riddles", "science", "people", "love", "work", "education",
    "fortunes", "cookie", "platitudes", "politics", "food", "kids",
)  # fmt: skip
_FOLDERS: Final = {"es": "es", "it": "it", "de": "de", "pl": "pl", "cs": "cs", "ru": "ru"}
_FEWEST_WORDS, _MOST_WORDS = 5, 16


def sentences(seed: int) -> dict[str, list[str]]:
    """Return shuffled sentences by language code; every English word is in CMU's dictionary."""
    shuffler = random.Random(seed)
    found = {"en": _english(), "pt": _sentences_in([FORTUNES / "brasil"])}
    for language, folder in _FOLDERS.items():
        files = sorted(path for path in (FORTUNES / folder).glob("*") if _is_text(path))
        found[language] = _sentences_in(files)
    for texts in found.values():
        shuffler.shuffle(texts)
    return found


def _english() -> list[str]:
    known = dictionary_words()
    return [
        sentence
        for sentence in _sentences_in([FORTUNES / name for name in _ENGLISH])
        if all(word in known for word in re.findall(r"[a-z']+", sentence.lower()))
    ]


def _is_text(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.suffix in {"", ".fortunes"}


def _sentences_in(files: list[Path]) -> list[str]:
    found: set[str] = set()
    for path in files:
        if path.exists():
            content = path.read_bytes()
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                text = content.decode("latin-1")
            for cookie in re.split(r"\n%%?\n", re.sub(".\x08", "", text)):
                words = re.sub(r"\n\s*--.*", "", cookie, flags=re.DOTALL).split()
                found.update(filter(_is_speakable, re.split(r"(?<=[.!?]) ", " ".join(words))))
    return sorted(found)


def _is_speakable(sentence: str) -> bool:
    return bool(
        _FEWEST_WORDS <= len(sentence.split()) <= _MOST_WORDS
        and re.fullmatch(r"[^\W\d_][^\W\d_ ,;:'’-]*(?:[ ,;:'’-]+[^\W\d_]+)*[.!?]", sentence)
        and sentence[0].isupper()
        and not re.search(r"[A-Z]{2}", sentence)
    )
