"""Inputs: taken in from wherever they come, stored once, checked against the model."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select

from sayso.artifacts.intake import Artifact, InputLimits, Inputs
from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.artifacts.store import ArtifactStore, folder_artifacts
from sayso.catalogue.limits import PortraitLimits, SpeechLimits
from sayso.clock import SECOND, SettableClock, after
from sayso.db.connect import Database
from sayso.db.tables import artifacts, files
from sayso.errors import (
    ArtifactMissing,
    FaceTurned,
    ImageTooLarge,
    ImageTooSmall,
    ImageUnsupported,
    LinkExpired,
    LinkRefused,
    NoFace,
    Notice,
    SpeechTooLarge,
    SpeechTooLong,
    SpeechTooShort,
    SpeechUnreadable,
    SpeechUnsupported,
    UploadTooLarge,
    UrlRefused,
)
from sayso.ids import AccountId, ArtifactId, Ids
from sayso.media.fetch import Fetcher
from sayso.media.inspection import Box, ImageFacts, Inspector, SpeechFacts
from sayso.media.intake import Intake
from tests.builders import ALICE, BOB, NOON, an_account
from tests.workshop import MODEL

pytestmark = pytest.mark.anyio

FACE = ImageFacts("png", 640, 480, Box(1, 2, 30, 40), 1, None, (), b"a small picture")
SOUND = SpeechFacts("ogg", 9.5, "opus", (Notice("quiet", "The speech is quiet."),))


def first_letter(path: Path) -> bytes:
    return path.read_bytes()[:1]


@dataclass
class StubInspector(Inspector):
    """Knows a picture and a recording by their first letter."""

    looked_at: list[str] = field(default_factory=list)

    async def image(self, path: Path) -> ImageFacts:
        self.looked_at.append("image")
        if first_letter(path) != b"P":
            raise ImageUnsupported("This is no picture.")
        return FACE

    async def speech(self, path: Path) -> SpeechFacts:
        self.looked_at.append("speech")
        if first_letter(path) != b"S":
            raise SpeechUnreadable("This is no recording.")
        return SOUND


@dataclass
class Desk:
    """Where inputs come in."""

    inputs: Inputs
    inspector: StubInspector
    store: ArtifactStore
    links: FileLinks
    clock: SettableClock
    db: Database

    def link(self, artifact: Artifact) -> str:
        return self.links.sign(artifact.key, now_s=self.clock.now() / SECOND)


@pytest.fixture
async def desk(database: Database, tmp_path: Path) -> Desk:
    for account_id in (ALICE, BOB):
        await database.write(lambda tx, who=account_id: an_account(tx, who))  # type: ignore[misc]
    clock = SettableClock(NOON)
    store = folder_artifacts(tmp_path / "artifacts")
    links = FileLinks([LinkSecret("a", b"x" * 32)])
    intake = Intake(tmp_path / "arriving")
    inspector = StubInspector()
    inputs = Inputs(
        database,
        clock=clock,
        ids=Ids(clock.now),
        store=store,
        links=links,
        intake=intake,
        fetcher=Fetcher(intake, transport=httpx.MockTransport(lambda _: httpx.Response(404))),
        inspector=inspector,
        limits=InputLimits(image_bytes=100, speech_bytes=200),
    )
    return Desk(inputs, inspector, store, links, clock, database)


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 7):
        yield content[start : start + 7]


async def taken(desk: Desk, content: bytes, kind: Any = None, who: AccountId = ALICE) -> Artifact:
    return await desk.inputs.take_stream(who, pieces(content), kind=kind)


async def test_a_stream_is_stored_with_what_was_found(desk: Desk) -> None:
    portrait = await taken(desk, b"Picture", "portrait")
    speech = await taken(desk, b"Speech", "speech")

    assert (portrait.kind, portrait.width, portrait.content_type) == ("portrait", 640, "image/png")
    assert portrait.face == {"x": 1, "y": 2, "width": 30, "height": 40}
    assert (speech.duration_s, speech.notices[0].code) == (9.5, "quiet")
    assert (await desk.store.stat(portrait.key)).size_bytes == len(b"Picture")
    assert await desk.inputs.get(ALICE, portrait.id) == portrait
    with pytest.raises(ArtifactMissing):
        await desk.inputs.get(BOB, portrait.id)


async def test_a_thumbnail_is_its_owners_and_apart_from_the_facts(desk: Desk) -> None:
    portrait = await taken(desk, b"Picture", "portrait")
    speech = await taken(desk, b"Speech", "speech")

    assert await desk.inputs.thumbnail(ALICE, portrait.id) == FACE.thumbnail
    assert "thumbnail" not in portrait.facts
    for who, what in ((BOB, portrait), (ALICE, speech)):
        with pytest.raises(ArtifactMissing):
            await desk.inputs.thumbnail(who, what.id)


async def test_without_a_kind_the_content_decides(desk: Desk) -> None:
    assert (await taken(desk, b"Picture")).kind == "portrait"
    assert (await taken(desk, b"Speech")).kind == "speech"
    with pytest.raises(SpeechUnreadable):
        await taken(desk, b"neither")


async def test_the_same_bytes_are_the_same_artifact_and_are_looked_at_once(desk: Desk) -> None:
    first, second = await taken(desk, b"Picture"), await taken(desk, b"Picture")
    others = await taken(desk, b"Picture", who=BOB)

    assert second == first
    assert others.id != first.id
    assert desk.inspector.looked_at == ["image", "image"]


async def test_a_file_that_went_missing_is_stored_again(desk: Desk) -> None:
    first = await taken(desk, b"Picture")
    await desk.store.delete(first.key)

    assert await taken(desk, b"Picture") == first
    assert (await desk.store.stat(first.key)).size_bytes == len(b"Picture")


async def test_too_much_is_refused_by_kind(desk: Desk) -> None:
    with pytest.raises(UploadTooLarge):
        await taken(desk, b"P" * 101, "portrait")
    with pytest.raises(UploadTooLarge):
        await taken(desk, b"S" * 201)
    count = select(artifacts.c.id)
    assert await desk.db.read(lambda tx: tx.execute(count).all()) == []


async def test_a_data_url_is_decoded_here(desk: Desk) -> None:
    encoded = base64.b64encode(b"Picture").decode()

    found = await desk.inputs.take_url(ALICE, f"data:image/png;base64,{encoded}", kind="portrait")

    assert found.sha256 == hashlib.sha256(b"Picture").hexdigest()


@pytest.mark.parametrize("host", ["", "http://127.0.0.1:8000", "https://sayso.example"])
async def test_a_link_of_ours_is_known_by_its_signature(desk: Desk, host: str) -> None:
    upload = await taken(desk, b"Picture")

    found = await desk.inputs.take_url(ALICE, host + desk.link(upload), kind="portrait")

    assert found == upload
    assert desk.inspector.looked_at == ["image"]


async def test_a_link_to_anothers_file_gives_a_copy(desk: Desk) -> None:
    upload = await taken(desk, b"Picture", who=BOB)

    found = await desk.inputs.take_url(ALICE, desk.link(upload), kind="portrait")

    assert (found.account_id, found.sha256) == (ALICE, upload.sha256)
    assert found.key != upload.key


async def test_links_that_are_not_ours_are_refused(desk: Desk) -> None:
    upload = await taken(desk, b"Picture")
    link = desk.link(upload)

    with pytest.raises(LinkRefused):
        await desk.inputs.take_url(ALICE, link + "0", kind="portrait")
    with pytest.raises(LinkRefused):
        await desk.inputs.take_url(ALICE, "/etc/passwd", kind="portrait")
    with pytest.raises(UrlRefused):  # Not ours, so it goes through the guard.
        await desk.inputs.take_url(ALICE, f"http://127.0.0.1:8000{link}0", kind="portrait")
    desk.clock.advance(3 * 3600)
    for host in ("", "http://127.0.0.1:8000"):
        with pytest.raises(LinkExpired):
            await desk.inputs.take_url(ALICE, host + link, kind="portrait")


async def test_a_file_of_v1_is_taken_by_its_owner_until_it_expires(desk: Desk) -> None:
    upload = await taken(desk, b"Picture")

    def put(tx: Any) -> None:
        tx.execute(
            insert(files).values(
                id="f1",
                account_id=ALICE,
                name="it.png",
                content_type="image/png",
                size_bytes=7,
                sha256=upload.sha256,
                md5="",
                storage_key=upload.key,
                created_at=NOON,
                expires_at=after(NOON, 60),
            )
        )

    await desk.db.write(put)

    found = await desk.inputs.take_url(ALICE, "http://localhost:1/v1/files/f1", kind="portrait")
    assert found == upload
    with pytest.raises(LinkRefused):
        await desk.inputs.take_url(BOB, "/v1/files/f1", kind="portrait")
    desk.clock.advance(61)
    with pytest.raises(LinkRefused):
        await desk.inputs.take_url(ALICE, "/v1/files/f1", kind="portrait")


async def test_a_model_that_needs_a_face_refuses_a_portrait_without(desk: Desk) -> None:
    portrait = await taken(desk, b"Picture", "portrait")
    speech = await taken(desk, b"Speech", "speech")
    careless = replace(MODEL, needs_face=False)

    assert [n.code for n in desk.inputs.check(MODEL, portrait, speech)] == ["quiet"]
    for problem in (NoFace, FaceTurned):
        faceless = replace(
            portrait,
            id=ArtifactId("x"),
            facts={**portrait.facts, "face_problem": {"code": problem.code, "text": "No."}},
        )
        with pytest.raises(problem):
            desk.inputs.check(MODEL, faceless, speech)
        told = desk.inputs.check(careless, faceless, speech)
        assert [notice.code for notice in told] == [problem.code, "quiet"]


async def test_a_speech_that_is_too_long_for_the_model_is_refused(desk: Desk) -> None:
    portrait = await taken(desk, b"Picture", "portrait")
    speech = await taken(desk, b"Speech", "speech")

    with pytest.raises(SpeechTooLong, match=r"test/model takes 9 s of speech at most"):
        desk.inputs.check(replace(MODEL, max_speech_s=9), portrait, speech)


async def test_files_that_the_model_does_not_take_are_refused(desk: Desk) -> None:
    portrait = await taken(desk, b"Picture", "portrait")
    speech = await taken(desk, b"Speech", "speech")
    width, height = portrait.width, portrait.height
    assert width is not None
    assert height is not None
    for refusal, model in (
        (ImageUnsupported, replace(MODEL, portrait=PortraitLimits(formats=("bmp",)))),
        (ImageTooSmall, replace(MODEL, portrait=PortraitLimits(min_side_px=height + width))),
        (ImageTooLarge, replace(MODEL, portrait=PortraitLimits(max_bytes=portrait.size_bytes - 1))),
        (SpeechUnsupported, replace(MODEL, speech=SpeechLimits(formats=("webm",)))),
        (SpeechTooLarge, replace(MODEL, speech=SpeechLimits(max_bytes=speech.size_bytes - 1))),
        (SpeechTooShort, replace(MODEL, speech=SpeechLimits(min_s=speech.facts["duration_s"] + 1))),
    ):
        with pytest.raises(refusal, match="test/model takes"):
            desk.inputs.check(model, portrait, speech)
