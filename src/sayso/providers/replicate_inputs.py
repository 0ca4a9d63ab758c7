"""How the portrait and the recording of an attempt reach Replicate.

    InputPlaces.urls()        the addresses of both, at least one of them unique to the attempt
    InputPlaces.files_of()    the files that were handed in for an attempt, by its nonce

With a public address both are signed links to our own store that carry the attempt's nonce, and
live as long as the attempt may wait. Without one they are handed in through Replicate's Files API:
the smaller of the two for each attempt anew, under a name that begins with the nonce; the larger
once, and again when its day is over. Handing in comes before the create call, so an attempt of
which no file is there was never sent. A `data:` URL is never used: every page of the list of
predictions would repeat it.

Handing in outlives the call that asked for it: a large file over a slow line is refused for now,
and is there when the same attempt comes again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.links import FileLinks
from sayso.artifacts.store import ArtifactStore
from sayso.clock import SECOND, Clock, Instant, after
from sayso.errors import (
    ArtifactMissing,
    ProviderError,
    ProviderRejected,
    ProviderTimedOut,
    ProviderUnavailable,
    StoreUnavailable,
)
from sayso.ids import Nonce
from sayso.providers.base import Attempt, LipSyncInputs, StoredInput
from sayso.providers.replicate_client import ReplicateClient
from sayso.providers.replicate_reading import instant_of

log = structlog.get_logger()

FILE_MAX_BYTES: Final = 100_000_000

# A link works this long after the attempt's deadline; one without deadline has a day.
_MARGIN_S: Final = 900
_LONGEST_S: Final = 86_400
# A file is used again only if it outlives the attempt by this.
_SPARE_S: Final = 3_600
_FILE_LIFE_S: Final = 86_400
# How long a create call waits for its files; the call itself has its time after that.
_WAIT_S: Final = 20.0
_RETRY_S: Final = 2.0
_AT_ONCE: Final = 4
_REMEMBERED: Final = 10_000

_NOT_NOW: Final = "The files could not be handed to Replicate just now."


@dataclass(frozen=True, slots=True)
class HandedIn:
    """A file at Replicate: its id, the address to give to a model, and its end."""

    id: str
    url: str
    expires_at: Instant


class InputPlaces:
    """See the module's docstring. Close it when the service stops."""

    def __init__(
        self,
        client: ReplicateClient,
        *,
        clock: Clock,
        artifacts: ArtifactStore,
        links: FileLinks,
        public_url: str | None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._artifacts = artifacts
        self._links = links
        self._public_url = public_url
        self._files: OrderedDict[str, asyncio.Task[HandedIn]] = OrderedDict()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def aclose(self) -> None:
        """Give up what is still being handed in."""
        under_way = [task for task in self._files.values() if not task.done()]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def urls(self, attempt: Attempt, inputs: LipSyncInputs) -> tuple[str, str]:
        """Return the addresses of the portrait and of the recording for this attempt.

        Raises `ProviderRejected` for a file that Replicate never takes, `ProviderUnavailable`.
        """
        if self._public_url is not None:
            return self._link(attempt, inputs.portrait), self._link(attempt, inputs.speech)
        for stored in (inputs.portrait, inputs.speech):
            if stored.size_bytes > FILE_MAX_BYTES:
                raise ProviderRejected("The files are larger than Replicate takes (100 MB).")
        portrait = self._handing_in(attempt, inputs.portrait, "portrait", inputs)
        speech = self._handing_in(attempt, inputs.speech, "speech", inputs)
        done, waiting = await asyncio.wait({portrait, speech}, timeout=_WAIT_S)
        for task in done:
            task.result()
        if waiting:
            raise ProviderUnavailable(
                _NOT_NOW, retry_after_s=_RETRY_S, raw="the files are still being handed in"
            )
        return portrait.result().url, speech.result().url

    def remembered(self, nonce: Nonce) -> tuple[str, ...]:
        """Return the ids of the files of an attempt that this process handed in."""
        names = (_name(nonce, role) for role in ("portrait", "speech"))
        tasks = (self._files.get(name) for name in names)
        return tuple(task.result().id for task in tasks if task is not None and _has_worked(task))

    def _link(self, attempt: Attempt, stored: StoredInput) -> str:
        now = self._clock.now()
        lifetime_s = float(_LONGEST_S)
        if attempt.deadline_at is not None:
            left_s = (attempt.deadline_at - now) / SECOND
            lifetime_s = min(max(left_s, 0.0) + _MARGIN_S, _LONGEST_S)
        path = self._links.sign(
            ArtifactKey(stored.key),
            now_s=now / SECOND,
            lifetime_s=int(lifetime_s),
            nonce=attempt.nonce,
        )
        return f"{self._public_url}{path}"

    def _handing_in(
        self, attempt: Attempt, stored: StoredInput, role: str, inputs: LipSyncInputs
    ) -> asyncio.Task[HandedIn]:
        """Return the task that hands a file in: under way, done before, or new."""
        smaller = min((inputs.portrait, inputs.speech), key=lambda one: one.size_bytes)
        is_own = stored is smaller
        name = _name(attempt.nonce, role) if is_own else _name(stored.sha256, role)
        task = self._files.get(name)
        if task is None or not self._is_good(task, attempt):
            task = asyncio.create_task(self._hand_in(stored, name))
            # Whoever waits for it hears of it; if nobody does any more, nobody is to be told.
            task.add_done_callback(_forget_outcome)
            self._files[name] = task
        self._files.move_to_end(name)
        while len(self._files) > _REMEMBERED:
            self._files.popitem(last=False)[1].cancel()
        return task

    def _is_good(self, task: asyncio.Task[HandedIn], attempt: Attempt) -> bool:
        """Whether a file can still be used by an attempt; one under way can."""
        if not task.done():
            return True
        if not _has_worked(task):
            return False
        until = attempt.deadline_at or after(self._clock.now(), _SPARE_S)
        return task.result().expires_at >= after(until, _SPARE_S)

    async def _hand_in(self, stored: StoredInput, name: str) -> HandedIn:
        suffix = stored.key.rpartition(".")[2]
        now = self._clock.now()
        try:
            async with self._room:
                answer = await self._client.upload(
                    self._artifacts.stream(ArtifactKey(stored.key)),
                    name=f"{name}.{suffix}",
                    content_type=stored.content_type,
                    size_bytes=stored.size_bytes,
                )
        except ProviderTimedOut as error:
            # A file that is there twice does no harm: nothing was created.
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=_RETRY_S, raw=error.raw) from error
        except ArtifactMissing as error:
            raise ProviderRejected("An input is no longer there.") from error
        except StoreUnavailable as error:
            raise ProviderUnavailable(_NOT_NOW, retry_after_s=_RETRY_S) from error
        file = None if answer.body is None else _to_file(answer.body, now)
        if answer.is_success and file is not None:
            return file
        if answer.status == 413:  # noqa: PLR2004 (HTTP's word for it)
            raise ProviderRejected("The files are larger than Replicate takes.", raw=answer.text)
        raise ProviderUnavailable(_NOT_NOW, retry_after_s=_RETRY_S, raw=answer.text)


def nonce_of_name(name: object) -> str | None:
    """Return the nonce with which the name of a file at Replicate begins, None for others'."""
    if not isinstance(name, str):
        return None
    nonce, dash, _ = name.rpartition("-")
    return nonce if dash else None


def _name(owner: str, role: str) -> str:
    return f"{owner}-{role}"


def _has_worked(task: asyncio.Task[HandedIn]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _forget_outcome(task: asyncio.Task[HandedIn]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raw = error.raw if isinstance(error, ProviderError) else repr(error)
        log.warning("a file was not handed to the provider", raw=raw)


def _to_file(body: Mapping[str, Any], now: Instant) -> HandedIn | None:
    urls = body.get("urls")
    url = urls.get("get") if isinstance(urls, Mapping) else None
    identifier = body.get("id")
    if not isinstance(url, str) or not isinstance(identifier, str):
        return None
    expires_at = instant_of(body.get("expires_at")) or after(now, _FILE_LIFE_S)
    return HandedIn(identifier, url, expires_at)
