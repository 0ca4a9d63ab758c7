"""The catalogue of texts: the same in every language, and what the page asks for is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sayso import errors

WEB = Path(__file__).resolve().parents[2] / "src" / "sayso" / "web"
ENTRY = re.compile(r'^  "([a-z0-9_.]+)": (?:"((?:[^"\\]|\\.)*)"|\{(.*)\}),$', re.MULTILINE)
PLACE = re.compile(r"\{(\w+)\}")
SPOKEN = re.compile(r"""\bt\(\s*"([a-z0-9_.]+)\"""")
NAMED = re.compile(r'data-t(?:-\w+)?="([a-z0-9_.]+)"')
OTHERS = sorted(path.name for path in WEB.glob("words.*.js") if path.name != "words.en.js")

# The kinds of errors that a generation can end with by themselves; see also `said_codes`.
ENDING: Final = (
    errors.InputRejected,
    errors.UrlUnusable,
    errors.ChildFailed,
    errors.StoreUnavailable,
    errors.ArtifactMissing,
    errors.ProviderError,
    errors.VideoRefused,
)
# Which argument of these calls is the code of a failure.
CODE_AT: Final = {"failed": 0, "Failure": 1, "_known": 2}


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


def codes_of(root: type[errors.SaysoError]) -> Iterator[str]:
    """Give the codes of an error and of all its kinds."""
    yield root.code
    for kind in root.__subclasses__():
        yield from codes_of(kind)


def said_codes() -> set[str]:
    """Return the codes that providers and the rules of generations give to failures themselves."""
    found: set[str] = set()
    for folder in ("providers", "generations"):
        for path in (WEB.parent / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                code = _code_in(node)
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    found.add(code.value)
    return found


def _code_in(node: ast.AST) -> ast.expr | None:
    match node:
        case ast.Call(func=ast.Name(id=name), args=args) if name in CODE_AT:
            return args[CODE_AT[name]] if len(args) > CODE_AT[name] else None
        case ast.Call(keywords=keywords):
            named = (given.value for given in keywords if given.arg in {"code", "error_code"})
            return next(named, None)
        # What is given to a failure as a pair: its code and its sentence.
        case ast.AnnAssign(target=ast.Name(id="_UNKNOWN"), value=ast.Tuple(elts=[code, *_])):
            return code
        case _:
            return None


def test_a_generations_end_is_told_in_every_language() -> None:
    """The service's own sentences are English: elsewhere each code has one of the page's."""
    said = said_codes()
    # Some of each source; a pattern that finds nothing would hold nothing.
    assert {"timed_out", "no_output", "provider_failed", "input_flagged", "child_crashed"} <= said
    ends = said | {errors.SaysoError.code, *(code for root in ENDING for code in codes_of(root))}

    for name in OTHERS:
        untold = ends - {key.removeprefix("error.") for key in texts(name)}
        assert untold == set()


def test_an_error_that_is_translated_is_one_of_ours() -> None:
    """A code that was renamed would silently fall back to English."""
    ours = {*codes_of(errors.SaysoError), *said_codes()}

    for name in OTHERS:
        codes = {key.removeprefix("error.") for key in texts(name) if key.startswith("error.")}
        assert codes - ours == set()
