"""`POST /callbacks/{provider}/{nonce}`: what a provider tells us of a prediction.

    CallbackDoor    verify, take, and nothing else: no provider is asked and no generation moves
    router          its address; the body is raw bytes, bounded by the edge

A callback is a reason to look, not the truth: it is verified before it is read, names a prediction
for an attempt that has none, and makes its generation due. Who may come in says the signature (the
Standard Webhooks scheme), so this door is open on the public host; a nonce that nobody has is told
only to whoever signs.

The provider's secrets are fetched beside the requests: when the door opens, and again when a
signature does not fit, at most once a minute. Until they are known the answer is 503; the provider
delivers again, and polling finishes whatever it does not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from fastapi import APIRouter, Request, Response

from sayso.clock import SECOND, Clock
from sayso.errors import NoSuchGeneration, ProviderError, ProviderUnavailable, SignatureRefused
from sayso.generations.evidence import Callback, Taken
from sayso.generations.service import Generations
from sayso.ids import LENGTH, Nonce
from sayso.providers.base import CallsBack
from sayso.webhooks.signing import Delivery, verify

log = structlog.get_logger()

_NONCE: Final = re.compile(rf"[0-9a-z]{{{LENGTH}}}")
_ASK_AGAIN_S: Final = 60.0
_ASK_AGAIN_AFTER_ERROR_S: Final = 5.0
_ASK_S: Final = 30.0


class CallbackDoor:
    """See the module's docstring. `callers` are the providers that call back, by name."""

    def __init__(
        self, generations: Generations, *, callers: Mapping[str, CallsBack], clock: Clock
    ) -> None:
        self._generations = generations
        self._clock = clock
        self._callers = callers
        self._secrets = {name: _Secrets(name, caller, clock) for name, caller in callers.items()}

    def open(self) -> None:
        """Ask for the secrets, beside whatever else is done."""
        for secrets in self._secrets.values():
            secrets.ask_soon()

    async def close(self) -> None:
        """Ask no longer."""
        for secrets in self._secrets.values():
            await secrets.close()

    async def take(
        self, provider: str, nonce: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Take a callback; the same one again is no error.

        `headers` knows its names in lower case. Raises `SignatureRefused`, `ProviderUnavailable`
        while the secrets are not known, `NoSuchGeneration` for a nonce or a provider that is none
        of ours.
        """
        secrets = self._secrets.get(provider)
        if secrets is None:
            raise NoSuchGeneration("No provider here calls back at this address.")
        now_s = self._clock.now() / SECOND
        delivery = secrets.verify(headers, body, now_s=now_s)
        taken = Taken.UNKNOWN
        if _NONCE.fullmatch(nonce):
            callback = Callback(
                provider=provider,
                nonce=Nonce(nonce),
                provider_id=self._callers[provider].prediction_of(body),
                delivery_id=delivery.delivery_id,
            )
            taken = await self._generations.take_callback(callback)
        if taken is Taken.UNKNOWN:
            raise NoSuchGeneration("No attempt has this nonce.")


class _Secrets:
    """The secrets of one provider's callbacks, fetched beside the requests."""

    def __init__(self, name: str, caller: CallsBack, clock: Clock) -> None:
        self._name = name
        self._caller = caller
        self._clock = clock
        self._known: Sequence[str] = ()
        self._asking: asyncio.Task[None] | None = None
        self._ask_from_s = 0.0

    def verify(self, headers: Mapping[str, str], body: bytes, *, now_s: float) -> Delivery:
        """Return the delivery; raise `SignatureRefused`; `ProviderUnavailable` without secrets."""
        if not self._known:
            self.ask_soon()
            raise ProviderUnavailable(
                "The secret of these callbacks is not known yet.",
                retry_after_s=_ASK_AGAIN_AFTER_ERROR_S,
            )
        try:
            return verify(self._known, headers, body, now_s=now_s)
        except SignatureRefused:
            # It may have been replaced; whoever made the signature up gains one call a minute.
            self.ask_soon()
            raise

    def ask_soon(self) -> None:
        """Ask the provider, unless that is under way or was done a moment ago."""
        is_under_way = self._asking is not None and not self._asking.done()
        if not is_under_way and self._clock.monotonic_s() >= self._ask_from_s:
            self._asking = asyncio.create_task(self._ask())

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        wait_s = _ASK_AGAIN_AFTER_ERROR_S
        try:
            async with asyncio.timeout(_ASK_S):
                self._known = tuple(await self._caller.callback_secrets())
            wait_s = _ASK_AGAIN_S
        except (ProviderError, TimeoutError) as error:
            raw = error.raw if isinstance(error, ProviderError) else "no answer"
            log.warning("the secret of callbacks is not known", provider=self._name, raw=raw)
        finally:
            self._ask_from_s = self._clock.monotonic_s() + wait_s


router: Final = APIRouter(include_in_schema=False)


@router.post("/callbacks/{provider}/{nonce}", status_code=204)
async def take_callback(provider: str, nonce: str, request: Request) -> Response:
    """Take what a provider says of a prediction."""
    door: CallbackDoor = request.app.state.doors.callbacks
    await door.take(provider, nonce, request.headers, await request.body())
    return Response(status_code=204)
