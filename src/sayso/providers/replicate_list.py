"""The list of predictions, walked once for everybody who needs it at the same time.

    PredictionList.look()     ids -> predictions, as long as a page is worth its call
    PredictionList.find()     the predictions created since a time that name an attempt
    PredictionList.files()    the ids of files whose names begin with a nonce

A page has a hundred predictions, newest first, and so serves a hundred looks. Looks that come
together share one walk, which ends when a page no longer saves calls. Searches share a walk that
begins after they asked: what they do not find was not listed then. All walks are bounded, and a
search that meets its bound has proven nothing: it raises.

Only the query of `next` is used, on our own address: whatever host it names, no token goes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

from sayso.catalogue.catalogue import Model
from sayso.clock import Clock, Instant, iso
from sayso.errors import ProviderError, ProviderTimedOut
from sayso.ids import Nonce, ProviderId
from sayso.providers.base import Prediction
from sayso.providers.replicate_client import ReplicateClient
from sayso.providers.replicate_inputs import nonce_of_name
from sayso.providers.replicate_reading import (
    instant_of,
    is_id,
    model_of,
    to_prediction,
    words_of,
)

A = TypeVar("A")
T = TypeVar("T")

# Stands for the time of a file that does not say when it was made.
_FAR: Final = Instant(1 << 62)

# Below this many, asking for each costs no more.
FEW: Final = 2

_PREDICTIONS: Final = "/predictions"
_FILES: Final = "/files"
_MOST_PAGES: Final = 110
# A walk answers the looks that come this long after it began.
_FRESH_S: Final = 0.5

_NO_ANSWER: Final = "Replicate did not answer."

Body = Mapping[str, Any]


@dataclass(slots=True)
class _Looking:
    """A walk for looks: what it has seen, what it is to find, and where it goes on."""

    began_s: float
    query: Mapping[str, str] | None = field(default_factory=dict)
    is_dry: bool = False
    """Whether the latest page saved no calls."""
    seen: dict[ProviderId, Prediction] = field(default_factory=dict)
    wanted: set[ProviderId] = field(default_factory=set)
    pages: int = 0
    error: ProviderError | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def goes_on(self) -> bool:
        """Whether there is another page, and it is worth its call."""
        return self.query is not None and not self.is_dry and self.pages < _MOST_PAGES


@dataclass(frozen=True, slots=True)
class Listed:
    """A prediction of the list, and the words by which it is recognised."""

    prediction: Prediction
    words: frozenset[str]


class PredictionList:
    """See the module's docstring."""

    def __init__(self, client: ReplicateClient, *, clock: Clock, models: tuple[Model, ...]) -> None:
        self._client = client
        self._clock = clock
        self._models = models
        self._looking: _Looking | None = None
        self._finding = _Shared[Instant, list[Listed]](self._walk_since, merge=min)
        self._filing = _Shared[Instant, dict[str, list[str]]](self._walk_files, merge=min)

    def forget(self) -> None:
        """Let the next look begin a walk of its own: something was changed by us."""
        self._looking = None

    async def look(self, ids: Iterable[ProviderId]) -> dict[ProviderId, Prediction]:
        """Return those of these predictions that the list shows before it stops being worth it.

        Raises `ProviderUnavailable`, `ProviderTimedOut`.
        """
        walk = self._looking
        now_s = self._clock.monotonic_s()
        if walk is None or now_s - walk.began_s >= _FRESH_S:
            walk = self._looking = _Looking(began_s=now_s)
        wanted = set(ids)
        walk.wanted |= wanted - walk.seen.keys()
        # Whoever looks in the same moment says first what is wanted.
        await asyncio.sleep(0)
        while walk.goes_on and len(wanted - walk.seen.keys()) > FEW:
            pages = walk.pages
            async with walk.lock:
                if walk.error is not None:
                    raise walk.error
                if walk.pages == pages and walk.query is not None:
                    await self._next_page(walk, walk.query)
        return {identifier: walk.seen[identifier] for identifier in wanted & walk.seen.keys()}

    async def find(self, words: Collection[str], *, since: Instant) -> list[Prediction]:
        """Return the predictions created since then with one of these words in an address.

        Raises `ProviderUnavailable`, `ProviderTimedOut`.
        """
        listed = await self._finding.ask(since)
        return [one.prediction for one in listed if not one.words.isdisjoint(words)]

    async def files(self, nonce: Nonce, *, since: Instant) -> Sequence[str]:
        """Return the ids of the files that were handed in for an attempt since then.

        Raises `ProviderUnavailable`, `ProviderTimedOut`.
        """
        return (await self._filing.ask(since)).get(nonce, [])

    def read(self, body: Body) -> Prediction:
        """Return the prediction of a body that has an id."""
        return to_prediction(body, model_of(body, self._models))

    async def _next_page(self, walk: _Looking, query: Mapping[str, str]) -> None:
        try:
            results, walk.query = await self._page(_PREDICTIONS, query)
        except ProviderError as error:
            # One failed page is the answer for all who wait for it.
            walk.error = error
            self.forget()
            raise
        walk.pages += 1
        n_wanted = len(walk.wanted)
        for body in results:
            if is_id(body.get("id")):
                identifier = ProviderId(body["id"])
                walk.seen[identifier] = self.read(body)
                walk.wanted.discard(identifier)
        walk.is_dry = n_wanted - len(walk.wanted) <= FEW

    async def _walk_since(self, since: Instant) -> list[Listed]:
        found: list[Listed] = []
        query: Mapping[str, str] = {"created_after": iso(since)}
        for _ in range(_MOST_PAGES):
            results, following = await self._page(_PREDICTIONS, query)
            found += [
                Listed(self.read(body), words_of(body)) for body in results if is_id(body.get("id"))
            ]
            if following is None:
                return found
            query = following
        raise ProviderTimedOut(_NO_ANSWER, raw="more predictions than a search walks through")

    async def _walk_files(self, since: Instant) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        query: Mapping[str, str] = {}
        for _ in range(_MOST_PAGES):
            results, following = await self._page(_FILES, query)
            for body in results:
                nonce, identifier = nonce_of_name(body.get("name")), body.get("id")
                if nonce is not None and isinstance(identifier, str):
                    found.setdefault(nonce, []).append(identifier)
            oldest = min((_made_at(body) for body in results), default=since)
            if following is None or oldest < since:
                return found
            query = following
        raise ProviderTimedOut(_NO_ANSWER, raw="more files than a search walks through")

    async def _page(
        self, path: str, query: Mapping[str, str]
    ) -> tuple[Sequence[Body], Mapping[str, str] | None]:
        """Return the entries of a page, and the query of the next one."""
        answer = await self._client.get(path, query)
        body = answer.body or {}
        results = body.get("results")
        if not answer.is_success or not isinstance(results, list):
            raise ProviderTimedOut(_NO_ANSWER, raw=f"{answer.status}: {answer.text}")
        entries = [entry for entry in results if isinstance(entry, Mapping)]
        following = body.get("next")
        if not isinstance(following, str) or not following:
            return entries, None
        # Only the cursor is believed: the address stays ours.
        return entries, {**query, **dict(parse_qsl(urlsplit(following).query))}


@dataclass(slots=True)
class _Round(Generic[A, T]):
    argument: A
    task: asyncio.Task[T] | None = None


class _Shared(Generic[A, T]):
    """A walk for everybody who asks before it begins; one follows the other."""

    def __init__(self, walk: Callable[[A], Awaitable[T]], *, merge: Callable[[A, A], A]) -> None:
        self._walk = walk
        self._merge = merge
        self._next: _Round[A, T] | None = None
        self._lock = asyncio.Lock()

    async def ask(self, argument: A) -> T:
        """Return what a walk finds that begins after this call."""
        turn = self._next
        if turn is None or turn.task is None:
            turn = self._next = _Round(argument)
            turn.task = asyncio.create_task(self._run(turn))
            turn.task.add_done_callback(_hear)
        else:
            turn.argument = self._merge(turn.argument, argument)
        # One who gives up does not end it for the others.
        return await asyncio.shield(turn.task)

    async def _run(self, turn: _Round[A, T]) -> T:
        async with self._lock:
            self._next = None
            return await self._walk(turn.argument)


def _hear(task: asyncio.Task[Any]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def _made_at(body: Body) -> Instant:
    return instant_of(body.get("created_at")) or _FAR
