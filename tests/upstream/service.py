"""The upstream itself: what a test says to it, and its routes.

Upstream.answer()     one call, in and out as bytes; nothing is opened
Upstream.will(), switch(), fail(), chance()     what a test says
Upstream.run_due(), next_due()                  what it does by itself as time passes
Upstream.predictions, counts, leaks, sent       what a test looks at
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from sayso.clock import Clock, Instant
from sayso.providers.scripted import Create
from tests.upstream import shapes
from tests.upstream.calls import Answer, Call, Refused, answered, spoiled
from tests.upstream.faults import CallKind, Fault, Faults
from tests.upstream.files import FileShelf
from tests.upstream.hooks import Delivery, Outside
from tests.upstream.limits import BucketName, Buckets
from tests.upstream.models import (
    MODELS,
    UpstreamModel,
    faults_of_body,
    faults_of_input,
    model_of_version,
    official,
    shown_model,
)
from tests.upstream.predictions import Predictions
from tests.upstream.runs import Run, Running, State, state_at
from tests.upstream.shapes import Place
from tests.upstream.switches import Switches

API: Final = "https://api.replicate.com/v1"
DELIVERY: Final = "https://replicate.delivery"
TOKEN: Final = "r8_the_token_of_these_tests"
SECRET: Final = "whsec_dGhlIHVwc3RyZWFtJ3Mgb3duIHdlYmhvb2sgc2VjcmV0"

_SPAN: Final = re.compile(r"(?=.)(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s?)?")
_LIFE_S: Final = (5, 86_400)
_WAIT: Final = re.compile(r"wait(?:=([1-9][0-9]?))?")
_LONGEST_WAIT_S: Final = 60
_OUTPUT_PATH: Final = re.compile(r"/xezq/([a-z0-9]{26})/out\.mp4")
_ACCOUNT: Final = {
    "type": "organization",
    "username": "acme",
    "name": "Acme Corp, Inc.",
    "github_url": "https://github.com/acme",
    "avatar_url": None,
}
# Which kind of call a method and a path are; what is not among them has to do with models.
_KINDS: Final[tuple[tuple[str, re.Pattern[str], CallKind], ...]] = (
    ("POST", re.compile(r"predictions|(?:models|deployments)/[^/]+/[^/]+/predictions"), "create"),
    ("GET", re.compile(r"predictions"), "list"),
    ("GET", re.compile(r"predictions/[^/]+"), "read"),
    ("POST", re.compile(r"predictions/[^/]+/cancel"), "cancel"),
    ("GET", re.compile(r"account"), "account"),
    ("GET", re.compile(r"webhooks/default/secret"), "secret"),
    ("GET", re.compile(r"files(?:/.*)?"), "file"),
    ("POST", re.compile(r"files"), "file"),
    ("DELETE", re.compile(r"files/[^/]+"), "file"),
)


class Upstream:
    """See the module's docstring.

    `sleep` is what a create with `Prefer: wait` waits with; by default it does not wait.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        random: Random | None = None,
        run: Run | None = None,
        switches: Switches | None = None,
        place: Place | None = None,
        token: str = TOKEN,
        models: Mapping[str, UpstreamModel] = MODELS,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.random = random or Random(0)
        self.place = place or Place(API, DELIVERY)
        self.switches = switches or Switches()
        self.token, self.secret = token, SECRET
        self.counts: Counter[CallKind] = Counter()
        self.leaks: list[str] = []
        """Addresses outside the API that were shown the token."""
        self._clock, self._models, self._sleep = clock, models, sleep
        self._run = run or Run()
        self._next: deque[Run] = deque()
        self._faults = Faults(self.random)
        self._buckets = Buckets()
        self._files = FileShelf()
        self._predictions = Predictions(
            clock,
            random=self.random,
            secret=self.secret,
            present=lambda: (self.switches, self.place),
            has_file=lambda file_id: self._files.get(file_id, now=clock.now()) is not None,
        )

    # What a test says.

    def will(self, *runs: Run) -> None:
        """Let the next predictions be these."""
        self._next.extend(runs)

    def always(self, run: Run) -> None:
        """Let every other prediction be this."""
        self._run = run

    def switch(self, **changes: Any) -> None:
        """Turn switches, by their names."""
        self.switches = replace(self.switches, **changes)

    def fail(self, kind: CallKind, *faults: Fault | None) -> None:
        """Let the next calls of this kind fail; None stands for one that does not."""
        self._faults.add(kind, *faults)

    def chance(self, kind: CallKind, fault: Fault, part: float) -> None:
        """Let this part of the calls of this kind fail so."""
        self._faults.chance(kind, fault, part)

    def recover(self) -> None:
        """End all faults."""
        self._faults.clear()

    # What a test looks at.

    @property
    def predictions(self) -> Mapping[str, Running]:
        """Every prediction that was ever created, in order."""
        return self._predictions.by_id

    @property
    def sent(self) -> list[tuple[Delivery, int | None]]:
        """Every attempt to deliver a webhook, with the status of its answer."""
        return self._predictions.schedule.sent

    def state(self, prediction_id: str) -> State:
        """Return how a prediction is."""
        return state_at(self.predictions[prediction_id], self._clock.now(), self.switches)

    def alive(self) -> list[str]:
        """Return the predictions that have not ended."""
        return [made for made in self.predictions if self.state(made).ended_at is None]

    # What it does by itself.

    def next_due(self) -> Instant | None:
        """Return when there is a webhook to send or an input to fetch; None for never."""
        return self._predictions.schedule.next_due()

    async def run_due(self, outside: Outside) -> int:
        """Send and fetch what is due by now; return how much that was."""
        schedule = self._predictions.schedule
        return await schedule.run_due(outside, self.switches, now=self._clock.now())

    # What it answers.

    async def answer(self, call: Call) -> Answer:
        """Answer a call, or fail as it was told to."""
        parts = urlsplit(call.url)
        kind, path = self._kind_of(call.method, parts.netloc, parts.path)
        self.counts[kind] += 1
        if kind == "output" and "authorization" in call.headers:
            self.leaks.append(call.url)
        fault = self._faults.draw(kind)
        if fault is not None and not fault.has_effect:
            return spoiled(Answer(200), fault)
        answer = await self._carry_out(call, kind, path, dict(parse_qsl(parts.query)))
        return answer if fault is None else spoiled(answer, fault)

    def _kind_of(self, method: str, host: str, path: str) -> tuple[CallKind, str]:
        delivery = urlsplit(self.place.delivery)
        if host == delivery.netloc and path.startswith(f"{delivery.path}/xezq/"):
            return "output", path.removeprefix(delivery.path)
        path = path.removeprefix(urlsplit(self.place.api).path).strip("/")
        for its_method, pattern, kind in _KINDS:
            if its_method == method and pattern.fullmatch(path):
                return kind, path
        return "model", path

    async def _carry_out(
        self, call: Call, kind: CallKind, path: str, query: dict[str, str]
    ) -> Answer:
        if kind == "output":
            match = _OUTPUT_PATH.fullmatch(path)
            return await self._predictions.output(match[1] if match else "")
        headers = {"content-type": "application/json", "server": "cloudflare"}
        try:
            if kind != "file" or not path.endswith("/download"):
                self._require_token(call)
            if kind != "file":
                headers |= self._take(kind)
            answer = await self._route(call, kind, path, query)
        except Refused as refused:
            answer = refused.answer
        return answer.with_headers(headers)

    async def _route(self, call: Call, kind: CallKind, path: str, query: dict[str, str]) -> Answer:
        words = path.split("/")
        match kind:
            case "create":
                answer = await self._create(call, words)
            case "list":
                answer = self._predictions.page(query)
            case "read":
                answer = answered(self._predictions.shown(self._found(words[1])))
            case "cancel":
                answer = self._predictions.cancel(words[1])
            case "file":
                answer = self._files.answer(
                    call.method,
                    words,
                    form=(call.headers.get("content-type", ""), call.body),
                    query=query,
                    new_id=self._predictions.new_id,
                    now=self._clock.now(),
                    switches=self.switches,
                    api=self.place.api,
                )
            case "account":
                answer = answered(_ACCOUNT)
            case "secret":
                answer = answered({"key": self.secret})
            case _:
                answer = self._model(call.method, words)
        return answer

    def _require_token(self, call: Call) -> None:
        given = call.headers.get("authorization", "")
        known = {f"Bearer {self.token}", f"Token {self.token}"}
        if self.switches.checks_token and given not in known:
            raise Refused(401, shapes.UNAUTHENTICATED)

    def _take(self, kind: CallKind) -> dict[str, str]:
        """Count the call; refuse it when there were too many."""
        if not self.switches.limits_rate:
            return {}
        is_low = kind == "create" and self.switches.credit == "low"
        name: BucketName = "low credit" if is_low else "other"
        if kind == "read":
            name = "look"
        elif kind == "create" and not is_low:
            name = "create"
        taken = self._buckets.take(name, now_s=self._clock.monotonic_s())
        headers = {"ratelimit-remaining": str(taken.remaining), "ratelimit-reset": "1"}
        if taken.wait_s:
            raise Refused(429, shapes.throttled(taken.wait_s, is_low=is_low), headers)
        return headers

    async def _create(self, call: Call, words: list[str]) -> Answer:
        body = call.json()
        with_version = len(words) == 1
        if faults := faults_of_body(body, with_version=with_version):
            raise Refused(422, shapes.invalid(faults))
        if with_version:
            model = model_of_version(self._models, body["version"])
        else:
            model = official(self._models, f"{words[1]}/{words[2]}")
        if self.switches.credit == "none":
            raise Refused(402, shapes.NO_CREDIT)
        if self.switches.checks_inputs and (faults := faults_of_input(model, body["input"])):
            raise Refused(422, shapes.invalid(faults))
        life_s = _life_of(call.headers)
        run = self._next.popleft() if self._next else self._run
        if run.script.create is Create.LOST_REQUEST:
            return Answer(200, fault=Fault.LOST)
        _refuse(run)
        how_many = 2 if run.script.create is Create.DOUBLED else 1
        *_, running = (
            self._predictions.begin(
                body, run, model=model.name, version=model.shown_version, life_s=life_s
            )
            for _ in range(how_many)
        )
        answer = await self._created(running, call.headers.get("prefer", ""))
        is_lost = run.script.create is Create.LOST_ANSWER
        return replace(answer, fault=Fault.SLOW) if is_lost else answer

    async def _created(self, running: Running, preference: str) -> Answer:
        match = _WAIT.fullmatch(preference) if self.switches.waits else None
        if match is None:
            return self._predictions.created_answer(running)
        wait_s = min(int(match[1] or _LONGEST_WAIT_S), _LONGEST_WAIT_S)
        if self._sleep is not None:
            await self._sleep(min(wait_s, self._predictions.left_s(running)))
        return self._predictions.waited_answer(running, wait_s)

    def _found(self, prediction_id: str) -> Running:
        """Return a prediction, invented where any id is known."""
        if self.switches.answers_any_id and prediction_id not in self.predictions:
            model = next(iter(self._models.values()))
            return self._predictions.begin(
                {"input": {}},
                self._run,
                model=model.name,
                version=model.shown_version,
                prediction_id=prediction_id,
            )
        return self._predictions.find(prediction_id)

    def _model(self, method: str, words: list[str]) -> Answer:
        match method, words:
            case "GET", ["models", owner, name, *rest]:
                return answered(shown_model(self._models.get(f"{owner}/{name}"), rest))
        raise Refused(404, shapes.NOT_FOUND)


def _refuse(run: Run) -> None:
    """Refuse a create whose script says so."""
    match run.script.create:
        case Create.REFUSED:
            raise Refused(429, shapes.throttled(int(run.script.retry_after_s), is_low=True))
        case Create.REJECTED:
            fault = shapes.fault_of("invalid_type", "input", "The input cannot be used")
            raise Refused(422, shapes.invalid([fault]))


def _life_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `Cancel-After`; refuse what is none, or too short or long."""
    given = headers.get("cancel-after")
    if given is None:
        return None
    match = _SPAN.fullmatch(given)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    life_s = hours * 3600 + minutes * 60 + seconds
    if not _LIFE_S[0] <= life_s <= _LIFE_S[1]:
        fault = shapes.fault_of("format", "Cancel-After", "Must be between 5s and 24h")
        raise Refused(422, shapes.invalid([fault]))
    return life_s
