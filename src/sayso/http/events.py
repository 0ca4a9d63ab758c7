"""`GET /api/events`: generations as they change, as server-sent events.

    Events         the route's application (raw ASGI: a stream costs little memory)
    route, twin    where it answers, and how OpenAPI describes it

An event is a check body; its id is the row's version, which is the time of the change in
microseconds. A reader that comes back with `Last-Event-ID` is sent everything that changed since
then, less ten seconds: commits of several processes do not come in the order of their times.
Whoever watches a single generation is told at once how it stands. A reader that takes nothing for a
while is dropped; it comes back and says what it has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Header, Query
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sayso.clock import SECOND, Instant
from sayso.generations.generation import Generation
from sayso.generations.service import Generations
from sayso.http.auth import ACCOUNT
from sayso.http.doors import Doors, base_of, doors_of, id_of
from sayso.http.errors import problems
from sayso.http.hub import LATE, LOOK_ROWS, Reader
from sayso.http.wire import encode

PATH: Final = "/api/events"

OVERLAP: Final = 10 * SECOND
"""How much of what a reader has seen is sent again when it comes back."""

_SEND_S: Final = 10
_PING: Final = b": still here\n\n"
_HELLO: Final = b"retry: 2000\n\n"


class Events:
    """The route's application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the reader leaves, is too slow, or the service stops."""
        if scope["method"] == "HEAD":
            await send(_START)
            await send({"type": "http.response.body", "body": b""})
            return
        doors = doors_of(scope)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("prediction_id")
        told = Headers(scope=scope).get("last-event-id")
        last = _last_seen(told, now=doors.services.clock.now())
        reader = Reader(
            scope[ACCOUNT],
            id_of(given[0]) if given else None,
            since=_since(doors, last, is_of_one=bool(given)),
        )
        with doors.hub.reading(reader), _counted(doors):
            generations = doors.services.generations
            if reader.generation_id is not None:
                # Whoever watches one is told at once how it stands.
                reader.put(await generations.get(reader.account_id, reader.generation_id))
                last = None
            base = base_of(scope, doors.settings)
            stream = Stream(reader, send, lambda generation: doors.check_of(generation, base))
            sending = asyncio.create_task(stream.run(generations, last))
            leaving = asyncio.create_task(_until_left(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, leaving):
                    task.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)


route: Final = Route(PATH, Events(), methods=["GET"])

twin: Final = APIRouter(tags=["generations"])


@twin.get(
    PATH,
    operation_id="events",
    responses={
        200: {
            "description": "Events; `data` is a check body, `id` its version.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problems(404, 429, 503),
    },
)
def events(
    prediction_id: Annotated[str | None, Query(description="Only this generation.")] = None,
    last_event_id: Annotated[str | None, Header(description="Where the last stream ended.")] = None,
) -> None:
    """Watch generations as they change, without polling."""
    raise NotImplementedError("the plain route before this one answers")


_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        # nginx would keep events until its buffer is full.
        (b"x-accel-buffering", b"no"),
    ],
}


class Stream:
    """What is sent to one reader."""

    def __init__(
        self,
        reader: Reader,
        send: Send,
        to_body: Callable[[Generation], dict[str, object]],
        *,
        patience_s: float = _SEND_S,
    ) -> None:
        """`patience_s` is how long the reader may take nothing."""
        self._reader = reader
        self._send = send
        self._to_body = to_body
        self._patience_s = patience_s

    async def run(self, generations: Generations, last: int | None) -> None:
        """Send what was missed, then what comes; give up on a reader that does not take it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._send(_START)
                await self._send(_piece(_HELLO))
            if last is not None:
                await self._send_missed(generations, last)
            while not self._reader.is_dropped:
                taken, ping = await self._reader.take()
                await self._send_events(taken, ping=ping)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_missed(self, generations: Generations, last: int) -> None:
        since = max(0, last - OVERLAP)
        while True:
            page = await generations.changed_since(self._reader.account_id, since, limit=LOOK_ROWS)
            self._reader.remember(page)
            await self._send_events(page)
            if len(page) < LOOK_ROWS or page[-1].version <= since:
                return
            since = page[-1].version

    async def _send_events(self, generations: Iterable[Generation], *, ping: bool = False) -> None:
        pieces = [
            _event(generation.version, self._to_body(generation)) for generation in generations
        ]
        if ping and not pieces:
            pieces.append(_PING)
        for piece in pieces:
            async with asyncio.timeout(self._patience_s):
                await self._send(_piece(piece))


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@contextmanager
def _counted(doors: Doors) -> Iterator[None]:
    doors.measures.streams.inc()
    try:
        yield
    finally:
        doors.measures.streams.dec()


def _event(version: int, body: dict[str, object]) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (version, encode(body))


def _piece(content: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": content, "more_body": True}


def _since(doors: Doors, last: int | None, *, is_of_one: bool) -> int:
    """Return from which version on a reader wants to be told."""
    if is_of_one:
        return 0  # It is told how things stand in any case.
    return doors.services.clock.now() - LATE if last is None else max(0, last - OVERLAP)


def _last_seen(text: str | None, *, now: Instant) -> int | None:
    """Return the version that a reader saw last; nonsense counts as none.

    One from the future would keep it from being told anything until then: our clock was set back
    since, or somebody made it up. It counts as what is seen just now.
    """
    if text is None or not text.isdecimal() or len(text) > len(str(2**63)) - 1:
        return None
    version = int(text)
    return version if version <= now + OVERLAP else now
