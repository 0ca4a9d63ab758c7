"""How the command line speaks: a live bar on a terminal, plain lines otherwise, or JSON.

Progress, notices and errors go to standard error, results to standard output, so that
`sayso ... --json | jq` and `sayso ... > cues.json` work while a person still sees what happens.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sayso.errors import Notice

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as LiveProgress
    from rich.progress import TaskID

PLAIN_STEP_PERCENT = 10
TIMES_FROM_COLUMNS = 60


class Terminal:
    """One command's way to tell the user things; a context manager that ends the live bar.

    `quiet` leaves only results and errors, `as_json` makes the result one JSON object.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self._as_json = as_json
        self._quiet = quiet
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_progress()

    def progress(self, stage: str, percent: float) -> None:
        """Show how far a stage is, 0 to 100."""
        if self._quiet:
            return
        if self._bar is None:
            self._bar = _bar_for_standard_error()
        self._bar.show(stage, percent)

    def end_progress(self) -> None:
        """Take the live bar away, so that what follows stands on lines of its own."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def note(self, notices: Iterable[Notice]) -> None:
        """Tell the user what did not stop the work."""
        self.end_progress()
        if self._quiet:
            return
        for notice in notices:
            print(f"note: {notice.text}", file=sys.stderr)

    def say(self, text: str) -> None:
        """Print a line for a person; nothing when quiet."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def result(self, text: str, facts: Mapping[str, object]) -> None:
        """Print what came out: a sentence for a person, or the facts as one JSON object."""
        self.end_progress()
        if self._as_json:
            _print_json(facts)
        elif not self._quiet:
            print(text, flush=True)

    def error(self, code: str, text: str) -> None:
        """Print an error; with `as_json` also as an object on standard output."""
        self.end_progress()
        if self._as_json:
            _print_json({"error": text, "code": code})
        print(f"error: {text}", file=sys.stderr)


def _print_json(facts: Mapping[str, object]) -> None:
    """Print one line of JSON in ASCII: any terminal and any pipe takes it, whatever names say."""
    print(json.dumps(facts), flush=True)


class _Bar:
    """What the two ways to show progress share."""

    def show(self, stage: str, percent: float) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held open."""


def _bar_for_standard_error() -> _Bar:
    if not sys.stderr.isatty():
        return _PlainLines()
    from rich.console import Console

    console = Console(stderr=True)
    # Such a terminal cannot move its cursor: rich would be silent until the end.
    return _PlainLines() if console.is_dumb_terminal else _LiveBar(console)


class _LiveBar(_Bar):
    """A bar that moves, by rich; with its times where there is room for them."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            ProgressColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns: list[ProgressColumn] = [
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TaskProgressColumn(),
        ]
        if console.width >= TIMES_FROM_COLUMNS:
            columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        self._progress: LiveProgress = Progress(*columns, console=console)
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def show(self, stage: str, percent: float) -> None:
        if stage not in self._tasks:
            self._finish()
            self._tasks[stage] = self._progress.add_task(stage, total=100)
        self._progress.update(self._tasks[stage], completed=percent)

    def close(self) -> None:
        self._progress.stop()

    def _finish(self) -> None:
        """End the stage before: it is over when the next one begins."""
        for task in self._tasks.values():
            self._progress.update(task, completed=100)


class _PlainLines(_Bar):
    """A line for each tenth, for logs and pipes."""

    def __init__(self) -> None:
        self._stage = ""
        self._told = -1

    def show(self, stage: str, percent: float) -> None:
        step = int(percent // PLAIN_STEP_PERCENT)
        if stage != self._stage or step > self._told:
            self._stage, self._told = stage, step
            print(f"{stage} {step * PLAIN_STEP_PERCENT} %", file=sys.stderr, flush=True)
