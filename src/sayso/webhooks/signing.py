"""Signatures of webhooks, those we send and the callbacks we get: the Standard Webhooks scheme.

    signed_headers()   the three headers of a delivery
    verify()           who sent a delivery and when, or `SignatureRefused`
    new_secret()       a `whsec_...` secret from random bytes

The signature is HMAC-SHA256 over `{id}.{timestamp}.{body}` with the secret's decoded bytes, as
Replicate signs (its documents' "verify a webhook" and standardwebhooks.com). The body is the raw
bytes: a body that was parsed and written again is another one. Several secrets may be given while
one is replaced: a delivery then carries a signature of each, and either is taken.

A signature does not say that a delivery is new: its id must be remembered for longer than the
tolerance, in the transaction that acts on it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sayso.errors import SignatureRefused

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
TOLERANCE_S: Final = 300

_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the public prefix of secrets, not one.
_VERSION: Final = "v1"
_MIN_SECRET_BYTES: Final = 16
_MAX_SIGNATURES: Final = 32
# A dot in an id would let its end pass for a timestamp.
_ID: Final = re.compile(r"[!-\-/-~]{1,256}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True)
class Delivery:
    """A delivery whose signature is right: its id is the same when it is sent again."""

    delivery_id: str
    sent_at_s: int


def new_secret(random_bytes: bytes) -> str:
    """Return a secret made of at least 16 random bytes; 32 are a good number."""
    if len(random_bytes) < _MIN_SECRET_BYTES:
        raise ValueError(f"a secret needs at least {_MIN_SECRET_BYTES} random bytes")
    return _SECRET_PREFIX + base64.b64encode(random_bytes).decode()


def signed_headers(
    secrets: Sequence[str], *, delivery_id: str, sent_at_s: int, body: bytes
) -> dict[str, str]:
    """Return the headers of a delivery, signed with each secret.

    `sent_at_s` is this attempt's time in seconds since 1970; `delivery_id` stays the same when the
    delivery is tried again.
    """
    if not secrets or _ID.fullmatch(delivery_id) is None or sent_at_s < 0:
        raise ValueError("a delivery needs a secret, an id without dots and a time")
    signatures = (_signature(secret, delivery_id, str(sent_at_s), body) for secret in secrets)
    return {
        ID_HEADER: delivery_id,
        TIMESTAMP_HEADER: str(sent_at_s),
        SIGNATURE_HEADER: " ".join(signatures),
    }


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now_s: float,
    tolerance_s: float = TOLERANCE_S,
) -> Delivery:
    """Return the delivery that the headers and the raw body are.

    `headers` knows its names in lower case. Raises `SignatureRefused`.
    """
    delivery_id = headers.get(ID_HEADER, "")
    timestamp = headers.get(TIMESTAMP_HEADER, "")
    given = headers.get(SIGNATURE_HEADER, "").split(" ")[:_MAX_SIGNATURES]
    if _ID.fullmatch(delivery_id) is None or _TIMESTAMP.fullmatch(timestamp) is None:
        raise SignatureRefused("The webhook is not signed.")
    expected = [_signature(secret, delivery_id, timestamp, body) for secret in secrets]
    # Every pair is compared, each in constant time: how long it takes tells nothing.
    matches = [
        hmac.compare_digest(one.encode(), other.encode()) for one in given for other in expected
    ]
    if not any(matches):
        raise SignatureRefused("The webhook's signature is wrong.")
    if abs(now_s - int(timestamp)) > tolerance_s:
        raise SignatureRefused("The webhook was signed too long ago, or our clocks disagree.")
    return Delivery(delivery_id, int(timestamp))


def _signature(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    message = f"{delivery_id}.{timestamp}.".encode() + body
    mac = hmac.digest(_key_of(secret), message, sha256)
    return f"{_VERSION},{base64.b64encode(mac).decode()}"


def _key_of(secret: str) -> bytes:
    """Decode a secret; raise `ValueError` for one that nobody could have issued."""
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or len(key) < _MIN_SECRET_BYTES:
        raise ValueError("a webhook secret is `whsec_` and at least 16 bytes in base64")
    return key
