"""The guard: which URLs of other people's we talk to, held at the socket.

    checked_url()        the rules that need no network: scheme, user name, host, port, spelling
    is_public()          whether an address is one of the public internet
    GuardedTransport     an httpx transport that resolves a name once, refuses it unless every
                         address is public, and connects to the very address that it checked
    Resolver, Connector  the two seams: where addresses come from, how a socket is opened

The check sits below TLS and HTTP, so a name that answers differently the second time (DNS
rebinding), a redirect, or a spelling that one parser reads otherwise than another cannot get past
it: no socket is opened to an address that was not checked. Pairs that the operator trusts are
exempt, by the host as the URL writes it and the port. Proxies of the environment are not used.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Protocol

import httpcore
import httpx

from sayso.errors import UrlRefused
from sayso.settings import Peer

MAX_URL_LENGTH: Final = 8192

# Where the public web is served; anything else needs a trusted peer.
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PORTS: Final = frozenset({80, 443, 8080, 8443})
_ADDRESSES_TRIED: Final = 3
_MAX_CONNECTIONS: Final = 100

# IANA's special-purpose IPv4 registry, with multicast and class E. Written out, as `ipaddress`
# judges some of them differently from version to version.
_NOT_PUBLIC_V4: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # Shared address space; a cloud's metadata is at 100.100.100.200.
        "127.0.0.0/8",
        "168.63.129.16/32",  # A public address that is a cloud's own inside it.
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",  # A cloud's metadata is at 192.0.0.192.
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
# All global unicast IPv6 lies in 2000::/3. Within it, these are not plain hosts; those that carry
# an IPv4 address inside (6to4, Teredo) could stand for a private one. NAT64 lies outside.
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)

# Names that mean something inside a network only.
_INNER_NAMES: Final = (
    ".localhost", ".local", ".internal", ".intranet", ".lan", ".home", ".corp", ".private",
    ".home.arpa", ".onion",
)  # fmt: skip
_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]+")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f\\]")


class Resolver(Protocol):
    """Turns a host name into addresses; raises `OSError` when there are none."""

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return every address of the name as text."""
        ...


class Connector(Protocol):
    """Opens a connection to an address; raises httpcore's errors."""

    async def __call__(
        self, address: str, port: int, *, timeout_s: float | None
    ) -> httpcore.AsyncNetworkStream:
        """Return a connected stream."""
        ...


def is_public(address: str) -> bool:
    """Tell whether text is an address of a host on the public internet."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    match parsed:
        case IPv4Address():
            return not any(parsed in network for network in _NOT_PUBLIC_V4)
        case IPv6Address():
            return (
                parsed.scope_id is None
                and parsed in _GLOBAL_V6
                and not any(parsed in network for network in _NOT_PUBLIC_V6)
            )


def checked_url(text: str, *, trusted_peers: Collection[Peer] = ()) -> httpx.URL:
    """Return a URL that may be asked; raise `UrlRefused` with a sentence that says why not.

    What needs a name's addresses is checked at connect time by `GuardedTransport`.
    """
    if len(text) > MAX_URL_LENGTH:
        raise UrlRefused(f"The URL is longer than {MAX_URL_LENGTH} characters.")
    if _UNPRINTABLE.search(text):
        raise UrlRefused("The URL holds a space, a backslash or a control character.")
    try:
        url = httpx.URL(text)
        host, port = _host_of(url), url.port
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise UrlRefused("That is not a URL.") from None
    if url.scheme not in _DEFAULT_PORTS:
        raise UrlRefused("Only http and https URLs are fetched.")
    if url.userinfo:
        raise UrlRefused("A URL with a user name or password is not fetched.")
    peer = Peer(host, _DEFAULT_PORTS[url.scheme] if port is None else port)
    if peer not in trusted_peers:
        _check_peer(peer)
    return url


class GuardedTransport(httpx.AsyncBaseTransport):
    """An httpx transport whose connections go to public addresses and trusted peers only.

    A connection serves one request, so each request is checked. Raises `UrlRefused` where the
    guard refuses, otherwise httpx's errors.
    """

    def __init__(
        self,
        *,
        trusted_peers: Collection[Peer] = (),
        resolver: Resolver | None = None,
        connector: Connector | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or httpx.create_ssl_context(trust_env=False),
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=0,
            network_backend=_GuardedBackend(
                trusted_peers=frozenset(trusted_peers),
                resolver=resolver or _resolve,
                connector=connector or _connect,
            ),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, given that the guard lets it out."""
        assert isinstance(request.stream, httpx.AsyncByteStream)
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        with _as_httpx_errors():
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        """Close what is still open."""
        await self._pool.aclose()


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore: resolve once, check every address, connect to one."""

    def __init__(
        self, *, trusted_peers: frozenset[Peer], resolver: Resolver, connector: Connector
    ) -> None:
        self._trusted_peers = trusted_peers
        self._resolver = resolver
        self._connector = connector

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature.
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        assert local_address is None
        assert socket_options is None
        peer = Peer(host.lower().strip("[]"), port)
        is_trusted = peer in self._trusted_peers
        if not is_trusted:
            _check_peer(peer)
        addresses = await self._addresses_of(peer, timeout_s=timeout)
        if not is_trusted and not all(is_public(address) for address in addresses):
            raise UrlRefused(f"{peer.host} is not on the public internet.")
        return await self._first_of(addresses[:_ADDRESSES_TRIED], port, timeout_s=timeout)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _addresses_of(self, peer: Peer, *, timeout_s: float | None) -> Sequence[str]:
        if _is_address(peer.host):
            return [peer.host]
        try:
            async with asyncio.timeout(timeout_s):
                addresses = await self._resolver(peer.host, peer.port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{peer.host} has no address") from error
        if not addresses:
            raise httpcore.ConnectError(f"{peer.host} has no address")
        return addresses

    async def _first_of(
        self, addresses: Sequence[str], port: int, *, timeout_s: float | None
    ) -> httpcore.AsyncNetworkStream:
        for address in addresses[:-1]:
            try:
                return await self._connector(address, port, timeout_s=timeout_s)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._connector(addresses[-1], port, timeout_s=timeout_s)


class _Body(httpx.AsyncByteStream):
    """The body of an answer, with httpx's errors."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors():
            async for chunk in self._answer.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()


def _host_of(url: httpx.URL) -> str:
    """Return the host as it goes over the wire: in lower case, a name in its ASCII form."""
    return url.raw_host.decode("ascii").lower().strip("[]")


def _check_peer(peer: Peer) -> None:
    """Refuse what needs no resolver to be refused: an odd port, an address or name from inside."""
    if peer.port not in _PORTS:
        raise UrlRefused(f"Nothing is fetched from port {peer.port}.")
    if _is_address(peer.host):
        if not is_public(peer.host):
            raise UrlRefused(f"{peer.host} is not on the public internet.")
    elif _HOST_NAME.fullmatch(peer.host.rstrip(".")) is None:
        raise UrlRefused("The URL does not name a host of the public internet.")
    elif f".{peer.host.rstrip('.')}".endswith(_INNER_NAMES):
        raise UrlRefused(f"{peer.host} is not on the public internet.")
    elif peer.host.rstrip(".").rpartition(".")[2][0].isdigit():
        # `0x7f.1`, `2130706433` and `127.1` are addresses to some resolvers and names to others.
        raise UrlRefused("The URL's address is not written as four numbers.")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _resolve(host: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def _connect(
    address: str, port: int, *, timeout_s: float | None
) -> httpcore.AsyncNetworkStream:
    return await httpcore.AnyIOBackend().connect_tcp(address, port, timeout=timeout_s)


# The order matters: the first that fits is taken.
_HTTPX_ERRORS: Final = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.ReadTimeout, httpx.ReadTimeout),
    (httpcore.WriteTimeout, httpx.WriteTimeout),
    (httpcore.PoolTimeout, httpx.PoolTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.ReadError, httpx.ReadError),
    (httpcore.WriteError, httpx.WriteError),
    (httpcore.RemoteProtocolError, httpx.RemoteProtocolError),
    (httpcore.ProtocolError, httpx.ProtocolError),
    (httpcore.NetworkError, httpx.NetworkError),
)


@contextmanager
def _as_httpx_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        for theirs, ours in _HTTPX_ERRORS:
            if isinstance(error, theirs):
                raise ours(str(error)) from error
        raise
