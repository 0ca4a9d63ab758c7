"""`GET /api/generations/{id}/order`: what was asked for, ready to be asked for again.

The answer is a body of `POST /api/generate-lipsync`, with fresh links to the inputs: whoever comes
back on another device sees the portrait, and a failed generation is tried again with what it had.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from sayso.artifacts.intake import Artifact
from sayso.clock import SECOND
from sayso.errors import ArtifactMissing
from sayso.generations.generation import Generation
from sayso.http.api import GenerationPath
from sayso.http.auth import Caller
from sayso.http.doors import Doors, Shared, base_of, id_of
from sayso.http.errors import problems
from sayso.http.uploads import LINK_S
from sayso.http.wire import OrderAnswer, encode
from sayso.ids import ArtifactId

router: Final = APIRouter(tags=["generations"])


@router.get(
    "/api/generations/{id}/order",
    response_model=OrderAnswer,
    responses=problems(404, 503),
)
async def show_order(
    generation_id: GenerationPath, request: Request, caller: Caller, doors: Shared
) -> Response:
    """Show what a generation was asked for with; the same body asks for it again."""
    app = doors.services
    generation = await app.generations.get(caller, id_of(generation_id))
    portrait = await app.inputs.get(caller, _needed(generation.portrait_id))
    speech = await app.inputs.get(caller, _needed(generation.speech_id))
    body = _order_of(generation, portrait, speech, doors, base_of(request.scope, doors.settings))
    return Response(
        encode(body),
        media_type="application/json",
        headers={"Cache-Control": "private, no-store"},
    )


def _needed(artifact_id: ArtifactId | None) -> ArtifactId:
    if artifact_id is None:
        raise ArtifactMissing("The inputs of this generation are no longer stored.")
    return artifact_id


def _order_of(
    generation: Generation, portrait: Artifact, speech: Artifact, doors: Doors, base: str
) -> dict[str, Any]:
    services = doors.services
    now_s = services.clock.now() / SECOND

    def link(artifact: Artifact) -> str:
        return base + services.links.sign(artifact.key, now_s=now_s, lifetime_s=LINK_S)

    return {
        "imageUrl": link(portrait),
        "audioUrl": link(speech),
        "model": generation.model,
        "prompt": generation.prompt,
        "options": dict(generation.options),
        "audioDuration": speech.duration_s,
        "width": portrait.width,
        "height": portrait.height,
    }
