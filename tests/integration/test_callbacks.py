"""The callbacks' door over real HTTP, and what a fetched input is noted as."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sayso.artifacts.keys import ArtifactKey
from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.db.connect import Database
from sayso.errors import (
    NoSuchGeneration,
    ProviderTimedOut,
    ProviderUnavailable,
    SignatureRefused,
)
from sayso.http.callbacks import CallbackDoor
from sayso.http.fetches import Fetches
from sayso.ids import Nonce, ProviderId
from sayso.providers.scripted import Create, Script, new_callback_secret
from sayso.webhooks.signing import signed_headers
from tests.services import Service, started, until
from tests.workshop import Workshop

PUBLIC = "sayso.example"
SLOW_POLL_S = 60


@pytest.fixture(scope="module")
def called(
    tmp_path_factory: pytest.TempPathFactory, small_portrait: Path, short_speech: Path
) -> Iterator[Service]:
    """A service with a public address that hardly ever polls."""
    folder = tmp_path_factory.mktemp("called")
    options: dict[str, Any] = {"public_url": f"https://{PUBLIC}", "poll_s": SLOW_POLL_S}
    with started(folder, portrait=small_portrait, speech=short_speech, **options) as service:
        yield service


def rows(service: Service, query: str, *values: object) -> list[Any]:
    """Ask the service's database."""
    with sqlite3.connect(service.settings.data / "sayso.db") as database:
        found = database.execute(query, values).fetchall()
    database.close()
    return found


def nonce_of(service: Service, generation_id: str) -> str:
    """Return the nonce of a generation's attempt, as soon as the provider has heard of it.

    Earlier, the script of the next test would be taken for this generation.
    """
    query = "SELECT nonce FROM predictions WHERE generation_id = ?"
    until(lambda: bool(rows(service, query, generation_id)))
    nonce = str(rows(service, query, generation_id)[0][0])
    until(lambda: nonce in service.provider.created.values())
    return nonce


def prediction_of(service: Service, nonce: str) -> ProviderId:
    """Return what the provider made for a nonce."""
    return next(key for key, of in service.provider.created.items() if of == nonce)


def sign(service: Service, body: bytes, **changes: Any) -> dict[str, str]:
    options: dict[str, Any] = {
        "delivery_id": f"msg_{time.monotonic_ns()}",
        "sent_at_s": int(time.time()),
    }
    secret = changes.pop("secret", service.provider.callback_secret)
    return signed_headers([secret], body=body, **options | changes)


def deliver(
    service: Service, nonce: str, body: bytes, headers: dict[str, str], *, name: str = "scripted"
) -> httpx.Response:
    return service.http.post(f"/callbacks/{name}/{nonce}", content=body, headers=headers)


def test_a_callback_ends_the_wait_at_once(called: Service) -> None:
    called.provider.will(Script(start_s=0, run_s=0.5))
    generation_id = called.start()
    nonce = nonce_of(called, generation_id)
    body = called.provider.callback_body(prediction_of(called, nonce))
    time.sleep(0.6)
    assert called.check(generation_id).json()["status"] != "succeeded"

    answer = deliver(called, nonce, body, sign(called, body))

    assert (answer.status_code, answer.content) == (204, b"")
    # Its next look would be in a minute.
    assert called.until_final(generation_id, timeout_s=50)["status"] == "succeeded"


def test_a_callback_binds_a_lost_create(called: Service) -> None:
    called.provider.will(Script(create=Create.LOST_ANSWER, start_s=0, run_s=0))
    generation_id = called.start()
    nonce = nonce_of(called, generation_id)
    body = called.provider.callback_body(prediction_of(called, nonce))
    time.sleep(0.3)

    headers = sign(called, body)
    assert [deliver(called, nonce, body, headers).status_code for _ in range(3)] == [204] * 3

    assert called.until_final(generation_id, timeout_s=50)["status"] == "succeeded"
    seen = f"scripted:{headers['webhook-id']}"
    assert rows(called, "SELECT count(*) FROM callbacks_seen WHERE id = ?", seen) == [(1,)]


@pytest.mark.parametrize(
    "fault",
    ["unsigned", "stale", "early", "altered", "other key", "other id", "other version", "no date"],
)
def test_what_is_not_signed_changes_nothing(called: Service, fault: str) -> None:
    called.provider.will(Script(create=Create.LOST_ANSWER, end="never"))
    generation_id = called.start()
    nonce = nonce_of(called, generation_id)
    body = called.provider.callback_body(prediction_of(called, nonce))
    now_s = int(time.time())
    match fault:
        case "unsigned":
            headers = {}
        case "stale" | "early":
            aside_s = -301 if fault == "stale" else 400
            headers = sign(called, body, sent_at_s=now_s + aside_s)
        case "other key":
            headers = sign(called, body, secret=new_callback_secret())
        case _:
            headers = sign(called, body)
    if fault == "altered":
        body = body.replace(b"scripted", b"Scripted")
    elif fault == "other id":
        headers["webhook-id"] += "x"
    elif fault == "other version":
        headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v0,")
    elif fault == "no date":
        del headers["webhook-timestamp"]

    answer = deliver(called, nonce, body, headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "signature_refused")
    query = "SELECT provider_id, called_at FROM predictions WHERE nonce = ?"
    assert rows(called, query, nonce) == [(None, None)]
    called.http.post(f"/api/generations/{generation_id}/cancel")


def test_one_of_several_signatures_is_enough(called: Service) -> None:
    nonce = nonce_of(called, called.start())
    headers = sign(called, b"{}")
    headers["webhook-signature"] = f"v1,AAAA v9,xyz {headers['webhook-signature']} v1,"

    assert deliver(called, nonce, b"{}", headers).status_code == 204


@pytest.mark.parametrize("nonce", ["0" * 26, "twin:x", "%27%20OR%201=1", "x" * 500])
def test_an_unknown_nonce_is_told_to_whoever_signs(called: Service, nonce: str) -> None:
    body = b'{"id": "x"}'

    assert deliver(called, nonce, body, sign(called, body)).status_code == 404
    assert deliver(called, nonce, body, {}).status_code == 401


def test_a_provider_that_does_not_call_back_has_no_address(called: Service) -> None:
    for name in ("embedded", "nobody"):
        answer = deliver(called, "0" * 26, b"{}", sign(called, b"{}"), name=name)
        assert answer.status_code == 404


def test_a_body_that_names_no_prediction_still_makes_it_look(called: Service) -> None:
    called.provider.will(Script(start_s=0, run_s=0.3))
    generation_id = called.start()
    nonce = nonce_of(called, generation_id)
    prediction_of(called, nonce)
    time.sleep(0.5)

    for body in (b"", b"not JSON", b"[1]", b'{"id": null}'):
        assert deliver(called, nonce, body, sign(called, body)).status_code == 204

    assert called.until_final(generation_id, timeout_s=50)["status"] == "succeeded"


def test_a_large_body_is_refused_before_it_is_read(called: Service) -> None:
    body = b"x" * ((1 << 20) + 1)

    assert deliver(called, "0" * 26, body, sign(called, body)).status_code == 413


def test_a_callback_is_answered_while_the_provider_hangs(called: Service) -> None:
    nonce = nonce_of(called, called.start())
    body = called.provider.callback_body(prediction_of(called, nonce))
    with called.held_calls():
        for _ in range(20):
            assert deliver(called, nonce, body, sign(called, body)).status_code == 204


def test_on_the_public_host_only_what_is_signed_answers(called: Service) -> None:
    generation_id = called.start()
    nonce = nonce_of(called, generation_id)
    outside = {"Host": PUBLIC}
    body = b"{}"

    assert deliver(called, nonce, body, sign(called, body) | outside).status_code == 204
    assert called.http.get(link_of(called, generation_id), headers=outside).status_code == 200
    for path in ("/", "/api/models", "/v1/predictions", "/livez", "/metrics", "/docs"):
        assert called.http.get(path, headers=outside).status_code == 403, path
    assert deliver(called, nonce, body, sign(called, body) | {"Host": "x.org"}).status_code == 403


# Fetched inputs


def link_of(service: Service, generation_id: str, *, nonce: str | None = None) -> str:
    """Return a link to the generation's portrait, as the service signs it."""
    (secret,) = rows(service, "SELECT value FROM secrets WHERE name = 'links'")[0]
    (key,) = rows(
        service,
        "SELECT storage_key FROM artifacts JOIN generations ON artifacts.id = portrait_id"
        " WHERE generations.id = ?",
        generation_id,
    )[0]
    links = FileLinks([LinkSecret("a", bytes.fromhex(secret))])
    return links.sign(ArtifactKey(key), now_s=time.time(), nonce=nonce)


def until_row(service: Service, generation_id: str, *expected: object) -> None:
    """Wait for a generation's state and the end of its lease."""
    query = "SELECT state, lease_until FROM generations WHERE id = ?"
    until(lambda: rows(service, query, generation_id) == [expected])


def fetched_at(service: Service, nonce: str) -> int | None:
    found = rows(service, "SELECT fetched_at FROM predictions WHERE nonce = ?", nonce)[0][0]
    return None if found is None else int(found)


def test_a_fetch_by_the_attempts_own_link_is_noted_once(called: Service) -> None:
    called.provider.will(Script(create=Create.LOST_ANSWER, end="never"))
    generation_id = called.start()
    nonce = nonce_of(called, generation_id)
    link = link_of(called, generation_id, nonce=nonce)
    until_row(called, generation_id, "submitting", 0)

    called.http.get(link_of(called, generation_id))
    called.http.get(link.replace("signature=", "signature=x"))
    assert fetched_at(called, nonce) is None

    answer = called.http.get(link, headers={"Range": "bytes=0-9"})
    assert answer.status_code == 206
    until(lambda: fetched_at(called, nonce) is not None)
    first = fetched_at(called, nonce)
    called.http.get(link)
    # The search for it begins at once, not in a minute.
    until_row(called, generation_id, "running", 0)
    assert fetched_at(called, nonce) == first
    called.http.post(f"/api/generations/{generation_id}/cancel")


# The door by itself, on a clock that is moved by hand


@pytest.fixture
async def shop(database: Database, tmp_path: Path) -> Workshop:
    return await Workshop.open(database, tmp_path, Script(run_s=50))


def a_door(shop: Workshop) -> CallbackDoor:
    callers = {"scripted": shop.provider}
    return CallbackDoor(shop.generations, callers=callers, clock=shop.clock)


async def taken(shop: Workshop, door: CallbackDoor, *, delivery: str = "d1") -> None:
    """Deliver a callback about the first prediction."""
    provider_id, nonce = next(iter(shop.provider.created.items()))
    body = shop.provider.callback_body(provider_id)
    sent_at_s = shop.clock.now() // 1_000_000
    headers = signed_headers(
        [shop.provider.callback_secret], delivery_id=delivery, sent_at_s=sent_at_s, body=body
    )
    await door.take("scripted", nonce, headers, body)


@pytest.mark.anyio
async def test_until_the_secret_is_known_the_provider_is_to_come_again(shop: Workshop) -> None:
    door = a_door(shop)
    await shop.start()
    await shop.turn()
    shop.provider.fail_reads(1, ProviderTimedOut("no answer"))

    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            await taken(shop, door)
        await asyncio.sleep(0)
    assert shop.provider.counts["secret"] == 1
    shop.clock.advance(5)
    with pytest.raises(ProviderUnavailable):
        await taken(shop, door)
    await asyncio.sleep(0)

    await taken(shop, door)
    assert shop.provider.counts["secret"] == 2


@pytest.mark.anyio
async def test_a_new_secret_is_learnt_at_most_once_a_minute(shop: Workshop) -> None:
    door = a_door(shop)
    door.open()
    await shop.start()
    await shop.turn()
    await taken(shop, door)
    shop.provider.callback_secret = new_callback_secret()

    for _ in range(10):
        with pytest.raises(SignatureRefused):
            await taken(shop, door, delivery="d2")
        await asyncio.sleep(0)
    assert shop.provider.counts["secret"] == 1
    shop.clock.advance(60)
    with pytest.raises(SignatureRefused):
        await taken(shop, door, delivery="d2")
    await asyncio.sleep(0)

    await taken(shop, door, delivery="d2")
    assert shop.provider.counts["secret"] == 2
    await door.close()


@pytest.mark.anyio
async def test_a_door_that_closes_waits_for_no_secret(shop: Workshop) -> None:
    shop.provider.hold_calls()
    door = a_door(shop)
    door.open()
    await asyncio.sleep(0)

    await asyncio.wait_for(door.close(), timeout=30)
    with pytest.raises(NoSuchGeneration):
        await door.take("nobody", "0" * 26, {}, b"")


@pytest.mark.anyio
async def test_a_fetch_that_cannot_be_noted_is_noted_the_next_time(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.provider.will(Script(create=Create.LOST_ANSWER))
    generation = await shop.start()
    await shop.turn()
    nonce = Nonce((await shop.attempts(generation))[0].nonce)
    fetches = Fetches(_Failing(shop.generations, times=1))  # type: ignore[arg-type]

    for expected in (None, shop.clock.now(), shop.clock.now()):
        fetches.note(nonce)
        await fetches.close()
        assert (await shop.attempts(generation))[0].fetched_at == expected


class _Failing:
    """Notes nothing the first times."""

    def __init__(self, generations: Any, *, times: int) -> None:
        self._generations = generations
        self._times = times

    async def note_fetch(self, nonce: Nonce) -> bool:
        if self._times:
            self._times -= 1
            raise ProviderTimedOut("any error of ours")
        return bool(await self._generations.note_fetch(nonce))
