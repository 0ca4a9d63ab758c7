"""One suite for every place where files are stored: a folder, and a bucket behind moto's S3."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from sayso.artifacts.keys import ArtifactKey, artifact_key
from sayso.artifacts.store import (
    ArtifactStore,
    bucket_artifacts,
    folder_artifacts,
    open_artifacts,
)
from sayso.errors import ArtifactMissing, StoreUnavailable
from sayso.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("s3")]

MIB = 1 << 20


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - slow to import.

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return folder_artifacts(tmp_path / "artifacts")
    url = request.getfixturevalue("s3_url")
    bucket = f"bucket-{uuid4().hex[:12]}"
    assert httpx.put(f"{url}/{bucket}", timeout=30).status_code == 200
    settings = Settings(
        storage=f"s3://{bucket}/some/prefix",
        s3_endpoint=url,
        s3_region="us-east-1",
        s3_access_key_id="key",
        s3_secret_access_key=SecretStr("secret"),
    )
    return open_artifacts(settings)


@dataclass
class Sample:
    path: Path
    content: bytes
    key: ArtifactKey


def sample_of(path: Path, content: bytes, suffix: str = "mp4") -> Sample:
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Sample(path, content, artifact_key("alice", "video", sha256=digest, suffix=suffix))


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return sample_of(tmp_path / "sample.mp4", os.urandom(100_000))


async def bytes_of(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_what_is_put_comes_back(store: ArtifactStore, sample: Sample) -> None:
    stored = await store.put_file(sample.key, sample.path)

    assert stored.is_new
    assert stored.size_bytes == 100_000
    assert (await store.stat(sample.key)).size_bytes == 100_000
    assert await bytes_of(store.stream(sample.key)) == sample.content


async def test_a_second_put_of_the_same_content_writes_nothing(
    store: ArtifactStore, sample: Sample
) -> None:
    await store.put_file(sample.key, sample.path)

    assert not (await store.put_file(sample.key, sample.path)).is_new
    assert await bytes_of(store.stream(sample.key)) == sample.content


async def test_racing_puts_of_the_same_content_all_succeed(
    store: ArtifactStore, sample: Sample
) -> None:
    await asyncio.gather(*(store.put_file(sample.key, sample.path) for _ in range(5)))

    assert await bytes_of(store.stream(sample.key)) == sample.content


async def test_a_file_of_several_parts_comes_back_whole(
    store: ArtifactStore, tmp_path: Path
) -> None:
    sample = sample_of(tmp_path / "large.mp4", os.urandom(16 * MIB + 7))

    await store.put_file(sample.key, sample.path)

    assert await bytes_of(store.stream(sample.key)) == sample.content
    across_blocks = store.stream(sample.key, start=4 * MIB - 3, end=8 * MIB + 5)
    assert await bytes_of(across_blocks) == sample.content[4 * MIB - 3 : 8 * MIB + 5]


async def test_an_empty_file_can_be_stored(store: ArtifactStore, tmp_path: Path) -> None:
    sample = sample_of(tmp_path / "empty.bin", b"", suffix="bin")

    assert (await store.put_file(sample.key, sample.path)).size_bytes == 0
    assert await bytes_of(store.stream(sample.key)) == b""


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (0, None), (99_999, None), (10, 20), (99_990, 200_000), (100_000, None), (5, 5)],
)
async def test_a_range_is_what_a_slice_is(
    store: ArtifactStore, sample: Sample, start: int, end: int | None
) -> None:
    await store.put_file(sample.key, sample.path)

    assert (
        await bytes_of(store.stream(sample.key, start=start, end=end))
        == (sample.content[start:end])
    )


async def test_a_copy_can_be_made_for_a_child(
    store: ArtifactStore, sample: Sample, tmp_path: Path
) -> None:
    await store.put_file(sample.key, sample.path)

    copied = await store.copy_to(sample.key, tmp_path / "copy.mp4")

    assert copied.size_bytes == 100_000
    assert (tmp_path / "copy.mp4").read_bytes() == sample.content


async def test_a_missing_file_is_said_to_be_missing(
    store: ArtifactStore, sample: Sample, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactMissing):
        await store.stat(sample.key)
    with pytest.raises(ArtifactMissing):
        await bytes_of(store.stream(sample.key))
    with pytest.raises(ArtifactMissing):
        await store.copy_to(sample.key, tmp_path / "copy.mp4")


async def test_a_deleted_file_is_gone_and_may_be_deleted_again(
    store: ArtifactStore, sample: Sample
) -> None:
    await store.put_file(sample.key, sample.path)

    await store.delete(sample.key)
    await store.delete(sample.key)

    with pytest.raises(ArtifactMissing):
        await store.stat(sample.key)


async def test_a_half_written_file_is_written_anew(store: ArtifactStore, sample: Sample) -> None:
    half = sample.path.with_name("half")
    half.write_bytes(sample.content[:500])
    await store.put_file(sample.key, half)

    assert (await store.put_file(sample.key, sample.path)).is_new
    assert await bytes_of(store.stream(sample.key)) == sample.content


async def test_a_sweep_leaves_whole_files_alone(store: ArtifactStore, sample: Sample) -> None:
    await store.put_file(sample.key, sample.path)

    assert await store.sweep(before_s=time.time()) == 0
    assert await bytes_of(store.stream(sample.key)) == sample.content


async def test_a_local_path_holds_the_file(tmp_path: Path, sample: Sample) -> None:
    store = folder_artifacts(tmp_path / "artifacts")
    await store.put_file(sample.key, sample.path)

    path = store.local_path(sample.key)

    assert path is not None
    assert path.read_bytes() == sample.content
    assert path.is_relative_to(tmp_path / "artifacts")


async def test_a_sweep_removes_what_an_interrupted_put_left(tmp_path: Path, sample: Sample) -> None:
    store = folder_artifacts(tmp_path)
    await store.put_file(sample.key, sample.path)
    left = tmp_path / f"{sample.key}#1"
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 100, time.time() - 100))

    assert await store.sweep(before_s=time.time() - 200) == 0
    assert await store.sweep(before_s=time.time() - 50) == 1
    assert not left.exists()


async def test_a_bucket_that_does_not_answer_is_unavailable(sample: Sample) -> None:
    store = bucket_artifacts(
        "bucket",
        config={
            "endpoint": "http://127.0.0.1:9",
            "region": "us-east-1",
            "access_key_id": "key",
            "secret_access_key": "secret",
        },
    )

    with pytest.raises(StoreUnavailable) as caught:
        await store.put_file(sample.key, sample.path)
    assert "127.0.0.1" not in str(caught.value)


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable):
        folder_artifacts(tmp_path / "file" / "artifacts")


@pytest.mark.skipif(sys.platform != "linux", reason="counts resident memory in Linux's unit")
async def test_a_large_file_needs_little_memory(tmp_path: Path) -> None:
    store = folder_artifacts(tmp_path / "artifacts")
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(200 * MIB)
    key = artifact_key("alice", "video", sha256="0" * 64, suffix="mp4")
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    await store.put_file(key, path)
    async for _ in store.stream(key):
        pass

    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 80 * 1024
