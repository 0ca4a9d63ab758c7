"""Forms are read as they arrive, however they are cut into chunks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from sayso.errors import BodyInvalid, BodyTooLarge, BodyUnsupported
from sayso.http.multipart import FIELD_BYTES, read_form
from tests.databases import in_a_loop_of_its_own

BOUNDARY = "b0undary"
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="kind"\r\n\r\nspeech\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="ä.wav"\r\n'
    f"Content-Type: audio/wav\r\n\r\nRIFF\r\n--{BOUNDARY}x\r\n\x00\xff\r\n--{BOUNDARY}--\r\n"
).encode()
CONTENT = f"RIFF\r\n--{BOUNDARY}x\r\n\x00\xff".encode()

Seen = list[tuple[str, str | None, str | None, bytes]]


def request(*chunks: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}") -> Request:
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return Request(scope, receive)


async def read_all(form: Request) -> Seen:
    return [
        (part.name, part.file_name, part.content_type, b"".join([p async for p in part.pieces()]))
        async for part in read_form(form)
    ]


EXPECTED: Seen = [
    ("kind", None, None, b"speech"),
    ("file", "ä.wav", "audio/wav", CONTENT),
]


@given(st.lists(st.integers(0, len(FORM)), max_size=6))
def test_the_chunks_make_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(FORM)]
    chunks = [FORM[start:end] for start, end in pairwise(edges)]

    seen = in_a_loop_of_its_own(lambda: read_all(request(*(c for c in chunks if c))))

    assert seen == EXPECTED


@pytest.mark.anyio
async def test_a_part_that_nobody_reads_is_skipped() -> None:
    names = [part.name async for part in read_form(request(FORM))]

    assert names == ["kind", "file"]


@pytest.mark.anyio
async def test_a_part_is_read_once() -> None:
    async for part in read_form(request(FORM)):
        if part.name == "kind":
            assert await part.text() == "speech"
            assert await part.text() == ""


@pytest.mark.anyio
@pytest.mark.parametrize("end", range(1, len(FORM) - 4, 7))
async def test_a_form_that_ends_in_the_middle_is_refused(end: int) -> None:
    with pytest.raises(BodyInvalid):
        await read_all(request(FORM[:end]))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'b' * 300}",
        "",
    ],
)
async def test_another_kind_of_body_is_refused(kind: str) -> None:
    with pytest.raises(BodyUnsupported):
        await read_all(request(FORM, kind=kind))


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"nonsense", b"--wrong\r\n", f"--{BOUNDARY}!".encode()])
async def test_nonsense_is_refused(body: bytes) -> None:
    with pytest.raises(BodyInvalid):
        await read_all(request(body))


@pytest.mark.anyio
async def test_a_text_field_has_a_limit() -> None:
    long = FORM.replace(b"speech", b"s" * (FIELD_BYTES + 1))

    part = await anext(read_form(request(long)))
    with pytest.raises(BodyTooLarge):
        await part.text()


@pytest.mark.anyio
async def test_too_many_parts_are_refused() -> None:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n'.encode()

    with pytest.raises(BodyInvalid):
        await read_all(request(part * 30 + f"--{BOUNDARY}--\r\n".encode()))
