"""Which event a change is, and how long a failed delivery is tried."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from sayso.clock import SECOND, Instant
from sayso.webhooks.rules import DEFAULT_EVENTS, TRIES, Event, Told, event_of, retry_after_s

NOW = Instant(1_000 * SECOND)
ALL: tuple[Event, ...] = ("start", "output", "logs", "completed")


def event(
    wanted: Collection[Event] = ALL,
    *,
    status: str = "processing",
    logs: str = "",
    events: Collection[str] = (),
    told_logs: str = "",
    ago_s: float | None = None,
) -> str | None:
    at = None if ago_s is None else Instant(NOW - round(ago_s * SECOND))
    told = Told(events=frozenset(events), logs=told_logs, at=at)
    return event_of(wanted, status=status, logs=logs, told=told, now=NOW)


def test_a_start_is_told_once() -> None:
    assert event() == "start"
    assert event(events=["start"]) is None


def test_waiting_to_start_is_not_told() -> None:
    assert event(status="starting") is None


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled"])
def test_every_end_is_completed_and_told_once(status: str) -> None:
    assert event(status=status) == "completed"
    assert event(status=status, events=["completed"]) is None


def test_an_end_without_a_video_is_no_output() -> None:
    assert event(["output"], status="succeeded") == "output"
    assert event(["output"], status="failed") is None
    assert event(["output"], status="succeeded", events=["output"]) is None


def test_by_default_the_end_alone_is_told() -> None:
    assert event(DEFAULT_EVENTS, logs="new") is None
    assert event(DEFAULT_EVENTS, status="canceled") == "completed"


def test_new_logs_are_told_at_most_twice_a_second() -> None:
    assert event(["logs"], logs="new") == "logs"
    assert event(["logs"], logs="new", told_logs="new") is None
    assert event(["logs"], logs="newer", told_logs="new", ago_s=0.4) is None
    assert event(["logs"], logs="newer", told_logs="new", ago_s=0.5) == "logs"


def test_only_the_last_event_is_tried_again() -> None:
    assert retry_after_s("start", attempts=1) is None
    assert retry_after_s("logs", attempts=1) is None
    assert retry_after_s("completed", attempts=1) == 1
    assert retry_after_s("output", attempts=3) == 4


def test_retries_grow_to_an_hour_and_end_after_some_hours() -> None:
    waits = [retry_after_s("completed", attempts=n) for n in range(1, TRIES)]

    known = [wait for wait in waits if wait is not None]
    assert len(known) == len(waits)
    assert known == sorted(known)
    assert max(known) == 3_600
    assert sum(known) / 3_600 == pytest.approx(8, abs=0.5)  # As the docs say.
    assert retry_after_s("completed", attempts=TRIES) is None
