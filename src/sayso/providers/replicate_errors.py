"""Why Replicate did not make a video, in our codes and in sentences that customers understand.

    failure_of()     the `error` of a failed prediction -> Failure
    aborted()        what `aborted` means
    rejection_of()   a 4xx on a create -> ProviderRejected
    raw_text()       Replicate's own text as operators may read it: no signed links

`error` is free text. Codes in it are the platform's or those of hosted models (E001 to E006, PA).
The text itself may name accounts, bills and hosts, so it goes to the operator (`raw`) and never to
a customer. A text that nobody knows counts as permanent: trying again costs money. Source of the
platform's codes: https://replicate.com/docs/reference/error-codes
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sayso.catalogue.catalogue import Model
from sayso.errors import ProviderRejected
from sayso.providers.base import Failure, FailureKind

INVALID_VERSION: Final = "Invalid version or not permitted"

_LONGEST_RAW: Final = 2_000
_SIGNATURE: Final = re.compile(r"(signature=)[^&\s\"'\\]+")


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of errors whose text matches."""

    pattern: re.Pattern[str]
    kind: FailureKind
    code: str
    text: str


def failure_of(error: str | None) -> Failure:
    """Return why a prediction failed, and what follows from that."""
    raw = raw_text((error or "").strip()[:_LONGEST_RAW]) or None
    for known in _KNOWN:
        if raw is not None and known.pattern.search(raw):
            return Failure(known.kind, known.code, known.text, raw)
    return Failure(FailureKind.PERMANENT, *_UNKNOWN, raw)


def raw_text(text: str) -> str:
    """Return a text for the log, the signatures of links in it cut out: they grant a file."""
    return _SIGNATURE.sub(r"\1...", text)


def aborted(error: str | None) -> Failure:
    """Return what it means that a prediction's time was over before it began; it costs nothing."""
    text = "Replicate did not start the generation in time."
    return Failure(FailureKind.TIMEOUT, "timed_out", text, error or "aborted")


def rejection_of(
    status: int, body: Mapping[str, Any] | None, model: Model, *, raw: str
) -> ProviderRejected:
    """Return what a 4xx on a create means, in our words.

    422 names the fields that do not fit; 404 that Replicate has no such model.
    """
    if status == 422 and (body or {}).get("title") == INVALID_VERSION:  # noqa: PLR2004 (HTTP's)
        # Also what an account without a way to pay is told.
        return ProviderRejected(f"Replicate does not run {model.name} for us just now.", raw=raw)
    faults = list(_faults(body, model))
    if faults:
        return ProviderRejected(f"Replicate cannot use {_listed(faults)}.", raw=raw)
    if status == 404:  # noqa: PLR2004 (HTTP's word for it)
        return ProviderRejected(f"Replicate no longer offers {model.name}.", raw=raw)
    if status == 413:  # noqa: PLR2004 (HTTP's word for it)
        return ProviderRejected("The files are larger than Replicate takes.", raw=raw)
    return ProviderRejected("Replicate cannot use these inputs.", raw=raw)


def _faults(body: Mapping[str, Any] | None, model: Model) -> Iterator[str]:
    """Name what does not fit in our own words: `the prompt, which is missing`."""
    given = (body or {}).get("invalid_fields")
    if not isinstance(given, Sequence) or isinstance(given, str):
        return
    names = {
        model.inputs.portrait: "the portrait",
        model.inputs.speech: "the recording",
        model.inputs.prompt or "prompt": "the prompt",
        **{option.name: f"the option {option.name}" for option in model.options},
    }
    told: set[str] = set()
    for fault in given[:20]:
        if not isinstance(fault, Mapping):
            continue
        field = str(fault.get("field") or "").removeprefix("input.")
        description = str(fault.get("description") or "")
        if field in {"", "input"}:
            # "prompt is required" and "Additional property x is not allowed" name it in the text.
            field = next((name for name in names if _mentions(description, name)), "")
        name = names.get(field)
        if name is None or name in told:
            continue
        told.add(name)
        why = _WHY.get(str(fault.get("type")))
        yield name if why is None else f"{name}, which {why}"


def _mentions(description: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", description) is not None


def _listed(faults: Sequence[str]) -> str:
    return faults[0] if len(faults) == 1 else "; ".join(faults[:-1]) + f"; and {faults[-1]}"


# The words of Replicate's `invalid_fields[].type`.
_WHY: Final[Mapping[str, str]] = {
    "required": "is missing",
    "enum": "is not one of the choices",
    "number_lte": "is too large",
    "number_lt": "is too large",
    "number_gte": "is too small",
    "number_gt": "is too small",
    "string_lte": "is too long",
    "string_gte": "is too short",
    "invalid_type": "is of the wrong kind",
    "additional_property_not_allowed": "this model does not have",
}

_UNKNOWN: Final = ("provider_failed", "Replicate could not make the video.")


def _known(pattern: str, kind: FailureKind, code: str, text: str) -> _Known:
    return _Known(re.compile(pattern, re.IGNORECASE), kind, code, text)


# The first that fits counts: what is said exactly comes before what is said roughly.
_KNOWN: Final[Sequence[_Known]] = (
    _known(
        r"\bE005\b|flagged as sensitive|\bNSFW\b|content (?:policy|moderation)"
        r"|safety (?:check|filter)",
        FailureKind.PERMANENT,
        "input_flagged",
        "The portrait, the recording or the prompt was flagged as sensitive. Try other ones.",
    ),
    _known(
        r"\bE1001\b|out of memory|exitcode -9\b|OutOfMemoryError|\bOOM\b|CUDA error: out",
        FailureKind.PERMANENT,
        "too_much_for_model",
        "The inputs are too large for this model. Try a shorter recording or a smaller portrait.",
    ),
    _known(
        r"\bE001\b|\bE002\b|insufficient (?:credit|balance|funds|quota)|quota exceeded"
        r"|(?:invalid|missing|incorrect) api[ _-]?key|unauthori[sz]ed|billing",
        FailureKind.PROVIDER,
        "provider_fault",
        "Replicate cannot run this model just now. Try again later, or choose another model.",
    ),
    _known(
        r"^prediction timed out|\btimed out after\b|deadline exceeded",
        FailureKind.TIMEOUT,
        "timed_out",
        "Replicate took too long to make the video.",
    ),
    _known(
        r"(?:error|forbidden|unauthorized|not found|timed? ?out).{0,40} for url"
        r"|(?:failed|unable|could not|cannot) (?:to )?(?:download|fetch|open url)",
        FailureKind.TRANSIENT,
        "input_not_fetched",
        "Replicate could not fetch the portrait or the recording.",
    ),
    _known(
        r"code: PA\b|prediction interrupted|\bE003\b|\bE004\b|high demand"
        r"|temporarily unavailable|service is (?:currently )?unavailable|try again later"
        r"|queue reached limit",
        FailureKind.TRANSIENT,
        "provider_interrupted",
        "Replicate interrupted the generation. Try again in a moment.",
    ),
    _known(
        r"\bE(?:6716|8765|8367|9243|9825|9828|1000)\b|^director: |\bdirector\b.*\berror\b"
        r"|cold boot|health ?check failed|error starting prediction",
        FailureKind.TRANSIENT,
        "provider_interrupted",
        "Replicate interrupted the generation. Try again in a moment.",
    ),
    _known(
        r"no face|face (?:was )?not (?:found|detected)"
        r"|(?:can ?not|could not|unable to) (?:find|detect) (?:a |any )?face",
        FailureKind.PERMANENT,
        "no_face",
        "The model found no face in the portrait.",
    ),
    _known(
        r"input validation|invalid (?:input|image|audio|file|argument|value)|ValueError"
        r"|unsupported|\btoo (?:long|short|large|small)\b"
        r"|(?:can ?not|could not|unable to) (?:identify|decode|read|process|load)"
        r" (?:the )?(?:image|audio|file)"
        r"|(?:audio|image|duration).*\b(?:must|exceeds?|limit)\b",
        FailureKind.PERMANENT,
        "input_refused",
        "The model cannot use this portrait, recording or prompt.",
    ),
)
