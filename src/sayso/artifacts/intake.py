"""Inputs: what people hand in, from wherever it comes, stored once with what it is.

    Inputs.take_stream()   bytes that arrive
    Inputs.take_url()      http(s) through the guard, `data:`, or a link of our own
    Inputs.check()         whether a model can use them
    Inputs.thumbnail()     the small picture of a portrait
    Artifact               a stored file and what is known about it

A file is received into a temporary one, looked at in a limited child, and stored under a name of
its own; the same bytes again are the same artifact as long as that is there. Links of our own are
known by their path and signature and never fetched over the network. A portrait's thumbnail is in
its row, so that it goes with it, and is read by `thumbnail()` alone.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sqlalchemy import select

from sayso.artifacts.keys import ArtifactKey, content_type_of, own_key
from sayso.artifacts.links import FILES_PATH, FileLinks
from sayso.artifacts.store import ArtifactStore
from sayso.catalogue.catalogue import Model
from sayso.clock import SECOND, Clock, Instant
from sayso.db.connect import Database
from sayso.db.insert import insert_if_new
from sayso.db.tables import artifacts, files
from sayso.db.tx import Tx
from sayso.errors import (
    ArtifactMissing,
    FaceCut,
    FaceTooSmall,
    FaceTurned,
    ImageRejected,
    ImageUnsupported,
    LinkRefused,
    NoFace,
    Notice,
)
from sayso.ids import AccountId, ArtifactId, Ids
from sayso.media.fetch import Fetcher
from sayso.media.guard import MAX_URL_LENGTH
from sayso.media.inspection import ImageFacts, Inspector, SpeechFacts
from sayso.media.intake import Arrival, Intake

InputKind = Literal["portrait", "speech"]

_V1_FILE: Final = re.compile(r"/v1/files/(?P<id>[a-z0-9]{1,40})(/download)?")

# Why a face cannot be used, as the errors that say so.
_FACE_PROBLEMS: Final[Mapping[str, type[ImageRejected]]] = {
    kind.code: kind for kind in (NoFace, FaceTooSmall, FaceTurned, FaceCut)
}


@dataclass(frozen=True, kw_only=True)
class InputLimits:
    """The largest files that are taken, in bytes."""

    image_bytes: int
    speech_bytes: int

    def of(self, kind: InputKind | None) -> int:
        """Return the limit of a kind; of the larger one while the kind is not known."""
        match kind:
            case "portrait":
                return self.image_bytes
            case "speech":
                return self.speech_bytes
            case None:
                return max(self.image_bytes, self.speech_bytes)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A stored file of an account; `facts` is what was found in it."""

    id: ArtifactId
    account_id: AccountId
    kind: str
    key: ArtifactKey
    sha256: str
    size_bytes: int
    content_type: str
    facts: Mapping[str, Any]
    created_at: Instant

    @property
    def duration_s(self) -> float | None:
        """How long a speech or a video lasts."""
        return self.facts.get("duration_s")

    @property
    def width(self) -> int | None:
        """In pixels, upright."""
        return self.facts.get("width")

    @property
    def height(self) -> int | None:
        """In pixels, upright."""
        return self.facts.get("height")

    @property
    def face(self) -> dict[str, int] | None:
        """The box of the face that would speak: x, y, width, height in pixels."""
        box = self.facts.get("face")
        if box is None:
            return None
        return {
            "x": box["left"],
            "y": box["top"],
            "width": box["width"],
            "height": box["height"],
        }

    @property
    def face_problem(self) -> Notice | None:
        """Why no face of a portrait could speak."""
        problem = self.facts.get("face_problem")
        return None if problem is None else Notice(**problem)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What the customer should know about the file."""
        return tuple(Notice(**notice) for notice in self.facts.get("notices", ()))


class Inputs:
    """See the module's docstring."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        ids: Ids,
        store: ArtifactStore,
        links: FileLinks,
        intake: Intake,
        fetcher: Fetcher,
        inspector: Inspector,
        limits: InputLimits,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._store = store
        self._links = links
        self._intake = intake
        self._fetcher = fetcher
        self._inspector = inspector
        self._limits = limits

    async def take_stream(
        self, account_id: AccountId, chunks: AsyncIterable[bytes], *, kind: InputKind | None = None
    ) -> Artifact:
        """Store bytes as they come; without a kind their content decides.

        Raises `UploadTooLarge`, `ImageRejected`, `SpeechRejected`, `InputTooHard`,
        `StoreUnavailable`.
        """
        async with self._intake.file(max_bytes=self._limits.of(kind)) as file:
            async for chunk in chunks:
                await file.write(chunk)
            return await self._take(account_id, await file.finish(), kind)

    async def take_url(self, account_id: AccountId, url: str, *, kind: InputKind) -> Artifact:
        """Store the file that a URL names, or find it where it is a link of ours.

        Raises what `take_stream` does, `UrlUnusable`, `LinkRefused`, `ArtifactMissing`.
        """
        async with AsyncExitStack() as stack:
            ours = await self._own(account_id, url, kind)
            if isinstance(ours, Artifact):
                return ours
            if ours is not None:
                arrival = await self._copied(stack, ours, kind)
            else:
                max_bytes = self._limits.of(kind)
                arrival = await stack.enter_async_context(
                    self._fetcher.fetch(url, max_bytes=max_bytes)
                )
            return await self._take(account_id, arrival, kind)

    async def get(self, account_id: AccountId, artifact_id: ArtifactId) -> Artifact:
        """Return an artifact of this account; raise `ArtifactMissing`."""
        found = await self._db.read_point(lambda tx: _by_id(tx, account_id, artifact_id))
        if found is None:
            raise ArtifactMissing("There is no such file.")
        return found

    async def thumbnail(self, account_id: AccountId, artifact_id: ArtifactId) -> bytes:
        """Return the thumbnail of a portrait of this account, a WebP file.

        Raises `ArtifactMissing`, also for a portrait that was stored before there were thumbnails.
        """
        a = artifacts.c
        query = select(a.thumbnail).where(a.id == artifact_id, a.account_id == account_id)
        found = await self._db.read_point(lambda tx: tx.execute(query).scalar_one_or_none())
        if found is None:
            raise ArtifactMissing("There is no thumbnail of this portrait.")
        return bytes(found)

    def check(self, model: Model, portrait: Artifact, speech: Artifact) -> tuple[Notice, ...]:
        """Return what the customer should know; raise when the model cannot use the inputs.

        Raises `NoFace`, `FaceTooSmall`, `FaceTurned`, `FaceCut` for a model that needs a face, and
        what the checks of its limits raise (`catalogue.limits`).
        """
        problem = portrait.face_problem
        if problem is not None and model.needs_face:
            raise _FACE_PROBLEMS.get(problem.code, ImageRejected)(problem.text)
        model.portrait.check(
            model.name,
            suffix=_suffix_of(portrait),
            size_bytes=portrait.size_bytes,
            width=portrait.width,
            height=portrait.height,
        )
        model.speech.check(
            model.name,
            suffix=_suffix_of(speech),
            size_bytes=speech.size_bytes,
            duration_s=speech.duration_s or 0.0,
            max_s=model.max_speech_s,
        )
        told = () if problem is None else (problem,)
        return (*portrait.notices, *told, *speech.notices)

    async def _take(
        self, account_id: AccountId, arrival: Arrival, kind: InputKind | None
    ) -> Artifact:
        known = await self._db.read_point(
            lambda tx: _by_content(tx, account_id, arrival.sha256, kind)
        )
        if known is not None:
            # The file may have been lost, and is mended so.
            await self._store.put_file(known.key, arrival.path)
            if await self._db.read_point(lambda tx: _by_id(tx, account_id, known.id)) is not None:
                return known
            # It went with its last generation meanwhile, and its name for ever.
            await self._store.delete(known.key)
        found, seen = await self._inspect(arrival.path, kind)
        facts = asdict(seen)
        thumbnail = facts.pop("thumbnail", None)
        new_id, sha256 = ArtifactId(self._ids.new()), arrival.sha256
        key = own_key(account_id, found, owner=new_id, sha256=sha256, suffix=seen.suffix)
        new = Artifact(
            id=new_id,
            account_id=account_id,
            kind=found,
            key=key,
            sha256=sha256,
            size_bytes=arrival.size_bytes,
            content_type=content_type_of(key),
            facts=facts,
            created_at=self._clock.now(),
        )
        await self._store.put_file(key, arrival.path)
        stored = await self._db.write(lambda tx: _insert(tx, new, thumbnail))
        if stored.key != key:
            # Somebody else handed the same bytes in meanwhile, and was quicker.
            await self._store.delete(key)
        return stored

    async def _inspect(
        self, path: Path, kind: InputKind | None
    ) -> tuple[InputKind, ImageFacts | SpeechFacts]:
        match kind:
            case "portrait":
                return kind, await self._inspector.image(path)
            case "speech":
                return kind, await self._inspector.speech(path)
        try:
            return "portrait", await self._inspector.image(path)
        except ImageUnsupported:
            return "speech", await self._inspector.speech(path)

    # links of our own

    async def _own(
        self, account_id: AccountId, url: str, kind: InputKind
    ) -> Artifact | ArtifactKey | None:
        """Return what a link of ours names, or None for a URL of somebody else's."""
        # A link of ours is short; whatever else one drags along, no row should have to hold.
        if url[:5].lower() == "data:" or len(url) > MAX_URL_LENGTH:
            return None
        try:
            parts = urlsplit(url)
        except ValueError:
            return None
        is_relative = not parts.scheme and not parts.netloc
        key = self._key_of_link(parts, is_relative=is_relative)
        if key is None:
            key = await self._key_of_file(account_id, parts.path)
        if key is None:
            if is_relative:
                raise LinkRefused("This link is not one of ours.")
            return None
        found = await self._db.read_point(lambda tx: _by_key(tx, account_id, key, kind))
        return found if found is not None else key

    def _key_of_link(self, parts: SplitResult, *, is_relative: bool) -> ArtifactKey | None:
        """Return the key of a signed link; its signature says that it is ours, not its host."""
        if not parts.path.startswith(FILES_PATH):
            return None
        query = dict(parse_qsl(parts.query))
        name = unquote(parts.path.removeprefix(FILES_PATH))
        try:
            return self._links.verify(name, query, now_s=self._clock.now() / SECOND)
        except (LinkRefused, ArtifactMissing) as error:
            # An expired link carries a signature of ours; anything else may be another host's.
            if is_relative or type(error) not in {LinkRefused, ArtifactMissing}:
                raise
            return None

    async def _key_of_file(self, account_id: AccountId, path: str) -> ArtifactKey | None:
        """Return the key of a file of `/v1/files` that this account has."""
        match = _V1_FILE.fullmatch(path)
        if match is None:
            return None
        f = files.c
        query = select(f.storage_key).where(
            f.id == match["id"], f.account_id == account_id, f.expires_at > self._clock.now()
        )
        found = await self._db.read_point(lambda tx: tx.execute(query).scalar_one_or_none())
        return None if found is None else ArtifactKey(found)

    async def _copied(self, stack: AsyncExitStack, key: ArtifactKey, kind: InputKind) -> Arrival:
        """Copy a stored file that is no artifact of this account and kind yet."""
        max_bytes = self._limits.of(kind)
        file = await stack.enter_async_context(self._intake.file(max_bytes=max_bytes))
        async for block in self._store.stream(key):
            await file.write(block)
        return await file.finish()


def _suffix_of(artifact: Artifact) -> str:
    return artifact.key.rpartition(".")[2]


def _insert(tx: Tx, artifact: Artifact, thumbnail: bytes | None) -> Artifact:
    """Insert an artifact's row; return the one of its content that is there."""
    insert_if_new(
        tx,
        artifacts,
        id=artifact.id,
        account_id=artifact.account_id,
        kind=artifact.kind,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        content_type=artifact.content_type,
        storage_key=artifact.key,
        facts=dict(artifact.facts),
        created_at=artifact.created_at,
        thumbnail=thumbnail,
    )
    a = artifacts.c
    found = _one(
        tx,
        a.account_id == artifact.account_id,
        a.kind == artifact.kind,
        a.sha256 == artifact.sha256,
    )
    assert found is not None
    return found


def _by_id(tx: Tx, account_id: AccountId, artifact_id: ArtifactId) -> Artifact | None:
    a = artifacts.c
    return _one(tx, a.id == artifact_id, a.account_id == account_id)


def _by_key(tx: Tx, account_id: AccountId, key: ArtifactKey, kind: str) -> Artifact | None:
    a = artifacts.c
    return _one(tx, a.storage_key == key, a.account_id == account_id, a.kind == kind)


def _by_content(
    tx: Tx, account_id: AccountId, sha256: str, kind: InputKind | None
) -> Artifact | None:
    a = artifacts.c
    kinds = ("portrait", "speech") if kind is None else (kind,)
    return _one(tx, a.account_id == account_id, a.sha256 == sha256, a.kind.in_(kinds))


def _one(tx: Tx, *conditions: Any) -> Artifact | None:
    a = artifacts.c
    row = tx.execute(
        select(
            a.id,
            a.account_id,
            a.kind,
            a.storage_key,
            a.sha256,
            a.size_bytes,
            a.content_type,
            a.facts,
            a.created_at,
        )
        .where(*conditions)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    names = (
        "id",
        "account_id",
        "kind",
        "key",
        "sha256",
        "size_bytes",
        "content_type",
        "facts",
        "created_at",
    )
    return Artifact(**dict(zip(names, row, strict=True)))
