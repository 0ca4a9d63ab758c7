"""The ledger in SQL: what each step does, repeats and refuses, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from sayso.clock import Instant
from sayso.credits import store
from sayso.credits.audit import verify
from sayso.credits.rules import Balance, HoldState, Micros, ReleaseReason
from sayso.db.connect import Database
from sayso.db.tables import entries, holds, transfers
from sayso.db.tx import Tx
from sayso.errors import (
    AmountInvalid,
    CaptureTooLarge,
    HoldAlreadySettled,
    IdReused,
    InsufficientCredits,
    NoSuchAccount,
    NoSuchHold,
    SaysoError,
)
from sayso.ids import AccountId, GenerationId, HoldId, TransferId
from tests.builders import (
    ALICE,
    BOB,
    NOON,
    a_generation,
    a_hold,
    a_prediction,
    an_account,
    finish,
)

pytestmark = pytest.mark.anyio


def balance_of(total: int, held: int = 0) -> Balance:
    return Balance(total=Micros(total), held=Micros(held))


def sizes(tx: Tx) -> dict[str, int]:
    """How many rows the ledger has, to see that a repeat adds none."""
    return {
        table.name: tx.execute(select(func.count()).select_from(table)).scalar_one()
        for table in (holds, transfers, entries)
    }


async def refused(database: Database, step: Callable[[Tx], object]) -> SaysoError:
    """Run a step that must raise; check that it left nothing, even if its caller goes on."""
    kept: list[SaysoError] = []

    def swallow(tx: Tx) -> None:
        kept.clear()
        with pytest.raises(SaysoError) as caught:
            step(tx)
        kept.append(caught.value)

    before = await database.snapshot(lambda tx: (sizes(tx), verify(tx, now=NOON)))
    await database.write(swallow)
    after = await database.snapshot(lambda tx: (sizes(tx), verify(tx, now=NOON)))
    assert after == before
    return kept[0]


async def test_a_grant_adds_to_the_balance(database: Database) -> None:
    granted = await database.write(lambda tx: store.balance(tx, an_account(tx, balance=100)))

    assert granted == balance_of(100)


async def test_the_same_grant_again_changes_nothing(database: Database) -> None:
    def grant(tx: Tx) -> Balance:
        return store.grant(
            tx,
            transfer_id=TransferId("gift"),
            account_id=ALICE,
            amount=Micros(70),
            reason="welcome",
            at=NOON,
        )

    await database.write(an_account)
    assert await database.write(grant) == balance_of(70)
    assert await database.write(grant) == balance_of(70)
    assert (await database.read(sizes))["transfers"] == 1


@pytest.mark.parametrize(
    "other", [{"amount": Micros(71)}, {"account_id": BOB}, {"reason": "another"}]
)
async def test_a_grant_with_a_used_id_and_other_content_is_refused(
    database: Database, other: dict[str, Any]
) -> None:
    first: dict[str, Any] = {"account_id": ALICE, "amount": Micros(70), "reason": "welcome"}

    def grant(tx: Tx, content: dict[str, Any]) -> object:
        return store.grant(
            tx,
            transfer_id=TransferId("gift"),
            at=NOON,
            **content,
        )

    await database.write(lambda tx: (an_account(tx), an_account(tx, BOB), grant(tx, first)))
    error = await refused(database, lambda tx: grant(tx, {**first, **other}))

    assert isinstance(error, IdReused)


async def test_an_account_opens_once(database: Database) -> None:
    def opened(tx: Tx) -> list[bool]:
        return [store.open_account(tx, account_id=ALICE, at=NOON) for _ in range(2)]

    assert await database.write(opened) == [True, False]


@pytest.mark.parametrize("amount", [0, -5])
async def test_only_positive_amounts_are_granted(database: Database, amount: int) -> None:
    await database.write(an_account)
    error = await refused(
        database,
        lambda tx: store.grant(
            tx,
            transfer_id=TransferId("t"),
            account_id=ALICE,
            amount=Micros(amount),
            reason="",
            at=NOON,
        ),
    )
    assert isinstance(error, AmountInvalid)


@pytest.mark.parametrize("account_id", ["nobody", "sys:revenue"])
async def test_credits_go_to_customers_only(database: Database, account_id: str) -> None:
    error = await refused(
        database,
        lambda tx: store.grant(
            tx,
            transfer_id=TransferId("t"),
            account_id=AccountId(account_id),
            amount=Micros(5),
            reason="",
            at=NOON,
        ),
    )
    assert isinstance(error, NoSuchAccount)


async def test_a_mistake_is_corrected_in_either_direction(database: Database) -> None:
    def adjust(tx: Tx, name: str, amount: int) -> Balance:
        return store.adjust(
            tx,
            transfer_id=TransferId(name),
            account_id=ALICE,
            amount=Micros(amount),
            reason="typo",
            at=NOON,
        )

    await database.write(lambda tx: an_account(tx, balance=100))
    assert await database.write(lambda tx: adjust(tx, "down", -30)) == balance_of(70)
    assert await database.write(lambda tx: adjust(tx, "up", 5)) == balance_of(75)
    assert await database.write(lambda tx: adjust(tx, "up", 5)) == balance_of(75)
    assert isinstance(await refused(database, lambda tx: adjust(tx, "nothing", 0)), AmountInvalid)
    assert await database.read(lambda tx: store.system_total(tx, store.ADJUSTMENTS)) == 25


async def test_the_same_correction_again_needs_no_credits(database: Database) -> None:
    """It took all there was, so a second one could not be taken."""

    def take_all(tx: Tx) -> Balance:
        return store.adjust(
            tx,
            transfer_id=TransferId("all"),
            account_id=ALICE,
            amount=Micros(-100),
            reason="",
            at=NOON,
        )

    await database.write(lambda tx: an_account(tx, balance=100))
    assert await database.write(take_all) == balance_of(0)
    assert await database.write(take_all) == balance_of(0)


async def test_a_correction_never_takes_what_is_held(database: Database) -> None:
    await database.write(lambda tx: (an_account(tx, balance=100), a_hold(tx, amount=40)))
    error = await refused(
        database,
        lambda tx: store.adjust(
            tx,
            transfer_id=TransferId("down"),
            account_id=ALICE,
            amount=Micros(-61),
            reason="",
            at=NOON,
        ),
    )
    assert isinstance(error, InsufficientCredits)


async def test_a_hold_makes_credits_unavailable_and_spends_none(database: Database) -> None:
    def place(tx: Tx) -> Balance:
        an_account(tx, balance=100)
        a_hold(tx, amount=40)
        return store.balance(tx, ALICE)

    assert await database.write(place) == balance_of(100, held=40)


async def test_the_same_hold_again_changes_nothing(database: Database) -> None:
    """Also when nothing else would be available: its own credits are held already."""
    generation = await database.write(
        lambda tx: (an_account(tx, balance=40), a_generation(tx, price=40))[1]
    )
    first = await database.write(lambda tx: a_hold(tx, generation_id=generation))
    again = await database.write(lambda tx: a_hold(tx, generation_id=generation))

    assert again == first
    assert await database.read(lambda tx: store.balance(tx, ALICE)) == balance_of(40, held=40)


async def test_a_hold_placed_again_after_it_was_settled_stays_settled(database: Database) -> None:
    hold = await database.write(lambda tx: (an_account(tx, balance=90), a_hold(tx))[1])
    await database.write(
        lambda tx: store.release(tx, hold_id=hold.id, reason=ReleaseReason.FAILED, at=NOON)
    )
    again = await database.write(lambda tx: a_hold(tx, generation_id=hold.generation_id))

    assert again.state is HoldState.RELEASED
    assert await database.read(lambda tx: store.balance(tx, ALICE)) == balance_of(90)


async def test_no_more_is_held_than_is_available(database: Database) -> None:
    generation = await database.write(
        lambda tx: (
            an_account(tx, balance=100),
            a_hold(tx, amount=61),
            a_generation(tx, price=40),
        )[2]
    )
    error = await refused(database, lambda tx: a_hold(tx, generation_id=generation, amount=40))

    assert isinstance(error, InsufficientCredits)
    assert "sayso credits grant 0.00004" in str(error)


async def test_one_generation_has_one_hold(database: Database) -> None:
    hold = await database.write(lambda tx: (an_account(tx, balance=100), a_hold(tx))[1])
    error = await refused(
        database,
        lambda tx: store.place_hold(
            tx,
            hold_id=HoldId("another"),
            account_id=ALICE,
            generation_id=hold.generation_id,
            amount=hold.amount,
            at=NOON,
        ),
    )
    assert isinstance(error, IdReused)


async def test_a_used_hold_id_with_another_amount_is_refused(database: Database) -> None:
    hold = await database.write(lambda tx: (an_account(tx, balance=100), a_hold(tx))[1])
    error = await refused(
        database, lambda tx: a_hold(tx, generation_id=hold.generation_id, amount=41)
    )
    assert isinstance(error, IdReused)


async def test_nobody_has_no_credits_to_hold(database: Database) -> None:
    generation = await database.write(lambda tx: (an_account(tx), a_generation(tx))[1])
    error = await refused(
        database,
        lambda tx: a_hold(tx, generation_id=generation, account_id=AccountId("nobody")),
    )
    assert isinstance(error, NoSuchAccount)


@pytest.mark.parametrize(("captured", "left"), [(40, 60), (15, 85), (1, 99)])
async def test_a_capture_spends_its_part_and_releases_the_rest(
    database: Database, captured: int, left: int
) -> None:
    def spend(tx: Tx) -> Balance:
        an_account(tx, balance=100)
        hold = a_hold(tx, amount=40)
        store.capture(tx, hold_id=hold.id, amount=Micros(captured), at=NOON)
        finish(tx, hold.generation_id, "succeeded")
        return store.balance(tx, ALICE)

    assert await database.write(spend) == balance_of(left)
    assert await database.read(lambda tx: store.system_total(tx, store.REVENUE)) == captured
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []


@pytest.mark.parametrize("reason", ReleaseReason)
async def test_a_release_gives_the_whole_hold_back(
    database: Database, reason: ReleaseReason
) -> None:
    def give_back(tx: Tx) -> Balance:
        an_account(tx, balance=100)
        hold = a_hold(tx)
        store.release(tx, hold_id=hold.id, reason=reason, at=NOON)
        finish(tx, hold.generation_id, "failed")
        return store.balance(tx, ALICE)

    assert await database.write(give_back) == balance_of(100)
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []


async def test_settling_again_in_the_same_way_changes_nothing(database: Database) -> None:
    paid, failed = await database.write(
        lambda tx: (an_account(tx, balance=100), a_hold(tx), a_hold(tx))[1:]
    )

    def settle(tx: Tx) -> tuple[object, ...]:
        return (
            store.capture(tx, hold_id=paid.id, amount=Micros(30), at=NOON),
            store.release(tx, hold_id=failed.id, reason=ReleaseReason.FAILED, at=NOON),
            store.balance(tx, ALICE),
            sizes(tx),
        )

    assert await database.write(settle) == await database.write(settle)


async def test_settling_in_another_way_is_refused(database: Database) -> None:
    paid, failed = await database.write(
        lambda tx: (an_account(tx, balance=100), a_hold(tx), a_hold(tx))[1:]
    )
    await database.write(lambda tx: store.capture(tx, hold_id=paid.id, amount=Micros(30), at=NOON))
    await database.write(
        lambda tx: store.release(tx, hold_id=failed.id, reason=ReleaseReason.FAILED, at=NOON)
    )
    steps: list[Callable[[Tx], object]] = [
        lambda tx: store.capture(tx, hold_id=paid.id, amount=Micros(31), at=NOON),
        lambda tx: store.release(tx, hold_id=paid.id, reason=ReleaseReason.FAILED, at=NOON),
        lambda tx: store.capture(tx, hold_id=failed.id, amount=Micros(30), at=NOON),
        lambda tx: store.release(tx, hold_id=failed.id, reason=ReleaseReason.CANCELED, at=NOON),
    ]
    for step in steps:
        assert isinstance(await refused(database, step), HoldAlreadySettled)


@pytest.mark.parametrize(
    ("amount", "error"), [(41, CaptureTooLarge), (0, AmountInvalid), (-1, AmountInvalid)]
)
async def test_a_capture_takes_something_and_at_most_the_hold(
    database: Database, amount: int, error: type[SaysoError]
) -> None:
    hold = await database.write(lambda tx: (an_account(tx, balance=100), a_hold(tx))[1])
    raised = await refused(
        database, lambda tx: store.capture(tx, hold_id=hold.id, amount=Micros(amount), at=NOON)
    )
    assert isinstance(raised, error)


async def test_a_hold_that_is_not_there_is_not_settled(database: Database) -> None:
    nothing = HoldId("nothing")
    steps: list[Callable[[Tx], object]] = [
        lambda tx: store.capture(tx, hold_id=nothing, amount=Micros(1), at=NOON),
        lambda tx: store.release(tx, hold_id=nothing, reason=ReleaseReason.FAILED, at=NOON),
    ]
    for step in steps:
        assert isinstance(await refused(database, step), NoSuchHold)


async def test_a_statement_tells_how_the_balance_came_about(database: Database) -> None:
    hold = await database.write(
        lambda tx: (an_account(tx, balance=100), a_hold(tx), a_hold(tx, amount=10))[1]
    )
    later = Instant(NOON + 5)
    await database.write(lambda tx: store.capture(tx, hold_id=hold.id, amount=Micros(30), at=later))
    captured, granted = await database.read(lambda tx: store.page_of_entries(tx, ALICE))
    (waiting,) = await database.read(lambda tx: store.open_holds(tx, ALICE))

    assert (granted.amount, granted.balance_after, granted.version) == (100, 100, 1)
    assert (captured.amount, captured.balance_after, captured.version) == (-30, 70, 2)
    assert (captured.kind, captured.generation_id) == ("capture", hold.generation_id)
    assert (granted.kind, granted.generation_id, granted.reason) == ("grant", None, "builder")
    assert captured.created_at == later
    assert waiting.amount == 10


async def test_a_statement_is_read_in_pages(database: Database) -> None:
    def grants(tx: Tx) -> None:
        for amount in range(1, 8):
            an_account(tx, balance=amount)

    await database.write(grants)
    first = await database.read(lambda tx: store.page_of_entries(tx, ALICE, limit=3))
    second = await database.read(
        lambda tx: store.page_of_entries(tx, ALICE, before=first[-1].version, limit=3)
    )
    assert [entry.amount for entry in first + second] == [7, 6, 5, 4, 3, 2]


async def test_a_hold_is_found_by_its_generation(database: Database) -> None:
    hold = await database.write(lambda tx: (an_account(tx, balance=100), a_hold(tx))[1])

    assert await database.read(lambda tx: store.hold_of(tx, hold.generation_id)) == hold
    assert await database.read(lambda tx: store.hold_of(tx, GenerationId("free"))) is None
    closed = await database.write(
        lambda tx: store.capture(tx, hold_id=hold.id, amount=Micros(40), at=NOON)
    )
    assert closed == replace(hold, state=HoldState.CAPTURED, captured=Micros(40), closed_at=NOON)


async def test_what_an_attempt_cost_in_vain_is_our_loss(database: Database) -> None:
    def lose(tx: Tx) -> list[TransferId | None]:
        return [
            store.book_loss(tx, generation_id=generation, attempt=n, reason="late", at=NOON)
            for n in (1, 1, 2)
        ]

    def attempts(tx: Tx) -> GenerationId:
        an_account(tx, balance=100)
        named = a_hold(tx).generation_id
        a_prediction(tx, named, attempt=1, cost_micros=25)
        a_prediction(tx, named, attempt=2)
        return named

    generation = await database.write(attempts)
    first, again, free = await database.write(lose)

    assert first == again
    assert first is not None
    assert free is None
    assert await database.read(lambda tx: store.system_total(tx, store.LOSSES)) == -25
    assert await database.snapshot(lambda tx: verify(tx, now=NOON)) == []
