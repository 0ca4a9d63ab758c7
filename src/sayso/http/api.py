"""`/api`: the product's own API. Field names are a contract (`wire.py`).

    POST   /api/generate-lipsync             start; 202 at once, or 200 when it is final
    GET    /api/check-lipsync                `check.py`
    GET    /api/events                       `events.py`
    POST   /api/quote                        what it would cost
    GET    /api/models, /api/credits         what there is to choose and to spend
    GET    /api/generations                  history
    ...    /api/generations/{id}/...         receipt, video, cancel, delete; `orders.py`,
                                             `thumbnails.py`
    POST   /api/uploads                      `uploads.py`
    POST   /api/previews                     `previews.py`

An endpoint parses, calls one service and answers.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.types import Receive

from sayso.artifacts.keys import ArtifactKey
from sayso.catalogue.catalogue import Model
from sayso.clock import iso
from sayso.credits.rules import CURRENCY, Entry, decimal_text
from sayso.errors import (
    ArtifactMissing,
    BodyInvalid,
    GenerationTimedOut,
    ModelUnavailable,
    ShuttingDown,
)
from sayso.generations.generation import Door, Generation, Key, Order, Receipt, Started
from sayso.http.auth import Caller
from sayso.http.bodies import JSON_ONLY
from sayso.http.doors import Doors, Shared, base_of, id_of
from sayso.http.errors import problems
from sayso.http.files import RANGES, send_file
from sayso.http.inputs import take_input
from sayso.http.wire import (
    CheckBody,
    CreditsAnswer,
    GenerateBody,
    GenerationsAnswer,
    ModelsAnswer,
    QuoteAnswer,
    QuoteBody,
    ReceiptAnswer,
    StartedAnswer,
    cost_of,
    encode,
    hold_of,
    iso_or_none,
)
from sayso.ids import AccountId
from sayso.wiring import Services

T = TypeVar("T")

# How long a waiting request outlives the deadline: the reconciler asks the provider once more
# before it gives up, and a video that is there by then is stored.
_PATIENCE_S: Final = 90
_PAGE: Final = 50
# What `typical_seconds` of a model is told for.
_TYPICAL_SPEECH_S: Final = 10
_LONGEST_PAGE: Final = 200
_KEY_LENGTH: Final = 255
_FAILED: Final = "Generation failed: "
# What the reconciler calls a generation that reached its deadline.
_TIMED_OUT: Final = "timed_out"


router: Final = APIRouter()

GenerationPath = Annotated[str, Path(alias="id", description="The generation's id.")]
_SPENDING: Final = problems(402, 404, 408, 409, 413, 415, 429, 503, 504)


@router.post(
    "/api/generate-lipsync",
    tags=["generations"],
    status_code=202,
    response_model=StartedAnswer,
    dependencies=JSON_ONLY,
    responses={200: {"model": CheckBody, "description": "It is final."}, **_SPENDING},
)
async def generate_lipsync(
    body: GenerateBody,
    request: Request,
    caller: Caller,
    doors: Shared,
    idempotency_key: Annotated[
        str | None, Header(description="The same key with the same body is the same generation.")
    ] = None,
) -> Response:
    """Start a generation and hold its price."""
    app = doors.services
    started = await app.generations.start(
        lambda: _take_order(app, body, caller, _door_of(request)),
        key=await _to_key(idempotency_key, body, caller),
    )
    if not body.poll_for_completion:
        return _json(_started_of(started, base_of(request.scope, doors.settings)), 202)
    final = await _wait(doors, request, started.generation)
    answer = doors.check_of(final, base_of(request.scope, doors.settings))
    if final.error is not None:
        answer["error"] = _FAILED + final.error
    return _json(answer)


@router.post(
    "/api/quote",
    tags=["credits"],
    response_model=QuoteAnswer,
    dependencies=JSON_ONLY,
    responses=problems(404, 408, 413, 415, 503),
)
async def quote(body: QuoteBody, caller: Caller, doors: Shared) -> Response:
    """Say what a generation would cost; nothing is held."""
    app = doors.services
    model = app.catalogue.choose(body.model)
    duration_s = await _duration_s(app, body, caller)
    cost = app.generations.quote(model, duration_s)
    available = (await app.credits.balance(caller)).available
    return _json(
        {
            "model": model.name,
            "duration": round(duration_s, 3),
            "cost": cost_of(cost),
            "available": decimal_text(available),
            "available_micros": available,
            "sufficient": cost.price_micros <= available,
        }
    )


@router.get("/api/models", tags=["models"], response_model=ModelsAnswer, responses=problems(503))
async def list_models(request: Request, doors: Shared) -> Response:
    """List the catalogue, also what is not set up here."""
    app = doors.services
    models = app.catalogue.models
    typical_s = await app.generations.typical_s(models, _TYPICAL_SPEECH_S)
    answer = {"models": [_model_of(app, model, typical_s[model.name]) for model in models]}
    return _compressed(answer, request)


@router.get(
    "/api/credits",
    tags=["credits"],
    response_model=CreditsAnswer,
    responses=problems(503),
)
async def show_credits(
    caller: Caller,
    doors: Shared,
    cursor: Annotated[str | None, Query(pattern="^[0-9]{1,15}$")] = None,
    limit: Annotated[int, Query(ge=1, le=_LONGEST_PAGE)] = _PAGE,
) -> Response:
    """Show what the account has, and how it came to that: the newest entries first."""
    before = None if cursor is None else int(cursor)
    statement = await doors.services.credits.statement(caller, before=before, limit=limit)
    balance, entries = statement.balance, statement.entries
    is_more = len(entries) == limit and entries[-1].version > 1
    return _json(
        {
            "balance": decimal_text(balance.total),
            "balance_micros": balance.total,
            "held": decimal_text(balance.held),
            "held_micros": balance.held,
            "available": decimal_text(balance.available),
            "available_micros": balance.available,
            "currency": CURRENCY,
            "entries": [_entry_of(entry) for entry in entries],
            "next": str(entries[-1].version) if is_more else None,
        }
    )


@router.get(
    "/api/generations",
    tags=["generations"],
    response_model=GenerationsAnswer,
    responses=problems(503),
)
async def list_generations(
    request: Request,
    caller: Caller,
    doors: Shared,
    cursor: Annotated[str | None, Query(pattern="^[0-9A-Za-z_-]{1,200}$")] = None,
    limit: Annotated[int, Query(ge=1, le=_LONGEST_PAGE)] = _PAGE,
) -> Response:
    """List generations, newest first."""
    page = await doors.services.generations.list(caller, cursor=cursor, limit=limit)
    base = base_of(request.scope, doors.settings)
    bodies = [doors.check_of(generation, base) for generation in page.items]
    return _json({"generations": bodies, "next": page.next})


@router.get(
    "/api/generations/{id}/receipt",
    tags=["generations"],
    response_model=ReceiptAnswer,
    responses=problems(404, 503),
)
async def show_receipt(generation_id: GenerationPath, caller: Caller, doors: Shared) -> Response:
    """Show what a generation did cost, and why."""
    return _json(
        _receipt_of(await doors.services.generations.receipt(caller, id_of(generation_id)))
    )


@router.get(
    "/api/generations/{id}/video",
    tags=["generations"],
    response_class=Response,
    responses={**RANGES, **problems(404, 503)},
)
@router.head("/api/generations/{id}/video", include_in_schema=False)
async def send_video(
    generation_id: GenerationPath, request: Request, caller: Caller, doors: Shared
) -> Response:
    """Give the video to its owner; this address does not expire."""
    app = doors.services
    generation = await app.generations.get(caller, id_of(generation_id))
    if generation.video_key is None:
        raise ArtifactMissing("This generation has no video.")
    key = ArtifactKey(generation.video_key)
    return await send_file(request, app.artifacts, key, name=f"{generation.id}.mp4")


@router.post(
    "/api/generations/{id}/cancel",
    tags=["generations"],
    response_model=CheckBody,
    responses=problems(404, 503),
)
async def cancel(
    generation_id: GenerationPath, request: Request, caller: Caller, doors: Shared
) -> Response:
    """Ask for the end of a generation; a video that is there by then is still delivered."""
    generation = await doors.services.generations.cancel(caller, id_of(generation_id))
    return _json(doors.check_of(generation, base_of(request.scope, doors.settings)))


@router.delete(
    "/api/generations/{id}",
    tags=["generations"],
    status_code=204,
    responses=problems(404, 409, 503),
)
async def delete(generation_id: GenerationPath, caller: Caller, doors: Shared) -> Response:
    """Delete a generation that has ended, with every file that no other one uses."""
    await doors.services.generations.delete(caller, id_of(generation_id))
    return Response(status_code=204)


async def _take_order(
    app: Services, body: GenerateBody, account_id: AccountId, door: Door
) -> Order:
    """Take the inputs in and check them against the model."""
    model = app.catalogue.choose(body.model)
    options = model.check_options(body.options)
    prompt = model.check_prompt(body.prompt)
    await app.generations.require_room(model)
    portrait = await take_input(app, account_id, body.image_url, "portrait")
    speech = await take_input(app, account_id, body.audio_url, "speech")
    notices = app.inputs.check(model, portrait, speech)
    assert speech.duration_s is not None
    return Order(
        account_id=account_id,
        door=door,
        model=model,
        portrait_id=portrait.id,
        speech_id=speech.id,
        speech_s=speech.duration_s,
        prompt=prompt,
        options=options,
        notices=notices,
    )


async def _to_key(given: str | None, body: GenerateBody, account_id: AccountId) -> Key | None:
    if given is None:
        return None
    if not 0 < len(given) <= _KEY_LENGTH or not given.isascii() or not given.isprintable():
        raise BodyInvalid(f"Idempotency-Key: 1 to {_KEY_LENGTH} printable ASCII characters.")
    # A body may hold 32 MB of `data:` URLs, so this is not for the event loop.
    fingerprint = await asyncio.to_thread(_fingerprint, body)
    return Key(account_id=account_id, key=given, fingerprint=fingerprint)


def _fingerprint(body: GenerateBody) -> str:
    text = f"POST /api/generate-lipsync\n{body.model_dump_json(by_alias=True)}"
    return hashlib.sha256(text.encode()).hexdigest()


async def _wait(doors: Doors, request: Request, generation: Generation) -> Generation:
    """Return the generation once it is final.

    Raises `GenerationTimedOut` after its deadline and `ShuttingDown` when the service stops: the
    generation goes on, and the same Idempotency-Key waits for it again.
    """
    app = doors.services
    model = app.catalogue.find(generation.model)
    deadline_s = model.deadline_s or doors.settings.deadline_s
    final = await _unless_gone(
        app.generations.wait(
            generation.account_id, generation.id, timeout_s=deadline_s + _PATIENCE_S
        ),
        request.receive,
        doors.closing,
    )
    if final.error_code == _TIMED_OUT:
        raise GenerationTimedOut(final.error or "", generation_id=final.id)
    if not final.is_final:
        raise GenerationTimedOut(
            "The video is not there yet and goes on being made: look at /api/check-lipsync.",
            generation_id=final.id,
        )
    return final


async def _unless_gone(work: Awaitable[T], receive: Receive, closing: asyncio.Event) -> T:
    """Return what `work` gives; give up when nobody listens any more, or when we stop."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(closing.wait())
    leaving = asyncio.ensure_future(_until_left(receive))
    tasks = (working, stopping, leaving)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ShuttingDown("The service is starting again; the generation goes on. Ask again.")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _duration_s(app: Services, body: QuoteBody, account_id: AccountId) -> float:
    if body.audio_url is not None:
        speech = await take_input(app, account_id, body.audio_url, "speech")
        assert speech.duration_s is not None
        return speech.duration_s
    if body.audio_duration is not None:
        return body.audio_duration
    raise BodyInvalid("audioUrl: is needed, or audioDuration in seconds.")


def _door_of(request: Request) -> Door:
    """Return which door the request came through; for the records alone."""
    if request.headers.get("user-agent", "").startswith("sayso/"):
        return "cli"
    return "page" if request.headers.get("sec-fetch-site") == "same-origin" else "api"


def _started_of(started: Started, base: str) -> dict[str, Any]:
    generation = started.generation
    query = f"?prediction_id={generation.id}"
    return {
        "prediction_id": generation.id,
        "status": "starting",
        "message": "Lip sync generation started",
        "model": generation.model,
        "cost": cost_of(generation.cost),
        "urls": {
            "check": f"{base}/api/check-lipsync{query}",
            "events": f"{base}/api/events{query}",
            "cancel": f"{base}/api/generations/{generation.id}/cancel",
        },
    }


def _model_of(app: Services, model: Model, typical_s: float) -> dict[str, Any]:
    because = None
    try:
        app.catalogue.choose(model.name)
    except ModelUnavailable as error:
        because = str(error)
    return {
        "name": model.name,
        "provider": model.provider,
        "description": model.description,
        "rate": decimal_text(model.rate_micros),
        "rate_micros": model.rate_micros,
        "default": because is None and model.name == app.catalogue.default.name,
        "available": because is None,
        "unavailable_because": because,
        "needs_face": model.needs_face,
        "takes_prompt": model.inputs.prompt is not None,
        "max_seconds": min(model.max_speech_s, app.settings.speech_max_s),
        "typical_seconds": round(typical_s, 1),
        "price_read_on": model.price_read_on.isoformat(),
        "limits": {"portrait": asdict(model.portrait), "speech": asdict(model.speech)},
        "options": [
            {
                "name": option.name,
                "kind": option.kind,
                "description": option.description,
                "default": option.default,
                "minimum": option.minimum,
                "maximum": option.maximum,
                "choices": list(option.choices),
            }
            for option in model.options
        ],
    }


def _entry_of(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.transfer_id,
        "kind": entry.kind.value,
        "amount": decimal_text(entry.amount),
        "amount_micros": entry.amount,
        "balance_after": decimal_text(entry.balance_after),
        "balance_after_micros": entry.balance_after,
        "reason": entry.reason,
        "prediction_id": entry.generation_id,
        "created_at": iso(entry.created_at),
    }


def _receipt_of(receipt: Receipt) -> dict[str, Any]:
    generation = receipt.generation
    return {
        "prediction_id": generation.id,
        "model": generation.model,
        "status": generation.status,
        "error": generation.error,
        "error_code": generation.error_code,
        "cost": cost_of(generation.cost),
        "captured": decimal_text(receipt.captured_micros),
        "captured_micros": receipt.captured_micros,
        "credits": hold_of(generation),
        "release_reason": receipt.release_reason,
        "held_at": iso_or_none(receipt.held_at),
        "settled_at": iso_or_none(receipt.settled_at),
        "created_at": iso(generation.created_at),
        "started_at": iso_or_none(generation.started_at),
        "completed_at": iso_or_none(generation.completed_at),
        "attempts": [
            {
                "number": attempt.number,
                "state": attempt.state,
                "started_at": iso_or_none(attempt.started_at),
                "finished_at": iso_or_none(attempt.finished_at),
            }
            for attempt in receipt.attempts
        ],
        "quality": None if generation.quality is None else dict(generation.quality),
        "notices": [{"code": notice.code, "text": notice.text} for notice in generation.notices],
    }


def _compressed(body: object, request: Request) -> Response:
    """Answer with what repeats itself and holds no secret; who asks says whether it unpacks."""
    response = _json(body)
    response.headers["Vary"] = "Accept-Encoding"
    if "gzip" in request.headers.get("accept-encoding", ""):
        response.body = gzip.compress(bytes(response.body), mtime=0)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))
    return response


def _json(body: object, status_code: int = 200) -> Response:
    return Response(
        encode(body),
        status_code=status_code,
        media_type="application/json",
        headers={"Cache-Control": "private, no-store"},
    )
