"""What a browser shows: files of `sayso/web`, and nothing from elsewhere.

/          the page: portrait and speech in, video out
/docs      the reference of `/api`, drawn from /openapi.json
/web/...   their style sheet, scripts and icon
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

import sayso

_FOLDER: Final = Path(sayso.__file__).parent / "web"
# A new version has to show at once; asking whether it changed costs one small answer.
_CACHING: Final = {"Cache-Control": "no-cache"}


async def _index(_request: Request) -> Response:
    return FileResponse(_FOLDER / "index.html", media_type="text/html", headers=_CACHING)


async def _docs(_request: Request) -> Response:
    return FileResponse(_FOLDER / "docs.html", media_type="text/html", headers=_CACHING)


class _Files(StaticFiles):
    """Static files that a browser asks about each time."""

    def file_response(self, *args: object, **named: object) -> Response:
        response = super().file_response(*args, **named)  # type: ignore[arg-type]  # Passed on.
        response.headers.update(_CACHING)
        return response


routes: Final[list[BaseRoute]] = [
    Route("/", _index, methods=["GET", "HEAD"]),
    Route("/docs", _docs, methods=["GET", "HEAD"]),
    Mount("/web", _Files(directory=_FOLDER), name="web"),
]
