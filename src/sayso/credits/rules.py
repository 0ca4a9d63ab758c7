"""Money and holds, as pure functions: no database, no clock.

Amounts are whole `Micros`, millionths of a US dollar; `Decimal` and text appear only at the edge.

    price       whole seconds of speech, rounded up, at least one, times the model's rate
    hold        held -> captured | released, once; what it ends in never changes
    available   balance - held; a hold needs that much, and nothing brings it below zero
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final, NewType

from sayso.clock import Instant
from sayso.errors import AmountInvalid, CaptureTooLarge, HoldAlreadySettled
from sayso.ids import AccountId, GenerationId, HoldId, TransferId

Micros = NewType("Micros", int)
"""Millionths of a US dollar."""

DOLLAR: Final = Micros(1_000_000)
CURRENCY: Final = "USD"
LARGEST: Final = Micros(10**15)
"""A billion dollars: no single amount is larger, so that sums stay far from 64 bits."""


class HoldState(StrEnum):
    """Where a hold is in its short life."""

    HELD = "held"
    CAPTURED = "captured"
    RELEASED = "released"


class ReleaseReason(StrEnum):
    """Why the customer got the money back."""

    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


class TransferKind(StrEnum):
    """What a transfer is for, and so which system account is its other side."""

    GRANT = "grant"
    """Credits given to a customer by the operator."""
    CAPTURE = "capture"
    """A customer pays for a video that is safely stored."""
    ADJUSTMENT = "adjustment"
    """The operator mends a mistake, in either direction."""
    LOSS = "loss"
    """A provider charges us for what nobody will pay."""


MOVES: Final[Mapping[HoldState, frozenset[HoldState]]] = {
    HoldState.HELD: frozenset({HoldState.CAPTURED, HoldState.RELEASED}),
    HoldState.CAPTURED: frozenset(),
    HoldState.RELEASED: frozenset(),
}


@dataclass(frozen=True)
class Balance:
    """What an account has: `total` of it is its own, `held` of that is promised."""

    total: Micros
    held: Micros

    @property
    def available(self) -> Micros:
        """What the next hold may take."""
        return Micros(self.total - self.held)


@dataclass(frozen=True)
class Hold:
    """Credits of an account that are promised to one generation."""

    id: HoldId
    account_id: AccountId
    generation_id: GenerationId
    amount: Micros
    state: HoldState
    captured: Micros
    release_reason: ReleaseReason | None
    created_at: Instant
    closed_at: Instant | None


@dataclass(frozen=True)
class Entry:
    """One line of an account's statement. `amount` is signed; `version` counts the lines from 1."""

    transfer_id: TransferId
    kind: TransferKind
    amount: Micros
    balance_after: Micros
    version: int
    reason: str
    generation_id: GenerationId | None
    created_at: Instant


@dataclass(frozen=True)
class Settlement:
    """How a hold is to end: captured with an amount, or released with a reason."""

    captured: Micros
    release_reason: ReleaseReason | None

    @property
    def state(self) -> HoldState:
        """The state it leads to."""
        return HoldState.RELEASED if self.release_reason else HoldState.CAPTURED


def capturing(amount: Micros) -> Settlement:
    """Return the settlement that spends this much and releases the rest; at least one micro."""
    return Settlement(positive(amount), None)


def releasing(reason: ReleaseReason) -> Settlement:
    """Return the settlement that gives everything back."""
    return Settlement(Micros(0), reason)


def is_settled_by(hold: Hold, settlement: Settlement) -> bool:
    """Whether the hold has already ended in just this way; False while it is open.

    Raises `CaptureTooLarge` for more than it holds, `HoldAlreadySettled` if it ended otherwise.
    """
    if settlement.captured > hold.amount:
        raise CaptureTooLarge(
            f"Hold {hold.id} holds {dollars(hold.amount)}, "
            f"so {dollars(settlement.captured)} cannot be captured from it."
        )
    if settlement.state in MOVES[hold.state]:
        return False
    ended = Settlement(hold.captured, hold.release_reason)
    if ended != settlement:
        raise HoldAlreadySettled(
            f"Hold {hold.id} was {_past(ended)} and cannot be {_past(settlement)} any more."
        )
    return True


def price(seconds: int, rate: Micros) -> Micros:
    """Return what so many seconds cost at a rate per second; 0 at a rate of 0."""
    if seconds < 1 or rate < 0:
        raise ValueError("a price needs at least one second and a rate of at least 0")
    return Micros(seconds * rate)


def billed_seconds(speech_s: float) -> int:
    """Return the whole seconds that a speech of this length is billed as."""
    if not (math.isfinite(speech_s) and speech_s >= 0):
        raise ValueError(f"{speech_s} is not a length of a speech")
    return max(1, math.ceil(speech_s))


def positive(amount: int) -> Micros:
    """Return the amount if it can be moved; raise `AmountInvalid` if it is not above zero."""
    if not 0 < amount <= LARGEST:
        raise AmountInvalid(
            f"An amount lies above $0 and is {dollars(LARGEST)} at most; this is {dollars(amount)}."
        )
    return Micros(amount)


def decimal_text(amount: int) -> str:
    """Return dollars as a decimal string, with two digits or as many as it takes: `0.20`."""
    whole, rest = divmod(abs(amount), DOLLAR)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{whole}.{digits}"


def dollars(amount: int) -> str:
    """Return the amount for people: `$0.20`, `-$1.00`."""
    sign = "-" if amount < 0 else ""
    return f"{sign}${decimal_text(abs(amount))}"


def parse_dollars(text: str) -> Micros:
    """Return the amount that a person wrote: `5`, `$5.00`, `-0.25`; raise `AmountInvalid`."""
    sign, digits = (-1, text.strip()[1:]) if text.strip().startswith("-") else (1, text.strip())
    digits = digits.removeprefix("$")
    if not digits.replace(".", "", 1).isdecimal() or not digits.isascii():
        raise AmountInvalid(f"{text!r} is not an amount of dollars, such as 5 or 0.25.")
    scaled = Decimal(digits) * DOLLAR
    if scaled != scaled.to_integral_value():
        raise AmountInvalid(f"{text!r} has more than six decimals.")
    if scaled > LARGEST:
        raise AmountInvalid(f"{text!r} is more than {dollars(LARGEST)}.")
    return Micros(sign * int(scaled))


def _past(settlement: Settlement) -> str:
    if settlement.release_reason:
        return f"released ({settlement.release_reason})"
    return f"captured with {dollars(settlement.captured)}"
