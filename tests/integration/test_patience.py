"""Connections that begin a request and do not end it, against a small application."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from sayso.http.patience import PatientProtocol
from tests.services import Service

PATIENCE_S = 0.4
LONG_S = 1.5


class Hasty(PatientProtocol):
    """The same within the time that a test has."""

    head_s = PATIENCE_S
    rest_s = LONG_S


async def answer_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer before the body is here, as a refusal does; `/slow` takes its time."""
    assert scope["type"] == "http"
    if scope["path"] == "/slow":
        await asyncio.sleep(LONG_S)
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, int]]:
    """Where the application answers."""
    config = uvicorn.Config(
        answer_at_once, http=Hasty, ws="none", lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join()


def closed_after_s(client: socket.socket, *, drops: bytes = b"") -> float:
    """Return how long it takes until the other side closes, ten seconds at most."""
    client.settimeout(0.05)
    begun = time.monotonic()
    with suppress(ConnectionError):
        while time.monotonic() - begun < 10:
            with suppress(TimeoutError):
                client.sendall(drops)
                if not client.recv(1 << 16):
                    break
    return time.monotonic() - begun


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_request_that_does_not_begin_is_given_up(place: tuple[str, int], begun: bytes) -> None:
    with socket.create_connection(place) as client:
        client.sendall(begun)

        assert PATIENCE_S / 2 < closed_after_s(client) < 5


def test_a_head_that_comes_in_drops_is_given_up(place: tuple[str, int]) -> None:
    with socket.create_connection(place) as client:
        client.sendall(b"GET / HTTP/1.1\r\nA: ")

        assert PATIENCE_S / 2 < closed_after_s(client, drops=b"a") < 5


def test_the_rest_of_a_body_that_is_answered_may_come_for_a_while(place: tuple[str, int]) -> None:
    with socket.create_connection(place) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert client.recv(1_000).startswith(b"HTTP/1.1 200")
        client.sendall(bytes(999_990))

        assert PATIENCE_S < closed_after_s(client) < 8


def test_a_connection_serves_one_request_after_the_other(place: tuple[str, int]) -> None:
    quick, slow = (b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"/", b"/slow"))
    with socket.create_connection(place) as client:
        client.settimeout(10)
        # The last ones come while the first is still being answered.
        for request, count in ((quick, 1), (slow, 1), (slow + quick + slow, 3)):
            client.sendall(request)
            heard = b""
            while heard.count(b"\r\n\r\nok") < count:
                piece = client.recv(1_000)
                assert piece, heard
                heard += piece


@pytest.mark.parametrize(
    "before",
    [
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: ",
        (
            b"POST /callbacks/replicate/n HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: "
        ),
    ],
    ids=["head", "trailer"],
)
def test_the_service_takes_no_fields_without_end(quick: Service, before: bytes) -> None:
    port = int(quick.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        heard = b""
        with suppress(ConnectionError):  # It may be closed while we are still writing.
            client.sendall(before + b"a" * 4_000_000)
            client.sendall(b"\r\nConnection: close\r\n\r\n")
            heard = client.recv(1_000)

    assert not heard or heard.startswith(b"HTTP/1.1 400 ")
