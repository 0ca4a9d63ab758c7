"""What a whole `sayso generate` costs: time against the clip's length, CPU per frame, memory.

Each run is a process of its own, measured from outside by the operating system. The limit beside
them is a bare encode: the same number of frames of the same size, moved by one plain cubic remap
each, and the same sound, through the same muxer. No engine can do with less. Python keeps its
bytecode, as it does unless it is told not to; each command is run once before it is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sayso.media.audio import read_speech

ROOT: Final = Path(__file__).resolve().parent.parent
PORTRAIT: Final = ROOT / "examples" / "portrait.jpg"
SPEECH: Final = ROOT / "examples" / "speech.ogg"
RUNS: Final = 5
SIZE: Final = 512
FPS: Final = 25
SHORT_S: Final = 10
LONG_S: Final = 600

BARE: Final = """
import sys
from pathlib import Path
import cv2, numpy as np
from sayso.engine.mux import write_video
from sayso.media.audio import stream_pcm
from sayso.media.image import read_picture
cv2.setNumThreads(1)
portrait, speech, output, size, frames = sys.argv[1:]
size, frames = int(size), int(frames)
picture = np.ascontiguousarray(read_picture(Path(portrait)).rgb[..., ::-1])
picture = cv2.resize(picture, (size, size))
y, x = np.mgrid[0:size, 0:size].astype(np.float32)
moved = (cv2.remap(picture, x + np.float32(0.5 * np.sin(i / 9)), y, cv2.INTER_CUBIC)
         for i in range(frames))
write_video(Path(output), moved, stream_pcm(Path(speech)), fps=25, size=(size, size),
            n_frames=frames)
"""

FIRST_FRAME: Final = """
import os, sys
from pathlib import Path
from sayso.engine.talk import TalkOptions, make_video
def tell(step):
    if step.stage == "rendering" and step.done == 1:
        print("first", flush=True)
        os._exit(0)
portrait, speech, output, size = sys.argv[1:]
make_video(Path(portrait), Path(speech), Path(output),
           options=TalkOptions(long_side_px=int(size)), on_progress=tell)
"""


@dataclass(frozen=True)
class Cost:
    """One process: wall and CPU seconds, and its largest resident memory in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = speech_of(SHORT_S, folder / "short.wav")
        frames = SHORT_S * FPS
        generate = [cost_of(generating(short, folder)) for _ in range(RUNS + 1)][1:]
        bare = [cost_of(encoding(short, folder, frames)) for _ in range(RUNS + 1)][1:]
        first_s = sorted(first_frame_s(short, folder) for _ in range(RUNS))[RUNS // 2]
        thirty = cost_of(generating(speech_of(3 * SHORT_S, folder / "mid.wav"), folder))
        long = cost_of(generating(speech_of(LONG_S, folder / "long.wav"), folder))
    whole, limit = median(generate), median(bare)
    marginal_ms = 1000 * (thirty.cpu_s - whole.cpu_s) / (2 * frames)
    rows = (
        ("time of a 10 s clip / its length", f"{whole.wall_s / SHORT_S:.3f}", "0.28", "0.22"),
        ("the same / a bare encode", f"{whole.wall_s / limit.wall_s:.2f}", "", ""),
        ("CPU per further frame, ms", f"{marginal_ms:.1f}", "14", "10"),
        ("CPU of the whole process per frame, ms", f"{1000 * whole.cpu_s / frames:.1f}", "", ""),
        ("the same / a bare encode", f"{whole.cpu_s / limit.cpu_s:.2f}", "", ""),
        ("start of the process to first frame, s", f"{first_s:.2f}", "1.5", ""),
        ("peak memory, 10 s, MB", f"{whole.peak_mb:.0f}", "350", ""),
        ("peak memory, 10 min, MB", f"{long.peak_mb:.0f}", "350", ""),
        ("10 min / 10 s", f"{long.peak_mb / whole.peak_mb:.2f}", "", ""),
        ("time of a 10 min clip / its length", f"{long.wall_s / LONG_S:.3f}", "", ""),
    )
    print(f"{SIZE} px, {FPS} fps, medians of {RUNS}, {os.cpu_count()} processors; bare encode:")
    print(f"{limit.wall_s:.2f} s, {limit.cpu_s:.2f} CPU s, {limit.peak_mb:.0f} MB\n")
    print("| figure | measured | at most | aim |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def speech_of(seconds: int, path: Path) -> Path:
    """Write the sample's speech, repeated to a length, as 16 kHz WAV."""
    samples = np.resize(read_speech(SPEECH).samples, 16_000 * seconds)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return path


def generating(speech: Path, folder: Path) -> list[str]:
    words = ["-m", "sayso", "generate", str(PORTRAIT), str(speech), "--quiet"]
    return [sys.executable, *words, "--size", str(SIZE), "-o", str(folder / "out.mp4")]


def encoding(speech: Path, folder: Path, frames: int) -> list[str]:
    words = [str(PORTRAIT), str(speech), str(folder / "bare.mp4"), str(SIZE), str(frames)]
    return [sys.executable, "-c", BARE, *words]


def first_frame_s(speech: Path, folder: Path) -> float:
    """Return the seconds from the start of a process to its first written frame."""
    words = [str(PORTRAIT), str(speech), str(folder / "first.mp4"), str(SIZE)]
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", FIRST_FRAME, *words],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "first\n"
        return time.monotonic() - begun


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command and return what the operating system says of it."""
    begun = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment())
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{command[:4]} ended with {child.returncode}")
    # Linux counts kilobytes, macOS bytes.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Cost(time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def environment() -> dict[str, str]:
    """Return the environment of what is measured."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def median(costs: Sequence[Cost]) -> Cost:
    """Return the run with the median time."""
    return sorted(costs, key=lambda cost: cost.wall_s)[len(costs) // 2]
