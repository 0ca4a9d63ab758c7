"""The upstream's files: bytes that are handed in before a create and last a day.

FileShelf       keeps them
file_shown()    what is said of one
parts_of()      the parts of a form
download_query()    the query of a link to a file's bytes, as its owner may sign it
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from sayso.clock import SECOND, Instant
from tests.upstream import shapes
from tests.upstream.calls import Answer, Refused, answered
from tests.upstream.shapes import stamp
from tests.upstream.switches import Switches

_BOUNDARY: Final = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_NAME: Final = re.compile(rb'[ ;]name="([^"]*)"', re.IGNORECASE)
_FILE_NAME: Final = re.compile(rb'filename="([^"]*)"', re.IGNORECASE)
_TYPE: Final = re.compile(rb"^content-type:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_LONGEST_NAME: Final = 255
_SECRET: Final = b"the upstream signs links to files"
OWNER: Final = "sayso-tests"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it was handed in."""

    id: str
    name: str
    content_type: str
    content: bytes
    metadata: Any
    created_at: Instant
    expires_at: Instant


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form."""

    content: bytes
    file_name: str | None
    content_type: str | None


def parts_of(content_type: str, body: bytes) -> dict[str, Part]:
    """Return the parts of a form by name; empty when it is none."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        return {}
    found: dict[str, Part] = {}
    for piece in body.split(b"--" + match[1].encode())[1:-1]:
        head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name, file_name, kind = _NAME.search(head), _FILE_NAME.search(head), _TYPE.search(head)
        if name is not None:
            found[name[1].decode()] = Part(
                content.removesuffix(b"\r\n"),
                None if file_name is None else file_name[1].decode("utf-8", "replace"),
                None if kind is None else kind[1].decode(),
            )
    return found


class FileShelf:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}

    def answer(
        self,
        method: str,
        words: list[str],
        *,
        form: tuple[str, bytes],
        query: dict[str, str],
        new_id: Callable[[], str],
        now: Instant,
        switches: Switches,
        api: str,
    ) -> Answer:
        """Answer a call below `/files`; `form` is the type and the bytes of its body."""

        def shown(file: StoredFile) -> dict[str, Any]:
            return file_shown(file, api=api, quirks=switches.quirks)

        match method, words:
            case "POST", ["files"]:
                return answered(
                    shown(self._create(new_id(), form, now=now, switches=switches)), 201
                )
            case "GET", ["files"]:
                found = [file for file in reversed(self._files.values()) if now < file.expires_at]
                return answered({"next": None, "previous": None, "results": [*map(shown, found)]})
            case "GET", [_, file_id, "download"]:
                file = self._linked(file_id, query, now=now)
                return Answer(200, file.content, {"content-type": file.content_type})
            case "GET", [_, file_id]:
                return answered(shown(self._found(file_id, now=now)))
            case "DELETE", [_, file_id]:
                del self._files[self._found(file_id, now=now).id]
                return Answer(204)
        raise Refused(404, shapes.NO_FILE)

    def get(self, file_id: str, *, now: Instant) -> StoredFile | None:
        """Return a file that has not expired."""
        file = self._files.get(file_id)
        return file if file is not None and now < file.expires_at else None

    def _create(
        self, file_id: str, form: tuple[str, bytes], *, now: Instant, switches: Switches
    ) -> StoredFile:
        """Keep the part called `content`."""
        if len(form[1]) > switches.largest_file_bytes:
            raise Refused(413, shapes.FILE_TOO_LARGE)
        parts = parts_of(*form)
        part = parts.get("content")
        if part is None:
            fault = shapes.fault_of("required", "", "content is required")
            raise Refused(422, shapes.invalid([fault]))
        if len((part.file_name or "").encode()) > _LONGEST_NAME:
            fault = shapes.fault_of("string_lte", "filename", "Must be at most 255 bytes")
            raise Refused(422, shapes.invalid([fault]))
        metadata = parts.get("metadata")
        file = StoredFile(
            id=file_id,
            name=part.file_name or "file",
            content_type=part.content_type or "application/octet-stream",
            content=part.content,
            metadata={} if metadata is None else json.loads(metadata.content),
            created_at=now,
            expires_at=Instant(now + round(switches.file_life_s * SECOND)),
        )
        self._files[file_id] = file
        return file

    def _found(self, file_id: str, *, now: Instant) -> StoredFile:
        file = self.get(file_id, now=now)
        if file is None:
            raise Refused(404, shapes.NO_FILE)
        return file

    def _linked(self, file_id: str, query: dict[str, str], *, now: Instant) -> StoredFile:
        """Return the file of a signed link."""
        expiry = query.get("expiry", "")
        expected = _signature(query.get("owner", ""), file_id, expiry)
        is_right = hmac.compare_digest(query.get("signature", ""), expected)
        if not is_right or not expiry.isdecimal() or int(expiry) <= now // SECOND:
            raise Refused(404, shapes.NO_FILE)
        return self._found(file_id, now=now)


def file_shown(file: StoredFile, *, api: str, quirks: bool) -> dict[str, Any]:
    """Return what is said of a file."""
    md5 = hashlib.md5(file.content, usedforsecurity=False).hexdigest()

    def written(instant: Instant) -> str:
        return stamp(instant, salt=len(file.content), is_stored=True, quirks=quirks)

    return {
        "id": file.id,
        "name": file.name,
        "content_type": file.content_type,
        "size": len(file.content),
        "etag": md5,
        "checksums": {"sha256": hashlib.sha256(file.content).hexdigest(), "md5": md5},
        "metadata": file.metadata,
        "created_at": written(file.created_at),
        "expires_at": written(file.expires_at),
        "urls": {"get": f"{api}/files/{file.id}"},
    }


def download_query(file: StoredFile) -> str:
    """Return the query of a link to the bytes of a file, as its owner may sign it."""
    expiry = str(file.expires_at // SECOND)
    signature = _signature(OWNER, file.id, expiry)
    return urlencode({"owner": OWNER, "expiry": expiry, "signature": signature})


def _signature(owner: str, file_id: str, expiry: str) -> str:
    message = f"{owner} {file_id} {expiry}".encode()
    return b64encode(hmac.digest(_SECRET, message, hashlib.sha256)).decode()
