"""Signed links to stored files: `/files/{key}?expires=...&signature=...`, for every store alike.

    FileLinks.sign()     a link that works until the next full hour after its lifetime
    FileLinks.verify()   the key of a link that is ours, unchanged and not expired

A link ends on a full hour, so the bodies that hold it change once an hour and not at each look,
and so does their `ETag`. A signature names the key that made it: a new secret is put in front,
the earlier ones stay until their links have expired. The message that is signed holds everything
that the link grants; `nonce` ties a link to one attempt at a provider, whose list of predictions
shows it.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import urlencode

from sayso.artifacts.keys import ArtifactKey, parse_key
from sayso.errors import LinkExpired, LinkRefused

FILES_PATH: Final = "/files/"

_HOUR_S: Final = 3600
_MIN_SECRET_BYTES: Final = 32
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EXPIRES: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True)
class LinkSecret:
    """A secret of at least 32 bytes, and the id by which signatures name it."""

    key_id: str
    secret: bytes

    def __post_init__(self) -> None:
        if _KEY_ID.fullmatch(self.key_id) is None or len(self.secret) < _MIN_SECRET_BYTES:
            raise ValueError("a link secret needs an id of letters and digits, and 32 bytes")

    def __repr__(self) -> str:
        return f"LinkSecret({self.key_id!r})"


class FileLinks:
    """Makes links with the first of its secrets, and takes links made with any of them."""

    def __init__(self, secrets: Sequence[LinkSecret], *, lifetime_s: int = _HOUR_S) -> None:
        if not secrets:
            raise ValueError("links cannot be signed without a secret")
        self._current = secrets[0]
        self._by_id = {secret.key_id: secret for secret in secrets}
        self._lifetime_s = lifetime_s

    def sign(
        self,
        key: ArtifactKey,
        *,
        now_s: float,
        lifetime_s: int | None = None,
        nonce: str | None = None,
    ) -> str:
        """Return the path and query of a link that works for at least `lifetime_s` from now.

        `now_s` counts seconds since 1970. The caller puts the public address in front.
        """
        if nonce is not None and _NONCE.fullmatch(nonce) is None:
            raise ValueError("a nonce is made of letters, digits, `_` and `-`")
        lifetime_s = self._lifetime_s if lifetime_s is None else lifetime_s
        expires = str(int(-(-(now_s + lifetime_s) // _HOUR_S)) * _HOUR_S)
        query = {"expires": expires} | ({} if nonce is None else {"nonce": nonce})
        query["signature"] = _signature(self._current, key, expires, nonce)
        return f"{FILES_PATH}{key}?{urlencode(query)}"

    def verify(self, key_text: str, query: Mapping[str, str], *, now_s: float) -> ArtifactKey:
        """Return the key of a link, given what follows `/files/` and the query's parameters.

        Raises `LinkRefused` for a link that we did not make, `LinkExpired` for one of ours that
        is over, `ArtifactMissing` for a path that is no key at all.
        """
        key = parse_key(key_text)
        given, expires, nonce = (query.get(name) for name in ("signature", "expires", "nonce"))
        secret = self._by_id.get((given or "").partition(".")[0])
        if given is None or expires is None or _EXPIRES.fullmatch(expires) is None:
            raise LinkRefused("This link is not signed.")
        expected = _signature(secret or self._current, key, expires, nonce)
        if not hmac.compare_digest(given.encode(), expected.encode()) or secret is None:
            raise LinkRefused("This link is not one of ours, or it was changed.")
        if int(expires) <= now_s:
            raise LinkExpired(
                "This link has expired; ask for the generation again to get a new one."
            )
        return key


def _signature(secret: LinkSecret, key: ArtifactKey, expires: str, nonce: str | None) -> str:
    message = "\n".join(("sayso-link-1", FILES_PATH + key, expires, nonce or ""))
    mac = hmac.digest(secret.secret, message.encode(), sha256)
    return f"{secret.key_id}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"
