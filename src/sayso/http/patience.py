"""How long and how large a request may be before it is one.

    PatientProtocol    uvicorn's own protocol, with an end to its patience

uvicorn waits for the head of a request for ever, and takes as much of it as comes. So a thousand
connections that begin a request and say no more would be all that a process may open, and a head
of some megabytes would hold the event loop for seconds: both before anybody has shown a key. The
same goes for the fields that may follow a body in chunks. The middleware (`edge.py`) bounds bodies
and nothing else.

A body that was refused before it had arrived may still come for a while, as many clients read the
answer only then.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PatientProtocol(HttpToolsProtocol):
    """One connection."""

    head_s: ClassVar[float] = 10
    head_bytes: ClassVar[int] = 64 << 10
    rest_s: ClassVar[float] = 60

    _patience: asyncio.TimerHandle | None = None
    _is_whole = True  # The request that came last.
    _is_answered = True
    _has_moved = False
    _fields_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As uvicorn's.
        """Wait for the first request."""
        super().connection_made(transport)
        self._be_patient(self.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what comes; refuse a head that is still not over, and close on endless fields."""
        self._has_moved = False
        super().data_received(data)
        self._fields_bytes = 0 if self._has_moved else self._fields_bytes + len(data)
        if self._fields_bytes <= self.head_bytes or self.transport.is_closing():
            return
        if self._is_whole and self._is_answered:
            self.send_400_response("The head of this request is too large.")
        else:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Leave the request to the application, which has limits of its own."""
        self._is_whole = self._is_answered = False
        self._has_moved = True
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Leave it to the application."""
        self._has_moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request, if this one was answered before it was whole."""
        super().on_message_complete()
        self._is_whole = self._has_moved = True
        if self._is_answered:
            self._be_patient(self.head_s)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        super().on_response_complete()
        if not self.cycle.response_complete:
            return  # The next one is here already.
        self._is_answered = True
        self._be_patient(self.head_s if self._is_whole else self.rest_s)

    def _be_patient(self, seconds: float) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(seconds, self._lose_patience)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
