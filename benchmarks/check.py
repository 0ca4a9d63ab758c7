"""What a look at a generation costs, beside a constant reply of the same server.

`GET /api/check-lipsync` over 64 connections that ask again as soon as they are answered, and the
same for `/livez`, in turns, so that a busy machine is busy for both. The service runs in a process
of its own and carries one generation whose provider never ends. At the end the provider hangs: a
look must not notice.

    python -m benchmarks check

| figure | goal |
|---|---|
| looks a second, as a share of constant replies | 0.5 on SQLite, 0.15 on PostgreSQL |
| the same while the provider hangs | the same |
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import IO, Any, Final, cast
from urllib.parse import urlsplit

import httpx
import structlog
from pydantic import SecretStr

from benchmarks.reconciler import database_url
from sayso.clock import SystemClock
from sayso.http.serving import run_on_loop, running_service
from sayso.providers.scripted import Script, ScriptedProvider
from sayso.settings import Settings

CONNECTIONS: Final = 64
ROUNDS: Final = 6
ROUND_S: Final = 1.0
EXAMPLES: Final = Path(__file__).resolve().parent.parent / "examples"
GOALS: Final = {"sqlite": 0.5, "postgresql": 0.15}

MODELS: Final = """
["bench/scripted"]
provider = "scripted"
description = "never ends"
rate_micros = 20000
price_read_on = 2026-11-22
deadline_s = 86400
typical_start_s = 0
typical_s_per_speech_s = 0.001
"""


@dataclass
class Load:
    """What one kind of request came to, over all rounds."""

    per_s: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    def line(self) -> list[str]:
        """Return the figures of a table's row."""
        percentiles = quantiles(self.latencies_ms, n=100)
        return [
            f"{median(self.per_s):,.0f}",
            f"{min(self.cpu_us):.0f}",
            f"{percentiles[49]:.1f}",
            f"{percentiles[98]:.1f}",
        ]


@dataclass
class Served:
    """The service's process."""

    url: str
    generation_id: str
    process: subprocess.Popen[str]

    def say(self, word: str) -> str:
        """Say a word to the process; return the processor seconds that it has used."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


def main() -> None:
    print("| | requests/s | server CPU, us | p50, ms | p99, ms | share | goal |")
    print("|---|---|---|---|---|---|---|")
    for kind in GOALS:
        with served(kind) as service:
            measure(kind, service)


def measure(kind: str, service: Served) -> None:
    look = f"/api/check-lipsync?prediction_id={service.generation_id}"
    paths = {"constant": "/livez", "look": look}
    loads = run_on_loop(rounds(service, paths))
    service.say("hang")
    hanging = run_on_loop(rounds(service, paths))
    print_row(f"{kind}: constant reply", loads["constant"], 1.0, "the limit")
    print_row(f"{kind}: look", loads["look"], share(loads), str(GOALS[kind]))
    print_row(f"{kind}: look, provider hangs", hanging["look"], share(hanging), str(GOALS[kind]))


def share(loads: dict[str, Load]) -> float:
    """Return looks as a share of constant replies: the middle one of neighbouring rounds."""
    pairs = zip(loads["look"].per_s, loads["constant"].per_s, strict=True)
    return median(look / constant for look, constant in pairs)


def print_row(name: str, load: Load, part: float, goal: str) -> None:
    print("| " + " | ".join([name, *load.line(), f"{part:.2f}", goal]) + " |", flush=True)


async def rounds(service: Served, paths: dict[str, str]) -> dict[str, Load]:
    loads = {name: Load() for name in paths}
    for number in range(ROUNDS + 1):
        for name, path in paths.items():
            before = float(service.say("cpu"))
            begun = time.perf_counter()
            latencies = await load(service.url, path)
            took = time.perf_counter() - begun
            cpu = float(service.say("cpu")) - before
            if number:  # The first round warms up.
                loads[name].per_s.append(len(latencies) / took)
                loads[name].cpu_us.append(1e6 * cpu / len(latencies))
                loads[name].latencies_ms += [1_000 * latency for latency in latencies]
    return loads


async def load(url: str, path: str) -> list[float]:
    """Ask over many connections for a while; return how long each answer took, in seconds."""
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    request = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    end = time.perf_counter() + ROUND_S
    askers = []
    for _ in range(CONNECTIONS):
        _, asker = await loop.create_connection(
            lambda: Asker(request, end), place.hostname, place.port
        )
        askers.append(asker)
    await asyncio.gather(*(asker.done for asker in askers))
    return [latency for asker in askers for latency in asker.latencies]


class Asker(asyncio.Protocol):
    """One connection: asks, waits for the whole answer, asks again."""

    def __init__(self, request: bytes, end: float) -> None:
        self._request = request
        self._end = end
        self._answer = bytearray()
        self._asked_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name.
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Wait for the whole answer, then ask again."""
        self._answer += data
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        self.latencies.append(time.perf_counter() - self._asked_at)
        self._answer.clear()
        if time.perf_counter() < self._end:
            self._ask()
        else:
            assert self._transport is not None
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the run when the server left early."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server hung up"))

    def _ask(self) -> None:
        assert self._transport is not None
        self._asked_at = time.perf_counter()
        self._transport.write(self._request)


@contextmanager
def served(kind: str) -> Iterator[Served]:
    """Run the service in a process of its own; it ends with its standard input."""
    command = [sys.executable, "-m", "benchmarks.check", kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Served(told["url"], told["id"], process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def serve(kind: str, folder: Path, words: IO[str]) -> None:
    """Serve one generation, and do what is said on standard input."""
    models = folder / "models.toml"
    models.write_text(MODELS, encoding="utf-8")
    provider = ScriptedProvider(SystemClock(), Script(start_s=0, end="never"))
    with database_url(kind, folder) as url:
        settings = Settings(
            data=folder / "data", database_url=SecretStr(url), models=models, render_children=0
        )
        with running_service(settings, providers=[provider]) as address:
            print(json.dumps({"url": address, "id": started(address)}), flush=True)
            for word in words:
                if word.strip() == "hang":
                    provider.hold_calls()
                print(time.process_time(), flush=True)
            provider.resume_calls()


def started(address: str) -> str:
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
        urls: dict[str, Any] = {"model": "bench/scripted"}
        for name, path in (("imageUrl", "portrait.jpg"), ("audioUrl", "speech.ogg")):
            with (EXAMPLES / path).open("rb") as file:
                urls[name] = http.post("/api/uploads", files={"file": file}).json()["url"]
        answer = http.post("/api/generate-lipsync", json=urls).raise_for_status().json()
        query = {"prediction_id": answer["prediction_id"]}
        while http.get("/api/check-lipsync", params=query).json()["progress"]["percent"] < 90:
            time.sleep(0.2)
        return str(answer["prediction_id"])


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as name:
        serve(sys.argv[1], Path(name), sys.stdin)
