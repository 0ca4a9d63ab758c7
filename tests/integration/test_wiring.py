"""The composed service without doors: our own engine from the order to the stored video."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sayso.artifacts.keys import ArtifactKey
from sayso.clock import SystemClock
from sayso.db.tables import LOCAL_ACCOUNT
from sayso.errors import ModelUnavailable, ProviderError
from sayso.generations.generation import Generation, Order
from sayso.generations.rules import State
from sayso.ids import AccountId
from sayso.media.audio import read_speech
from sayso.media.probe import probe_video
from sayso.providers.scripted import Script, ScriptedProvider
from sayso.settings import Settings
from sayso.wiring import Services, open_services

pytestmark = pytest.mark.anyio

LOCAL = AccountId(LOCAL_ACCOUNT)
SPEECH_S = 1.5


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", database_url=SecretStr(database_url))


@pytest.fixture(scope="session")
def short_speech(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The first words of the sample, as a WAV."""
    path = tmp_path_factory.mktemp("speech") / "short.wav"
    samples = read_speech(speech).samples[: int(16_000 * SPEECH_S)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return path.read_bytes()


async def one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def ordered(app: Services, portrait: bytes, speech: bytes, **options: Any) -> Generation:
    """Take two inputs in and start a generation of them."""
    model = app.catalogue.default

    async def make() -> Order:
        picture = await app.inputs.take_stream(LOCAL, one_piece(portrait), kind="portrait")
        sound = await app.inputs.take_stream(LOCAL, one_piece(speech), kind="speech")
        assert sound.duration_s is not None
        return Order(
            account_id=LOCAL,
            door="cli",
            model=model,
            portrait_id=picture.id,
            speech_id=sound.id,
            speech_s=sound.duration_s,
            options=model.check_options(options),
            notices=app.inputs.check(model, picture, sound),
        )

    return (await app.generations.start(make)).generation


async def test_a_portrait_speaks_and_its_video_is_stored_and_paid(
    settings: Settings, portrait: Path, short_speech: bytes, tmp_path: Path
) -> None:
    async with open_services(settings) as app:
        started = await ordered(app, content_of(portrait), short_speech, size=256, fps=12)
        done = await app.generations.wait(LOCAL, started.id, timeout_s=120)

        assert done.state is State.SUCCEEDED, done.error
        assert done.video_key is not None
        video = tmp_path / "video.mp4"
        await app.artifacts.copy_to(ArtifactKey(done.video_key), video)
        balance = await app.credits.balance(LOCAL)
        violations = await app.credits.verify()

    probe = probe_video(video)
    assert probe.duration_video_s == pytest.approx(SPEECH_S, abs=0.2)
    assert done.quality is not None
    assert done.quality["sync_r"] is not None
    assert done.cost.price_micros == 2 * 10_000
    assert (balance.total, balance.held) == (5_000_000 - 20_000, 0)
    assert violations == []


async def test_a_picture_that_the_engine_refuses_is_a_failure_with_its_reason(
    settings: Settings, portrait: Path, short_speech: bytes
) -> None:
    async with open_services(settings) as app:
        # There is one face; the child finds that out, not the door.
        started = await ordered(app, content_of(portrait), short_speech, face=7)
        done = await app.generations.wait(LOCAL, started.id, timeout_s=120)
        balance = await app.credits.balance(LOCAL)

    assert (done.state, done.error_code) == (State.FAILED, "no_such_face")
    assert done.error is not None
    assert (balance.total, balance.held) == (5_000_000, 0)


async def test_a_restart_goes_on_where_the_last_process_stopped(
    settings: Settings, portrait: Path, short_speech: bytes
) -> None:
    async with open_services(settings, roles=()) as doors_alone:
        started = await ordered(doors_alone, content_of(portrait), short_speech, size=128, fps=10)
        secret = doors_alone.webhook_secret

    async with open_services(settings) as app:
        done = await app.generations.wait(LOCAL, started.id, timeout_s=120)

        assert done.state is State.SUCCEEDED, done.error
        assert app.webhook_secret == secret


async def test_a_provider_that_is_handed_in_serves_its_models(
    settings: Settings, tmp_path: Path
) -> None:
    models = tmp_path / "models.toml"
    write(
        models,
        """
        ["test/scripted"]
        provider = "scripted"
        description = "for rehearsals"
        rate_micros = 20_000
        price_read_on = 2026-11-22
        """,
    )
    changed = settings.model_copy(update={"models": models})
    provider = ScriptedProvider(SystemClock(), Script(start_s=0, run_s=0))
    async with open_services(changed, roles=(), providers=[provider]) as app:
        assert app.catalogue.choose("test/scripted").rate_micros == 20_000
        with pytest.raises(ModelUnavailable):
            app.catalogue.choose("wan-video/wan-2.2-s2v")
    assert not issubclass(ModelUnavailable, ProviderError)


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
