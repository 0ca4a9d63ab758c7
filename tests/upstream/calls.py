"""Calls and answers of the upstream, as bytes; refusals, and what faults make of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.upstream import shapes
from tests.upstream.faults import Fault


@dataclass(frozen=True, slots=True)
class Call:
    """A request: `url` is whole, header names are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """Return the body; refuse one that is no JSON object."""
        try:
            body = json.loads(self.body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Refused(400, {"detail": "Request body is not valid JSON", "status": 400})
        return body


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; with a fault, what the way back makes of it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """Return the same with further headers; its own stay."""
        return replace(self, headers={**headers, **self.headers})


class Refused(Exception):
    """An answer that is a refusal."""

    def __init__(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(str(body))
        self.answer = _problem(status, body).with_headers(headers or {})


def answered(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer with this JSON."""
    return Answer(status, shapes.encode(body), headers or {})


def spoiled(answer: Answer, fault: Fault) -> Answer:
    """Return what a fault makes of an answer; cut connections are the way's own business."""
    instead = _INSTEAD.get(fault)
    if instead is not None:
        return instead
    if fault is Fault.BAD_JSON:
        return replace(answer, body=answer.body[: len(answer.body) // 2])
    return replace(answer, fault=fault)


def _problem(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(status, shapes.encode(body), {"content-type": shapes.PROBLEM_JSON})


def _page(status: int) -> Answer:
    html = {"content-type": "text/html; charset=UTF-8", "server": "cloudflare"}
    return Answer(status, shapes.gateway_page(status).encode(), html)


_INSTEAD: Final[Mapping[Fault, Answer]] = {
    Fault.HTML_502: _page(502),
    Fault.HTML_502_AFTER: _page(502),
    Fault.HTML_503: _page(503),
    Fault.HTML_504_AFTER: _page(504),
    Fault.ERROR_500: _problem(500, shapes.SERVER_ERROR),
    Fault.ERROR_500_AFTER: _problem(500, shapes.SERVER_ERROR),
    Fault.THROTTLED: _problem(429, shapes.throttled(30, is_low=False)),
    Fault.REDIRECT: Answer(302, headers={"location": "https://elsewhere.example/v1"}),
    Fault.EMPTY: Answer(200, headers={"content-type": "application/json"}),
}
