"""What a create of `/v1` asks for: read from headers and body, checked, and taken in as an order.

    read_asked()          the body, with Replicate's `invalid_fields` for what does not fit
    model_of_version()    the model that `version` names
    wait_of()             `Prefer: wait[=n]`
    cancel_after_of()     `Cancel-After`
    key_of()              which other create this one repeats
    take_order()          the inputs, stored and checked against the model

The names of inputs are the model's own (`image`, `audio`), as the catalogue has them.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fastapi import Request
from starlette.datastructures import Headers

from sayso.artifacts.intake import Artifact, InputKind
from sayso.catalogue.catalogue import Catalogue, Model, Option
from sayso.clock import SECOND
from sayso.errors import (
    InputRejected,
    ModelUnknown,
    OptionInvalid,
    SaysoError,
    UrlUnusable,
)
from sayso.generations.generation import Event, Key, Order
from sayso.http.bodies import read_object
from sayso.http.errors import status_of
from sayso.http.inputs import take_input
from sayso.http.replicate_errors import Refused, faulty, field_fault
from sayso.ids import AccountId
from sayso.media.dataurl import is_data_url
from sayso.media.guard import checked_url
from sayso.wiring import Services

EVENTS: Final[tuple[Event, ...]] = ("start", "output", "logs", "completed")

_FIELDS: Final = frozenset(
    {"input", "version", "webhook", "webhook_completed", "webhook_events_filter", "stream"}
)
_UNKNOWN_FIELD: Final = "additional_property_not_allowed"
# What a body of nothing but unknown fields is told of.
_MOST_FAULTS: Final = 20
_VERSION: Final = re.compile(
    r"(?:(?P<name>[a-z0-9._-]+/[a-z0-9._-]+)(?::(?P<of_name>[0-9a-f]{64}))?|(?P<alone>[0-9a-f]{64}))"
)
_WAIT: Final = re.compile(r"wait(?:\s*=\s*\"?(?P<seconds>[0-9]{1,6})\"?)?", re.IGNORECASE)
_LONGEST_WAIT_S: Final = 60
_SPAN: Final = re.compile(
    r"(?=.)(?:(?P<h>[0-9]{1,5})h)?(?:(?P<m>[0-9]{1,5})m)?(?:(?P<s>[0-9]{1,5})s?)?"
)
_SHORTEST_LIFE_S: Final = 5
_LONGEST_LIFE_S: Final = 86_400
_KEY: Final = re.compile(r"[ -~]{1,255}")
# How long a resent create waits for the first one to be answered.
_PATIENCE_S: Final = 50
# The links that stand for `data:` URLs work as long as files of `/v1/files` do.
_ECHO_LINK_S: Final = 86_400
# Bodies above this are not for the event loop.
_LARGE_BYTES: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The body of a create; `digest` is of its bytes."""

    input: Mapping[str, Any]
    version: str
    webhook: str | None
    events: tuple[Event, ...] | None
    digest: str


@dataclass(frozen=True, kw_only=True)
class CreateKey:
    """Which earlier create this one repeats; `is_resend` where only its client's count says so."""

    key: Key
    is_resend: bool

    def renewed(self) -> Key:
        """Return the key as one that stands for a new generation."""
        return replace(self.key, is_fresh=True)


async def read_asked(request: Request, *, with_version: bool) -> Asked:
    """Return what the body asks for; raise `Refused` for one that does not fit."""
    raw = await request.body()
    is_large = len(raw) > _LARGE_BYTES
    body, digest = await asyncio.to_thread(_read, raw) if is_large else _read(raw)
    fields = _FIELDS if with_version else _FIELDS - {"version"}
    wanted = ("version", "input") if with_version else ("input",)
    missing = [name for name in wanted if name not in body]
    unknown = [name for name in body if name not in fields][:_MOST_FAULTS]
    if missing or unknown:
        raise faulty(
            [
                *(("", "required", f"{name} is required") for name in missing),
                *(
                    ("", _UNKNOWN_FIELD, f"Additional property {name} is not allowed")
                    for name in unknown
                ),
            ]
        )
    given = body["input"]
    if not isinstance(given, dict):
        raise field_fault("input", "invalid_type", "Invalid type. Expected: object")
    webhook, events = _webhook_of(body)
    return Asked(
        input=given,
        version=_text(body, "version") or "",
        webhook=webhook,
        events=events,
        digest=digest,
    )


def model_of_version(catalogue: Catalogue, version: str) -> Model:
    """Return the model that a version names; raise `Refused` as Replicate does."""
    match = _VERSION.fullmatch(version)
    for model in catalogue.models if match else ():
        digits = match["of_name"] or match["alone"] if match else None
        if match and match["name"] in {None, model.name} and digits in {None, model.version}:
            return model
    raise Refused(
        422,
        "The specified version does not exist (or perhaps you don't have permission to use it?)",
        title="Invalid version or not permitted",
        code=ModelUnknown.code,
    )


def wait_of(headers: Headers) -> int | None:
    """Return how long the client wants to wait, in seconds; None where it does not."""
    for preference in headers.get("prefer", "").split(","):
        match = _WAIT.fullmatch(preference.strip())
        if match is not None:
            seconds = int(match["seconds"] or _LONGEST_WAIT_S)
            return max(1, min(seconds, _LONGEST_WAIT_S))
    return None


def cancel_after_of(headers: Headers) -> int | None:
    """Return after how many seconds the prediction is to be canceled: `90`, `90s`, `1m30s`."""
    given = headers.get("cancel-after")
    if given is None:
        return None
    match = _SPAN.fullmatch(given.strip())
    parts = match.groupdict(default="0") if match else {"h": "0", "m": "0", "s": "0"}
    seconds = int(parts["h"]) * 3600 + int(parts["m"]) * 60 + int(parts["s"])
    if not _SHORTEST_LIFE_S <= seconds <= _LONGEST_LIFE_S:
        raise field_fault(
            "Cancel-After", "format", "Must be a time between 5s and 24h, such as 90, 5m or 1h30m"
        )
    return seconds


def key_of(request: Request, account_id: AccountId, asked: Asked) -> CreateKey | None:
    """Return the key of a create: its own `Idempotency-Key`, or that of a client that counts.

    The official 2.0 client sends a slow create again and says so in `x-stainless-retry-count`; the
    same body with a count above 0 stands for the create that it repeats.
    """
    fingerprint = hashlib.sha256(f"POST {request.url.path}\n{asked.digest}".encode()).hexdigest()
    own = request.headers.get("idempotency-key")
    if own is not None:
        if _KEY.fullmatch(own) is None:
            raise field_fault("Idempotency-Key", "format", "Must be 1 to 255 ASCII characters")
        return CreateKey(
            key=Key(account_id=account_id, key=own, fingerprint=fingerprint), is_resend=False
        )
    count = request.headers.get("x-stainless-retry-count", "")
    if not count.isdecimal():
        return None
    is_resend = int(count[:3]) > 0
    key = Key(
        account_id=account_id,
        key=f"resend {fingerprint}",
        fingerprint=fingerprint,
        is_fresh=not is_resend,
        wait_s=_PATIENCE_S,
    )
    return CreateKey(key=key, is_resend=is_resend)


async def take_order(
    services: Services,
    *,
    account_id: AccountId,
    model: Model,
    asked: Asked,
    cancel_after_s: int | None,
    base: str,
) -> Order:
    """Take the inputs in and check them; raise `Refused` naming the field that does not fit."""
    given = {name: value for name, value in asked.input.items() if value is not None}
    names = model.inputs
    picture = _required_text(given, names.portrait)
    sound = _required_text(given, names.speech)
    prompt_name = names.prompt or "prompt"
    prompt = _checked_prompt(model, prompt_name, given.pop(prompt_name, None))
    options = {name: _checked_option(model, name, value) for name, value in given.items()}
    await services.generations.require_room(model)
    portrait = await _taken(services, account_id, names.portrait, picture, "portrait")
    speech = await _taken(services, account_id, names.speech, sound, "speech")
    try:
        notices = services.inputs.check(model, portrait, speech)
    except InputRejected as error:
        raise _about("input", error) from None
    assert speech.duration_s is not None
    echo = dict(asked.input)
    for name, url, artifact in ((names.portrait, picture, portrait), (names.speech, sound, speech)):
        echo[name] = _echo_of(services, url, artifact, base)
    return Order(
        account_id=account_id,
        door="v1",
        model=model,
        portrait_id=portrait.id,
        speech_id=speech.id,
        speech_s=speech.duration_s,
        prompt=prompt,
        options=model.check_options(options),
        notices=notices,
        input_echo=echo,
        cancel_after_s=cancel_after_s,
        webhook_url=asked.webhook,
        webhook_events=asked.events,
        base_url=base,
    )


def check_webhook(services: Services, url: str | None) -> None:
    """Refuse a webhook URL that we would not send to."""
    if url is not None:
        try:
            checked_url(url, trusted_peers=services.settings.trusted_peers)
        except UrlUnusable as error:
            raise field_fault("webhook", "format", str(error), code=error.code) from None


def _read(raw: bytes) -> tuple[dict[str, Any], str]:
    """Return a body and the digest of its bytes."""
    body = read_object(raw)
    if body is None:
        raise field_fault("", "invalid_type", "The body must be a JSON object")
    return body, hashlib.sha256(raw).hexdigest()


def _webhook_of(body: Mapping[str, Any]) -> tuple[str | None, tuple[Event, ...] | None]:
    """Return where webhooks go and for which events; `webhook_completed` is the older spelling."""
    older = _text(body, "webhook_completed")
    url = _text(body, "webhook") or older
    events = body.get("webhook_events_filter")
    if events is None:
        return url or None, ("completed",) if older else None
    if not url:
        raise field_fault("", "custom", "webhook_events_filter cannot be provided without webhook")
    if not isinstance(events, Sequence) or isinstance(events, str):
        raise field_fault("webhook_events_filter", "invalid_type", "Invalid type. Expected: array")
    for event in events:
        if event not in EVENTS:
            known = ", ".join(f'"{name}"' for name in EVENTS)
            raise field_fault(
                "webhook_events_filter", "enum", f"Must be one of the following: {known}"
            )
    return url or None, tuple(name for name in EVENTS if name in events) or None


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise field_fault(name, "invalid_type", "Invalid type. Expected: string")
    return value


def _required_text(given: dict[str, Any], name: str) -> str:
    if name not in given:
        raise field_fault("input", "required", f"{name} is required")
    value = given.pop(name)
    if not isinstance(value, str):
        raise field_fault(f"input.{name}", "invalid_type", "Invalid type. Expected: string")
    return value


def _checked_prompt(model: Model, name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise field_fault(f"input.{name}", "invalid_type", "Invalid type. Expected: string")
    try:
        return model.check_prompt(value)
    except OptionInvalid as error:
        raise _about(f"input.{name}", error, kind="string_lte") from None


def _checked_option(model: Model, name: str, value: object) -> object:
    option = next((option for option in model.options if option.name == name), None)
    if option is None:
        raise field_fault("input", _UNKNOWN_FIELD, f"Additional property {name} is not allowed")
    try:
        return option.check(value)
    except OptionInvalid as error:
        raise _about(f"input.{name}", error, kind=_fault_of(option, value)) from None


def _fault_of(option: Option, value: object) -> str:
    """Return Replicate's word for what is wrong with an option's value."""
    match option.kind, value:
        case "text", str():
            return "enum" if option.choices else "string_lte"
        case "integer" | "number", int() | float() if not isinstance(value, bool):
            if option.minimum is not None and value < option.minimum:
                return "number_gte"
            return "number_lte" if option.maximum is not None else "invalid_type"
        case _:
            return "invalid_type"


async def _taken(
    services: Services, account_id: AccountId, name: str, url: str, kind: InputKind
) -> Artifact:
    try:
        return await take_input(services, account_id, url, kind)
    except (InputRejected, UrlUnusable) as error:
        raise _about(f"input.{name}", error) from None


def _about(field: str, error: SaysoError, *, kind: str | None = None) -> Refused:
    """Return an error as a refusal that names its field; the status stays the error's own."""
    text = str(error)
    fault = {"type": kind or error.code, "field": field, "description": text}
    return Refused(
        status_of(type(error)),
        f"- {field}: {text}\n",
        title="Input validation failed",
        code=error.code,
        faults=[fault],
    )


def _echo_of(services: Services, url: str, artifact: Artifact, base: str) -> str:
    """Return an input's URL as it is repeated: a link in the place of a file inside a `data:` URL.

    A row that is read at each look, and each webhook, would otherwise hold the file.
    """
    if not is_data_url(url):
        return url
    now_s = services.clock.now() / SECOND
    return base + services.links.sign(artifact.key, now_s=now_s, lifetime_s=_ECHO_LINK_S)
