"""Files that people hand in by `/v1/files`: any bytes, kept for a day, named by an id.

    Files.receive()   bytes as they arrive, in a temporary file
    Files.keep()      store what was received under a new id
    Files.get(), Files.page(), Files.delete()
    Files.sign(), Files.verify()   a link to the bytes, for whoever holds it
    Files.sweep()     forget what has expired, with its bytes

Each file has an id and bytes of its own, also where the same bytes are known (`keys.py`). What a
file is good for is decided when it is an input: then it becomes an artifact.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from sqlalchemy import delete, literal, select, tuple_

from sayso.artifacts.keys import ArtifactKey, own_key
from sayso.artifacts.store import ArtifactStore
from sayso.clock import SECOND, Clock, Instant, after
from sayso.db.connect import Database
from sayso.db.insert import insert_if_new
from sayso.db.tables import files
from sayso.db.tx import Tx
from sayso.errors import ArtifactMissing, LinkExpired, LinkRefused
from sayso.ids import AccountId, Ids
from sayso.media.intake import Arrival, Intake

KEPT_S: Final = 86_400
"""How long a file is kept, and its link works."""

_ID: Final = re.compile(r"[0-9a-z]{26}")
_SWEPT_AT_ONCE: Final = 100
_LONGEST_NAME: Final = 255

f = files.c

_Order = Literal["newest", "oldest", "expiry"]
_ORDERS: Final[Mapping[_Order, tuple[Any, ...]]] = {
    "newest": (f.created_at.desc(), f.id.desc()),
    "oldest": (f.created_at, f.id),
    "expiry": (f.expires_at, f.id),
}
_BACK: Final = "-"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as it was handed in; the checksums are of its bytes, in hexadecimal digits."""

    id: str
    account_id: AccountId
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    md5: str
    storage_key: ArtifactKey
    metadata: Mapping[str, Any]
    created_at: Instant
    expires_at: Instant


@dataclass(frozen=True)
class FilePage:
    """A piece of an account's files, newest first, and its neighbours' cursors."""

    items: tuple[File, ...]
    next: str | None
    previous: str | None


@dataclass(frozen=True, kw_only=True)
class Received:
    """Bytes that have arrived and are not kept yet."""

    arrival: Arrival
    md5: str


_Rows = tuple[File, ...]


class Files:
    """See the module's docstring. `secret` signs the links."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        ids: Ids,
        store: ArtifactStore,
        intake: Intake,
        secret: bytes,
        max_bytes: int,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids
        self._store = store
        self._intake = intake
        self._secret = secret
        self._max_bytes = max_bytes

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[Received]:
        """Take bytes as they come; they are gone when the block ends, unless they were kept.

        Raises `UploadTooLarge`, `StoreUnavailable`.
        """
        # Replicate gives it besides SHA-256; it protects nothing.
        md5 = hashlib.md5(usedforsecurity=False)
        async with self._intake.file(max_bytes=self._max_bytes) as incoming:
            async for chunk in chunks:
                md5.update(chunk)
                await incoming.write(chunk)
            yield Received(arrival=await incoming.finish(), md5=md5.hexdigest())

    async def keep(
        self,
        account_id: AccountId,
        received: Received,
        *,
        name: str,
        content_type: str,
        metadata: Mapping[str, Any],
    ) -> File:
        """Store what was received; raise `StoreUnavailable`."""
        arrival, now = received.arrival, self._clock.now()
        suffix = name.rpartition(".")[2]
        file_id, sha256 = self._ids.new(), arrival.sha256
        file = File(
            id=file_id,
            account_id=account_id,
            name=_printable(name),
            content_type=_printable(content_type),
            size_bytes=arrival.size_bytes,
            sha256=sha256,
            md5=received.md5,
            storage_key=own_key(account_id, "file", owner=file_id, sha256=sha256, suffix=suffix),
            metadata=metadata,
            created_at=now,
            expires_at=after(now, KEPT_S),
        )
        # The row first: bytes without one would stay for ever.
        await self._db.write(lambda tx: insert_if_new(tx, files, **asdict(file)))
        try:
            await self._store.put_file(file.storage_key, arrival.path)
        except BaseException:
            await self._db.write(lambda tx: _remove(tx, f.id == file.id))
            raise
        return file

    async def get(self, account_id: AccountId, file_id: str) -> File:
        """Return a file that has not expired; raise `ArtifactMissing`."""
        now = self._clock.now()
        if _ID.fullmatch(file_id) is None:
            raise ArtifactMissing("There is no such file.")
        conditions = (f.id == file_id, f.account_id == account_id, f.expires_at > now)
        found = await self._db.read_point(lambda tx: _select(tx, *conditions, limit=1))
        if not found:
            raise ArtifactMissing("There is no such file.")
        return found[0]

    async def page(
        self, account_id: AccountId, *, cursor: str | None = None, limit: int = 100
    ) -> FilePage:
        """Return a piece of an account's files.

        A cursor is the id of the last file that was seen, or `-` and the id of the first one for
        the way back. Raises `ArtifactMissing` when there is no such file any more.
        """
        mine = (f.account_id == account_id, f.expires_at > self._clock.now())
        is_back = cursor is not None and cursor.startswith(_BACK)
        seen = None if cursor is None else await self.get(account_id, cursor.removeprefix(_BACK))

        def select_from(tx: Tx, place: File | None, limit: int, *, is_back: bool) -> _Rows:
            beyond = () if place is None else (_is_beyond(place, is_back=is_back),)
            order: _Order = "oldest" if is_back else "newest"
            return _select(tx, *mine, *beyond, limit=limit, order=order)

        def find(tx: Tx) -> FilePage:
            found = select_from(tx, seen, limit + 1, is_back=is_back)
            items = found[:limit][::-1] if is_back else found[:limit]
            if not items:
                return FilePage((), None, None)
            has_more = len(found) > limit
            edge = items[-1] if is_back else items[0]
            behind = seen and select_from(tx, edge, 1, is_back=not is_back)
            is_older, is_newer = (bool(behind), has_more) if is_back else (has_more, bool(behind))
            return FilePage(
                items,
                next=items[-1].id if is_older else None,
                previous=_BACK + items[0].id if is_newer else None,
            )

        return await self._db.read(find)

    async def delete(self, account_id: AccountId, file_id: str) -> None:
        """Delete a file; raise `ArtifactMissing`."""
        file = await self.get(account_id, file_id)
        await self._forget(file)

    async def sweep(self) -> int:
        """Delete files that have expired, the oldest first and a hundred at most; return how many.

        Each `keep` may follow one, so that they go as fast as new ones come.
        """
        now = self._clock.now()
        old = await self._db.read(
            lambda tx: _select(tx, f.expires_at <= now, limit=_SWEPT_AT_ONCE, order="expiry")
        )
        for file in old:
            await self._forget(file)
        return len(old)

    def sign(self, file: File) -> dict[str, str]:
        """Return the query of a link to the bytes: `owner`, `expiry`, `signature`."""
        expiry = str(file.expires_at // SECOND)
        signature = self._signature(file.account_id, file.id, expiry)
        return {"owner": file.account_id, "expiry": expiry, "signature": signature}

    async def verify(self, file_id: str, query: Mapping[str, str]) -> File:
        """Return the file of a link; raise `LinkRefused`, `LinkExpired`, `ArtifactMissing`."""
        owner, expiry, given = (query.get(name, "") for name in ("owner", "expiry", "signature"))
        expected = self._signature(owner, file_id, expiry)
        if not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
            raise LinkRefused("This link is not one of ours, or it was changed.")
        if int(expiry) <= self._clock.now() // SECOND:
            raise LinkExpired("This link has expired, and its file with it.")
        return await self.get(AccountId(owner), file_id)

    def _signature(self, owner: str, file_id: str, expiry: str) -> str:
        """HMAC-SHA256 over `{owner} {id} {expiry}`, as Replicate's documents have it."""
        message = f"{owner} {file_id} {expiry}".encode("utf-8", "replace")
        return base64.b64encode(hmac.digest(self._secret, message, hashlib.sha256)).decode()

    async def _forget(self, file: File) -> None:
        await self._db.write(lambda tx: _remove(tx, f.id == file.id))
        await self._store.delete(file.storage_key)


def _remove(tx: Tx, *conditions: Any) -> None:
    tx.execute(delete(files).where(*conditions))


def _is_beyond(place: File, *, is_back: bool) -> Any:
    """Say that a file comes after this one in the list, or before it on the way back."""
    here, there = tuple_(f.created_at, f.id), tuple_(literal(place.created_at), literal(place.id))
    return here > there if is_back else here < there


def _select(tx: Tx, *conditions: Any, limit: int, order: _Order = "newest") -> _Rows:
    columns = _ORDERS[order]
    rows = tx.execute(select(files).where(*conditions).order_by(*columns).limit(limit))
    return tuple(File(**row) for row in rows.mappings())


def _printable(text: str) -> str:
    """Return a name or a media type as it may be repeated: printable, at most 255 bytes."""
    kept = "".join(character for character in text if character.isprintable()) or "file"
    return kept.encode("utf-8", "ignore")[:_LONGEST_NAME].decode("utf-8", "ignore")
