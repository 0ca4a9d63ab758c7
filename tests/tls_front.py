"""TLS before a service, as a proxy does it: https on a free port, passed on as plain http.

with opened_front() as front:
    ...                              # front.url is known before there is a service
    front.pass_on_to(service.url)    # front.authority is the file that clients have to trust
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import trustme

_BLOCK = 1 << 16


class Front:
    """See the module's docstring."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._target: tuple[str, int] | None = None
        self.url = ""

    def pass_on_to(self, url: str) -> None:
        """Say where the service is."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = parts.hostname, parts.port

    def run(self) -> None:
        """Serve until `stop`; in a thread of its own."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def wait_until_ready(self) -> None:
        """Return once `url` is known."""
        assert self._ready.wait(10)

    def stop(self) -> None:
        """Let `run` return."""
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0, ssl=self._context)
        self.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stopped.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._target is not None
        there = await asyncio.open_connection(*self._target)
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()
    writer.close()


@contextmanager
def opened_front(folder: Path) -> Iterator[Front]:
    """Give a front that accepts connections."""
    front = Front(folder)
    thread = threading.Thread(target=front.run)
    thread.start()
    front.wait_until_ready()
    try:
        yield front
    finally:
        front.stop()
        thread.join()
