"""What `sayso doctor` looks at.

check_machine()     whether each part that Sayso needs works on this machine
check_settings()    whether the environment can be used, and whose token for Replicate it holds
check_places()      whether there is room for what is kept, and whether the database answers
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sayso.errors import SaysoError, SettingsInvalid

if TYPE_CHECKING:
    from sayso.providers.replicate_client import ReplicateSettings
    from sayso.settings import Settings

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


def check_settings() -> tuple[Finding, ...]:
    """Read the environment and ask Replicate whose token it holds, if any; nothing is raised.

    A token is never part of a finding.
    """
    from sayso.providers.replicate_client import ReplicateSettings
    from sayso.settings import read_settings

    try:
        replicate = ReplicateSettings.of(read_settings())
    except SettingsInvalid as error:
        return (Finding("settings", works=False, seen=str(error).replace("\n", " ")),)
    read = Finding("settings", works=True, seen="read from the environment")
    return (read,) if replicate is None else (read, _token(replicate))


def check_places() -> tuple[Finding, ...]:
    """Look where the environment says that things are kept; nothing is made, nothing is raised.

    There is nothing to look at where the settings cannot be used: `check_settings` says so.
    """
    from sayso.settings import read_settings

    try:
        settings = read_settings()
    except SettingsInvalid:
        return ()
    return (
        _try("data folder", lambda: _data_folder(settings.data)),
        _try("database", lambda: asyncio.run(_database(settings))),
    )


def _data_folder(data: Path) -> str:
    """Say how much room there is; the folder that is to be made in counts for one to come."""
    if data.exists() and not data.is_dir():
        raise NotADirectoryError(f"{data} is a file")
    there = next(folder for folder in (data, *data.resolve().parents) if folder.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"nothing may be written in {there}")
    when = "" if there == data else " (the first start makes it)"
    return f"{data}{when}, {_room_in(there)}"


async def _database(settings: Settings) -> str:
    """Say how old the schema of the database is; a look never brings it up to date."""
    from sayso.db.connect import open_database
    from sayso.db.upgrade import HEAD, revision

    if settings.database_url is None and not settings.database_file.is_file():
        return "none yet; the first start makes it"
    db = await open_database(settings.database)
    try:
        found = await db.read(revision)
    finally:
        await db.close()
    state = "up to date" if found == HEAD else "the next start brings it up to date"
    return f"{db.kind} answers, its schema is {found or 'empty'}: {state}"


_REFUSED_STATUSES: Final = frozenset({401, 403})


def _token(replicate: ReplicateSettings) -> Finding:
    """Ask whose token it is."""
    place = replicate.url
    try:
        status, account = asyncio.run(_account(replicate))
    except SaysoError as error:
        seen = f"{place} cannot be asked now: {error}"
        return Finding("replicate", works=False, seen=seen)
    username = account.get("username") if account is not None else None
    if status in _REFUSED_STATUSES:
        seen = (
            f"{place} refuses the token ({status}): it was mistyped or revoked, or is for another"
            " place. No cloud model runs until REPLICATE_API_TOKEN holds a valid one"
        )
        return Finding("replicate", works=False, seen=seen)
    if not isinstance(username, str):
        seen = f"{place} answers {status}, but not as Replicate does: is SAYSO_REPLICATE_URL right?"
        return Finding("replicate", works=False, seen=seen)
    kind = account.get("type") if account is not None else None
    return Finding("replicate", works=True, seen=f"the token of {kind} {username} at {place}")


async def _account(replicate: ReplicateSettings) -> tuple[int, Mapping[str, Any] | None]:
    from sayso.clock import SystemClock
    from sayso.providers.replicate_client import opened_client

    async with opened_client(replicate, clock=SystemClock()) as client:
        answer = await client.account()
        return answer.status, answer.body if answer.is_success else None


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
    folder = Path(tempfile.gettempdir())
    return f"{folder}, {_room_in(folder)}"


def _room_in(folder: Path) -> str:
    """Say how much is free on the disk of a folder; raise `RuntimeError` if that is too little."""
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise RuntimeError(f"{folder} has only {free // 1_000_000} MB free")
    return f"{free / 1e9:.1f} GB free"
