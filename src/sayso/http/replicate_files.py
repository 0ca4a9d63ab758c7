"""`/v1/files`: files that clients hand in before they create a prediction.

    POST    /v1/files                    multipart: `content`, and JSON `metadata` before or after
    GET     /v1/files, /v1/files/{id}
    DELETE  /v1/files/{id}
    GET     /v1/files/{id}/download      with the file's signature: `owner`, `expiry`, `signature`

A file lives for a day. `urls.get` is what goes into an input; we know it by its path and do not
fetch it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from sayso.artifacts.files import File, Files, Received
from sayso.clock import iso
from sayso.errors import BodyInvalid
from sayso.http.auth import Caller
from sayso.http.bodies import read_object
from sayso.http.doors import Doors, Shared, base_of
from sayso.http.errors import problems
from sayso.http.files import RANGES, send_file
from sayso.http.multipart import Part, read_form
from sayso.http.replicate_errors import ReplicateRoute, operation_id
from sayso.http.replicate_schema import FILE, FORM, answers, body_of, kept, page_of
from sayso.http.wire import encode
from sayso.ids import AccountId

PAGE: Final = 100

_PATH: Final = "/v1/files"
_ANY_TYPE: Final = "application/octet-stream"

router: Final = APIRouter(
    tags=["replicate"], route_class=ReplicateRoute, generate_unique_id_function=operation_id
)


@router.post(
    _PATH,
    status_code=201,
    response_class=Response,
    openapi_extra=body_of(FORM, "multipart/form-data"),
    responses=kept(FILE, 408, 413, 415),
)
async def create_file(request: Request, caller: Caller, doors: Shared) -> Response:
    """Keep a file for a day."""
    files = doors.services.files
    await files.sweep()
    async with AsyncExitStack() as stack:
        form = _Form()
        async for part in read_form(request):
            await form.take(part, files, stack)
        file = await form.keep(caller, files)
    return _json(_file_of(file, doors, base_of(request.scope, doors.settings)), 201)


@router.get(_PATH, response_class=Response, responses=answers(page_of(FILE), 404))
async def list_files(
    request: Request,
    caller: Caller,
    doors: Shared,
    cursor: Annotated[str | None, Query(pattern="^-?[0-9a-z]{26}$")] = None,
) -> Response:
    """List files, newest first, a hundred at a time."""
    page = await doors.services.files.page(caller, cursor=cursor, limit=PAGE)
    base = base_of(request.scope, doors.settings)

    def link(cursor: str | None) -> str | None:
        return None if cursor is None else f"{base}{_PATH}?cursor={cursor}"

    results = [_file_of(file, doors, base) for file in page.items]
    return _json({"previous": link(page.previous), "next": link(page.next), "results": results})


@router.get(_PATH + "/{id}", response_class=Response, responses=answers(FILE, 404))
async def get_file(id: str, request: Request, caller: Caller, doors: Shared) -> Response:  # noqa: A002 (the path's own word)
    """Describe a file."""
    file = await doors.services.files.get(caller, id)
    return _json(_file_of(file, doors, base_of(request.scope, doors.settings)))


@router.delete(_PATH + "/{id}", status_code=204, responses=problems(404, 429, 503))
async def delete_file(id: str, caller: Caller, doors: Shared) -> Response:  # noqa: A002 (the path's own word)
    """Delete a file before its day is over."""
    await doors.services.files.delete(caller, id)
    return Response(status_code=204)


@router.get(
    _PATH + "/{id}/download",
    response_class=Response,
    responses={**RANGES, **problems(404, 410, 429, 503)},
)
async def download_file(id: str, request: Request, doors: Shared) -> Response:  # noqa: A002 (the path's own word)
    """Give the bytes of a file to whoever holds its signature."""
    services = doors.services
    file = await services.files.verify(id, dict(request.query_params))
    return await send_file(request, services.artifacts, file.storage_key)


class _Form:
    """The parts of an upload, in whatever order they come."""

    def __init__(self) -> None:
        self._received: Received | None = None
        self._name: str | None = None
        self._content_type: str | None = None
        self._metadata: dict[str, Any] = {}

    async def take(self, part: Part, files: Files, stack: AsyncExitStack) -> None:
        """Read a part; what `content` receives lasts as long as `stack`."""
        match part.name:
            case "content":
                if self._received is not None:
                    raise BodyInvalid("content: the form has it twice.")
                self._received = await stack.enter_async_context(files.receive(part.pieces()))
                self._name = self._name or part.file_name
                self._content_type = self._content_type or part.content_type
            case "metadata":
                self._metadata = _to_metadata(await part.text())
            case "filename":
                self._name = await part.text()
            case "type":
                self._content_type = await part.text()

    async def keep(self, account_id: AccountId, files: Files) -> File:
        """Keep what was received; raise `BodyInvalid` when there was nothing."""
        if self._received is None:
            raise BodyInvalid("content: the form has no such part.")
        return await files.keep(
            account_id,
            self._received,
            name=self._name or "file",
            content_type=self._content_type or _ANY_TYPE,
            metadata=self._metadata,
        )


def _to_metadata(text: str) -> dict[str, Any]:
    metadata = read_object(text)
    if metadata is None:
        raise BodyInvalid("metadata: must be a JSON object.")
    return metadata


def _file_of(file: File, doors: Doors, base: str) -> dict[str, Any]:
    place = f"{base}{_PATH}/{file.id}"
    query = urlencode(doors.services.files.sign(file))
    return {
        "id": file.id,
        "name": file.name,
        "content_type": file.content_type,
        "size": file.size_bytes,
        "etag": file.md5,
        "checksums": {"sha256": file.sha256, "md5": file.md5},
        "metadata": dict(file.metadata),
        "created_at": iso(file.created_at),
        "expires_at": iso(file.expires_at),
        "urls": {"get": place, "download": f"{place}/download?{query}"},
    }


def _json(body: object, status: int = 200) -> Response:
    return Response(encode(body), status, media_type="application/json")
