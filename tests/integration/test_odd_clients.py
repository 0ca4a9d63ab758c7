"""Clients that break off, write nonsense or come with bad intentions, over real HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from tests.services import MODEL, Service, started, until

KEY = "a key of twenty chars"


@pytest.fixture
def locked(tmp_path: Path, small_portrait: Path, short_speech: Path) -> Iterator[Service]:
    """A service that asks for a key."""
    with started(
        tmp_path, portrait=small_portrait, speech=short_speech, api_key=SecretStr(KEY)
    ) as service:
        yield service


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    """Give a connection on which a test may write what no client library would."""
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 80), timeout=10) as client:
        yield client


def exchanged(service: Service, request: bytes) -> bytes:
    """Send some bytes; return all that comes until the service closes."""
    with connected(service) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_a_stranger_cannot_fill_the_memory(locked: Service) -> None:
    answer = httpx.post(f"{locked.url}/api/session", json={"key": "x" * 100_000})

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.json()["detail"] == "The request is larger than 0.0625 MB."


def test_links_lead_here_for_a_client_that_names_no_host(locked: Service) -> None:
    request = f"GET /v1/models/{MODEL} HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\n\r\n"

    answer = exchanged(locked, request.encode())

    assert f'"url":"{locked.url}/v1/models/{MODEL}"'.encode() in answer


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/predictions", "/v1/predictions"),
        ("/callbacks/replicate/n", "/callbacks/{provider}/{nonce}"),
    ],
)
def test_a_client_that_leaves_in_the_middle_of_its_body_breaks_nothing(
    quick: Service, path: str, route: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n"
    with connected(quick) as client:
        client.sendall(head.encode() + b"{")

    def is_counted(status: int) -> bool:
        labels = f'method="POST",route="{route}",status="{status}"'
        return f"sayso_http_requests_total{{{labels}}}" in quick.http.get("/metrics").text

    until(lambda: is_counted(499) or is_counted(500))
    assert not is_counted(500)


def test_asking_for_the_head_of_a_stream_opens_none(quick: Service) -> None:
    head = "HEAD /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    next_one = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    answers = exchanged(quick, (head + next_one).encode())

    assert b"content-type: text/event-stream" in answers
    assert answers.endswith(b"\r\n\r\nok\n")


def test_a_body_that_comes_too_slowly_is_given_up_and_described(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    with started(tmp_path, portrait=small_portrait, speech=short_speech, upload_max_s=1) as service:
        kind = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99\r\n"
        head = f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}\r\n"

        answer = exchanged(service, head.encode() + b"--x")

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"The request did not arrive in 1 s." in answer
        for path, operations in service.http.get("/openapi.json").json()["paths"].items():
            for operation in operations.values():
                if "requestBody" in operation:
                    assert {"408", "413"} <= set(operation["responses"]), path
