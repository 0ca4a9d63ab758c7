"""Readers of changes: slow ones miss states in between, stuck ones are dropped."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import Any

import pytest
from starlette.types import Message

from sayso.clock import SystemClock
from sayso.generations.generation import Generation
from sayso.generations.rules import State
from sayso.http.events import Stream
from sayso.http.hub import EventHub, Reader
from sayso.ids import AccountId, GenerationId

ALICE = AccountId("alice")

NOTHING: dict[str, Any] = {field.name: None for field in fields(Generation)}
FIRST = Generation(
    **{
        **NOTHING,
        "id": GenerationId("first"),
        "account_id": ALICE,
        "state": State.RUNNING,
        "status": "processing",
        "version": 10,
    }
)
LATER = replace(FIRST, version=11)
SECOND = replace(FIRST, id=GenerationId("second"), version=9)


def reader(generation_id: str | None = None, *, since: int = 0) -> Reader:
    of_one = None if generation_id is None else GenerationId(generation_id)
    return Reader(ALICE, of_one, since=since)


@pytest.mark.anyio
async def test_a_slow_reader_gets_the_newest_state_in_the_order_of_versions() -> None:
    slow = reader()
    for generation in (FIRST, LATER, SECOND):
        slow.put(generation)

    taken, _ = await slow.take()

    assert [(g.id, g.version) for g in taken] == [("second", 9), ("first", 11)]


@pytest.mark.anyio
async def test_nothing_is_sent_twice() -> None:
    once = reader()
    once.put(FIRST)
    await once.take()

    once.put(FIRST)
    once.put(replace(FIRST, version=5))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await once.take()


@pytest.mark.anyio
async def test_a_reader_of_one_generation_hears_of_no_other() -> None:
    narrow = reader("first")
    narrow.put(SECOND)
    narrow.put(FIRST)

    taken, _ = await narrow.take()

    assert [g.id for g in taken] == ["first"]


@pytest.mark.anyio
async def test_what_was_before_its_time_is_not_for_it() -> None:
    late = reader(since=10)
    late.put(FIRST)
    late.put(LATER)

    taken, _ = await late.take()

    assert [g.version for g in taken] == [11]


def test_a_tray_that_runs_over_ends_the_stream() -> None:
    full = reader()

    for number in range(1_001):
        full.put(replace(FIRST, id=GenerationId(str(number))))

    assert full.is_dropped


@pytest.mark.parametrize("is_late", [False, True])
def test_no_stream_outlives_the_service(*, is_late: bool) -> None:
    """One that is opened after the end began, by a connection still open, would hold it up."""
    generations: Any = None
    hub = EventHub(generations, SystemClock())
    last = reader()

    if is_late:
        hub.close()
    with hub.reading(last):
        if not is_late:
            hub.close()
        assert last.is_dropped


@pytest.mark.anyio
async def test_a_reader_that_takes_nothing_is_given_up() -> None:
    stuck = reader("first")
    stuck.put(FIRST)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if b"data:" in message.get("body", b""):
            await asyncio.Event().wait()

    generations: Any = None  # A reader of one generation has missed nothing.
    stream = Stream(stuck, send, lambda generation: {"id": generation.id}, patience_s=0.01)
    async with asyncio.timeout(5):
        await stream.run(generations, None)

    assert sent[-1]["more_body"] is False
