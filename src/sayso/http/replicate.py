"""`/v1`: Replicate's HTTP API for whatever the catalogue holds; its official clients work here.

    POST  /v1/predictions                          by version: 64 hex digits, `owner/name[:version]`
    POST  /v1/models/{owner}/{name}/predictions    by model
    POST  /v1/deployments/{owner}/{name}/predictions   the same: a model here needs no deployment
    GET   /v1/predictions[/{id}], POST .../cancel
    GET   /v1/account, /v1/webhooks/default/secret
    ...   /v1/models                               `replicate_models.py`
    ...   /v1/files                                `replicate_files.py`

Shapes, names and refusals are those of Replicate's OpenAPI document: the prediction's in
`generations/as_prediction.py`, the refusals' in `replicate_errors.py`; `replicate_create.py` reads
what a create asks for.

Its clients take any status but `starting` in the answer to `Prefer: wait` for an end, so a wait
that was not long enough is answered with `starting`, as the real service does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, StringConstraints

from sayso.catalogue.catalogue import Model
from sayso.clock import SECOND, Instant, from_datetime
from sayso.generations.as_prediction import PREDICTIONS_PATH, prediction_of
from sayso.generations.generation import Generation, Started
from sayso.http.auth import Caller
from sayso.http.doors import Doors, Shared, base_of, id_of
from sayso.http.replicate_create import (
    Asked,
    cancel_after_of,
    check_webhook,
    key_of,
    model_of_version,
    read_asked,
    take_order,
    wait_of,
)
from sayso.http.replicate_errors import ReplicateRoute, operation_id
from sayso.http.replicate_files import router as files_router
from sayso.http.replicate_models import named_model
from sayso.http.replicate_models import router as models_router
from sayso.http.replicate_schema import (
    ACCOUNT,
    CREATE,
    CREATE_BY_VERSION,
    PREDICTION,
    SECRET,
    answers,
    create_of,
    page_of,
    started,
)
from sayso.http.wire import encode
from sayso.ids import AccountId

PAGE: Final = 100

# How long a resent create stands for the first one.
_RESEND_S: Final = 600
# A cancel is asked for; the answer waits a moment, as most have ended by then.
_CANCEL_S: Final = 1.0

router: Final = APIRouter(
    tags=["replicate"], route_class=ReplicateRoute, generate_unique_id_function=operation_id
)


class _Where(BaseModel):
    """Which predictions a list is about."""

    cursor: Annotated[str, StringConstraints(pattern="^[0-9A-Za-z_-]{1,200}$")] | None = None
    created_after: AwareDatetime | None = None
    created_before: AwareDatetime | None = None


@router.post(
    PREDICTIONS_PATH,
    status_code=201,
    response_class=Response,
    openapi_extra=create_of(CREATE_BY_VERSION),
    responses=started(PREDICTION, 402, 404, 408, 409, 413, 415),
)
async def create_by_version(request: Request, caller: Caller, doors: Shared) -> Response:
    """Start a prediction of the model that `version` names."""
    asked = await read_asked(request, with_version=True)
    model = model_of_version(doors.services.catalogue, asked.version)
    return await _create(request, caller, doors, _Create(model, asked))


@router.post(
    "/v1/models/{owner}/{name}/predictions",
    status_code=201,
    response_class=Response,
    openapi_extra=create_of(CREATE),
    responses=started(PREDICTION, 402, 404, 408, 409, 413, 415),
)
async def create_by_model(
    owner: str, name: str, request: Request, caller: Caller, doors: Shared
) -> Response:
    """Start a prediction of a model."""
    model = named_model(doors.services.catalogue, owner, name)
    asked = await read_asked(request, with_version=False)
    return await _create(request, caller, doors, _Create(model, asked))


@router.post(
    "/v1/deployments/{owner}/{name}/predictions",
    status_code=201,
    response_class=Response,
    openapi_extra=create_of(CREATE),
    responses=started(PREDICTION, 402, 404, 408, 409, 413, 415),
)
async def create_by_deployment(
    owner: str, name: str, request: Request, caller: Caller, doors: Shared
) -> Response:
    """Start a prediction of a model: each is deployed by being in the catalogue."""
    model = named_model(doors.services.catalogue, owner, name)
    asked = await read_asked(request, with_version=False)
    return await _create(request, caller, doors, _Create(model, asked))


@router.get(PREDICTIONS_PATH, response_class=Response, responses=answers(page_of(PREDICTION)))
async def list_predictions(
    request: Request,
    caller: Caller,
    doors: Shared,
    where: Annotated[_Where, Query()],
) -> Response:
    """List predictions, newest first, a hundred at a time."""
    page = await doors.services.generations.list(
        caller,
        cursor=where.cursor,
        limit=PAGE,
        created_after=_instant(where.created_after),
        created_before=_instant(where.created_before),
    )
    base = base_of(request.scope, doors.settings)

    def link(cursor: str | None) -> str | None:
        if cursor is None:
            return None
        url = request.url.include_query_params(cursor=cursor)
        return f"{base}{url.path}?{url.query}"

    results = [_body_of(doors, generation, base) for generation in page.items]
    return _json({"previous": link(page.previous), "next": link(page.next), "results": results})


@router.get(PREDICTIONS_PATH + "/{id}", response_class=Response, responses=answers(PREDICTION, 404))
async def get_prediction(id: str, request: Request, caller: Caller, doors: Shared) -> Response:  # noqa: A002 (the path's own word)
    """Look at a prediction: one row of our own database, never the provider."""
    generation = await doors.services.generations.get(caller, id_of(id))
    return _json(_body_of(doors, generation, base_of(request.scope, doors.settings)))


@router.post(
    PREDICTIONS_PATH + "/{id}/cancel", response_class=Response, responses=answers(PREDICTION, 404)
)
async def cancel_prediction(id: str, request: Request, caller: Caller, doors: Shared) -> Response:  # noqa: A002 (the path's own word)
    """Ask for the end of a prediction; one that has ended is returned as it is."""
    generations = doors.services.generations
    generation = await generations.cancel(caller, id_of(id))
    if not generation.is_final:
        generation = await generations.wait(caller, generation.id, timeout_s=_CANCEL_S)
    return _json(_body_of(doors, generation, base_of(request.scope, doors.settings)))


@router.get("/v1/account", response_class=Response, responses=answers(ACCOUNT))
async def get_account(caller: Caller) -> Response:
    """Say whose key it is."""
    return _json(
        {
            "type": "user",
            "username": caller,
            "name": caller,
            "avatar_url": None,
            "github_url": None,
        }
    )


@router.get("/v1/webhooks/default/secret", response_class=Response, responses=answers(SECRET))
async def get_webhook_secret(_caller: Caller, doors: Shared) -> Response:
    """Give the secret with which our webhooks are signed."""
    return _json({"key": doors.services.webhook_secret})


@dataclass(frozen=True)
class _Create:
    """What a create asks for."""

    model: Model
    asked: Asked


async def _create(
    request: Request, account_id: AccountId, doors: Doors, wanted: _Create
) -> Response:
    """Start it; wait for its end where that was asked for."""
    clock = doors.services.clock
    begun_s = clock.monotonic_s()
    wait_s = wait_of(request.headers)
    made = await _start(request, account_id, doors, wanted)
    generation, status = made.generation, 201
    base = base_of(request.scope, doors.settings)
    headers = {"Location": f"{base}{PREDICTIONS_PATH}/{generation.id}"}
    if wait_s is not None:
        applied_s = min(wait_s, doors.settings.wait_max_s)
        headers["Preference-Applied"] = f"wait={applied_s:g}"
        # The client's own patience began with its request, not with ours.
        left_s = applied_s - (clock.monotonic_s() - begun_s)
        generation = await _wait(doors, generation, left_s)
    body = _body_of(doors, generation, base)
    if wait_s is not None and not generation.is_final:
        body["status"], status = "starting", 202
    return _json(body, status, headers)


async def _start(request: Request, account_id: AccountId, doors: Doors, wanted: _Create) -> Started:
    """Start a generation, or find the one that the same create has started before."""
    services, asked = doors.services, wanted.asked
    model = services.catalogue.choose(wanted.model.name)
    cancel_after_s = cancel_after_of(request.headers)
    base = base_of(request.scope, doors.settings)
    check_webhook(services, asked.webhook)
    key = key_of(request, account_id, asked)

    def start(*, is_fresh: bool) -> Any:
        return services.generations.start(
            lambda: take_order(
                services,
                account_id=account_id,
                model=model,
                asked=asked,
                cancel_after_s=cancel_after_s,
                base=base,
            ),
            key=None if key is None else key.renewed() if is_fresh else key.key,
        )

    started: Started = await start(is_fresh=False)
    if key is not None and key.is_resend and not started.is_new:
        age_s = (services.clock.now() - started.generation.created_at) / SECOND
        if age_s > _RESEND_S:
            started = await start(is_fresh=True)
    return started


async def _wait(doors: Doors, generation: Generation, timeout_s: float) -> Generation:
    """Return the generation when it is final, the time is over, or we are about to stop."""
    if timeout_s <= 0:
        return generation
    waiting = asyncio.ensure_future(
        doors.services.generations.wait(generation.account_id, generation.id, timeout_s=timeout_s)
    )
    closing = asyncio.ensure_future(doors.closing.wait())
    try:
        await asyncio.wait({waiting, closing}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else generation
    finally:
        for task in (waiting, closing):
            task.cancel()
        await asyncio.gather(waiting, closing, return_exceptions=True)


def _body_of(doors: Doors, generation: Generation, base: str) -> dict[str, Any]:
    services = doors.services
    return prediction_of(
        generation,
        version=services.catalogue.version_of(generation.model),
        links=services.links,
        now=services.clock.now(),
        base=base,
    )


def _instant(moment: datetime | None) -> Instant | None:
    return None if moment is None else from_datetime(moment)


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(body), status, headers, media_type="application/json")


router.include_router(models_router)
router.include_router(files_router)
