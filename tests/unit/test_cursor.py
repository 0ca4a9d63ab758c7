"""Cursors of the list of generations: what we gave comes back, anything else is refused."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sayso.clock import Instant
from sayso.errors import OptionInvalid
from sayso.generations.cursor import from_cursor, to_cursor

ID = "01jd8x7k2m4n6p8q0r2s4t6v8w"
LATEST = 2**63 - 1


def encoded(text: str | bytes) -> str:
    content = text.encode() if isinstance(text, str) else text
    return urlsafe_b64encode(content).rstrip(b"=").decode()


@given(at=st.integers(0, LATEST), identifier=st.from_regex(r"[0-9a-z]{0,40}", fullmatch=True))
def test_a_cursor_comes_back_as_it_was(at: int, identifier: str) -> None:
    assert from_cursor(to_cursor(Instant(at), identifier)) == (at, identifier)


@pytest.mark.parametrize(
    "text",
    [
        f'[Infinity,"{ID}"]',
        f'[-Infinity,"{ID}"]',
        f'[NaN,"{ID}"]',
        f'[1e400,"{ID}"]',
        f'[1.0,"{ID}"]',
        f'[true,"{ID}"]',
        f'[-1,"{ID}"]',
        f'[{LATEST + 1},"{ID}"]',
        f'[{"9" * 120},"{ID}"]',
        '[1,"\\u0000"]',
        '[1,"\\ud800"]',
        f'[1,"{"a" * 41}"]',
        f'[1,"{ID}",1]',
        '["1","a"]',
        "[1]",
        "[" * 140,
        "{}",
        "null",
        "1",
        "",
    ],
)
def test_what_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(OptionInvalid, match="not one that we gave"):
        from_cursor(encoded(text))


NUMBERS = st.integers() | st.floats() | st.booleans() | st.none()
VALUES = st.recursive(NUMBERS | st.text(), lambda inner: st.lists(inner, max_size=4))


@given(value=VALUES)
@example(value=[float("inf"), ID])
def test_any_value_is_a_place_or_refused(value: Any) -> None:
    refuses_or_reads(encoded(json.dumps(value)))


@given(content=st.binary(max_size=150))
def test_any_bytes_are_a_place_or_refused(content: bytes) -> None:
    refuses_or_reads(encoded(content))


@given(cursor=st.text(max_size=200))
def test_any_text_is_a_place_or_refused(cursor: str) -> None:
    refuses_or_reads(cursor)


def refuses_or_reads(cursor: str) -> None:
    try:
        at, identifier = from_cursor(cursor)
    except OptionInvalid:
        return
    assert 0 <= at <= LATEST
    assert from_cursor(to_cursor(at, identifier)) == (at, identifier)
