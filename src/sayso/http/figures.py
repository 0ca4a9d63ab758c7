"""What the installation does, for Prometheus: read from the database whenever somebody asks.

figures_of()    the families of `/metrics` that this process does not count at its edge

The first ones are the same whichever process is asked; those that end in `_total`, and the lag,
are this process's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sayso.clock import Instant
from sayso.credits import store as ledger
from sayso.credits.rules import Micros
from sayso.db.tx import Tx
from sayso.errors import DatabaseUnavailable
from sayso.generations.census import Standing, census
from sayso.http.doors import Doors
from sayso.providers import renders
from sayso.providers.base import TellsTrouble
from sayso.reconciler import Figures
from sayso.webhooks import store as outbox


async def figures_of(doors: Doors) -> CollectorRegistry:
    """Return the figures of this moment; without a database those that need none."""
    registry = CollectorRegistry()
    registry.register(_Families([*await _in_database(doors), *_in_process(doors)]))
    return registry


class _Families(Collector):
    """Families that are at hand already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


@dataclass(frozen=True, slots=True)
class _Sight:
    """What the database holds that is not over."""

    standing: list[Standing]
    holds: int
    held: Micros
    renders: int
    webhooks: int


def _look(tx: Tx, now: Instant) -> _Sight:
    holds, held = ledger.count_held(tx)
    return _Sight(
        standing=census(tx, now=now),
        holds=holds,
        held=held,
        renders=renders.count_open(tx),
        webhooks=outbox.count_waiting(tx),
    )


async def _in_database(doors: Doors) -> list[Metric]:
    services = doors.services
    now = services.clock.now()
    try:
        sight = await services.db.snapshot(lambda tx: _look(tx, now))
    except DatabaseUnavailable:
        return [_gauge("sayso_database_up", "Whether the database answers.", 0)]
    counts = _by("sayso_generations", "Generations that are not over.", "model", "state")
    oldest = _by("sayso_generations_oldest_seconds", "Age of the oldest one.", "model", "state")
    for one in sight.standing:
        counts.add_metric([one.model, one.state], one.count)
        oldest.add_metric([one.model, one.state], one.oldest_s)
    return [
        _gauge("sayso_database_up", "Whether the database answers.", 1),
        counts,
        oldest,
        _gauge("sayso_holds_open", "Holds that are neither captured nor released.", sight.holds),
        _gauge("sayso_held_micros", "What they hold.", sight.held),
        _gauge("sayso_renders_open", "Renders of our own that wait or run.", sight.renders),
        _gauge("sayso_webhooks_waiting", "Webhooks that are not delivered.", sight.webhooks),
    ]


def _in_process(doors: Doors) -> list[Metric]:
    services = doors.services
    trouble = _by(
        "sayso_provider_in_trouble",
        "Whether a provider refuses us or does not answer; the log says why.",
        "provider",
    )
    for name, provider in services.providers.items():
        if isinstance(provider, TellsTrouble):
            trouble.add_metric([name], provider.trouble is not None)
    reconciler = services.reconciler
    return [trouble, *([] if reconciler is None else _of_reconciler(reconciler.figures))]


def _of_reconciler(figures: Figures) -> list[Metric]:
    ended = CounterMetricFamily(
        "sayso_generations_ended", "How generations ended.", labels=("model", "status")
    )
    for (model, state), count in figures.ended.counts.items():
        ended.add_metric([model, state.value], count)
    captured = CounterMetricFamily("sayso_captured_micros", "What customers paid for videos.")
    captured.add_metric([], figures.ended.captured_micros)
    return [
        ended,
        captured,
        _gauge("sayso_look_lag_seconds", "How late the latest looks were.", figures.lag_s),
    ]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)
