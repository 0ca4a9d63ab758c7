"""What the endpoints share: the services, and what belongs to this process's doors alone.

Doors          one for each app, at `app.state.doors`
Shared         FastAPI's way to ask for it
base_of()      the address by which whoever asks knows us
header_of()    a header, without ceremony
id_of()        an id from outside, or `NoSuchGeneration`
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.types import Scope

from sayso.errors import NoSuchGeneration
from sayso.generations.generation import Generation
from sayso.http.auth import Access
from sayso.http.callbacks import CallbackDoor
from sayso.http.edge import Measures
from sayso.http.fetches import Fetches
from sayso.http.hub import EventHub
from sayso.http.replicate_limits import RateLimits
from sayso.http.wire import check_of
from sayso.ids import GenerationId
from sayso.settings import Settings
from sayso.wiring import Services

_ID: Final = re.compile(r"[0-9a-z]{26}")


@dataclass(frozen=True, kw_only=True)
class Doors:
    """The services, who may use them, who watches, and whether we are about to stop."""

    services: Services
    access: Access
    hub: EventHub
    measures: Measures
    callbacks: CallbackDoor
    fetches: Fetches
    limits: RateLimits = field(default_factory=RateLimits)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def settings(self) -> Settings:
        """What the operator decided."""
        return self.services.settings

    def check_of(self, generation: Generation, base: str) -> dict[str, Any]:
        """Return the check body of a generation."""
        services = self.services
        return check_of(generation, links=services.links, now=services.clock.now(), base=base)


def doors_of(scope: Scope) -> Doors:
    """Return the doors of the app that serves this scope."""
    doors: Doors = scope["app"].state.doors
    return doors


def _of_request(request: Request) -> Doors:
    return doors_of(request.scope)


Shared = Annotated[Doors, Depends(_of_request)]


def base_of(scope: Scope, settings: Settings) -> str:
    """Return the address by which whoever asks knows us, for absolute links.

    Behind a proxy that ends TLS only the operator knows the scheme, so the public URL counts where
    the host is that one. A client of HTTP/1.0 may name no host.
    """
    host = (header_of(scope, b"host") or "").lower()
    public_url = settings.public_url
    if public_url is not None and host in {"", urlsplit(public_url).netloc}:
        return public_url
    return f"{scope['scheme']}://{host or _own_place(scope)}"


def header_of(scope: Scope, name: bytes) -> str | None:
    """Return a header of a request, named in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def _own_place(scope: Scope) -> str:
    """Return the host and port at which this request came in."""
    name, port = scope["server"]
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def id_of(text: str) -> GenerationId:
    """Return an id that came from outside; raise `NoSuchGeneration` if it cannot be one of ours."""
    if _ID.fullmatch(text) is None:
        raise NoSuchGeneration("There is no such generation.")
    return GenerationId(text)
