"""Every error of the tree has a status and a body of one shape."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest

from sayso import errors
from sayso.errors import SaysoError
from sayso.http.errors import STATUSES, problem_response, status_of, unexpected_response


def tree(kind: type[SaysoError] = SaysoError) -> Iterator[type[SaysoError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


OURS = sorted(
    (kind for kind in set(tree()) if kind.__module__ == errors.__name__), key=lambda k: k.__name__
)


def made(kind: type[SaysoError]) -> SaysoError:
    """One error of a class, with whatever its constructor insists on."""
    if kind.__init__ is SaysoError.__init__:
        return kind("What happened.")
    needed: dict[str, Any] = {
        name: 7 if "status" in name or name.endswith("_s") else "something"
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    }
    return kind("What happened.", **needed)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_of_its_own_or_of_its_kin(kind: type[SaysoError]) -> None:
    nearest = next(above for above in kind.__mro__ if above in STATUSES)

    assert 400 <= status_of(kind) <= 599
    assert nearest is not SaysoError or kind is SaysoError, f"{kind.__name__} has no status"


def test_the_table_holds_no_class_that_is_gone() -> None:
    assert set(STATUSES) <= set(OURS)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_a_problem_has_the_fields_that_clients_read(kind: type[SaysoError]) -> None:
    error = made(kind)

    response = problem_response(error)

    body = json.loads(bytes(response.body))
    assert response.media_type == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert body["status"] == response.status_code == status_of(kind)
    assert body["code"] == kind.code
    assert body["detail"] == body["error"] == str(error)
    assert body["type"] == f"urn:sayso:error:{kind.code}"
    assert body["title"]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.QueueFull("Full.", retry_after_s=30), "30"),
        (errors.TooManyTries("Wait.", retry_after_s=0.2), "1"),
        (errors.StillCreating("Wait."), "1"),
        (errors.DatabaseBusy("Busy."), "2"),
    ],
)
def test_errors_that_pass_say_when_to_try_again(error: SaysoError, seconds: str) -> None:
    assert problem_response(error).headers["retry-after"] == seconds


def test_what_broke_us_says_nothing_but_the_requests_id() -> None:
    response = unexpected_response("0123456789abcdef")

    body = json.loads(bytes(response.body))
    assert response.status_code == 500
    assert "0123456789abcdef" in body["detail"]
