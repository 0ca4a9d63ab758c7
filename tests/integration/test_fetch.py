"""What a server may do to a fetch: an own server on loopback, which is a trusted peer here."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from sayso.errors import DownloadFailed, DownloadTooLarge, StoreUnavailable, UrlRefused
from sayso.media.fetch import Fetcher, FetchLimits
from sayso.media.guard import GuardedTransport
from sayso.media.intake import Intake
from sayso.settings import Peer, Settings

pytestmark = pytest.mark.anyio

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
HASTY = FetchLimits(connect_s=10, idle_s=0.4, total_s=1.5)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class FaultyServer:
    """Answers each path as told, one request a connection."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            await self.answers[head.split()[1]](writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client had enough, which is what most tests are about.
        finally:
            writer.close()

    def says(self, path: str, text: bytes) -> None:
        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.write(text)
            await writer.drain()

        self.answers[path] = answer

    def gives(self, path: str, body: bytes, *, headers: str = "") -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.says(path, head.encode() + body)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    faulty = FaultyServer()
    listener = await asyncio.start_server(faulty.serve, "127.0.0.1", 0)
    faulty.port = listener.sockets[0].getsockname()[1]
    yield faulty
    listener.close()


@pytest.fixture
async def fetcher(server: FaultyServer, tmp_path: Path) -> AsyncIterator[Fetcher]:
    async with opened(server, tmp_path / "intake", FetchLimits()) as fetcher:
        yield fetcher


@pytest.fixture
async def hasty(server: FaultyServer, tmp_path: Path) -> AsyncIterator[Fetcher]:
    """One that waits for nothing, for what is never to come."""
    async with opened(server, tmp_path / "intake", HASTY) as fetcher:
        yield fetcher


@asynccontextmanager
async def opened(server: FaultyServer, folder: Path, limits: FetchLimits) -> AsyncIterator[Fetcher]:
    peer = Peer("127.0.0.1", server.port)
    fetcher = Fetcher(Intake(folder), limits=limits, trusted_peers=[peer])
    yield fetcher
    await fetcher.aclose()
    assert list(folder.iterdir()) == []  # noqa: ASYNC240 (in a test nobody waits)


async def fetch(fetcher: Fetcher, url: str, *, max_bytes: int = 100_000) -> bytes:
    async with fetcher.fetch(url, max_bytes=max_bytes) as arrival:
        content = arrival.path.read_bytes()
        assert arrival.size_bytes == len(content)
        assert arrival.sha256 == hashlib.sha256(content).hexdigest()
        return content


async def test_a_file_arrives_with_its_size_and_digest(
    server: FaultyServer, fetcher: Fetcher
) -> None:
    server.gives("/a?b=c", b"picture" * 1000)

    assert await fetch(fetcher, server.url("/a?b=c")) == b"picture" * 1000
    assert "cookie" not in server.heads[0].lower()
    assert "accept-encoding: identity" in server.heads[0].lower()


async def test_chunks_are_put_together(server: FaultyServer, fetcher: Fetcher) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.says("/a", head + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")

    assert await fetch(fetcher, server.url("/a")) == b"abcdefg"


async def test_three_redirects_are_followed_and_a_fourth_is_not(
    server: FaultyServer, fetcher: Fetcher
) -> None:
    for n in range(4):
        status = (301, 302, 307, 308)[n]
        server.says(f"/{n}", f"HTTP/1.1 {status} Moved\r\nLocation: /{n + 1}\r\n\r\n".encode())
    server.gives("/4", b"there")

    assert await fetch(fetcher, server.url("/1")) == b"there"
    with pytest.raises(UrlRefused, match="more than 3 times"):
        await fetch(fetcher, server.url("/0"))


async def test_a_redirect_in_a_circle_ends(server: FaultyServer, fetcher: Fetcher) -> None:
    server.says("/a", b"HTTP/1.1 302 Found\r\nLocation: /a\r\n\r\n")

    with pytest.raises(UrlRefused):
        await fetch(fetcher, server.url("/a"))
    assert len(server.heads) == 4


async def test_cookies_are_not_kept(server: FaultyServer, fetcher: Fetcher) -> None:
    server.says("/a", b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b; Path=/\r\nLocation: /b\r\n\r\n")
    server.gives("/b", b"there")

    await fetch(fetcher, server.url("/a"))

    assert "cookie" not in server.heads[1].lower()


async def test_a_redirect_away_from_the_trusted_peer_is_refused(
    server: FaultyServer, fetcher: Fetcher
) -> None:
    server.says("/a", b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n")

    with pytest.raises(UrlRefused, match=r"169\.254\.169\.254"):
        await fetch(fetcher, server.url("/a"))


@pytest.mark.parametrize(
    ("status", "may_retry"),
    [
        *((status, False) for status in (204, 206, 304, 403, 404, 410, 599)),
        *((status, True) for status in (408, 429, 500, 503)),
    ],
)
async def test_a_refusal_carries_its_status(
    server: FaultyServer, fetcher: Fetcher, *, status: int, may_retry: bool
) -> None:
    server.says("/a", f"HTTP/1.1 {status} <b>x</b>\r\nContent-Length: 0\r\n\r\n".encode())

    with pytest.raises(DownloadFailed, match=f"127.0.0.1 answered {status}") as caught:
        await fetch(fetcher, server.url("/a"))

    assert caught.value.status == status
    assert caught.value.may_retry is may_retry
    assert "<b>" not in str(caught.value)


async def test_an_announced_size_above_the_limit_is_not_read(
    server: FaultyServer, fetcher: Fetcher
) -> None:
    server.says("/a", b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\n")

    with pytest.raises(DownloadTooLarge, match="larger than"):
        await fetch(fetcher, server.url("/a"))


async def test_a_body_without_end_stops_at_the_limit(
    server: FaultyServer, fetcher: Fetcher
) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    server.answers["/a"] = endless

    with pytest.raises(DownloadTooLarge):
        await fetch(fetcher, server.url("/a"), max_bytes=1_000_000)


async def test_exactly_the_limit_is_taken(server: FaultyServer, fetcher: Fetcher) -> None:
    server.gives("/a", b"x" * 1000)

    assert len(await fetch(fetcher, server.url("/a"), max_bytes=1000)) == 1000
    with pytest.raises(DownloadTooLarge):
        await fetch(fetcher, server.url("/a"), max_bytes=999)


async def test_a_body_that_drips_meets_the_total_deadline(
    server: FaultyServer, hasty: Fetcher
) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    server.answers["/a"] = drip
    began_s = time.monotonic()

    with pytest.raises(DownloadFailed, match=r"took longer than 1\.5 s") as caught:
        await fetch(hasty, server.url("/a"))

    assert caught.value.may_retry
    assert 1.4 < time.monotonic() - began_s < 20


async def test_headers_that_drip_meet_the_total_deadline(
    server: FaultyServer, hasty: Fetcher
) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-A: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    server.answers["/a"] = drip

    with pytest.raises(DownloadFailed, match=r"took longer than 1\.5 s"):
        await fetch(hasty, server.url("/a"))


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
async def test_a_server_that_falls_silent_is_given_up(
    server: FaultyServer, hasty: Fetcher, beginning: bytes
) -> None:
    async def stall(writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        await writer.drain()
        await asyncio.sleep(3)

    server.answers["/a"] = stall

    with pytest.raises(DownloadFailed, match="does not answer"):
        await fetch(hasty, server.url("/a"))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"a" * 300_000 + b"\r\n\r\n",
    ],
)
async def test_an_answer_that_is_damaged_is_a_failed_download(
    server: FaultyServer, fetcher: Fetcher, answer: bytes
) -> None:
    server.says("/a", answer)

    with pytest.raises(DownloadFailed, match=r"could not be fetched from 127\.0\.0\.1"):
        await fetch(fetcher, server.url("/a"))


async def test_a_compressed_body_is_not_unpacked(server: FaultyServer, fetcher: Fetcher) -> None:
    server.gives("/a", b"bomb", headers="Content-Encoding: gzip\r\n")

    with pytest.raises(DownloadFailed, match="compressed"):
        await fetch(fetcher, server.url("/a"))


async def test_a_canceled_fetch_leaves_no_file(
    server: FaultyServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    async def stall(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await writer.drain()
        await asyncio.sleep(3)

    server.answers["/a"] = stall
    task = asyncio.create_task(fetch(fetcher, server.url("/a")))
    await asyncio.sleep(0.1)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert list((tmp_path / "intake").iterdir()) == []


async def test_a_connection_refused_is_a_failed_download(tmp_path: Path) -> None:
    fetcher = Fetcher(Intake(tmp_path), trusted_peers=[Peer("127.0.0.1", 9)])

    with pytest.raises(DownloadFailed) as caught:
        await fetch(fetcher, "http://127.0.0.1:9/")
    assert caught.value.status is None


async def test_a_data_url_arrives_like_a_file(fetcher: Fetcher) -> None:
    assert await fetch(fetcher, "data:image/png;base64,aGVsbG8=") == b"hello"


async def test_a_folder_that_is_gone_is_no_room(tmp_path: Path) -> None:
    fetcher = Fetcher(Intake(tmp_path / "intake"))
    (tmp_path / "intake").rmdir()

    with pytest.raises(StoreUnavailable):
        await fetch(fetcher, "data:image/png;base64,aGVsbG8=")


@pytest.mark.parametrize(("named", "arrives"), [("media.example", True), ("evil.example", False)])
async def test_tls_is_checked_against_the_name_although_the_address_is_dialled(
    tmp_path: Path, *, named: str, arrives: bool
) -> None:
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("media.example").configure_cert(theirs)
    authority.configure_trust(ours)
    faulty = FaultyServer()
    faulty.gives("/a", b"safe")
    listener = await asyncio.start_server(faulty.serve, "127.0.0.1", 0, ssl=theirs)
    peer = Peer(named, listener.sockets[0].getsockname()[1])

    async def to_loopback(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    transport = GuardedTransport(trusted_peers=[peer], resolver=to_loopback, ssl_context=ours)
    fetcher = Fetcher(Intake(tmp_path), transport=transport, trusted_peers=[peer])

    if arrives:
        assert await fetch(fetcher, f"https://{peer.host}:{peer.port}/a") == b"safe"
        assert f"Host: {peer.host}" in faulty.heads[0]
    else:
        with pytest.raises(DownloadFailed):
            await fetch(fetcher, f"https://{peer.host}:{peer.port}/a")
    listener.close()


def test_the_limits_are_the_operators() -> None:
    settings = Settings(fetch_connect_s=1, fetch_idle_s=2, fetch_total_s=3, fetch_redirects=4)

    assert FetchLimits.of(settings) == FetchLimits(connect_s=1, idle_s=2, total_s=3, redirects=4)
