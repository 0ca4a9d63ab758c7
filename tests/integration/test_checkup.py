"""`sayso doctor` and the environment: the settings, and whose token for Replicate they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sayso.checkup import Finding, check_places, check_settings
from sayso.cli import run
from sayso.clock import SystemClock
from sayso.db.upgrade import HEAD
from tests.upstream import Fault, Upstream
from tests.upstream.service import TOKEN
from tests.upstream.serving import served


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    """Serve an upstream that the environment names, with a valid token."""
    made = Upstream(SystemClock())
    with served(made, at_home=True, slow_s=0.1):
        monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
        monkeypatch.setenv("SAYSO_REPLICATE_URL", made.place.api)
        monkeypatch.setenv("SAYSO_TRUSTED_PEERS", urlsplit(made.place.api).netloc)
        yield made


def token_finding() -> Finding:
    read, token = check_settings()
    assert read.works
    assert token.name == "replicate"
    assert "r8_" not in json.dumps([read.line(), token.line()])
    return token


def test_without_a_token_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPLICATE_API_TOKEN", raising=False)

    (read,) = check_settings()

    assert (read.name, read.works) == ("settings", True)


def test_settings_that_cannot_be_used_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_POLL_S", "often")

    (read,) = check_settings()

    assert not read.works
    assert "SAYSO_POLL_S" in read.seen


def test_places_that_are_not_there_yet_are_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYSO_DATA", str(tmp_path / "new" / "data"))

    folder, database = check_places()

    assert (folder.works, database.works) == (True, True)
    assert re.search(r"\(the first start makes it\), [\d.]+ GB free", folder.seen)
    assert database.seen == "none yet; the first start makes it"
    assert list(tmp_path.iterdir()) == []


def test_the_database_is_asked_for_its_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_DATA", str(tmp_path))
    assert run(["credits", "show"]) == 0

    _, database = check_places()

    assert database.seen == f"sqlite answers, its schema is {HEAD}: up to date"


def test_a_file_where_the_database_should_be_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYSO_DATA", str(tmp_path))
    (tmp_path / "sayso.db").write_bytes(b"this is no database at all" * 100)

    _, database = check_places()

    assert not database.works


def test_a_file_instead_of_the_folder_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").touch()
    monkeypatch.setenv("SAYSO_DATA", str(tmp_path / "data"))

    folder, _ = check_places()

    assert not folder.works
    assert "is a file" in folder.seen


def test_a_valid_token_is_told_by_its_account(upstream: Upstream) -> None:
    token = token_finding()

    assert token.works
    assert token.seen == f"the token of organization acme at {upstream.place.api}"
    assert upstream.counts["account"] == 1
    assert upstream.leaks == []


def test_a_refused_token_is_explained(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_mistyped")

    token = token_finding()

    assert not token.works
    assert "refuses the token (401)" in token.seen
    assert "mistyped or revoked" in token.seen


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.RESET_BEFORE, "cannot be asked now"),
        (Fault.HTML_502, "cannot be asked now"),
        (Fault.CUT, "cannot be asked now"),
    ],
)
def test_a_place_with_a_bad_moment_is_not_a_bad_token(
    upstream: Upstream, fault: Fault, words: str
) -> None:
    upstream.fail("account", fault)

    token = token_finding()

    assert not token.works
    assert words in token.seen
    assert "refuses" not in token.seen


def test_something_else_at_that_address_is_told(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYSO_REPLICATE_URL", upstream.place.api + "/elsewhere")

    token = token_finding()

    assert not token.works
    assert "SAYSO_REPLICATE_URL" in token.seen


def test_nobody_at_that_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
    monkeypatch.setenv("SAYSO_REPLICATE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("SAYSO_TRUSTED_PEERS", "127.0.0.1:1")

    token = token_finding()

    assert not token.works
    assert "cannot be asked now" in token.seen
