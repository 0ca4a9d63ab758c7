"""Fetches of inputs by providers, noted beside the downloads.

An attempt's inputs reach its provider by links that carry the attempt's nonce and that nobody else
has. Whoever fetches one has the create call, whatever became of its answer: that is evidence, and
written down the first time. The download waits for nothing, and does not notice when the note
fails.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

import structlog

from sayso.errors import SaysoError
from sayso.generations.service import Generations
from sayso.ids import Nonce

log = structlog.get_logger()

_REMEMBERED: Final = 10_000
_AT_ONCE: Final = 200


class Fetches:
    """See the module's docstring."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._noted: OrderedDict[Nonce, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, nonce: Nonce) -> None:
        """Have it noted that an input of this attempt was fetched; returns at once."""
        if nonce in self._noted or len(self._tasks) >= _AT_ONCE:
            return
        self._noted[nonce] = None
        if len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)
        task = asyncio.create_task(self._note(nonce))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what is being noted."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _note(self, nonce: Nonce) -> None:
        try:
            await self._generations.note_fetch(nonce)
        except SaysoError as error:
            self._noted.pop(nonce, None)
            log.warning("a fetch was not noted", code=error.code)
