"""Installing what some tests run, into folders of its own that are kept between runs.

kept_folder()            the folder of what a lock installs, in pytest's own cache
install()                fill it once, or skip when that is not possible here
installed_for_python()   Python packages, from a lock with hashes
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import missing

INSTALL_S: Final = 180


def kept_folder(cache: pytest.Cache, lock: Path, *, suffix: str = "") -> Path:
    """Return the folder that is kept for what a lock installs."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cache.mkdir("clients") / f"{lock.stem}{suffix}-{digest}-{python}"


def install(
    folder: Path,
    command: Callable[[Path], Sequence[str]],
    *,
    environment: Mapping[str, str] | None = None,
) -> Path:
    """Fill a folder once; skip when that is not possible here."""
    if folder.is_dir():
        return folder
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        ended = subprocess.run(
            command(making),
            cwd=making,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        if ended.returncode != 0:
            missing(f"the client cannot be installed: {ended.stderr.strip()[-300:]}")
        making.rename(folder)
    except subprocess.TimeoutExpired:
        missing("the client cannot be installed in time")
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def installed_for_python(folder: Path, lock: Path) -> Path:
    """Install Python packages from their lock."""
    return install(
        folder,
        lambda making: (
            *(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"),
            *("--require-hashes", "--only-binary", ":all:", "--no-deps"),
            *("--target", str(making), "-r", str(lock)),
        ),
    )
