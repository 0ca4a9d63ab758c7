"""Videos are measured on the finished file: a good one passes, and each kind of harm is seen."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sayso.engine.agreement import agreement
from sayso.engine.features import levels_db
from sayso.engine.mux import write_video
from sayso.engine.quality import GATES, SAMPLE_FRAMES, Quality, inspect_video
from sayso.engine.seen import Seen, _frames, _rgb_of, a_few_of, watch
from sayso.engine.talk import TalkOptions, make_video
from sayso.engine.visemes import find_visemes
from sayso.errors import NoFace, VideoUnreadable
from sayso.media.audio import Speech, read_speech, stream_pcm
from tests.conftest import EXAMPLES

Frames = list[npt.NDArray[np.uint8]]

PORTRAIT = EXAMPLES / "portrait.jpg"
SECONDS = 4
FPS = 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quality")


@pytest.fixture(scope="module")
def heard(folder: Path) -> Speech:
    """Three seconds of the sample's speech that open the mouth wide, between half seconds of hush.

    The sample smiles, and on smiling lips the mesh does not see openings of a millimetre or two.
    """
    return read_speech(write_wav(folder / "speech.wav", hushed(5.76)))


@pytest.fixture(scope="module")
def video(folder: Path, heard: Speech) -> Path:
    """A video of the sample, 320 px around the face."""
    path = folder / "video.mp4"
    make_video(PORTRAIT, heard.path, path, options=TalkOptions(long_side_px=320, crop="face"))
    return path


@pytest.fixture(scope="module")
def quality(video: Path, heard: Speech) -> Quality:
    return inspect_video(video, portrait=PORTRAIT, speech=heard.path)


@pytest.fixture(scope="module")
def seen(video: Path) -> Seen:
    return watch(video)


@pytest.fixture(scope="module")
def frames(video: Path) -> Frames:
    return [_rgb_of(frame) for frame in _frames(video)]


def hushed(start_s: float) -> npt.NDArray[np.int16]:
    start = round(16_000 * start_s)
    samples = np.zeros(16_000 * SECONDS, np.int16)
    samples[8_000:56_000] = read_speech(EXAMPLES / "speech.ogg").samples[start : start + 48_000]
    return samples


def write_wav(path: Path, samples: npt.NDArray[np.int16]) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def written(path: Path, frames: Frames, pcm: Iterable[npt.NDArray[np.int16]]) -> Path:
    height, width = frames[0].shape[:2]
    bgr = (np.ascontiguousarray(frame[..., ::-1]) for frame in frames)
    write_video(path, bgr, pcm, fps=FPS, size=(width, height), n_frames=len(frames))
    return path


def missed(quality: Quality) -> set[str]:
    return {sentence.split(" ")[0] for sentence in quality.failures()}


# A good video.


def test_our_video_passes_every_gate(quality: Quality) -> None:
    assert quality.failures() == ()
    assert quality.framing == "face"


def test_every_gate_is_measured_when_all_is_given(quality: Quality) -> None:
    assert [gate.figure for gate in GATES if getattr(quality, gate.figure) is None] == []


def test_mouth_leads_its_sound_by_less_than_a_frame(quality: Quality) -> None:
    assert quality.sync_lag_ms is not None
    assert -40 <= quality.sync_lag_ms <= 0


def test_figures_can_be_written_as_json_and_text(quality: Quality) -> None:
    assert json.loads(json.dumps(quality.as_dict()))["n_frames"] == SECONDS * FPS
    assert all(gate.meaning in quality.table() for gate in GATES)


# A sample of the frames gives the same figures, near enough.


def test_a_sample_measures_what_all_frames_do(video: Path, heard: Speech, quality: Quality) -> None:
    track = find_visemes(heard)

    sampled = inspect_video(video, speech=heard.path, most_frames=SAMPLE_FRAMES, track=track)

    assert (quality.n_looked_at, quality.n_frames) == (SECONDS * FPS, SECONDS * FPS)
    assert (sampled.n_looked_at, sampled.n_frames) == (SECONDS * FPS / 2, SECONDS * FPS)
    assert (sampled.fps, sampled.face_share) == (quality.fps, 1.0)
    assert sampled.sync_r == pytest.approx(quality.sync_r, abs=0.02)
    assert sampled.sync_lag_ms == pytest.approx(quality.sync_lag_ms, abs=20)
    assert sampled.sync_over_chance == pytest.approx(quality.sync_over_chance, abs=0.1)
    assert sampled.loudness_r == pytest.approx(quality.loudness_r, abs=0.1)
    assert sampled.closure == pytest.approx(quality.closure, abs=0.005)
    assert sampled.sound_r == quality.sound_r
    # Five pairs of frames stand for a hundred.
    assert sampled.flicker == pytest.approx(quality.flicker, abs=0.1)
    assert sampled.activity is not None
    assert sampled.activity > 1


def test_a_sample_sees_a_mouth_that_does_not_follow(video: Path, heard: Speech) -> None:
    turned = Speech(heard.path, np.roll(heard.samples, 24_000), heard.duration_s, heard.codec)

    sampled = inspect_video(
        video, speech=heard.path, most_frames=SAMPLE_FRAMES, track=find_visemes(turned)
    )

    assert "sync_r" in missed(sampled)


def test_a_sample_sees_a_background_that_flickers(
    heard: Speech, frames: Frames, folder: Path
) -> None:
    noise = np.random.default_rng(1)
    noisy = [
        np.clip(frame + noise.normal(0, 4, frame.shape), 0, 255).astype(np.uint8)
        for frame in frames
    ]

    path = written(folder / "flickering.mp4", noisy, stream_pcm(heard.path))
    sampled = inspect_video(path, most_frames=SAMPLE_FRAMES)

    assert "flicker" in missed(sampled)


@pytest.mark.parametrize("n_frames", [1, 2, 47, 48, 49, 97, 100, 191, 250, 1000, 15_000])
def test_a_sample_is_bounded_spread_and_has_pairs(n_frames: int) -> None:
    numbers = sorted(a_few_of(n_frames, most=96))

    assert numbers[0] >= 0
    assert numbers[-1] < n_frames
    assert len(numbers) <= min(96, max(48, n_frames // 2))
    if n_frames <= 48:
        assert numbers == list(range(n_frames))
        return
    assert len(numbers) >= 0.85 * min(96, max(48, n_frames // 2))
    assert np.diff(numbers).max() <= 1 + 1.2 * n_frames / len(numbers)
    assert sum(np.diff(numbers) == 1) >= 4


MEDIA = EXAMPLES.parent.parent / "shared" / "media"
CLIPS = (
    (PORTRAIT, EXAMPLES / "speech.ogg"),
    (MEDIA / "portraits" / "hopper.jpg", MEDIA / "speech" / "en_libri_f.wav"),
    (MEDIA / "portraits" / "lincoln.jpg", MEDIA / "speech" / "en_jfk.wav"),
    (MEDIA / "portraits" / "madeleine.jpg", MEDIA / "speech" / "fr_lesmis.wav"),
    (MEDIA / "portraits" / "cartoon_man.png", MEDIA / "speech" / "ru_festvox.wav"),
)


@pytest.mark.soak
@pytest.mark.parametrize(("portrait", "speech"), CLIPS, ids=lambda path: path.stem)
def test_a_sample_of_real_clips_is_within_two_hundredths(
    portrait: Path, speech: Path, tmp_path: Path
) -> None:
    if not portrait.exists():
        pytest.skip("the shared portraits are not here")
    path = tmp_path / "video.mp4"
    talk = make_video(portrait, speech, path)

    every = inspect_video(path, speech=speech, track=talk.track)
    sampled = inspect_video(path, speech=speech, track=talk.track, most_frames=SAMPLE_FRAMES)

    assert sampled.sync_r == pytest.approx(every.sync_r, abs=0.02)


def test_without_portrait_and_speech_only_the_file_and_the_face_are_measured(video: Path) -> None:
    quality = inspect_video(video)

    assert (quality.sync_r, quality.border_ssim, quality.closure) == (None, None, None)
    assert quality.failures() == ()
    assert quality.face_share == 1.0


def test_speech_without_words_leaves_the_lips_unjudged(video: Path, folder: Path) -> None:
    hush = write_wav(folder / "hush.wav", np.zeros(16_000 * SECONDS, np.int16))

    quality = inspect_video(video, speech=hush)

    assert quality.sync_r is None


def test_a_mouth_that_rests_while_nobody_speaks_is_no_fault(folder: Path) -> None:
    hush = write_wav(folder / "still.wav", np.zeros(16_000 * SECONDS, np.int16))
    still = folder / "still.mp4"
    make_video(PORTRAIT, hush, still, options=TalkOptions(long_side_px=320, crop="face"))

    quality = inspect_video(still, portrait=PORTRAIT, speech=hush)

    assert quality.activity is None
    assert quality.failures() == ()


# The lag is found: the speech is moved by a known time.


@pytest.mark.parametrize("moved_ms", [-240, -160, -80, -40, 40, 80, 160, 240])
@pytest.mark.parametrize("against", ["visemes", "loudness"])
def test_moved_speech_is_found_where_it_was_moved(
    seen: Seen, heard: Speech, quality: Quality, against: str, moved_ms: int
) -> None:
    moved = np.roll(heard.samples, 16 * moved_ms)

    def curve_of(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
        if against == "loudness":
            return levels_db(samples)
        return find_visemes(
            Speech(heard.path, samples, heard.duration_s, heard.codec), method="net"
        ).open

    still = agreement(seen.opening, curve_of(heard.samples), rate_hz=100, fps=FPS)
    found = agreement(seen.opening, curve_of(moved), rate_hz=100, fps=FPS)

    assert still is not None
    assert found is not None
    assert found.lag_ms - still.lag_ms == pytest.approx(-moved_ms, abs=10)


# Harm is seen.


def test_frozen_face_misses_the_gates_of_sync(folder: Path, frames: Frames, heard: Speech) -> None:
    frozen = written(folder / "frozen.mp4", frames[:1] * len(frames), stream_pcm(heard.path))

    assert {"sync_r", "activity"} <= missed(inspect_video(frozen, speech=heard.path))


def test_mouth_of_another_time_misses_the_gates_of_sync(
    folder: Path, frames: Frames, heard: Speech
) -> None:
    backwards = written(folder / "backwards.mp4", frames[::-1], stream_pcm(heard.path))

    assert "sync_r" in missed(inspect_video(backwards, speech=heard.path))


def test_delayed_sound_is_seen(folder: Path, frames: Frames, heard: Speech) -> None:
    delayed = write_wav(folder / "delayed.wav", np.roll(heard.samples, 16 * 120))
    late = written(folder / "late.mp4", frames, stream_pcm(delayed))

    quality = inspect_video(late, speech=heard.path)

    assert quality.sound_lag_ms == pytest.approx(120)
    assert missed(quality) == {"sound_lag_ms"}


def test_other_sound_is_seen(folder: Path, frames: Frames, heard: Speech) -> None:
    other = write_wav(folder / "other.wav", hushed(0.0))
    video = written(folder / "other.mp4", frames, stream_pcm(other))

    assert "sound_r" in missed(inspect_video(video, speech=heard.path))


def test_short_video_is_seen(folder: Path, frames: Frames, heard: Speech) -> None:
    short = written(folder / "short.mp4", frames[:90], stream_pcm(heard.path))

    assert "length_difference_s" in missed(inspect_video(short, speech=heard.path))


@pytest.mark.parametrize(
    ("harm", "gates"),
    [
        pytest.param(
            lambda frame, at: cv2.GaussianBlur(frame, (0, 0), 1.5), {"sharpness"}, id="blur"
        ),
        pytest.param(
            lambda frame, at: np.clip(frame, 0, 250) + 3 * (at % 2), {"flicker"}, id="flicker"
        ),
        pytest.param(
            lambda frame, at: np.clip(frame, 2, 255) - np.array([2, 0, 0]),
            {"colour_shift"},
            id="tint",
        ),
        pytest.param(
            lambda frame, at: np.roll(frame, 3, axis=1),
            {"border_ssim", "background_ssim"},
            id="shift",
        ),
        pytest.param(
            lambda frame, at: cv2.resize(frame[:, 20:-20], frame.shape[1::-1]),
            {"border_ssim", "background_ssim", "shape_distance"},
            id="wide",
        ),
    ],
)
def test_harmed_frames_miss_their_gates(
    folder: Path,
    frames: Frames,
    heard: Speech,
    harm: Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.uint8]],
    gates: set[str],
) -> None:
    harmed = [np.asarray(harm(frame, at), np.uint8) for at, frame in enumerate(frames[:50])]
    video = written(folder / "harmed.mp4", harmed, stream_pcm(heard.path))

    assert gates <= missed(inspect_video(video, portrait=PORTRAIT))


def test_other_portrait_is_seen(folder: Path, frames: Frames, heard: Speech) -> None:
    """The portrait's mirror image, framed as the video is."""
    mirrored = folder / "mirrored.mp4"
    written(mirrored, [frame[:, ::-1] for frame in frames[:20]], stream_pcm(heard.path))

    quality = inspect_video(mirrored, portrait=PORTRAIT)

    assert {"border_ssim", "background_ssim", "face_ssim"} <= missed(quality)


def test_framing_that_is_not_ours_is_told(folder: Path, frames: Frames, heard: Speech) -> None:
    narrow = written(
        folder / "narrow.mp4", [frame[:, 40:-40] for frame in frames[:20]], stream_pcm(heard.path)
    )

    quality = inspect_video(narrow, portrait=PORTRAIT)

    assert quality.framing == "other"
    assert quality.border_ssim is None
    assert any("does not frame" in sentence for sentence in quality.failures())


# What cannot be measured.


@pytest.mark.parametrize("content", [b"", b"not a video at all", b"\0\0\0\x20ftypisom" + bytes(64)])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)

    with pytest.raises(VideoUnreadable):
        inspect_video(path)


def test_sound_alone_is_refused(heard: Speech) -> None:
    with pytest.raises(VideoUnreadable):
        inspect_video(heard.path)


def test_video_without_a_face_is_refused(folder: Path, heard: Speech) -> None:
    gray = [np.full((64, 64, 3), 128, np.uint8)] * 12
    video = written(folder / "gray.mp4", gray, stream_pcm(heard.path))

    with pytest.raises(NoFace, match="first frame"):
        inspect_video(video)


def test_face_that_goes_away_is_counted(folder: Path, frames: Frames, heard: Speech) -> None:
    gone = [*frames[:15], *[np.full_like(frames[0], 128)] * 5]
    video = written(folder / "gone.mp4", gone, stream_pcm(heard.path))

    quality = inspect_video(video)

    assert quality.face_share == pytest.approx(0.75)
    assert "face_share" in missed(quality)
