"""Where stored files lie: a folder by default, a bucket at scale.

    open_artifacts()     the store that the settings name
    ArtifactStore        put, stat, stream, copy, delete; the same for a folder and a bucket
    folder_artifacts()   a folder on this machine
    bucket_artifacts()   a bucket of Amazon's, or of any server that speaks its protocol

obstore does the work below, so there is one class and not one for each place. A key names its
content (`keys.py`): a put that is repeated, or raced by another, writes the same bytes, and whoever
finds a file of the right size is done. Memory stays small however large the file: two parts of
5 MiB on the way in, a block of 4 MiB on the way out.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from sayso.artifacts.keys import ArtifactKey, content_type_of
from sayso.errors import ArtifactMissing, StoreUnavailable
from sayso.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

# S3 takes no smaller part than 5 MiB; two in flight keep a put below 42 MB of memory.
_PART_BYTES: Final = 5 << 20
_PARTS_IN_FLIGHT: Final = 2
_BLOCK_BYTES: Final = 4 << 20

# A part is sent or a block is read in one request, so these bound a block, not a file.
_CLIENT: Final[ClientConfig] = {"connect_timeout": "5s", "timeout": "60s"}
_RETRIES: Final[RetryConfig] = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}

# obstore writes `name#1` beside `name` and renames it; a crash leaves the former.
_UNFINISHED: Final = re.compile(r".+#[0-9]+")


@dataclass(frozen=True)
class StoredFile:
    """A file in the store; `is_new` is False where it was there before the put."""

    key: ArtifactKey
    size_bytes: int
    is_new: bool = False


class ArtifactStore:
    """What the rest of Sayso may ask of a store.

    Every method that touches the store may raise `StoreUnavailable`; those that read a file
    raise `ArtifactMissing` when it is not there.
    """

    def __init__(self, store: LocalStore | S3Store, *, folder: Path | None = None) -> None:
        """Take a store of obstore's; `folder` is where a `LocalStore` keeps its files."""
        self._store = store
        self._folder = folder

    async def put_file(self, key: ArtifactKey, source: Path) -> StoredFile:
        """Store a copy of a file; when this returns, the copy is whole and outlives a power cut."""
        size_bytes = (await asyncio.to_thread(source.stat)).st_size
        is_new = await self._size_of(key) != size_bytes
        if is_new:
            await self._write(key, source)
        await self._settle(key)
        if await self._size_of(key) != size_bytes:
            raise StoreUnavailable("The file store did not keep the file whole.")
        return StoredFile(key, size_bytes, is_new)

    async def stat(self, key: ArtifactKey) -> StoredFile:
        """Return what is known of a stored file."""
        size_bytes = await self._size_of(key)
        if size_bytes is None:
            raise ArtifactMissing("There is no such file.")
        return StoredFile(key, size_bytes)

    async def stream(
        self, key: ArtifactKey, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to, not including, `end` (the whole file by default).

        A range that is empty or lies behind the file's end yields nothing.
        """
        size_bytes = (await self.stat(key)).size_bytes
        last = size_bytes if end is None else min(end, size_bytes)
        for block_start in range(start, last, _BLOCK_BYTES):
            block_end = min(block_start + _BLOCK_BYTES, last)
            with _store_errors():
                block = await obstore.get_range_async(
                    self._store, key, start=block_start, end=block_end
                )
            yield bytes(block)

    async def copy_to(self, key: ArtifactKey, target: Path) -> StoredFile:
        """Write a stored file to `target`, for a child or a library that needs a path."""
        size_bytes = 0
        with await asyncio.to_thread(target.open, "wb") as file:
            async for block in self.stream(key):
                size_bytes += await asyncio.to_thread(file.write, block)
        return StoredFile(key, size_bytes)

    async def delete(self, key: ArtifactKey) -> None:
        """Remove a file; one that is not there counts as removed."""
        try:
            with _store_errors():
                await obstore.delete_async(self._store, key)
        except ArtifactMissing:
            return

    def local_path(self, key: ArtifactKey) -> Path | None:
        """Return where the file lies if this machine can simply open it."""
        return None if self._folder is None else self._folder / key

    async def sweep(self, *, before_s: float) -> int:
        """Remove what puts left that broke off before a time; return how many files.

        `before_s` counts seconds since 1970; a put under way is younger. In a bucket, a lifecycle
        rule for unfinished uploads does that.
        """
        if self._folder is None:
            return 0
        return await asyncio.to_thread(_sweep, self._folder, before_s)

    async def _size_of(self, key: ArtifactKey) -> int | None:
        try:
            with _store_errors():
                return (await obstore.head_async(self._store, key))["size"]
        except ArtifactMissing:
            return None

    async def _write(self, key: ArtifactKey, source: Path) -> None:
        # A folder cannot keep them; in a bucket an operator sees what a file is.
        attributes = {"Content-Type": content_type_of(key), "Content-Disposition": "attachment"}
        with _store_errors():
            await obstore.put_async(
                self._store,
                key,
                source,
                attributes=attributes if self._folder is None else None,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_IN_FLIGHT,
            )

    async def _settle(self, key: ArtifactKey) -> None:
        """Flush a file in a folder; a bucket answers only when it is safe."""
        if self._folder is not None:
            with _store_errors():
                await asyncio.to_thread(_flush_to_disk, self._folder / key, self._folder)


def folder_artifacts(folder: Path) -> ArtifactStore:
    """Return a store in a folder, which is made when it is missing."""
    folder = folder.resolve()
    with _store_errors():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return ArtifactStore(LocalStore(prefix=folder), folder=folder)


def bucket_artifacts(bucket: str, *, prefix: str | None = None, config: S3Config) -> ArtifactStore:
    """Return a store in a bucket, below an optional prefix.

    What `config` leaves out is looked for where Amazon's own tools look.
    """
    is_plain = config.get("endpoint", "").startswith("http://")
    store = S3Store(
        bucket,
        prefix=prefix,
        config=config,
        client_options={**_CLIENT, "allow_http": is_plain},
        retry_config=_RETRIES,
    )
    return ArtifactStore(store)


def open_artifacts(settings: Settings) -> ArtifactStore:
    """Return the store that the settings name."""
    place = urlsplit(settings.artifacts)
    if place.scheme != "s3":
        return folder_artifacts(Path(settings.artifacts))
    prefix = place.path.strip("/") or None
    return bucket_artifacts(place.netloc, prefix=prefix, config=_s3_config(settings))


def _s3_config(settings: Settings) -> S3Config:
    config: S3Config = {}
    if settings.s3_endpoint is not None:
        config["endpoint"] = settings.s3_endpoint
        config["virtual_hosted_style_request"] = False
    if settings.s3_region is not None:
        config["region"] = settings.s3_region
    if settings.s3_access_key_id is not None:
        config["access_key_id"] = settings.s3_access_key_id
    if settings.s3_secret_access_key is not None:
        config["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
    return config


@contextmanager
def _store_errors() -> Iterator[None]:
    """Say what went wrong in our words; obstore's own hold addresses and request ids."""
    try:
        yield
    except FileNotFoundError:
        raise ArtifactMissing("There is no such file.") from None
    except (BaseError, OSError) as error:
        raise StoreUnavailable("The file store cannot be used just now.") from error


def _sweep(folder: Path, before_s: float) -> int:
    removed = 0
    for path in folder.glob("*/*/*#*"):
        if _UNFINISHED.fullmatch(path.name) and path.stat().st_mtime < before_s:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _flush_to_disk(path: Path, root: Path) -> None:
    """Flush a file and every folder above it up to `root`: a new name is safe with its folder."""
    for place in (path, *path.parents):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == root:
            return
