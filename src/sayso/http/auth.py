"""Who may come in.

    Access    the rules: by address, by key, by the page's cookie
    Gate      asks them before anything else is done for a request (pure ASGI)
    router    `POST /api/session` trades the key for the cookie, `DELETE` ends it

Without a key (local mode) the service is bound to loopback. A browser that shows somebody else's
page can reach loopback too, so `Host` has to name this machine (against DNS rebinding) and an
`Origin`, where there is one, has to be ours. For the public host only what proves itself by a
signature answers: `/callbacks/` and `/files/`.

With a key any address may be bound. The key is asked for as a bearer token (`Bearer` or Replicate's
`Token`), or as a cookie that scripts cannot read; a request that comes with the cookie has to come
from our own page. The cookie holds no state here: its time and a MAC of that under the key, so a
new key ends all sessions.

Until accounts exist, whoever is in is the local account: `scope["sayso.account"]`.
"""

from __future__ import annotations

import hmac
from collections import deque
from functools import lru_cache
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sayso.clock import SECOND, Clock
from sayso.db.tables import LOCAL_ACCOUNT
from sayso.errors import AddressRefused, KeyRequired, TooManyTries
from sayso.http.bodies import JSON_ONLY
from sayso.http.errors import problem_response, problems
from sayso.ids import AccountId
from sayso.settings import Settings

ACCOUNT: Final = "sayso.account"

COOKIE: Final = "sayso-session"
SESSION_S: Final = 7 * 86_400

# What proves itself by a signature of its own, whoever asks.
_SIGNED: Final = ("/callbacks/", "/files/")
# What a browser needs before it can ask for the key, and what a supervisor asks.
_OPEN: Final = frozenset({"/", "/docs", "/openapi.json", "/livez", "/readyz", "/api/session"})
_OPEN_PREFIX: Final = "/web/"

# Wrong keys from one address, and for how many addresses they are counted.
_TRIES: Final = 5
_TRIES_S: Final = 60
_ADDRESSES: Final = 1_000


class Access:
    """The rules of who may come in."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._key = settings.api_key.get_secret_value().encode() if settings.api_key else None
        self._public_host = urlsplit(settings.public_url).netloc if settings.public_url else None
        self._clock = clock
        self._tries: dict[str, deque[float]] = {}

    @property
    def asks_for_key(self) -> bool:
        """Whether a key is set; without one only this machine may come in."""
        return self._key is not None

    def check(self, path: str, headers: Headers) -> None:
        """Let a request pass, or raise `AddressRefused` or `KeyRequired`."""
        if self._key is None:
            self._check_address(path, headers)
        elif not self._is_open(path) and not self._has_bearer(headers):
            self._check_session(headers)

    def open_session(self, key: str, *, address: str) -> str:
        """Return a cookie's value for the right key; raise `KeyRequired`, `TooManyTries`."""
        if self._key is None:
            return ""
        tries = self._recent_tries(address)
        if len(tries) >= _TRIES:
            raise TooManyTries(
                "Too many wrong keys; wait a minute.",
                retry_after_s=_TRIES_S - (self._clock.monotonic_s() - tries[0]),
            )
        if not hmac.compare_digest(key.encode("utf-8", "replace"), self._key):
            tries.append(self._clock.monotonic_s())
            raise KeyRequired("That is not the key of this service.")
        expires = str(self._clock.now() // SECOND + SESSION_S)
        return f"{expires}.{self._mac(expires)}"

    def _check_address(self, path: str, headers: Headers) -> None:
        host = headers.get("host", "").lower()
        if path.startswith(_SIGNED) and (is_loopback(host) or host == self._public_host):
            return
        if not is_loopback(host):
            raise AddressRefused(
                "Without SAYSO_API_KEY this service answers on its own machine only, as localhost."
            )
        self._check_origin(headers)

    def _check_session(self, headers: Headers) -> None:
        given = _cookie(headers.get("cookie", ""))
        expires, _, mac = given.partition(".")
        is_ours = hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(expires).encode())
        if not is_ours or int(expires) <= self._clock.now() // SECOND:
            raise KeyRequired("This service asks for its key: send it as a bearer token.")
        self._check_origin(headers)

    def _check_origin(self, headers: Headers) -> None:
        """Refuse what a page of somebody else sends; programs send no `Origin`."""
        origin = headers.get("origin")
        host = headers.get("host", "").lower()
        if origin is not None and _place_of(origin) not in {host, self._public_host}:
            raise AddressRefused("This service does not answer pages of other sites.")
        if origin is None and headers.get("sec-fetch-site") == "cross-site":
            # A link or a picture on another site: to look at the page is fine, to use it is not.
            if headers.get("sec-fetch-mode") == "navigate":
                return
            raise AddressRefused("This service does not answer pages of other sites.")

    def _is_open(self, path: str) -> bool:
        return path in _OPEN or path.startswith((_OPEN_PREFIX, *_SIGNED))

    def _has_bearer(self, headers: Headers) -> bool:
        assert self._key is not None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip().encode("utf-8", "replace")
        return scheme.lower() in {"bearer", "token"} and hmac.compare_digest(given, self._key)

    def _mac(self, expires: str) -> str:
        assert self._key is not None
        message = f"sayso-session-1\n{expires}".encode("utf-8", "replace")
        return hmac.new(self._key, message, sha256).hexdigest()

    def _recent_tries(self, address: str) -> deque[float]:
        now_s = self._clock.monotonic_s()
        if len(self._tries) >= _ADDRESSES and address not in self._tries:
            self._tries.clear()
        tries = self._tries.setdefault(address, deque())
        while tries and tries[0] <= now_s - _TRIES_S:
            tries.popleft()
        return tries


class Gate:
    """Middleware that lets requests pass by the rules of `Access`."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            try:
                self._access.check(scope["path"], Headers(scope=scope))
            except (AddressRefused, KeyRequired) as error:
                await problem_response(error)(scope, receive, send)
                return
            scope[ACCOUNT] = AccountId(LOCAL_ACCOUNT)
        await self._app(scope, receive, send)


@lru_cache(maxsize=100)
def is_loopback(host: str) -> bool:
    """Whether a `Host` header, or an address to bind, names this machine itself."""
    name = _without_port(host)
    if name in {"localhost", "localhost."}:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def caller(request: Request) -> AccountId:
    """Return the account of whoever asks."""
    account: AccountId = request.scope[ACCOUNT]
    return account


Caller = Annotated[AccountId, Depends(caller)]

router: Final = APIRouter(tags=["session"])


class SessionBody(BaseModel):
    """The key, as a person typed it."""

    model_config = ConfigDict(strict=True)

    key: str = Field(max_length=1_000)


@router.post(
    "/api/session",
    status_code=204,
    dependencies=JSON_ONLY,
    responses=problems(408, 413, 415, 429),
)
async def open_session(body: SessionBody, request: Request) -> Response:
    """Trade the key for a cookie that scripts cannot read."""
    access: Access = request.app.state.doors.access
    value = access.open_session(body.key, address=request.client.host if request.client else "")
    response = Response(status_code=204)
    if value:
        _set_cookie(request, response, value, max_age_s=SESSION_S)
    return response


@router.delete("/api/session", status_code=204, responses=problems())
async def end_session(request: Request) -> Response:
    """Take the cookie away."""
    response = Response(status_code=204)
    _set_cookie(request, response, "", max_age_s=0)
    return response


def _set_cookie(request: Request, response: Response, value: str, *, max_age_s: int) -> None:
    settings: Settings = request.app.state.doors.settings
    is_https = request.url.scheme == "https" or (settings.public_url or "").startswith("https:")
    response.set_cookie(
        COOKIE, value, max_age=max_age_s, httponly=True, samesite="strict", secure=is_https
    )


def _place_of(origin: str) -> str:
    """Return the host and port of an `Origin`; nothing for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:]
    # Two colons or more without brackets: an IPv6 address to bind.
    return host if host.count(":") > 1 else host.partition(":")[0]
