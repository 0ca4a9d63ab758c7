"""A customer of the upstream, for tests: a client with the token, and orders that fit.

async with customer(upstream) as http: answer = await create(http)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from sayso.clock import SECOND, SettableClock
from tests.upstream.service import Upstream
from tests.upstream.transport import UpstreamTransport

WAN: Final = "wan-video/wan-2.2-s2v"
INPUT: Final = {
    "prompt": "woman singing",
    "image": "https://example.com/portrait.jpg",
    "audio": "https://example.com/speech.wav",
}


@asynccontextmanager
async def customer(
    upstream: Upstream, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the upstream, in this process unless a transport says otherwise."""
    async with httpx.AsyncClient(
        transport=transport or UpstreamTransport(upstream),
        base_url=upstream.place.api,
        headers={"authorization": f"Bearer {upstream.token}"},
    ) as http:
        yield http


async def create(http: httpx.AsyncClient, *, model: str = WAN, **body: Any) -> httpx.Response:
    """Create a prediction by its model's name; `headers` go into the request."""
    headers = body.pop("headers", {})
    whole = {"input": INPUT, **body}
    return await http.post(f"/models/{model}/predictions", json=whole, headers=headers)


class Mailbox:
    """What is around an upstream that opens nothing: it takes webhooks and has the inputs.

    `statuses` are the answers to the next deliveries, `unreachable` whether nobody is there;
    `gone` are inputs that cannot be had, with the status of each.
    """

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.fetched: list[str] = []
        self.statuses: list[int] = []
        self.gone: dict[str, int] = {}
        self.unreachable = False

    async def fetch(self, url: str) -> int:
        """Give an input."""
        self.fetched.append(url)
        if self.unreachable:
            raise ConnectionError(url)
        return self.gone.get(url, 200)

    async def deliver(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """Take a webhook."""
        if self.unreachable:
            raise ConnectionError
        self.got.append((headers, body))
        return self.statuses.pop(0) if self.statuses else 200

    async def live(self, upstream: Upstream, clock: SettableClock) -> None:
        """Let time pass until nothing more is due."""
        while (due := upstream.next_due()) is not None:
            clock.advance(max(0, due - clock.now()) / SECOND)
            await upstream.run_due(self)
