"""Logs: events with ids, one to a line, on standard error.

`set_up_logs` is called once by a command that runs for long. Whoever has something to say asks
`structlog.get_logger(...)` and names an event and its ids; no secrets, signed links or speech text.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog

from sayso.settings import Settings

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def set_up_logs(settings: Settings) -> None:
    """Write events of the settings' level and above, in their format."""
    level = _LEVELS[settings.log_level]
    is_json = settings.log_format == "json"
    last: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if is_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # What libraries have to say; httpx would print URLs, and with them signatures.
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr)
