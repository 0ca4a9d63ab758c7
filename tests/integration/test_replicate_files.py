"""`/v1/files` over real HTTP, and the life of a file on both databases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from sayso.artifacts.files import KEPT_S, File, Files
from sayso.artifacts.store import ArtifactStore, folder_artifacts
from sayso.clock import SettableClock
from sayso.db.connect import Database
from sayso.errors import ArtifactMissing, LinkExpired, UploadTooLarge
from sayso.ids import Ids
from sayso.media.intake import Intake
from tests.builders import ALICE, BOB, NOON, an_account
from tests.services import MODEL, PRICE_MICROS, Service


def hand_in(service: Service, path: Path, **metadata: str) -> httpx.Response:
    files: dict[str, tuple[str, bytes | str, str]] = {
        "content": (path.name, path.read_bytes(), "application/x-mine"),
        "metadata": ("blob", json.dumps(metadata), "application/json"),
    }
    return service.http.post("/v1/files", files=files)


def test_a_file_is_kept_described_listed_given_back_and_deleted(service: Service) -> None:
    content = service.portrait.read_bytes()

    answer = hand_in(service, service.portrait, of="me")

    body = answer.json()
    assert answer.status_code == 201
    assert body["name"] == service.portrait.name
    assert body["content_type"] == "application/x-mine"
    assert body["size"] == len(content)
    assert body["metadata"] == {"of": "me"}
    assert body["checksums"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
    }
    assert body["urls"]["get"] == f"{service.url}/v1/files/{body['id']}"
    assert service.http.get(body["urls"]["get"]).json() == body
    assert service.http.get("/v1/files").json()["results"][0] == body
    assert service.http.get(body["urls"]["download"]).content == content
    assert service.http.delete(body["urls"]["get"]).status_code == 204
    assert service.http.get(body["urls"]["get"]).status_code == 404
    assert service.http.delete(body["urls"]["get"]).status_code == 404


def test_a_prediction_takes_files_as_inputs(service: Service) -> None:
    image, audio = (hand_in(service, path).json() for path in (service.portrait, service.speech))

    answer = service.http.post(
        f"/v1/models/{MODEL}/predictions",
        json={"input": {"image": image["urls"]["get"], "audio": audio["urls"]["get"]}},
        headers={"Prefer": "wait"},
    )

    assert answer.json()["status"] == "succeeded"
    assert service.spent() == (PRICE_MICROS, 0)


def test_a_link_is_no_good_for_another_file_or_when_it_was_changed(quick: Service) -> None:
    one, other = (hand_in(quick, path).json() for path in (quick.portrait, quick.speech))
    link = one["urls"]["download"]

    for_another = quick.http.get(link.replace(one["id"], other["id"]))
    longer = quick.http.get(link.replace("expiry=", "expiry=9"))
    unsigned = quick.http.get(f"/v1/files/{one['id']}/download")

    assert [answer.status_code for answer in (for_another, longer, unsigned)] == [403] * 3


def test_a_form_without_content_or_with_odd_metadata_is_refused(quick: Service) -> None:
    nothing = quick.http.post("/v1/files", files={"other": b"x"})
    odd = quick.http.post("/v1/files", files={"content": b"x", "metadata": (None, "[1]")})
    plain = quick.http.post("/v1/files", content=b"x")

    assert [answer.status_code for answer in (nothing, odd, plain)] == [422, 422, 415]
    assert "content" in nothing.json()["detail"]


@pytest.mark.parametrize(
    "metadata",
    ['{"a": NaN}', '{"a": [1e999]}', '{"a": "\\u0000"}', '{"a": "\\ud800"}', '{"\\u0000": 1}'],
)
def test_metadata_that_could_not_be_told_again_is_refused(service: Service, metadata: str) -> None:
    answer = service.http.post("/v1/files", files={"content": b"x", "metadata": (None, metadata)})

    assert (answer.status_code, answer.json()["code"]) == (422, "body_invalid")
    assert answer.json()["detail"] == "metadata: must be a JSON object."


MAX_BYTES = 1_000


class Shelf:
    """Files on a clock that is moved by hand."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.clock = SettableClock(NOON)
        self.store: ArtifactStore = folder_artifacts(folder / "artifacts")
        self.files = Files(
            database,
            clock=self.clock,
            ids=Ids(self.clock.now),
            store=self.store,
            intake=Intake(folder / "arriving"),
            secret=bytes(32),
            max_bytes=MAX_BYTES,
        )

    async def put(self, content: bytes, name: str = "a.png") -> File:
        async with self.files.receive(_pieces(content)) as received:
            return await self.files.keep(
                ALICE, received, name=name, content_type="image/png", metadata={}
            )

    async def is_stored(self, file: File) -> bool:
        try:
            await self.store.stat(file.storage_key)
        except ArtifactMissing:
            return False
        return True


@pytest.fixture
async def shelf(database: Database, tmp_path: Path) -> Shelf:
    await database.write(an_account)
    return Shelf(database, tmp_path)


@pytest.mark.anyio
async def test_a_file_is_gone_after_its_day_and_so_are_its_bytes(shelf: Shelf) -> None:
    file = await shelf.put(b"one")
    query = shelf.files.sign(file)
    assert await shelf.files.verify(file.id, query) == file

    shelf.clock.advance(KEPT_S)

    with pytest.raises(ArtifactMissing):
        await shelf.files.get(ALICE, file.id)
    with pytest.raises(LinkExpired):
        await shelf.files.verify(file.id, query)
    assert await shelf.is_stored(file)
    assert await shelf.files.sweep() == 1
    assert not await shelf.is_stored(file)
    assert await shelf.files.sweep() == 0


@pytest.mark.anyio
async def test_the_same_bytes_are_stored_for_each_file(shelf: Shelf) -> None:
    one, other = await shelf.put(b"same"), await shelf.put(b"same", "b.png")
    assert one.storage_key != other.storage_key

    await shelf.files.delete(ALICE, one.id)
    assert not await shelf.is_stored(one)
    assert await shelf.is_stored(other)
    await shelf.files.delete(ALICE, other.id)

    assert not await shelf.is_stored(other)


@pytest.mark.anyio
async def test_files_are_listed_in_pages_newest_first(shelf: Shelf) -> None:
    kept = []
    for number in range(5):
        kept.append(await shelf.put(bytes([number])))
        shelf.clock.advance(1)

    first = await shelf.files.page(ALICE, limit=2)
    second = await shelf.files.page(ALICE, cursor=first.next, limit=2)
    third = await shelf.files.page(ALICE, cursor=second.next, limit=2)
    again = await shelf.files.page(ALICE, cursor=third.previous, limit=2)
    begin = await shelf.files.page(ALICE, cursor=again.previous, limit=2)

    assert [*first.items, *second.items, *third.items] == kept[::-1]
    assert (third.next, first.previous) == (None, None)
    assert (again, begin) == (second, first)


@pytest.mark.anyio
async def test_nobody_else_sees_a_file(shelf: Shelf) -> None:
    file = await shelf.put(b"mine")

    with pytest.raises(ArtifactMissing):
        await shelf.files.get(BOB, file.id)
    with pytest.raises(ArtifactMissing):
        await shelf.files.delete(BOB, file.id)
    assert (await shelf.files.page(BOB)).items == ()


@pytest.mark.anyio
async def test_a_file_above_the_limit_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(UploadTooLarge):
        await shelf.put(bytes(MAX_BYTES + 1))

    assert (await shelf.files.page(ALICE)).items == ()
    assert not list((tmp_path / "arriving").iterdir())


@pytest.mark.anyio
async def test_a_name_is_kept_as_far_as_it_can_be_repeated(shelf: Shelf) -> None:
    file = await shelf.put(b"x", "a\0b\n" + "é" * 200 + ".png")

    assert file.name.startswith("abé")
    assert len(file.name.encode()) <= 255
    assert file.storage_key.endswith(".png")


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 100):
        yield content[at : at + 100]
