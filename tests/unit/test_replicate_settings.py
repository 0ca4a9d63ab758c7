"""Where the token for Replicate is sent, by the operator's settings."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from sayso.errors import SettingsInvalid
from sayso.providers.replicate_client import ReplicateSettings
from sayso.settings import Peer, Settings

TOKEN = SecretStr("r8_a_token_for_tests")


def chosen(url: str | None = None, *peers: Peer) -> ReplicateSettings | None:
    values = {} if url is None else {"replicate_url": url}
    return ReplicateSettings.of(
        Settings(replicate_api_token=TOKEN, trusted_peers=peers, **values)  # type: ignore[arg-type]  # By name.
    )


def test_without_a_token_there_is_no_replicate() -> None:
    assert ReplicateSettings.of(Settings(replicate_api_token=None)) is None


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "https://api.replicate.com/v1"),
        ("https://api.replicate.com", "https://api.replicate.com/v1"),
        ("https://api.replicate.com/", "https://api.replicate.com/v1"),
        ("https://sayso.example.com/v1", "https://sayso.example.com/v1"),
        ("https://proxy.example.com/replicate/v1", "https://proxy.example.com/replicate/v1"),
    ],
)
def test_the_address_ends_with_the_apis_version(given: str | None, url: str) -> None:
    settings = chosen(given)

    assert settings is not None
    assert settings.url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.replicate.com/v1",
        "http://127.0.0.1:8000/v1",
        "https://127.0.0.1:8000/v1",
        "https://10.0.0.1/v1",
        "https://upstream.internal/v1",
        "https://sayso.example.com:9999/v1",
    ],
)
def test_a_token_is_not_sent_in_the_clear_or_inside_unless_that_is_allowed(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="SAYSO_TRUSTED_PEERS") as raised:
        chosen(url)

    assert str(raised.value).startswith("SAYSO_REPLICATE_URL: ")
    assert "r8_" not in str(raised.value)


def test_a_trusted_peer_may_be_plain_and_private() -> None:
    settings = chosen("http://127.0.0.1:8000/v1", Peer("127.0.0.1", 8000))

    assert settings is not None
    assert settings.origin == Peer("127.0.0.1", 8000)
    with pytest.raises(SettingsInvalid):
        chosen("http://127.0.0.1:8001/v1", Peer("127.0.0.1", 8000))
