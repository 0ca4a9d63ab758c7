"""Reading recordings: every format back to the same PCM, every bad file its own error."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from sayso.errors import (
    NoAudioTrack,
    SpeechEmpty,
    SpeechRejected,
    SpeechTooLarge,
    SpeechTooLong,
    SpeechTooShort,
    SpeechUnreadable,
)
from sayso.media.audio import SpeechLimits, read_speech, stream_pcm
from tests.recordings import noise, pcm16, tone, write_recording, write_video

_Maker = Callable[[Path], Path]

FORMATS = [
    ("wav", "pcm_s16le", 16_000, "mono"),
    ("wav", "pcm_s16le", 8_000, "mono"),
    ("wav", "pcm_s24le", 96_000, "stereo"),
    ("wav", "pcm_f32le", 44_100, "stereo"),
    ("wav", "pcm_u8", 8_000, "mono"),
    ("wav", "pcm_mulaw", 8_000, "mono"),
    ("aiff", "pcm_s16be", 44_100, "stereo"),
    ("flac", "flac", 96_000, "stereo"),
    ("mp3", "libmp3lame", 44_100, "stereo"),
    ("m4a", "aac", 48_000, "stereo"),
    ("ogg", "libopus", 48_000, "mono"),
    ("webm", "libopus", 48_000, "mono"),
    ("mka", "ac3", 48_000, "stereo"),
]


@pytest.mark.parametrize(("ending", "codec", "rate_hz", "layout"), FORMATS)
def test_every_format_comes_back_as_the_same_sound(
    tmp_path: Path, ending: str, codec: str, rate_hz: int, layout: str
) -> None:
    sound = noise(1.0, rate_hz=rate_hz) * np.hanning(rate_hz) + tone(1.0, rate_hz=rate_hz) * 0.2
    path = write_recording(
        tmp_path / f"speech.{ending}", sound, codec=codec, rate_hz=rate_hz, layout=layout
    )

    speech = read_speech(path)

    assert speech.duration_s == pytest.approx(1.0, abs=0.06)
    assert speech.samples.dtype == np.int16
    assert len(speech.samples) == round(speech.duration_s * 16_000)
    assert not speech.samples.flags.writeable
    assert speech.notices == ()
    assert _lag_s(speech.samples, pitch_like=tone(1.0) * 0.2) < 0.01


def _lag_s(samples: np.ndarray, *, pitch_like: np.ndarray) -> float:
    """Return by how much the level's middle lies away from the middle of the second."""
    level = np.abs(samples[:16_000].astype(float))
    centre = (level * np.arange(len(level))).sum() / level.sum()
    return float(abs(centre - len(pitch_like) / 2) / 16_000)


def test_samples_of_a_plain_wav_are_the_samples_of_the_file(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "speech.wav", noise(0.5))

    speech = read_speech(path)

    np.testing.assert_array_equal(speech.samples, pcm16(noise(0.5)))
    assert speech.codec == "pcm_s16le"


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_streamed_sound_lasts_as_long_as_the_analysed_sound(tmp_path: Path, rate_hz: int) -> None:
    path = write_recording(tmp_path / "speech.mp3", tone(2.0), codec="libmp3lame")

    blocks = list(stream_pcm(path, rate_hz=rate_hz))

    assert {block.dtype.name for block in blocks} == {"int16"}
    length_s = sum(len(block) for block in blocks) / rate_hz
    assert length_s == pytest.approx(read_speech(path).duration_s, abs=2 / 16_000)
    assert len(blocks) > 10


def test_sound_of_a_video_is_accepted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "talk.mp4", tone(1.0))

    speech = read_speech(path)

    assert speech.codec == "aac"
    assert speech.duration_s == pytest.approx(1.0, abs=0.07)


def test_file_whose_name_looks_like_a_protocol_is_read(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "http:speech.wav", tone(0.5), container="wav")

    assert read_speech(path).duration_s == pytest.approx(0.5)


def test_change_of_channels_on_the_way_is_followed(tmp_path: Path) -> None:
    """Two ADTS streams one after the other: mono first, then stereo at another rate."""
    mono = write_recording(tmp_path / "mono.aac", tone(1.0), codec="aac")
    stereo = write_recording(
        tmp_path / "stereo.aac",
        tone(1.0, rate_hz=44_100),
        codec="aac",
        rate_hz=44_100,
        layout="stereo",
    )
    both = tmp_path / "both.aac"
    both.write_bytes(mono.read_bytes() + stereo.read_bytes())

    assert read_speech(both).duration_s == pytest.approx(2.0, abs=0.2)


# --- What cannot be used ---


def _nothing(path: Path) -> Path:
    return path / "missing.wav"


def _folder(path: Path) -> Path:
    return path


def _empty(path: Path) -> Path:
    (path / "a.wav").write_bytes(b"")
    return path / "a.wav"


def _text(path: Path) -> Path:
    (path / "a.wav").write_text("This is not a recording.\n" * 100)
    return path / "a.wav"


def _random_bytes(path: Path) -> Path:
    (path / "a.mp3").write_bytes(np.random.default_rng(3).bytes(20_000))
    return path / "a.mp3"


def _header_only(path: Path) -> Path:
    with wave.open(str(path / "a.wav"), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
    return path / "a.wav"


def _half_a_header(path: Path) -> Path:
    whole = write_recording(path / "whole.wav", tone(1.0)).read_bytes()
    (path / "a.wav").write_bytes(whole[:40])
    return path / "a.wav"


def _cut_before_index(path: Path) -> Path:
    whole = write_recording(path / "whole.m4a", noise(2.0), codec="aac").read_bytes()
    (path / "a.m4a").write_bytes(whole[: len(whole) // 2])
    return path / "a.m4a"


def _silent_video(path: Path) -> Path:
    return write_video(path / "a.mp4", None)


def _picture(path: Path) -> Path:
    with av.open(str(path / "a.png"), "w", format="image2") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 8, 8, "rgb24"
        frame = av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path / "a.png"


def _playlist(path: Path) -> Path:
    """A list of other files: readable by FFmpeg, but nothing that a stranger may hand us."""
    write_recording(path / "part.wav", tone(1.0))
    (path / "a.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npart.wav\n#EXT-X-ENDLIST\n"
    )
    return path / "a.m3u8"


def _concat_list(path: Path) -> Path:
    write_recording(path / "part.wav", tone(1.0))
    (path / "a.txt").write_text("ffconcat version 1.0\nfile part.wav\n")
    return path / "a.txt"


def _short(path: Path) -> Path:
    return write_recording(path / "a.wav", tone(0.15))


BAD = [
    (_nothing, SpeechUnreadable),
    (_folder, SpeechUnreadable),
    (_empty, SpeechEmpty),
    (_text, SpeechUnreadable),
    (_random_bytes, SpeechUnreadable),
    (_header_only, SpeechEmpty),
    (_half_a_header, SpeechUnreadable),
    (_cut_before_index, SpeechUnreadable),
    (_silent_video, NoAudioTrack),
    (_picture, SpeechUnreadable),
    (_playlist, SpeechUnreadable),
    (_concat_list, SpeechUnreadable),
    (_short, SpeechTooShort),
]


@pytest.mark.parametrize(("make", "error"), BAD, ids=[make.__name__ for make, _ in BAD])
def test_bad_file_gets_its_own_error(
    tmp_path: Path, make: _Maker, error: type[SpeechRejected]
) -> None:
    path = make(tmp_path)

    with pytest.raises(error) as caught:
        read_speech(path)

    assert str(caught.value).endswith(".")


def test_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.truncate(1_000_001)

    with pytest.raises(SpeechTooLarge):
        read_speech(path, limits=SpeechLimits(size_bytes=1_000_000))


def test_claimed_length_is_refused_from_the_header(tmp_path: Path) -> None:
    """The header says eleven minutes; there is hardly a sample behind it."""
    path = write_recording(tmp_path / "a.wav", tone(1.0))
    content = bytearray(path.read_bytes())
    size = 660 * 32_000
    data_at = content.index(b"data")
    content[4:8] = (size + 36).to_bytes(4, "little")
    content[data_at + 4 : data_at + 8] = size.to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size + 100)

    with pytest.raises(SpeechTooLong):
        read_speech(path)


def test_long_recording_with_an_honest_header_is_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.flac", np.zeros(16_000 * 5), codec="flac")

    with pytest.raises(SpeechTooLong):
        read_speech(path, limits=SpeechLimits(longest_s=3))


def test_decoding_stops_at_the_limit_when_the_header_says_nothing(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.aac", tone(5.0), codec="aac")

    with pytest.raises(SpeechTooLong):
        read_speech(path, limits=SpeechLimits(longest_s=2))


# --- Damage that leaves something to use ---


def test_cut_mp3_is_used_with_a_notice(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.mp3", noise(3.0), codec="libmp3lame")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    speech = read_speech(path)

    assert speech.duration_s == pytest.approx(1.5, abs=0.15)
    assert "speech_truncated" in {notice.code for notice in speech.notices}


def test_damaged_packets_are_left_out_with_a_notice(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.m4a", noise(5.0), codec="aac")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = b"\xff" * 300
    path.write_bytes(content)

    speech = read_speech(path)

    assert speech.duration_s > 4.5
    assert [notice.code for notice in speech.notices] == ["speech_damaged"]


def test_sound_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.wav", tone())
    content = bytearray(path.read_bytes())
    kind = content.index(b"fmt ") + 8
    content[kind : kind + 2] = b"\xee\xee"  # A WAVE format tag that nobody was given.
    path.write_bytes(content)

    with pytest.raises(SpeechUnreadable, match="kind that cannot be read"):
        read_speech(path)


def test_recording_that_is_mostly_damage_is_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.m4a", noise(5.0), codec="aac")
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 200
    content[start : len(content) * 3 // 4] = b"\xff" * (len(content) * 3 // 4 - start)
    path.write_bytes(content)

    with pytest.raises(SpeechUnreadable):
        read_speech(path)
