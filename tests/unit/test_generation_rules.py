"""The rules of a generation's life, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.clock import SECOND, Instant, after
from sayso.errors import (
    OutputLost,
    ProviderRejected,
    ProviderTimedOut,
    ProviderUnavailable,
    SaysoError,
    StoreUnavailable,
    VideoRefused,
)
from sayso.generations.pace import look_interval_s, next_look_at, percent_of
from sayso.generations.policy import Policy
from sayso.generations.rules import (
    FINAL,
    MOVES,
    AttemptRecord,
    Bind,
    End,
    IllegalMove,
    Job,
    Later,
    Recreate,
    Refused,
    Retry,
    Search,
    Sought,
    State,
    Store,
    Unclear,
    View,
    Wait,
    after_keep_error,
    after_search,
    after_submit_error,
    before_submit,
    first_deadline,
    is_open_again,
    later_status,
    observe,
    orphaned,
    require_move,
    span_text,
    stop_of,
)
from sayso.ids import AccountId, GenerationId, Nonce, ProviderId
from sayso.providers.base import (
    Failure,
    FailureKind,
    Prediction,
    PredictionStatus,
    ProviderTraits,
)
from tests.builders import NOON

TRAITS = ProviderTraits(name="scripted", label="Scripted")
POLICY = Policy()
IT = ProviderId("it")


def at(seconds: float) -> Instant:
    return after(NOON, seconds)


def an_attempt(**changes: Any) -> AttemptRecord:
    values: dict[str, Any] = {
        "number": 1,
        "nonce": Nonce("n1"),
        "provider_id": IT,
        "state": "processing",
        "output": None,
        "submitted_at": NOON,
        "missed_at": None,
        "finished_at": None,
    }
    return AttemptRecord(**values | changes)


def a_job(*records: AttemptRecord, **changes: Any) -> Job:
    tried = tuple(replace(record, number=n) for n, record in enumerate(records, start=1))
    values: dict[str, Any] = {
        "id": GenerationId("g"),
        "account_id": AccountId("alice"),
        "model": "test/model",
        "provider": "scripted",
        "state": State.RUNNING,
        "public_status": "starting",
        "percent": 10,
        "basis": "measured",
        "stage": None,
        "attempts": max(len(tried), 1),
        "seconds": 10,
        "price_micros": 1,
        "created_at": NOON,
        "started_at": None,
        "deadline_at": at(600),
        "cancel_requested_at": None,
        "cancel_after_s": None,
        "tried": tried or (an_attempt(),),
    }
    return Job(**values | changes)


def seen(status: str, **changes: Any) -> Prediction:
    return Prediction(provider_id=IT, status=PredictionStatus(status), **changes)


def looked(job: Job, prediction: Prediction | None, seconds: float, **changes: Any) -> Any:
    view = View(
        now=at(seconds),
        traits=TRAITS,
        policy=POLICY,
        look_at=at(seconds + 5),
        typical_s=100,
        deadline_s=600,
    )
    return observe(job, prediction, replace(view, **changes))


TOO_LATE = Failure(FailureKind.TIMEOUT, "timed_out", "It took too long.")
BAD_LUCK = Failure(FailureKind.TRANSIENT, "busy", "It was interrupted.", "PA")
FLAGGED = Failure(FailureKind.PERMANENT, "flagged", "It was refused.", "E005")


# The table


def test_the_state_table_is_the_design() -> None:
    assert {(a.value, b.value) for a, after_a in MOVES.items() for b in after_a} == {
        ("created", "submitting"),
        ("submitting", "running"),
        ("running", "storing"),
        ("storing", "succeeded"),
        ("submitting", "created"),
        ("running", "created"),
        *((state, "failed") for state in ("created", "submitting", "running", "storing")),
        *((state, "canceled") for state in ("created", "submitting", "running")),
    }
    assert {s for s in State if s.is_final} == FINAL == {s for s, to in MOVES.items() if not to}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("to", list(State))
def test_only_the_steps_of_the_table_are_allowed(state: State, to: State) -> None:
    if to in MOVES[state]:
        require_move(state, to)
    else:
        with pytest.raises(IllegalMove):
            require_move(state, to)


@given(st.lists(st.sampled_from(["starting", "processing", "succeeded", "failed"]), min_size=1))
def test_public_statuses_never_go_backwards(words: list[Any]) -> None:
    order = {"starting": 0, "processing": 1, "succeeded": 2, "failed": 2}
    status: Any = "starting"
    for word in words:
        later = later_status(status, word)
        assert order[later] >= order[status]
        status = later


# When to stop


@pytest.mark.parametrize(
    ("changes", "seconds", "reason"),
    [
        ({}, 599, None),
        ({}, 600, "deadline"),
        ({"cancel_requested_at": at(5)}, 5, "cancel"),
        ({"cancel_requested_at": at(5)}, 700, "cancel"),
        ({"cancel_requested_at": at(650)}, 700, "deadline"),
        ({"cancel_after_s": 30}, 29, None),
        ({"cancel_after_s": 30}, 30, "cancel"),
        ({"deadline_at": None}, 10_000, None),
    ],
)
def test_the_earliest_reason_to_stop_counts(
    changes: dict[str, Any], seconds: float, reason: str | None
) -> None:
    stop = stop_of(a_job(**changes), at(seconds))

    assert (stop.reason if stop else None) == reason


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (600, "10 minutes"),
        (60, "1 minute"),
        (90, "90 seconds"),
        (1, "1 second"),
        (3600, "1 hour"),
        (7200, "2 hours"),
        (5400, "90 minutes"),
        (0, "0 seconds"),
    ],
)
def test_spans_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


def test_what_was_never_sent_ends_at_its_stop() -> None:
    created = a_job(state=State.CREATED, tried=(), attempts=0)
    assert before_submit(created, now=at(599), traits=TRAITS) is None

    end = before_submit(created, now=at(600), traits=TRAITS)

    assert end == End(
        state=State.FAILED,
        code="timed_out",
        text="Generation timed out after 10 minutes",
        release_reason="expired",
    )


def test_in_a_queue_the_clock_starts_with_the_work() -> None:
    queue = replace(TRAITS, queues=True)
    deadline_at = first_deadline(NOON, traits=queue, deadline_s=600, policy=POLICY)
    assert deadline_at == at(86_400)

    waiting = looked(a_job(deadline_at=deadline_at), seen("starting"), 5_000, traits=queue)
    assert isinstance(waiting, Wait)
    started = looked(
        a_job(deadline_at=deadline_at),
        seen("processing", started_at=at(5_000)),
        5_001,
        traits=queue,
    )

    assert started.deadline_at == at(5_600)
    over = a_job(started_at=at(5_000), deadline_at=at(5_600))
    end = looked(over, seen("canceled"), 5_601, traits=queue)
    assert end.text == "Generation timed out after 10 minutes"


# A look


def test_success_is_stored_whatever_was_asked_for() -> None:
    success = seen("succeeded", output="there")
    for job, seconds in (
        (a_job(), 5),
        (a_job(cancel_requested_at=at(3)), 5),
        (a_job(), 629),
    ):
        assert looked(job, success, seconds) == Store("there")


def test_success_without_output_names_the_provider() -> None:
    assert looked(a_job(), seen("succeeded"), 5).text == "No video URL returned from Scripted"


@pytest.mark.parametrize(
    ("failed_before", "delay_s"),
    [(0, 5), (1, 20)],
)
def test_bad_luck_is_tried_again(failed_before: int, delay_s: float) -> None:
    job = a_job(*[an_attempt(state="failed")] * failed_before, an_attempt())

    assert looked(job, seen("failed", failure=BAD_LUCK), 5) == Retry(due_at=at(5 + delay_s))


@pytest.mark.parametrize(
    ("job", "failure", "state", "text"),
    [
        (a_job(), FLAGGED, State.FAILED, "It was refused."),
        (
            a_job(*[an_attempt(state="failed")] * 2, an_attempt()),
            BAD_LUCK,
            State.FAILED,
            "It was interrupted.",
        ),
        (a_job(cancel_requested_at=at(1)), BAD_LUCK, State.CANCELED, None),
        (a_job(deadline_at=at(1)), BAD_LUCK, State.FAILED, "It was interrupted."),
        (a_job(), TOO_LATE, State.FAILED, "It took too long."),
        (a_job(deadline_at=at(1)), TOO_LATE, State.FAILED, "Generation timed out after 1 second"),
        (a_job(), None, State.FAILED, "Scripted could not make the video"),
    ],
)
def test_other_failures_end_it(
    job: Job, failure: Failure | None, state: State, text: str | None
) -> None:
    end = looked(job, seen("failed", failure=failure), 5)

    assert (end.state, end.text) == (state, text)


@pytest.mark.parametrize(
    ("job", "state", "text"),
    [
        (a_job(cancel_requested_at=at(1)), State.CANCELED, None),
        (a_job(deadline_at=at(1)), State.FAILED, "Generation timed out after 1 second"),
        (a_job(), State.FAILED, "Scripted canceled the generation"),
    ],
)
def test_a_canceled_prediction_ends_it_for_the_reason_it_was_canceled(
    job: Job, state: State, text: str | None
) -> None:
    end = looked(job, seen("canceled"), 5)

    assert (end.state, end.text) == (state, text)


@pytest.mark.parametrize("prediction", [None, seen("processing"), seen("unknown")])
def test_a_stop_has_a_grace_and_then_ends_without_the_provider(
    prediction: Prediction | None,
) -> None:
    job = a_job(cancel_requested_at=at(10))

    waiting = looked(job, prediction, 39)
    ended = looked(job, prediction, 40)

    assert (type(waiting), waiting.due_at) == (Wait, at(41))
    assert ended.state is State.CANCELED


def test_waiting_never_oversleeps_a_deadline_or_a_cancel_after() -> None:
    assert looked(a_job(), seen("starting"), 598).due_at == at(600)
    assert looked(a_job(cancel_after_s=7), seen("starting"), 5).due_at == at(7)


def test_nothing_new_is_no_news() -> None:
    first = looked(a_job(), seen("processing", percent=50, stage="rendering"), 5)
    assert (first.is_news, first.percent, first.public_status) == (True, 50, "processing")

    job = a_job(public_status="processing", percent=50, stage="rendering")
    again = looked(job, seen("processing", percent=50, stage="rendering"), 6)

    assert not again.is_news
    assert not looked(job, None, 7).is_news


def test_a_percent_never_goes_backwards() -> None:
    job = a_job(public_status="processing", percent=60)

    assert looked(job, seen("processing", percent=3), 5).percent == 60


def test_an_unknown_word_is_an_alarm_and_no_end() -> None:
    wait = looked(a_job(), seen("unknown"), 5)

    assert (type(wait), wait.alarm) == (Wait, "unknown status")


@pytest.mark.parametrize(
    ("spent_s", "measured", "expected"),
    [
        (0, None, (10, "estimated")),
        (50, None, (50, "estimated")),
        (53, None, (50, "estimated")),
        (10_000, None, (90, "estimated")),
        (5, 0, (10, "measured")),
        (5, 100, (90, "measured")),
        (5, 250, (90, "measured")),
    ],
)
def test_percents(spent_s: float, measured: int | None, expected: tuple[int, str]) -> None:
    prediction = seen("processing", percent=measured)

    assert percent_of(prediction, spent_s=spent_s, typical_s=100) == expected


# A create call that raised, and the search for what became of it


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProviderUnavailable("x", retry_after_s=20), Refused(due_at=at(20))),
        (ProviderUnavailable("x", retry_after_s=0), Refused(due_at=at(1))),
        (ProviderUnavailable("x", retry_after_s=9_999), Refused(due_at=at(300))),
        (ProviderTimedOut("x"), Unclear(due_at=at(60))),
    ],
)
def test_a_create_that_raised(error: Any, expected: Any) -> None:
    assert after_submit_error(error, now=NOON, traits=TRAITS, policy=POLICY) == expected


def test_a_rejected_create_is_the_end() -> None:
    end = after_submit_error(ProviderRejected("No."), now=NOON, traits=TRAITS, policy=POLICY)

    assert isinstance(end, End)
    assert (end.state, end.text, end.release_reason) == (State.FAILED, "No.", "failed")


def searched(
    job: Job,
    seconds: float,
    found: Prediction | None = None,
    *,
    missed_for_s: float | None = None,
    **changes: Any,
) -> Any:
    missed_at = job.attempt.missed_at
    since_s = 0.0 if missed_at is None else seconds - (missed_at - NOON) / SECOND
    elapsed_s = since_s if missed_for_s is None else missed_for_s
    sought = Sought(found=found, missed_for_s=elapsed_s, **changes)
    return after_search(job, sought, now=at(seconds), traits=TRAITS, policy=POLICY)


def lost(
    *before: AttemptRecord,
    missed_s: float | None = None,
    fetched_s: float | None = None,
    **changes: Any,
) -> Job:
    record = an_attempt(
        state="submitting",
        provider_id=None,
        missed_at=None if missed_s is None else at(missed_s),
        fetched_at=None if fetched_s is None else at(fetched_s),
    )
    return a_job(*before, record, state=State.SUBMITTING, **changes)


@pytest.mark.parametrize(
    ("missed_s", "seconds", "expected"),
    [
        (None, 30, Search(due_at=at(60), missed_at=None)),
        (None, 60, Search(due_at=at(120), missed_at=at(60))),
        (60, 100, Search(due_at=at(120), missed_at=at(60))),
        (60, 120, Recreate()),
    ],
)
def test_absent_means_missed_twice_a_minute_apart(
    missed_s: float | None, seconds: float, expected: Any
) -> None:
    assert searched(lost(missed_s=missed_s), seconds) == expected


def test_what_is_found_is_bound_even_late() -> None:
    assert searched(lost(missed_s=60, cancel_requested_at=at(1)), 500, seen("starting")) == Bind(
        seen("starting")
    )


def test_a_search_without_an_answer_proves_nothing() -> None:
    assert searched(lost(missed_s=60), 300, is_answered=False) == Search(
        due_at=at(305), missed_at=at(60)
    )


def test_a_date_that_jumps_proves_nothing() -> None:
    # By the date a minute has passed since the first search, in truth a second.
    decided = searched(lost(missed_s=60), 461, missed_for_s=1)

    assert decided == Search(due_at=at(520), missed_at=at(60))
    assert searched(lost(missed_s=60), 520, missed_for_s=60) == Recreate()


def test_what_was_fetched_is_never_absent() -> None:
    job = lost(missed_s=60, fetched_s=2)

    assert searched(job, 300) == Search(due_at=at(360), missed_at=at(60))
    # The deadline is at 600 s; it ends after the grace, and not by a new attempt.
    assert searched(job, 590).due_at == at(600)
    end = searched(job, 630)
    assert (end.text, end.release_reason) == ("Generation timed out after 10 minutes", "expired")


@pytest.mark.parametrize(
    ("state", "provider_id", "is_open"),
    [
        ("absent", None, False),
        ("refused", None, False),
        ("failed", IT, False),
        ("processing", IT, True),  # Its callback came after all.
        ("submitting", None, True),  # Its input was fetched after all.
    ],
)
def test_an_attempt_that_runs_after_all_is_not_sent_again(
    state: str, provider_id: ProviderId | None, *, is_open: bool
) -> None:
    finished_at = NOON if state == "failed" else None
    attempt = an_attempt(state=state, provider_id=provider_id, finished_at=finished_at)

    assert is_open_again(a_job(attempt, state=State.CREATED)) is is_open
    assert not is_open_again(a_job(attempt, state=State.SUBMITTING))


def test_a_twin_is_neither_the_attempt_nor_a_try() -> None:
    failed, twin = an_attempt(state="failed"), an_attempt(state="failed", twin_of=1)
    job = a_job(failed, twin, attempts=1)

    assert (job.attempt.number, job.next_number, job.count("failed")) == (1, 3, 1)


def test_three_creates_that_vanish_are_enough() -> None:
    absent = an_attempt(state="absent", provider_id=None)

    assert isinstance(searched(lost(absent, missed_s=60), 120), Recreate)
    assert isinstance(searched(lost(absent, absent, missed_s=60), 120), End)


def test_a_stop_ends_the_search_after_its_grace() -> None:
    job = lost(cancel_requested_at=at(10))

    assert searched(job, 20) == Search(due_at=at(22), missed_at=None)
    assert searched(job, 40).state is State.CANCELED


# Storing


@pytest.mark.parametrize(
    ("error", "age_s", "expected"),
    [
        (StoreUnavailable("x"), 0, Later(due_at=at(2))),
        (StoreUnavailable("x"), 100, Later(due_at=at(150))),
        (ProviderUnavailable("x", retry_after_s=30), 0, Later(due_at=at(30))),
        (StoreUnavailable("x"), 5_000, Later(due_at=at(5_300))),
        (StoreUnavailable("x"), 7_200, "not_stored"),
        (OutputLost("x"), 0, "output_lost"),
        (VideoRefused("x"), 0, "video_refused"),
    ],
)
def test_storing_that_failed(error: SaysoError, age_s: float, expected: Any) -> None:
    job = a_job(an_attempt(state="succeeded", finished_at=NOON), state=State.STORING)

    decided = after_keep_error(job, error, now=at(age_s), traits=TRAITS, policy=POLICY)

    assert (decided.code if isinstance(decided, End) else decided) == expected


def test_without_its_provider_a_generation_waits_for_its_time() -> None:
    assert orphaned(a_job(), now=at(629), policy=POLICY) is None
    assert isinstance(orphaned(a_job(), now=at(630), policy=POLICY), End)
    assert orphaned(a_job(state=State.STORING), now=at(9_999), policy=POLICY) is None


# Pace


@pytest.mark.parametrize(
    ("age_s", "in_flight", "calls_per_s", "reads_per_call", "expected_s"),
    [
        (0, 1, None, 1, 5),
        (130, 1, None, 1, 10),
        (301, 1, None, 1, 15),
        (0, 1_000, 50, 1, 40),  # A thousand at half of 50 calls a second.
        (0, 10_000, 50, 1, 400),
        (0, 10_000, 50, 100, 40),  # List calls: what one process can look at counts.
        (0, 1_000, 50, 100, 5),
    ],
)
def test_looks_slow_down_with_age_and_number(
    age_s: float,
    in_flight: int,
    calls_per_s: float | None,
    reads_per_call: int,
    expected_s: float,
) -> None:
    traits = replace(TRAITS, calls_per_s=calls_per_s, reads_per_call=reads_per_call)

    assert look_interval_s(age_s, in_flight, traits=traits, policy=POLICY) == expected_s


@given(
    start=st.integers(0, 10_000_000),
    in_flight=st.integers(1, 20_000),
    age_s=st.floats(0, 1_000),
    reads=st.sampled_from([1, 100]),
)
def test_the_next_look_is_about_an_interval_away(
    start: int, in_flight: int, age_s: float, reads: int
) -> None:
    traits = replace(TRAITS, reads_per_call=reads)
    now = Instant(NOON + start)
    interval_s = look_interval_s(age_s, in_flight, traits=traits, policy=POLICY)

    wait_s = (next_look_at(now, age_s, in_flight, traits=traits, policy=POLICY) - now) / SECOND

    assert interval_s / 2 - 0.001 <= wait_s <= interval_s * 1.5 + 0.001


def test_few_predictions_are_looked_at_in_the_same_call() -> None:
    traits = replace(TRAITS, reads_per_call=100)
    moments = {
        next_look_at(Instant(NOON + ms * 1_000), 10, 50, traits=traits, policy=POLICY)
        for ms in range(0, 5_000, 100)
    }

    assert len(moments) <= 2
