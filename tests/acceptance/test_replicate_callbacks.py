"""A whole service with a public address, and Replicate calling it back over https.

The upstream is the faithful fake, over sockets that it cuts; it fetches the inputs by our signed
links and sends its webhooks through a proxy that ends TLS, as it would from outside.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import httpx
import pytest
from pydantic import SecretStr

from sayso.clock import SystemClock
from sayso.providers.replicate_client import peer_of
from sayso.providers.scripted import Script
from tests.services import PRICE_MICROS, SPEECH_S, Service, started
from tests.tls_front import Front, opened_front
from tests.upstream import RUNS, Fault, Run, Upstream
from tests.upstream.serving import served
from tests.upstream.switches import HookHabits

WAN: Final = "wan-video/wan-2.2-s2v"
RUN: Final = Run(script=Script(start_s=0.3, run_s=0.7), video_s=SPEECH_S)


@dataclass
class Shop:
    """The service, how it is reached from outside, and its Replicate."""

    service: Service
    front: Front
    upstream: Upstream


@pytest.fixture
def shop(tmp_path: Path, small_portrait: Path, short_speech: Path) -> Iterator[Shop]:
    upstream = Upstream(SystemClock(), random=Random(3), run=RUN)
    with (
        opened_front(tmp_path) as front,
        served(upstream, at_home=True, authority=front.authority),
        started(
            tmp_path,
            portrait=small_portrait,
            speech=short_speech,
            public_url=front.url,
            replicate_api_token=SecretStr(upstream.token),
            replicate_url=upstream.place.api,
            trusted_peers=(peer_of(upstream.place.api),),
            measure_max_s=0,
        ) as service,
    ):
        front.pass_on_to(service.url)
        service.begin_test()
        yield Shop(service, front, upstream)
    assert upstream.leaks == []


def test_callbacks_end_what_nobody_looks_at(shop: Shop) -> None:
    """Answers of creates are lost, webhooks come twice and late, one prediction fails."""
    service, upstream = shop.service, shop.upstream
    upstream.switch(hooks=HookHabits(doubled=0.5, late=0.5, late_s=(0.1, 1)))
    lost = (Fault.RESET_AFTER, Fault.BAD_JSON, Fault.CUT, Fault.HTML_502_AFTER)
    upstream.fail("create", *lost)
    upstream.fail("output", Fault.RESET_BEFORE, Fault.CUT)
    flagged = Run(script=Script(start_s=0.3, run_s=0.7, end="failed"), error=RUNS["nsfw"].error)
    upstream.will(RUN, RUN, RUN, RUN, flagged)

    ids = [service.start(model=WAN) for _ in range(6)]
    ends = [service.until_final(identifier, timeout_s=240) for identifier in ids]

    statuses = sorted(body["status"] for body in ends)
    assert statuses == ["failed", *["succeeded"] * 5]
    assert service.spent() == (5 * PRICE_MICROS, 0)
    assert (len(upstream.predictions), upstream.counts["create"]) == (6, 6)
    for body in ends:
        if body["status"] == "succeeded":
            assert body["credits"]["state"] == "captured"
            assert service.http.get(body["output"]).content[4:8] == b"ftyp"
        else:
            assert body["credits"]["state"] == "released"
            assert "flagged as sensitive" in body["error"]
    # A lost answer is looked for when its inputs are fetched, and found by then: one list each, or
    # few where the machine is busy. Whoever polled would have read ten times a second.
    assert upstream.counts["list"] <= 3 * len(lost)
    assert upstream.counts["read"] <= 6 * len(ids)
    assert all(run.input_error is None for run in upstream.predictions.values())


def test_links_and_callbacks_are_open_to_whoever_signs(shop: Shop) -> None:
    shop.service.until_final(shop.service.start(model=WAN), timeout_s=240)
    [made] = shop.upstream.predictions.values()
    context = ssl.create_default_context(cafile=shop.front.authority)
    with httpx.Client(base_url=shop.front.url, verify=context, trust_env=False) as outside:
        portrait = outside.get(made.input["image"])
        changed = outside.get(made.input["image"].replace("nonce=", "nonce=0"))
        unsigned = outside.post(made.webhook or "", json={"id": made.id, "status": "succeeded"})

    assert (portrait.status_code, changed.status_code) == (200, 403)
    assert unsigned.status_code == 401
