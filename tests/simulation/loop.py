"""An event loop whose time passes only when everybody waits, and a clock that follows it.

SimulatedLoop    runs in one thread; what would run in another runs at once
SimulatedClock   its date may be set; its monotonic seconds are the loop's
run()            a coroutine on such a loop, to its end
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from sayso.clock import Instant, after

T = TypeVar("T")


OWNER: Final[ContextVar[int | None]] = ContextVar("owner", default=None)
"""The process that a task belongs to; None for what no process owns."""


class Idle(RuntimeError):
    """Everybody waits for something that nobody will ever do."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """See the module's docstring."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._owned: dict[int | None, dict[asyncio.Task[Any], None]] = {}
        super().__init__(_PassingTime(self))
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]  # It is a method.

    def owned_by(self, owner: int) -> list[asyncio.Task[Any]]:
        """Return the tasks of a process that go on, in the order in which they began."""
        return list(self._owned.get(owner, ()))

    def time(self) -> float:
        """Return the simulated seconds since the beginning."""
        return self.seconds

    def run_in_executor(  # type: ignore[override]  # The result is there already.
        self, _executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run it here and now: threads would bring the machine's time in."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 (the caller's)
            future.set_exception(error)
        return future

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, T],
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task = asyncio.Task(work, loop=loop, context=context)
        owner = OWNER.get() if context is None else context.get(OWNER)
        owned = self._owned.setdefault(owner, {})
        owned[task] = None
        task.add_done_callback(lambda done: owned.pop(done, None))
        return task


class _PassingTime(selectors.SelectSelector):
    """Instead of waiting for I/O, lets the time pass until the next timer."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Idle("nothing will ever happen again")
        self._loop.seconds += max(timeout, 0.0)
        return []


class SimulatedClock:
    """The loop's time as a date, which an administrator may set."""

    def __init__(self, begin: Instant, loop: SimulatedLoop) -> None:
        self._begin = begin
        self._loop = loop
        self._ahead_s = 0.0

    def now(self) -> Instant:
        """Return the date."""
        return after(self._begin, self._loop.seconds + self._ahead_s)

    def monotonic_s(self) -> float:
        """Return seconds that no jump touches."""
        return self._loop.seconds

    def jump(self, seconds: float) -> None:
        """Set the date forwards or back."""
        self._ahead_s += seconds


def run(make: Callable[[SimulatedLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a loop of its own; what is left over is canceled."""
    loop = SimulatedLoop()
    broken: list[Mapping[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: broken.append(context))
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(make(loop))
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert not broken, broken[0]
    return result
