"""What `/api` says and hears, as JSON. Field names here are a contract: clients exist.

    CheckBody       one generation, the body of check-lipsync, of events and of lists
    check_of()      the same as a dictionary, without pydantic: it is built for every poll
    encode()        a body as bytes
    ...Body         requests; they take unknown fields, so that a newer client is understood
    ...Answer       answers

Money is a decimal string of dollars beside an integer `..._micros`. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
)

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.links import FileLinks
from sayso.clock import SECOND, Instant, iso
from sayso.credits.rules import CURRENCY, decimal_text
from sayso.generations.generation import Cost, Generation
from sayso.http.bodies import storable

Status = Literal["starting", "processing", "succeeded", "failed", "canceled"]

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(body: object) -> bytes:
    """Return a body as bytes of JSON."""
    return _encode(body).encode("utf-8", "replace")


def _require_storable(value: str) -> str:
    if not storable(value):
        raise ValueError("must not hold NUL or half of a character")
    return value


_Storable: Final = AfterValidator(_require_storable)

Text = Annotated[str, _Storable]
ModelName = Annotated[str, StringConstraints(max_length=200), _Storable]
OptionName = Annotated[str, StringConstraints(max_length=100), _Storable]
Reference = Annotated[str, StringConstraints(min_length=1)]
# What JSON has no word for could be kept, but not be told again.
OptionJson = bool | int | FiniteFloat | Text | None


class _In(BaseModel):
    """A request: types are exact, so that `false` is no 0 and `"no"` no boolean."""

    model_config = ConfigDict(strict=True, frozen=True)


class _Out(BaseModel):
    """An answer: it has these fields and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GenerateBody(_In):
    """What is to be made. The inputs are http(s) URLs, `data:` URLs or the `url` of an upload."""

    image_url: Reference = Field(alias="imageUrl", description="The portrait.")
    audio_url: Reference = Field(alias="audioUrl", description="The speech.")
    model: ModelName | None = Field(
        default=None, description="A name of `GET /api/models`; without it the default one."
    )
    prompt: Text | None = Field(default=None, description="For models that take one.")
    audio_duration: float | None = Field(
        default=None,
        alias="audioDuration",
        allow_inf_nan=False,
        description="For the caller's own display; the price comes from the decoded speech.",
    )
    poll_for_completion: bool = Field(
        default=False,
        alias="pollForCompletion",
        description="Answer when the video is there, instead of at once.",
    )
    options: dict[OptionName, OptionJson] = Field(
        default_factory=dict, description="The model's own options, by name."
    )


class QuoteBody(_In):
    """What the price is wanted for: a speech, or a length in seconds."""

    audio_url: Reference | None = Field(default=None, alias="audioUrl")
    audio_duration: float | None = Field(
        default=None, alias="audioDuration", ge=0, le=86_400, allow_inf_nan=False
    )
    model: ModelName | None = None


class PreviewBody(_In):
    """What is to be previewed; the inputs are named as for a generation."""

    image_url: Reference = Field(alias="imageUrl", description="The portrait.")
    audio_url: Reference = Field(alias="audioUrl", description="The speech.")


class Problem(_Out):
    """An error (RFC 9457); `error` repeats `detail`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str


class CostAnswer(_Out):
    """A price: whole seconds of speech times the model's rate."""

    amount: str
    amount_micros: int
    currency: Literal["USD"]
    seconds: int
    rate: str


class ProgressAnswer(_Out):
    """How far it is; `basis` says whether that is measured."""

    percent: int = Field(ge=0, le=100)
    basis: Literal["measured", "estimated"]
    stage: str | None


class HoldAnswer(_Out):
    """What became of the price."""

    state: Literal["held", "captured", "released"]
    amount: str
    amount_micros: int


class CheckBody(_Out):
    """A generation as anybody who watches it sees it."""

    id: str
    prediction_id: str
    status: Status
    output: str | None = Field(description="Our own link to the MP4, once it has succeeded.")
    error: str | None
    logs: str | None
    progress: ProgressAnswer
    model: str
    created_at: str
    started_at: str | None
    completed_at: str | None
    failed_at: str | None
    cost: CostAnswer
    credits: HoldAnswer | None = Field(description="null for a model that costs nothing.")


class UrlsAnswer(_Out):
    """Where to look next."""

    check: str
    events: str
    cancel: str


class StartedAnswer(_Out):
    """A generation has been started and its price held."""

    prediction_id: str
    status: Literal["starting"]
    message: Literal["Lip sync generation started"]
    model: str
    cost: CostAnswer
    urls: UrlsAnswer


class NoticeAnswer(_Out):
    """Something to know that does not stop the work."""

    code: str
    text: str


class FaceAnswer(_Out):
    """Where the largest face is, in pixels of the upright picture."""

    x: float
    y: float
    width: float
    height: float


class UploadAnswer(_Out):
    """A stored input; `url` goes into `imageUrl` or `audioUrl` and works for a day."""

    id: str
    url: str
    kind: Literal["portrait", "speech"]
    content_type: str
    size: int
    sha256: str
    duration: float | None
    width: int | None
    height: int | None
    face: FaceAnswer | None
    warnings: list[NoticeAnswer]


class PreviewAnswer(_Out):
    """A preview: `url` is an MP4 that is deleted at `expires_at`."""

    id: str
    url: str
    model: str = Field(description="Who made it: our own engine.")
    duration: float
    expires_at: str
    warnings: list[NoticeAnswer]


class QuoteAnswer(_Out):
    """What it would cost now, and whether that much is available."""

    model: str
    duration: float
    cost: CostAnswer
    available: str
    available_micros: int
    sufficient: bool


class OptionAnswer(_Out):
    """One of a model's own settings."""

    name: str
    kind: Literal["integer", "number", "text", "boolean"]
    description: str
    default: bool | int | float | str | None
    minimum: float | None
    maximum: float | None
    choices: list[str]


class PortraitLimitsAnswer(_Out):
    """What a model says of its picture; null and an empty list where it says nothing."""

    max_bytes: int | None
    min_side_px: int | None
    max_side_px: int | None
    formats: list[str]


class SpeechLimitsAnswer(_Out):
    """What a model says of its recording; null and an empty list where it says nothing."""

    min_s: float | None
    max_bytes: int | None
    formats: list[str]


class LimitsAnswer(_Out):
    """What a model says of the files that it takes."""

    portrait: PortraitLimitsAnswer
    speech: SpeechLimitsAnswer


class ModelAnswer(_Out):
    """An entry of the catalogue; `price_read_on` is the day its price was read."""

    name: str
    provider: str
    description: str
    rate: str
    rate_micros: int
    default: bool
    available: bool
    unavailable_because: str | None
    needs_face: bool
    takes_prompt: bool
    max_seconds: float
    typical_seconds: float = Field(
        description="How long ten seconds of speech take: by what was made here, else as a rule."
    )
    price_read_on: str
    limits: LimitsAnswer
    options: list[OptionAnswer]


class ModelsAnswer(_Out):
    """Every model, also those that are not set up here."""

    models: list[ModelAnswer]


class EntryAnswer(_Out):
    """A line of the account's statement; `amount` is signed."""

    id: str
    kind: str
    amount: str
    amount_micros: int
    balance_after: str
    balance_after_micros: int
    reason: str
    prediction_id: str | None
    created_at: str


class CreditsAnswer(_Out):
    """What the account has; available is what is neither spent nor held."""

    balance: str
    balance_micros: int
    held: str
    held_micros: int
    available: str
    available_micros: int
    currency: Literal["USD"]
    entries: list[EntryAnswer]
    next: str | None


class GenerationsAnswer(_Out):
    """A piece of the history, newest first; `next` is the cursor of the following piece."""

    generations: list[CheckBody]
    next: str | None


class OrderAnswer(_Out):
    """What a generation was asked for with: a body that asks for it again.

    The links work for a day; `width` and `height` are the portrait's, in pixels.
    """

    imageUrl: str  # noqa: N815 (the names of the request)
    audioUrl: str  # noqa: N815
    model: str
    prompt: str | None
    options: dict[str, OptionJson]
    audioDuration: float | None  # noqa: N815
    width: int | None
    height: int | None


class AttemptAnswer(_Out):
    """One attempt at the provider."""

    number: int
    state: str
    started_at: str | None
    finished_at: str | None


class ReceiptAnswer(_Out):
    """What a generation did cost, and why."""

    prediction_id: str
    model: str
    status: Status
    error: str | None
    error_code: str | None = Field(description="What kind of error it was.")
    cost: CostAnswer
    captured: str
    captured_micros: int
    credits: HoldAnswer | None
    release_reason: str | None
    held_at: str | None
    settled_at: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    attempts: list[AttemptAnswer]
    quality: dict[str, Any] | None
    notices: list[NoticeAnswer]


def cost_of(cost: Cost) -> dict[str, Any]:
    """Return a price as JSON."""
    return {
        "amount": decimal_text(cost.price_micros),
        "amount_micros": cost.price_micros,
        "currency": CURRENCY,
        "seconds": cost.seconds,
        "rate": decimal_text(cost.rate_micros),
    }


def hold_of(generation: Generation) -> dict[str, Any] | None:
    """Return what became of the price, as JSON."""
    state = generation.credit_state
    if state is None:
        return None
    amount = generation.cost.price_micros
    return {"state": state, "amount": decimal_text(amount), "amount_micros": amount}


def check_of(
    generation: Generation, *, links: FileLinks, now: Instant, base: str
) -> dict[str, Any]:
    """Return a generation as JSON; `base` is the address that its reader knows us by.

    Nothing in it changes unless the generation does, but the link, which does on the full hour.
    """
    progress = generation.progress
    return {
        "id": generation.id,
        "prediction_id": generation.id,
        "status": generation.status,
        "output": _output_of(generation, links=links, now=now, base=base),
        "error": generation.error,
        "logs": generation.logs,
        "progress": {
            "percent": progress.percent,
            "basis": progress.basis,
            "stage": progress.stage,
        },
        "model": generation.model,
        "created_at": iso(generation.created_at),
        "started_at": iso_or_none(generation.started_at),
        "completed_at": iso_or_none(generation.completed_at),
        "failed_at": iso_or_none(generation.failed_at),
        "cost": cost_of(generation.cost),
        "credits": hold_of(generation),
    }


def iso_or_none(instant: Instant | None) -> str | None:
    """Return a time as text, if there is one."""
    return None if instant is None else iso(instant)


def _output_of(generation: Generation, *, links: FileLinks, now: Instant, base: str) -> str | None:
    if generation.status != "succeeded" or generation.video_key is None:
        return None
    return base + links.sign(ArtifactKey(generation.video_key), now_s=now / SECOND)
