"""A provider that does what it is told: the shipped fake, for tests, benchmarks and rehearsals.

It makes no video of anybody: a success is a grey picture with silence, as long as the speech. What
a prediction does is written in a `Script` and happens by the clock, so with a `SettableClock`
nothing sleeps:

    provider = ScriptedProvider(clock, Script(run_s=20))        # every prediction
    provider.will(Script(create=Create.LOST_ANSWER))            # the next one only
    provider.fail_reads(3, ProviderTimedOut("..."))             # the next three looks
    provider.hold_calls(); provider.resume_calls()              # every call hangs meanwhile
    provider.counts                                             # calls by kind: create, read, ...

`on_created` is awaited while the create call is still out, which is when a fast callback comes.
A callback about a prediction is `callback_body(id)`, signed with its `callback_secret`.
With `journal` it remembers its predictions across the death of the process, as a real one would.
With `answers_any_id` it knows every id it is asked for. It passes the contract suite of providers.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

import numpy as np

from sayso.clock import SECOND, Clock, Instant, after
from sayso.engine.mux import write_video
from sayso.errors import (
    OutputLost,
    ProviderError,
    ProviderRejected,
    ProviderTimedOut,
    ProviderUnavailable,
)
from sayso.ids import Nonce, ProviderId
from sayso.providers.base import (
    Attempt,
    Failure,
    FailureKind,
    LipSyncInputs,
    Prediction,
    PredictionStatus,
    ProviderTraits,
)

TRAITS: Final = ProviderTraits(name="scripted", label="Scripted", reads_per_call=100)

_GREY: Final = np.full((64, 64, 3), 128, np.uint8)
_FPS: Final = 10


class Create(StrEnum):
    """What becomes of a create call."""

    ANSWERED = "answered"
    LOST_REQUEST = "lost_request"
    """It never arrives; the caller sees a time-out."""
    LOST_ANSWER = "lost_answer"
    """The prediction runs; the caller sees a time-out."""
    DOUBLED = "doubled"
    """The prediction runs twice; the caller learns of one of them."""
    REFUSED = "refused"
    """429: nothing was created, later perhaps."""
    REJECTED = "rejected"
    """422: it will never be taken."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """What one prediction does; times count from its creation, `run_s` from its start."""

    create: Create = Create.ANSWERED
    retry_after_s: float = 5
    start_s: float = 1
    run_s: float = 10
    end: Literal["succeeded", "failed", "canceled", "never"] = "succeeded"
    failure: Failure | None = None
    has_output: bool = True
    measures: bool = False
    """Whether it says how many per cent are done."""
    says_unknown_word: bool = False
    """Whether it calls `processing` something that nobody knows."""
    ignores_cancel: bool = False
    """Whether a cancel has no effect, so that a late success follows."""
    cancel_s: float = 0
    """Time that a cancel takes."""
    cost_micros: int | None = 0
    """What it charges when it has ended; None where it does not say."""
    output: Literal["there", "lost", "unavailable"] = "there"
    listed_s: float = 0
    """Time until a search finds it."""


@dataclass(slots=True)
class _Running:
    """A prediction of the script, from which its state at any time follows."""

    id: ProviderId
    nonce: Nonce
    created_at: Instant
    script: Script
    speech_s: float
    canceled_at: Instant | None = None


@dataclass
class _Faults:
    reads: deque[ProviderError] = field(default_factory=deque)
    cancels: deque[ProviderError] = field(default_factory=deque)


class ScriptedProvider:
    """See the module's docstring."""

    def __init__(
        self,
        clock: Clock,
        script: Script | None = None,
        *,
        traits: ProviderTraits = TRAITS,
        journal: Path | None = None,
        answers_any_id: bool = False,
    ) -> None:
        self._clock = clock
        self._script = script or Script()
        self._next: deque[Script] = deque()
        self._faults = _Faults()
        self._by_id: dict[ProviderId, _Running] = {}
        self._by_nonce: dict[Nonce, list[_Running]] = {}
        self._journal = journal
        self._answers_any_id = answers_any_id
        self._open = asyncio.Event()
        self._open.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.traits = traits
        self.counts: Counter[str] = Counter()
        self.callback_secret = new_callback_secret()
        self.on_created: Callable[[Nonce, ProviderId], Awaitable[None]] | None = None
        if journal is not None and journal.exists():
            self._remember(journal)

    # What a test says.

    def will(self, *scripts: Script) -> None:
        """Use these scripts, in this order, for the next creates."""
        self._next.extend(scripts)

    def fail_reads(self, times: int, error: ProviderError) -> None:
        """Let the next looks raise."""
        self._faults.reads.extend([error] * times)

    def fail_cancels(self, times: int, error: ProviderError) -> None:
        """Let the next cancels raise."""
        self._faults.cancels.extend([error] * times)

    def hold_calls(self) -> None:
        """Let every call hang until `resume_calls`."""
        self._open.clear()

    def resume_calls(self) -> None:
        """Answer again, the calls that hang included; from any thread."""
        if self._loop is not None and self._loop.is_running() and not _is_on_a_loop():
            self._loop.call_soon_threadsafe(self._open.set)
        else:
            self._open.set()

    @property
    def created(self) -> Mapping[ProviderId, Nonce]:
        """Every prediction that was ever created, in order."""
        return {running.id: running.nonce for running in self._by_id.values()}

    def paid_micros(self) -> int:
        """Return what all predictions have cost so far."""
        return sum(self._look(running).cost_micros or 0 for running in self._by_id.values())

    # What a provider does.

    async def submit(self, attempt: Attempt, inputs: LipSyncInputs) -> Prediction:
        """Create a prediction as the next script has it."""
        self.counts["create"] += 1
        await self._answering()
        earlier = self._by_nonce.get(attempt.nonce)
        if self.traits.submit_is_idempotent and earlier:
            return self._look(earlier[0])
        script = self._next.popleft() if self._next else self._script
        match script.create:
            case Create.LOST_REQUEST:
                raise ProviderTimedOut("The provider did not answer.")
            case Create.REFUSED:
                raise ProviderUnavailable("Try later.", retry_after_s=script.retry_after_s)
            case Create.REJECTED:
                raise ProviderRejected("The provider cannot use these inputs.", raw="422")
            case Create.DOUBLED:
                self._create(attempt.nonce, script, inputs.speech_s)
        running = self._create(attempt.nonce, script, inputs.speech_s)
        if self.on_created is not None:
            await self.on_created(running.nonce, running.id)
        if script.create is Create.LOST_ANSWER:
            raise ProviderTimedOut("The provider did not answer.")
        return self._look(running)

    async def fetch_many(self, ids: Sequence[ProviderId]) -> Mapping[ProviderId, Prediction]:
        """Look at predictions; a call covers `reads_per_call` of them."""
        self.counts["read"] += -(-len(ids) // self.traits.reads_per_call)
        self.counts["looks"] += len(ids)
        await self._answering()
        if self._faults.reads:
            raise self._faults.reads.popleft()
        if self._answers_any_id:
            return {identifier: self._look(self._known(identifier)) for identifier in ids}
        known = ((identifier, self._by_id.get(identifier)) for identifier in ids)
        return {identifier: self._look(running) for identifier, running in known if running}

    async def find(self, nonce: Nonce, *, since: Instant) -> Prediction | None:
        """Search for a nonce among what is listed by now."""
        self.counts["find"] += 1
        await self._answering()
        if self._faults.reads:
            raise self._faults.reads.popleft()
        now = self._clock.now()
        for running in self._by_nonce.get(nonce, ()):
            listed_at = after(running.created_at, running.script.listed_s)
            if running.created_at >= since and listed_at <= now:
                return self._look(running)
        return None

    async def cancel(self, provider_id: ProviderId) -> None:
        """Cancel a prediction, unless it has ended or ignores that."""
        self.counts["cancel"] += 1
        await self._answering()
        if self._faults.cancels:
            raise self._faults.cancels.popleft()
        running = self._by_id.get(provider_id)
        if running is None or running.script.ignores_cancel or running.canceled_at is not None:
            return
        running.canceled_at = self._clock.now()
        self._write("cancel", running)

    async def save_output(self, provider_id: ProviderId, output: str, target: Path) -> None:
        """Write a grey video that is as long as the speech."""
        self.counts["save"] += 1
        await self._answering()
        running = self._known(provider_id)
        if output != _output_of(running) or running.script.output == "lost":
            raise OutputLost("The provider no longer has the video.")
        if running.script.output == "unavailable":
            raise ProviderUnavailable("Try later.", retry_after_s=running.script.retry_after_s)
        await asyncio.to_thread(write_grey_video, target, running.speech_s)

    async def callback_secrets(self) -> Sequence[str]:
        """Tell with which secret callbacks are signed."""
        self.counts["secret"] += 1
        await self._answering()
        if self._faults.reads:
            raise self._faults.reads.popleft()
        return [self.callback_secret]

    def prediction_of(self, body: bytes) -> ProviderId | None:
        """Return the id in a callback's body."""
        try:
            told = json.loads(body)
        except ValueError:
            return None
        return ProviderId(told["id"]) if isinstance(told, dict) and "id" in told else None

    def callback_body(self, provider_id: ProviderId) -> bytes:
        """Return what a callback about a prediction says now."""
        seen = self._look(self._known(provider_id))
        return json.dumps({"id": seen.provider_id, "status": seen.status}).encode()

    # How it works.

    async def _answering(self) -> None:
        """Hang while calls are held."""
        self._loop = asyncio.get_running_loop()
        await self._open.wait()

    def _create(self, nonce: Nonce, script: Script, speech_s: float) -> _Running:
        identifier = ProviderId(f"scripted-{nonce[:12]}-{len(self._by_id)}")
        running = _Running(identifier, nonce, self._clock.now(), script, speech_s)
        self._keep(running)
        self._write("create", running)
        return running

    def _keep(self, running: _Running) -> None:
        self._by_id[running.id] = running
        self._by_nonce.setdefault(running.nonce, []).append(running)

    def _known(self, identifier: ProviderId) -> _Running:
        """Return a prediction, invented if need be."""
        running = self._by_id.get(identifier)
        if running is None:
            nonce = Nonce(f"invented-{identifier}")
            running = _Running(identifier, nonce, self._clock.now(), self._script, 1.0)
            self._keep(running)
        return running

    def _look(self, running: _Running) -> Prediction:
        """Say what a prediction is like by now."""
        script, now = running.script, self._clock.now()
        started_at = after(running.created_at, script.start_s)
        finished_at = after(started_at, script.run_s)
        canceled_at = running.canceled_at
        if canceled_at is not None:
            canceled_at = after(canceled_at, script.cancel_s)
        is_over = script.end != "never" and finished_at <= now
        if (
            canceled_at is not None
            and canceled_at <= now
            and not (finished_at <= canceled_at and is_over)
        ):
            return self._ended(running, PredictionStatus.CANCELED, started_at, canceled_at)
        if is_over:
            return self._ended(running, PredictionStatus(script.end), started_at, finished_at)
        if started_at > now:
            return Prediction(provider_id=running.id, status=PredictionStatus.STARTING)
        percent = None
        if script.measures:
            percent = min(99, int(100 * (now - started_at) / max(script.run_s * SECOND, 1)))
        word = PredictionStatus.UNKNOWN if script.says_unknown_word else PredictionStatus.PROCESSING
        return Prediction(
            provider_id=running.id,
            status=word,
            percent=percent,
            stage="rendering",
            started_at=started_at,
        )

    def _ended(
        self, running: _Running, status: PredictionStatus, started_at: Instant, ended_at: Instant
    ) -> Prediction:
        script = running.script
        ended = Prediction(
            provider_id=running.id,
            status=status,
            cost_micros=script.cost_micros,
            started_at=min(started_at, ended_at),
            finished_at=ended_at,
        )
        if status is PredictionStatus.SUCCEEDED:
            return replace(ended, output=_output_of(running) if script.has_output else None)
        if status is PredictionStatus.FAILED:
            return replace(ended, failure=script.failure or _BAD_LUCK)
        return ended

    def _write(self, what: Literal["create", "cancel"], running: _Running) -> None:
        if self._journal is None:
            return
        line = {
            "what": what,
            "id": running.id,
            "nonce": running.nonce,
            "at": running.created_at if what == "create" else running.canceled_at,
            "speech_s": running.speech_s,
        }
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(line) + "\n")

    def _remember(self, journal: Path) -> None:
        """Read the predictions of an earlier process; they follow the present script."""
        for line in journal.read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            if told["what"] == "create":
                self._keep(
                    _Running(told["id"], told["nonce"], told["at"], self._script, told["speech_s"])
                )
            else:
                self._by_id[told["id"]].canceled_at = told["at"]


_BAD_LUCK: Final = Failure(
    FailureKind.PERMANENT, "provider_failed", "The provider could not make the video.", "scripted"
)


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _output_of(running: _Running) -> str:
    return f"scripted:{running.id}"


def new_callback_secret() -> str:
    """Return a secret as the Standard Webhooks scheme writes it."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"


def write_grey_video(target: Path, seconds: float) -> None:
    """Write an MP4 of a grey picture with silence."""
    n_frames = max(1, round(seconds * _FPS))

    def frames() -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        for _ in range(n_frames):
            yield _GREY

    write_video(target, frames(), (), fps=_FPS, size=(64, 64), n_frames=n_frames)
