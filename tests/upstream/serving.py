"""The upstream over real HTTP on this machine: sockets, so that connections can really break.

    with served(upstream) as addresses:         # hosts of the upstream -> where they listen
        transport = Rerouted(addresses)

    with served(upstream, at_home=True): ...    # upstream.place is then http://127.0.0.1:.../v1

It runs in a thread of its own, and sends webhooks and fetches inputs as they are due. HTTP/1.1 is
spoken by h11; the rest is a few lines, because no server for applications cuts connections.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import h11
import httpx

from tests.upstream.calls import Answer, Call
from tests.upstream.faults import Fault
from tests.upstream.service import Upstream
from tests.upstream.shapes import Place

_BLOCK = 1 << 16
_DUE_EVERY_S = 0.02
_HOST = "127.0.0.1"

Addresses = Mapping[str, tuple[str, int]]


class Around:
    """What is around a served upstream: the network of this machine."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def fetch(self, url: str) -> int:
        """Fetch an input; return the status."""
        try:
            return (await self._client.get(url)).status_code
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error

    async def deliver(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """Send a webhook; a redirect is an answer like others."""
        try:
            return (await self._client.post(url, content=body, headers=headers)).status_code
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error


class _Server:
    """The listeners of an upstream, and its time."""

    def __init__(
        self, upstream: Upstream, *, slow_s: float, lives: bool, authority: Path | None
    ) -> None:
        self._upstream = upstream
        self._slow_s = slow_s
        self._lives = lives
        self._trusted = ssl.create_default_context(cafile=authority)
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self.ports: list[int] = []

    def run(self) -> None:
        """Serve until `stop`; in a thread of its own."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def wait_until_ready(self) -> None:
        """Return once `ports` are known."""
        assert self._ready.wait(10)

    def stop(self) -> None:
        """Let `run` return."""
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self) -> None:
        servers = [await asyncio.start_server(self._connect, _HOST, 0) for _ in range(2)]
        self.ports = [server.sockets[0].getsockname()[1] for server in servers]
        self._ready.set()
        living = asyncio.create_task(self._live())
        await self._stopped.wait()
        for server in servers:
            server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(living, *tasks, return_exceptions=True)

    async def _live(self) -> None:
        """Let the upstream do what is due."""
        client = httpx.AsyncClient(trust_env=False, timeout=5, verify=self._trusted)
        async with client:
            around = Around(client)
            while True:
                if self._lives:
                    await self._upstream.run_due(around)
                await asyncio.sleep(_DUE_EVERY_S)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (OSError, h11.RemoteProtocolError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Take a request and answer it; return whether another may follow."""
        call = await self._read(connection, reader)
        if call is None:
            return False
        answer = await self._upstream.answer(call)
        match answer.fault:
            case Fault.RESET_BEFORE | Fault.RESET_AFTER | Fault.UNREACHABLE:
                _reset(writer)
                return False
            case Fault.SLOW | Fault.LOST:
                await asyncio.sleep(self._slow_s)
                return False
        writer.write(_head(connection, answer))
        is_cut = answer.fault is Fault.CUT
        body = answer.body[: len(answer.body) // 2] if is_cut else answer.body
        writer.write(connection.send(h11.Data(data=body)) or b"")
        await writer.drain()
        if is_cut:
            return False
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        states = {connection.our_state, connection.their_state}
        return states == {h11.DONE}

    async def _read(self, connection: h11.Connection, reader: asyncio.StreamReader) -> Call | None:
        request: h11.Request | None = None
        body: list[bytes] = []
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_BLOCK))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return self._call_of(request, b"".join(body))
            else:
                return None

    def _call_of(self, request: h11.Request, body: bytes) -> Call:
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        scheme = urlsplit(self._upstream.place.api).scheme
        url = f"{scheme}://{headers.get('host', '')}{request.target.decode()}"
        return Call(request.method.decode(), url, headers, body)


def _head(connection: h11.Connection, answer: Answer) -> bytes:
    headers = [*answer.headers.items(), ("content-length", str(len(answer.body)))]
    return connection.send(h11.Response(status_code=answer.status, headers=headers)) or b""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Cut a connection as a crash does: its peer gets a reset, not an end."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def served(
    upstream: Upstream,
    *,
    at_home: bool = False,
    slow_s: float = 30,
    lives: bool = True,
    authority: Path | None = None,
) -> Iterator[Addresses]:
    """Serve an upstream while the block lasts; give where its two hosts listen.

    With `at_home` its place becomes an address of this machine, for clients that are told nothing
    else; outputs then lie on the API's own origin. `slow_s` is how long a slow call hangs. Without
    `lives` it neither sends nor fetches by itself: a test does that on its own clock. `authority`
    is whom it trusts, besides the usual ones, for the https of those whom it calls.
    """
    server = _Server(upstream, slow_s=slow_s, lives=lives, authority=authority)
    thread = threading.Thread(target=server.run, name="upstream")
    thread.start()
    server.wait_until_ready()
    api_port, delivery_port = server.ports
    if at_home:
        home = f"http://{_HOST}:{api_port}"
        upstream.place = Place(f"{home}/v1", f"{home}/delivery")
    try:
        yield {
            urlsplit(upstream.place.api).netloc: (_HOST, api_port),
            **(
                {}
                if at_home
                else {urlsplit(upstream.place.delivery).netloc: (_HOST, delivery_port)}
            ),
        }
    finally:
        server.stop()
        thread.join()
