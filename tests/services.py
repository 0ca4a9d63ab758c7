"""A service for tests: real HTTP on a free port of this machine, with the scripted provider.

    service     on SQLite and on PostgreSQL, one after the other
    quick       the same on SQLite alone, for what does not touch the database
    started()   one of a test's own, with other settings

`tests/conftest.py` takes the fixtures in. The two of them live as long as the run, because starting
one and decoding its inputs takes seconds: a test sees what earlier ones made, and asks `spent()`
for what changed since it began. The model `test/scripted` costs $0.02 a second and does what its
script says; the inputs are the repository's own sample, cut short.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import structlog
from PIL import Image
from pydantic import SecretStr

from sayso.clock import SystemClock
from sayso.http.serving import running_service
from sayso.media.audio import read_speech
from sayso.providers.scripted import Script, ScriptedProvider
from sayso.settings import Settings
from tests.databases import KINDS, PostgresServer

MODEL: Final = "test/scripted"
RATE: Final = "0.02"
SPEECH_S: Final = 1.25
SECONDS: Final = 2  # Billed: 1.25 s is two begun seconds.
PRICE: Final = "0.04"
PRICE_MICROS: Final = 40_000
OPENING: Final = "5.00"

_MODELS: Final = f"""
["{MODEL}"]
provider = "scripted"
description = "Does what it is told."
rate_micros = 20000
price_read_on = 2026-11-22
typical_start_s = 0
typical_s_per_speech_s = 1
prompt_default = "person talking"
inputs = {{ prompt = "prompt" }}

["test/free"]
provider = "scripted"
description = "Costs nothing."
rate_micros = 0
price_read_on = 2026-11-22
needs_face = false

["test/choosy"]
provider = "scripted"
description = "Takes next to nothing."
rate_micros = 20000
price_read_on = 2026-11-22
speech = {{ formats = ["flac"] }}
"""

Body = dict[str, Any]


@dataclass
class Service:
    """A service that runs, its provider, and a client for it."""

    url: str
    http: httpx.Client
    provider: ScriptedProvider
    settings: Settings
    portrait: Path
    speech: Path
    balance_before: int = 0

    def begin_test(self) -> None:
        """Wait for what earlier tests left running, and remember how things stand."""
        listed: list[Body] = self.http.get("/api/generations").json()["generations"]
        for body in listed:
            if not is_final(body):
                self.until_final(body["id"])
        self.balance_before = self.credits()["balance_micros"]

    def upload(self, path: Path, kind: str) -> Body:
        """Hand in a file and return what the service says of it."""
        with path.open("rb") as file:
            answer = self.http.post("/api/uploads", data={"kind": kind}, files={"file": file})
        assert answer.status_code == 201, answer.text
        body: Body = answer.json()
        return body

    def order(self, **changes: object) -> Body:
        """Return a body for generate-lipsync, its inputs uploaded."""
        return {
            "imageUrl": self.portrait_url,
            "audioUrl": self.speech_url,
            "model": MODEL,
            **changes,
        }

    def start(self, **changes: object) -> str:
        """Start a generation and return its id."""
        answer = self.http.post("/api/generate-lipsync", json=self.order(**changes))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["prediction_id"])

    def check(self, generation_id: str, **headers: str) -> httpx.Response:
        """Look at a generation."""
        query = {"prediction_id": generation_id}
        return self.http.get("/api/check-lipsync", params=query, headers=headers)

    def until(
        self, generation_id: str, is_so: Callable[[Body], bool], *, timeout_s: float = 60
    ) -> Body:
        """Look until a condition holds, and return that body."""
        end = time.monotonic() + timeout_s
        while True:
            body: Body = self.check(generation_id).json()
            if is_so(body):
                return body
            assert time.monotonic() < end, json.dumps(body, indent=1)
            time.sleep(0.02)

    def until_final(self, generation_id: str, *, timeout_s: float = 60) -> Body:
        """Look until it has ended."""
        return self.until(generation_id, is_final, timeout_s=timeout_s)

    def credits(self) -> Body:
        """Return what the account has."""
        body: Body = self.http.get("/api/credits").json()
        return body

    def spent(self) -> tuple[int, int]:
        """Return the micros that were spent since the test began, and those that are held."""
        body = self.credits()
        return self.balance_before - body["balance_micros"], body["held_micros"]

    @contextmanager
    def held_calls(self) -> Iterator[None]:
        """Let nothing move at the provider while the block lasts."""
        self.provider.hold_calls()
        try:
            yield
        finally:
            self.provider.resume_calls()

    def own_inputs(self, folder: Path, *, seconds: float) -> Body:
        """Hand in a portrait and a speech that no other test has, for a test that deletes.

        The length must be its own too: one length makes one grey video.
        """
        with Image.open(self.portrait) as picture:
            picture.save(folder / "own.png")
        speech = write_speech(folder / "own.wav", self.speech, seconds=seconds)
        return {
            "imageUrl": self.upload(folder / "own.png", "portrait")["url"],
            "audioUrl": self.upload(speech, "speech")["url"],
        }

    @cached_property
    def portrait_url(self) -> str:
        """The portrait, handed in."""
        return str(self.upload(self.portrait, "portrait")["url"])

    @cached_property
    def speech_url(self) -> str:
        """The speech, handed in."""
        return str(self.upload(self.speech, "speech")["url"])


def until(is_so: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """Wait until something is true that nobody announces."""
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


async def eventually(is_so: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """Wait as `until` does, while the loop goes on."""
    async with asyncio.timeout(timeout_s):
        for pause_s in itertools.repeat(0.002):
            if is_so():
                return
            await asyncio.sleep(pause_s)


def is_final(body: Body) -> bool:
    """Whether a check body is the last one."""
    return body["status"] in {"succeeded", "failed", "canceled"}


def write_speech(path: Path, speech: Path, *, seconds: float) -> Path:
    """Write the beginning of a recording as WAV."""
    samples = read_speech(speech).samples[: int(seconds * 16_000)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


@pytest.fixture(scope="session", autouse=True)
def quiet_logs() -> None:
    """Keep the log out of tests' output; a test that reads it captures it itself."""
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)


@pytest.fixture(scope="session")
def small_portrait(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample picture, small: decoding it takes little time."""
    path = tmp_path_factory.mktemp("inputs") / "portrait.jpg"
    with Image.open(portrait) as picture:
        picture.thumbnail((480, 480))
        picture.convert("RGB").save(path, quality=90)
    return path


@pytest.fixture(scope="session")
def short_speech(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first second and a quarter of the sample's speech."""
    path = tmp_path_factory.mktemp("inputs") / "speech.wav"
    return write_speech(path, speech, seconds=SPEECH_S)


@pytest.fixture(scope="session", params=KINDS)
def running(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    small_portrait: Path,
    short_speech: Path,
) -> Iterator[Service]:
    """A running service on each database."""
    folder = tmp_path_factory.mktemp("service")
    url = f"sqlite:///{folder / 'sayso.db'}"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.make_database()
    with started(folder, database_url=url, portrait=small_portrait, speech=short_speech) as made:
        yield made


@pytest.fixture(scope="session")
def running_quick(
    tmp_path_factory: pytest.TempPathFactory, small_portrait: Path, short_speech: Path
) -> Iterator[Service]:
    """A running service on SQLite."""
    folder = tmp_path_factory.mktemp("service")
    with started(folder, portrait=small_portrait, speech=short_speech) as made:
        yield made


@pytest.fixture
def service(running: Service) -> Service:
    """A running service, once on each database."""
    running.begin_test()
    return running


@pytest.fixture
def quick(running_quick: Service) -> Service:
    """A running service on SQLite."""
    running_quick.begin_test()
    return running_quick


@contextmanager
def started(
    folder: Path,
    *,
    portrait: Path,
    speech: Path,
    database_url: str | None = None,
    script: Script | None = None,
    **options: Any,
) -> Iterator[Service]:
    """Run a service whose settings are these; stop it when left."""
    models = folder / "models.toml"
    models.write_text(_MODELS, encoding="utf-8")
    values = {
        "data": folder / "data",
        "database_url": None if database_url is None else SecretStr(database_url),
        "models": models,
        "poll_s": 0.1,
        "log_level": "error",
        **options,
    }
    settings = Settings(**values)
    provider = ScriptedProvider(SystemClock(), script or Script(start_s=0.05, run_s=0.2))
    with running_service(settings, providers=[provider]) as url:
        headers = {}
        if settings.api_key is not None:
            headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        # A connection is given up before the service does that, or one may be closed in mid-use.
        limits = httpx.Limits(keepalive_expiry=2)
        with httpx.Client(
            base_url=url, headers=headers, timeout=60, limits=limits, trust_env=False
        ) as http:
            yield Service(url, http, provider, settings, portrait, speech)
