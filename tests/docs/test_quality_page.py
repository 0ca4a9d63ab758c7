"""The page on quality names every gate with its bound, as the code has it."""

from __future__ import annotations

from typing import Final

from sayso.engine.quality import GATES
from tests.conftest import ROOT

SIGNS: Final = {"at least": ">=", "at most": "<=", "within": "+-"}


def test_page_has_each_gate_in_its_order() -> None:
    page = (ROOT / "docs" / "concepts" / "quality.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]

    assert rows == [
        f"| `{gate.figure}` | {SIGNS[gate.way]} {gate.bound:g} | {gate.meaning} |" for gate in GATES
    ]
