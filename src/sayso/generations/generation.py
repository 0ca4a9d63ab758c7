"""What the doors hand in and get back.

Order              what a customer asks for, inputs stored and checked
Key                an `Idempotency-Key` and what it stands for
Generation         a row as the doors show it; `credits` and `progress` come from it
Cost, Receipt      what it would cost; what it did cost
Page               a piece of a list and where the next one starts
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from sayso.catalogue.catalogue import Model, OptionValue
from sayso.clock import Instant
from sayso.errors import Notice
from sayso.generations.pace import Basis
from sayso.generations.rules import PublicStatus, State
from sayso.ids import AccountId, ArtifactId, GenerationId

Door = Literal["api", "v1", "page", "cli"]
Event = Literal["start", "output", "logs", "completed"]
CreditState = Literal["held", "captured", "released"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a customer asks for; the inputs are stored, prompt and options checked.

    `input_echo` is `input` as the client sent it, for a door that repeats it; `base_url` is how the
    client addressed us, for the links in its webhooks.
    """

    account_id: AccountId
    door: Door
    model: Model
    portrait_id: ArtifactId
    speech_id: ArtifactId
    speech_s: float
    prompt: str | None = None
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    input_echo: Mapping[str, Any] | None = None
    cancel_after_s: int | None = None
    webhook_url: str | None = None
    webhook_events: tuple[Event, ...] | None = None
    base_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Key:
    """An `Idempotency-Key`: the same key with the same fingerprint is the same generation.

    `is_fresh` makes it stand for a new generation whatever it stood for. `wait_s` is how long to
    wait for a first request with this key that is still being answered.
    """

    account_id: AccountId
    key: str
    fingerprint: str
    is_fresh: bool = False
    wait_s: float = 0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A price: whole seconds of speech times the model's rate."""

    price_micros: int
    rate_micros: int
    seconds: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a generation is; an estimate says so."""

    percent: int
    basis: Basis
    stage: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A generation as the doors show it.

    `video_id` and `video_key`, the stored file's name, are set when it succeeded.
    `version` grows with every change worth telling: the ETag, and the event's id.
    """

    id: GenerationId
    account_id: AccountId
    door: Door
    model: str
    provider: str
    state: State
    status: PublicStatus
    version: int
    portrait_id: ArtifactId | None
    speech_id: ArtifactId | None
    prompt: str | None
    options: Mapping[str, OptionValue]
    input_echo: Mapping[str, Any] | None
    cost: Cost
    progress: Progress
    logs: str | None
    video_id: ArtifactId | None
    video_key: str | None
    error_code: str | None
    error: str | None
    quality: Mapping[str, Any] | None
    notices: tuple[Notice, ...]
    cancel_requested_at: Instant | None
    deadline_at: Instant | None
    cancel_after_s: int | None
    webhook_url: str | None
    webhook_events: tuple[Event, ...] | None
    base_url: str | None
    created_at: Instant
    started_at: Instant | None
    completed_at: Instant | None
    changed_at: Instant

    @property
    def is_final(self) -> bool:
        """Whether nothing about it changes any more."""
        return self.state.is_final

    @property
    def failed_at(self) -> Instant | None:
        """When it failed; None for every other end."""
        return self.completed_at if self.state is State.FAILED else None

    @property
    def credit_state(self) -> CreditState | None:
        """What became of its price; None for a model that costs nothing."""
        if self.cost.price_micros == 0:
            return None
        if self.state is State.SUCCEEDED:
            return "captured"
        return "released" if self.state.is_final else "held"


@dataclass(frozen=True, kw_only=True)
class Started:
    """The answer to an order; `is_new` is False when its key had been used for the same before."""

    generation: Generation
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class AttemptLine:
    """One attempt on a receipt."""

    number: int
    state: str
    started_at: Instant | None
    finished_at: Instant | None


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a generation did cost and why: its price, the hold's way, the attempts, the notices."""

    generation: Generation
    captured_micros: int
    release_reason: str | None
    held_at: Instant | None
    settled_at: Instant | None
    attempts: tuple[AttemptLine, ...]


@dataclass(frozen=True)
class Page(Generic[T]):
    """A piece of a list, newest first, and its neighbours' cursors: `next` is the older one."""

    items: tuple[T, ...]
    next: str | None
    previous: str | None = None
