"""What arrives is counted, hashed, bounded and gone afterwards."""

from __future__ import annotations

import hashlib
import os
import time
from io import FileIO
from pathlib import Path

import pytest

from sayso.errors import StoreUnavailable, UploadTooLarge
from sayso.media.intake import Arrival, IncomingFile, Intake, in_megabytes

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_what_is_written_is_there_until_the_block_ends(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)

    async with Intake(tmp_path).file(max_bytes=3_000_001) as file:
        for start in range(0, len(content), 65_536):
            await file.write(content[start : start + 65_536])
        arrival = await file.finish()
        assert arrival.path.read_bytes() == content

    assert arrival.sha256 == hashlib.sha256(content).hexdigest()
    assert arrival.size_bytes == len(content)
    assert not arrival.path.exists()


async def test_an_empty_file_may_arrive(tmp_path: Path) -> None:
    async with Intake(tmp_path).file(max_bytes=0) as file:
        assert (await file.finish()).size_bytes == 0


async def test_the_first_byte_too_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UploadTooLarge, match="larger than 1 MB"):
        await receive(Intake(tmp_path), b"1" * (1 << 20), b"1")

    assert names_in(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
async def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    with FileIO("/dev/full", "wb") as full:
        file = IncomingFile(tmp_path, full, max_bytes=10)
        await file.write(b"1")

        with pytest.raises(StoreUnavailable, match="no room"):
            await file.finish()


async def test_a_sweep_removes_only_what_is_old_and_ours(tmp_path: Path) -> None:
    intake = Intake(tmp_path)
    for name, age_s in (("arriving-old", 100), ("arriving-new", 0), ("other", 100)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age_s, time.time() - age_s))

    assert intake.sweep(before_s=time.time() - 50) == 1
    assert names_in(tmp_path) == ["arriving-new", "other"]


async def receive(intake: Intake, *chunks: bytes) -> Arrival:
    async with intake.file(max_bytes=1 << 20) as file:
        for chunk in chunks:
            await file.write(chunk)
        return await file.finish()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(20 << 20, "20 MB"), (1 << 19, "0.5 MB"), (1500 << 20, "1500 MB")]
)
def test_a_limit_is_written_for_people(size_bytes: int, text: str) -> None:
    assert in_megabytes(size_bytes) == text
