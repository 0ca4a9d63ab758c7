"""The doors in a process: bind, open the services, serve, drain.

    serve()             until asked to stop; `on_ready` is told the address
    opened_services()   the services of a process; drained in time when it stops
    running_service()   the same in a thread of its own, for `sayso demo` and for tests
    until_signaled()    an event that SIGTERM or Ctrl-C sets

To stop is: take no new connections, end event streams and waits (their readers come back), let
requests finish for a while, then hand back what is being worked on. Nothing is lost if that is cut
short: whoever starts next continues.
"""

from __future__ import annotations

import asyncio
import queue
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final, Literal, TypeVar

import structlog
import uvicorn

from sayso.errors import OptionInvalid
from sayso.http.app import begin_closing, make_app
from sayso.http.auth import is_loopback
from sayso.providers.base import Provider
from sayso.settings import Settings
from sayso.wiring import ALL_ROLES, Role, Services, open_services

T = TypeVar("T")

_log: Final = structlog.get_logger("sayso.http")

_DRAIN_S: Final = 10
_HAND_BACK_S: Final = 15
_BACKLOG: Final = 4096
_START_S: Final = 60


async def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
    roles: Collection[Role] = ALL_ROLES,
    providers: Sequence[Provider] = (),
) -> None:
    """Serve until `stop` is set; port 0 takes a free one.

    Raises `OptionInvalid` when the address cannot be bound, or may not be without a key, and
    whatever opening the services raises.
    """
    with _bound(host, port, settings) as listener:
        async with opened_services(settings, roles=roles, providers=providers) as services:
            app = make_app(services)
            server = _Server(
                uvicorn.Config(
                    app,
                    http=_protocol(),
                    ws="none",
                    lifespan="on",
                    access_log=False,
                    log_config=None,
                    server_header=False,
                    backlog=_BACKLOG,
                    timeout_graceful_shutdown=_DRAIN_S,
                )
            )
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            stopping = asyncio.create_task(stop.wait())
            await _until_started(server, serving)
            on_ready(_address(host, listener))
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            begin_closing(app)
            server.should_exit = True
            await serving


@asynccontextmanager
async def opened_services(
    settings: Settings, *, roles: Collection[Role] = ALL_ROLES, providers: Sequence[Provider] = ()
) -> AsyncIterator[Services]:
    """Open the services, and drain them when left, for as long as a process that stops may take.

    A provider that hangs must not keep it: what is not handed back is taken up when its lease ends.
    """
    async with AsyncExitStack() as stack:
        opening = open_services(settings, roles=roles, providers=providers)
        services = await stack.enter_async_context(opening)
        try:
            yield services
        finally:
            try:
                async with asyncio.timeout(_HAND_BACK_S):
                    await stack.aclose()
            except TimeoutError:
                _log.warning("something hangs and is left behind", waited_s=_HAND_BACK_S)


@contextmanager
def running_service(
    settings: Settings,
    *,
    roles: Collection[Role] = ALL_ROLES,
    providers: Sequence[Provider] = (),
    port: int = 0,
) -> Iterator[str]:
    """Run the service on this machine, port 0 being any free one; give its address.

    Stops when left.
    """
    ready: queue.Queue[str | BaseException] = queue.Queue()
    stops: list[Callable[[], None]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop_it() -> None:
            loop.call_soon_threadsafe(stop.set)

        stops.append(stop_it)
        await serve(
            settings,
            host="127.0.0.1",
            port=port,
            stop=stop,
            on_ready=ready.put,
            roles=roles,
            providers=providers,
        )

    def run() -> None:
        try:
            run_on_loop(main())
        except BaseException as error:  # noqa: BLE001 (raised in the thread that waits for it)
            ready.put(error)

    thread = threading.Thread(target=run, name="sayso-service")
    thread.start()
    try:
        address = ready.get(timeout=_START_S)
        if isinstance(address, BaseException):
            raise address
        yield address
    finally:
        for stop_it in stops:
            if thread.is_alive():
                stop_it()
        thread.join()


def run_on_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on the fastest loop there is."""
    try:
        import uvloop  # noqa: PLC0415 (it exists for CPython alone)
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def until_signaled() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def _protocol() -> type[asyncio.Protocol] | Literal["auto"]:
    """Return what reads requests; beside CPython it is h11, which has bounds of its own."""
    try:
        from sayso.http.patience import PatientProtocol  # noqa: PLC0415 (httptools may be missing)
    except ImportError:
        return "auto"
    return PatientProtocol


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _until_started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    while not server.started:
        if serving.done():
            serving.result()
            raise RuntimeError("the server ended before it had started")
        await asyncio.sleep(0.01)


@contextmanager
def _bound(host: str, port: int, settings: Settings) -> Iterator[socket.socket]:
    """Give a bound socket; refuse an address that others can reach while there is no key."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise OptionInvalid(f"--host {host} --port {port} is no address to bind.") from error
    if settings.api_key is None and not is_loopback(str(place[0])):
        raise OptionInvalid(
            f"--host {host} can be reached from other machines, and this service has no key. "
            "Set SAYSO_API_KEY (16 characters or more), or leave --host at 127.0.0.1."
        )
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
        except OSError as error:
            raise OptionInvalid(
                f"{host}:{port} cannot be bound: {error.strerror}. Choose another --port."
            ) from error
        yield listener


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
