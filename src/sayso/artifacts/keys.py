"""What a stored file is called: `{account}/{kind}/{sha256}.{suffix}`.

The name says what is in the file, so storing the same bytes twice is storing them once, and a put
may be repeated after a lost answer. The grammar has no dots but one and no empty part, so a key
cannot leave its folder; a key that comes from outside passes `parse_key` first.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NewType

from sayso.errors import ArtifactMissing

ArtifactKey = NewType("ArtifactKey", str)
Kind = Literal["portrait", "speech", "video", "file"]

# What we serve by suffix; nothing that a browser would run (no HTML, no SVG) is among them.
CONTENT_TYPES: Final = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mov": "video/quicktime",
    "bin": "application/octet-stream",
}

_KEY: Final = re.compile(
    r"[a-z0-9][a-z0-9_-]{0,63}/(portrait|speech|video|file)/[0-9a-f]{64}\."
    rf"(?P<suffix>{'|'.join(CONTENT_TYPES)})"
)


def artifact_key(account_id: str, kind: Kind, *, sha256: str, suffix: str) -> ArtifactKey:
    """Return the key of a file; an unknown suffix becomes `bin`.

    Raises `ValueError` when the account's id or the digest does not fit the grammar.
    """
    known = suffix.lower() if suffix.lower() in CONTENT_TYPES else "bin"
    text = f"{account_id}/{kind}/{sha256}.{known}"
    if _KEY.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a key")
    return ArtifactKey(text)


def parse_key(text: str) -> ArtifactKey:
    """Return a key that came from outside; raise `ArtifactMissing` if it cannot be one."""
    if _KEY.fullmatch(text) is None:
        raise ArtifactMissing("There is no such file.")
    return ArtifactKey(text)


def content_type_of(key: ArtifactKey) -> str:
    """Return the media type that a file is served with, from its suffix alone."""
    return CONTENT_TYPES[key.rpartition(".")[2]]
