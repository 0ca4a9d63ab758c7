"""Any sequence of ledger steps, against a model of two numbers an account, on both databases.

Hypothesis draws the steps: grants, corrections, holds, captures, releases, repeats of any of them,
losses, two settlements at once, and writes that fail after their work. After each step the balances
are the model's and the audit finds nothing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from sayso.credits import store
from sayso.credits.audit import verify
from sayso.credits.batch import settle_all
from sayso.credits.rules import (
    Balance,
    Micros,
    ReleaseReason,
    Settlement,
    capturing,
    releasing,
)
from sayso.db.connect import Database, open_database
from sayso.db.tx import Tx
from sayso.errors import (
    CaptureTooLarge,
    HoldAlreadySettled,
    InsufficientCredits,
    SaysoError,
)
from sayso.ids import AccountId, GenerationId, HoldId, TransferId
from tests.builders import NOON, a_generation, a_prediction, finish

T = TypeVar("T")
Step = Callable[[Tx], Any]
Way = tuple[str, object]
"""How a hold is to end: `("captured", 30)` or `("released", ReleaseReason.FAILED)`."""

amounts = st.integers(min_value=1, max_value=120)
reasons = st.sampled_from(ReleaseReason)
ENDINGS = {
    ReleaseReason.FAILED: "failed",
    ReleaseReason.CANCELED: "canceled",
    ReleaseReason.EXPIRED: "failed",
}

_numbers = itertools.count(1)


class Interrupted(Exception):
    """Raised after a step's work, so that all of it must be undone."""


@dataclass
class ModelAccount:
    """The model: two numbers."""

    id: AccountId
    total: int = 0
    held: int = 0


@dataclass
class ModelHold:
    """What the model remembers of a hold: how it ended, if it did."""

    id: HoldId
    generation_id: GenerationId
    account: ModelAccount
    amount: int
    ended: Way | None = None


@dataclass
class Sut:
    """The ledger under test, driven from synchronous rules."""

    database: Database
    runner: asyncio.Runner
    model: list[ModelAccount] = field(default_factory=list)

    def write(self, step: Step) -> Any:
        return self.runner.run(self._write(step))

    def write_both(self, one: Step, other: Step) -> list[Any]:
        async def both() -> list[Any]:
            writes = (self._write(one), self._write(other))
            return list(await asyncio.gather(*writes, return_exceptions=True))

        return self.runner.run(both())

    async def _write(self, step: Step) -> Any:
        return await self.database.write(step)


class LedgerMachine(RuleBasedStateMachine):
    """One example: two new accounts, and what happens to them."""

    sut: Sut  # Set by the test before the machine runs.

    accounts = Bundle("accounts")
    holds = Bundle("holds")
    grants = Bundle("grants")

    @initialize(target=accounts)
    def open_two_accounts(self) -> Any:
        self.model = [ModelAccount(AccountId(f"account-{next(_numbers)}")) for _ in range(2)]
        for account in self.model:
            self.sut.write(partial(store.open_account, account_id=account.id, at=NOON))
        return multiple(*self.model)

    @rule(target=grants, account=accounts, amount=amounts)
    def grant(self, account: ModelAccount, amount: int) -> Any:
        transfer_id = TransferId(f"grant-{next(_numbers)}")
        self.sut.write(granting(transfer_id, account, amount))
        account.total += amount
        return (transfer_id, account, amount)

    @rule(earlier=grants)
    def grant_again(self, earlier: tuple[TransferId, ModelAccount, int]) -> None:
        self.sut.write(granting(*earlier))

    @rule(account=accounts, amount=st.integers(-80, 80).filter(bool))
    def adjust(self, account: ModelAccount, amount: int) -> None:
        def step(tx: Tx) -> Balance:
            return store.adjust(
                tx,
                transfer_id=named,
                account_id=account.id,
                amount=Micros(amount),
                reason="",
                at=NOON,
            )

        named = TransferId(f"adjust-{next(_numbers)}")
        if account.total - account.held + amount < 0:
            self.refused(step, InsufficientCredits)
        else:
            self.sut.write(step)
            account.total += amount

    @rule(target=holds, account=accounts, amount=amounts)
    def place_hold(self, account: ModelAccount, amount: int) -> Any:
        number = next(_numbers)
        hold = ModelHold(
            HoldId(f"hold-{number}"), GenerationId(f"generation-of-{number}"), account, amount
        )
        if account.total - account.held < amount:
            self.refused(placing(hold), InsufficientCredits)
            return multiple()
        self.sut.write(placing(hold))
        account.held += amount
        return hold

    @rule(hold=holds)
    def place_hold_again(self, hold: ModelHold) -> None:
        self.sut.write(lambda tx: holding(tx, hold))

    @rule(hold=holds, amount=amounts)
    def capture(self, hold: ModelHold, amount: int) -> None:
        self.settle(hold, ("captured", amount))

    @rule(hold=holds)
    def capture_whole(self, hold: ModelHold) -> None:
        self.settle(hold, ("captured", hold.amount))

    @rule(hold=holds, reason=reasons)
    def release(self, hold: ModelHold, reason: ReleaseReason) -> None:
        self.settle(hold, ("released", reason))

    @rule(first=holds, second=holds, amount=amounts, reason=reasons)
    def settle_two_in_a_batch(
        self, first: ModelHold, second: ModelHold, amount: int, reason: ReleaseReason
    ) -> None:
        """Both or neither; the reconciler's way to settle hundreds."""
        ways: dict[HoldId, tuple[ModelHold, Way]] = {
            first.id: (first, ("captured", amount)),
            second.id: (second, ("released", reason)),
        }
        refusals = [self.refusal(hold, way) for hold, way in ways.values()]
        if any(refusals):
            self.refused(in_a_batch(ways), tuple(one for one in refusals if one))
            return
        self.sut.write(in_a_batch(ways))
        for hold, way in ways.values():
            if hold.ended is None:
                self.remember(hold, way)

    @rule(hold=holds)
    def settle_again(self, hold: ModelHold) -> None:
        if hold.ended is not None:
            self.settle(hold, hold.ended)

    @rule(hold=consumes(holds), reason=reasons)
    def settle_in_two_ways_at_once(self, hold: ModelHold, reason: ReleaseReason) -> None:
        """Exactly one of them wins, or both lose to what happened before."""
        ways: list[Way] = [("captured", hold.amount), ("released", reason)]
        outcomes = self.sut.write_both(*(settling(hold, way) for way in ways))
        won = [
            way
            for way, outcome in zip(ways, outcomes, strict=True)
            if not isinstance(outcome, Exception)
        ]
        lost = [outcome for outcome in outcomes if isinstance(outcome, Exception)]

        assert all(isinstance(error, HoldAlreadySettled) for error in lost)
        if hold.ended is None:
            assert len(won) == 1
            self.remember(hold, won[0])
        else:
            assert won == [way for way in ways if way == hold.ended]

    @rule(hold=holds, amount=amounts)
    def lose_an_attempt(self, hold: ModelHold, amount: int) -> None:
        """A provider charges for an attempt that nobody pays: no customer's number changes."""
        attempt = next(_numbers)

        def step(tx: Tx) -> None:
            a_prediction(tx, hold.generation_id, attempt=attempt, cost_micros=amount)
            for _ in range(2):
                store.book_loss(
                    tx, generation_id=hold.generation_id, attempt=attempt, reason="late", at=NOON
                )

        self.sut.write(step)

    @rule(hold=holds, account=accounts, amount=amounts)
    def be_interrupted(self, hold: ModelHold, account: ModelAccount, amount: int) -> None:
        def step(tx: Tx) -> None:
            granting(TransferId(f"undone-{next(_numbers)}"), account, amount)(tx)
            if hold.ended is None:
                settling(hold, ("captured", hold.amount))(tx)
            raise Interrupted

        with pytest.raises(Interrupted):
            self.sut.write(step)

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        accounts = getattr(self, "model", [])

        def look(tx: Tx) -> tuple[list[Balance], list[Any]]:
            return [store.balance(tx, account.id) for account in accounts], verify(tx, now=NOON)

        async def snapshot() -> tuple[list[Balance], list[Any]]:
            return await self.sut.database.snapshot(look)

        balances, violations = self.sut.runner.run(snapshot())
        assert violations == []
        assert [(b.total, b.held) for b in balances] == [(a.total, a.held) for a in accounts]

    def settle(self, hold: ModelHold, way: Way) -> None:
        expected = self.refusal(hold, way)
        if expected is not None:
            self.refused(settling(hold, way), expected)
            return
        self.sut.write(settling(hold, way))
        if hold.ended is None:
            self.remember(hold, way)

    def refusal(self, hold: ModelHold, way: Way) -> type[SaysoError] | None:
        kind, amount = way
        if kind == "captured" and isinstance(amount, int) and amount > hold.amount:
            return CaptureTooLarge
        return HoldAlreadySettled if hold.ended not in {None, way} else None

    def remember(self, hold: ModelHold, way: Way) -> None:
        hold.ended = way
        hold.account.held -= hold.amount
        if isinstance(way[1], int):
            hold.account.total -= way[1]

    def refused(self, step: Step, error: type[SaysoError] | tuple[type[SaysoError], ...]) -> None:
        with pytest.raises(error):
            self.sut.write(step)


def granting(transfer_id: TransferId, account: ModelAccount, amount: int) -> Step:
    return lambda tx: store.grant(
        tx,
        transfer_id=transfer_id,
        account_id=account.id,
        amount=Micros(amount),
        reason="",
        at=NOON,
    )


def placing(hold: ModelHold) -> Step:
    """Create the generation and its hold together, as the service does."""

    def step(tx: Tx) -> None:
        a_generation(
            tx,
            generation_id=hold.generation_id,
            account_id=hold.account.id,
            price=hold.amount,
        )
        holding(tx, hold)

    return step


def holding(tx: Tx, hold: ModelHold) -> None:
    store.place_hold(
        tx,
        hold_id=hold.id,
        account_id=hold.account.id,
        generation_id=hold.generation_id,
        amount=Micros(hold.amount),
        at=NOON,
    )


def settling(hold: ModelHold, way: Way) -> Step:
    """End the hold and its generation together, as the reconciler does."""

    def step(tx: Tx) -> None:
        before = store.hold_of(tx, hold.generation_id)
        wanted = settlement(way)
        if wanted.release_reason is None:
            store.capture(tx, hold_id=hold.id, amount=wanted.captured, at=NOON)
        else:
            store.release(tx, hold_id=hold.id, reason=wanted.release_reason, at=NOON)
        if before is not None and before.closed_at is None:
            finish(tx, hold.generation_id, ending(way))

    return step


def in_a_batch(ways: dict[HoldId, tuple[ModelHold, Way]]) -> Step:
    """End several holds and their generations together."""

    def step(tx: Tx) -> None:
        before = {named: store.hold_of(tx, hold.generation_id) for named, (hold, _) in ways.items()}
        settle_all(tx, {named: settlement(way) for named, (_, way) in ways.items()}, at=NOON)
        for named, (hold, way) in ways.items():
            was = before[named]
            if was is not None and was.closed_at is None:
                finish(tx, hold.generation_id, ending(way))

    return step


def settlement(way: Way) -> Settlement:
    match way:
        case ("captured", int(amount)):
            return capturing(Micros(amount))
        case ("released", ReleaseReason() as reason):
            return releasing(reason)
    raise AssertionError(way)


def ending(way: Way) -> str:
    """The state that a generation with such a hold ends in."""
    reason = settlement(way).release_reason
    return "succeeded" if reason is None else ENDINGS[reason]


@pytest.fixture
def sut(database_url: str) -> Iterator[Sut]:
    with asyncio.Runner() as runner:
        database = runner.run(open_database(database_url))
        yield Sut(database, runner)
        runner.run(database.close())


def run_machine(sut: Sut, *, examples: int, steps: int, draws_anew: bool = False) -> None:
    machine = type("Machine", (LedgerMachine,), {"sut": sut})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not draws_anew,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_sequence_of_steps_keeps_the_ledger_sound(sut: Sut) -> None:
    run_machine(sut, examples=20, steps=20)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_any_sequence_of_steps_keeps_the_ledger_sound_for_long(sut: Sut) -> None:
    run_machine(sut, examples=1_000, steps=50, draws_anew=True)
