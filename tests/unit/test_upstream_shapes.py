"""The fake Replicate says what the real one was recorded to say: golden bodies, key by key.

`golden/replicate/predictions.json` has the bodies of a prediction at each stage, after recorded
traffic and the documents' examples; `{nano}` is a time with up to nine digits, `{micro}` one with
up to six, both without closing zeros. `refusals.json` has refusals word for word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from sayso.clock import SettableClock
from tests.builders import NOON
from tests.upstream import RUNS, Fault, Upstream
from tests.upstream.customer import INPUT, WAN, create, customer

pytestmark = pytest.mark.anyio

GOLDEN: Final = Path(__file__).parent / "golden" / "replicate"
PREDICTIONS: Final[Mapping[str, Any]] = json.loads((GOLDEN / "predictions.json").read_text())
REFUSALS: Final[Mapping[str, Any]] = json.loads((GOLDEN / "refusals.json").read_text())
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
PATTERNS: Final = {
    "{id}": re.compile(r"[a-z0-9]{26}"),
    "{nano}": re.compile(_TIME + r"(\.\d{0,8}[1-9])?Z"),
    "{micro}": re.compile(_TIME + r"(\.\d{0,5}[1-9])?Z"),
}


def check_same(actual: object, golden: object, where: str = "") -> None:
    """Compare a body with a golden one, whose words in braces stand for kinds of values."""
    if isinstance(golden, dict):
        assert isinstance(actual, dict), where
        assert set(actual) == set(golden), where
        for name, value in golden.items():
            check_same(actual[name], value, f"{where}.{name}")
    elif golden == "{number}":
        assert isinstance(actual, float), where
    elif golden == "{text}":
        assert isinstance(actual, str), where
        assert actual, where
    elif isinstance(golden, str) and golden in PATTERNS:
        assert PATTERNS[golden].fullmatch(str(actual)), f"{where}: {actual}"
    elif isinstance(golden, str) and "{id}" in golden:
        pattern = re.escape(golden).replace(re.escape("{id}"), "[a-z0-9]{26}")
        assert re.fullmatch(pattern, str(actual)), f"{where}: {actual}"
    else:
        assert actual == golden, where


class Scene:
    """A fake, its clock, and a customer."""

    def __init__(self, http: httpx.AsyncClient, upstream: Upstream, clock: SettableClock) -> None:
        self.http, self.upstream, self.clock = http, upstream, clock

    async def after(self, seconds: float, *, run: str = "succeeds", **body: Any) -> httpx.Response:
        """Create a prediction and look at it so much later."""
        self.upstream.will(RUNS[run])
        made = (await create(self.http, **body)).json()["id"]
        self.clock.advance(seconds)
        return await self.http.get(f"/predictions/{made}")

    async def canceled(self) -> httpx.Response:
        self.upstream.will(RUNS["stuck_starting"])
        made = (await create(self.http)).json()["id"]
        self.clock.advance(0.135578)
        return await self.http.post(f"/predictions/{made}/cancel")

    async def waited(self) -> httpx.Response:
        async def sleep(seconds: float) -> None:
            self.clock.advance(seconds)

        self.upstream._sleep = sleep
        return await create(self.http, headers={"prefer": "wait"})

    async def newer(self) -> httpx.Response:
        self.upstream.switch(echoes_output_null=True)
        return await create(self.http)


STAGES: Final[Mapping[str, Callable[[Scene], Awaitable[httpx.Response]]]] = {
    "created": lambda scene: create(scene.http),
    "created, newer": Scene.newer,
    "created with a deadline and a webhook": lambda scene: create(
        scene.http,
        headers={"cancel-after": "1h30m5s"},
        webhook="https://example.com/hook",
        webhook_events_filter=["start", "completed"],
    ),
    "starting": lambda scene: scene.after(0.5),
    "processing": lambda scene: scene.after(5),
    "waited for": Scene.waited,
    "succeeded": lambda scene: scene.after(30),
    "failed": lambda scene: scene.after(30, run="interrupted"),
    "failed unstarted": lambda scene: scene.after(30, run="fails_unstarted"),
    "canceled while starting": Scene.canceled,
    "aborted": lambda scene: scene.after(60, run="stuck_starting", headers={"cancel-after": "30s"}),
    "data removed": lambda scene: scene.after(3700),
}


async def files(scene: Scene, size: int) -> httpx.Response:
    scene.upstream.switch(largest_file_bytes=1000)
    return await scene.http.post("/files", files={"content": ("a.wav", b"x" * size)})


async def switched(scene: Scene, **changes: Any) -> httpx.Response:
    scene.upstream.switch(**changes)
    return await create(scene.http)


async def nobody(scene: Scene) -> httpx.Response:
    return await scene.http.get("/account", headers={"authorization": "Bearer r8_another"})


async def twice_with_little_credit(scene: Scene) -> httpx.Response:
    scene.upstream.switch(credit="low")
    await create(scene.http)
    scene.clock.advance(5)
    return await create(scene.http)


async def failing(scene: Scene, fault: Fault) -> httpx.Response:
    scene.upstream.fail("create", fault)
    return await create(scene.http)


def by_version(scene: Scene, body: Mapping[str, Any]) -> Awaitable[httpx.Response]:
    return scene.http.post("/predictions", json=body)


SAD = {"source_image": "https://example.com/a.png", "driven_audio": "https://example.com/b.wav"}
REFUSED: Final[Mapping[str, Callable[[Scene], Awaitable[httpx.Response]]]] = {
    "401": nobody,
    "402": lambda scene: switched(scene, credit="none"),
    "404 of a file": lambda scene: scene.http.get("/files/none"),
    "413": lambda scene: files(scene, 2000),
    "422 enum": lambda scene: by_version(
        scene,
        {
            "version": scene.upstream._models["cjwbw/sadtalker"].version,
            "input": {**SAD, "preprocess": "none"},
        },
    ),
    "422 too much": lambda scene: create(scene.http, input={**INPUT, "num_frames_per_chunk": 122}),
    "422 missing": lambda scene: create(
        scene.http, input={name: INPUT[name] for name in ("image", "audio")}
    ),
    "422 another key": lambda scene: by_version(scene, {"input": INPUT, "model": WAN}),
    "422 version": lambda scene: by_version(scene, {"version": "0" * 64, "input": INPUT}),
    "429": lambda scene: failing(scene, Fault.THROTTLED),
    "429 with little credit": twice_with_little_credit,
    "500": lambda scene: failing(scene, Fault.ERROR_500),
}


async def answer_of(make: Callable[[Scene], Awaitable[httpx.Response]]) -> httpx.Response:
    clock = SettableClock(NOON)
    clock.advance(0.360785)
    upstream = Upstream(clock)
    async with customer(upstream) as http:
        return await make(Scene(http, upstream, clock))


def test_every_golden_body_is_asked_for() -> None:
    assert set(STAGES) == set(PREDICTIONS)
    assert set(REFUSED) == set(REFUSALS)


@pytest.mark.parametrize("stage", PREDICTIONS)
async def test_a_prediction_looks_as_recorded(stage: str) -> None:
    answer = await answer_of(STAGES[stage])

    assert answer.status_code in {200, 201}, answer.text
    check_same(answer.json(), PREDICTIONS[stage])


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_reads_as_recorded(name: str) -> None:
    answer = await answer_of(REFUSED[name])

    status, body = REFUSALS[name]
    assert answer.status_code == status
    assert answer.json() == body
    assert answer.headers["content-type"] == "application/problem+json"
