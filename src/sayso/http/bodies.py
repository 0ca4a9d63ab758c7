"""What a body has to be before anybody reads it as one of ours.

JSON_ONLY      dependencies of a route that takes JSON and nothing else
read_object()  a JSON object that a database takes, and that can be repeated as JSON
storable()     a text that a database takes
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any, Final

from fastapi import Depends, Request

from sayso.errors import BodyUnsupported


async def _require_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise BodyUnsupported("This address takes application/json.")


JSON_ONLY: Final = [Depends(_require_json)]


def read_object(text: str | bytes) -> dict[str, Any] | None:
    """Return the JSON object in a text; None for anything else, and for what we could not keep."""
    with suppress(ValueError, RecursionError):
        body = json.loads(text, parse_constant=_refuse)
        if isinstance(body, dict) and _can_be_kept(body):
            return body
    return None


def storable(text: str) -> bool:
    """Whether a database takes a text: no NUL, no half of a character."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _can_be_kept(value: object) -> bool:
    match value:
        case str():
            return storable(value)
        case float():
            return math.isfinite(value)  # `1e999` is read as infinity, which is no JSON.
        case dict():
            return all(storable(name) and _can_be_kept(part) for name, part in value.items())
        case list():
            return all(map(_can_be_kept, value))
        case _:
            return True


def _refuse(name: str) -> float:
    raise ValueError(name)
