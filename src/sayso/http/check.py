"""`GET /api/check-lipsync`: the hottest request, as a plain route beside FastAPI.

    route()   goes before FastAPI's own routes; it reads one row and never asks a provider
    twin      describes the same in OpenAPI and is never reached; a test compares the two

FastAPI's own way would cost about twice as much for each poll.
"""

from __future__ import annotations

import zlib
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Header, Query
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sayso.clock import SECOND
from sayso.errors import BodyInvalid
from sayso.http.auth import ACCOUNT
from sayso.http.doors import Doors, base_of, doors_of, header_of, id_of
from sayso.http.errors import problems
from sayso.http.wire import CheckBody, encode
from sayso.ids import AccountId, GenerationId

PATH: Final = "/api/check-lipsync"

_JSON: Final = (b"content-type", b"application/json")
# The reader keeps the body and asks each time whether it still holds.
_CACHING: Final = (b"cache-control", b"private, no-cache")

_HOUR_S: Final = 3600
_KEEP: Final = 1_000
_KEEP_BYTES: Final = 16 << 10


class Bodies:
    """The bodies of what is looked at most: any number of people may watch, and see the same.

    A body is the row's at one version, for one address of ours, until its links move on; whether
    the version is still that one is asked of the database each time.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[GenerationId, str], tuple[int, int, bytes, bytes]] = {}

    async def of(
        self, doors: Doors, account_id: AccountId, generation_id: GenerationId, base: str
    ) -> tuple[bytes, bytes]:
        """Return a generation's ETag and body; raise `NoSuchGeneration`."""
        generations = doors.services.generations
        version = await generations.version(account_id, generation_id)
        hour = links_hour(doors)
        kept = self._kept.get((generation_id, base))
        if kept is not None and kept[:2] == (version, hour):
            return kept[2:]
        generation = await generations.get(account_id, generation_id)
        body = encode(doors.check_of(generation, base))
        etag = etag_of(generation.version, body)
        if len(body) <= _KEEP_BYTES:
            if len(self._kept) >= _KEEP:
                self._kept.clear()
            self._kept[generation_id, base] = (generation.version, hour, etag, body)
        return etag, body


class Check:
    """The route's application."""

    def __init__(self) -> None:
        self._bodies = Bodies()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer with the generation's body, or 304 when the reader has it."""
        doors = doors_of(scope)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("prediction_id")
        if given is None:
            raise BodyInvalid("prediction_id: is needed, as ?prediction_id=....")
        base = base_of(scope, doors.settings)
        etag, body = await self._bodies.of(doors, scope[ACCOUNT], id_of(given[0]), base)
        headers = [_CACHING, (b"etag", etag)]
        if is_known(etag.decode(), header_of(scope, b"if-none-match")):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        headers += [_JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def route() -> Route:
    """Return the route of one app."""
    return Route(PATH, Check(), methods=["GET", "HEAD"])


twin: Final = APIRouter(tags=["generations"])


@twin.get(
    PATH,
    operation_id="check_lipsync",
    response_model=CheckBody,
    responses={
        304: {"description": "Nothing has changed since the ETag that was sent."},
        **problems(404, 503),
    },
)
def check_lipsync(
    prediction_id: Annotated[str, Query(description="The id that starting it gave.")],
    if_none_match: Annotated[str | None, Header()] = None,
) -> None:
    """Look at a generation: one row of our own database, never the provider."""
    raise NotImplementedError("the plain route before this one answers")


def etag_of(version: int, body: bytes) -> bytes:
    """Return the tag of a body: the row's version, and a sum that moves with the links' hour."""
    return b'"%x-%x"' % (version, zlib.crc32(body))


def links_hour(doors: Doors) -> int:
    """Return what changes when links that are made now end an hour later than before."""
    return (doors.services.clock.now() // SECOND + doors.settings.link_s) // _HOUR_S


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether the reader has the body of this tag."""
    if if_none_match is None:
        return False
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in {etag, "*"} for tag in tags)
