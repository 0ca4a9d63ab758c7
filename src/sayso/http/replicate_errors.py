"""Refusals in Replicate's shapes, and the route class that gives every answer of `/v1` its form.

    Refused            a refusal of this door itself: what, and which field of the body
    field_fault()      what is wrong with one field, as such a refusal; faulty(), with several
    ReplicateRoute     counts the request, adds the `ratelimit-*` headers, turns errors into answers

The bodies hold Replicate's `title`, `detail`, `status`, `invalid_fields` and `retry_after`, and
besides them our own `type`, `code` and `error`, so that a client of either kind finds its words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from sayso import errors
from sayso.errors import BodyInvalid, SaysoError
from sayso.http.auth import caller
from sayso.http.doors import doors_of
from sayso.http.errors import MEDIA_TYPE, problem_of, problem_response
from sayso.http.replicate_limits import Allowance, RequestKind

_TITLES: Final[Mapping[type[SaysoError], str]] = {
    errors.InsufficientCredits: "Insufficient credit",
    errors.InputRejected: "Input validation failed",
    errors.UrlUnusable: "Input validation failed",
}

Fault = dict[str, str]


class Refused(Exception):
    """A request that this door refuses; `faults` are the `invalid_fields` of the answer."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str | None = None,
        code: str = BodyInvalid.code,
        faults: Sequence[Fault] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.code = code
        self.faults = list(faults)


def field_fault(field: str, kind: str, description: str, *, code: str | None = None) -> Refused:
    """Return the refusal of a body for one of its fields; `field` is empty for the body itself."""
    return faulty([(field, kind, description)], code=code)


def faulty(faults: Sequence[tuple[str, str, str]], *, code: str | None = None) -> Refused:
    """Return the refusal of a body for fields of its: each one's name, and kind and words of it."""
    lines = (f"- {field}: {text}\n" if field else f"- {text}\n" for field, _, text in faults)
    return Refused(
        422,
        "".join(lines),
        title="Input validation failed",
        code=code or BodyInvalid.code,
        faults=[
            {"type": kind, "field": field, "description": text} for field, kind, text in faults
        ],
    )


class ReplicateRoute(APIRoute):
    """A route of `/v1`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request."""
        handle = super().get_route_handler()
        kind = _kind_of(self)

        async def answer(request: Request) -> Response:
            doors = doors_of(request.scope)
            now_s = doors.services.clock.monotonic_s()
            allowance = doors.limits.take(caller(request), kind, now_s=now_s)
            if allowance.retry_after_s:
                response = _throttled(allowance)
            else:
                response = await _answer(handle, request)
            response.headers.update(allowance.headers)
            return response

        return answer


def operation_id(route: APIRoute) -> str:
    """Return what OpenAPI calls a route of `/v1`; `/api` has some of the same names."""
    return f"v1_{route.name}"


async def _answer(
    handle: Callable[[Request], Coroutine[Any, Any, Response]], request: Request
) -> Response:
    try:
        return await handle(request)
    except Refused as refused:
        more = {"invalid_fields": refused.faults} if refused.faults else {}
        body = problem_of(refused.status, str(refused), refused.code, **more)
        return _response(body, title=refused.title)
    except SaysoError as error:
        return _of_ours(error)


def _of_ours(error: SaysoError) -> Response:
    """Return an error of ours as Replicate would say it; our own answer has the rest."""
    response = problem_response(error)
    more: dict[str, Any] = json.loads(bytes(response.body))
    title = next((title for kind, title in _TITLES.items() if isinstance(error, kind)), None)
    if "retry-after" in response.headers:
        more["retry_after"] = int(response.headers["retry-after"])
    kept = {
        name: value
        for name, value in response.headers.items()
        if name in {"retry-after", "www-authenticate"}
    }
    return _response(more, title=title, headers=kept)


def _throttled(allowance: Allowance) -> Response:
    wait_s = allowance.retry_after_s
    detail = f"Request was throttled. Your rate limit resets in ~{wait_s}s."
    body = problem_of(429, detail, "throttled", retry_after=wait_s)
    return _response(body, headers={"Retry-After": str(wait_s)})


def _response(
    body: Mapping[str, Any], *, title: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    whole = {**body, "title": title or body["title"]}
    return Response(
        json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace"),
        status_code=whole["status"],
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _kind_of(route: APIRoute) -> RequestKind:
    is_post = "POST" in (route.methods or ())
    if is_post and route.path.endswith("/predictions"):
        return "create"
    if not is_post and route.path.endswith("/predictions/{id}"):
        return "look"
    return "other"
