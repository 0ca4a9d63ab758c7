"""Stored files over HTTP, whole or in part (RFC 9110: Range, If-Range, If-None-Match).

    router       `GET /files/...`: a file for whoever holds a link that we signed
    send_file    a stored file as an answer; the owner's door to a video uses it too

What a file is served as comes from our own table and never from its sender, and browsers are told
not to guess. A key holds its content's digest, so the key is the ETag. A link with a nonce is an
attempt's own, and its provider's fetch of it is noted (`fetches.py`).
"""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from sayso.artifacts.keys import ArtifactKey, content_type_of
from sayso.artifacts.store import ArtifactStore
from sayso.clock import SECOND
from sayso.http.check import is_known
from sayso.http.doors import Shared
from sayso.http.errors import problems
from sayso.ids import Nonce

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
# Links live for an hour or more, and what is behind one never changes.
_CACHING: Final = "private, max-age=3600, immutable"

_BINARY: Final = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
RANGES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The whole file.", "content": _BINARY},
    206: {"description": "The part that was asked for.", "content": _BINARY},
    304: {"description": "The file is the one that the ETag names."},
    416: {"description": "The part lies behind the file's end."},
}

router: Final = APIRouter(tags=["files"])


@router.get(
    "/files/{key:path}",
    operation_id="signed_file",
    response_class=Response,
    responses={**RANGES, **problems(404, 410, 503)},
)
@router.head("/files/{key:path}", include_in_schema=False)
async def signed_file(key: str, request: Request, doors: Shared) -> Response:
    """Give a file to whoever holds a link that we signed."""
    services = doors.services
    now_s = services.clock.now() / SECOND
    verified = services.links.verify(key, dict(request.query_params), now_s=now_s)
    nonce = request.query_params.get("nonce")
    if nonce is not None:
        doors.fetches.note(Nonce(nonce))
    return await send_file(request, services.artifacts, verified)


async def send_file(
    request: Request, artifacts: ArtifactStore, key: ArtifactKey, *, name: str | None = None
) -> Response:
    """Return a stored file as the answer to this request.

    `name` is what a browser saves it as. Such an address outlives what is behind it, so a browser
    that has kept the file asks whether it is still there.

    Raises `ArtifactMissing`, `StoreUnavailable`.
    """
    size = (await artifacts.stat(key)).size_bytes
    etag = f'"{key.rpartition("/")[2]}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": _CACHING}
    if name is not None:
        headers["Cache-Control"] = "private, no-cache"
        headers["Content-Disposition"] = f'inline; filename="{name}"'
    if is_known(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    asked = request.headers.get("range")
    is_fresh = request.headers.get("if-range") in {None, etag}
    part = part_of(asked, size) if asked is not None and is_fresh else None
    start, end = part or (0, size)
    if part is not None:
        if start >= end:
            return Response(
                status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"}
            )
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    status, kind = 200 if part is None else 206, content_type_of(key)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=kind)
    content = artifacts.stream(key, start=start, end=end)
    return StreamingResponse(content, status_code=status, headers=headers, media_type=kind)


def part_of(asked: str, size: int) -> tuple[int, int] | None:
    """Return start and end of a `Range`; they are equal when it lies behind the end.

    None for several parts at once, a unit that we do not know and nonsense: send the whole file.
    """
    match = _RANGE.fullmatch(asked.strip())
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first, last = match.group(1, 2)
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    end = min(size, int(last) + 1 if last else size)
    return min(int(first), end), end
