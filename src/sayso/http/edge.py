"""The edge: what happens to every request, as pure ASGI middleware.

    Edge         gives it an id, headers, a log line and a measurement; the last net for exceptions
    BodyLimit    bounds the bytes of its body, and the time they take
    Measures     the Prometheus figures that the edge keeps

Starlette's `BaseHTTPMiddleware` would cost several times the rest of a request.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sayso.errors import BodyTooLarge, BodyTooSlow, SaysoError
from sayso.http.errors import problem_response, unexpected_response
from sayso.media.intake import in_megabytes
from sayso.settings import Settings

REQUEST_ID: Final = "sayso.request_id"

_log: Final = structlog.get_logger("sayso.http")

_CLIENTS_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Asked so often that a line for each would bury the others.
_QUIET: Final = (
    "/api/check-lipsync",
    "/livez",
    "/readyz",
    "/metrics",
    "/web/",
    "/files/",
    "/callbacks/",
)
_QUIET_ENDING: Final = "/thumbnail"

_BROKEN: Final = 500
# What nginx calls a request whose client left before it was answered.
_LEFT: Final = 499

_API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_COMMON: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_FOR_API: Final = (*_COMMON, (b"content-security-policy", _API_POLICY.encode()))
_FOR_PAGE: Final = (
    *_COMMON,
    (b"content-security-policy", _PAGE_POLICY.encode()),
    (b"permissions-policy", b"camera=(self), geolocation=(), microphone=(self)"),
)
# Parts of a page obey the page's policy; alone they need none but this. There are many of them, and
# headers are not compressed.
_FOR_PARTS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'"),
)
_STRICT_TRANSPORT: Final = (b"strict-transport-security", b"max-age=31536000")

# Bodies of whoever asks, read before it is known who that is.
_CALLBACK_BYTES: Final = 1 << 20
_SESSION_BYTES: Final = 64 << 10
_STRANGERS_S: Final = 10
_BODY_S: Final = 300
# A multipart body holds more than its file.
_ENVELOPE_BYTES: Final = 64 << 10


class Measures:
    """What the edge counts; one registry for each app, so that tests may have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sayso_http_requests",
            "Requests by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "sayso_http_request_seconds",
            "Time until the answer was sent, streams and waits included.",
            ("route",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10, 60, 600),
            registry=self.registry,
        )
        self.streams = Gauge(
            "sayso_event_streams", "Event streams that are open.", registry=self.registry
        )

    def add(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)


class Edge:
    """The outermost middleware of ours."""

    def __init__(
        self, app: ASGIApp, *, measures: Measures, plain_paths: frozenset[str], is_https: bool
    ) -> None:
        """`plain_paths` are those of routes beside FastAPI, which do not name themselves."""
        self._app = app
        self._plain_paths = plain_paths
        self._measures = measures
        secure = (_STRICT_TRANSPORT,) if is_https else ()
        self._for_page = (*_FOR_PAGE, *secure)
        self._for_api = (*_FOR_API, *secure)
        self._for_parts = (*_FOR_PARTS, *secure)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request_id = _id_of(scope)
        scope[REQUEST_ID] = request_id
        path: str = scope["path"]
        answer = self._headers_for(path)
        if answer is not self._for_parts:
            answer = (*answer, (b"x-request-id", request_id.encode()))
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *answer]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except SaysoError as error:
            if status == 0:
                await problem_response(error)(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or _LEFT
        except Exception:  # noqa: BLE001 (the edge: whatever it was, the others go on)
            _log.exception("request broke", request_id=request_id, path=path)
            if status == 0:
                await unexpected_response(request_id)(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - begun
            self._measures.add(
                method=_known_method(scope["method"]),
                route=path if path in self._plain_paths else _route_of(scope),
                status=status,
                seconds=seconds,
            )
            is_quiet = path.startswith(_QUIET) or path.endswith(_QUIET_ENDING)
            tell = _log.debug if is_quiet and status < _BROKEN else _log.info
            # The path alone: a query may hold a signature.
            tell(
                "request",
                method=scope["method"],
                path=path,
                status=status,
                ms=round(seconds * 1_000, 1),
                request_id=request_id,
            )

    def _headers_for(self, path: str) -> tuple[tuple[bytes, bytes], ...]:
        if path in {"/", "/docs"}:
            return self._for_page
        return self._for_parts if path.startswith("/web/") else self._for_api


class BodyLimit:
    """Refuses a body above its limit: by its length where that is told, else as it arrives.

    One that does not arrive in time is refused as well.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        file_bytes = max(settings.image_max_bytes, settings.speech_max_bytes) + _ENVELOPE_BYTES
        self._limits = (
            ("/api/uploads", file_bytes, settings.upload_max_s),
            ("/v1/files", file_bytes, settings.upload_max_s),
            ("/callbacks/", _CALLBACK_BYTES, _STRANGERS_S),
            ("/api/session", _SESSION_BYTES, _STRANGERS_S),
            ("", settings.json_body_max_bytes, _BODY_S),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        _, most, longest_s = next(limit for limit in self._limits if path.startswith(limit[0]))
        told = Headers(scope=scope).get("content-length", "0")
        if told.isdecimal() and int(told) > most:
            raise _too_large(most)
        arrived = 0
        is_whole = False
        deadline = asyncio.get_running_loop().time() + longest_s

        async def receive_bounded() -> Message:
            nonlocal arrived, is_whole
            if is_whole:  # What comes now is only that the client has gone.
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow(f"The request did not arrive in {longest_s:g} s.") from None
            arrived += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if arrived > most:
                raise _too_large(most)
            return message

        await self._app(scope, receive_bounded, send)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request is larger than {in_megabytes(limit)}.")


def _id_of(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _CLIENTS_ID.fullmatch(given) else secrets.token_hex(8)


def _route_of(scope: Scope) -> str:
    """Return the path's pattern, so that ids and inventions make no figures of their own."""
    path: str | None = getattr(scope.get("route"), "path", None)
    return path or "none"


def _known_method(method: str) -> str:
    known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    return method if method in known else "OTHER"
