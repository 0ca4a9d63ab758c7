"""Files that go while the same bytes come: a row never loses its file, on both databases.

The store stands still in the middle of a step, and everything else happens in between.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from sayso.artifacts.files import Files
from sayso.artifacts.intake import Artifact, InputLimits, Inputs
from sayso.artifacts.keys import ArtifactKey, own_key
from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.artifacts.store import ArtifactStore, StoredFile, folder_artifacts
from sayso.clock import SettableClock
from sayso.db.connect import Database
from sayso.db.tables import artifacts, files, generations
from sayso.db.tx import Tx
from sayso.generations.service import Generations
from sayso.ids import GenerationId, Ids
from sayso.media.fetch import Fetcher
from sayso.media.inspection import ImageFacts, Inspector, SpeechFacts
from sayso.media.intake import Intake
from sayso.providers.scripted import TRAITS
from tests.builders import ALICE, NOON, a_generation, an_account

pytestmark = pytest.mark.anyio

FACTS = ImageFacts(
    suffix="png",
    width=8,
    height=8,
    face=None,
    n_faces=0,
    face_problem=None,
    notices=(),
    thumbnail=b"RIFF",
)


class Halting(ArtifactStore):
    """Stands still before or after one step, until it is let go."""

    def __init__(self, inner: ArtifactStore) -> None:
        super().__init__(inner._store, folder=inner._folder)
        self.halt_before_delete = False
        self.halt_after_put = False
        self.arrived = asyncio.Event()
        self.go_on = asyncio.Event()

    async def put_file(self, key: ArtifactKey, source: Path) -> StoredFile:
        stored = await super().put_file(key, source)
        if self.halt_after_put:
            self.halt_after_put = False
            await self._stand_still()
        return stored

    async def delete(self, key: ArtifactKey) -> None:
        if self.halt_before_delete:
            self.halt_before_delete = False
            await self._stand_still()
        await super().delete(key)

    async def _stand_still(self) -> None:
        self.arrived.set()
        await self.go_on.wait()


class Seeing(Inspector):
    """Takes anything for a picture."""

    async def image(self, path: Path) -> ImageFacts:
        return FACTS

    async def speech(self, path: Path) -> SpeechFacts:
        raise NotImplementedError


class House:
    """Inputs, files and generations on one database and one store."""

    def __init__(self, db: Database, folder: Path) -> None:
        self.db = db
        self.store = Halting(folder_artifacts(folder / "artifacts"))
        clock, intake = SettableClock(NOON), Intake(folder / "arriving")
        ids = Ids(clock.now)
        self.inputs = Inputs(
            db,
            clock=clock,
            ids=ids,
            store=self.store,
            links=FileLinks([LinkSecret("a", b"x" * 32)]),
            intake=intake,
            fetcher=Fetcher(intake, transport=httpx.MockTransport(lambda _: httpx.Response(404))),
            inspector=Seeing(),
            limits=InputLimits(image_bytes=100, speech_bytes=100),
        )
        self.files = Files(
            db,
            clock=clock,
            ids=ids,
            store=self.store,
            intake=intake,
            secret=b"x" * 32,
            max_bytes=100,
        )
        self.generations = Generations(
            db, clock=clock, ids=ids, artifacts=self.store, traits={"scripted": TRAITS}
        )

    async def upload(self) -> Artifact:
        return await self.inputs.take_stream(ALICE, pieces(b"Picture"), kind="portrait")

    async def used_by(self, artifact: Artifact, *, state: str = "failed") -> GenerationId:
        """Insert a generation that has ended and alone uses this portrait."""

        def insert(tx: Tx) -> GenerationId:
            return a_generation(tx, state=state, price=0, portrait_id=artifact.id)

        return await self.db.write(insert)

    async def rows(self) -> list[tuple[str, str]]:
        query = select(artifacts.c.id, artifacts.c.storage_key)
        found = await self.db.read(lambda tx: tx.execute(query).all())
        return [(row.id, row.storage_key) for row in found]

    async def require_files(self) -> None:
        """Fail when a row has no file."""
        for _, key in await self.rows():
            await self.store.stat(ArtifactKey(key))


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> House:
    await database.write(lambda tx: an_account(tx, ALICE))
    return House(database, tmp_path)


async def test_bytes_that_come_while_their_file_goes_are_there_afterwards(house: House) -> None:
    """The delete has decided, and stands before the store; then the same bytes are handed in."""
    first = await house.upload()
    last_use = await house.used_by(first)
    house.store.halt_before_delete = True

    deleting = asyncio.create_task(house.generations.delete(ALICE, last_use))
    await house.store.arrived.wait()
    second = await house.upload()
    house.store.go_on.set()
    await deleting

    assert second.id != first.id
    assert [row[0] for row in await house.rows()] == [second.id]
    await house.require_files()


async def test_a_file_that_goes_while_its_bytes_come_is_not_missed(house: House) -> None:
    """The upload has stored its file, and stands before its row; then the last use is deleted."""
    first = await house.upload()
    last_use = await house.used_by(first)
    house.store.halt_after_put = True

    uploading = asyncio.create_task(house.upload())
    await house.store.arrived.wait()
    await house.generations.delete(ALICE, last_use)
    house.store.go_on.set()
    second = await uploading

    assert second.id != first.id
    assert [row[0] for row in await house.rows()] == [second.id]
    await house.require_files()
    assert not await is_there(house.store, first.key)


async def test_of_two_uploads_of_the_same_bytes_one_file_stays(house: House) -> None:
    house.store.halt_after_put = True

    slow = asyncio.create_task(house.upload())
    await house.store.arrived.wait()
    quick = await house.upload()
    house.store.go_on.set()

    assert await slow == quick
    await house.require_files()
    assert await stored_names(house.store) == {quick.key}


async def test_a_video_like_a_deleted_one_keeps_its_file(house: House) -> None:
    """Two generations made the same bytes; deleting the one never touches the other's file."""
    digest = hashlib.sha256(b"video").hexdigest()
    keys = [
        own_key(ALICE, "video", owner=name, sha256=digest, suffix="mp4") for name in ("one", "two")
    ]
    assert keys[0] != keys[1]
    assert keys[0] == own_key(ALICE, "video", owner="one", sha256=digest, suffix="mp4")

    def insert(tx: Tx) -> None:
        for name, key in zip(("one", "two"), keys, strict=True):
            a_generation(tx, generation_id=name, state="succeeded", price=0)
            tx.execute(
                update(artifacts).where(artifacts.c.id == f"video-{name}").values(storage_key=key)
            )

    await house.db.write(insert)
    source = house.store._folder
    assert source is not None
    for key in keys:
        await house.store.put_file(key, written(source.parent / "video", b"video"))

    await house.generations.delete(ALICE, GenerationId("one"))

    await house.require_files()
    assert not await is_there(house.store, keys[0])
    state = select(generations.c.video_id).where(generations.c.id == "two")
    assert await house.db.read(lambda tx: tx.execute(state).scalar_one()) == "video-two"


async def test_a_v1_file_does_not_go_with_one_of_the_same_bytes(house: House) -> None:
    async def keep() -> Any:
        async with house.files.receive(pieces(b"same")) as received:
            return await house.files.keep(
                ALICE, received, name="a.wav", content_type="audio/wav", metadata={}
            )

    first = await keep()
    house.store.halt_before_delete = True
    deleting = asyncio.create_task(house.files.delete(ALICE, first.id))
    await house.store.arrived.wait()
    second = await keep()
    house.store.go_on.set()
    await deleting

    query = select(files.c.id, files.c.storage_key)
    rows = await house.db.read(lambda tx: tx.execute(query).all())
    assert [row.id for row in rows] == [second.id]
    await house.store.stat(ArtifactKey(rows[0].storage_key))
    assert asdict(second)["sha256"] == asdict(first)["sha256"]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def is_there(store: Halting, key: ArtifactKey) -> bool:
    return key in await stored_names(store)


async def stored_names(store: Halting) -> set[str]:
    folder = store._folder
    assert folder is not None
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
