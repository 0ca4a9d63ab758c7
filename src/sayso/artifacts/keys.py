"""What a stored file is called: `{account}/{kind}/{digest}.{suffix}`.

The digest is of the content and of the one row that owns the file (`own_key`). So a put may be
repeated after a lost answer, and a name is never used again: whoever deletes the last use of a file
cannot take it from somebody who has just handed the same bytes in (decision 0040). The grammar has
no dots but one and no empty part, so a key cannot leave its folder; a key that comes from outside
passes `parse_key` first.
"""

from __future__ import annotations

import hashlib
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


def own_key(account_id: str, kind: Kind, *, owner: str, sha256: str, suffix: str) -> ArtifactKey:
    """Return the key of a file that belongs to one row, whose id is `owner`.

    The same bytes of another owner have another key. Raises `ValueError` as `artifact_key` does.
    """
    digest = hashlib.sha256(f"{owner} {sha256}".encode()).hexdigest()
    return artifact_key(account_id, kind, sha256=digest, suffix=suffix)


def artifact_key(account_id: str, kind: Kind, *, sha256: str, suffix: str) -> ArtifactKey:
    """Return the key with this digest; an unknown suffix becomes `bin`.

    Raises `ValueError` when the account's id or the digest does not fit the grammar.
    """
    known = suffix.lower() if suffix.lower() in CONTENT_TYPES else "bin"
    text = f"{account_id}/{kind}/{sha256}.{known}"
    if _KEY.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a key")
    return ArtifactKey(text)


def digest_of(key: str) -> str:
    """Return the digest in a key, 64 hex digits."""
    return key.rpartition("/")[2].partition(".")[0]


def parse_key(text: str) -> ArtifactKey:
    """Return a key that came from outside; raise `ArtifactMissing` if it cannot be one."""
    if _KEY.fullmatch(text) is None:
        raise ArtifactMissing("There is no such file.")
    return ArtifactKey(text)


def content_type_of(key: ArtifactKey) -> str:
    """Return the media type that a file is served with, from its suffix alone."""
    return CONTENT_TYPES[key.rpartition(".")[2]]
