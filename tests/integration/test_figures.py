"""What operators watch: `/metrics` says what is held, what waits, and how generations ended."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from sayso.providers.base import Failure, FailureKind
from sayso.providers.scripted import Script
from tests.conftest import ROOT
from tests.services import MODEL, PRICE_MICROS, Service

Figures = dict[tuple[str, ...], float]
UNHEARD = Failure(FailureKind.PERMANENT, "bad_audio", "The speech is not understood.")


def figures(service: Service) -> Figures:
    """Every figure, by its name and the values of its labels."""
    text = service.http.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(text)
        for sample in family.samples
    }


@pytest.fixture
def endless(service: Service) -> Iterator[str]:
    """A generation that goes on until it is canceled."""
    service.provider.will(Script(start_s=0, run_s=600))
    generation_id = service.start()
    service.until(generation_id, lambda body: body["status"] == "processing")
    yield generation_id
    service.http.post(f"/api/generations/{generation_id}/cancel")
    service.until_final(generation_id)


def test_what_is_not_over_is_counted_with_its_age_and_its_hold(
    service: Service, endless: str
) -> None:
    first = figures(service)

    later = figures(service)

    assert first["sayso_database_up",] == 1
    assert first["sayso_generations", MODEL, "running"] == 1
    assert (first["sayso_holds_open",], first["sayso_held_micros",]) == (1, PRICE_MICROS)
    assert first["sayso_look_lag_seconds",] < 60
    age = ("sayso_generations_oldest_seconds", MODEL, "running")
    assert 0 < first[age] < later[age] < 600
    assert (first["sayso_webhooks_waiting",], first["sayso_renders_open",]) == (0, 0)
    service.http.post(f"/api/generations/{endless}/cancel")
    service.until_final(endless)
    over = figures(service)
    assert ("sayso_generations", MODEL, "running") not in over
    assert (over["sayso_holds_open",], over["sayso_held_micros",]) == (0, 0)


def test_ends_are_counted_and_what_they_brought(service: Service) -> None:
    before = figures(service)
    service.until_final(service.start())
    service.provider.will(Script(start_s=0, run_s=0, end="failed", failure=UNHEARD))
    service.until_final(service.start())

    after = figures(service)

    def grown(*name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("sayso_generations_ended_total", MODEL, "succeeded") == 1
    assert grown("sayso_generations_ended_total", MODEL, "failed") == 1
    assert grown("sayso_captured_micros_total") == PRICE_MICROS


def test_every_figure_to_watch_is_there(service: Service, endless: str) -> None:
    page = (ROOT / "docs" / "how-to" / "run-the-service.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(sayso_\w+)`", page))

    text = service.http.get("/metrics").text

    assert len(names) > 10
    assert {name for name in names if f"# HELP {name} " not in text} == set()
