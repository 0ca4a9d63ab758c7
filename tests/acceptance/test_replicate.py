"""Generations at Replicate, through a whole service and over real HTTP.

The upstream is the faithful fake of `tests/upstream`, served on this machine, on a clock that is
moved by hand; then another Sayso, whose own engine makes a real video.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import sqlite3
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import func, or_, select

from sayso.clock import SettableClock
from sayso.db.tables import generations
from sayso.db.tx import Topic, announce
from sayso.errors import OptionInvalid
from sayso.http.app import make_app
from sayso.http.serving import running_service
from sayso.media.probe import probe_video
from sayso.providers.replicate_client import peer_of
from sayso.providers.scripted import Script
from sayso.settings import Peer, Settings
from sayso.wiring import Services, open_services
from tests.services import SPEECH_S, is_final
from tests.upstream import RUNS, Run, Upstream
from tests.upstream.service import TOKEN
from tests.upstream.serving import served

WAN: Final = "wan-video/wan-2.2-s2v"
OPENING: Final = 5_000_000
PRICE: Final = 200_000

Body = dict[str, Any]


def data_url(path: Path, content_type: str) -> str:
    return f"data:{content_type};base64,{b64encode(path.read_bytes()).decode()}"


# The first client, word for word.


@dataclass
class Customer:
    """A client of a service that runs on a clock of the test's, and the upstream behind it."""

    http: httpx.AsyncClient
    services: Services
    upstream: Upstream
    clock: SettableClock
    order: Body

    async def ask(self) -> Body:
        answer = await self.http.post("/api/generate-lipsync", json=self.order)
        assert answer.status_code == 202, answer.text
        body: Body = answer.json()
        return body

    async def check(self, body: Body) -> Body:
        query = {"prediction_id": body["prediction_id"]}
        checked: Body = (await self.http.get("/api/check-lipsync", params=query)).json()
        return checked

    async def poll(self, body: Body, *, every_s: float = 1) -> list[Body]:
        """Look until it has ended, as the clock goes on; return what was new each time."""
        seen = [await self.check(body)]
        for _ in range(900):
            await self.live(every_s)
            now = await self.check(body)
            if now != seen[-1]:
                seen.append(now)
            if is_final(now):
                return seen
        raise AssertionError(seen[-1])

    async def live(self, seconds: float) -> None:
        """Let time pass, and wait until everything is done that is due by then.

        Calls, downloads and probes take real time, in which the clock stands still.
        """
        self.clock.advance(seconds)
        # The reconciler rests by real time: wake it.
        await self.services.db.write(lambda tx: announce(tx, Topic.DUE))
        now, g = self.clock.now(), generations.c
        busy = (
            select(func.count())
            .select_from(generations)
            .where(g.completed_at.is_(None), or_(g.due_at <= now, g.lease_until > now))
        )
        async with asyncio.timeout(120):
            for pause_s in itertools.repeat(0.005):
                if not await self.services.db.read_point(lambda tx: tx.execute(busy).scalar_one()):
                    return
                await asyncio.sleep(pause_s)

    async def money(self) -> tuple[int, int]:
        """Return the balance and what is held."""
        body = (await self.http.get("/api/credits")).json()
        return body["balance_micros"], body["held_micros"]


@pytest.fixture
async def customer(tmp_path: Path, small_portrait: Path, speech: Path) -> AsyncIterator[Customer]:
    clock = SettableClock()
    upstream = Upstream(clock, run=Run(script=Script(start_s=3, run_s=40), video_s=9.9))
    order = {
        "imageUrl": data_url(small_portrait, "image/jpeg"),
        "audioUrl": data_url(speech, "audio/ogg"),
        "model": "wan-video/wan-2.2-s2v",
        "prompt": "woman singing",
        "pollForCompletion": False,
    }
    with served(upstream, at_home=True):
        settings = settings_for(tmp_path, upstream.place.api, TOKEN)
        async with client_of(settings, clock) as (http, services):
            yield Customer(http, services, upstream, clock, order)
    assert upstream.leaks == []


def settings_for(folder: Path, url: str, token: str, **more: Any) -> Settings:
    """Return the settings of a service whose Replicate is at this address."""
    values = {
        "data": folder,
        "replicate_api_token": SecretStr(token),
        "replicate_url": url,
        "trusted_peers": (peer_of(url),),
        "measure_max_s": 0,
        "log_level": "error",
        **more,
    }
    return Settings(**values)


@asynccontextmanager
async def client_of(
    settings: Settings, clock: SettableClock
) -> AsyncIterator[tuple[httpx.AsyncClient, Services]]:
    async with open_services(settings, clock=clock) as services:
        app = make_app(services)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            base = "http://127.0.0.1:8000"
            async with httpx.AsyncClient(transport=transport, base_url=base, timeout=60) as http:
                yield http, services


@pytest.mark.anyio
async def test_the_first_clients_request_is_served(customer: Customer) -> None:
    started = await customer.ask()

    assert started["status"] == "starting"
    assert started["message"] == "Lip sync generation started"
    assert started["model"] == WAN
    assert started["cost"]["amount"] == "0.20"
    assert await customer.money() == (OPENING, PRICE)

    seen = await customer.poll(started)

    statuses = list(dict.fromkeys(body["status"] for body in seen))
    assert statuses == ["starting", "processing", "succeeded"]
    percents = [body["progress"]["percent"] for body in seen]
    assert percents == sorted(percents)
    # The model prints how far it is.
    assert "measured" in {
        body["progress"]["basis"] for body in seen if 10 < body["progress"]["percent"] < 90
    }
    final = seen[-1]
    assert final["credits"] == {"state": "captured", "amount": "0.20", "amount_micros": PRICE}
    assert await customer.money() == (OPENING - PRICE, 0)
    video = (await customer.http.get(final["output"])).content
    assert video[4:8] == b"ftyp"
    [made] = customer.upstream.predictions.values()
    assert made.input["prompt"] == "woman singing"
    assert set(made.input) == {"prompt", "image", "audio", "num_frames_per_chunk"}


@pytest.mark.anyio
async def test_it_is_the_default_model_and_has_a_prompt_of_its_own(customer: Customer) -> None:
    del customer.order["model"], customer.order["prompt"]

    started = await customer.ask()
    await customer.poll(started)

    assert started["model"] == WAN
    [made] = customer.upstream.predictions.values()
    assert made.input["prompt"] == "person talking"


@pytest.mark.anyio
async def test_a_failure_at_replicate_releases_the_hold(customer: Customer) -> None:
    customer.upstream.will(RUNS["sensitive"])

    final = (await customer.poll(await customer.ask()))[-1]

    assert final["status"] == "failed"
    assert "flagged as sensitive" in final["error"]
    assert "E005" not in final["error"]
    assert final["credits"]["state"] == "released"
    assert await customer.money() == (OPENING, 0)


@pytest.mark.anyio
async def test_ten_minutes_are_the_limit(customer: Customer) -> None:
    customer.upstream.will(RUNS["stuck_processing"])

    final = (await customer.poll(await customer.ask(), every_s=5))[-1]

    assert final["status"] == "failed"
    assert final["error"] == "Generation timed out after 10 minutes"
    assert final["credits"]["state"] == "released"
    assert await customer.money() == (OPENING, 0)
    # It does not run on at Replicate for nobody.
    assert customer.upstream.alive() == []


@pytest.mark.anyio
async def test_a_success_without_a_video_is_not_paid(customer: Customer) -> None:
    customer.upstream.will(RUNS["null_output"])

    final = (await customer.poll(await customer.ask()))[-1]

    assert final["error"] == "No video URL returned from Replicate"
    assert final["credits"]["state"] == "released"
    assert await customer.money() == (OPENING, 0)


@pytest.mark.anyio
async def test_bad_luck_is_tried_again_and_paid_once(customer: Customer) -> None:
    customer.upstream.will(RUNS["interrupted"], RUNS["high_demand"])

    final = (await customer.poll(await customer.ask(), every_s=2))[-1]

    assert final["status"] == "succeeded"
    assert len(customer.upstream.predictions) == 3
    assert await customer.money() == (OPENING - PRICE, 0)


@pytest.mark.anyio
async def test_without_credit_it_waits_and_only_the_operator_reads_why(
    customer: Customer,
) -> None:
    customer.upstream.switch(credit="none")

    seen = await customer.poll(await customer.ask(), every_s=5)

    assert seen[-1]["error"] == "Generation timed out after 10 minutes"
    assert await customer.money() == (OPENING, 0)
    assert "billing" not in str(seen)
    assert customer.upstream.counts["create"] < 12
    figures = (await customer.http.get("/metrics")).text
    assert 'sayso_provider_in_trouble{provider="replicate"} 1.0' in figures


@pytest.mark.anyio
async def test_a_generation_survives_a_while_without_credit(customer: Customer) -> None:
    customer.upstream.switch(credit="none")
    started = await customer.ask()
    for _ in range(4):
        await customer.live(10)
    customer.upstream.switch(credit="good")

    final = (await customer.poll(started))[-1]

    assert final["status"] == "succeeded"
    assert await customer.money() == (OPENING - PRICE, 0)
    figures = (await customer.http.get("/metrics")).text
    assert 'sayso_provider_in_trouble{provider="replicate"} 0.0' in figures


@pytest.mark.anyio
async def test_a_cancel_ends_it_there_too(customer: Customer) -> None:
    customer.upstream.will(RUNS["stuck_processing"])
    started = await customer.ask()
    await customer.live(1)
    assert customer.upstream.predictions
    await customer.http.post(started["urls"]["cancel"])
    final = (await customer.poll(started))[-1]

    assert final["status"] == "canceled"
    assert customer.upstream.alive() == []
    assert await customer.money() == (OPENING, 0)


# Two Saysos.

_MODELS: Final = """
["wan-video/wan-2.2-s2v"]
upstream = "sayso/portrait"
inputs = { portrait = "image", speech = "audio" }
options = []
cost_rate_micros = 10_000
"""


@contextmanager
def two_saysos(folder: Path, *, with_callbacks: bool) -> Iterator[str]:
    """Run a service whose Replicate is another one; give its address.

    Each has to know the other's before it starts, so a port that is free now is tried; somebody
    else may take it first, and then it is another's turn.
    """
    with ExitStack() as stack:
        for tries_left in reversed(range(5)):
            pair = _two_saysos(folder, with_callbacks=with_callbacks, port=free_port())
            try:
                url = stack.enter_context(pair)
            except OptionInvalid:
                if not tries_left:
                    raise
                continue
            yield url
            return


@contextmanager
def _two_saysos(folder: Path, *, with_callbacks: bool, port: int) -> Iterator[str]:
    models = folder / "models.toml"
    models.write_text(_MODELS, encoding="utf-8")
    own = Peer("127.0.0.1", port)
    key = "a key of sixteen letters"
    upstream = Settings(
        data=folder / "upstream",
        replicate_api_token=None,
        api_key=SecretStr(key),
        # It fetches our links, and tells us when it is done.
        trusted_peers=(own,),
        measure_max_s=0,
        log_level="error",
    )
    with running_service(upstream) as upstream_url:
        service = settings_for(
            folder / "service",
            f"{upstream_url}/v1",
            key,
            models=models,
            public_url=f"http://{own.host}:{own.port}" if with_callbacks else None,
            poll_s=0.2,
        )
        with running_service(service, port=port) as url:
            # Customers come by another name than the upstream does.
            yield url.replace("127.0.0.1", "localhost")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("way", ["polling", "callbacks"])
def test_one_sayso_is_anothers_replicate(
    way: str, tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    """With callbacks nobody looks for a minute, but when told; without, looks do it alone."""
    with (
        two_saysos(tmp_path, with_callbacks=way == "callbacks") as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as http,
    ):
        order = {
            "imageUrl": data_url(small_portrait, "image/jpeg"),
            "audioUrl": data_url(short_speech, "audio/wav"),
        }
        started = http.post("/api/generate-lipsync", json=order).json()
        assert started["model"] == WAN
        final = until_final(http, started)

        assert final["status"] == "succeeded", final
        assert final["credits"]["state"] == "captured"
        assert (callbacks_to(tmp_path / "service") > 0) is (way == "callbacks")
        # What the upstream takes for it is known, by its own measure of the video.
        assert cost_of(tmp_path / "service") == pytest.approx(10_000 * SPEECH_S, rel=0.1)
        video = tmp_path / "video.mp4"
        video.write_bytes(http.get(final["output"]).content)
    probe = probe_video(video)
    assert probe.duration_video_s == pytest.approx(SPEECH_S, abs=0.1)
    # Our own engine's picture, not a grey one.
    assert probe.width is not None
    assert probe.width > 200


def callbacks_to(folder: Path) -> int:
    """Return how many attempts of a service were called back about."""
    query = "SELECT count(*) FROM predictions WHERE called_at IS NOT NULL"
    with closing(sqlite3.connect(folder / "sayso.db")) as database:
        return int(database.execute(query).fetchone()[0])


def cost_of(folder: Path) -> int:
    """Return what the predictions of a service have cost it, in micros."""
    with closing(sqlite3.connect(folder / "sayso.db")) as database:
        (cost,) = database.execute("SELECT sum(cost_micros) FROM predictions").fetchone()
    return int(cost)


def until_final(http: httpx.Client, started: Body) -> Body:
    end = time.monotonic() + 240
    query = {"prediction_id": started["prediction_id"]}
    while True:
        body: Body = http.get("/api/check-lipsync", params=query).json()
        if is_final(body):
            return body
        assert time.monotonic() < end, body
        time.sleep(0.1)
