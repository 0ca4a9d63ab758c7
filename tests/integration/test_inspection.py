"""Strangers' files, good and bad, looked at in children: facts or a reason, never a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sayso.errors import (
    ChildCrashed,
    ImageRejected,
    ImageTooLarge,
    InputRejected,
    InputTooHard,
    SpeechRejected,
    SpeechTooLong,
    VideoUnreadable,
)
from sayso.media.child import ChildLimits, Json
from sayso.media.inspection import Inspector
from sayso.media.limits import decode_limits, render_limits
from sayso.settings import Settings
from tests.recordings import tone, write_recording, write_video

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def inspector() -> Inspector:
    return Inspector.of(Settings())


async def test_a_portrait_is_described_with_its_face(inspector: Inspector, portrait: Path) -> None:
    with Image.open(portrait) as image:
        size = image.size

    facts = await inspector.image(portrait)

    assert facts.suffix == "jpg"
    assert (facts.width, facts.height) == size
    assert facts.face_problem is None
    assert facts.n_faces == 1
    assert facts.face is not None
    assert facts.face.width * facts.face.height > 0.01 * size[0] * size[1]


async def test_a_picture_without_a_face_is_a_picture(inspector: Inspector, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "grey.webp")

    facts = await inspector.image(tmp_path / "grey.webp")

    assert (facts.suffix, facts.width, facts.height) == ("webp", 300, 200)
    assert facts.face is None
    assert facts.face_problem is not None
    assert facts.face_problem.code == "no_face"


@pytest.mark.parametrize(("suffix", "mode"), [("jpg", "RGB"), ("png", "RGBA")])
async def test_the_largest_picture_allowed_fits_into_the_child(
    inspector: Inspector, tmp_path: Path, suffix: str, mode: str
) -> None:
    path = tmp_path / f"large.{suffix}"
    Image.new(mode, (8660, 5770), "grey").save(path, compress_level=1)

    facts = await inspector.image(path)

    assert [notice.code for notice in facts.notices] == ["picture_reduced"]
    assert facts.width == 4096


async def test_a_recording_is_described(inspector: Inspector, speech: Path) -> None:
    facts = await inspector.speech(speech)

    assert facts.suffix == "ogg"
    assert facts.codec == "opus"
    assert 5 < facts.duration_s < 15


async def test_the_sound_of_a_video_is_a_recording(inspector: Inspector, tmp_path: Path) -> None:
    facts = await inspector.speech(write_video(tmp_path / "a.mp4", tone()))

    assert facts.suffix == "mp4"
    assert facts.duration_s == pytest.approx(1.0, abs=0.1)


async def test_a_video_is_measured(inspector: Inspector, tmp_path: Path) -> None:
    probe = await inspector.video(write_video(tmp_path / "a.mp4", tone()))

    assert (probe.width, probe.height) == (64, 64)
    assert probe.duration_audio_s == pytest.approx(1.0, abs=0.1)
    with pytest.raises(VideoUnreadable):
        await inspector.video(write_recording(tmp_path / "a.wav", tone()))


async def test_the_operators_limits_reach_the_child(portrait: Path, tmp_path: Path) -> None:
    inspector = Inspector.of(Settings(image_max_bytes=1000, speech_max_s=1))

    with pytest.raises(ImageTooLarge):
        await inspector.image(portrait)
    with pytest.raises(SpeechTooLong):
        await inspector.speech(write_recording(tmp_path / "a.wav", tone(2.0)))


async def test_too_little_time_or_memory_is_the_inputs_fault(portrait: Path) -> None:
    for limits in (
        ChildLimits(wall_s=0.05),
        ChildLimits(memory_bytes=300 << 20),
    ):
        with pytest.raises(InputTooHard):
            await Inspector(limits=limits).image(portrait)


async def test_an_answer_of_another_shape_is_not_believed(portrait: Path) -> None:
    async def lying(task: str, arguments: Mapping[str, Json], *, limits: ChildLimits) -> Json:
        return {"suffix": "jpg", "width": "wide"}

    with pytest.raises(ChildCrashed):
        await Inspector(run=lying).image(portrait)


async def test_only_so_many_children_run_at_a_time(tmp_path: Path) -> None:
    running, most = 0, 0

    async def counting(task: str, arguments: Mapping[str, Json], *, limits: ChildLimits) -> Json:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return {"suffix": "wav", "duration_s": 1.0, "codec": "pcm", "notices": []}

    inspector = Inspector(at_once=3, run=counting)

    await asyncio.gather(*(inspector.speech(tmp_path) for _ in range(10)))

    assert most == 3


def test_the_limits_of_the_design_are_the_defaults() -> None:
    decode, render = decode_limits(Settings()), render_limits(Settings(), speech_s=10.2)

    assert (decode.cpu_s, decode.memory_bytes) == (10, 1 << 30)
    assert (render.cpu_s, render.memory_bytes, render.file_bytes) == (51, 2 << 30, 1 << 30)


def bad_pictures(portrait: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "noise": np.random.default_rng(1).bytes(10_000),
        "html": b"<html><script>alert(1)</script></html>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "bomb": png_claiming(60_000, 60_000),
        "cut": portrait[:3000],
        "flipped": flipped(portrait, 400),
    }


def bad_recordings(speech: bytes, video: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "zeros": bytes(10_000),
        "noise": np.random.default_rng(2).bytes(10_000),
        "playlist": b"#EXTM3U\n#EXTINF:10,\nhttp://169.254.169.254/\n",
        "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "ogg_cut": speech[:100],
        "ogg_flipped": flipped(speech, 2000),
        "mp4_cut": video[: len(video) // 2],
        "mp4_flipped": flipped(video, 400),
    }


def flipped(content: bytes, count: int) -> bytes:
    random = np.random.default_rng(3)
    changed = bytearray(content)
    for at in random.integers(0, len(content), count):
        changed[at] ^= 1 << random.integers(8)
    return bytes(changed)


def png_claiming(width: int, height: int) -> bytes:
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + header + b"\0\0\0\0\0\0\0\0IDAT"


@pytest.fixture
def bad_files(portrait: Path, speech: Path, tmp_path: Path) -> Mapping[Path, type[InputRejected]]:
    """Damaged, lying and empty files, each with the kind of error that it may end in."""
    video = write_video(tmp_path / "video.mp4", tone()).read_bytes()
    files: dict[Path, type[InputRejected]] = {}
    for kind, contents in (
        (ImageRejected, bad_pictures(portrait.read_bytes())),
        (SpeechRejected, bad_recordings(speech.read_bytes(), video)),
    ):
        for name, content in contents.items():
            path = tmp_path / f"{kind.__name__}-{name}"
            path.write_bytes(content)
            files[path] = kind
    return files


async def test_bad_files_end_in_a_reason_or_in_facts(
    bad_files: Mapping[Path, type[InputRejected]], inspector: Inspector
) -> None:
    outcomes = await asyncio.gather(
        *(
            inspector.image(path) if kind is ImageRejected else inspector.speech(path)
            for path, kind in bad_files.items()
        ),
        return_exceptions=True,
    )

    refused = 0
    for (path, kind), outcome in zip(bad_files.items(), outcomes, strict=True):
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, kind | InputTooHard), (path.name, outcome)
            assert str(outcome).endswith("."), path.name
            refused += 1
    assert refused >= len(bad_files) - 4  # Some damage leaves most of a file readable.


PICTURES = ("jpg", "png", "webp", "avif", "gif", "tiff", "bmp")
RECORDINGS = {
    "wav": "pcm_s16le",
    "mp3": "libmp3lame",
    "ogg": "libopus",
    "flac": "flac",
    "m4a": "aac",
    "webm": "libopus",
    "aiff": "pcm_s16be",
}


def damaged(content: bytes) -> Iterator[bytes]:
    """Yield a file cut at 12 places, with bits flipped in 10 ways, and doubled."""
    for share in np.linspace(0.02, 0.99, 12):
        yield content[: int(len(content) * share)]
    random = np.random.default_rng(len(content))
    for n in range(10):
        changed = bytearray(content)
        # Half of the ways hit the headers.
        reach = len(content) if n % 2 else min(len(content), 200)
        for at in random.integers(0, reach, 1 + 3 * n):
            changed[at] ^= 1 << random.integers(8)
        yield bytes(changed)
    yield content + content


@pytest.mark.soak
@pytest.mark.parametrize("suffix", [*PICTURES, *RECORDINGS])
async def test_no_damage_brings_more_than_a_reason(
    suffix: str, inspector: Inspector, portrait: Path, tmp_path: Path
) -> None:
    whole = tmp_path / f"whole.{suffix}"
    if suffix in PICTURES:
        small_copy(portrait, whole)
    else:
        rate_hz = 48_000 if RECORDINGS[suffix] == "libopus" else 16_000
        write_recording(whole, tone(rate_hz=rate_hz), codec=RECORDINGS[suffix], rate_hz=rate_hz)
    look = inspector.image if suffix in PICTURES else inspector.speech
    kind = ImageRejected if suffix in PICTURES else SpeechRejected

    for n, content in enumerate(damaged(whole_bytes(whole))):
        path = tmp_path / f"{n}.{suffix}"
        write_bytes(path, content)
        with suppress(kind):  # Any other error, and any crash, fails the test.
            await look(path)


def small_copy(picture: Path, target: Path) -> None:
    with Image.open(picture) as image:
        image.resize((image.width // 2, image.height // 2)).save(target)


def whole_bytes(path: Path) -> bytes:
    return path.read_bytes()


def write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
