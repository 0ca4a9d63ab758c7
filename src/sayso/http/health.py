"""How the service is, for supervisors and for Prometheus.

    /livez     the event loop turns; nothing else is asked
    /readyz    it can take work: the database takes a write, the disk has room, nobody stops it
    /metrics   figures in Prometheus' text format; `figures.py` reads those of the database

A provider that is down does not make us unready: generations wait for it.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import Final

import prometheus_client
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sayso.errors import SaysoError
from sayso.http.doors import Doors, Shared
from sayso.http.errors import problems
from sayso.http.figures import figures_of

_PROBE_S: Final = 1
_BALLAST_BYTES: Final = 64 << 20


async def _livez(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


livez: Final = Route("/livez", _livez, methods=["GET", "HEAD"])

router: Final = APIRouter(tags=["health"])


class Readiness(BaseModel):
    """Whether work can be taken, and what stands in the way."""

    ready: bool
    problems: list[str]


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not now."}})
async def readyz(doors: Shared, response: Response) -> Readiness:
    """Say whether this process can take work."""
    found = await _problems(doors)
    response.status_code = 503 if found else 200
    return Readiness(ready=not found, problems=found)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={**problems()},
)
async def metrics(doors: Shared) -> Response:
    """Give the figures of this process, and of what the database holds."""
    text = prometheus_client.generate_latest(doors.measures.registry)
    text += prometheus_client.generate_latest(await figures_of(doors))
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _problems(doors: Doors) -> list[str]:
    if doors.closing.is_set():
        return ["The service is stopping."]
    found = []
    try:
        async with asyncio.timeout(_PROBE_S):
            # A write that changes nothing still takes its turn in the writer's queue.
            await doors.services.db.write(lambda tx: tx.exec_driver_sql("SELECT 1").scalar_one())
    except (SaysoError, TimeoutError):
        found.append("The database does not take a write within a second.")
    free = await asyncio.to_thread(shutil.disk_usage, doors.settings.data)
    if free.free < _BALLAST_BYTES:
        found.append("The disk of the data folder is nearly full.")
    return found
