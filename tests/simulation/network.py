"""The network between a process and its provider: it takes time, and it outlives the process.

A request that has left arrives even when its sender dies meanwhile; an answer that nobody waits
for any more is dropped. What is lost on the way is seen as silence, until the caller gives up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from random import Random
from typing import TYPE_CHECKING, Any

import httpx

from sayso.ids import Nonce
from tests.simulation.database import Mortal

if TYPE_CHECKING:
    from tests.upstream import UpstreamTransport

SENT_FOR: ContextVar[Nonce] = ContextVar("sent_for")
"""The nonce of the attempt whose create call is being made."""


class Network(httpx.AsyncBaseTransport):
    """See the module's docstring.

    `spawn` starts a task that no process owns.
    """

    def __init__(
        self,
        process: Mortal,
        upstream: UpstreamTransport,
        *,
        random: Random,
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
    ) -> None:
        self._process = process
        self._upstream = upstream
        self._random = random
        self._spawn = spawn

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and wait for its answer."""
        await self._process.step()
        await request.aread()
        way_s = self._random.uniform(0.02, 0.4), self._random.uniform(0.02, 0.4)
        answer: httpx.Response = await asyncio.shield(self._spawn(self._carried(request, *way_s)))
        await self._process.step()
        return answer

    async def _carried(
        self, request: httpx.Request, there_s: float, back_s: float
    ) -> httpx.Response:
        await asyncio.sleep(there_s)
        try:
            answer = await self._upstream.handle_async_request(request)
        except httpx.ReadTimeout:
            # Nothing comes back at all: whoever waits gives up by himself.
            await asyncio.sleep(1_000)
            raise
        await asyncio.sleep(back_s)
        return answer
