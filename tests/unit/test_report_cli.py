"""The spend report as text and as JSON."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from sayso.cli import run
from sayso.generations.spend import Line, Spend, Sums, Unmatched, Unmatches
from sayso.ids import GenerationId
from sayso.report_cli import _spend_facts, _spend_text

NONE = Unmatches(0, 0, ())
SPEND = Spend(
    lines=(
        Line(
            date(2026, 11, 1),
            "wan-video/wan-2.2-s2v",
            Sums(succeeded=12, failed=1, captured=2_400_000, cost=2_430_000, losses=30_000),
        ),
        Line(date(2026, 11, 2), "a/b", Sums(canceled=3, unknown=7)),
    ),
    captured_without_cost=NONE,
    cost_without_capture=Unmatches(1, 30_000, (Unmatched(GenerationId("g1"), 2, "a/b", 30_000),)),
    cost_unknown=Unmatches(
        7, 0, tuple(Unmatched(GenerationId(f"g{n}"), 1, "a/b", None) for n in range(7))
    ),
)


def test_the_text_is_a_table_with_what_is_unmatched_below() -> None:
    assert _spend_text(SPEND).splitlines() == [
        (
            "day         model                  done  failed  canceled"
            "  captured   cost  unknown   lost  margin"
        ),
        (
            "2026-11-01  wan-video/wan-2.2-s2v    12       1         0"
            "     $2.40  $2.43        0  $0.03  -$0.03"
        ),
        (
            "2026-11-02  a/b                       0       0         3"
            "     $0.00  $0.00        7  $0.00   $0.00"
        ),
        (
            "total                                12       1         3"
            "     $2.40  $2.43        7  $0.03  -$0.03"
        ),
        "cost without a capture or a loss: 1 ($0.03): g1 (2)",
        "attempts whose cost is unknown: 7: g0 (1), g1 (1), g2 (1), g3 (1), g4 (1), ...",
    ]


def test_the_facts_have_whole_micros_beside_dollars() -> None:
    facts = json.loads(json.dumps(_spend_facts(SPEND)))

    assert facts["lines"][0] == {
        "day": "2026-11-01",
        "model": "wan-video/wan-2.2-s2v",
        "succeeded": 12,
        "failed": 1,
        "canceled": 0,
        "cost_unknown": 0,
        "captured": "2.40",
        "cost": "2.43",
        "losses": "0.03",
        "margin": "-0.03",
        "captured_micros": 2_400_000,
        "cost_micros": 2_430_000,
        "losses_micros": 30_000,
        "margin_micros": -30_000,
    }
    assert facts["total"]["succeeded"] == 12
    assert facts["total"]["cost_unknown"] == 7
    assert facts["cost_unknown"]["newest"][0]["amount_micros"] is None
    assert facts["cost_unknown"]["count"] == len(facts["cost_unknown"]["newest"]) == 7
    assert facts["cost_without_capture"]["newest"][0]["prediction_id"] == "g1"


def test_a_day_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["report", "spend", "--since", "yesterday", "--data", str(tmp_path)])

    assert code == 2
    assert "'yesterday' is not a day" in capsys.readouterr().err


def test_a_new_installation_has_nothing_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["report", "spend", "--until", "2026-11-30", "--data", str(tmp_path)])

    assert code == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        *("total", "0", "0", "0", "$0.00", "$0.00", "0", "$0.00", "$0.00")
    ]
