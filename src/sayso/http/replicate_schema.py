"""What OpenAPI says of `/v1`: bodies as JSON schemas, after those of Replicate's own document.

    CREATE, CREATE_BY_VERSION      what a create takes; create_of() adds its headers
    PREDICTION, MODEL, VERSION, FILE, ACCOUNT, SECRET     what is answered
    page_of()                      a list of one of them
    answers(), kept(), started()   the `responses` of a route

The bodies are read and written by hand (`replicate_create.py`, `generations/as_prediction.py`), as
their refusals have a form of their own; a fuzzed service is compared with this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sayso.http.errors import problems

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_OBJECT: Final[Schema] = {"type": "object"}
_EVENTS: Final[Schema] = {
    "type": "array",
    "items": {"type": "string", "enum": ["start", "output", "logs", "completed"]},
}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


_CREATE_OPTIONAL: Final = {
    "webhook": _TEXT_OR_NULL,
    "webhook_completed": _TEXT_OR_NULL,
    "webhook_events_filter": {
        **_EVENTS,
        "type": ["array", "null"],
        "description": "Which events are sent to `webhook`, without which it is refused.",
    },
    "stream": {"description": "Taken for older clients; there is nothing to stream."},
}
_CREATE_HEADERS: Final = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
    }
    for name, description in (
        ("Prefer", "`wait` or `wait=n`: answer when it is final, after n seconds at the latest."),
        ("Cancel-After", "Cancel it after this time: `90`, `5m`, `1h30m`."),
        ("Idempotency-Key", "The same key with the same body is the same prediction."),
    )
]
_INPUT: Final[Schema] = {
    **_OBJECT,
    "description": "The model's own inputs, as its `openapi_schema` has them.",
    "examples": [{"image": "...", "audio": "..."}],
}
CREATE: Final = _object({"input": _INPUT}, _CREATE_OPTIONAL)
CREATE_BY_VERSION: Final = _object({"version": _TEXT, "input": _INPUT}, _CREATE_OPTIONAL)
FORM: Final[Schema] = {
    "type": "object",
    "required": ["content"],
    "properties": {
        "content": {"type": "string", "format": "binary"},
        "metadata": {"type": "string", "description": "A JSON object."},
        "filename": _TEXT,
        "type": _TEXT,
    },
}

PREDICTION: Final = _object(
    {
        "id": _TEXT,
        "model": _TEXT,
        "version": _TEXT,
        "input": _OBJECT,
        "logs": _TEXT,
        "output": _TEXT_OR_NULL,
        "data_removed": {"type": "boolean"},
        "error": _TEXT_OR_NULL,
        "source": {"type": "string", "enum": ["web", "api"]},
        "status": {
            "type": "string",
            "enum": ["starting", "processing", "succeeded", "failed", "canceled"],
        },
        "created_at": _TIME,
        "started_at": _TIME_OR_NULL,
        "completed_at": _TIME_OR_NULL,
        "urls": _object({"get": _TEXT, "cancel": _TEXT, "web": _TEXT}),
    },
    {
        "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
        "deadline": _TIME,
        "webhook": _TEXT,
        "webhook_events_filter": _EVENTS,
    },
)
VERSION: Final = _object(
    {"id": _TEXT, "created_at": _TIME, "cog_version": _TEXT, "openapi_schema": _OBJECT}
)
MODEL: Final = _object(
    {
        "url": _TEXT,
        "owner": _TEXT,
        "name": _TEXT,
        "description": _TEXT,
        "visibility": {"type": "string", "enum": ["public"]},
        "is_official": {"type": "boolean"},
        "github_url": {"type": "null"},
        "paper_url": {"type": "null"},
        "license_url": {"type": "null"},
        "run_count": {"type": "integer"},
        "cover_image_url": {"type": "null"},
        "default_example": {"type": "null"},
        "latest_version": VERSION,
    }
)
FILE: Final = _object(
    {
        "id": _TEXT,
        "name": _TEXT,
        "content_type": _TEXT,
        "size": {"type": "integer"},
        "etag": _TEXT,
        "checksums": _object({"sha256": _TEXT, "md5": _TEXT}),
        "metadata": _OBJECT,
        "created_at": _TIME,
        "expires_at": _TIME,
        "urls": _object({"get": _TEXT, "download": _TEXT}),
    }
)
ACCOUNT: Final = _object(
    {
        "type": {"type": "string", "enum": ["user"]},
        "username": _TEXT,
        "name": _TEXT,
        "avatar_url": {"type": "null"},
        "github_url": {"type": "null"},
    }
)
SECRET: Final = _object({"key": _TEXT})


def page_of(item: Schema) -> Schema:
    """Return the schema of a list, with the whole addresses of its neighbours; `next` is older."""
    return _object(
        {
            "previous": _TEXT_OR_NULL,
            "next": _TEXT_OR_NULL,
            "results": {"type": "array", "items": item},
        }
    )


def answers(schema: Schema, *refusals: int) -> dict[int | str, Any]:
    """Return what a route says of its answers: 200 with this body, and these refusals."""
    return {**_described({200: "As it is now."}, schema), **problems(429, 503, *refusals)}


def kept(schema: Schema, *refusals: int) -> dict[int | str, Any]:
    """Return the same for a route that makes something: 201."""
    return {**_described({201: "Made."}, schema), **problems(429, 503, *refusals)}


def started(schema: Schema, *refusals: int) -> dict[int | str, Any]:
    """Return the same for a create: 201, or 202 when it was waited for and is not final."""
    found = {201: "Started, or final where it was waited for.", 202: "Not final yet."}
    return {**_described(found, schema), **problems(429, 503, *refusals)}


def _described(statuses: Mapping[int, str], schema: Schema) -> dict[int | str, Any]:
    content = {"application/json": {"schema": schema}}
    return {status: {"description": text, "content": content} for status, text in statuses.items()}


def create_of(schema: Schema) -> Schema:
    """Return a create's headers and body for OpenAPI."""
    return {"parameters": _CREATE_HEADERS, **body_of(schema)}


def body_of(schema: Schema, kind: str = "application/json") -> Schema:
    """Return a request's body for OpenAPI."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}
