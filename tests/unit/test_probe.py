"""A video is measured by what is in it, and judged before anybody pays for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.engine.mux import write_video
from sayso.errors import VideoRefused, VideoUnreadable
from sayso.media.probe import Probe, judge, probe_video
from tests.recordings import tone, write_recording
from tests.recordings import write_video as write_grey_video

GOOD = Probe(
    width=720,
    height=720,
    duration_video_s=10.0,
    duration_audio_s=10.0,
    video_codec="h264",
    audio_codec="aac",
    n_frames=250,
    is_faststart=True,
    size_bytes=1_000_000,
)


def frames(count: int) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    for n in range(count):
        yield np.full((64, 48, 3), n % 255, np.uint8)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    path = tmp_path / "ours.mp4"
    sound = np.zeros(96_000, np.int16)
    write_video(path, frames(50), iter([sound]), fps=25, size=(48, 64), n_frames=50)
    return path


def test_our_own_video_is_measured_exactly(ours: Path) -> None:
    probe = probe_video(ours)

    assert probe == Probe(
        width=48,
        height=64,
        duration_video_s=2.0,
        duration_audio_s=2.0,
        video_codec="h264",
        audio_codec="aac",
        n_frames=50,
        is_faststart=True,
        size_bytes=ours.stat().st_size,
    )
    assert judge(probe, speech_s=1.99, is_ours=True) == ()


def test_a_video_without_sound_says_so(tmp_path: Path) -> None:
    probe = probe_video(write_grey_video(tmp_path / "silent.mp4", None))

    assert probe.duration_audio_s is None
    assert probe.duration_video_s == pytest.approx(1.0)


def test_sound_alone_has_no_picture(tmp_path: Path) -> None:
    probe = probe_video(write_recording(tmp_path / "sound.mp4", tone(), codec="aac"))

    assert probe.duration_video_s is None
    assert probe.n_frames == 0
    with pytest.raises(VideoRefused, match="no picture"):
        judge(probe, speech_s=1, is_ours=False)


def test_an_index_behind_the_content_is_noticed(tmp_path: Path) -> None:
    assert not probe_video(write_grey_video(tmp_path / "late.mp4", tone())).is_faststart


def test_other_containers_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libvpx-vp9", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for picture in frames(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture[:, :48], format="bgr24")))
        out.mux(stream.encode(None))

    probe = probe_video(path)

    assert probe.video_codec == "vp9"
    assert probe.duration_video_s == pytest.approx(1.0, abs=0.11)
    assert probe.is_faststart


def test_a_length_in_the_header_is_not_believed(ours: Path) -> None:
    whole = probe_video(ours)
    content = ours.read_bytes()
    ours.write_bytes(content[: int(len(content) * 0.8)])

    cut = probe_video(ours)

    assert cut.duration_video_s is not None
    assert whole.duration_video_s is not None
    assert cut.duration_video_s < whole.duration_video_s
    with pytest.raises(VideoRefused):
        judge(cut, speech_s=2.0, is_ours=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"<html>Not Found</html>",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x00\x00\x00\x18ftypmp42" + bytes(200),
        b"\x1aE\xdf\xa3" + bytes(200),
    ],
)
def test_what_is_no_video_is_unreadable(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)

    with pytest.raises(VideoUnreadable):
        probe_video(tmp_path / "a.mp4")


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(VideoUnreadable):
        probe_video(tmp_path / "missing.mp4")


def test_content_of_noise_shows_nothing(ours: Path) -> None:
    content = bytearray(ours.read_bytes())
    start = content.index(b"mdat") + 4
    content[start:] = np.random.default_rng(1).bytes(len(content) - start)
    ours.write_bytes(content)

    with pytest.raises(VideoUnreadable):
        probe_video(ours)


def test_a_damaged_beginning_does_not_spoil_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    sound = np.zeros(480_000, np.int16)
    write_video(path, frames(250), iter([sound]), fps=25, size=(48, 64), n_frames=250)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)

    assert probe_video(path).n_frames == 250


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"duration_audio_s": None}, "no sound"),
        ({"duration_video_s": None, "n_frames": 0}, "no picture"),
        ({"duration_video_s": 9.89}, "picture lasts"),
        ({"duration_video_s": 10.11}, "picture lasts"),
        ({"duration_audio_s": 9.89}, "sound lasts"),
        ({"duration_audio_s": 20.0}, "sound lasts"),
        ({"duration_video_s": 4.0}, "less than half"),
    ],
)
def test_our_own_video_has_to_be_exact(change: dict[str, float | None], reason: str) -> None:
    with pytest.raises(VideoRefused, match=reason):
        judge(replace(GOOD, **change), speech_s=10.0, is_ours=True)  # type: ignore[arg-type]


def test_few_frames_a_second_allow_for_the_last_one() -> None:
    slow = replace(GOOD, duration_video_s=10.1, duration_audio_s=10.1, n_frames=101)

    assert judge(slow, speech_s=10.0, is_ours=True) == ()


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"duration_audio_s": None}, ["video_silent"]),
        ({"duration_video_s": 5.0}, ["video_length_differs"]),
        ({"duration_video_s": 14.0}, ["video_length_differs"]),
        ({"video_codec": "hevc"}, ["video_codec_rare"]),
        ({"is_faststart": False}, []),
    ],
)
def test_anothers_video_is_delivered_with_notices(
    change: dict[str, float | str | None], codes: list[str]
) -> None:
    notices = judge(replace(GOOD, **change), speech_s=10.0, is_ours=False)  # type: ignore[arg-type]

    assert [notice.code for notice in notices] == codes
    assert all(notice.text.endswith(".") for notice in notices)


def test_less_than_half_of_the_speech_is_refused() -> None:
    with pytest.raises(VideoRefused, match=r"4\.9 s, less than half"):
        judge(replace(GOOD, duration_video_s=4.9), speech_s=10.0, is_ours=False)


@given(
    probe=st.builds(
        Probe,
        width=st.none() | st.integers(1, 4000),
        height=st.none() | st.integers(1, 4000),
        duration_video_s=st.none() | st.floats(0, 1e6),
        duration_audio_s=st.none() | st.floats(0, 1e6),
        video_codec=st.none() | st.text(max_size=5),
        audio_codec=st.none() | st.text(max_size=5),
        n_frames=st.integers(0, 10**6),
        is_faststart=st.booleans(),
        size_bytes=st.integers(0, 10**9),
    ),
    speech_s=st.floats(0.2, 600),
)
def test_what_is_delivered_of_ours_would_be_delivered_of_anothers(
    probe: Probe, speech_s: float
) -> None:
    try:
        judge(probe, speech_s=speech_s, is_ours=True)
    except VideoRefused:
        return
    judge(probe, speech_s=speech_s, is_ours=False)
