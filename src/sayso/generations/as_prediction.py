"""A generation as Replicate's prediction: the JSON of `/v1` and of webhooks.

    prediction_of()     the whole object
    input_of()          its `input`, as the client sent it where we know

The fields are those of Replicate's OpenAPI document (`schemas.prediction`), with its habits: `logs`
is a text from the start, `metrics` comes with the end, and what has not happened yet is null. There
is no `failed_at`, and the status is never `aborted`: the official clients know neither.
"""

from __future__ import annotations

from typing import Any, Final

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.links import FileLinks
from sayso.clock import SECOND, Instant, after, iso
from sayso.generations.generation import Generation

PREDICTIONS_PATH: Final = "/v1/predictions"


def prediction_of(
    generation: Generation,
    *,
    version: str,
    links: FileLinks,
    now: Instant,
    base: str,
    link_s: int | None = None,
) -> dict[str, Any]:
    """Return a generation as a prediction; `base` is the address that its reader knows us by.

    `version` is the model's; `link_s` is how long the link to the video works, if not as usual.
    """
    place = f"{base}{PREDICTIONS_PATH}/{generation.id}"
    body: dict[str, Any] = {
        "id": generation.id,
        "model": generation.model,
        "version": version,
        "input": input_of(generation),
        "logs": generation.logs or "",
        "output": _output_of(generation, links=links, now=now, base=base, link_s=link_s),
        "data_removed": False,
        "error": generation.error,
        "source": "web" if generation.door == "page" else "api",
        "status": generation.status,
        "created_at": iso(generation.created_at),
        "started_at": _iso(generation.started_at),
        "completed_at": _iso(generation.completed_at),
        "urls": {
            "get": place,
            "cancel": f"{place}/cancel",
            "web": f"{base}/?prediction_id={generation.id}",
        },
    }
    if generation.completed_at is not None:
        body["metrics"] = _metrics_of(generation, generation.completed_at)
    if generation.cancel_after_s is not None:
        body["deadline"] = iso(after(generation.created_at, generation.cancel_after_s))
    if generation.webhook_url is not None:
        body["webhook"] = generation.webhook_url
        if generation.webhook_events is not None:
            body["webhook_events_filter"] = list(generation.webhook_events)
    return body


def input_of(generation: Generation) -> dict[str, Any]:
    """Return what was asked for: the client's own words, else what came through another door."""
    if generation.input_echo is not None:
        return dict(generation.input_echo)
    prompt = {} if generation.prompt is None else {"prompt": generation.prompt}
    return {**prompt, **generation.options}


def _metrics_of(generation: Generation, completed_at: Instant) -> dict[str, float]:
    metrics = {"total_time": (completed_at - generation.created_at) / SECOND}
    if generation.started_at is not None:
        ran = max(0, completed_at - generation.started_at)
        metrics = {"predict_time": ran / SECOND, **metrics}
    video_s = (generation.quality or {}).get("duration_video_s")
    if video_s is not None:
        # What models that are billed by the second of video have there.
        metrics["video_output_duration_seconds"] = video_s
    return metrics


def _output_of(
    generation: Generation, *, links: FileLinks, now: Instant, base: str, link_s: int | None
) -> str | None:
    if generation.status != "succeeded" or generation.video_key is None:
        return None
    key = ArtifactKey(generation.video_key)
    return base + links.sign(key, now_s=now / SECOND, lifetime_s=link_s)


def _iso(instant: Instant | None) -> str | None:
    return None if instant is None else iso(instant)
