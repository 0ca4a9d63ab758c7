"""How much may be asked of `/v1` in a minute, on a clock that is only a number."""

from __future__ import annotations

from sayso.http.replicate_limits import RateLimits
from tests.builders import ALICE, BOB


def test_a_minutes_creates_pass_at_once_and_the_next_waits() -> None:
    limits = RateLimits()

    left = [limits.take(ALICE, "create", now_s=0) for _ in range(600)]
    refused = limits.take(ALICE, "create", now_s=0)

    assert left[0].remaining == 599
    assert left[0].headers == {"ratelimit-remaining": "599", "ratelimit-reset": "1"}
    assert all(allowance.retry_after_s == 0 for allowance in left)
    assert refused.retry_after_s == 1
    assert refused.remaining == 0


def test_the_allowance_fills_evenly_and_not_above_its_size() -> None:
    limits = RateLimits()
    for _ in range(600):
        limits.take(ALICE, "create", now_s=0)

    assert limits.take(ALICE, "create", now_s=0.05).retry_after_s == 1
    assert limits.take(ALICE, "create", now_s=0.1).retry_after_s == 0
    assert limits.take(ALICE, "create", now_s=0.1).retry_after_s == 1
    assert limits.take(ALICE, "create", now_s=3_600).remaining == 599


def test_looks_lists_and_creates_and_accounts_are_counted_apart() -> None:
    limits = RateLimits()
    for _ in range(600):
        limits.take(ALICE, "create", now_s=0)

    assert limits.take(ALICE, "other", now_s=0).remaining == 2_999
    assert limits.take(ALICE, "look", now_s=0).remaining == 59_999
    assert limits.take(BOB, "create", now_s=0).remaining == 599
