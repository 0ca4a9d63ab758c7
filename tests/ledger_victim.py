"""A process that dies at every step boundary of the ledger's operations, and looks what is left.

    python -m tests.ledger_victim URL

For each operation and each boundary n, a fork prepares, runs the operation and is killed by SIGKILL
at its n-th boundary: before each statement, before COMMIT, after the answer. Then another opens the
database, audits it, runs each operation twice more with the same ids, and compares the balances.
Prints one JSON object: how many boundaries there were, and what was wrong.

The mother opens no database and starts no thread, so it may fork.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import Engine, event

from sayso.credits import store
from sayso.credits.audit import verify
from sayso.credits.rules import Balance, Micros, ReleaseReason
from sayso.db.connect import Database, open_database
from sayso.db.tx import Tx
from sayso.ids import AccountId, GenerationId, HoldId, TransferId
from tests.builders import NOON, a_generation, finish

MOST_BOUNDARIES: Final = 60


@dataclass(frozen=True)
class Case:
    """The ids of one trial: fresh for each, the same for its repeats."""

    name: str

    @property
    def account(self) -> AccountId:
        return AccountId(f"account-{self.name}")

    @property
    def generation(self) -> GenerationId:
        return GenerationId(f"generation-{self.name}")

    @property
    def hold(self) -> HoldId:
        return HoldId(f"hold-{self.name}")

    def grant(self, tx: Tx) -> None:
        store.open_account(tx, account_id=self.account, at=NOON)
        store.grant(
            tx,
            transfer_id=TransferId(f"grant-{self.name}"),
            account_id=self.account,
            amount=Micros(100),
            reason="",
            at=NOON,
        )

    def start(self, tx: Tx) -> None:
        if store.hold_of(tx, self.generation) is None:
            a_generation(tx, generation_id=self.generation, account_id=self.account, price=40)
        store.place_hold(
            tx,
            hold_id=self.hold,
            account_id=self.account,
            generation_id=self.generation,
            amount=Micros(40),
            at=NOON,
        )

    def capture(self, tx: Tx) -> None:
        is_open = self._is_open(tx)
        store.capture(tx, hold_id=self.hold, amount=Micros(30), at=NOON)
        if is_open:
            finish(tx, self.generation, "succeeded")

    def release(self, tx: Tx) -> None:
        self._give_back(tx, ReleaseReason.CANCELED, "canceled")

    def expire(self, tx: Tx) -> None:
        self._give_back(tx, ReleaseReason.EXPIRED, "failed")

    def _give_back(self, tx: Tx, reason: ReleaseReason, ending: str) -> None:
        is_open = self._is_open(tx)
        store.release(tx, hold_id=self.hold, reason=reason, at=NOON)
        if is_open:
            finish(tx, self.generation, ending)

    def _is_open(self, tx: Tx) -> bool:
        hold = store.hold_of(tx, self.generation)
        return hold is not None and hold.closed_at is None


Step = Callable[[Case, Tx], None]


@dataclass(frozen=True)
class Operation:
    """A step, what must have happened before it, and the balance (total, held) after it."""

    name: str
    before: tuple[Step, ...]
    step: Step
    total: int
    held: int


OPERATIONS: Final = (
    Operation("grant", (), Case.grant, 100, 0),
    Operation("start", (Case.grant,), Case.start, 100, 40),
    Operation("capture", (Case.grant, Case.start), Case.capture, 70, 0),
    Operation("release", (Case.grant, Case.start), Case.release, 100, 0),
    Operation("expire", (Case.grant, Case.start), Case.expire, 100, 0),
)


@dataclass
class Report:
    """What the trials came to."""

    boundaries: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Run the matrix on the database named by the first argument."""
    url = sys.argv[1]
    report = Report()
    for operation in OPERATIONS:
        cases = kill_at_each_boundary(url, operation, report)
        if in_fork(partial(look_and_repeat, url, operation, cases)) != 0:
            report.wrong.append(f"{operation.name}: the ledger is not as it should be")
    sys.stdout.write(json.dumps(asdict(report)))
    return 0


def kill_at_each_boundary(url: str, operation: Operation, report: Report) -> list[Case]:
    """Run the operation until it is not killed any more; return the trials in that order."""
    cases: list[Case] = []
    for boundary in range(1, MOST_BOUNDARIES):
        cases.append(Case(f"{operation.name}-{boundary}"))
        ended = in_fork(partial(run_and_die, url, operation, cases[-1], boundary))
        if ended == 0:
            break
        report.boundaries[operation.name] = boundary
        if ended != -signal.SIGKILL:
            report.wrong.append(f"{cases[-1].name}: ended with {ended}")
    return cases


def in_fork(make: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a coroutine in a fork; return its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(make())
            code = 0
        except BaseException:  # noqa: BLE001 (the fork ends here; the mother reports)
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def run_and_die(url: str, operation: Operation, case: Case, boundary: int) -> None:
    db = await open_database(url)
    for before in operation.before:
        await db.write(partial(before, case))
    passed = itertools.count(1)

    def pass_boundary(*_: object, **__: object) -> None:
        if next(passed) == boundary:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", pass_boundary)
    event.listen(Engine, "commit", pass_boundary)
    await db.write(partial(operation.step, case))
    pass_boundary()
    await db.close()


async def look_and_repeat(url: str, operation: Operation, cases: list[Case]) -> None:
    """Audit what the killed ones left; repeat each operation; all must end alike."""
    db = await open_database(url)
    expected = Balance(Micros(operation.total), Micros(operation.held))
    assert await audit(db) == []
    for answered in cases[-2:]:  # Killed after its answer, and not killed: nothing may be lost.
        assert await balance(db, answered) == expected, answered
    for case in cases:
        for _ in range(2):
            await db.write(partial(operation.step, case))
        assert await balance(db, case) == expected, case
    assert await audit(db) == []
    await db.close()


async def balance(db: Database, case: Case) -> Balance:
    return await db.read_point(lambda tx: store.balance(tx, case.account))


async def audit(db: Database) -> list[object]:
    return list(await db.snapshot(lambda tx: verify(tx, now=NOON)))


if __name__ == "__main__":
    sys.exit(main())
