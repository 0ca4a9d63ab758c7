"""Replicate as a provider: predictions of models that others host, over its HTTP API.

    ReplicateProvider     the five calls of `Provider`, what `CallsBack` and `TellsTrouble` ask

    replicate_client.py   one HTTP call, and what its answer means      replicate_limits.py
    replicate_inputs.py   how the files of an attempt get there
    replicate_list.py     one list call for many looks and searches
    replicate_reading.py  its JSON in our words          replicate_errors.py  replicate_progress.py
    replicate_output.py   fetching the video

Replicate has no idempotency key: a create whose answer is lost may run, and is paid. So every
attempt is marked by its nonce, in the address of at least one of its inputs (or in the name of a
file handed in for it) and, with a public address, in that of its callback; `find` looks for it
there. `Cancel-After` bounds what a lost one can cost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import structlog

from sayso.artifacts.links import FileLinks
from sayso.artifacts.store import ArtifactStore
from sayso.catalogue.catalogue import Catalogue, Model
from sayso.clock import SECOND, Clock, Instant
from sayso.errors import ProviderRejected, ProviderTimedOut, ProviderUnavailable
from sayso.ids import Nonce, ProviderId
from sayso.providers.base import (
    Attempt,
    LipSyncInputs,
    Prediction,
    PredictionStatus,
    ProviderTraits,
)
from sayso.providers.replicate_client import Answer, ReplicateClient, ReplicateSettings
from sayso.providers.replicate_errors import INVALID_VERSION, rejection_of
from sayso.providers.replicate_inputs import InputPlaces
from sayso.providers.replicate_list import FEW, PredictionList
from sayso.providers.replicate_output import OutputPlaces
from sayso.providers.replicate_reading import is_id

log = structlog.get_logger()

TRAITS: Final = ProviderTraits(
    name="replicate", label="Replicate", reads_per_call=100, calls_per_s=50
)
CALLBACKS_PATH: Final = "/callbacks/replicate/"
# `start` binds an attempt whose answer was lost within seconds; `completed` ends the wait.
CALLBACK_EVENTS: Final = ("start", "completed")

# With callbacks asking is the net below them, for predictions that take too long.
_ASK_WITH_CALLBACKS_S: Final = 60.0
# Replicate cancels after our own deadline has, and only what we have lost sight of.
_CANCEL_MARGIN_S: Final = 60
_CANCEL_AFTER_S: Final = (5, 86_400)
# A create call as a whole is given up after a minute: this much of it is for what comes before.
_HANDOVER_S: Final = 25.0
_RETRY_S: Final = 5.0
_READS_AT_ONCE: Final = 8
_VERSION_LIFE_S: Final = 3_600.0
_NO_ANSWER: Final = "Replicate did not answer."
_NOT_FOUND: Final = 404
_INVALID: Final = 422


class ReplicateProvider:
    """See the module's docstring. Close it when the service stops.

    `transport` takes the place of the network, for the API and for the videos alike.
    """

    def __init__(
        self,
        settings: ReplicateSettings,
        *,
        clock: Clock,
        artifacts: ArtifactStore,
        links: FileLinks,
        catalogue: Catalogue,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        has_callbacks = settings.public_url is not None
        self.traits = replace(
            TRAITS,
            calls_per_s=settings.calls_per_s,
            ask_s=_ASK_WITH_CALLBACKS_S if has_callbacks else None,
        )
        self._settings = settings
        self._clock = clock
        models = tuple(model for model in catalogue.models if model.provider == TRAITS.name)
        self.client = ReplicateClient(settings, clock=clock, transport=transport)
        self._list = PredictionList(self.client, clock=clock, models=models)
        self._inputs = InputPlaces(
            self.client,
            clock=clock,
            artifacts=artifacts,
            links=links,
            public_url=settings.public_url,
        )
        self._outputs = OutputPlaces(settings, transport=transport)
        self._versions: dict[str, tuple[str, float]] = {}
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inputs.aclose()
        await self._outputs.aclose()
        await self.client.aclose()

    async def submit(self, attempt: Attempt, inputs: LipSyncInputs) -> Prediction:
        """Create a prediction, its inputs handed over first."""
        try:
            async with asyncio.timeout(_HANDOVER_S):
                await self.client.ready_to_create()
                portrait_url, speech_url = await self._inputs.urls(attempt, inputs)
        except TimeoutError as error:
            raise ProviderUnavailable(_NO_ANSWER, retry_after_s=_RETRY_S) from error
        body = self._body(attempt, inputs, portrait_url, speech_url)
        answer = await self._create(attempt, body)
        if not answer.is_success:
            raise rejection_of(answer.status, answer.body, attempt.model, raw=answer.text)
        self._list.forget()
        return self._read(answer)

    async def fetch_many(self, ids: Sequence[ProviderId]) -> Mapping[ProviderId, Prediction]:
        """Look at predictions: a few one by one, many by the list."""
        wanted = [identifier for identifier in dict.fromkeys(ids) if is_id(identifier)]
        seen: dict[ProviderId, Prediction] = {}
        if len(wanted) > FEW:
            listed = await self._list.look(wanted)
            seen = {key: one for key, one in listed.items() if not _lacks_an_end(one)}
        return seen | await self._one_by_one(key for key in wanted if key not in seen)

    async def find(self, nonce: Nonce, *, since: Instant) -> Prediction | None:
        """Search for an attempt by the addresses of its inputs, its callback and its files."""
        found = await self._list.find([nonce, *self._inputs.remembered(nonce)], since=since)
        if not found:
            files = await self._list.files(nonce, since=since)
            found = await self._list.find(files, since=since) if files else []
        if len(found) > 1:
            log.error("an attempt runs more than once", ids=[one.provider_id for one in found])
        return min(found, key=lambda one: _PREFERENCE[one.status], default=None)

    async def cancel(self, provider_id: ProviderId) -> None:
        """Ask for the end of a prediction."""
        self._list.forget()
        if is_id(provider_id):
            # Whatever it answers, the next look tells what became of it.
            await self.client.post(f"/predictions/{provider_id}/cancel")

    async def save_output(self, provider_id: ProviderId, output: str, target: Path) -> None:  # noqa: ARG002 (the output says it all)
        """Fetch the video; `DownloadTooLarge` for one that is larger than the limit."""
        await self._outputs.save(output, target)

    @property
    def trouble(self) -> str | None:
        """What keeps it from working, for the operator."""
        return self.client.trouble

    async def callback_secrets(self) -> Sequence[str]:
        """Return the secrets that Replicate signs callbacks with; it has one for each account."""
        answer = await self.client.get("/webhooks/default/secret")
        key = (answer.body or {}).get("key")
        if not answer.is_success or not isinstance(key, str):
            raise ProviderTimedOut(_NO_ANSWER, raw=f"{answer.status}: no secret of callbacks")
        return [key]

    def prediction_of(self, body: bytes) -> ProviderId | None:
        """Return which prediction a callback is about: its body is the prediction."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            return None
        identifier = told.get("id") if isinstance(told, dict) else None
        return ProviderId(identifier) if is_id(identifier) else None

    # creating

    def _body(
        self, attempt: Attempt, inputs: LipSyncInputs, portrait_url: str, speech_url: str
    ) -> dict[str, Any]:
        model = attempt.model
        given: dict[str, Any] = {**inputs.options, **model.fixed}
        if model.inputs.prompt is not None and inputs.prompt is not None:
            given[model.inputs.prompt] = inputs.prompt
        given[model.inputs.portrait] = portrait_url
        given[model.inputs.speech] = speech_url
        body: dict[str, Any] = {"input": given}
        if self._settings.public_url is not None:
            body["webhook"] = f"{self._settings.public_url}{CALLBACKS_PATH}{attempt.nonce}"
            body["webhook_events_filter"] = list(CALLBACK_EVENTS)
        return body

    async def _create(self, attempt: Attempt, body: Mapping[str, Any]) -> Answer:
        """Create by model; where Replicate does not know it as an official one, by version."""
        name = attempt.model.upstream_name
        headers = {"cancel-after": f"{self._cancel_after_s(attempt)}s"}
        version = self._known_version(name)
        if version is None and not attempt.model.is_official:
            version = await self._latest_version(attempt.model)
        if version is None:
            answer = await self.client.create(f"/models/{name}/predictions", body, headers=headers)
            if answer.status != _NOT_FOUND:
                return answer
            version = await self._latest_version(attempt.model)
        answer = await self._create_version(version, body, headers)
        if _is_invalid_version(answer):
            self._versions.pop(name, None)
            version = await self._latest_version(attempt.model)
            answer = await self._create_version(version, body, headers)
        return answer

    async def _create_version(
        self, version: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Answer:
        with_version = {"version": version, **body}
        return await self.client.create("/predictions", with_version, headers=headers)

    def _cancel_after_s(self, attempt: Attempt) -> int:
        shortest_s, longest_s = _CANCEL_AFTER_S
        if attempt.deadline_at is None:
            return longest_s
        left_s = (attempt.deadline_at - self._clock.now()) // SECOND
        return min(max(left_s + _CANCEL_MARGIN_S, shortest_s), longest_s)

    def _known_version(self, name: str) -> str | None:
        version, until_s = self._versions.get(name, ("", 0.0))
        return version if self._clock.monotonic_s() < until_s else None

    async def _latest_version(self, model: Model) -> str:
        """Return the version that a model has now. Nothing was created when this raises."""
        name = model.upstream_name
        try:
            answer = await self.client.get(f"/models/{name}")
        except ProviderTimedOut as error:
            raise ProviderUnavailable(str(error), retry_after_s=_RETRY_S, raw=error.raw) from error
        latest = (answer.body or {}).get("latest_version")
        version = latest.get("id") if isinstance(latest, Mapping) else None
        if not answer.is_success or not isinstance(version, str):
            raise ProviderRejected(f"Replicate no longer offers {model.name}.", raw=answer.text)
        self._versions[name] = (version, self._clock.monotonic_s() + _VERSION_LIFE_S)
        return version

    # looking

    async def _one_by_one(self, ids: Iterable[ProviderId]) -> dict[ProviderId, Prediction]:
        """Ask for each; what does not answer is left out, unless nothing does."""
        asked = list(ids)
        results = await asyncio.gather(*map(self._get, asked), return_exceptions=True)
        errors = [one for one in results if isinstance(one, BaseException)]
        if errors and len(errors) == len(asked):
            raise errors[0]
        return {one.provider_id: one for one in results if isinstance(one, Prediction)}

    async def _get(self, provider_id: ProviderId) -> Prediction | None:
        async with self._reads:
            answer = await self.client.get(f"/predictions/{provider_id}")
        if answer.status == _NOT_FOUND:
            return None
        if not answer.is_success:
            raise ProviderTimedOut(_NO_ANSWER, raw=f"{answer.status}: {answer.text}")
        return self._read(answer)

    def _read(self, answer: Answer) -> Prediction:
        if answer.body is None or not is_id(answer.body.get("id")):
            raise ProviderTimedOut(_NO_ANSWER, raw=f"{answer.status}: {answer.text}")
        return self._list.read(answer.body)


def _lacks_an_end(seen: Prediction) -> bool:
    """Whether the list may have left out what a look at the prediction itself tells."""
    succeeded = seen.status is PredictionStatus.SUCCEEDED
    return succeeded and seen.output is None


def _is_invalid_version(answer: Answer) -> bool:
    title = (answer.body or {}).get("title")
    return answer.status == _INVALID and title == INVALID_VERSION


# Of twins the one that is worth most comes first.
_PREFERENCE: Final[Mapping[PredictionStatus, int]] = {
    PredictionStatus.SUCCEEDED: 0,
    PredictionStatus.PROCESSING: 1,
    PredictionStatus.STARTING: 2,
    PredictionStatus.UNKNOWN: 3,
    PredictionStatus.FAILED: 4,
    PredictionStatus.CANCELED: 5,
}
