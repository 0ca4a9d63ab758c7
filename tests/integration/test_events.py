"""Streams of changes: what is sent, what is sent again, and how a stream ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sayso.http.wire import CheckBody
from sayso.providers.scripted import Script
from tests.services import Service, is_final, started

Event = tuple[int, dict[str, Any]]


@contextmanager
def stream(
    service: Service, query: str = "", *, last: int | None = None
) -> Iterator[Iterator[Event]]:
    """Open a stream and give its events; silence of more than thirty seconds is an error."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with service.http.stream(
        "GET", f"/api/events{query}", headers=headers, timeout=httpx.Timeout(30)
    ) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events_in(answer.iter_lines())


def events_in(lines: Iterator[str]) -> Iterator[Event]:
    version = 0
    for line in lines:
        if line.startswith("id: "):
            version = int(line[4:])
        elif line.startswith("data: "):
            yield version, json.loads(line[6:])


def test_a_stream_tells_of_one_generation_to_its_end(service: Service) -> None:
    service.provider.will(Script(start_s=0.2, run_s=0.6))
    generation_id = service.start()

    with stream(service, f"?prediction_id={generation_id}") as events:
        seen = []
        for event in events:
            seen.append(event)
            if is_final(event[1]):
                break

    versions = [version for version, _ in seen]
    assert versions == sorted(set(versions))
    assert {body["id"] for _, body in seen} == {generation_id}
    for _, body in seen:
        CheckBody.model_validate(body)
    assert seen[-1][1] == service.check(generation_id).json()


def test_a_stream_of_everything_tells_of_what_starts_later(service: Service) -> None:
    with stream(service) as events:
        generation_id = service.start()

        final = next(b for _, b in events if b["id"] == generation_id and is_final(b))

    assert final["status"] == "succeeded"


def test_a_reader_that_comes_back_is_sent_what_it_missed(service: Service) -> None:
    with stream(service) as events:
        first = service.start()
        last = next(version for version, body in events if body["id"] == first)
    missed = [service.start() for _ in range(3)]
    for generation_id in (first, *missed):
        service.until_final(generation_id)

    with stream(service, last=last) as events:
        seen: dict[str, dict[str, Any]] = {}
        for _, body in events:
            seen[body["id"]] = body
            if {first, *missed} <= set(seen):
                break

    assert all(is_final(seen[generation_id]) for generation_id in (first, *missed))


def test_what_a_reader_has_seen_long_ago_is_not_sent_again(quick: Service) -> None:
    early = quick.start()
    final = quick.until_final(early)
    assert final["status"] == "succeeded"
    # As if the reader had last been told ten seconds after that.
    later = time.time_ns() // 1_000 + 10_000_000

    with stream(quick, last=later) as events:
        generation_id = quick.start()
        first = next(body for _, body in events)

    assert first["id"] == generation_id


def test_nonsense_as_last_event_id_counts_as_none(quick: Service) -> None:
    for last in ("x", "-1", "9" * 40):
        headers = {"Last-Event-ID": last}
        with quick.http.stream("GET", "/api/events", headers=headers) as answer:
            assert answer.status_code == 200


@pytest.mark.parametrize("ahead_s", [3_600, 4_000_000_000_000])
def test_a_reader_from_the_future_is_told_what_happens_now(quick: Service, ahead_s: int) -> None:
    last = time.time_ns() // 1_000 + ahead_s * 1_000_000

    with stream(quick, last=last) as events:
        generation_id = quick.start()

        final = next(b for _, b in events if b["id"] == generation_id and is_final(b))

    assert final["status"] == "succeeded"


def test_streams_end_when_the_service_stops(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    ended_at_s: list[float] = []

    def watch(url: str, is_open: threading.Event) -> None:
        with httpx.stream("GET", f"{url}/api/events", timeout=60, trust_env=False) as answer:
            for line in answer.iter_lines():
                if line.startswith("retry:"):
                    is_open.set()
        ended_at_s.append(time.monotonic())

    with started(tmp_path, portrait=small_portrait, speech=short_speech) as service:
        is_open = threading.Event()
        thread = threading.Thread(target=watch, args=(service.url, is_open))
        thread.start()
        assert is_open.wait(30)
        begun = time.monotonic()

    thread.join(30)
    # Not after the ten seconds that a stuck request is given.
    assert [at_s - begun < 8 for at_s in ended_at_s] == [True]
