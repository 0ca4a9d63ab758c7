"""What a browser shows: files of `sayso/web`, and nothing from elsewhere.

/          the page: portrait and speech in, video out
/docs      the reference of `/api`, drawn from /openapi.json
/web/...   their style sheets, scripts, icons and the sample

Texts are sent compressed: a first visit moves a third of what the files hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

import sayso

_FOLDER: Final = Path(sayso.__file__).parent / "web"
# A new version has to show at once; asking whether it changed costs one small answer.
_CACHING: Final = {"Cache-Control": "no-cache"}
_TEXTS: Final = (".css", ".js", ".svg")
_COMPRESSED: Final = [Middleware(GZipMiddleware)]


async def _index(_request: Request) -> Response:
    return FileResponse(_FOLDER / "index.html", media_type="text/html", headers=_CACHING)


async def _docs(_request: Request) -> Response:
    return FileResponse(_FOLDER / "docs.html", media_type="text/html", headers=_CACHING)


class _Files(StaticFiles):
    """Static files that a browser asks about each time; pictures and sound as they are."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory)
        self._compressed = GZipMiddleware(super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one file."""
        is_text = scope["path"].endswith(_TEXTS)
        await (self._compressed if is_text else super().__call__)(scope, receive, send)

    def file_response(self, *args: object, **named: object) -> Response:
        response = super().file_response(*args, **named)  # type: ignore[arg-type]  # Passed on.
        response.headers.update(_CACHING)
        # The ETag says the same and more.
        del response.headers["Last-Modified"]
        if str(response.media_type).startswith("text/"):
            del response.headers["Accept-Ranges"]
        return response


routes: Final[list[BaseRoute]] = [
    Route("/", _index, methods=["GET", "HEAD"], middleware=_COMPRESSED),
    Route("/docs", _docs, methods=["GET", "HEAD"], middleware=_COMPRESSED),
    Mount("/web", _Files(directory=_FOLDER), name="web"),
]
