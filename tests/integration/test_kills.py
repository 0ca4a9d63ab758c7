"""SIGKILL after every step of a generation's life, then a restart: the same end, paid once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.workshop import DOLLAR, PRICE

ENDS = {
    "success": ("succeeded", "captured", DOLLAR - PRICE),
    "failure": ("failed", "released", DOLLAR),
    "cancel": ("canceled", "released", DOLLAR),
}


@pytest.mark.timeout(900)
def test_a_kill_at_any_step_loses_nothing_and_pays_nothing_twice(
    database_url: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.killing", database_url, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=880,
    )

    assert done.returncode == 0, done.stderr[-3_000:]
    rounds: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    for one in rounds:
        state, hold, balance = ENDS[one["scenario"]]
        assert one["violations"] == [], one
        assert (one["state"], one["hold"], one["balance"]) == (state, hold, balance), one
        # The provider was asked for one video, however often we died.
        assert one["created"] == 1, one
    # Each scenario went from the first boundary to a run that nothing interrupted.
    for scenario in ENDS:
        numbers = [one["n"] for one in rounds if one["scenario"] == scenario]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 8
