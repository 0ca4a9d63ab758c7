"""Files behind URLs that people give us: fetched through the guard, into a file, within limits.

    Fetcher.fetch()   a URL (http, https or data:) to an `Arrival`, gone when the block ends
    FetchLimits       how long a connection, a silence and the whole may last; how many redirects

The guard (`guard.py`) decides whom we talk to. Here: redirects are followed by hand and checked
like the first URL, the size is bounded while the bytes arrive whatever was announced, a server
that drips its bytes meets the total deadline, and a compressed body is not unpacked. No cookie,
no credential and no header of the customer's is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self

import httpx

from sayso.errors import DownloadFailed, DownloadTooLarge, UrlRefused
from sayso.media.dataurl import decode_data_url, is_data_url
from sayso.media.guard import GuardedTransport, checked_url
from sayso.media.intake import Arrival, IncomingFile, Intake, in_megabytes
from sayso.settings import Peer, Settings

# Many servers refuse a client that does not say who it is.
_HEADERS: Final = {"user-agent": "sayso", "accept": "*/*", "accept-encoding": "identity"}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_STATUSES: Final = frozenset(HTTPStatus)
_MAY_RETRY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """How long a fetch may take and how far it may be sent on."""

    connect_s: float = 5.0
    idle_s: float = 10.0
    total_s: float = 60.0
    redirects: int = 3

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the operator decided."""
        return cls(
            connect_s=settings.fetch_connect_s,
            idle_s=settings.fetch_idle_s,
            total_s=settings.fetch_total_s,
            redirects=settings.fetch_redirects,
        )


class Fetcher:
    """Fetches what people's URLs name. Close it when the service stops."""

    def __init__(
        self,
        intake: Intake,
        *,
        limits: FetchLimits = FetchLimits(),
        trusted_peers: Collection[Peer] = (),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Fetch into `intake`; `transport` is a `GuardedTransport` with other seams, for tests."""
        self._intake = intake
        self._limits = limits
        self._trusted_peers = frozenset(trusted_peers)
        self._transport = transport or GuardedTransport(trusted_peers=trusted_peers)

    async def aclose(self) -> None:
        """Close what is still open."""
        await self._transport.aclose()

    @asynccontextmanager
    async def fetch(self, url: str, *, max_bytes: int) -> AsyncIterator[Arrival]:
        """Give the file behind a URL; it is removed when the block ends.

        Raises `UrlRefused`, `DownloadTooLarge` or `DownloadFailed`.
        """
        async with self._intake.file(max_bytes=max_bytes) as file:
            if is_data_url(url):
                await file.write(await asyncio.to_thread(decode_data_url, url, max_bytes=max_bytes))
            else:
                await self._download(url, file, max_bytes)
            yield await file.finish()

    async def _download(self, url: str, file: IncomingFile, max_bytes: int) -> None:
        target = checked_url(url, trusted_peers=self._trusted_peers)
        try:
            async with asyncio.timeout(self._limits.total_s):
                for _ in range(self._limits.redirects + 1):
                    next_target = await self._one_hop(target, file, max_bytes)
                    if next_target is None:
                        return
                    target = next_target
        except TimeoutError:
            raise DownloadFailed(
                f"{target.host} took longer than {self._limits.total_s:g} s to send the file."
            ) from None
        raise UrlRefused(f"The URL leads on more than {self._limits.redirects} times.")

    async def _one_hop(
        self, target: httpx.URL, file: IncomingFile, max_bytes: int
    ) -> httpx.URL | None:
        """Ask one URL: write its file and return None, or return where it sends us."""
        request = httpx.Request("GET", target, headers=_HEADERS, extensions=self._timeouts())
        try:
            # The transport alone: a client would keep the cookies of every server it meets.
            answer = await self._transport.handle_async_request(request)
            try:
                if answer.status_code in _REDIRECTS:
                    return self._next_target(target, answer)
                await _write_body(answer, target.host, file, max_bytes)
            finally:
                await answer.aclose()
        except httpx.TimeoutException as error:
            raise DownloadFailed(f"{target.host} does not answer.") from error
        except (httpx.TransportError, httpx.StreamError) as error:
            raise DownloadFailed(f"The file could not be fetched from {target.host}.") from error
        return None

    def _timeouts(self) -> dict[str, dict[str, float | None]]:
        limits = self._limits
        return {"timeout": httpx.Timeout(limits.idle_s, connect=limits.connect_s).as_dict()}

    def _next_target(self, target: httpx.URL, answer: httpx.Response) -> httpx.URL:
        try:
            joined = target.join(answer.headers.get("location", ""))
        except (httpx.InvalidURL, ValueError):
            raise UrlRefused("The URL leads to something that is not a URL.") from None
        return checked_url(str(joined), trusted_peers=self._trusted_peers)


async def _write_body(
    answer: httpx.Response, host: str, file: IncomingFile, max_bytes: int
) -> None:
    status = answer.status_code
    if status != HTTPStatus.OK:
        # The phrase is ours: a server may write anything there.
        phrase = f" {HTTPStatus(status).phrase}" if status in _STATUSES else ""
        raise DownloadFailed(
            f"{host} answered {status}{phrase}.", status=status, may_retry=status in _MAY_RETRY
        )
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise DownloadFailed(
            f"{host} sends the file compressed, though it was asked not to.",
            status=status,
            may_retry=False,
        )
    too_large = DownloadTooLarge(f"The file at {host} is larger than {in_megabytes(max_bytes)}.")
    announced = answer.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    async for chunk in answer.aiter_raw():
        if file.size_bytes + len(chunk) > max_bytes:
            raise too_large
        await file.write(chunk)
