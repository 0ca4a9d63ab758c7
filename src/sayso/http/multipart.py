"""Multipart bodies, read as they arrive: a file goes from the socket to the disk, never to memory.

    read_form()    the parts of a request's body, one after the other
    Part           a part's name, and its content in pieces

The order is the sender's; what a part does not read is skipped.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from sayso.errors import BodyInvalid, BodyTooLarge, BodyUnsupported

FIELD_BYTES: Final = 10_000
"""The longest text field."""

_PARTS: Final = 20
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{1,200}")


class Part:
    """One part of a form. Its content can be read once, before the next part."""

    def __init__(self, form: _Form, headers: dict[str, bytes]) -> None:
        self._form = form
        _, options = parse_options_header(headers.get("content-disposition", b""))
        self.name = options.get(b"name", b"").decode("utf-8", "replace")
        file_name = options.get(b"filename")
        self.file_name = None if file_name is None else file_name.decode("utf-8", "replace")
        self.content_type = headers.get("content-type", b"").decode("latin-1") or None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the content as it arrives."""
        while (piece := await self._form.next_piece()) is not None:
            yield piece

    async def text(self) -> str:
        """Return a text field; raise `BodyTooLarge`, `BodyInvalid`."""
        content = bytearray()
        async for piece in self.pieces():
            content += piece
            if len(content) > FIELD_BYTES:
                raise BodyTooLarge(f"The field {self.name[:40]} is too long.")
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise BodyInvalid(f"The field {self.name[:40]} is not text in UTF-8.") from None


async def read_form(request: Request) -> AsyncIterator[Part]:
    """Yield the parts of a multipart body.

    Raises `BodyUnsupported` for another kind of body, `BodyInvalid` for one that is not whole or
    has too many parts, and whatever the request's stream raises.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or _BOUNDARY.fullmatch(boundary) is None:
        raise BodyUnsupported("This address takes multipart/form-data.")
    form = _Form(request, boundary)
    for _ in range(_PARTS):
        part = await form.next_part()
        if part is None:
            return
        yield part
    raise BodyInvalid(f"A form may have {_PARTS} parts at most.")


class _Form:
    """The parser's callbacks, turned into events that are asked for.

    An event is a part's headers, a piece of its content, or None at its end.
    """

    def __init__(self, request: Request, boundary: bytes) -> None:
        self._chunks = request.stream()
        self._events: deque[dict[str, bytes] | bytes | None] = deque()
        self._is_over = False
        self._is_in_part = False
        self._headers: dict[str, bytes] = {}
        self._name = bytearray()
        self._value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": lambda: self._events.append(None),
                "on_end": self._on_end,
            },
        )

    async def next_part(self) -> Part | None:
        """Skip to the next part; None at the end of the form."""
        while self._is_in_part:
            await self.next_piece()
        while not self._events and not self._is_over:
            await self._read_chunk()
        if not self._events:
            return None
        headers = self._events.popleft()
        assert isinstance(headers, dict), "a part begins with its headers"
        self._is_in_part = True
        return Part(self, headers)

    async def next_piece(self) -> bytes | None:
        """Return the next piece of the part that is being read; None at its end."""
        if not self._is_in_part:
            return None
        while not self._events:
            await self._read_chunk()
        piece = self._events.popleft()
        assert not isinstance(piece, dict), "a part ends before the next one begins"
        self._is_in_part = piece is not None
        return piece

    async def _read_chunk(self) -> None:
        try:
            chunk = await anext(self._chunks, b"")
            if chunk:
                self._parser.write(chunk)
        except (MultipartParseError, ClientDisconnect):
            raise BodyInvalid("The form cannot be read.") from None
        if not chunk and not self._is_over:
            raise BodyInvalid("The form ends in the middle.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        self._events.append(self._headers)
        self._headers = {}

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_end(self) -> None:
        self._is_over = True
