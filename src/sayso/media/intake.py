"""Bytes that arrive, collected in a file until they are stored or thrown away.

    Intake.file()        a temporary file that counts, hashes and bounds what is written to it
    Intake.sweep()       remove what a crash left behind
    Arrival              the file once it is whole: path, size, SHA-256

Nothing that arrives is held in memory, whatever its sender says of its length. The file goes when
the `async with` block ends, however it ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sayso.errors import StoreUnavailable, UploadTooLarge

_PREFIX: Final = "arriving-"
# Written and hashed in a thread, a megabyte at a time: about a millisecond each.
_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Arrival:
    """A whole file that arrived; it lies at `path` until the block that made it ends."""

    path: Path
    size_bytes: int
    sha256: str


class IncomingFile:
    """A file that is being received."""

    def __init__(self, path: Path, file: io.FileIO, *, max_bytes: int) -> None:
        self._path = path
        self._file = file
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    async def write(self, chunk: bytes) -> None:
        """Take some bytes; raise `UploadTooLarge` at the first one above the limit."""
        self.size_bytes += len(chunk)
        if self.size_bytes > self._max_bytes:
            raise UploadTooLarge(f"The file is larger than {in_megabytes(self._max_bytes)}.")
        self._buffer += chunk
        if len(self._buffer) >= _BUFFER_BYTES:
            await self._flush()

    async def finish(self) -> Arrival:
        """Write what is left and return the whole file."""
        await self._flush()
        await asyncio.to_thread(self._file.close)
        return Arrival(self._path, self.size_bytes, self._digest.hexdigest())

    async def _flush(self) -> None:
        block, self._buffer = self._buffer, bytearray()
        try:
            await asyncio.to_thread(self._append, block)
        except OSError as error:
            raise StoreUnavailable("There is no room for the file just now.") from error

    def _append(self, block: bytearray) -> None:
        self._digest.update(block)
        left = memoryview(block)
        while left:
            left = left[self._file.write(left) :]


class Intake:
    """A folder for files that arrive; made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @asynccontextmanager
    async def file(self, *, max_bytes: int) -> AsyncIterator[IncomingFile]:
        """Open a temporary file; it is removed when the block ends."""
        try:
            path, file = await asyncio.to_thread(self._create)
        except OSError as error:
            raise StoreUnavailable("There is no room for the file just now.") from error
        try:
            with file:
                yield IncomingFile(path, file, max_bytes=max_bytes)
        finally:
            _remove(path)

    def _create(self) -> tuple[Path, io.FileIO]:
        descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=self._folder)
        return Path(name), os.fdopen(descriptor, "wb", buffering=0)

    def sweep(self, *, before_s: float) -> int:
        """Remove files last written to before a time, in seconds since 1970; return how many."""
        left = [p for p in self._folder.glob(f"{_PREFIX}*") if p.stat().st_mtime < before_s]
        for path in left:
            _remove(path)
        return len(left)


def _remove(path: Path) -> None:
    """Unlink at once, not in a thread: this also runs while a task is being canceled."""
    path.unlink(missing_ok=True)


def in_megabytes(size_bytes: int) -> str:
    """Write a limit for people: `20 MB`, `0.5 MB`."""
    return f"{size_bytes / (1 << 20):.4g} MB"
