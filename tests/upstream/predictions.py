"""The upstream's predictions: begun by a create, shown as the clock has them, told of by webhooks.

Predictions.begin(), created_answer()        a create
Predictions.shown(), page(), cancel()        looks, lists, cancels
Predictions.output()                         the video, at the output host
Predictions.told(), fetch_inputs()           what the schedule asks for
"""

from __future__ import annotations

from base64 import b64encode
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from datetime import datetime
from random import Random
from typing import Any, Final
from urllib.parse import urlencode

from sayso.clock import SECOND, Clock, Instant, after, from_datetime
from tests.upstream import shapes
from tests.upstream.calls import Answer, Refused, answered
from tests.upstream.hooks import Event, Outside, Schedule
from tests.upstream.paging import page_of
from tests.upstream.runs import Run, Running, State, end_of, state_at
from tests.upstream.shapes import Place
from tests.upstream.switches import Switches
from tests.upstream.videos import grey_video

ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
ID_LENGTH: Final = 26

_REFUSALS: Final = 400
_REASONS: Final = {403: "Forbidden", 404: "Not Found", 410: "Gone"}
_INLINE_OUTPUT: Final = "data:video/mp4;base64," + b64encode(b"early output").decode()


class Predictions:
    """See the module's docstring. `present` gives the switches and the place as they are now."""

    def __init__(
        self,
        clock: Clock,
        *,
        random: Random,
        secret: str,
        present: Callable[[], tuple[Switches, Place]],
        has_file: Callable[[str], bool],
    ) -> None:
        self._clock, self._random = clock, random
        self._present, self._has_file = present, has_file
        self.by_id: dict[str, Running] = {}
        self._ordered: list[Running] = []
        self._hidden: list[Running] = []
        self.schedule = Schedule(
            random=random, secret=secret, body_of=self.told, fetch=self.fetch_inputs
        )

    def begin(
        self,
        body: Mapping[str, Any],
        run: Run,
        *,
        model: str,
        version: str,
        life_s: float | None = None,
        prediction_id: str | None = None,
    ) -> Running:
        """Create a prediction."""
        now, (switches, _) = self._clock.now(), self._present()
        events = body.get("webhook_events_filter")
        running = Running(
            id=prediction_id or self.new_id(),
            model=model,
            version=version,
            input=body["input"],
            run=run,
            created_at=now,
            listed_at=after(now, run.script.listed_s),
            stored_at=Instant(now + self._random.randrange(5_000, 60_000)),
            salt=self._random.randrange(1000),
            webhook=body.get("webhook"),
            events=None if events is None else tuple(events),
            deadline_at=None if life_s is None else after(now, life_s),
        )
        self.by_id[running.id] = running
        insort(self._ordered, running, key=_created)
        if running.listed_at > now:
            self._hidden.append(running)
        self.schedule.plan(running, switches)
        return running

    def new_id(self) -> str:
        """Return an id as the real service makes them."""
        return "".join(self._random.choices(ALPHABET, k=ID_LENGTH))

    def created_answer(self, running: Running) -> Answer:
        """Return what is said to a create at once."""
        switches, place = self._present()
        state = state_at(running, self._clock.now(), switches)
        body = shapes.created_of(running, state, place=place, switches=switches)
        return answered(body, 201, self._location(running))

    def waited_answer(self, running: Running, wait_s: int) -> Answer:
        """Return what is said to a create that was waited for: 202 when that was not enough."""
        switches, place = self._present()
        headers = {**self._location(running), "preference-applied": f"wait={wait_s}"}
        state = state_at(running, self._clock.now(), switches)
        if state.ended_at is None:
            body = shapes.created_of(running, state, place=place, switches=switches)
            return answered(body, 202, headers)
        if state.has_output and running.run.has_early_output:
            body = shapes.waited_of(running, _INLINE_OUTPUT, place=place, switches=switches)
        else:
            body = self.shown(running)
        return answered(body, 201, headers)

    def left_s(self, running: Running) -> float:
        """Return how long it still runs."""
        ended_at, _, _ = end_of(running, self._present()[0])
        return max(0.0, (ended_at - self._clock.now()) / SECOND)

    def find(self, prediction_id: str) -> Running:
        """Return a prediction; refuse an unknown id."""
        running = self.by_id.get(prediction_id)
        if running is None:
            raise Refused(404, shapes.NOT_FOUND)
        return running

    def shown(self, running: Running, at: Instant | None = None) -> dict[str, Any]:
        """Return a prediction as it is, or was."""
        switches, place = self._present()
        now = self._clock.now() if at is None else at
        state = state_at(running, now, switches)
        is_removed = self._is_removed(state, now)
        return shapes.prediction_of(
            running, state, place=place, switches=switches, is_removed=is_removed
        )

    def cancel(self, prediction_id: str) -> Answer:
        """Cancel a prediction; one that has ended stays as it is."""
        running, now, (switches, _) = self.find(prediction_id), self._clock.now(), self._present()
        if state_at(running, now, switches).ended_at is not None:
            if switches.cancel_of_final == "as it is":
                return answered(self.shown(running))
            raise Refused(int(switches.cancel_of_final), shapes.NOT_FOUND)
        if running.canceled_at is None:
            running.canceled_at = now
            self.schedule.plan_end(running, switches)
        body = self.shown(running)
        if switches.cancel_says == "canceled":
            body["status"] = "canceled"
        return answered(body)

    def page(self, given: Mapping[str, str]) -> Answer:
        """Return a piece of the list, for this query."""
        switches, place = self._present()
        now = self._clock.now()
        since, until = (_instant(given.get(name)) for name in ("created_after", "created_before"))
        page = page_of(
            self._listed(since, until, now) if given.get("source") != "web" else [],
            given.get("cursor"),
            size=switches.page_size,
        )
        if page is None:
            raise Refused(404, {"detail": "Invalid cursor", "status": 404})

        def link(cursor: str | None) -> str | None:
            if cursor is None:
                return None
            others = {name: value for name, value in given.items() if name != "cursor"}
            return f"{place.api}/predictions?{urlencode({'cursor': cursor, **others})}"

        results = [self.shown(running) for running in page.items]
        return answered(
            {"next": link(page.next), "previous": link(page.previous), "results": results}
        )

    def _listed(self, since: Instant | None, until: Instant | None, now: Instant) -> list[Running]:
        """Return what a list is about, the oldest first."""
        low = 0 if since is None else bisect_left(self._ordered, since, key=_created)
        high = None if until is None else bisect_left(self._ordered, until, key=_created)
        self._hidden = [running for running in self._hidden if running.listed_at > now]
        found = self._ordered[low:high]
        return [one for one in found if one.listed_at <= now] if self._hidden else found

    async def output(self, prediction_id: str) -> Answer:
        """Return the video; it is gone when the rest is."""
        switches, _ = self._present()
        running, now = self.by_id.get(prediction_id), self._clock.now()
        state = None if running is None else state_at(running, now, switches)
        if running is None or state is None or not state.has_output:
            return Answer(404, b"not found")
        output = running.run.script.output
        if output == "lost" or self._is_removed(state, now):
            return Answer(404, b"not found")
        if output == "unavailable":
            return Answer(503, b"try later")
        return Answer(200, await grey_video(running.run.video_s), {"content-type": "video/mp4"})

    def told(self, running: Running, event: Event, at: Instant) -> bytes:
        """Return what a webhook of this event says: the prediction as it was then."""
        switches, place = self._present()
        if event == "output":
            output = shapes.output_of(running, place)
            body = shapes.waited_of(running, output, place=place, switches=switches)
        else:
            body = self.shown(running, at)
        return shapes.encode(body)

    async def fetch_inputs(self, running: Running, outside: Outside) -> None:
        """Fetch what the model needs, as it starts; what cannot be had is its end."""
        switches, _ = self._present()
        if state_at(running, self._clock.now(), switches).status not in {"processing", "warming"}:
            return
        for value in running.input.values():
            if isinstance(value, str) and value.startswith(("http://", "https://")):
                running.input_error = running.input_error or await self._fetch(value, outside)
        if running.input_error is not None:
            self.schedule.plan_end(running, switches)

    async def _fetch(self, url: str, outside: Outside) -> str | None:
        """Fetch an input; return what went wrong."""
        prefix = f"{self._present()[1].api}/files/"
        try:
            if url.startswith(prefix):
                status = 200 if self._has_file(url.removeprefix(prefix)) else 404
            else:
                status = await outside.fetch(url)
        except OSError:
            return f"Input validation error: cannot connect to {url}"
        if status < _REFUSALS:
            return None
        reason = _REASONS.get(status, "Error")
        return f"Input validation error: {status} Client Error: {reason} for url: {url}"

    def _is_removed(self, state: State, now: Instant) -> bool:
        life_s = self._present()[0].removes_after_s
        ended_at = state.ended_at
        return life_s is not None and ended_at is not None and now >= after(ended_at, life_s)

    def _location(self, running: Running) -> dict[str, str]:
        return {"location": f"{self._present()[1].api}/predictions/{running.id}"}


def _instant(text: str | None) -> Instant | None:
    return None if text is None else from_datetime(datetime.fromisoformat(text))


def _created(running: Running) -> Instant:
    return running.created_at
