"""Whatever is sent to an address, what comes back is what OpenAPI says, and never a 500."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.services import Service

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


def test_answers_are_those_that_are_described(quick: Service) -> None:
    """Every address but the streams, which do not end."""
    document = schemathesis.openapi.from_url(f"{quick.url}/openapi.json").exclude(
        path="/api/events"
    )
    wrong: list[str] = []
    tried = 0

    for found in document.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def run(case: schemathesis.Case[Any]) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(checks=CHECKS, timeout=60)

        try:
            run()
        except FailureGroup as error:
            wrong.append(f"{operation.label}: {error}")

    assert not wrong, "\n\n".join(wrong)
    assert tried > 200
