"""Replicate's HTTP API: one call at a time, within its limits, with its answers told apart.

    ReplicateSettings      where it is, who we are, how patient we are
    ReplicateClient        get, post, create and upload; each bounded in time and size
    Answer                 an answer that makes sense: 2xx, or a 4xx that is about the request

What an answer means for a create call is the same for every other call, only weaker:

    connection not made, 401, 402, 403, 429, limits of our own  -> ProviderUnavailable: not done
    no answer, half an answer, 3xx, 5xx, HTML, broken JSON      -> ProviderTimedOut: nobody knows
    2xx, other 4xx                                              -> Answer

The token goes to the API's own address and nowhere else: callers name paths, and no redirect is
followed. Limits are in `replicate_limits.py`, sentences about 422 in `replicate_errors.py`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import structlog

from sayso.clock import Clock
from sayso.errors import ProviderTimedOut, ProviderUnavailable, SettingsInvalid, UrlRefused
from sayso.media.guard import checked_url
from sayso.providers.replicate_errors import raw_text
from sayso.providers.replicate_limits import CallKind, CallLimits, is_low_on_credit
from sayso.settings import Peer, Settings, variable_of

log = structlog.get_logger()

_VERSION_PATH: Final = "/v1"
_RAW_LENGTH: Final = 1_000
# A page of a hundred predictions with short inputs has about 0.2 MB.
_ANSWER_MAX_BYTES: Final = 32 << 20
# Above this JSON is not read on the event loop.
_LARGE_BYTES: Final = 256 << 10
_OUTAGE_S: Final = 5.0

_UNAUTHORIZED: Final = frozenset({401, 403})
_NO_CREDIT: Final = 402
_THROTTLED: Final = 429
# 4xx after which the request may have been carried out all the same.
_UNCLEAR: Final = frozenset({408, 409, 425})

# Raised before anything was sent.
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)

# What customers read; the reasons are the operator's.
_NOT_NOW: Final = "Replicate takes no predictions just now."
_NO_ANSWER: Final = "Replicate did not answer."


@dataclass(frozen=True, kw_only=True)
class ReplicateSettings:
    """Where Replicate's API is spoken, who we are there, and how patient we are.

    `url` ends with the API's version. `public_url` is our own address, None where Replicate cannot
    reach us. `total_s` bounds a call as a whole, `upload_s` the sending of one file.
    """

    token: str = field(repr=False)
    url: str = "https://api.replicate.com/v1"
    public_url: str | None = None
    trusted_peers: frozenset[Peer] = frozenset()
    video_max_bytes: int = 1_000 << 20
    calls_per_s: float = 50
    connect_s: float = 5
    idle_s: float = 20
    total_s: float = 30
    upload_s: float = 600
    download_s: float = 600

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return what the operator decided, None where there is no token.

        Raises `SettingsInvalid` for an address that a token is not sent to.
        """
        if settings.replicate_api_token is None:
            return None
        url = settings.replicate_url
        if not urlsplit(url).path:
            url += _VERSION_PATH
        _require_safe(url, settings.trusted_peers)
        return cls(
            token=settings.replicate_api_token.get_secret_value(),
            url=url,
            public_url=settings.public_url,
            trusted_peers=frozenset(settings.trusted_peers),
            video_max_bytes=settings.video_max_bytes,
            calls_per_s=settings.provider_calls_per_s,
        )

    @property
    def origin(self) -> Peer:
        """The host and port of the API."""
        return peer_of(self.url)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that makes sense; `body` is None where it is no JSON object."""

    status: int
    body: Mapping[str, Any] | None
    text: str

    @property
    def is_success(self) -> bool:
        """Whether the call was carried out."""
        return 200 <= self.status < 300  # noqa: PLR2004 (HTTP's successes)


class ReplicateClient:
    """See the module's docstring. Close it when the service stops.

    `transport` takes the place of the network.
    """

    def __init__(
        self,
        settings: ReplicateSettings,
        *,
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.limits = CallLimits(clock)
        self._settings = settings
        self._http = _http(settings, transport, keepalive=20)
        # A create uses a connection of its own: one that the server has just closed would leave
        # its outcome unknown.
        self._http_once = _http(settings, transport, keepalive=0)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._http_once.aclose()

    @property
    def trouble(self) -> str | None:
        """What keeps calls from being answered, for the operator; None for nothing."""
        if self.limits.pause.reason is not None:
            return self.limits.pause.reason
        return None if self.limits.breaker.is_closed else "Replicate does not answer"

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Ask for something. Raises `ProviderUnavailable`, `ProviderTimedOut`."""
        return await self._call("GET", path, query=query)

    async def post(self, path: str) -> Answer:
        """Ask for something to be done that may be done twice, such as a cancel.

        Raises `ProviderUnavailable`, `ProviderTimedOut`.
        """
        return await self._call("POST", path)

    async def create(
        self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str]
    ) -> Answer:
        """Create a prediction.

        Raises `ProviderUnavailable` when none was, `ProviderTimedOut` when nobody knows.
        """
        content = json.dumps(body, separators=(",", ":")).encode()
        headers = {"content-type": "application/json", **headers}
        answer = await self._call("POST", path, kind="create", content=content, headers=headers)
        if answer.is_success and self.limits.pause.end():
            log.warning("Replicate takes predictions again")
        return answer

    async def ready_to_create(self) -> None:
        """Raise `ProviderUnavailable` while creates are paused; after an outage, ask first.

        A create that meets a server in trouble would leave its outcome unknown.
        """
        wait_s = self.limits.pause.ask()
        if wait_s > 0:
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=wait_s, raw=self.limits.pause.reason)
        if self.limits.breaker.is_closed:
            return
        try:
            await self.get("/account")
        except ProviderTimedOut as error:
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=_OUTAGE_S, raw=error.raw) from error

    async def upload(
        self,
        content: AsyncIterator[bytes],
        *,
        name: str,
        content_type: str,
        size_bytes: int,
    ) -> Answer:
        """Hand in a file, streamed. Raises `ProviderUnavailable`, `ProviderTimedOut`."""
        boundary = f"sayso-{secrets.token_hex(16)}"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{name}"\r\n'
            f"Content-Type: {content_type}\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        async def form() -> AsyncIterator[bytes]:
            yield head
            async for chunk in content:
                yield chunk
            yield tail

        headers = {
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(len(head) + size_bytes + len(tail)),
        }
        return await self._call(
            "POST", "/files", content=form(), headers=headers, total_s=self._settings.upload_s
        )

    async def account(self) -> Answer:
        """Ask whose token this is; a refused token is an answer here, its status 401 or 403.

        Raises `ProviderUnavailable`, `ProviderTimedOut`.
        """
        status, raw, _ = await self._sent("other", self._request("GET", "/account"))
        return await _read(status, raw)

    # one call

    async def _call(
        self,
        method: str,
        path: str,
        *,
        kind: CallKind = "other",
        query: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        total_s: float | None = None,
    ) -> Answer:
        wait_s = self.limits.ask(kind)
        if wait_s > 0:
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=wait_s, raw="not asked: our limit")
        request = self._request(method, path, query=query, content=content, headers=headers)
        status, raw, answered = await self._sent(kind, request, total_s=total_s)
        self.limits.counted(
            kind,
            remaining=answered.get("ratelimit-remaining"),
            reset=answered.get("ratelimit-reset"),
        )
        try:
            answer = await _read(status, raw)
        except ProviderTimedOut as error:
            self._failed(error.raw)
            raise
        self.limits.breaker.worked()
        self._refusal(kind, answer, answered)
        return answer

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        return self._http.build_request(
            method, self._settings.url + path, params=query, content=content, headers=headers
        )

    async def _sent(
        self, kind: CallKind, request: httpx.Request, *, total_s: float | None = None
    ) -> tuple[int, bytes, httpx.Headers]:
        """Return status, bytes and headers of an answer that came whole."""
        request.headers["authorization"] = f"Bearer {self._settings.token}"
        http = self._http_once if kind == "create" else self._http
        try:
            async with asyncio.timeout(total_s or self._settings.total_s):
                answer = await http.send(request, stream=True)
                try:
                    raw = await _bounded(answer)
                finally:
                    await answer.aclose()
        except _NOT_SENT as error:
            self._failed(repr(error))
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=_OUTAGE_S, raw=repr(error)) from error
        except (httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
            self._failed(repr(error))
            raise ProviderTimedOut(_NO_ANSWER, raw=repr(error)) from error
        return answer.status_code, raw, answer.headers

    def _failed(self, raw: str | None) -> None:
        if self.limits.breaker.failed():
            log.error("Replicate is out of order; calls wait", raw=raw)

    def _refusal(self, kind: CallKind, answer: Answer, headers: httpx.Headers) -> None:
        """Raise for an answer that is about us and not about the request."""
        status = answer.status
        if status == _THROTTLED:
            raise self._throttled(kind, answer, headers)
        if status in _UNAUTHORIZED:
            self._pause("Replicate refuses REPLICATE_API_TOKEN", answer)
        if status == _NO_CREDIT:
            self._pause("Replicate asks for credit: its account has too little", answer)

    def _throttled(
        self, kind: CallKind, answer: Answer, headers: httpx.Headers
    ) -> ProviderUnavailable:
        body = answer.body or {}
        detail = str(body.get("detail") or answer.text)
        stated = _seconds(body.get("retry_after"))
        if stated is None:
            stated = _seconds(headers.get("retry-after"))
        if is_low_on_credit(detail) is not None:
            log.error("Replicate slows us down for want of credit", raw=answer.text)
        wait_s = self.limits.throttled(kind, detail=detail, stated_s=stated)
        return ProviderUnavailable(_NOT_NOW, retry_after_s=wait_s, raw=answer.text)

    def _pause(self, reason: str, answer: Answer) -> None:
        """Pause creates and tell the operator; customers never see the reason."""
        wait_s = self.limits.pause.begin(reason)
        log.error(reason, status=answer.status, raw=answer.text, waits_s=round(wait_s))
        raise ProviderUnavailable(_NOT_NOW, retry_after_s=wait_s, raw=answer.text)


def peer_of(url: str) -> Peer:
    """Return the host and the port of an http or https URL."""
    parts = urlsplit(url)
    default = 80 if parts.scheme == "http" else 443
    return Peer((parts.hostname or "").lower(), parts.port or default)


def _require_safe(url: str, trusted_peers: tuple[Peer, ...]) -> None:
    """Raise `SettingsInvalid` unless a token may be sent there: https, or a peer we trust."""
    variable = variable_of("replicate_url")
    peer = peer_of(url)
    if peer in trusted_peers:
        return
    hint = f"name it in {variable_of('trusted_peers')} ({peer.host}:{peer.port}) to allow that"
    if urlsplit(url).scheme != "https":
        raise SettingsInvalid(f"{variable}: the token would be sent in the clear; {hint}.")
    try:
        checked_url(url)
    except UrlRefused as error:
        reason = str(error).removesuffix(".")
        raise SettingsInvalid(f"{variable}: {reason}; {hint}.") from None


def _http(
    settings: ReplicateSettings, transport: httpx.AsyncBaseTransport | None, *, keepalive: int
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport,
        headers={"user-agent": "sayso", "accept": "application/json"},
        timeout=httpx.Timeout(settings.idle_s, connect=settings.connect_s),
        limits=httpx.Limits(
            max_connections=100, max_keepalive_connections=keepalive, keepalive_expiry=10
        ),
        follow_redirects=False,
        trust_env=False,
    )


async def _bounded(answer: httpx.Response) -> bytes:
    raw = bytearray()
    async for chunk in answer.aiter_bytes():
        raw += chunk
        if len(raw) > _ANSWER_MAX_BYTES:
            raise ProviderTimedOut(_NO_ANSWER, raw="the answer has no end")
    return bytes(raw)


async def _read(status: int, raw: bytes) -> Answer:
    """Return an answer that makes sense; raise `ProviderTimedOut` for any other."""
    body = await asyncio.to_thread(_parsed, raw) if len(raw) > _LARGE_BYTES else _parsed(raw)
    text = raw_text(raw[:_RAW_LENGTH].decode("utf-8", "replace"))
    is_final = 200 <= status < 500 and not 300 <= status < 400  # noqa: PLR2004 (HTTP's classes)
    is_refusal = status in _UNAUTHORIZED or status in {_NO_CREDIT, _THROTTLED}
    if is_refusal or (is_final and status not in _UNCLEAR and body is not None):
        return Answer(status, body, text)
    raise ProviderTimedOut(_NO_ANSWER, raw=f"{status}: {text}")


def _parsed(raw: bytes) -> Mapping[str, Any] | None:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _seconds(value: object) -> float | None:
    match value:
        case bool():
            return None
        case int() | float() if 0 <= value < float("inf"):
            return float(value)
        case str() if value.isdecimal():
            return float(value[:9])
    return None


@asynccontextmanager
async def opened_client(
    settings: ReplicateSettings, *, clock: Clock
) -> AsyncIterator[ReplicateClient]:
    """Give a client for a few calls, as the command line makes them; close it when left."""
    client = ReplicateClient(settings, clock=clock)
    try:
        yield client
    finally:
        await client.aclose()
