"""A service, as the command line uses it: over HTTP, by the public API alone.

ServiceClient.upload()      hand in a portrait or a speech
ServiceClient.generate()    start, watch, and return the body that is final
ServiceClient.download()    save the video; it appears only when it is whole
"""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import certifi
import httpx

from sayso import __version__
from sayso.errors import OptionInvalid, ServiceRefused, ServiceUnreachable

Body = dict[str, Any]

_TRIES: Final = 3
_LOOK_S: Final = 0.3
_LONGEST_LOOK_S: Final = 2.0
# A service that starts again is given this long while we watch.
_PATIENCE_S: Final = 60
_FINAL: Final = frozenset({"succeeded", "failed", "canceled"})


class ServiceClient:
    """One service; a context manager that closes its connections.

    Raises `OptionInvalid` for what is no address. Every call raises `ServiceUnreachable` when no
    answer comes, `ServiceRefused` for an error.
    """

    def __init__(self, url: str, *, key: str | None = None) -> None:
        _require_address(url)
        self._url = url.rstrip("/")
        headers = {"User-Agent": f"sayso/{__version__}"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.Client(
            base_url=self._url,
            headers=headers,
            timeout=httpx.Timeout(60, connect=5),
            # A proxy in the environment does not lead to this machine.
            trust_env=not _is_this_machine(url),
            verify=_authorities() if url.startswith("https:") else True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def upload(self, path: Path, kind: Literal["portrait", "speech"]) -> Body:
        """Hand in a file; the same bytes again are the same upload."""
        with path.open("rb") as file, self._talking():
            return _body_of(
                self._http.post(
                    "/api/uploads", data={"kind": kind}, files={"file": (path.name, file)}
                )
            )

    def generate(self, order: Mapping[str, object], *, on_body: Callable[[Body], None]) -> Body:
        """Start a generation, tell `on_body` of each change, return its final body.

        Ctrl-C asks the service to cancel it: nothing is paid for what nobody waits for.
        """
        started = self._start(order)
        generation_id = started["prediction_id"]
        try:
            return self._watch(generation_id, on_body)
        except KeyboardInterrupt:
            self.post(f"/api/generations/{generation_id}/cancel", {})
            raise

    def download(self, link: str, target: Path) -> None:
        """Save what a link leads to; two may save to the same place, and the last one wins."""
        partial = target.with_name(f".sayso-{uuid.uuid4().hex}.part")
        try:
            with self._talking(), self._http.stream("GET", link) as answer:
                if answer.is_error:
                    answer.read()
                    _body_of(answer)
                with partial.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def get(self, path: str) -> Body:
        """Return what lies at a path of the API."""
        with self._talking():
            return _body_of(self._http.get(path))

    def post(self, path: str, body: Mapping[str, object]) -> Body:
        """Send a body to a path of the API and return its answer."""
        with self._talking():
            return _body_of(self._http.post(path, json=body))

    def _start(self, order: Mapping[str, object]) -> Body:
        """Start once, however often the answer is lost: the key makes it the same generation."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._talking():
                    return _body_of(
                        self._http.post("/api/generate-lipsync", json=order, headers=headers)
                    )
            except ServiceUnreachable:
                if not tries_left:
                    raise
                time.sleep(_LOOK_S)
        raise AssertionError("the last try returns or raises")

    def _watch(self, generation_id: str, on_body: Callable[[Body], None]) -> Body:
        etag = ""
        pause_s = _LOOK_S
        silent_since_s: float | None = None
        while True:
            try:
                with self._talking():
                    answer = self._http.get(
                        "/api/check-lipsync",
                        params={"prediction_id": generation_id},
                        headers={"If-None-Match": etag} if etag else {},
                    )
            except ServiceUnreachable:
                silent_since_s = silent_since_s or time.monotonic()
                if time.monotonic() - silent_since_s > _PATIENCE_S:
                    raise
            else:
                silent_since_s = None
                if answer.status_code != httpx.codes.NOT_MODIFIED:
                    etag = answer.headers.get("etag", "")
                    body = _body_of(answer)
                    on_body(body)
                    if body["status"] in _FINAL:
                        return body
            time.sleep(pause_s)
            pause_s = min(_LONGEST_LOOK_S, pause_s * 1.05)

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise ServiceUnreachable(_why_unreachable(self._url, error)) from error


def _body_of(answer: httpx.Response) -> Body:
    try:
        body = answer.json() if answer.content else {}
    except ValueError:
        body = {}
    if answer.is_error:
        text = body.get("detail") or f"The service answered {answer.status_code}."
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            text = (
                "The service asks for its key, or for another one: SAYSO_API_KEY is what it gets."
            )
        raise ServiceRefused(text, status=answer.status_code, service_code=body.get("code"))
    return body if isinstance(body, dict) else {}


def _authorities() -> ssl.SSLContext:
    """Trust whom this machine trusts, `SSL_CERT_FILE` included, and whom browsers do."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _why_unreachable(url: str, error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"The certificate of {url} is not trusted here ({cause.verify_message});"
                " SSL_CERT_FILE may name the authority that gave it."
            )
        cause = cause.__cause__ or cause.__context__
    return f"No service answers at {url}."


def _require_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise OptionInvalid(
            f"--server is an address such as http://127.0.0.1:8000; {url!r} is none."
        )


def _is_this_machine(url: str) -> bool:
    name = urlsplit(url).hostname or ""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
