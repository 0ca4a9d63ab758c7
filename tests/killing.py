"""Kills the service after each step of a generation's life: `python -m tests.killing URL FOLDER`.

A boundary is the moment before or after a write to the database, a call to the provider, or the
keeping of the video. For each scenario and each n, a forked child runs the service on a real clock
and is killed with SIGKILL at its n-th boundary; a second one then carries on to the end. Each line
of the output says what came of that; the test judges.

The provider is outside, as a real one is: it remembers in a journal what was created.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import select

from sayso.artifacts.store import folder_artifacts
from sayso.catalogue.catalogue import Catalogue
from sayso.clock import SystemClock
from sayso.credits import store as ledger
from sayso.credits.audit import verify
from sayso.credits.rules import Micros
from sayso.db.connect import Database, open_database
from sayso.db.tables import holds, predictions
from sayso.generations.generation import Generation, Order
from sayso.generations.policy import Policy
from sayso.generations.service import Generations
from sayso.ids import AccountId, ArtifactId, Ids, TransferId
from sayso.providers.scripted import Script, ScriptedProvider
from sayso.reconciler import Reconciler, Rhythm
from tests.workshop import DOLLAR, MODEL, SPEECH_S, StubKeeper, an_artifact

T = TypeVar("T")

NEVER: Final = 10_000
# Far above what any scenario has; reaching it is an error.
MOST_BOUNDARIES: Final = 80
LONGEST_S: Final = 30

POLICY: Final = Policy(
    poll_s=0.02,
    stop_poll_s=0.02,
    settle_s=0.05,
    cancel_grace_s=0.5,
    retry_s=0.01,
    keep_retry_s=0.02,
)
RHYTHM: Final = Rhythm(lease_s=0.25, hold_s=0.25, tick_s=0.01, wake_s=0.001, idle_s=0.05, drain_s=1)

SCENARIOS: Final = {
    "success": Script(start_s=0, run_s=0.05, cost_micros=5),
    "failure": Script(start_s=0, run_s=0.05, end="failed"),
    "cancel": Script(start_s=0, run_s=60),
}


class Killer:
    """Counts boundaries and kills this process at the one that was asked for."""

    def __init__(self, at: int) -> None:
        self.left = at

    def boundary(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def called(*arguments: Any, **keywords: Any) -> T:
            self.boundary()
            value = await call(*arguments, **keywords)
            self.boundary()
            return value

        return called


def main() -> int:
    url, folder = sys.argv[1], Path(sys.argv[2])
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for name in SCENARIOS:
        for n in range(1, MOST_BOUNDARIES):
            status = forked(lambda: live(url, folder, name, n, kill_at=n))  # noqa: B023
            was_killed = os.WIFSIGNALED(status)
            if not was_killed and os.WEXITSTATUS(status) != 0:
                return 1
            if forked(lambda: live(url, folder, name, n, kill_at=NEVER)) != 0:  # noqa: B023
                return 1
            if not was_killed:
                break
        else:
            return 1
    return 0


def forked(run: Callable[[], Awaitable[None]]) -> int:
    """Run a coroutine in a forked child; return the child's wait status."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        asyncio.run(run())  # type: ignore[arg-type]
        sys.stdout.flush()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 (a child must not return into its parent's loop)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


async def live(url: str, folder: Path, scenario: str, n: int, *, kill_at: int) -> None:
    """Start the generation of this round, or find it, and carry it to its end."""
    account_id = AccountId(f"{scenario}-{n}")
    db = await open_database(url)
    killer = Killer(kill_at)
    clock = SystemClock()
    ids = Ids(clock.now)
    inputs = await prepared(db, account_id)
    journal = folder / f"{account_id}.jsonl"
    provider: Any = ScriptedProvider(clock, SCENARIOS[scenario], journal=journal)
    keeper: Any = StubKeeper()
    watched: Any = Watched(db, killer)
    for name in ("submit", "fetch_many", "find", "cancel"):
        setattr(provider, name, killer.around(getattr(provider, name)))
    keeper.keep = killer.around(keeper.keep)
    service = Generations(
        watched,
        clock=clock,
        ids=ids,
        artifacts=folder_artifacts(folder / "artifacts"),
        traits={"scripted": provider.traits},
        policy=POLICY,
    )
    reconciler = Reconciler(
        watched,
        clock=clock,
        ids=ids,
        catalogue=Catalogue([MODEL], providers=["scripted"]),
        providers=[provider],
        keeper=keeper,
        policy=POLICY,
        rhythm=RHYTHM,
    )
    done = await carried(service, reconciler, account_id, inputs, is_canceled=scenario == "cancel")
    if kill_at == NEVER:
        await report(db, done, scenario, n, journal)
    await db.close()


class Watched:
    """A database whose writes are boundaries."""

    def __init__(self, db: Database, killer: Killer) -> None:
        self._db = db
        self.write = killer.around(db.write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


async def prepared(db: Database, account_id: AccountId) -> tuple[ArtifactId, ArtifactId]:
    """Open the round's account with two inputs, unless they are there."""

    def prepare(tx: Any) -> tuple[ArtifactId, ArtifactId]:
        if ledger.open_account(tx, account_id=account_id, at=clock.now()):
            ledger.grant(
                tx,
                transfer_id=TransferId(f"start:{account_id}"),
                account_id=account_id,
                amount=Micros(DOLLAR),
                reason="for the test",
                at=clock.now(),
            )
            an_artifact(tx, "portrait", account_id=account_id, name=f"{account_id}-portrait")
            an_artifact(tx, "speech", account_id=account_id, name=f"{account_id}-speech")
        return ArtifactId(f"{account_id}-portrait"), ArtifactId(f"{account_id}-speech")

    clock = SystemClock()
    return await db.write(prepare)


async def carried(
    service: Generations,
    reconciler: Reconciler,
    account_id: AccountId,
    inputs: tuple[ArtifactId, ArtifactId],
    *,
    is_canceled: bool,
) -> Generation:
    """Carry the account's one generation to its end."""

    async def make() -> Order:
        return Order(
            account_id=account_id,
            door="api",
            model=replace(MODEL),
            portrait_id=inputs[0],
            speech_id=inputs[1],
            speech_s=SPEECH_S,
        )

    found = (await service.list(account_id)).items
    generation = found[0] if found else (await service.start(make)).generation
    end_s = time.monotonic() + LONGEST_S
    while time.monotonic() < end_s:
        await reconciler.turn()
        await reconciler.settled()
        generation = await service.get(account_id, generation.id)
        if generation.is_final:
            return generation
        if is_canceled and generation.state.value == "running":
            await service.cancel(account_id, generation.id)
        await asyncio.sleep(0.005)
    raise TimeoutError(f"{account_id} is still {generation.state}")


async def report(db: Database, done: Generation, scenario: str, n: int, journal: Path) -> None:
    """Say what came of a round."""
    hold = select(holds.c.state).where(holds.c.generation_id == done.id)
    tries = select(predictions.c.state).where(predictions.c.generation_id == done.id)
    now = SystemClock().now()
    found = {
        "scenario": scenario,
        "n": n,
        "state": done.state.value,
        "hold": await db.read(lambda tx: tx.execute(hold).scalar_one()),
        "balance": (await db.read(lambda tx: ledger.balance(tx, done.account_id))).total,
        "created": created_in(journal),
        "attempts": await db.read(lambda tx: list(tx.execute(tries).scalars())),
        "violations": [str(v) for v in await db.snapshot(lambda tx: verify(tx, now=now))],
    }
    sys.stdout.write(json.dumps(found) + "\n")


def created_in(journal: Path) -> int:
    """Return how many predictions the provider has created."""
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    return sum(json.loads(line)["what"] == "create" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
