"""The way to the upstream within this process: an httpx transport that opens nothing.

UpstreamTransport    its faults are httpx's own exceptions; others' hosts are not served
Rerouted             sends requests for the upstream's hosts to where `served()` listens
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import urlsplit

import httpx

from tests.upstream.calls import Answer, Call
from tests.upstream.faults import Fault
from tests.upstream.service import Upstream


class UpstreamTransport(httpx.AsyncBaseTransport):
    """See the module's docstring.

    `elsewhere` answers requests for any other host; without it they cannot connect.
    """

    def __init__(
        self, upstream: Upstream, *, elsewhere: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._upstream = upstream
        self._elsewhere = elsewhere
        self._open = asyncio.Event()
        self._open.set()
        self.on_answer: Callable[[Call, Answer], None] | None = None
        """Told of every answer that was made, before a fault spoils its way."""

    def hold(self) -> None:
        """Let every call hang until `release`; whoever gives up is not heard."""
        self._open.clear()

    def release(self) -> None:
        """Answer again."""
        self._open.set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or raise what a real connection would."""
        upstream = self._upstream
        hosts = {urlsplit(base).netloc for base in (upstream.place.api, upstream.place.delivery)}
        if request.url.netloc.decode() not in hosts:
            return await self._pass_on(request)
        await self._open.wait()
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.method, str(request.url), headers, await request.aread())
        answer = await upstream.answer(call)
        if self.on_answer is not None:
            self.on_answer(call, answer)
        match answer.fault:
            case Fault.UNREACHABLE:
                raise httpx.ConnectError("nobody listens there", request=request)
            case Fault.RESET_BEFORE | Fault.RESET_AFTER:
                raise httpx.ReadError("the connection was reset", request=request)
            case Fault.SLOW | Fault.LOST:
                raise httpx.ReadTimeout("no answer in time", request=request)
        length = {"content-length": str(len(answer.body))}
        all_headers = {**answer.headers, **length}
        if answer.fault is Fault.CUT:
            return httpx.Response(answer.status, headers=all_headers, stream=_Cut(answer.body))
        return httpx.Response(answer.status, headers=all_headers, content=answer.body)

    async def _pass_on(self, request: httpx.Request) -> httpx.Response:
        if "authorization" in request.headers:
            self._upstream.leaks.append(str(request.url))
        if self._elsewhere is None:
            raise httpx.ConnectError("there is no such host", request=request)
        return await self._elsewhere.handle_async_request(request)


class Rerouted(httpx.AsyncBaseTransport):
    """Requests for some hosts go to addresses on this machine; the `Host` header stays."""

    def __init__(self, addresses: Mapping[str, tuple[str, int]], **options: object) -> None:
        self._addresses = addresses
        self._real = httpx.AsyncHTTPTransport(**options)  # type: ignore[arg-type]  # Passed on.

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to where its host listens."""
        address = self._addresses.get(request.url.netloc.decode())
        if address is None:
            raise httpx.ConnectError(f"not served here: {request.url.host}", request=request)
        host, port = address
        request.url = request.url.copy_with(scheme="http", host=host, port=port)
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._real.aclose()


class _Cut(httpx.AsyncByteStream):
    """A body that stops in its middle."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body[: len(self._body) // 2]
        raise httpx.RemoteProtocolError("the connection was closed in the middle of a body")
