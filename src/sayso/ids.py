"""Ids: what each kind is called, and how new ones are made.

An id is 26 characters of `0-9a-z` (without i, l, o, u): 48 bits of milliseconds, then 80 random
bits, in Crockford's base 32, so that ids sort by the time they were made. The layout is ULID's
(https://github.com/ulid/spec), in lower case; it has the length and the alphabet of Replicate's.

A `Nonce` is as long but wholly random (130 bits): it stands in links that only a provider knows.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, NewType

AccountId = NewType("AccountId", str)
ArtifactId = NewType("ArtifactId", str)
GenerationId = NewType("GenerationId", str)
HoldId = NewType("HoldId", str)
Nonce = NewType("Nonce", str)
ProviderId = NewType("ProviderId", str)
"""A prediction's id at its provider, in the provider's own form."""
TransferId = NewType("TransferId", str)

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH: Final = 26
RANDOM_BITS: Final = 80


class Ids:
    """Makes new ids: `Ids(clock.now)`.

    `now` tells the microseconds since the epoch, `random_bits(n)` gives n random bits.
    """

    def __init__(
        self, now: Callable[[], int], *, random_bits: Callable[[int], int] = secrets.randbits
    ) -> None:
        self._now = now
        self._random_bits = random_bits

    def new(self) -> str:
        """Return an id that sorts after those made in earlier milliseconds."""
        return encode(self._now() // 1_000 << RANDOM_BITS | self._random_bits(RANDOM_BITS))

    def nonce(self) -> Nonce:
        """Return a token that cannot be guessed."""
        return Nonce(encode(self._random_bits(5 * LENGTH)))


def encode(number: int) -> str:
    """Return a number below 2**130 as 26 characters, the most significant first."""
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(LENGTH)))


def made_at(identifier: str) -> int:
    """Return when an id was made, in microseconds since the epoch, to the millisecond.

    Raises `ValueError` for what is not an id of ours.
    """
    if len(identifier) != LENGTH:
        raise ValueError(f"an id has {LENGTH} characters, not {len(identifier)}")
    number = 0
    for character in identifier:
        number = number << 5 | ALPHABET.index(character)
    return (number >> RANDOM_BITS) * 1_000
