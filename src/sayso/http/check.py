"""`GET /api/check-lipsync`: the hottest request, as a plain route beside FastAPI.

    route     goes before FastAPI's own routes; it reads one row and never asks a provider
    twin      describes the same in OpenAPI and is never reached; a test compares the two

FastAPI's own way would cost about twice as much for each poll.
"""

from __future__ import annotations

import zlib
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Header, Query
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sayso.errors import BodyInvalid
from sayso.http.auth import ACCOUNT
from sayso.http.doors import base_of, doors_of, id_of
from sayso.http.errors import problems
from sayso.http.wire import CheckBody, encode

PATH: Final = "/api/check-lipsync"

_JSON: Final = (b"content-type", b"application/json")
# The reader keeps the body and asks each time whether it still holds.
_CACHING: Final = (b"cache-control", b"private, no-cache")


class Check:
    """The route's application."""

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer with the generation's body, or 304 when the reader has it."""
        doors = doors_of(scope)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("prediction_id")
        if given is None:
            raise BodyInvalid("prediction_id: is needed, as ?prediction_id=....")
        generation = await doors.services.generations.get(scope[ACCOUNT], id_of(given[0]))
        body = encode(doors.check_of(generation, base_of(scope, doors.settings)))
        etag = etag_of(generation.version, body)
        headers = [_CACHING, (b"etag", etag.encode())]
        if is_known(etag, Headers(scope=scope).get("if-none-match")):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        headers += [_JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


route: Final = Route(PATH, Check(), methods=["GET", "HEAD"])

twin: Final = APIRouter(tags=["generations"])


@twin.get(
    PATH,
    operation_id="check_lipsync",
    response_model=CheckBody,
    responses={
        304: {"description": "Nothing has changed since the ETag that was sent."},
        **problems(404),
    },
)
def check_lipsync(
    prediction_id: Annotated[str, Query(description="The id that starting it gave.")],
    if_none_match: Annotated[str | None, Header()] = None,
) -> None:
    """Look at a generation: one row of our own database, never the provider."""
    raise NotImplementedError("the plain route before this one answers")


def etag_of(version: int, body: bytes) -> str:
    """Return the tag of a body: the row's version, and a sum that moves with the links' hour."""
    return f'"{version:x}-{zlib.crc32(body):x}"'


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether the reader has the body of this tag."""
    if if_none_match is None:
        return False
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in {etag, "*"} for tag in tags)
