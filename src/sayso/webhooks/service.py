"""Sends webhooks: a loop over the outbox, beside the reconciler.

    WebhookSender.run()       until `stop`; then what is on its way may arrive
    WebhookSender.turn()      claim what is due and start on it
    WebhookSender.settled()   wait until everything in hand is written (tests step it this way)

A delivery goes through the guard, like every request to an address that somebody gave us; redirects
are not followed and the answer's body is not read. A slow or dead receiver costs a place among the
deliveries under way and nothing else: generations never wait for one. A process that dies between
the answer and its record sends again, with the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import httpx
import structlog

from sayso import __version__
from sayso.clock import SECOND, Clock, Instant, after
from sayso.db.changes import Wake
from sayso.db.connect import Database
from sayso.db.tx import Topic
from sayso.errors import DatabaseUnavailable, UrlRefused
from sayso.ids import Ids
from sayso.media.guard import checked_url
from sayso.settings import Peer
from sayso.webhooks import store
from sayso.webhooks.rules import retry_after_s
from sayso.webhooks.signing import signed_headers
from sayso.webhooks.store import Claimed

log = structlog.get_logger()

_HEADERS: Final = {"content-type": "application/json", "user-agent": f"sayso/{__version__}"}
_KEPT_S: Final = 7 * 86_400


@dataclass(frozen=True, kw_only=True)
class SendLimits:
    """How many deliveries at once, and how long each may take."""

    at_once: int = 32
    answer_s: float = 10
    lease_s: float = 60
    tick_s: float = 0.1
    idle_s: float = 1.0
    drain_s: float = 10
    prune_s: float = 3_600


class WebhookSender:
    """See the module's docstring. `transport` is the guard."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        ids: Ids,
        secret: str,
        transport: httpx.AsyncBaseTransport,
        trusted_peers: Collection[Peer] = (),
        limits: SendLimits = SendLimits(),
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._secret = secret
        self._transport = transport
        self._trusted_peers = frozenset(trusted_peers)
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._wake: Wake | None = None
        self._pruned_at_s: float | None = None

    async def run(self) -> None:
        """Send what is due until `stop` is called, then wait for what is on its way."""
        with self._db.listen(Topic.DUE) as wake:
            self._wake = wake
            while not self._stopping.is_set():
                rest_s = self._limits.idle_s
                try:
                    await self._prune_sometimes()
                    next_at = await self.turn()
                    if next_at is not None:
                        left_s = (next_at - self._clock.now()) / SECOND
                        rest_s = min(max(left_s, self._limits.tick_s), rest_s)
                except DatabaseUnavailable as error:
                    log.warning("webhooks cannot reach the database", code=error.code)
                await wake.wait(timeout_s=rest_s)
        self._wake = None
        await self._drain()

    def stop(self) -> None:
        """Let `run` claim nothing more and return soon."""
        self._stopping.set()
        if self._wake is not None:
            self._wake.ring()

    async def turn(self) -> Instant | None:
        """Claim what is due and start sending it; return when the next one will be due."""
        now = self._clock.now()
        room = self._limits.at_once - len(self._tasks)
        next_at = await self._db.read_point(store.next_at)
        if next_at is None or next_at > now or room <= 0:
            return next_at
        token, until = self._ids.new(), after(now, self._limits.lease_s)
        claimed = await self._db.write(
            lambda tx: store.claim(tx, token=token, now=now, until=until, limit=room)
        )
        for one in claimed:
            task = asyncio.create_task(self._deliver(one, token))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return next_at

    async def settled(self) -> None:
        """Wait until everything in hand is sent and written."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, claimed: Claimed, token: str) -> None:
        """Send one webhook and write down what came of it."""
        error, is_hopeless = await self._attempt(claimed)
        now = self._clock.now()
        wait_s = retry_after_s(claimed.event, attempts=claimed.attempts + 1)
        again_at = None if wait_s is None or is_hopeless else after(now, wait_s)
        if error is not None:
            log.info("webhook not delivered", webhook_id=claimed.id, error=error)
        try:
            await self._db.write(
                lambda tx: store.record(
                    tx, claimed, token=token, error=error, again_at=again_at, now=now
                )
            )
        except DatabaseUnavailable:
            # Its lease runs out, and it is sent again with the same id.
            log.warning("webhook sent, but not written down", webhook_id=claimed.id)

    async def _attempt(self, claimed: Claimed) -> tuple[str | None, bool]:
        """Send it once; return what went wrong, and whether that will never be otherwise."""
        try:
            url = checked_url(claimed.url, trusted_peers=self._trusted_peers)
            async with asyncio.timeout(self._limits.answer_s):
                answer = await self._transport.handle_async_request(self._request(claimed, url))
                await answer.aclose()
        except UrlRefused as error:
            return str(error), True
        except TimeoutError:
            return f"no answer within {self._limits.answer_s:g} s", False
        except (httpx.TransportError, httpx.StreamError) as error:
            return f"not reached: {type(error).__name__}", False
        return (None if answer.is_success else f"answered {answer.status_code}"), False

    def _request(self, claimed: Claimed, url: httpx.URL) -> httpx.Request:
        body = claimed.body.encode()
        signed = signed_headers(
            [self._secret],
            delivery_id=claimed.id,
            sent_at_s=self._clock.now() // SECOND,
            body=body,
        )
        timeout = httpx.Timeout(self._limits.answer_s).as_dict()
        return httpx.Request(
            "POST",
            url,
            headers={**_HEADERS, **signed},
            content=body,
            extensions={"timeout": timeout},
        )

    async def _prune_sometimes(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._pruned_at_s is None or now_s - self._pruned_at_s >= self._limits.prune_s:
            self._pruned_at_s = now_s
            before = after(self._clock.now(), -_KEPT_S)
            await self._db.write(lambda tx: store.prune(tx, before=before))

    async def _drain(self) -> None:
        """Give what is on its way a moment; the rest is sent again by whoever comes next."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._limits.drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
