"""Replicate's JSON as ours: whatever is missing, doubled or strange in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.catalogue.catalogue import read_catalogue
from sayso.clock import Instant
from sayso.providers.base import FailureKind, PredictionStatus
from sayso.providers.replicate_reading import (
    instant_of,
    is_id,
    model_of,
    to_prediction,
    video_url_of,
    words_of,
)

WAN = read_catalogue(providers=()).find("wan-video/wan-2.2-s2v")
URL = "https://replicate.delivery/xezq/abc/out.mp4"
ID = "gm3qorzdhgbfurvjtvhg6dckhu"

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)


def a_body(**changes: Any) -> dict[str, Any]:
    return {"id": ID, "status": "processing", "model": WAN.name, "input": {}, **changes}


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("starting", PredictionStatus.STARTING),
        ("processing", PredictionStatus.PROCESSING),
        ("succeeded", PredictionStatus.SUCCEEDED),
        ("failed", PredictionStatus.FAILED),
        ("canceled", PredictionStatus.CANCELED),
        ("aborted", PredictionStatus.FAILED),
        ("warming", PredictionStatus.UNKNOWN),
        (None, PredictionStatus.UNKNOWN),
        (7, PredictionStatus.UNKNOWN),
    ],
)
def test_words_for_how_far_it_is(word: object, status: PredictionStatus) -> None:
    assert to_prediction(a_body(status=word), WAN).status is status


def test_nothing_but_the_id_is_needed() -> None:
    seen = to_prediction({"id": ID}, None)

    assert seen.provider_id == ID
    assert seen.status is PredictionStatus.UNKNOWN
    assert (seen.output, seen.failure, seen.percent, seen.logs) == (None, None, None, None)


def test_aborted_is_a_time_out_that_costs_nothing() -> None:
    by_run = replace(WAN, cost_per_run_s_micros=1_400)
    seen = to_prediction(a_body(status="aborted"), by_run)

    assert seen.failure is not None
    assert seen.failure.kind is FailureKind.TIMEOUT
    assert seen.cost_micros == 0


@pytest.mark.parametrize(
    ("output", "url"),
    [
        (URL, URL),
        ([URL], URL),
        ({"video": URL}, URL),
        ({"thumbnail": "https://x.example.com/a.png", "video": URL}, URL),
        (["https://x.example.com/a.png", URL + "?sig=1"], URL + "?sig=1"),
        ([{"file": {"url": URL}}], URL),
        ("https://x.example.com/video", "https://x.example.com/video"),
        ({"text": "hello", "fps": 25}, None),
        ("data:video/mp4;base64,AAAA", None),
        ("", None),
        ([], None),
        (None, None),
        (7, None),
        ("https://" + "x" * 9_000, None),
        (["http://[1] see the notes", URL], URL),
    ],
)
def test_the_video_is_found_in_any_output(output: object, url: str | None) -> None:
    assert video_url_of(output) == url
    assert to_prediction(a_body(status="succeeded", output=output), WAN).output == url


def test_output_before_the_end_is_none() -> None:
    """A create that waits shows it while it says `processing`."""
    assert to_prediction(a_body(output=URL), WAN).output is None


def test_what_was_removed_is_no_output() -> None:
    body = a_body(status="succeeded", output=URL, data_removed=True)

    assert to_prediction(body, WAN).output is None


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2023-11-14T22:13:20Z", 0),
        ("2023-11-14T22:13:20.5Z", 500_000),
        ("2023-11-14T22:13:20.04Z", 40_000),
        ("2023-11-14T22:13:20.329Z", 329_000),
        ("2023-11-14T22:13:20.12170Z", 121_700),
        ("2023-11-14T22:13:20.993975Z", 993_975),
        ("2023-11-14T22:13:20.99397566Z", 993_975),
        ("2023-11-14T22:13:20.993975661Z", 993_975),
        ("2023-11-14T23:13:20.5+01:00", 500_000),
        ("2023-11-14T22:13:20.5", 500_000),
    ],
)
def test_times_have_any_number_of_digits(text: str, micros: int) -> None:
    assert instant_of(text) == Instant(1_700_000_000_000_000 + micros)


@pytest.mark.parametrize("text", [None, 7, "", "soon", "2023-99-14T22:13:20Z", "20:10"])
def test_what_is_no_time_is_none(text: object) -> None:
    assert instant_of(text) is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_times_at_the_ends_of_the_calendar_are_read(text: str) -> None:
    assert isinstance(instant_of(text), int)


@pytest.mark.parametrize(
    ("metrics", "cost"),
    [
        ({"video_output_duration_seconds": 9.6, "predict_time": 112.0}, 192_000),
        ({"video_output_duration_seconds": 10}, 200_000),
        ({"predict_time": 112.0}, None),
        ({"video_output_duration_seconds": 0}, 0),
        ({"video_output_duration_seconds": None}, None),
        ({"video_output_duration_seconds": "9"}, None),
        ({"video_output_duration_seconds": -1}, None),
        ({"video_output_duration_seconds": True}, None),
        ({"video_output_duration_seconds": float("nan")}, None),
        ({"video_output_duration_seconds": 10**400}, None),
        ({"video_output_duration_seconds": 1e308}, None),
        (None, None),
        ([], None),
    ],
)
def test_the_cost_is_by_seconds_of_video(metrics: object, cost: int | None) -> None:
    body = a_body(status="succeeded", output=URL, metrics=metrics)

    assert to_prediction(body, WAN).cost_micros == cost


def test_the_cost_of_a_model_that_is_billed_by_its_run() -> None:
    model = replace(WAN, cost_per_run_s_micros=1_400)
    canceled = a_body(status="canceled", metrics={"predict_time": 10.0})

    assert to_prediction(canceled, model).cost_micros == 14_000
    # Nobody knows what it comes to: it still runs, or does not say how long it ran.
    assert to_prediction(a_body(metrics={"predict_time": 10.0}), model).cost_micros is None
    assert to_prediction(a_body(status="failed"), model).cost_micros is None
    assert to_prediction(a_body(status="succeeded", output=URL), model).cost_micros is None
    assert to_prediction(canceled, None).cost_micros is None


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_no_video_costs_nothing_where_video_is_billed(status: str) -> None:
    charged = a_body(status=status, metrics={"video_output_duration_seconds": 2})

    assert to_prediction(a_body(status=status), WAN).cost_micros == 0
    assert to_prediction(charged, WAN).cost_micros == 40_000


def test_the_entry_of_a_prediction_is_the_one_that_fits_best() -> None:
    plain = replace(WAN, name="x/plain", upstream="x/m")
    sharp = replace(WAN, name="x/sharp", upstream="x/m", fixed={"resolution": "720p"})
    models = (plain, sharp, WAN)

    assert model_of(a_body(model="x/m", input={"resolution": "720p"}), models) is sharp
    assert model_of(a_body(model="x/m", input={}), models) is plain
    assert model_of(a_body(), models) is WAN
    assert model_of(a_body(model="x/other"), models) is None
    assert model_of({"id": ID, "input": None}, models) is None


def test_an_attempt_is_recognised_by_whole_words() -> None:
    body = a_body(
        input={
            "image": "https://s.example.com/files/a.png?expires=1&nonce=abc123&signature=x",
            "audio": "https://api.replicate.com/v1/files/file789",
            "prompt": "nonce=other",
            "seed": 7,
        },
        webhook="https://s.example.com/callbacks/replicate/def456",
    )
    words = words_of(body)

    assert {"abc123", "file789", "def456"} <= words
    assert not {"abc12", "other", "file78"} & words


@pytest.mark.parametrize("text", ["abc", ID, "01m825nvn9a492bvz2djny1pj3"])
def test_ids_are_plain_words(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["", "a/b", "..", "a b", "a\n", "x" * 65, None, 7, "é"])
def test_what_is_no_id_leads_nowhere(text: object) -> None:
    assert not is_id(text)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "status", "output", "error", "logs", "metrics", "started_at", "completed_at",
                "data_removed", "input", "webhook", "model",
            ]
        ),
        ANY_JSON,
    )
)  # fmt: skip
def test_no_answer_breaks_the_reading(body: dict[str, Any]) -> None:
    seen = to_prediction({**body, "id": ID}, model_of(body, (WAN,)))

    words_of(body)
    assert seen.cost_micros is None or seen.cost_micros >= 0


def test_a_deep_output_is_not_followed_to_its_end() -> None:
    deep: Any = URL
    for _ in range(100_000):
        deep = [deep]

    assert video_url_of(deep) is None
    assert video_url_of([URL + str(n) for n in range(100_000)]) == URL + "0"
