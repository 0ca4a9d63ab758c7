"""`POST /api/uploads`: a portrait or a speech from somebody's disk, streamed to ours.

The form has a `file`, and before it a `kind` (`portrait` or `speech`) where the sender knows it;
without one the content decides. The same bytes again are the same upload.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import APIRouter, Request, Response

from sayso.artifacts.intake import Artifact
from sayso.clock import SECOND
from sayso.errors import BodyInvalid
from sayso.http.auth import Caller
from sayso.http.doors import Doors, Shared, base_of
from sayso.http.errors import problems
from sayso.http.multipart import read_form
from sayso.http.wire import UploadAnswer, encode

LINK_S: Final = 86_400
"""How long the link of an upload works: a person may come back to a form."""

_FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "kind": {"type": "string", "enum": ["portrait", "speech"]},
                        "file": {"type": "string", "format": "binary"},
                    },
                }
            }
        },
    }
}

router: Final = APIRouter(tags=["uploads"])


@router.post(
    "/api/uploads",
    status_code=201,
    response_model=UploadAnswer,
    openapi_extra=_FORM,
    responses=problems(408, 413, 415, 503),
)
async def upload(request: Request, caller: Caller, doors: Shared) -> Response:
    """Store a portrait or a speech, and say what is in it."""
    kind: Literal["portrait", "speech"] | None = None
    artifact: Artifact | None = None
    async for part in read_form(request):
        if artifact is not None:
            raise BodyInvalid("file: it is the last part of the form, after kind.")
        if part.name == "kind":
            kind = _to_kind(await part.text())
        elif part.name == "file":
            artifact = await doors.services.inputs.take_stream(caller, part.pieces(), kind=kind)
    if artifact is None:
        raise BodyInvalid("file: the form has no such part.")
    body = _upload_of(artifact, doors, base_of(request.scope, doors.settings))
    return Response(encode(body), status_code=201, media_type="application/json")


def _to_kind(text: str) -> Literal["portrait", "speech"]:
    match text:
        case "portrait" | "speech":
            return text
        case _:
            raise BodyInvalid("kind: must be portrait or speech.")


def _upload_of(artifact: Artifact, doors: Doors, base: str) -> dict[str, Any]:
    services = doors.services
    now_s = services.clock.now() / SECOND
    problem = artifact.face_problem
    warnings = [*artifact.notices, *([problem] if problem else [])]
    return {
        "id": artifact.id,
        "url": base + services.links.sign(artifact.key, now_s=now_s, lifetime_s=LINK_S),
        "kind": artifact.kind,
        "content_type": artifact.content_type,
        "size": artifact.size_bytes,
        "sha256": artifact.sha256,
        "duration": artifact.duration_s,
        "width": artifact.width,
        "height": artifact.height,
        "face": artifact.face,
        "warnings": [{"code": warning.code, "text": warning.text} for warning in warnings],
    }
