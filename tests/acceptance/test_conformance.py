"""The API tests of Replicate's own Python client 2.0 beta, run against `/v1`.

The client's source distribution carries them: each method of the client, with loose and strict
checks of the answers' types, by three HTTP clients. They are skipped there; here the marks are
taken off in a copy, and the copy runs in an environment of its own (`requirements/conformance.txt`,
by hash), without any package of ours. `docs/reference/conformance.md` tells the outcome, and is
held to it here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from sayso.providers.scripted import Script
from sayso.settings import Peer
from tests.conftest import ROOT
from tests.inbox import Inbox, opened_inbox
from tests.installing import INSTALL_S, install, installed_for_python, kept_folder
from tests.placeholders import MODELS, filled_in
from tests.services import Service, started

LOCK: Final = ROOT / "requirements" / "conformance.txt"
PAGE: Final = ROOT / "docs" / "reference" / "conformance.md"
RUN_S: Final = 300
SKIP: Final = '    @pytest.mark.skip(reason="Prism tests are disabled")\n'

# The parts of the suite that are about our routes, by what the page calls them.
PARTS: Final[Mapping[str, str]] = {
    "predictions": "test_predictions.py",
    "models/predictions": "models/test_predictions.py",
    "deployments/predictions": "deployments/test_predictions.py",
    "files": "test_files.py",
    "account": "test_account.py",
    "webhooks": "webhooks/default/test_secret.py",
}

pytestmark = [
    pytest.mark.timeout(2 * INSTALL_S + 2 * RUN_S),
    pytest.mark.xdist_group("clients"),
]


@pytest.fixture(scope="module")
def environment(request: pytest.FixtureRequest) -> Path:
    """What the suite needs, and what is needed to unpack it."""
    return installed_for_python(kept_folder(request.config.cache, LOCK), LOCK)


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest, environment: Path) -> Path:
    """The client's source distribution, whose hash is in the lock.

    To learn its name and version, pip asks the project's build tool, which the lock has as well.
    """
    match = re.search(r"^replicate==.*?(?=^\S)", LOCK.read_text(), re.MULTILINE | re.DOTALL)
    assert match is not None

    def command(making: Path) -> tuple[str, ...]:
        (making / "one.txt").write_text(match[0])
        return (
            *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"),
            *("--require-hashes", "--no-binary", "replicate", "--no-deps"),
            *("--no-build-isolation", "-d", str(making), "-r", "one.txt"),
        )

    folder = kept_folder(request.config.cache, LOCK, suffix="-source")
    install(folder, command, environment={"PYTHONPATH": str(environment)})
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture
def suite(source: Path, tmp_path: Path) -> Path:
    """A copy of the suite, without its skip marks."""
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("replicate-*")
    # The client itself is the one that was installed.
    shutil.rmtree(folder / "src")
    for path in PARTS.values():
        module = folder / "tests" / "api_resources" / path
        text = module.read_text()
        assert SKIP in text
        module.write_text(text.replace(SKIP, ""))
    return folder


@dataclass(frozen=True)
class Shop:
    """A service that knows the suite's models, and where its webhooks go."""

    service: Service
    inbox: Inbox


@pytest.fixture
def shop(tmp_path: Path, small_portrait: Path, short_speech: Path) -> Iterator[Shop]:
    models = tmp_path / "suite.toml"
    models.write_text(MODELS, encoding="utf-8")
    with (
        opened_inbox() as inbox,
        started(
            tmp_path,
            portrait=small_portrait,
            speech=short_speech,
            # What nobody waits for ends without a video to store, which takes a second each.
            script=Script(start_s=0.05, run_s=0.1, end="failed"),
            models=models,
            trusted_peers=(Peer("127.0.0.1", inbox.port),),
        ) as service,
    ):
        yield Shop(service, inbox)


def outcomes_of(suite: Path, environment: Path, url: str) -> dict[str, Counter[str]]:
    """Run the suite against an address; return the number of cases by part and outcome."""
    report = suite / "report.xml"
    resources = suite / "tests" / "api_resources"
    ended = subprocess.run(
        (
            *(sys.executable, "-S", "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"),
            *("-o", "addopts=", f"--junitxml={report}"),
            *(str(resources / path) for path in PARTS.values()),
        ),
        cwd=suite,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(environment),
            "TEST_API_BASE_URL": url,
        },
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert ended.returncode in {0, 1}, ended.stdout[-2000:] + ended.stderr[-2000:]
    found = {part: Counter[str]() for part in PARTS}
    parts = {
        "tests.api_resources." + path.removesuffix(".py").replace("/", "."): part
        for part, path in PARTS.items()
    }
    for case in ET.parse(report).iter("testcase"):
        part = parts[case.attrib["classname"].rpartition(".")[0]]
        found[part][case[0].tag if len(case) else "passed"] += 1
    return found


def told(column: str) -> dict[str, int]:
    """Return a column of the page's table."""
    lines = dropwhile(
        lambda line: not line.startswith("| route"), PAGE.read_text(encoding="utf-8").splitlines()
    )
    table = takewhile(lambda line: line.startswith("|"), lines)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    place = rows[0].index(column)
    return {row[0].strip("`"): int(row[place]) for row in rows[2:]}


def check(found: Mapping[str, Counter[str]], column: str) -> None:
    """Compare what was found with what the page says."""
    passed = {part: outcomes["passed"] for part, outcomes in found.items()}
    cases = {part: outcomes.total() for part, outcomes in found.items()}
    assert told(column) == {**passed, "all": sum(passed.values())}
    assert told("cases") == {**cases, "all": sum(cases.values())}


def ended_of(inbox: Inbox, count: int) -> set[str]:
    """Wait for the last webhooks of so many predictions; return their ids."""
    ended: set[str] = set()
    end = time.monotonic() + 60
    while len(ended) < count and time.monotonic() < end:
        time.sleep(0.025)
        told = [json.loads(body) for _, body in inbox.got]
        ended = {one["id"] for one in told if one["completed_at"] is not None}
    return ended


def test_every_case_passes_that_names_what_there_is(
    suite: Path, environment: Path, shop: Shop
) -> None:
    with filled_in(shop.service, webhook_url=shop.inbox.url) as url:
        found = outcomes_of(suite, environment, url)

    assert not sum(outcomes["failure"] + outcomes["error"] for outcomes in found.values())
    check(found, "with names filled in")
    # Three routes create with everything, by five clients.
    assert len(ended_of(shop.inbox, 15)) == 15


@pytest.mark.soak
def test_no_case_passes_by_chance(suite: Path, environment: Path, shop: Shop) -> None:
    """As it stands the suite names predictions, files and versions that no service has."""
    found = outcomes_of(suite, environment, f"{shop.service.url}/v1")

    check(found, "as it stands")
