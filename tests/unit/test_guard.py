"""No URL opens a socket to an address that is not public: every one here meets stub seams."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.errors import DownloadFailed, UrlRefused
from sayso.media.fetch import Fetcher, FetchLimits
from sayso.media.guard import GuardedTransport, checked_url, is_public
from sayso.media.intake import Intake
from sayso.settings import Peer

pytestmark = pytest.mark.anyio

PUBLIC = "93.184.215.14"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class StubNet:
    """The two seams: names have the addresses of a table, connections are recorded."""

    names: dict[str, list[list[str]]] = field(default_factory=dict)
    answers: list[bytes] = field(default_factory=list)
    unreachable: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)
    opened: list[tuple[str, int]] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        turns = self.names.get(host, [[PUBLIC]])
        return turns.pop(0) if len(turns) > 1 else turns[0]

    async def connect(
        self, address: str, port: int, *, timeout_s: float | None
    ) -> httpcore.AsyncNetworkStream:
        self.opened.append((address, port))
        if address in self.unreachable:
            raise httpcore.ConnectError(address)
        return httpcore.AsyncMockStream([self.answers.pop(0) if self.answers else OK])

    def transport(self, trusted_peers: Sequence[Peer] = ()) -> GuardedTransport:
        return GuardedTransport(
            trusted_peers=trusted_peers, resolver=self.resolve, connector=self.connect
        )


@pytest.fixture
def net() -> StubNet:
    return StubNet()


@pytest.fixture
async def fetcher(net: StubNet, tmp_path: Path) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(Intake(tmp_path), transport=net.transport())
    yield fetcher
    await fetcher.aclose()


async def text_of(fetcher: Fetcher, url: str) -> str:
    async with fetcher.fetch(url, max_bytes=1000) as arrival:
        return arrival.path.read_text()


NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:93.184.215.14",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "2a00:1450::200e"],
)
def test_a_public_address_is_known(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses())
def test_nothing_that_the_standard_library_knows_as_special_is_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    special = (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
    )
    if special:
        assert not is_public(str(address))


HOSTILE = [
    # Loopback and its many spellings.
    "http://127.0.0.1/",
    "http://127.0.0.1:443/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://a.localhost/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://0/",
    "http://0.0.0.0/",
    "http://127.0.0.1./",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://①②⑦.0.0.1/",
    "http://%31%32%37.0.0.1/",
    # The same in IPv6.
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    # Private networks and clouds' metadata.
    "http://10.0.0.1/",
    "http://192.168.0.1/admin",
    "http://172.16.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://metadata.google.internal/",
    "http://printer.local/",
    "http://wiki.corp/",
    "http://intranet/",
    "http://nas.home.arpa/",
    # What a parser may read otherwise than a person.
    "http://user@93.184.215.14/",
    "http://user:secret@example.com/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1?@example.com/",
    "http://exa mple.com/",
    "http://example.com\r\nHost: 127.0.0.1/",
    "http://example.com\x00.internal/",
    "http:///127.0.0.1/",
    "http:127.0.0.1",
    "//127.0.0.1/",
    "http://",
    "http://[::1/",
    "http://example.com:99999/",
    "http://example.com:http/",
    # Other ports and schemes.
    "http://example.com:22/",
    "http://example.com:25/",
    "http://example.com:6379/",
    "http://example.com:0/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "dict://127.0.0.1:11211/stat",
    "unix:///var/run/docker.sock",
    "jar:http://example.com!/a",
    "javascript:alert(1)",
    "blob:http://example.com/1",
    "",
    "/files/a",
    "example.com",
    "http://example.com/" + "a" * 9000,
]


@pytest.mark.parametrize("url", HOSTILE)
async def test_a_hostile_url_is_refused_and_opens_no_socket(
    url: str, fetcher: Fetcher, net: StubNet
) -> None:
    with pytest.raises(UrlRefused) as caught:
        await text_of(fetcher, url)

    assert str(caught.value).endswith(".")
    assert net.opened == []
    assert net.asked == []


# Without a host, a redirect stays where it is.
LEADING_AWAY = [url for url in HOSTILE if re.match("[a-z]+://[^/]", url)]


@pytest.mark.parametrize("url", LEADING_AWAY)
async def test_a_redirect_to_a_hostile_url_is_refused(
    url: str, fetcher: Fetcher, net: StubNet
) -> None:
    location = url.encode("utf-8", "replace").replace(b"\r\n", b"%0d%0a").replace(b"\x00", b"%00")
    net.answers = [b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n"]

    with pytest.raises((UrlRefused, DownloadFailed)):
        await text_of(fetcher, "http://example.com/a.png")

    assert net.opened == [(PUBLIC, 80)]


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_a_name_with_an_inner_address_is_refused(
    address: str, fetcher: Fetcher, net: StubNet
) -> None:
    net.names = {"innocent.example": [[address]]}

    with pytest.raises(UrlRefused, match="not on the public internet"):
        await text_of(fetcher, "http://innocent.example/")

    assert net.opened == []


async def test_one_inner_address_among_public_ones_is_enough_to_refuse(
    fetcher: Fetcher, net: StubNet
) -> None:
    net.names = {"mixed.example": [[PUBLIC, "1.1.1.1", "10.0.0.1"]]}

    with pytest.raises(UrlRefused):
        await text_of(fetcher, "http://mixed.example/")

    assert net.opened == []


async def test_a_name_is_resolved_once_and_the_checked_address_is_used(
    fetcher: Fetcher, net: StubNet
) -> None:
    net.names = {"rebinding.example": [[PUBLIC], ["127.0.0.1"]]}

    assert await text_of(fetcher, "http://rebinding.example/") == "file"

    assert net.asked == ["rebinding.example"]
    assert net.opened == [(PUBLIC, 80)]


async def test_a_name_that_rebinds_between_redirects_is_refused(
    fetcher: Fetcher, net: StubNet
) -> None:
    net.names = {"rebinding.example": [[PUBLIC], ["169.254.169.254"]]}
    net.answers = [b"HTTP/1.1 302 Found\r\nLocation: http://rebinding.example/2\r\n\r\n"]

    with pytest.raises(UrlRefused):
        await text_of(fetcher, "http://rebinding.example/1")

    assert net.opened == [(PUBLIC, 80)]


async def test_each_request_on_its_own_resolves_anew(fetcher: Fetcher, net: StubNet) -> None:
    net.names = {"rebinding.example": [[PUBLIC], ["127.0.0.1"]]}

    assert await text_of(fetcher, "http://rebinding.example/") == "file"
    with pytest.raises(UrlRefused):
        await text_of(fetcher, "http://rebinding.example/")


async def test_the_next_address_is_tried_when_one_does_not_answer(
    fetcher: Fetcher, net: StubNet
) -> None:
    net.names = {"example.com": [["1.1.1.1", PUBLIC]]}
    net.unreachable = frozenset({"1.1.1.1"})

    assert await text_of(fetcher, "http://example.com/") == "file"
    assert net.opened == [("1.1.1.1", 80), (PUBLIC, 80)]


async def test_only_a_few_addresses_are_tried(fetcher: Fetcher, net: StubNet) -> None:
    many = [f"1.1.1.{n}" for n in range(1, 50)]
    net.names = {"example.com": [many]}
    net.unreachable = frozenset(many)

    with pytest.raises(DownloadFailed) as caught:
        await text_of(fetcher, "http://example.com/")

    assert caught.value.may_retry
    assert len(net.opened) == 3


async def test_a_name_without_an_address_is_a_failed_download(tmp_path: Path) -> None:
    async def nobody(host: str, port: int) -> Sequence[str]:
        raise OSError("no such host")

    net = StubNet()
    transport = GuardedTransport(resolver=nobody, connector=net.connect)

    with pytest.raises(DownloadFailed, match=r"missing\.example"):
        await text_of(Fetcher(Intake(tmp_path), transport=transport), "http://missing.example/")


async def test_a_name_that_nobody_answers_for_in_time_is_a_failed_download(tmp_path: Path) -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return [PUBLIC]

    async def without_addresses(host: str, port: int) -> Sequence[str]:
        return []

    for resolver, reason in ((silent, "does not answer"), (without_addresses, "not be fetched")):
        net = StubNet()
        transport = GuardedTransport(resolver=resolver, connector=net.connect)
        limits = FetchLimits(connect_s=0.05)
        fetcher = Fetcher(Intake(tmp_path), transport=transport, limits=limits)
        with pytest.raises(DownloadFailed, match=reason):
            await text_of(fetcher, "http://slow.example/")
        assert net.opened == []


async def test_a_trusted_peer_may_be_private_and_on_any_port(net: StubNet, tmp_path: Path) -> None:
    trusted = (Peer("media.internal", 9000), Peer("127.0.0.1", 8000), Peer("::1", 8000))
    net.names = {"media.internal": [["10.0.0.5"]]}
    fetcher = Fetcher(Intake(tmp_path), transport=net.transport(trusted), trusted_peers=trusted)

    for url in ("http://media.internal:9000/", "http://127.0.0.1:8000/", "http://[::1]:8000/a"):
        assert await text_of(fetcher, url) == "file"
    assert net.opened == [("10.0.0.5", 9000), ("127.0.0.1", 8000), ("::1", 8000)]


@pytest.mark.parametrize(
    "url",
    [
        "http://media.internal/",
        "http://media.internal:9001/",
        "http://other.internal:9000/",
        "http://10.0.0.5:9000/",
        "http://media.internal.example:9000/",
    ],
)
async def test_trust_is_in_the_exact_pair(url: str, net: StubNet, tmp_path: Path) -> None:
    trusted = (Peer("media.internal", 9000),)
    net.names = {"media.internal": [["10.0.0.5"]]}
    fetcher = Fetcher(Intake(tmp_path), transport=net.transport(trusted), trusted_peers=trusted)

    with pytest.raises(UrlRefused):
        await text_of(fetcher, url)

    assert net.opened == []


async def test_the_transport_alone_refuses_as_well(net: StubNet) -> None:
    async with httpx.AsyncClient(transport=net.transport()) as client:
        for url in ("http://127.0.0.1/", "http://10.0.0.1:5432/", "http://db.internal/"):
            with pytest.raises(UrlRefused):
                await client.post(url, content=b"webhook")

    assert net.opened == []


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a%20b.png?x=1#fragment",
        "http://EXAMPLE.com:8080/",
        "https://bücher.example/",
        "https://93.184.215.14/",
        "https://[2606:4700::1111]/",
        "https://a_b.s3.amazonaws.com/x",
        "https://example.com./x",
    ],
)
def test_an_ordinary_url_passes(url: str) -> None:
    assert checked_url(url).host


@given(st.text(max_size=50), st.sampled_from(["http://", "https://", ""]))
def test_any_text_is_either_refused_or_a_url(text: str, scheme: str) -> None:
    try:
        url = checked_url(scheme + text)
    except UrlRefused:
        return
    assert url.scheme in {"http", "https"}
    assert not url.userinfo
