"""A generation's thumbnail: made in the child, kept in the portrait's row, given to its owner."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from PIL import Image, ImageOps
from sqlalchemy import inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from sayso.db import upgrade as upgrades
from sayso.db.connect import Database, open_database
from sayso.db.tables import artifacts, generations
from sayso.db.tx import Tx
from sayso.db.upgrade import HEAD, revision, upgrade
from sayso.errors import ChildCrashed
from sayso.media.child import ChildLimits, Json
from sayso.media.inspection import Inspector
from sayso.media.thumbnail import LARGEST_BYTES, SIDE_PX
from tests.builders import ALICE, NOON
from tests.databases import PostgresServer
from tests.services import Service

WEBP = b"RIFF\x08\0\0\0WEBPVP8 "


def code_of(answer: Any) -> str:
    return str(answer.json()["code"])


def path_of(generation_id: str) -> str:
    return f"/api/generations/{generation_id}/thumbnail"


# Over HTTP, on both databases.


def test_a_generation_is_known_by_the_face_of_its_portrait(
    service: Service, tmp_path: Path
) -> None:
    """From its first moment; it goes with the generation."""
    generation_id = service.start(**service.own_inputs(tmp_path, seconds=0.7))

    first = service.http.get(path_of(generation_id))

    assert first.status_code == 200
    assert first.headers["content-type"] == "image/webp"
    assert first.headers["cache-control"] == "private, no-cache"
    assert len(first.content) <= LARGEST_BYTES
    with Image.open(io.BytesIO(first.content)) as seen, Image.open(service.portrait) as whole:
        assert (seen.format, seen.size) == ("WEBP", (SIDE_PX, SIDE_PX))
        # The sample's face is a small part of the picture: the whole would be mostly a space suit.
        assert likeness(seen, whole) > 25
    service.until_final(generation_id)
    assert service.http.get(path_of(generation_id)).content == first.content
    assert service.http.delete(f"/api/generations/{generation_id}").status_code == 204
    gone = service.http.get(path_of(generation_id))
    assert (gone.status_code, code_of(gone)) == (404, "no_such_generation")
    assert gone.headers["content-type"] == "application/problem+json"


def likeness(one: Image.Image, other: Image.Image) -> float:
    """How far two pictures differ, in levels of grey."""
    small, large = (ImageOps.fit(picture, (24, 24)).convert("L") for picture in (one, other))
    pairs = zip(small.tobytes(), large.tobytes(), strict=True)
    return sum(abs(a - b) for a, b in pairs) / 576


def test_who_has_the_picture_is_not_sent_it_again(quick: Service) -> None:
    generation_id = quick.start(model="test/free")
    etag = quick.http.get(path_of(generation_id)).headers["etag"]

    known = quick.http.get(path_of(generation_id), headers={"If-None-Match": etag})
    other = quick.http.get(path_of(generation_id), headers={"If-None-Match": '"x"'})
    head = quick.http.head(path_of(generation_id))

    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    assert other.status_code == 200
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(other.content)


def test_every_way_in_makes_one(quick: Service) -> None:
    """By `data:` and by `/v1`, whose bytes nobody has handed in before."""
    with Image.open(quick.portrait) as picture:
        mirrored, turned = ImageOps.mirror(picture), ImageOps.expand(picture, 9, "white")
    speech = quick.speech_url

    by_data = quick.start(imageUrl=data_url(mirrored), audioUrl=speech)
    by_v1 = quick.http.post(
        "/v1/models/test/scripted/predictions",
        json={"input": {"image": data_url(turned), "audio": speech}},
    )

    assert by_v1.status_code in {201, 202}, by_v1.text
    for generation_id in (by_data, by_v1.json()["id"]):
        assert quick.http.get(path_of(generation_id)).status_code == 200
        quick.until_final(generation_id)


def data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


@pytest.mark.anyio
async def test_an_older_portrait_has_none(service: Service, tmp_path: Path) -> None:
    """Nobody makes it later: its row stays as it was stored."""
    generation_id = service.start(**service.own_inputs(tmp_path, seconds=0.6))
    service.until_final(generation_id)
    url = service.settings.database_url
    db = await open_database(
        url.get_secret_value() if url else f"sqlite:///{service.settings.data / 'sayso.db'}"
    )

    def forget(tx: Tx) -> None:
        portrait = select(generations.c.portrait_id).where(generations.c.id == generation_id)
        of_it = artifacts.c.id == portrait.scalar_subquery()
        assert tx.execute(update(artifacts).where(of_it).values(thumbnail=None)).rowcount == 1

    await db.write(forget)
    await db.close()

    answer = service.http.get(path_of(generation_id))

    assert (answer.status_code, code_of(answer)) == (404, "artifact_missing")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    service.http.delete(f"/api/generations/{generation_id}")


@pytest.mark.parametrize("generation_id", ["0" * 26, "x", "%00"])
def test_an_unknown_generation_has_none(quick: Service, generation_id: str) -> None:
    answer = quick.http.get(path_of(generation_id))

    assert (answer.status_code, code_of(answer)) == (404, "no_such_generation")


# What a child says is checked.


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        "not base64!",
        base64.b64encode(b"<svg onload='alert(1)'/>").decode(),
        base64.b64encode(WEBP + bytes(LARGEST_BYTES)).decode(),
    ],
)
async def test_a_thumbnail_that_is_none_is_not_believed(portrait: Path, said: str | None) -> None:
    with pytest.raises(ChildCrashed):
        await Inspector(run=saying(said)).image(portrait)
    good = base64.b64encode(WEBP).decode()
    assert (await Inspector(run=saying(good)).image(portrait)).thumbnail == WEBP


def saying(thumbnail: str | None) -> Any:
    async def run(task: str, arguments: Mapping[str, Json], *, limits: ChildLimits) -> Json:
        return {
            "suffix": "jpg",
            "width": 8,
            "height": 8,
            "face": None,
            "n_faces": 0,
            "face_problem": None,
            "notices": [],
            "thumbnail": thumbnail,
        }

    return run


# The column.


@pytest.fixture
async def at_0003(
    database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Database]:
    """A database as the schema before had it, with an account and a portrait in it."""
    server: PostgresServer | None = None
    url = f"sqlite:///{tmp_path / 'old.db'}"
    if database_kind == "postgresql":
        server = request.getfixturevalue("postgres")
        url = server.make_database(template=None)
    db = await open_database(url)
    await db.write(migrate_to_0003)
    await db.write(insert_portrait)
    yield db
    await db.close()
    if server is not None:
        server.drop_database(url)


def migrate_to_0003(tx: Tx) -> None:
    config = Config()
    folder = Path(upgrades.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = tx
    command.upgrade(config, "0003")


def insert_portrait(tx: Tx) -> None:
    tx.execute(
        text("INSERT INTO accounts (id, kind, created_at) VALUES (:who, 'customer', 1)"),
        {"who": ALICE},
    )
    tx.execute(
        text(
            "INSERT INTO artifacts (id, account_id, kind, sha256, size_bytes, content_type,"
            " storage_key, facts, created_at) VALUES ('old', :who, 'portrait', 'abc', 7,"
            " 'image/png', 'key', :facts, :now)"
        ),
        {"who": ALICE, "facts": '{"width":8}', "now": NOON},
    )


@pytest.mark.anyio
async def test_the_migration_keeps_what_is_there(at_0003: Database) -> None:
    assert await at_0003.read(revision) == "0003"

    await upgrade(at_0003)

    assert await at_0003.read(revision) == HEAD
    row = await at_0003.read(lambda tx: tx.execute(select(artifacts)).mappings().one())
    assert dict(row) == {
        "id": "old",
        "account_id": ALICE,
        "kind": "portrait",
        "sha256": "abc",
        "size_bytes": 7,
        "content_type": "image/png",
        "storage_key": "key",
        "facts": {"width": 8},
        "created_at": NOON,
        "thumbnail": None,
    }
    names = await at_0003.read(lambda tx: inspect(tx).get_columns("artifacts"))
    assert names[-1]["name"] == "thumbnail"


@pytest.mark.anyio
async def test_the_table_itself_keeps_thumbnails_small(at_0003: Database) -> None:
    await upgrade(at_0003)

    def put(tx: Tx, size_bytes: int) -> None:
        tx.execute(update(artifacts).values(thumbnail=bytes(size_bytes)))

    await at_0003.write(lambda tx: put(tx, LARGEST_BYTES))
    for size_bytes in (0, LARGEST_BYTES + 1):
        with pytest.raises(DBAPIError, match="thumbnail_small"):
            await at_0003.write(lambda tx, size=size_bytes: put(tx, size))  # type: ignore[misc]
    found = await at_0003.read(lambda tx: tx.execute(select(artifacts.c.thumbnail)).scalar_one())
    assert bytes(found) == bytes(LARGEST_BYTES)
