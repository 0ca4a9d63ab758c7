"""Errors over HTTP: one table from the error tree to statuses, one body for all of them.

    STATUSES             the status of each class; a class below it may say otherwise
    status_of()          the status of an error or its class
    problem_of()         the body: RFC 9457, with `code`, and `error` for the first clients
    problem_response()   the answer as a whole
    install()            hand every error that an endpoint or the framework raises to it
    PROBLEMS             the same for OpenAPI

Bodies are `application/problem+json`: `type title status detail code error`, where `error` repeats
`detail`. An unexpected exception says nothing of itself but the request's id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sayso import errors
from sayso.errors import BodyInvalid, SaysoError

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[type[SaysoError], int]] = {
    SaysoError: 500,
    # What the caller handed in.
    errors.InputRejected: 422,
    errors.ImageUnsupported: 415,
    errors.SpeechUnsupported: 415,
    errors.ImageTooLarge: 413,
    errors.SpeechTooLarge: 413,
    errors.UploadTooLarge: 413,
    errors.UrlUnusable: 422,
    errors.DownloadTooLarge: 413,
    errors.RequestRefused: 403,
    errors.KeyRequired: 401,
    errors.AddressRefused: 403,
    errors.TooManyTries: 429,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.BodyUnsupported: 415,
    errors.BodyInvalid: 422,
    # What it asked for.
    errors.ArtifactMissing: 404,
    errors.LinkRefused: 403,
    errors.LinkExpired: 410,
    errors.SignatureRefused: 401,
    errors.NoSuchGeneration: 404,
    errors.GenerationActive: 409,
    errors.KeyReused: 422,
    errors.StillCreating: 409,
    errors.QueueFull: 429,
    errors.PreviewsUsedUp: 429,
    errors.PreviewNotReady: 503,
    errors.GenerationTimedOut: 504,
    # Money.
    errors.InsufficientCredits: 402,
    errors.LedgerRefused: 409,
    errors.NoSuchAccount: 404,
    errors.NoSuchHold: 404,
    errors.AmountInvalid: 422,
    # What we need ourselves.
    errors.StoreUnavailable: 503,
    errors.DatabaseUnavailable: 503,
    errors.ShuttingDown: 503,
    errors.ProviderError: 502,
    errors.ProviderRejected: 422,
    errors.ProviderUnavailable: 503,
    errors.ProviderTimedOut: 504,
    errors.VideoRefused: 502,
    # Of the command line and the start; here they are our fault.
    errors.ChildFailed: 500,
    errors.SettingsInvalid: 500,
    errors.DatabaseUnsupported: 500,
    errors.SchemaTooNew: 500,
    errors.ServiceUnreachable: 502,
    errors.ServiceRefused: 502,
    errors.Canceled: 409,
}

# Where an error does not say when to try again.
_RETRY_AFTER_S: Final[Mapping[type[SaysoError], int]] = {
    errors.StillCreating: 1,
    errors.DatabaseUnavailable: 2,
    errors.StoreUnavailable: 10,
    errors.ShuttingDown: 5,
}

_UNEXPECTED: Final = "Something broke that should not have. The operator finds it in the log by"


def status_of(kind: type[SaysoError]) -> int:
    """Return the HTTP status of an error's class: its own, else that of the nearest one above."""
    return next(STATUSES[above] for above in kind.__mro__ if above in STATUSES)


def problem_of(status: int, detail: str, code: str, **more: object) -> dict[str, object]:
    """Return the body of an error."""
    return {
        "type": f"urn:sayso:error:{code}",
        "title": _phrase(status),
        "status": status,
        "detail": detail,
        "code": code,
        "error": detail,
        **more,
    }


def problem_response(error: SaysoError) -> Response:
    """Return the answer to a request that ended in this error."""
    more: dict[str, object] = {}
    if isinstance(error, errors.GenerationTimedOut):
        more["prediction_id"] = error.generation_id
    headers: dict[str, str] = {}
    wait_s = _retry_after_s(error)
    if wait_s is not None:
        headers["Retry-After"] = str(max(1, round(wait_s)))
    if isinstance(error, errors.KeyRequired):
        headers["WWW-Authenticate"] = 'Bearer realm="Sayso"'
    return _response(problem_of(status_of(type(error)), str(error), error.code, **more), headers)


def unexpected_response(request_id: str) -> Response:
    """Return the answer to a request that broke us; the log has the rest."""
    return _response(
        problem_of(500, f"{_UNEXPECTED} {request_id}.", SaysoError.code, request_id=request_id)
    )


def install(app: FastAPI) -> None:
    """Make the app answer every error with a problem."""
    app.add_exception_handler(SaysoError, _on_ours)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_frameworks)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of these statuses."""
    return {
        status: {
            "description": _phrase(status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def _response(body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    status = body["status"]
    assert isinstance(status, int)
    return Response(
        json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _retry_after_s(error: SaysoError) -> float | None:
    own: float | None = getattr(error, "retry_after_s", None)
    if own is not None:
        return own
    return next((wait for kind, wait in _RETRY_AFTER_S.items() if isinstance(error, kind)), None)


async def _on_ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SaysoError)
    return problem_response(error)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(BodyInvalid(_sentences(error.errors())))


async def _on_frameworks(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # FastAPI wraps what goes wrong while it reads a body.
    match error.__cause__:
        case SaysoError() as ours:
            return problem_response(ours)
        case ClientDisconnect() as left:
            raise left
        case ValueError() | RecursionError():
            return problem_response(BodyInvalid("The body is no JSON that can be read."))
    phrase = _phrase(error.status_code)
    code = phrase.lower().replace(" ", "_").replace("-", "_")
    body = problem_of(error.status_code, _about(request, error), code)
    return _response(body, error.headers)


def _about(request: Request, error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "There is nothing at this address."
        case 405:
            return f"This address does not take {request.method}."
        case _:
            return f"{error.detail}."


def _sentences(problems: Sequence[Any]) -> str:
    """Say what does not fit, at most five things, without repeating the values."""
    return "; ".join(map(_sentence, problems[:5])) + "."


def _sentence(problem: Any) -> str:
    match problem:
        case {"type": "json_invalid", "loc": (_, at), "ctx": {"error": reason}}:
            return f"The body is not JSON: {reason} at character {at}"
        case {"type": "model_attributes_type"}:
            return f"{_place(problem['loc'])}: must be a JSON object"
        case _:
            return f"{_place(problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"


def _place(location: Sequence[int | str]) -> str:
    first, *rest = location
    return ".".join(str(part) for part in (rest or [first]))
