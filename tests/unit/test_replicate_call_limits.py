"""The limits on calls to Replicate, on a clock that is moved by hand."""

from __future__ import annotations

import pytest

from sayso.clock import SettableClock
from sayso.providers.replicate_limits import (
    FAILURES_TO_OPEN,
    Breaker,
    CallLimits,
    Pause,
    TokenBucket,
    is_low_on_credit,
)

LOW = (
    "Request was throttled. Your rate limit for creating predictions is reduced to 6 requests per "
    "minute with a burst of 1 requests while you have less than $5.0 in credit. "
    "Your rate limit resets in ~5s."
)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


def taken(bucket: TokenBucket, tries: int) -> int:
    return sum(bucket.take() == 0 for _ in range(tries))


def test_a_burst_then_the_rate(clock: SettableClock) -> None:
    bucket = TokenBucket(clock, per_min=600)

    assert taken(bucket, 1_000) == 100
    clock.advance(1)
    assert taken(bucket, 1_000) == 10


def test_those_who_are_refused_come_back_one_by_one(clock: SettableClock) -> None:
    bucket = TokenBucket(clock, per_min=60)
    taken(bucket, 10)

    waits = [bucket.take() for _ in range(5)]

    assert waits == pytest.approx([1, 2, 3, 4, 5])
    clock.advance(3)
    assert taken(bucket, 5) == 3


def test_a_long_pause_brings_no_more_than_a_burst(clock: SettableClock) -> None:
    bucket = TokenBucket(clock, per_min=600)
    clock.advance(86_400)

    assert taken(bucket, 1_000) == 100


def test_what_an_answer_says_is_left_is_believed(clock: SettableClock) -> None:
    limits = CallLimits(clock)
    limits.counted("create", remaining="3", reset="1")

    assert [limits.ask("create") == 0 for _ in range(4)] == [True, True, True, False]
    assert limits.ask("other") == 0


def test_none_left_means_wait_for_the_reset(clock: SettableClock) -> None:
    limits = CallLimits(clock)
    limits.counted("create", remaining="0", reset="7")

    assert limits.ask("create") >= 7
    clock.advance(8)
    assert limits.ask("create") == 0


@pytest.mark.parametrize(("remaining", "reset"), [(None, None), ("x", "1"), ("-1", "1"), ("", "")])
def test_headers_without_sense_change_nothing(
    clock: SettableClock, remaining: str | None, reset: str | None
) -> None:
    limits = CallLimits(clock)
    limits.counted("create", remaining=remaining, reset=reset)

    assert limits.ask("create") == 0


@pytest.mark.parametrize(
    ("detail", "stated_s", "wait_s"),
    [
        ("Request was throttled. Your rate limit resets in ~30s.", None, 30),
        ("Request was throttled. Your rate limit resets in ~30s.", 12.0, 12),
        ("Request was throttled.", None, 5),
        ("Your rate limit resets in ~99999s.", None, 300),
        ("Your rate limit resets in ~0s.", None, 1),
    ],
)
def test_a_429_says_how_long(
    clock: SettableClock, detail: str, stated_s: float | None, wait_s: float
) -> None:
    limits = CallLimits(clock)

    assert limits.throttled("create", detail=detail, stated_s=stated_s) == wait_s
    assert limits.ask("create") > 0
    clock.advance(wait_s + 1)
    assert limits.ask("create") == 0


def test_little_credit_is_a_stricter_limit_for_a_while(clock: SettableClock) -> None:
    limits = CallLimits(clock)
    assert is_low_on_credit(LOW) == (6, 1)
    limits.throttled("create", detail=LOW, stated_s=5)

    clock.advance(6)
    assert [limits.ask("create") == 0 for _ in range(3)] == [True, False, False]
    clock.advance(10)
    assert limits.ask("create") == 0
    clock.advance(700)
    # The full limit again; should it be too much, a 429 says so.
    assert sum(limits.ask("create") == 0 for _ in range(50)) == 1
    clock.advance(1)
    assert sum(limits.ask("create") == 0 for _ in range(50)) == 10


def test_the_breaker_opens_after_failures_in_a_row(clock: SettableClock) -> None:
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN - 1):
        assert not breaker.failed()
    breaker.worked()
    for _ in range(FAILURES_TO_OPEN - 1):
        assert not breaker.failed()

    assert breaker.ask() == 0
    assert breaker.failed()
    assert breaker.ask() > 0


def test_a_half_open_breaker_lets_one_call_find_out(clock: SettableClock) -> None:
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed()
    clock.advance(breaker.ask())

    assert breaker.ask() == 0
    # The others ask again soon: an answer takes seconds at most.
    assert 0 < breaker.ask() <= 5
    breaker.worked()
    assert [breaker.ask() for _ in range(3)] == [0, 0, 0]


def test_an_outage_is_asked_about_ever_less_often(clock: SettableClock) -> None:
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed()
    calls = 0
    for _ in range(600):
        if breaker.ask() == 0:
            calls += 1
            # Only the one that opens it is told of.
            assert not breaker.failed()
        clock.advance(1)

    # Ten minutes: after 5, 15, 35, 75 s and then once a minute.
    assert calls == 12


def test_a_probe_that_never_comes_back_is_forgotten(clock: SettableClock) -> None:
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed()
    clock.advance(breaker.ask())
    assert breaker.ask() == 0
    clock.advance(61)

    assert breaker.ask() == 0


def test_a_pause_grows_and_ends_with_the_first_success(clock: SettableClock) -> None:
    pause = Pause(clock)
    waits = []
    for _ in range(7):
        waits.append(pause.begin("no credit"))
        clock.advance(waits[-1])

    assert waits == [30, 60, 120, 240, 300, 300, 300]
    assert pause.begin("no credit") == 300
    clock.advance(300)
    assert [pause.ask() == 0 for _ in range(3)] == [True, False, False]
    assert pause.end()
    assert not pause.end()
    assert pause.ask() == 0
    assert pause.begin("again") == 30


def test_what_is_refused_meanwhile_makes_a_pause_no_longer(clock: SettableClock) -> None:
    """Looks are refused with the same token every few seconds."""
    pause = Pause(clock)
    pause.begin("no token")
    for _ in range(5):
        clock.advance(5)
        pause.begin("no token")

    clock.advance(5)
    assert pause.ask() == 0
    assert pause.begin("no token") == 60
