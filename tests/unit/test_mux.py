"""The written file is what browsers want, whole or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.mux import AUDIO_RATE_HZ, SYNTHETIC, write_video

FPS = 25
SIZE = (64, 48)
Frame = npt.NDArray[np.uint8]


def frames(n: int) -> Iterator[Frame]:
    for _ in range(n):
        yield np.full((SIZE[1], SIZE[0], 3), (40, 80, 200), np.uint8)


def tone(seconds: float, block: int = 777) -> Iterator[npt.NDArray[np.int16]]:
    wave = 8000 * np.sin(np.arange(round(seconds * AUDIO_RATE_HZ)) * 2 * np.pi * 440 / 48_000)
    for start in range(0, len(wave), block):
        yield wave[start : start + block].astype(np.int16)


def write(path: Path, *, n: int = FPS, seconds: float = 1.0) -> None:
    write_video(path, frames(n), tone(seconds), fps=FPS, size=SIZE, n_frames=n)


def test_both_tracks_start_at_zero_and_end_together(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", seconds=0.973)

    with av.open(str(tmp_path / "out.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.duration is not None
        assert audio.duration is not None
        assert video.time_base is not None
        assert audio.time_base is not None
        assert video.start_time == audio.start_time == 0
        assert video.duration * video.time_base == 1
        assert audio.duration * audio.time_base == 1


def test_the_file_is_h264_and_aac_tagged_bt709_with_its_index_first(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4")

    content = (tmp_path / "out.mp4").read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.profile, context.pix_fmt) == ("h264", "High", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_range) == (1, 1, 1)
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.metadata["comment"] == SYNTHETIC


def test_colours_survive(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4")

    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        pixel = frame.reformat(format="bgr24", src_colorspace="ITU709").to_ndarray()[20, 20]
    assert np.abs(pixel.astype(int) - (40, 80, 200)).max() <= 4


@pytest.mark.parametrize("size", [(64, 48), (64, 46), (50, 62)])
def test_every_even_size_is_shown_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    colours = np.random.default_rng(1).integers(40, 215, (2, 2, 3)).astype(np.uint8)
    quarters = cv2.resize(colours, size, interpolation=cv2.INTER_NEAREST)
    pictures = iter([np.asarray(quarters, np.uint8)] * 3)

    write_video(tmp_path / "out.mp4", pictures, tone(0.2), fps=FPS, size=size, n_frames=3)

    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        shown = frame.reformat(format="bgr24", src_colorspace="ITU709").to_ndarray()
    for y, x in ((4, 4), (4, width - 5), (height - 5, 4), (height - 5, width - 5)):
        assert np.abs(shown[y, x].astype(int) - quarters[y, x]).max() <= 6


def test_the_sound_is_the_pcm_it_was_given(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", n=2 * FPS, seconds=2.0)

    with av.open(str(tmp_path / "out.mp4")) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    expected = np.concatenate(list(tone(2.0))) / 32768
    middle = slice(20_000, 60_000)
    lags = range(-64, 65)
    scores = [np.dot(np.roll(heard, -lag)[middle], expected[middle]) for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) <= 1
    assert np.corrcoef(heard[middle], expected[middle])[0, 1] > 0.999


def test_progress_is_told_after_each_frame(tmp_path: Path) -> None:
    told: list[int] = []

    write_video(
        tmp_path / "out.mp4",
        frames(5),
        tone(0.2),
        fps=FPS,
        size=SIZE,
        n_frames=5,
        on_frame=told.append,
    )

    assert told == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_behind_when_the_work_is_stopped(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def stop(done: int) -> None:
        if done == 3:
            raise error

    with pytest.raises(error):
        write_video(
            tmp_path / "out.mp4",
            frames(10),
            tone(0.4),
            fps=FPS,
            size=SIZE,
            n_frames=10,
            on_frame=stop,
        )

    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"older")

    with pytest.raises(ValueError, match="3 frames came, 10 were announced"):
        write_video(target, frames(3), tone(0.4), fps=FPS, size=SIZE, n_frames=10)

    assert target.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [target]
