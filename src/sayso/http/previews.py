"""`POST /api/previews`: the first two seconds of a portrait with a speech, before anything is paid.

Our own engine makes it, whatever model is going to be ordered: it shows whether the face and the
recording work together. Nothing is held and nothing is kept for longer than an hour.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from sayso.catalogue.catalogue import Model
from sayso.clock import SECOND, iso
from sayso.errors import ModelUnavailable
from sayso.http.auth import Caller
from sayso.http.bodies import JSON_ONLY
from sayso.http.doors import Doors, Shared, base_of
from sayso.http.errors import problems
from sayso.http.inputs import take_input
from sayso.http.wire import PreviewAnswer, PreviewBody, encode
from sayso.providers import embedded
from sayso.providers.previews import Preview
from sayso.wiring import Services

router: Final = APIRouter(tags=["previews"])


@router.post(
    "/api/previews",
    status_code=201,
    response_model=PreviewAnswer,
    dependencies=JSON_ONLY,
    responses=problems(404, 408, 413, 415, 429, 503),
)
async def make_preview(
    body: PreviewBody, request: Request, caller: Caller, doors: Shared
) -> Response:
    """Make the first two seconds with our own engine: nothing is held; it is there for an hour."""
    app = doors.services
    model = _our_model(app)
    portrait = await take_input(app, caller, body.image_url, "portrait")
    speech = await take_input(app, caller, body.audio_url, "speech")
    notices = app.inputs.check(model, portrait, speech)
    preview = await app.previews.make(caller, portrait, speech, notices=notices)
    answer = _preview_of(preview, model, doors, base_of(request.scope, doors.settings))
    return Response(
        encode(answer),
        status_code=201,
        media_type="application/json",
        headers={"Cache-Control": "private, no-store"},
    )


def _our_model(app: Services) -> Model:
    for model in app.catalogue.models:
        if model.provider == embedded.TRAITS.name:
            return model
    raise ModelUnavailable("This service has no model of Sayso's own engine, which makes previews.")


def _preview_of(preview: Preview, model: Model, doors: Doors, base: str) -> dict[str, Any]:
    services = doors.services
    now = services.clock.now()
    left_s = max(0, (preview.expires_at - now) // SECOND)
    link = services.links.sign(preview.video_key, now_s=now / SECOND, lifetime_s=left_s)
    return {
        "id": preview.id,
        "url": base + link,
        "model": model.name,
        "duration": round(preview.duration_s, 3),
        "expires_at": iso(preview.expires_at),
        "warnings": [{"code": notice.code, "text": notice.text} for notice in preview.notices],
    }
