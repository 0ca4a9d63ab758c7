"""A front before `/v1` that gives placeholders a meaning: what a suite of others calls
`prediction_id`, `file_id` or `replicate/hello-world` becomes something that this service has.

    with filled_in(service, webhook_url=...) as url:    # the address of the front's /v1

Only requests are changed, and only these words of theirs; answers pass as they are. Models are not
among them: the service's catalogue has them under the suite's own names (`MODELS`). What is waited
for succeeds.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sayso.providers.scripted import Script
from tests.services import Service

# What the suite names, as an operator's catalogue file has it.
_MODEL: Final = """
["{name}"]
provider = "scripted"
description = "Named by a suite of others."
rate_micros = 0
price_read_on = 2026-11-22
needs_face = false
inputs = {{ prompt = "{prompt}" }}
"""
_OPTION: Final = """
[["{name}".options]]
name = "system_prompt"
kind = "text"
description = "Who the speaker is."
"""
MODELS: Final = (
    _MODEL.format(name="replicate/hello-world", prompt="text")
    + (_MODEL + _OPTION).format(name="model_owner/model_name", prompt="prompt")
    + (_MODEL + _OPTION).format(name="deployment_owner/deployment_name", prompt="prompt")
)

_SUCCESS: Final = Script(start_s=0.05, run_s=0.1)
_HELLO: Final = "replicate/hello-world"
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
# What belongs to one connection, or is written anew.
_OF_ONE_HOP: Final = frozenset({"host", "connection", "content-length", "transfer-encoding"})


class Front:
    """See the module's docstring."""

    def __init__(self, service: Service, *, webhook_url: str) -> None:
        self._webhook_url = webhook_url
        self._url = service.url
        self._provider = service.provider
        self._token = {"Authorization": "Bearer any"}
        self._given = {
            "image": self._stored(service, service.portrait.read_bytes()),
            "audio": self._stored(service, service.speech.read_bytes()),
        }
        self.version = str(service.http.get(f"/v1/models/{_HELLO}").json()["latest_version"]["id"])
        route = Route("/{path:path}", self._pass_on, methods=[*_METHODS])
        self.app = Starlette(routes=[route], lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=self._url, timeout=60, trust_env=False) as http:
            self._http = http
            yield

    def _stored(self, service: Service, content: bytes) -> str:
        answer = service.http.post("/v1/files", files={"content": ("file", content)})
        return str(answer.json()["urls"]["get"])

    async def _pass_on(self, request: Request) -> Response:
        path = await self._filled_path(request.url.path)
        if "prefer" in request.headers:
            self._provider.will(_SUCCESS)
        headers = {k: v for k, v in request.headers.items() if k not in _OF_ONE_HOP}
        answer = await self._http.request(
            request.method,
            path,
            params=request.url.query,
            headers=headers,
            content=self._filled_body(request.headers, await request.body()),
        )
        kept = {k: v for k, v in answer.headers.items() if k not in _OF_ONE_HOP}
        return Response(answer.content, answer.status_code, kept)

    async def _filled_path(self, path: str) -> str:
        if "/prediction_id" in path:
            return path.replace("prediction_id", await self._new_prediction())
        if "/file_id" in path:
            return path.replace("file_id", await self._new_file())
        return path

    def _filled_body(self, headers: Mapping[str, str], raw: bytes) -> bytes:
        if headers.get("content-type") != "application/json" or not raw:
            return raw
        body = json.loads(raw)
        if "input" in body:
            body["input"] |= self._given
        if str(body.get("version", "")).startswith(f"{_HELLO}:"):
            body["version"] = f"{_HELLO}:{self.version}"
        if "webhook" in body:
            body["webhook"] = self._webhook_url
        return json.dumps(body).encode()

    async def _new_prediction(self) -> str:
        body = {"version": self.version, "input": {"text": "Alice", **self._given}}
        return await self._made("/v1/predictions", json=body)

    async def _new_file(self) -> str:
        return await self._made("/v1/files", files={"content": ("file", b"raw file contents")})

    async def _made(self, path: str, **body: Any) -> str:
        answer = await self._http.post(path, headers=self._token, **body)
        answer.raise_for_status()
        return str(answer.json()["id"])


@contextmanager
def filled_in(service: Service, *, webhook_url: str) -> Iterator[str]:
    """Serve the front on a free port of this machine; give the address of its `/v1`."""
    front = Front(service, webhook_url=webhook_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(front.app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join()
