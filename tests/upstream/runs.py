"""What predictions do: scripts with what only Replicate's words can say, and where one is by now.

Run             what one prediction does
RUNS            runs by name; FAILURES are the texts among them, as they have been seen
Running         a prediction; `state_at()` is how it is at an instant, which follows from it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sayso.clock import SECOND, Instant, after
from sayso.providers.scripted import Script
from tests.upstream.switches import Switches

TIMED_OUT: Final = "Prediction timed out"

# Texts of `error`, word for word as people have met them.
FAILURES: Final[Mapping[str, str]] = {
    "interrupted": "Prediction interrupted; please retry (code: PA)",
    "director": "Director: unexpected error handling prediction (E6716)",
    "health_check": "Director: unexpected error handling prediction (E8765)",
    "start_error": "Director: unexpected error handling prediction (E9243)",
    "director_other": "Director: unexpected error handling prediction (E9828)",
    "stopped_early": "Director: unexpected error handling prediction (E8367)",
    "upload_failed": "Director: unexpected error handling prediction (E9825)",
    "unavailable": "Service is temporarily unavailable. Please try again later. (E004)",
    "high_demand": "Service is currently unavailable due to high demand. "
    "Please try again later. (E003)",
    "sensitive": "The input or output was flagged as sensitive. "
    "Please try again with different inputs. (E005)",
    "sensitive_traced": "The input or output was flagged as sensitive. "
    "Please try again with different inputs. (E005) (xxxxxxxxxx)",
    "nsfw": "NSFW content detected. Try running it again, or try a different prompt.",
    "vendor_credits": "The model's provider has run out of credits. (E001)",
    "vendor_key": "The model's provider refused the API key. (E002)",
    "out_of_memory": "CUDA out of memory. Tried to allocate 2.00 GiB",
    "killed": "The prediction failed for an unknown reason. "
    "It might have run out of memory. (exitcode -9)",
    "memory_code": "Prediction failed: out of memory (E1001)",
    "unknown_code": "Prediction failed for an unknown reason. (E1000)",
    "timed_out": TIMED_OUT,
    "input_forbidden": "Input validation error: 403 Client Error: Forbidden for url",
    "prompt_newlines": "Director: unexpected error handling prediction (E9243)",
    "empty": "",
}

OutputForm = Literal["string", "list", "object", "empty list"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one prediction does; `script` has its times, its end and what becomes of its create."""

    script: Script = field(default_factory=Script)
    error: str | None = None
    """The text of a failure; by default the raw text of the script's own."""
    is_error_null: bool = False
    fails_unstarted: bool = False
    """Whether it fails straight from `starting`."""
    output_form: OutputForm = "string"
    video_s: float = 10
    logs: Literal["tqdm", "frames", "none"] = "tqdm"
    has_early_output: bool = True
    """Whether a waiting create shows the output while it says `processing`."""

    def failing(self, error: str | None) -> Run:
        """Return the same run as one that fails with this text."""
        script = Script(start_s=self.script.start_s, run_s=self.script.run_s, end="failed")
        return Run(script=script, error=error, is_error_null=error is None, video_s=self.video_s)


_ORDINARY: Final = Run()
_NEVER_S: Final = 1e9

RUNS: Final[Mapping[str, Run]] = {
    "succeeds": _ORDINARY,
    "stuck_starting": Run(script=Script(start_s=_NEVER_S)),
    "stuck_processing": Run(script=Script(end="never")),
    "null_output": Run(script=Script(has_output=False)),
    "empty_list": Run(output_form="empty list"),
    "list_output": Run(output_form="list"),
    "object_output": Run(output_form="object"),
    "unknown_word": Run(script=Script(says_unknown_word=True)),
    "ignores_cancel": Run(script=Script(ignores_cancel=True)),
    "slow_cancel": Run(script=Script(cancel_s=30)),
    "output_lost": Run(script=Script(output="lost")),
    "output_unavailable": Run(script=Script(output="unavailable")),
    "canceled_by_them": Run(script=Script(end="canceled")),
    "fails_unstarted": Run(
        script=Script(end="failed"), error=FAILURES["director"], fails_unstarted=True
    ),
    "fails_without_text": _ORDINARY.failing(None),
    **{name: _ORDINARY.failing(text) for name, text in FAILURES.items()},
}


@dataclass(slots=True)
class Running:
    """A prediction; what it is like at any time follows from it."""

    id: str
    model: str
    version: str
    input: Mapping[str, Any]
    run: Run
    created_at: Instant
    listed_at: Instant
    stored_at: Instant
    """`created_at` as the second back end has it."""
    salt: int
    webhook: str | None = None
    events: tuple[str, ...] | None = None
    deadline_at: Instant | None = None
    canceled_at: Instant | None = None
    input_error: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """How a prediction is at an instant; `ended_at` is None while it runs."""

    status: str
    started_at: Instant | None
    ended_at: Instant | None = None
    error: str | None = None
    has_output: bool = False
    part_done: float = 0


def state_at(running: Running, now: Instant, switches: Switches) -> State:
    """Return how a prediction is at this instant."""
    started_at = started_at_of(running)
    ended_at, status, error = end_of(running, switches)
    has_started = started_at <= now
    if ended_at <= now:
        never_ran = status == "aborted" or (status == "failed" and running.run.fails_unstarted)
        if status == "canceled" and ended_at < started_at:
            # Recorded: started and completed within the same moment.
            return State(status, Instant(ended_at - 3), ended_at)
        has_output = status == "succeeded" and running.run.script.has_output
        shown_at = None if never_ran else started_at
        return State(status, shown_at, ended_at, error, has_output, 1.0)
    if not has_started or running.run.fails_unstarted:
        return State("starting", None)
    script = running.run.script
    part = min(0.99, (now - started_at) / max(script.run_s * SECOND, 1))
    return State(
        "warming" if script.says_unknown_word else "processing", started_at, part_done=part
    )


def started_at_of(running: Running) -> Instant:
    """Return when it begins to work."""
    return after(running.created_at, running.run.script.start_s)


def end_of(running: Running, switches: Switches) -> tuple[Instant, str, str | None]:
    """Return when it ends, how, and with which text; of two at once its own end wins."""
    script = running.run.script
    started_at = started_at_of(running)
    limit_at = after(started_at, switches.run_limit_s)
    ends: list[tuple[Instant, int, str, str | None]] = [(limit_at, 1, "failed", TIMED_OUT)]
    if running.input_error is not None:
        ends.append((started_at, 0, "failed", running.input_error))
    elif script.end != "never":
        error = _error_of(running.run) if script.end == "failed" else None
        ends.append((after(started_at, script.run_s), 0, script.end, error))
    if running.canceled_at is not None and not script.ignores_cancel:
        ends.append((after(running.canceled_at, script.cancel_s), 2, "canceled", None))
    deadline_at = running.deadline_at
    if deadline_at is not None:
        ends.append((deadline_at, 3, "aborted" if deadline_at < started_at else "canceled", None))
    ended_at, _, status, error = min(ends, key=lambda end: end[:2])
    return ended_at, status, error


def _error_of(run: Run) -> str | None:
    if run.is_error_null:
        return None
    failure = run.script.failure
    if run.error is None and failure is not None:
        return failure.raw or failure.text
    return run.error or ""
