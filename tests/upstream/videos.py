"""What the upstream's models make: a grey video with silence, as long as it is asked for."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sayso.providers.scripted import write_grey_video


async def grey_video(seconds: float) -> bytes:
    """Return such a video; each length is made once."""
    return await asyncio.to_thread(_made, round(seconds, 2))


@cache
def _made(seconds: float) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "out.mp4"
        write_grey_video(path, seconds)
        return path.read_bytes()
