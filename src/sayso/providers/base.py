"""What a provider is: one protocol, and the values that cross it.

    Provider            submit, fetch_many, find, cancel, save_output
    CallsBack           what one that sends signed callbacks knows besides
    TellsTrouble        what one says when it is refused, or gets no answers
    ProviderTraits      what the reconciler has to know about one
    Prediction          one attempt as the provider sees it, in our words
    Failure             why a prediction failed, and what follows from that
    Attempt             one try of a generation, written down before the call
    LipSyncInputs       what is to be animated, and with what

A provider's own words, JSON and exceptions stop in its module. Its calls raise `ProviderRejected`
(it will never take this), `ProviderUnavailable` (nothing was created, later perhaps) or
`ProviderTimedOut` (nobody knows); `save_output` raises `OutputLost` as well.
Nothing here knows generations, credits or the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from sayso.catalogue.catalogue import Model, OptionValue
from sayso.clock import Instant
from sayso.errors import Notice
from sayso.ids import ArtifactId, GenerationId, Nonce, ProviderId


class PredictionStatus(StrEnum):
    """How far a prediction is. `UNKNOWN` is a word that we do not know: wait, and alarm."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the provider has finished with it."""
        return self in _FINAL


_FINAL: Final = frozenset(
    {PredictionStatus.SUCCEEDED, PredictionStatus.FAILED, PredictionStatus.CANCELED}
)


class FailureKind(StrEnum):
    """What follows from a failure."""

    PERMANENT = "permanent"
    """The inputs cannot be used; the same again would fail again."""
    TRANSIENT = "transient"
    """Bad luck: a new attempt may succeed."""
    PROVIDER = "provider"
    """The provider's or our own fault; nothing that a customer can change."""
    TIMEOUT = "timeout"
    """The provider gave up because of time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a prediction failed.

    `text` is a sentence for customers, without the provider's billing or host names; `raw` is the
    provider's own text, for operators.
    """

    kind: FailureKind
    code: str
    text: str
    raw: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One attempt as its provider sees it.

    `output` says, in words that only the provider reads, where the video lies; a success may be
    without. `percent` is measured by the provider, of the rendering alone, None where it measures
    nothing. `cost_micros` is what it charges us, None where nobody knows (yet).
    `notices` are for the customer.
    """

    provider_id: ProviderId
    status: PredictionStatus
    output: str | None = None
    failure: Failure | None = None
    percent: int | None = None
    stage: str | None = None
    logs: str | None = None
    cost_micros: int | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a generation; the nonce is its own and stands in links that only it sees."""

    generation_id: GenerationId
    number: int
    nonce: Nonce
    model: Model
    deadline_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInput:
    """A stored file that goes into a prediction."""

    id: ArtifactId
    key: str
    content_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LipSyncInputs:
    """What is to be animated and with what; `prompt` and `options` have passed the catalogue."""

    portrait: StoredInput
    speech: StoredInput
    speech_s: float
    prompt: str | None = None
    options: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTraits:
    """What the reconciler has to know about a provider.

    `label` is its name in sentences. `reads_per_call` is how many predictions one call of
    `fetch_many` covers at the provider. `calls_per_s` is its rate limit, None for none. `look_s` is
    the shortest time between two looks where it differs from the operator's. `ask_s` is for one
    that tells of changes by callbacks: its last word serves looks, and where a prediction ought to
    be done it is asked that often; None asks each time. `queues` says that the deadline counts from
    the start of the work. `is_ours` asks for the strict probe.
    """

    name: str
    label: str
    submit_is_idempotent: bool = False
    reads_per_call: int = 1
    calls_per_s: float | None = None
    look_s: float | None = None
    ask_s: float | None = None
    queues: bool = False
    is_ours: bool = False


class Provider(Protocol):
    """Who makes predictions. Every call is bounded in time by the provider's own client."""

    @property
    def traits(self) -> ProviderTraits:
        """What it is like; never changes."""
        ...

    async def submit(self, attempt: Attempt, inputs: LipSyncInputs) -> Prediction:
        """Create a prediction for the attempt; where `submit_is_idempotent`, one per nonce.

        Raises `ProviderRejected`, `ProviderUnavailable`, `ProviderTimedOut`.
        """
        ...

    async def fetch_many(self, ids: Sequence[ProviderId]) -> Mapping[ProviderId, Prediction]:
        """Look at predictions; one that it does not know is missing from the answer.

        Raises `ProviderUnavailable`, `ProviderTimedOut`.
        """
        ...

    async def find(self, nonce: Nonce, *, since: Instant) -> Prediction | None:
        """Search what was created since then for the attempt with this nonce.

        None is not seen, which proves nothing by itself: lists lag behind. A search that could not
        look at everything raises `ProviderUnavailable`; an answer counts as the whole of it. Raises
        `ProviderUnavailable`, `ProviderTimedOut`.
        """
        ...

    async def cancel(self, provider_id: ProviderId) -> None:
        """Ask for the end of a prediction; of one that has ended, or is unknown, it is a no-op.

        It may succeed all the same: look at it afterwards. Raises `ProviderUnavailable`,
        `ProviderTimedOut`.
        """
        ...

    async def save_output(self, provider_id: ProviderId, output: str, target: Path) -> None:
        """Write the video that `Prediction.output` names to `target`.

        Raises `OutputLost`, `ProviderUnavailable`, `ProviderTimedOut`.
        """
        ...


@runtime_checkable
class CallsBack(Protocol):
    """A provider that tells us of changes by callbacks, signed as webhooks are.

    They come to `/callbacks/{traits.name}/{nonce}`; whoever verifies them keeps the secrets.
    """

    async def callback_secrets(self) -> Sequence[str]:
        """Ask the provider for the secrets with which it signs now, as `whsec_...`.

        Raises `ProviderUnavailable`, `ProviderTimedOut`.
        """
        ...

    def prediction_of(self, body: bytes) -> ProviderId | None:
        """Return which prediction the body of a verified callback is about; None if none."""
        ...


@runtime_checkable
class TellsTrouble(Protocol):
    """A provider that knows when something keeps it from working."""

    @property
    def trouble(self) -> str | None:
        """What keeps it from working just now, for the operator; None for nothing."""
        ...
