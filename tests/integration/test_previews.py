"""Free previews: two seconds by our own engine, bounded, and nothing to do with the ledger."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from sayso.artifacts.intake import Artifact
from sayso.artifacts.keys import ArtifactKey, artifact_key
from sayso.artifacts.store import folder_artifacts
from sayso.clock import Instant, SettableClock
from sayso.db.connect import Database
from sayso.db.tables import LOCAL_ACCOUNT
from sayso.errors import NoFace, PreviewNotReady, PreviewsUsedUp, QueueFull
from sayso.ids import AccountId, ArtifactId, Ids
from sayso.media.audio import write_beginning
from sayso.providers.previews import PREVIEW_S, Previews
from sayso.providers.render_worker import RenderWorkers
from sayso.providers.renders import PREVIEW_KEEP_S
from sayso.providers.scripted import write_grey_video
from tests.builders import NOON
from tests.services import Service, started

pytestmark = pytest.mark.anyio

ALICE = AccountId(LOCAL_ACCOUNT)
BOB = AccountId("bob_")


def an_artifact(kind: Any, *, letter: str = "a", account_id: AccountId = ALICE) -> Artifact:
    suffix = "jpg" if kind == "portrait" else "wav"
    sha256 = letter * 64
    return Artifact(
        id=ArtifactId(kind),
        account_id=account_id,
        kind=kind,
        key=artifact_key("local", kind, sha256=sha256, suffix=suffix),
        sha256=sha256,
        size_bytes=1,
        content_type="",
        facts={"duration_s": 7.5} if kind == "speech" else {},
        created_at=Instant(0),
    )


class Bench:
    """Previews on a real queue, and a worker whose child is a function of the test's."""

    def __init__(self, db: Database, folder: Path, **limits: Any) -> None:
        self.clock = SettableClock(NOON)
        self.ids = Ids(self.clock.now)
        self.store = folder_artifacts(folder / "artifacts")
        self.asked: list[Any] = []
        child: Callable[..., Any] = self.child
        values: dict[str, Any] = {"per_hour": 3, "queue": 2, "wait_s": 30, **limits}
        self.previews = Previews(db, clock=self.clock, ids=self.ids, **values)
        self.workers = RenderWorkers(
            db,
            clock=self.clock,
            ids=self.ids,
            artifacts=self.store,
            folder=folder,
            on_change=lambda _tx, _nonce: None,
            run=child,
        )

    async def prepare(self, folder: Path) -> None:
        for kind in ("portrait", "speech"):
            (folder / kind).write_bytes(b"x")
            await self.store.put_file(an_artifact(kind).key, folder / kind)

    async def child(self, _task: str, arguments: Any, **_: Any) -> Any:
        self.asked.append(arguments)
        write_grey_video(Path(arguments["output"]), 1.0)
        return {"notices": []}

    async def make(self, *, letter: str = "a", account_id: AccountId = ALICE) -> Any:
        """Ask for a preview while a worker works."""
        speech = an_artifact("speech", letter=letter, account_id=account_id)
        if letter != "a":
            await self.store.put_file(speech.key, self.store.local_path(an_artifact("speech").key))  # type: ignore[arg-type]
        portrait = an_artifact("portrait", account_id=account_id)
        making = asyncio.create_task(self.previews.make(account_id, portrait, speech))
        while not making.done():
            await self.workers.render_one()
            await asyncio.sleep(0.01)
        return making.result()


@pytest.fixture
async def bench(database: Database, tmp_path: Path) -> Bench:
    made = Bench(database, tmp_path)
    await made.prepare(tmp_path)
    return made


async def test_a_preview_is_made_of_the_first_two_seconds(bench: Bench) -> None:
    preview = await bench.make()

    assert bench.asked[0]["first_s"] == PREVIEW_S == preview.duration_s == 2
    assert bench.asked[0]["options"] == {"long_side_px": 480}
    assert preview.expires_at == NOON + 3600 * 1_000_000
    assert (await bench.store.stat(preview.video_key)).size_bytes > 0


async def test_the_same_inputs_are_the_same_preview_and_do_not_count(bench: Bench) -> None:
    first = await bench.make()

    again = [await bench.make() for _ in range(4)]

    assert {preview.id for preview in again} == {first.id}
    assert len(bench.asked) == 1


async def test_an_account_gets_so_many_in_an_hour(bench: Bench) -> None:
    for number, letter in enumerate("abc"):
        bench.clock.advance(60 * (number > 0))
        await bench.make(letter=letter)

    with pytest.raises(PreviewsUsedUp) as refused:
        await bench.make(letter="d")

    assert refused.value.retry_after_s == 3600 - 120
    await bench.make(letter="d", account_id=BOB)
    bench.clock.advance(3600 - 119)
    await bench.make(letter="d")


async def test_a_full_queue_refuses_previews(database: Database, tmp_path: Path) -> None:
    bench = Bench(database, tmp_path, wait_s=0)
    for letter in "ab":
        with pytest.raises(PreviewNotReady):
            await bench.previews.make(
                ALICE, an_artifact("portrait"), an_artifact("speech", letter=letter)
            )

    with pytest.raises(QueueFull):
        await bench.previews.make(ALICE, an_artifact("portrait"), an_artifact("speech", letter="c"))


async def test_a_preview_is_forgotten_after_an_hour(bench: Bench) -> None:
    preview = await bench.make()
    path = bench.store.local_path(ArtifactKey(preview.video_key))
    assert path is not None
    bench.clock.advance(PREVIEW_KEEP_S - 1)
    await bench.workers._forget_old()
    assert path.exists()

    bench.clock.advance(2)
    await bench.workers._forget_old()

    assert not path.exists()
    assert (await bench.make()).id != preview.id


async def test_what_the_engine_refuses_is_told_with_its_own_error(bench: Bench) -> None:
    async def refuses(*_: Any, **__: Any) -> Any:
        raise NoFace("No face was found in the picture.")

    bench.workers._run_child = refuses

    with pytest.raises(NoFace, match="No face was found"):
        await bench.make()


def test_a_preview_over_http_costs_nothing(quick: Service, speech: Path, tmp_path: Path) -> None:
    """By the engine itself, of a recording that is longer than two seconds."""
    order = {
        "imageUrl": quick.portrait_url,
        "audioUrl": quick.upload(speech, "speech")["url"],
    }
    listed = quick.http.get("/api/generations").json()["generations"]
    entries = quick.credits()["entries"]

    answer = quick.http.post("/api/previews", json=order, timeout=120)

    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["duration"], body["model"]) == (2, "sayso/portrait")
    video = tmp_path / "preview.mp4"
    video.write_bytes(quick.http.get(body["url"]).content)
    with av.open(str(video)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert max(picture.width, picture.height) == 480
        assert picture.frames == 50
        samples = [frame.to_ndarray() for frame in container.decode(sound)]
        assert 1.9 < sum(part.shape[1] for part in samples) / sound.rate < 2.2
    assert quick.http.get("/api/generations").json()["generations"] == listed
    assert quick.credits()["entries"] == entries
    assert quick.spent() == (0, 0)


def test_bad_inputs_and_too_many_are_refused_over_http(
    tmp_path: Path, small_portrait: Path, short_speech: Path
) -> None:
    Image.effect_noise((300, 300), 40).convert("RGB").save(tmp_path / "noise.png")
    with started(
        tmp_path, portrait=small_portrait, speech=short_speech, previews_per_hour=1
    ) as service:
        order = {"imageUrl": service.portrait_url, "audioUrl": service.speech_url}
        faceless = service.upload(tmp_path / "noise.png", "portrait")["url"]
        other = service.upload(_louder(short_speech, tmp_path / "louder.wav"), "speech")["url"]

        no_face = service.http.post("/api/previews", json={**order, "imageUrl": faceless})
        gone = service.http.post("/api/previews", json={**order, "audioUrl": "/files/nothing"})
        first = service.http.post("/api/previews", json=order, timeout=120)
        second = service.http.post("/api/previews", json={**order, "audioUrl": other})

        assert (no_face.status_code, no_face.json()["code"]) == (422, "no_face")
        assert (gone.status_code, gone.json()["code"]) == (422, "url_refused")
        assert first.status_code == 201
        assert (second.status_code, second.json()["code"]) == (429, "previews_used_up")
        assert 3500 < int(second.headers["Retry-After"]) <= 3600


def _louder(speech: Path, target: Path) -> Path:
    with wave.open(str(speech)) as source, wave.open(str(target), "wb") as file:
        file.setparams(source.getparams())
        samples = np.frombuffer(source.readframes(source.getnframes()), "<i2")
        file.writeframes((samples // 2).astype("<i2").tobytes())
    return target


def test_the_beginning_of_a_recording_is_cut_exactly(speech: Path, tmp_path: Path) -> None:
    target = tmp_path / "cut.wav"

    write_beginning(speech, target, seconds=1.5)

    with wave.open(str(target)) as file:
        assert (file.getnframes(), file.getframerate()) == (72_000, 48_000)
        assert np.frombuffer(file.readframes(72_000), "<i2").std() > 100
    write_beginning(target, tmp_path / "whole.wav", seconds=60)
    with wave.open(str(tmp_path / "whole.wav")) as file:
        assert file.getnframes() == 72_000
