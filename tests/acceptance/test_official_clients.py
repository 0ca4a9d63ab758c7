"""Replicate's own clients against a service behind TLS: create, wait, file output, webhook check.

Each client is installed into a folder of its own, from a lock with hashes and without addresses:
`requirements/clients-legacy.txt`, `requirements/clients-beta.txt` (made of `replicate==1.0.7` and
`replicate==2.0.0b4` with `uv pip compile --universal --generate-hashes`) and
`tests/clients/package-lock.json`. What they do is in `tests/clients/` and in the how-to page, whose
examples run here. A client that cannot be installed is a reason to skip.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import SecretStr

from sayso.providers.scripted import Script
from sayso.settings import Peer
from tests.conftest import ROOT
from tests.inbox import Inbox, opened_inbox
from tests.installing import INSTALL_S, install, installed_for_python, kept_folder
from tests.services import MODEL, Service, started
from tests.tls_front import Front, opened_front

PAGE: Final = ROOT / "docs" / "how-to" / "use-the-replicate-clients.md"
CLIENTS: Final = ROOT / "tests" / "clients"
KEY: Final = "r8_the_key_of_this_service"
RUN_S: Final = 240

pytestmark = [pytest.mark.timeout(INSTALL_S + 2 * RUN_S), pytest.mark.xdist_group("clients")]


@dataclass
class Shop:
    """A service that clients reach by TLS, and where its webhooks go."""

    service: Service
    front: Front
    inbox: Inbox

    def environment(self, **more: str) -> dict[str, str]:
        """What a client is told; nothing of ours besides."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **kept,
            "REPLICATE_API_TOKEN": KEY,
            "MODEL": MODEL,
            "PORTRAIT": str(self.service.portrait),
            "SPEECH": str(self.service.speech),
            "WEBHOOK": self.inbox.url,
            "SSL_CERT_FILE": str(self.front.authority),
            "NODE_EXTRA_CA_CERTS": str(self.front.authority),
            **more,
        }


@pytest.fixture
def shop(tmp_path: Path, small_portrait: Path, short_speech: Path) -> Iterator[Shop]:
    with (
        opened_front(tmp_path) as front,
        opened_inbox() as inbox,
        started(
            tmp_path,
            portrait=small_portrait,
            speech=short_speech,
            script=Script(start_s=0.2, run_s=0.5),
            api_key=SecretStr(KEY),
            public_url=front.url,
            trusted_peers=(Peer("127.0.0.1", inbox.port),),
        ) as service,
    ):
        front.pass_on_to(service.url)
        yield Shop(service, front, inbox)


@pytest.fixture
def folder_of(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """Give the folder that is kept for what a lock installs."""
    return lambda lock: kept_folder(request.config.cache, lock)


def installed_for_node(folder: Path, npm: str) -> Path:
    """Install the JavaScript client from its lock, with our script beside it."""

    def command(making: Path) -> Sequence[str]:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CLIENTS / name, making)
        return (npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")

    return install(folder, command)


def result_of(
    command: Sequence[str], environment: Mapping[str, str], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Run a client's script and return what it prints."""
    ended = subprocess.run(
        command,
        env=environment,
        input=None if given is None else json.dumps(given),
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def check_result(result: Mapping[str, Any], shop: Shop) -> None:
    """Look at what a client saw, from our side."""
    assert result["kind"] == "FileOutput"
    assert result["ftyp"] == "ftyp"
    assert result["first_status"] == "starting"
    assert result["status"] == "succeeded"
    assert result["output"].startswith(f"{shop.front.url}/files/")
    assert result["stopped"] == "canceled"
    assert result["refused"] == "422 Input validation failed"
    assert result["id"] in result["listed"]
    assert len(result["listed"]) == 3
    assert result["files"] >= 2
    assert result["deleted"] is True
    assert result["account"] == "local"
    (told,) = shop.inbox.until(1)
    assert (told["id"], told["status"]) == (result["id"], "succeeded")
    assert told["output"].startswith(f"{shop.front.url}/files/")
    captured = [
        generation["credits"]["state"]
        for generation in shop.service.http.get("/api/generations").json()["generations"]
    ]
    assert sorted(captured) == ["captured", "captured", "released"]


def run_example(
    shop: Shop, language: str, interpreter: str, installed: Path, **environment: str
) -> None:
    """Run the how-to page's example as it stands there, and look at the video that it saves."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    folder = shop.front.authority.parent / "example"
    folder.mkdir()
    shutil.copy(shop.service.portrait, folder / "portrait.jpg")
    shutil.copy(shop.service.speech, folder / "speech.ogg")
    # Where node looks for packages; Python is told by its own variable.
    (folder / "node_modules").symlink_to(installed / "node_modules")
    script = folder / ("example.mjs" if language == "js" else "example.py")
    script.write_text(code)

    ended = subprocess.run(
        (interpreter, str(script)),
        cwd=folder,
        env=shop.environment(PYTHONPATH=str(installed), **environment),
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert (folder / "talk.mp4").read_bytes()[4:8] == b"ftyp"


def webhook_of(shop: Shop, result: Mapping[str, Any]) -> dict[str, Any]:
    headers, body = shop.inbox.got[0]
    return {"headers": headers, "body": body.decode(), "secret": result["secret"]}


def test_the_python_client_1_works(shop: Shop, folder_of: Callable[[Path], Path]) -> None:
    lock = ROOT / "requirements" / "clients-legacy.txt"
    folder = installed_for_python(folder_of(lock), lock)
    environment = shop.environment(
        # This version's address has no /v1.
        REPLICATE_BASE_URL=shop.front.url,
        REPLICATE_POLL_INTERVAL="0.1",
        PYTHONPATH=str(folder),
    )
    script = str(CLIENTS / "legacy.py")

    result = result_of((sys.executable, script, "run"), environment)

    check_result(result, shop)
    checked = result_of(
        (sys.executable, script, "check"), environment, given=webhook_of(shop, result)
    )
    assert checked == {"valid": True, "changed": False}
    run_example(shop, "py", sys.executable, folder, REPLICATE_BASE_URL=shop.front.url)


def test_the_python_client_2_beta_works(shop: Shop, folder_of: Callable[[Path], Path]) -> None:
    lock = ROOT / "requirements" / "clients-beta.txt"
    folder = installed_for_python(folder_of(lock), lock)
    environment = shop.environment(
        REPLICATE_BASE_URL=f"{shop.front.url}/v1", PYTHONPATH=str(folder)
    )

    result = result_of((sys.executable, str(CLIENTS / "beta.py")), environment)

    check_result(result, shop)
    run_example(shop, "py", sys.executable, folder, REPLICATE_BASE_URL=f"{shop.front.url}/v1")


def test_the_javascript_client_works(
    shop: Shop, folder_of: Callable[[Path], Path], tool: Callable[[str], str]
) -> None:
    node, npm = tool("node"), tool("npm")
    folder = installed_for_node(folder_of(CLIENTS / "package-lock.json"), npm)
    script = folder / "javascript.mjs"
    shutil.copy(CLIENTS / script.name, script)
    environment = shop.environment(BASE=f"{shop.front.url}/v1")

    result = result_of((node, str(script), "run"), environment)

    check_result(result, shop)
    checked = result_of((node, str(script), "check"), environment, given=webhook_of(shop, result))
    assert checked == {"valid": True, "changed": False}
    run_example(shop, "js", node, folder, REPLICATE_BASE_URL=shop.front.url)
