"""Where a video may lie at Replicate, and how it is fetched from there.

    OutputPlaces.save()   an address from a prediction's output -> a file

Replicate serves outputs at `replicate.delivery` and its subdomains, over https. An upstream of the
operator's own serves them itself, or from a pair that the operator trusts. Nothing else is asked:
an output names any host that its model likes. The token is not sent, redirects are followed within
the same bounds, and the guard checks the addresses that a name leads to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from sayso.errors import (
    DownloadTooLarge,
    OutputLost,
    ProviderTimedOut,
    ProviderUnavailable,
    UrlRefused,
)
from sayso.media.guard import GuardedTransport, checked_url
from sayso.media.intake import in_megabytes
from sayso.providers.replicate_client import ReplicateSettings, peer_of
from sayso.providers.replicate_errors import raw_text

_HEADERS: Final = {"user-agent": "sayso", "accept": "*/*", "accept-encoding": "identity"}
_DELIVERY: Final = "replicate.delivery"
_HTTPS_PORT: Final = 443
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_HOPS: Final = 4
# What a file that is there no longer answers; S3 and others say 403 for it.
_GONE: Final = frozenset({403, 404, 410})
_RETRY_S: Final = 5.0
_BLOCK_BYTES: Final = 1 << 20

_NOT_NOW: Final = "The video could not be fetched from Replicate just now."


class OutputPlaces:
    """See the module's docstring. Close it when the service stops."""

    def __init__(
        self, settings: ReplicateSettings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._is_own_upstream = settings.origin in settings.trusted_peers
        self._transport = transport or GuardedTransport(trusted_peers=settings.trusted_peers)

    async def aclose(self) -> None:
        """Close what is still open."""
        await self._transport.aclose()

    async def save(self, url: str, target: Path) -> None:
        """Write the file behind an output's address.

        Raises `OutputLost`, `DownloadTooLarge`, `ProviderUnavailable`, `ProviderTimedOut`.
        """
        place = self._checked(url)
        try:
            async with asyncio.timeout(self._settings.download_s):
                for _ in range(_MOST_HOPS):
                    following = await self._one_hop(place, target)
                    if following is None:
                        return
                    place = self._checked(following)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise ProviderTimedOut(_NOT_NOW, raw=repr(error)) from error
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=_RETRY_S, raw=repr(error)) from error
        raise OutputLost("Replicate sends us round in circles for the video.", raw=raw_text(url))

    def _checked(self, url: str) -> httpx.URL:
        """Return an address that may be asked; raise `OutputLost` for any other."""
        try:
            place = checked_url(url, trusted_peers=self._settings.trusted_peers)
        except UrlRefused as error:
            raise OutputLost("The video lies where we do not fetch from.", raw=str(error)) from None
        peer = peer_of(str(place))
        is_delivery = peer.host == _DELIVERY or peer.host.endswith(f".{_DELIVERY}")
        if is_delivery and place.scheme == "https" and peer.port == _HTTPS_PORT:
            return place
        is_ours = peer == self._settings.origin or (
            self._is_own_upstream and peer in self._settings.trusted_peers
        )
        if is_ours and (place.scheme == "https" or peer in self._settings.trusted_peers):
            return place
        raise OutputLost("The video lies where we do not fetch from.", raw=raw_text(url))

    async def _one_hop(self, place: httpx.URL, target: Path) -> str | None:
        """Ask one address: write its file and return None, or return where it sends us."""
        async with self._asked(place) as answer:
            status = answer.status_code
            if status in _REDIRECTS:
                return str(place.join(answer.headers.get("location", "")))
            if status in _GONE:
                raise OutputLost("Replicate no longer has the video.", raw=_raw(status, place))
            if status != httpx.codes.OK:
                raise ProviderUnavailable(_NOT_NOW, retry_after_s=_RETRY_S, raw=_raw(status, place))
            await self._write(answer, target)
        return None

    @asynccontextmanager
    async def _asked(self, place: httpx.URL) -> AsyncIterator[httpx.Response]:
        settings = self._settings
        timeouts = httpx.Timeout(settings.idle_s, connect=settings.connect_s).as_dict()
        request = httpx.Request("GET", place, headers=_HEADERS, extensions={"timeout": timeouts})
        answer = await self._transport.handle_async_request(request)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def _write(self, answer: httpx.Response, target: Path) -> None:
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=_RETRY_S, raw="it is compressed")
        max_bytes = self._settings.video_max_bytes
        too_large = DownloadTooLarge(f"It is larger than {in_megabytes(max_bytes)}.")
        announced = answer.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:19]) > max_bytes:
            raise too_large
        size_bytes, block = 0, bytearray()
        with await asyncio.to_thread(target.open, "wb") as file:
            async for chunk in answer.aiter_bytes():
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise too_large
                block += chunk
                if len(block) >= _BLOCK_BYTES:
                    await asyncio.to_thread(file.write, block)
                    block = bytearray()
            await asyncio.to_thread(file.write, block)
        if announced.isdecimal() and int(announced[:19]) != size_bytes:
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=_RETRY_S, raw="it was cut short")
        if size_bytes == 0:
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=_RETRY_S, raw="it is empty")


def _raw(status: int, place: httpx.URL) -> str:
    return f"{status}: {raw_text(str(place))}"
