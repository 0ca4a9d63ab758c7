"""Instants and ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.clock import (
    Instant,
    SettableClock,
    SystemClock,
    after,
    from_datetime,
    iso,
    to_datetime,
)
from sayso.ids import ALPHABET, Ids, encode, made_at

moments = st.datetimes(
    datetime(1971, 1, 1),  # noqa: DTZ001 (hypothesis adds the zone)
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(moments)
def test_an_instant_is_exact_to_the_microsecond(moment: datetime) -> None:
    assert to_datetime(from_datetime(moment)) == moment


def test_an_instant_reads_as_utc_with_microseconds() -> None:
    berlin = datetime(2026, 1, 31, 10, 8, 7, 120_000, tzinfo=timezone(timedelta(hours=1)))

    assert iso(from_datetime(berlin)) == "2026-01-31T09:08:07.120000Z"


def test_a_datetime_without_a_zone_is_no_instant() -> None:
    with pytest.raises(ValueError, match="time zone"):
        from_datetime(datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_system_clock_tells_the_time() -> None:
    clock = SystemClock()

    before = datetime.now(UTC)
    told = to_datetime(clock.now())

    assert abs(told - before) < timedelta(seconds=5)
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_a_settable_clock_stands_still_until_it_is_moved() -> None:
    clock = SettableClock(Instant(1_000_000))
    clock.advance(1.5)
    clock.jump(-0.5)

    assert clock.now() == 2_000_000
    assert clock.monotonic_s() == 1.5
    with pytest.raises(ValueError, match="forwards"):
        clock.advance(-1)


def test_ids_sort_by_the_time_they_were_made() -> None:
    clock = SettableClock()
    ids = Ids(clock.now)
    made = []
    for _ in range(50):
        made.append(ids.new())
        clock.advance(0.001)

    assert made == sorted(made)
    assert made_at(made[-1]) == after(clock.now(), -0.001)


def test_ids_are_26_characters_of_the_alphabet_and_differ() -> None:
    ids = Ids(SystemClock().now)
    made = [*(ids.new() for _ in range(1_000)), *(ids.nonce() for _ in range(1_000))]

    assert len(set(made)) == 2_000
    assert {len(one) for one in made} == {26}
    assert set("".join(made)) <= set(ALPHABET)


def test_ids_are_reproducible_when_chance_is_replaced() -> None:
    ids = Ids(lambda: 0, random_bits=lambda bits: (1 << bits) - 1)

    assert ids.new() == "0000000000zzzzzzzzzzzzzzzz"
    assert ids.nonce() == "z" * 26


@given(
    st.integers(min_value=0, max_value=2**130 - 1), st.integers(min_value=0, max_value=2**130 - 1)
)
def test_encoded_numbers_sort_as_numbers(one: int, other: int) -> None:
    assert (encode(one) < encode(other)) == (one < other)


@pytest.mark.parametrize("text", ["", "short", "u" * 26])
def test_what_is_no_id_was_never_made(text: str) -> None:
    with pytest.raises(ValueError, match=r"characters|substring"):
        made_at(text)
