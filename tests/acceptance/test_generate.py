"""The command line as a user meets it: real processes, real inputs, real files."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt
import pytest

from sayso.media.audio import read_speech

SAYSO: Final = [sys.executable, "-m", "sayso"]
SECONDS: Final = 240


def sayso(*words: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SAYSO, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def write_wav(path: Path, samples: npt.NDArray[np.int16], rate_hz: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


@pytest.fixture(scope="session")
def second(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first second or so of the sample's speech."""
    samples = read_speech(speech).samples[:20_000]
    return write_wav(tmp_path_factory.mktemp("speech") / "second.wav", samples)


def frames_of(video: Path) -> list[npt.NDArray[np.uint8]]:
    with av.open(str(video)) as container:
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for frame in container.decode(video=0)
        ]


def test_generate_makes_a_video_and_says_what_it_made(
    portrait: Path, second: Path, tmp_path: Path
) -> None:
    ended = sayso("generate", portrait, second, "--size", "256", "--json", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    facts = json.loads(ended.stdout)
    assert facts["path"] == "out.mp4"
    assert (facts["width"], facts["height"], facts["fps"]) == (256, 256, 25)
    assert facts["frames"] == 32  # 1.25 s: the video is never shorter than the speech
    assert "rendering 100 %" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    frames = frames_of(tmp_path / "out.mp4")
    assert len(frames) == 32
    assert max(np.abs(a.astype(int) - frames[0]).max() for a in frames[1:]) > 40  # it moves


def test_a_name_may_be_as_long_as_names_can_be(
    portrait: Path, second: Path, tmp_path: Path
) -> None:
    name = "ü" * 125 + ".mp4"

    ended = sayso("generate", portrait, second, "--size", "128", "-o", name, cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_same_inputs_make_the_same_pixels(portrait: Path, second: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        words = ("--size", "192", "-o", name, "--quiet")
        assert sayso("generate", portrait, second, *words, cwd=tmp_path).returncode == 0

    first, again = frames_of(tmp_path / "a.mp4"), frames_of(tmp_path / "b.mp4")

    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_another_seed_moves_the_head_otherwise(
    portrait: Path, second: Path, tmp_path: Path
) -> None:
    for seed in ("1", "2"):
        words = ("--size", "192", "-o", f"{seed}.mp4", "--quiet", "--seed", seed)
        assert sayso("generate", portrait, second, *words, cwd=tmp_path).returncode == 0

    first, other = frames_of(tmp_path / "1.mp4"), frames_of(tmp_path / "2.mp4")

    assert any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_options_change_the_frame(portrait: Path, second: Path, tmp_path: Path) -> None:
    words = ("--crop", "face", "--size", "200", "--fps", "12", "--json")

    ended = sayso("generate", portrait, second, *words, cwd=tmp_path)

    facts = json.loads(ended.stdout)
    # The picture ends before the square around the face does.
    assert (facts["width"], facts["height"], facts["frames"]) == (200, 184, 15)


def test_quiet_prints_nothing(portrait: Path, second: Path, tmp_path: Path) -> None:
    ended = sayso("generate", portrait, second, "--size", "128", "--quiet", cwd=tmp_path)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_name_may_have_letters_that_the_terminal_lacks(
    portrait: Path, second: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    asked = ("--size", "128", "-o", "grüße.mp4", *words)

    ended = sayso("generate", portrait, second, *asked, cwd=tmp_path, PYTHONIOENCODING="ascii")

    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)["path"] if words else ended.stdout
    assert said.startswith("grüße.mp4" if words else r"gr\xfc\xdfe.mp4: 1.2 s")


def test_whoever_reads_may_stop_reading(second: Path, tmp_path: Path) -> None:
    """As `sayso visemes ... | head` does."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        ended = subprocess.run(
            [*SAYSO, "visemes", str(second), "--quiet"],
            cwd=tmp_path,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    assert (ended.returncode, ended.stderr) == (4, "")


def test_a_terminal_gets_a_live_bar(portrait: Path, second: Path, tmp_path: Path) -> None:
    words = ["generate", str(portrait), str(second), "--size", "128"]
    shown = in_terminal([*SAYSO, *words], cwd=tmp_path)

    assert "rendering" in shown
    assert "━" in shown
    assert "100%" in shown
    assert "rendering 10 %" not in shown


def test_a_narrow_terminal_gets_a_bar_without_times(
    portrait: Path, second: Path, tmp_path: Path
) -> None:
    words = ["generate", str(portrait), str(second), "--size", "128"]
    shown = in_terminal([*SAYSO, *words], cwd=tmp_path, COLUMNS="36")

    assert "━" in shown
    assert "100%" in shown
    assert "…" not in shown
    assert "left" not in shown


def test_a_terminal_without_a_cursor_gets_lines(
    portrait: Path, second: Path, tmp_path: Path
) -> None:
    words = ["generate", str(portrait), str(second), "--size", "128"]
    shown = in_terminal([*SAYSO, *words], cwd=tmp_path, TERM="dumb")

    assert "rendering 0 %" in shown
    assert "━" not in shown


def in_terminal(command: list[str], *, cwd: Path, **more: str) -> str:
    """Run a command on a pseudo-terminal and return what it showed."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", **more}
    child = subprocess.Popen(command, cwd=cwd, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # Linux ends a pseudo-terminal with an error.
                break
        elif child.poll() is not None:
            break
    os.close(ours)
    assert child.wait(timeout=SECONDS) == 0
    return shown.decode(errors="replace")


@pytest.fixture
def heeded_ctrl_c() -> Iterator[None]:
    """Heed Ctrl-C, children too: who is started in the background by a shell does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_ctrl_c")
def test_ctrl_c_leaves_no_half_file(portrait: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 16_000 * 20)
    long = write_wav(tmp_path / "long.wav", noise.astype(np.int16))
    with subprocess.Popen(
        [*SAYSO, "generate", str(portrait), str(long)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("rendering 10"):
                break
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()

    assert child.wait(timeout=SECONDS) == 130
    assert "nothing is left behind" in rest
    assert "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


@pytest.mark.parametrize(
    ("portrait_bytes", "speech_bytes", "code"),
    [
        (b"", None, "image_unreadable"),
        (b"not a picture", None, "image_unsupported"),
        (None, b"", "speech_empty"),
        (None, b"not a recording", "speech_unreadable"),
    ],
)
def test_a_refused_input_gives_a_code_and_leaves_nothing(
    portrait: Path,
    second: Path,
    tmp_path: Path,
    portrait_bytes: bytes | None,
    speech_bytes: bytes | None,
    code: str,
) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(portrait_bytes if portrait_bytes is not None else speech_bytes or b"")
    pair = (bad, second) if portrait_bytes is not None else (portrait, bad)

    ended = sayso("generate", *pair, "--json", cwd=tmp_path)

    assert ended.returncode == 3
    assert json.loads(ended.stdout)["code"] == code
    assert ended.stderr.startswith("error: ") or "\nerror: " in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_a_missing_input_is_a_sentence(second: Path, tmp_path: Path) -> None:
    ended = sayso("generate", "nobody.jpg", second, cwd=tmp_path)

    assert ended.returncode == 4
    assert "nobody.jpg: No such file or directory." in ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--size", "20"),
        ("--fps", "500"),
        ("--crop", "nose"),
        ("-o", "nowhere/out.mp4"),
        ("--face", "0"),
        ("--seed=-1",),
    ],
)
def test_options_that_make_no_sense_are_refused(
    portrait: Path, second: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    ended = sayso("generate", portrait, second, *words, cwd=tmp_path)

    assert ended.returncode in {2, 3}
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_visemes_cover_the_recording(second: Path, tmp_path: Path) -> None:
    ended = sayso("visemes", second, "-o", "cues.json", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    content = json.loads((tmp_path / "cues.json").read_text())
    cues = content["cues"]
    assert cues[0][0] == 0
    assert abs(cues[-1][1] - 1.25) < 0.011
    assert all(one[1] == other[0] for one, other in pairwise(cues))
    assert abs(len(content["open"]) - 125) <= 1
    assert all(0 <= value <= 1 for value in content["open"])


def test_inspect_prints_figures_and_gates(portrait: Path, second: Path, tmp_path: Path) -> None:
    assert sayso("generate", portrait, second, "-q", cwd=tmp_path).returncode == 0
    words = ("out.mp4", "--portrait", portrait, "--speech", second, "--json")

    ended = sayso("inspect", *words, cwd=tmp_path)

    facts = json.loads(ended.stdout)
    assert ended.returncode == (5 if facts["failures"] else 0)


def test_inspect_refuses_what_is_no_video(portrait: Path, tmp_path: Path) -> None:
    ended = sayso("inspect", portrait, "--json", cwd=tmp_path)

    assert ended.returncode == 3
    assert json.loads(ended.stdout)["code"] == "video_unreadable"


def test_doctor_finds_this_machine_in_order(tmp_path: Path) -> None:
    ended = sayso("doctor", cwd=tmp_path)

    assert ended.returncode == 0, ended.stdout
    assert "FAIL" not in ended.stdout
