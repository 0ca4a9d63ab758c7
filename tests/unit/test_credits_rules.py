"""Money and holds as pure rules."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.credits.rules import (
    LARGEST,
    MOVES,
    Balance,
    Hold,
    HoldState,
    Micros,
    ReleaseReason,
    Settlement,
    billed_seconds,
    capturing,
    decimal_text,
    dollars,
    is_settled_by,
    parse_dollars,
    positive,
    price,
    releasing,
)
from sayso.errors import AmountInvalid, CaptureTooLarge, HoldAlreadySettled
from sayso.ids import AccountId, GenerationId, HoldId
from tests.builders import NOON

amounts = st.integers(min_value=-LARGEST, max_value=LARGEST)


def a_hold(
    state: HoldState = HoldState.HELD,
    *,
    captured: int = 0,
    reason: ReleaseReason | None = None,
) -> Hold:
    return Hold(
        id=HoldId("h"),
        account_id=AccountId("alice"),
        generation_id=GenerationId("g"),
        amount=Micros(100),
        state=state,
        captured=Micros(captured),
        release_reason=reason,
        created_at=NOON,
        closed_at=None if state is HoldState.HELD else NOON,
    )


@pytest.mark.parametrize(
    ("speech_s", "seconds"),
    [(0.0, 1), (0.2, 1), (1.0, 1), (1.000001, 2), (9.5, 10), (10.0, 10), (10 + 1 / 16_000, 11)],
)
def test_speech_is_billed_in_whole_seconds_rounded_up(speech_s: float, seconds: int) -> None:
    assert billed_seconds(speech_s) == seconds


@pytest.mark.parametrize("speech_s", [-1.0, float("nan"), float("inf")])
def test_a_length_that_is_none_has_no_price(speech_s: float) -> None:
    with pytest.raises(ValueError, match="not a length"):
        billed_seconds(speech_s)


def test_ten_seconds_at_two_cents_cost_twenty_cents() -> None:
    assert dollars(price(10, Micros(20_000))) == "$0.20"


def test_a_free_model_costs_nothing() -> None:
    assert price(7, Micros(0)) == 0


@pytest.mark.parametrize(("seconds", "rate"), [(0, 1), (1, -1)])
def test_a_price_needs_a_second_and_a_rate(seconds: int, rate: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        price(seconds, Micros(rate))


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0.00"),
        (200_000, "0.20"),
        (1, "0.000001"),
        (10_000, "0.01"),
        (1_234_500, "1.2345"),
        (5_000_000, "5.00"),
        (-250_000, "-0.25"),
        (10**15, "1000000000.00"),
    ],
)
def test_micros_read_as_dollars_with_at_least_two_digits(micros: int, text: str) -> None:
    assert decimal_text(micros) == text


def test_a_negative_amount_has_its_sign_before_the_dollar() -> None:
    assert dollars(-1_000_000) == "-$1.00"


@given(amounts)
def test_what_is_written_is_read_back(amount: int) -> None:
    assert parse_dollars(decimal_text(amount)) == amount
    assert parse_dollars(dollars(amount)) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$",
        "-",
        ".",
        "five",
        "1e3",
        "1,000",
        "0.0000001",
        "--1",
        "1.2.3",
        "٣",
        "inf",
        "10000000000",
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(AmountInvalid):
        parse_dollars(text)


@pytest.mark.parametrize("amount", [0, -1, LARGEST + 1])
def test_only_amounts_above_zero_move(amount: int) -> None:
    with pytest.raises(AmountInvalid):
        positive(amount)


def test_what_is_held_is_not_available() -> None:
    assert Balance(total=Micros(100), held=Micros(40)).available == 60


def test_a_hold_ends_once() -> None:
    assert MOVES[HoldState.HELD] == {HoldState.CAPTURED, HoldState.RELEASED}
    assert not MOVES[HoldState.CAPTURED]
    assert not MOVES[HoldState.RELEASED]


@pytest.mark.parametrize("settlement", [capturing(Micros(1)), capturing(Micros(100))])
def test_an_open_hold_may_be_captured_whole_or_in_part(settlement: Settlement) -> None:
    assert is_settled_by(a_hold(), settlement) is False


@pytest.mark.parametrize("reason", ReleaseReason)
def test_an_open_hold_may_be_released(reason: ReleaseReason) -> None:
    assert is_settled_by(a_hold(), releasing(reason)) is False


def test_more_than_is_held_is_never_captured() -> None:
    with pytest.raises(CaptureTooLarge, match=r"\$0\.0001,"):
        is_settled_by(a_hold(), capturing(Micros(101)))


ENDINGS = [
    (capturing(Micros(100)), a_hold(HoldState.CAPTURED, captured=100)),
    (capturing(Micros(30)), a_hold(HoldState.CAPTURED, captured=30)),
    *((releasing(reason), a_hold(HoldState.RELEASED, reason=reason)) for reason in ReleaseReason),
]


@pytest.mark.parametrize(("settlement", "ended"), ENDINGS)
def test_the_same_settlement_again_is_no_change(settlement: Settlement, ended: Hold) -> None:
    assert is_settled_by(ended, settlement) is True


@pytest.mark.parametrize(
    ("settlement", "ended"),
    [
        (settlement, ended)
        for (settlement, own), (_, ended) in itertools.product(ENDINGS, ENDINGS)
        if own != ended
    ],
)
def test_any_other_settlement_is_refused(settlement: Settlement, ended: Hold) -> None:
    with pytest.raises(HoldAlreadySettled):
        is_settled_by(ended, settlement)
