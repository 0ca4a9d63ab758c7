"""What the log says, and what it keeps to itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: loggers are set up for good.
_PROGRAM = """
import sys
import structlog
from sayso.logs import set_up_logs
from sayso.settings import Settings

set_up_logs(Settings(log_format=sys.argv[1]))
log = structlog.get_logger()

def serve(headers):
    raise ValueError("an odd header")

log.info("request", path="/odd\\x1b[2J\\x00path")
log.info("request", path="/odd\\nlevel=error")
try:
    serve({"authorization": "Bearer a-key-of-somebody"})
except ValueError:
    log.exception("request broke")
"""


def said(log_format: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, log_format], capture_output=True, check=True, timeout=60
    )
    return run.stderr.decode()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_shows_where_and_not_what_was_in_the_variables(log_format: str) -> None:
    text = said(log_format)

    assert "an odd header" in text
    assert "in serve" in text or '"name": "serve"' in text
    assert "a-key-of-somebody" not in text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_a_client_wrote_neither_steers_a_terminal_nor_begins_a_line(log_format: str) -> None:
    text = said(log_format)

    assert "/odd" in text
    assert all(c.isprintable() or c == "\n" for c in text)
    assert not any(line.startswith("level=error") for line in text.splitlines())
