"""What `sayso doctor` looks at: whether each part that Sayso needs works on this machine."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

MIN_PYTHON: Final = (3, 11)
MIN_FREE_BYTES: Final = 200_000_000


@dataclass(frozen=True)
class Finding:
    """One thing that was tried: its name, whether it works, and what was seen."""

    name: str
    works: bool
    seen: str

    def line(self) -> str:
        """Return the finding as a line of text."""
        return f"{'ok  ' if self.works else 'FAIL'} {self.name}: {self.seen}"


def check_machine() -> tuple[Finding, ...]:
    """Try each part once and return what was found; nothing is raised."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("python", _python),
        ("processors", _processors),
        ("packages", _packages),
        ("encoders", _encoders),
        ("face models", _face_models),
        ("viseme weights", _viseme_weights),
        ("speech recognizer", _recognizer),
        ("picture formats", _picture_formats),
        ("temporary folder", _temporary_folder),
    )
    return tuple(_try(name, check) for name, check in checks)


def _try(name: str, check: Callable[[], str]) -> Finding:
    # Whatever a broken installation raises, the report is what the user came for.
    try:
        return Finding(name, works=True, seen=check())
    except Exception as error:  # noqa: BLE001 - any failure is a finding
        return Finding(name, works=False, seen=f"{type(error).__name__}: {error}")


def _python() -> str:
    if sys.version_info < MIN_PYTHON:
        raise RuntimeError(f"Python {platform.python_version()} is older than 3.11")
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _processors() -> str:
    return f"{os.cpu_count()} processors"


def _packages() -> str:
    names = ("av", "numpy", "opencv-python-headless", "pillow", "pi-heif", "pocketsphinx")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def _encoders() -> str:
    from av.codec import Codec

    return ", ".join(Codec(name, "w").long_name for name in ("libx264", "aac"))


def _face_models() -> str:
    import numpy as np

    from sayso.engine.face import find_faces

    found = find_faces(np.zeros((128, 128, 3), np.uint8))
    if found:
        raise RuntimeError("a face was seen in an empty picture")
    return "loaded and run"


def _viseme_weights() -> str:
    from sayso.engine.visemes import find_visemes
    from sayso.media.audio import read_speech

    with tempfile.TemporaryDirectory() as folder:
        track = find_visemes(read_speech(_tone(Path(folder))), method="net")
    return f"loaded and run over {len(track.viseme)} frames"


def _tone(folder: Path) -> Path:
    """Write a second of a 440 Hz tone as a WAV file."""
    import wave

    import numpy as np

    path = folder / "tone.wav"
    samples = 8000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def _recognizer() -> str:
    import pocketsphinx

    model = Path(pocketsphinx.get_model_path()) / "en-us" / "en-us"
    if not (model / "mdef").is_file():
        raise FileNotFoundError("the acoustic model en-us is missing")
    return f"pocketsphinx {metadata.version('pocketsphinx')} with its model en-us"


def _picture_formats() -> str:
    from PIL import features

    missing = [name for name in ("webp", "avif", "jpg_2000") if not features.check(name)]
    if missing:
        raise RuntimeError(f"Pillow lacks {', '.join(missing)}")
    return "JPEG PNG WebP AVIF HEIC GIF TIFF BMP"


def _temporary_folder() -> str:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise RuntimeError(f"{folder} has only {free // 1_000_000} MB free")
    return f"{folder}, {free / 1e9:.1f} GB free"
