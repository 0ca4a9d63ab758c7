"""The upstream's webhooks and fetches: what is due when, sent by whoever lets time pass.

    Schedule.plan()       a prediction's events, as soon as it exists and whenever its end moves
    Schedule.next_due()   the instant of what comes next
    Schedule.run_due()    do everything that is due by now

    Outside               what is around the upstream: who takes webhooks and has the inputs

Deliveries follow the documents: `start` and `completed` once, `output` and `logs` at most twice a
second, redirects not followed; only the last event is tried again, for about a minute.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Final, Literal, Protocol

from sayso.clock import SECOND, Instant, after
from sayso.webhooks.signing import signed_headers
from tests.upstream.runs import Running, end_of, started_at_of
from tests.upstream.switches import Switches

Event = Literal["start", "output", "logs", "completed"]

DEFAULT_EVENTS: Final = ("output", "completed")
RETRIES_AFTER_S: Final = (1, 2, 4, 8, 16, 29)
"""Between the attempts of a last event: the seventh comes a minute after the first."""

_LOGS_APART_S: Final = 0.5
_LOGS_AT_MOST: Final = 4
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_OTHER_SECRET: Final = "whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldCBrZXk="


class Outside(Protocol):
    """What is around the upstream; both may raise `OSError` for no connection."""

    async def fetch(self, url: str) -> int:
        """Fetch an input; return the status."""
        ...

    async def deliver(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """Send a webhook; return the status of the answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A webhook on its way; the id stays the same when it is tried again."""

    id: str
    event: Event
    prediction_id: str
    url: str
    body: bytes
    attempt: int = 1
    is_lost: bool = False
    is_forged: bool = False
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class _Planned:
    running: Running
    event: Event | Literal["fetch"]


class Schedule:
    """See the module's docstring.

    `body_of(running, event, at)` is what a webhook says; `fetch(running, outside)` gets the inputs.
    """

    def __init__(
        self,
        *,
        random: Random,
        secret: str,
        body_of: Callable[[Running, Event, Instant], bytes],
        fetch: Callable[[Running, Outside], Awaitable[None]],
    ) -> None:
        self._random = random
        self._secret = secret
        self._body_of = body_of
        self._fetch = fetch
        self._numbers = count()
        self._due: list[tuple[Instant, int, _Planned | Delivery]] = []
        self._told: set[str] = set()
        self.sent: list[tuple[Delivery, int | None]] = []
        """Every attempt, with the status of its answer; None for no connection."""

    def plan(self, running: Running, switches: Switches) -> None:
        """Note when something of a prediction is due, its end included."""
        started_at = started_at_of(running)
        if switches.fetches_inputs:
            self._push(started_at, _Planned(running, "fetch"))
        if running.webhook is None:
            return
        wanted = running.events or DEFAULT_EVENTS
        if "start" in wanted:
            self._push(started_at, _Planned(running, "start"))
        if "logs" in wanted:
            apart_s = max(_LOGS_APART_S, running.run.script.run_s / _LOGS_AT_MOST)
            for n in range(1, _LOGS_AT_MOST):
                self._push(after(started_at, n * apart_s), _Planned(running, "logs"))
        self.plan_end(running, switches)

    def plan_end(self, running: Running, switches: Switches) -> None:
        """Note a prediction's end, which has moved."""
        if running.webhook is None:
            return
        wanted = running.events or DEFAULT_EVENTS
        ended_at, status, _ = end_of(running, switches)
        if status == "succeeded" and "output" in wanted:
            self._push(ended_at, _Planned(running, "output"))
        if "completed" in wanted:
            self._push(ended_at, _Planned(running, "completed"))

    def next_due(self) -> Instant | None:
        """Return when there is something to do; None for never."""
        return self._due[0][0] if self._due else None

    async def run_due(self, outside: Outside, switches: Switches, *, now: Instant) -> int:
        """Do what is due by now; return how much that was."""
        n_done = 0
        while self._due and self._due[0][0] <= now:
            at, _, what = heapq.heappop(self._due)
            n_done += 1
            if isinstance(what, Delivery):
                await self._deliver(what, outside, switches, now=now)
            elif what.event == "fetch":
                await self._fetch(what.running, outside)
            elif self._is_true(what, at, switches):
                self._send(what.running, what.event, at, switches)
        return n_done

    def _push(self, at: Instant, what: _Planned | Delivery) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), what))

    def _is_true(self, planned: _Planned, at: Instant, switches: Switches) -> bool:
        """Whether what was planned has come to be: a cancel may have been faster."""
        running = planned.running
        ended_at, status, _ = end_of(running, switches)
        if planned.event in {"start", "logs"}:
            return at < ended_at and not running.run.fails_unstarted
        if ended_at != at or (status == "aborted" and not switches.tells_aborted):
            return False
        if planned.event == "output":
            return status == "succeeded" and running.run.script.has_output
        is_first = running.id not in self._told
        self._told.add(running.id)
        return is_first

    def _send(
        self, running: Running, event: Event | Literal["fetch"], at: Instant, switches: Switches
    ) -> None:
        """Put a webhook on its way, which is not always the straight one."""
        habits, draw = switches.hooks, self._random.random
        if not habits.are_sent or running.webhook is None or event == "fetch":
            return
        delivery = Delivery(
            id="msg_" + "".join(self._random.choices(_ALPHABET, k=27)),
            event=event,
            prediction_id=running.id,
            url=running.webhook,
            body=self._body_of(running, event, at),
            is_lost=draw() < habits.dropped,
            is_forged=draw() < habits.forged,
        )
        is_doubled, is_late = draw() < habits.doubled, draw() < habits.late
        late_s = self._random.uniform(*habits.late_s) if is_late else 0.0
        self._push(after(at, late_s), delivery)
        if is_doubled:
            again_s = self._random.uniform(*habits.late_s) if is_late else 0.0
            self._push(after(at, again_s), replace(delivery, is_copy=True))

    async def _deliver(
        self, delivery: Delivery, outside: Outside, switches: Switches, *, now: Instant
    ) -> None:
        status: int | None = None
        if not delivery.is_lost:
            headers = signed_headers(
                [_OTHER_SECRET if delivery.is_forged else self._secret],
                delivery_id=delivery.id,
                sent_at_s=now // SECOND,
                body=delivery.body,
            )
            headers["content-type"] = "application/json"
            try:
                status = await outside.deliver(delivery.url, headers, delivery.body)
            except OSError:
                status = None
        self.sent.append((delivery, status))
        is_taken = status is not None and status // 100 == 2
        tries_left = delivery.event == "completed" and delivery.attempt <= len(RETRIES_AFTER_S)
        if not is_taken and tries_left and not delivery.is_copy:
            wait_s = RETRIES_AFTER_S[delivery.attempt - 1]
            again = replace(delivery, attempt=delivery.attempt + 1, is_lost=False)
            self._push(after(now, wait_s), again)
