"""How a stored file is answered with, looked at without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from sayso.artifacts.keys import ArtifactKey, artifact_key
from sayso.artifacts.store import ArtifactStore, folder_artifacts
from sayso.http.files import send_file

KEY = artifact_key("local", "video", sha256="0" * 64, suffix="mp4")
SIZE = 5_000

pytestmark = pytest.mark.anyio


class Counting(ArtifactStore):
    """Counts the bytes that are read."""

    def __init__(self, inner: ArtifactStore) -> None:
        super().__init__(inner._store, folder=inner._folder)
        self.read_bytes = 0

    async def stream(
        self, key: ArtifactKey, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        async for block in super().stream(key, start=start, end=end):
            self.read_bytes += len(block)
            yield block


@pytest.mark.parametrize(
    ("method", "asked", "status", "length", "read_bytes"),
    [
        ("GET", None, 200, SIZE, SIZE),
        ("GET", "bytes=0-9", 206, 10, 10),
        ("HEAD", None, 200, SIZE, 0),
        ("HEAD", "bytes=0-9", 206, 10, 0),
    ],
)
async def test_no_more_is_read_than_is_sent(
    method: str, asked: str | None, status: int, length: int, read_bytes: int, tmp_path: Path
) -> None:
    store = Counting(folder_artifacts(tmp_path / "artifacts"))
    source = tmp_path / "video.mp4"
    source.write_bytes(bytes(SIZE))
    await store.put_file(KEY, source)
    headers = [] if asked is None else [(b"range", asked.encode())]
    scope: dict[str, Any] = {"type": "http", "method": method, "headers": headers}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"} if sent else {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    answer = await send_file(Request(scope), store, KEY)
    await answer(scope | {"asgi": {"spec_version": "2.4"}}, receive, send)

    assert (answer.status_code, answer.headers["content-length"]) == (status, str(length))
    assert answer.headers["content-type"] == "video/mp4"
    assert store.read_bytes == read_bytes
