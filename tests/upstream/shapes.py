"""What the upstream says, byte by byte: predictions, files, models, refusals.

    prediction_of()     a prediction as a look, a list or a webhook shows it
    created_of()        as the answer to its create shows it
    stamp()             a time with as many digits as the real service would write
    throttled(), invalid(), NO_CREDIT, ...      refusals with the texts that have been recorded

Which keys there are depends on how far a prediction is, as in recorded answers: one that has just
been created has neither `output` nor `started_at`, and what was canceled in time has null `logs`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from sayso.clock import SECOND, Instant, iso, to_datetime
from tests.upstream.runs import Running, State
from tests.upstream.switches import Switches

PROBLEM_JSON: Final = "application/problem+json"
BILLING: Final = "https://replicate.com/account/billing#billing"
UNAUTHENTICATED: Final = {
    "title": "Unauthenticated",
    "detail": "You did not pass a valid authentication token",
    "status": 401,
}
NO_CREDIT: Final = {
    "title": "Insufficient credit",
    "detail": "You have insufficient credit to run this model. "
    f"Go to {BILLING} to purchase credit. "
    "Once you purchase credit, please wait a few minutes before trying again.",
    "status": 402,
}
NOT_FOUND: Final = {"detail": "The requested resource could not be found.", "status": 404}
NO_FILE: Final = {"detail": "File not found"}
FILE_TOO_LARGE: Final = {"detail": "Files must be less than 100MB in size"}
UNKNOWN_VERSION: Final = {
    "title": "Invalid version or not permitted",
    "detail": "The specified version does not exist "
    "(or perhaps you don't have permission to use it?)",
    "status": 422,
}
SERVER_ERROR: Final = {"detail": "Internal server error"}


@dataclass(frozen=True)
class Place:
    """Where the upstream is: its API with `/v1`, its output host."""

    api: str
    delivery: str


def gateway_page(status: int) -> str:
    """Return the page of the gateway before the service, which is no JSON."""
    title = f"{status} {HTTPStatus(status).phrase}"
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>cloudflare</center>\r\n"
        "</body>\r\n</html>\r\n"
    )


def throttled(wait_s: int, *, is_low: bool) -> dict[str, Any]:
    """Return the body of a 429; with little credit it says so, and how long in a key of its own."""
    if is_low:
        return {
            "detail": "Request was throttled. Your rate limit for creating predictions is reduced "
            "to 6 requests per minute with a burst of 1 requests while you have less than $5.0 in "
            f"credit. Your rate limit resets in ~{wait_s}s.",
            "status": 429,
            "retry_after": wait_s,
        }
    return {"detail": f"Request was throttled. Your rate limit resets in ~{wait_s}s."}


def invalid(faults: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the body of a 422 for these fields: `type`, `field`, `description` of each."""
    lines = (
        f"- {fault['field']}: {fault['description']}\n"
        if fault["field"]
        else f"- {fault['description']}\n"
        for fault in faults
    )
    return {
        "detail": "".join(lines),
        "status": 422,
        "title": "Input validation failed",
        "invalid_fields": [dict(fault) for fault in faults],
    }


def fault_of(kind: str, field: str, description: str) -> dict[str, str]:
    """Return one of `invalid_fields`."""
    return {"type": kind, "field": field, "description": description}


def stamp(instant: Instant, *, salt: int, is_stored: bool, quirks: bool) -> str:
    """Return a time as the hot store writes it (nanoseconds, zeros cut), or the database.

    The digits below a microsecond come from `salt`: they are nobody's business, but there.
    """
    if not quirks:
        return iso(instant)
    whole = to_datetime(instant).strftime("%Y-%m-%dT%H:%M:%S")
    micros = instant % SECOND
    digits = f"{micros:06d}" if is_stored else f"{micros:06d}{salt * 7919 % 1000:03d}"
    digits = digits.rstrip("0")
    return f"{whole}.{digits}Z" if digits else f"{whole}Z"


def created_of(
    running: Running, state: State, *, place: Place, switches: Switches
) -> dict[str, Any]:
    """Return a prediction as its create's answer has it."""
    if not switches.quirks:
        return prediction_of(running, state, place=place, switches=switches)
    body = _head(running, running.created_at, place, switches, is_stored=False)
    body |= {"logs": "", "error": None, "status": state.status}
    if switches.echoes_output_null:
        body |= {"output": None, "data_removed": False}
    return body


def waited_of(running: Running, output: Any, *, place: Place, switches: Switches) -> dict[str, Any]:
    """Return what a create that was waited for says as soon as the output is there."""
    body = _head(running, running.created_at, place, switches, is_stored=False)
    return body | {
        "logs": "",
        "error": None,
        "status": "processing",
        "output": output,
        "data_removed": False,
    }


def prediction_of(
    running: Running, state: State, *, place: Place, switches: Switches, is_removed: bool = False
) -> dict[str, Any]:
    """Return a prediction as it is."""
    quirks, is_stored = switches.quirks, state.ended_at is not None
    created_at = running.stored_at if is_stored and quirks else running.created_at
    body = _head(running, created_at, place, switches, is_stored=is_stored)
    body |= {
        "logs": logs_of(running, state),
        "error": state.error,
        "status": state.status,
        "data_removed": is_removed,
    }
    started_at, ended_at = state.started_at, state.ended_at
    if switches.starts_before_created and started_at is not None:
        started_at = Instant(running.created_at - SECOND // 4)

    def written(instant: Instant | None) -> str | None:
        return None if instant is None else _stamp(running, instant, switches, is_stored=is_stored)

    output = output_of(running, place) if state.has_output else None
    if not quirks or is_stored or output is not None:
        body["output"] = output
    if not quirks or started_at is not None:
        body["started_at"] = written(started_at)
    if not quirks or ended_at is not None:
        body["completed_at"] = written(ended_at)
    if ended_at is not None and switches.has_metrics:
        body["metrics"] = _metrics(running, state, switches)
    if is_removed:
        body |= {"input": {}, "output": None, "logs": None}
    return body


def output_of(running: Running, place: Place) -> Any:
    """Return the output in the model's form; its address says whose it is."""
    url = f"{place.delivery}/xezq/{running.id}/out.mp4"
    match running.run.output_form:
        case "list":
            return [url]
        case "object":
            return {"video": url, "seed": 42}
        case "empty list":
            return []
        case _:
            return url


def logs_of(running: Running, state: State) -> str | None:
    """Return what the model has printed."""
    if state.started_at is None:
        return ""
    if state.status == "canceled" and (state.ended_at or 0) - state.started_at < SECOND // 1000:
        return None
    if running.run.logs == "none":
        return ""
    done = int(100 * state.part_done)
    if running.run.logs == "frames":
        return f"Loading weights\nProcessing frame {done}/100\n"
    steps = range(0, done + 1, max(1, done // 4 or 1))
    bars = "".join(f"\r{step:3d}%|{'#' * (step // 10):<10}| {step}/100" for step in steps)
    return f"Using seed: {running.salt}\n{bars}"


def _stamp(running: Running, instant: Instant, switches: Switches, *, is_stored: bool) -> str:
    return stamp(instant, salt=running.salt, is_stored=is_stored, quirks=switches.quirks)


def _head(
    running: Running, created_at: Instant, place: Place, switches: Switches, *, is_stored: bool
) -> dict[str, Any]:
    link = f"{place.api}/predictions/{running.id}"
    body: dict[str, Any] = {
        "id": running.id,
        "model": running.model,
        "version": running.version,
        "input": running.input,
        "created_at": _stamp(running, created_at, switches, is_stored=is_stored),
        "source": "api",
        "urls": {
            "cancel": f"{link}/cancel",
            "get": link,
            "web": f"https://replicate.com/p/{running.id}",
        },
    }
    if running.deadline_at is not None:
        body["deadline"] = _stamp(running, running.deadline_at, switches, is_stored=is_stored)
    if running.webhook is not None:
        body["webhook"] = running.webhook
        if running.events is not None:
            body["webhook_events_filter"] = list(running.events)
    return body


def _metrics(running: Running, state: State, switches: Switches) -> dict[str, Any]:
    assert state.ended_at is not None
    total_s = (state.ended_at - running.created_at) / SECOND
    metrics: dict[str, Any] = {"total_time": total_s}
    if state.started_at is not None and switches.predict_time != "missing":
        spent_s = (state.ended_at - state.started_at) / SECOND
        metrics["predict_time"] = spent_s if switches.predict_time == "there" else None
    if state.has_output:
        metrics["video_output_count"] = 1
        metrics["video_output_duration_seconds"] = running.run.video_s
    return metrics


def encode(body: object) -> bytes:
    """Return JSON as it goes over the wire."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
