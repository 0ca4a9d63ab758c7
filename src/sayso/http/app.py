"""The application: every door on one set of services.

    make_app()    the ASGI application; its lifespan runs the event hub
    begin_closing()    end streams and waits, so that the server can stop

From the outside in: `Edge` (id, headers, log, figures, last net), `Gate` (who may come in),
`BodyLimit`, then the routes. The hottest come first and go around FastAPI: the check, the streams,
and `/livez`, which is also what benchmarks compare with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.routing import APIRoute

from sayso import __version__
from sayso.http import (
    api,
    auth,
    callbacks,
    check,
    events,
    files,
    health,
    orders,
    page,
    previews,
    replicate,
    thumbnails,
    uploads,
)
from sayso.http.auth import Access, Gate
from sayso.http.callbacks import CallbackDoor
from sayso.http.doors import Doors
from sayso.http.edge import BodyLimit, Edge, Measures
from sayso.http.errors import install, problems
from sayso.http.fetches import Fetches
from sayso.http.hub import EventHub
from sayso.http.wire import Problem
from sayso.wiring import Services

_DESCRIPTION: Final = (
    "A portrait and a speech in, a lip-synced video out. Every error is `application/problem+json` "
    "with a stable `code`. Where the service has a key, send it as `Authorization: Bearer ...`."
)

_RESTART_S: Final = 1.0

_log: Final = structlog.get_logger("sayso.http")

# Any address may be refused, and any parameter may be nonsense.
_ALWAYS: Final = problems(401, 403, 422)


def make_app(services: Services) -> FastAPI:
    """Return the application for services that are open."""
    measures = Measures()
    doors = Doors(
        services=services,
        access=Access(services.settings, services.clock),
        hub=EventHub(services.generations, services.clock),
        measures=measures,
        callbacks=CallbackDoor(
            services.generations, callers=services.callers, clock=services.clock
        ),
        fetches=Fetches(services.generations),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        hub = asyncio.create_task(_keep_running(doors.hub))
        if services.settings.public_url is not None:
            doors.callbacks.open()
        try:
            yield
        finally:
            begin_closing(app)
            await doors.callbacks.close()
            await doors.fetches.close()
            hub.cancel()
            with suppress(asyncio.CancelledError):
                await hub

    app = FastAPI(
        title="Sayso",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        # It would look at the environment at each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.doors = doors
    # Added last, met first.
    app.add_middleware(BodyLimit, settings=services.settings)
    app.add_middleware(Gate, access=doors.access)
    is_https = (services.settings.public_url or "").startswith("https:")
    plain = (check.route(), health.livez, events.route)
    plain_paths = frozenset(route.path for route in plain)
    app.add_middleware(Edge, measures=measures, plain_paths=plain_paths, is_https=is_https)
    install(app)
    app.router.routes[:0] = [*plain, *page.routes]
    described = (
        api.router,
        orders.router,
        thumbnails.router,
        check.twin,
        events.twin,
        uploads.router,
        previews.router,
        files.router,
    )
    for router in (*described, auth.router, health.router, replicate.router, callbacks.router):
        app.include_router(router, responses=_ALWAYS)
    _describe_problems(app)
    return app


def begin_closing(app: FastAPI) -> None:
    """End streams and waits: what is in them goes on, and their readers come back."""
    doors: Doors = app.state.doors
    doors.closing.set()
    doors.hub.close()


async def _keep_running(hub: EventHub) -> None:
    while True:
        try:
            await hub.run()
        except Exception:  # noqa: BLE001 (the edge of a loop: logged, and it goes on)
            _log.exception("the event hub broke and is started again")
            await asyncio.sleep(_RESTART_S)


def _operation_id(route: APIRoute) -> str:
    return route.name


def _describe_problems(app: FastAPI) -> None:
    """Add to OpenAPI what FastAPI does not know: the body of errors, and the ways to come in."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            components = document.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema()
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            # FastAPI documents its own body for 422 where we say nothing else.
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            document["security"] = [{"key": []}, {}]
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it.
