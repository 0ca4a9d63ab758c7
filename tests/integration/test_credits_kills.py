"""SIGKILL at every step boundary of every ledger operation, on both databases."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.timeout(900)
def test_a_killed_process_leaves_a_sound_ledger(database_url: str) -> None:
    """See `tests/ledger_victim.py`, which forks a victim for each boundary."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.ledger_victim", database_url],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)

    assert report["wrong"] == [], ended.stderr
    assert len(report["boundaries"]) == 5
    assert sum(report["boundaries"].values()) >= 29
