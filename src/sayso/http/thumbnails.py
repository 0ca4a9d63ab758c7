"""`GET /api/generations/{id}/thumbnail`: the face by which a generation is known in a list.

It is of the portrait, so it is there from the beginning and never changes. A browser asks all the
same whether it may show it: what was deleted is gone from the list and from what the browser kept.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from sayso.errors import ArtifactMissing
from sayso.http.api import GenerationPath
from sayso.http.auth import Caller
from sayso.http.check import is_known
from sayso.http.doors import Shared, id_of
from sayso.http.errors import problems

_CACHING: Final = "private, no-cache"
_ETAG_DIGITS: Final = 32

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A square picture.",
        "content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "The picture is the one that the ETag names."},
}

router: Final = APIRouter(tags=["generations"])


@router.get(
    "/api/generations/{id}/thumbnail",
    response_class=Response,
    responses={**_ANSWERS, **problems(404, 503)},
)
@router.head("/api/generations/{id}/thumbnail", include_in_schema=False)
async def send_thumbnail(
    generation_id: GenerationPath, request: Request, caller: Caller, doors: Shared
) -> Response:
    """Give a small picture of the portrait to its owner; portraits of old may have none."""
    app = doors.services
    generation = await app.generations.get(caller, id_of(generation_id))
    if generation.portrait_id is None:
        raise ArtifactMissing("This generation has no portrait.")
    content = await app.inputs.thumbnail(caller, generation.portrait_id)
    etag = f'"{hashlib.sha256(content).hexdigest()[:_ETAG_DIGITS]}"'
    headers = {"ETag": etag, "Cache-Control": _CACHING}
    if is_known(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/webp", headers=headers)
