"""The catalogue of texts: the same in every language, and what the page asks for is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[2] / "src" / "sayso" / "web"
ENTRY = re.compile(r'^  "([a-z0-9_.]+)": (?:"((?:[^"\\]|\\.)*)"|\{(.*)\}),$', re.MULTILINE)
PLACE = re.compile(r"\{(\w+)\}")
SPOKEN = re.compile(r"""\bt\(\s*"([a-z0-9_.]+)\"""")
NAMED = re.compile(r'data-t(?:-\w+)?="([a-z0-9_.]+)"')
OTHERS = sorted(path.name for path in WEB.glob("words.*.js") if path.name != "words.en.js")


def texts(name: str) -> dict[str, str]:
    """Return a language's texts; those of plurals as they stand in the file."""
    source = (WEB / name).read_text(encoding="utf-8")
    found = ENTRY.findall(source)
    # An entry that the pattern does not know would be compared with nothing.
    assert len(found) == source.count('\n  "')
    keys = [key for key, _, _ in found]
    assert len(keys) == len(set(keys))
    return {key: text or plurals for key, text, plurals in found}


def asked_for() -> set[str]:
    keys: set[str] = set()
    for path in [*WEB.glob("*.js"), *WEB.glob("*.html")]:
        if not path.name.startswith("words."):
            source = path.read_text(encoding="utf-8")
            keys |= {*SPOKEN.findall(source), *NAMED.findall(source)}
    return keys


@pytest.mark.parametrize("name", OTHERS)
def test_every_language_says_everything(name: str) -> None:
    """Only the sentences for error codes differ: in English the service's own are shown."""
    english, other = texts("words.en.js"), texts(name)

    assert [key for key in other if not key.startswith("error.")] == list(english)


@pytest.mark.parametrize("name", OTHERS)
def test_every_language_has_the_same_places_for_values(name: str) -> None:
    english, other = texts("words.en.js"), texts(name)

    differing = [
        key for key in english if set(PLACE.findall(english[key])) != set(PLACE.findall(other[key]))
    ]

    assert differing == []


def test_the_page_asks_only_for_texts_that_exist() -> None:
    assert asked_for() - set(texts("words.en.js")) == set()


def test_an_error_that_is_translated_is_one_of_ours() -> None:
    """A code that was renamed would silently fall back to English."""
    source = (WEB.parent / "errors.py").read_text(encoding="utf-8")
    ours = {"timed_out", *re.findall(r'^    code = "(\w+)"$', source, re.MULTILINE)}

    for name in OTHERS:
        codes = {key.removeprefix("error.") for key in texts(name) if key.startswith("error.")}
        assert codes - ours == set()
