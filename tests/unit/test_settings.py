"""The one reader of the environment: what it takes, what it refuses, what it never shows."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from sayso.errors import SettingsInvalid
from sayso.settings import Peer, Settings, read_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SAYSO_") or name == "REPLICATE_API_TOKEN":
            monkeypatch.delenv(name)


def test_nothing_needs_to_be_set() -> None:
    settings = read_settings()

    assert settings.database == "sqlite:///data/sayso.db"
    assert settings.artifacts == str(Path("data") / "artifacts")
    assert settings.api_key is None
    assert settings.replicate_api_token is None


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_DATA", "/srv/sayso")
    monkeypatch.setenv("SAYSO_IMAGE_MAX_BYTES", "5000")
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_token")
    monkeypatch.setenv("SAYSO_DATABASE_URL", "postgresql://sayso@db/sayso")
    monkeypatch.setenv("SAYSO_STORAGE", "s3://bucket/prefix")

    settings = read_settings()

    assert settings.data == Path("/srv/sayso")
    assert settings.image_max_bytes == 5000
    assert settings.replicate_api_token is not None
    assert settings.replicate_api_token.get_secret_value() == "r8_token"
    assert settings.database == "postgresql://sayso@db/sayso"
    assert settings.artifacts == "s3://bucket/prefix"


def test_an_override_wins_unless_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_DATA", "/srv/sayso")

    assert read_settings(data=Path("/tmp/other")).data == Path("/tmp/other")
    assert read_settings(data=None).data == Path("/srv/sayso")


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_API_KEY", "")
    monkeypatch.setenv("SAYSO_POLL_S", "")

    assert read_settings() == Settings()


def test_trusted_peers_are_exact_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_TRUSTED_PEERS", "Media.Internal:9000, [FD00::7]:80,10.0.0.1:1,")

    assert read_settings().trusted_peers == (
        Peer("media.internal", 9000),
        Peer("fd00::7", 80),
        Peer("10.0.0.1", 1),
    )


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://Sayso.Example.com", "https://sayso.example.com"),
        ("https://sayso.example.com:443/", "https://sayso.example.com"),
        ("HTTP://sayso.example.com:80/Some/Path/", "http://sayso.example.com/Some/Path"),
        ("https://sayso.example.com:80", "https://sayso.example.com:80"),
        ("https://[2001:DB8::1]:443", "https://[2001:db8::1]"),
    ],
)
def test_a_public_url_is_read_as_browsers_write_it(given: str, read: str) -> None:
    assert Settings(public_url=given).public_url == read


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("SAYSO_IMAGE_MAX_BYTES", "0", "greater than or equal to 1000"),
        ("SAYSO_SPEECH_MAX_S", "many", "valid number"),
        ("SAYSO_SPEECH_MAX_S", "nan", "less than or equal to"),
        ("SAYSO_TRUSTED_PEERS", "media.internal", "host:port pairs"),
        ("SAYSO_TRUSTED_PEERS", "*:80", "host:port pairs"),
        ("SAYSO_TRUSTED_PEERS", "media.internal:70000", "host:port pairs"),
        ("SAYSO_TRUSTED_PEERS", "http://media.internal:80", "host:port pairs"),
        ("SAYSO_PUBLIC_URL", "sayso.example", "http or https"),
        ("SAYSO_PUBLIC_URL", "ftp://sayso.example", "http or https"),
        ("SAYSO_PUBLIC_URL", "https://sayso.example/?a=1", "without query"),
        ("SAYSO_REPLICATE_URL", "https://user:secret@host", "user name or password"),
        ("SAYSO_STORAGE", "gs://bucket", "s3://bucket/prefix"),
        ("SAYSO_STORAGE", "s3://", "s3://bucket/prefix"),
        ("SAYSO_API_KEY", "too short", "16 characters"),
        ("SAYSO_LOG_FORMAT", "xml", "'text' or 'json'"),
    ],
)
def test_a_bad_value_is_named_with_its_reason(
    variable: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsInvalid, match=reason) as caught:
        read_settings()

    assert str(caught.value).startswith(f"{variable}: ")


def test_a_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_SPEECH_MAX_SS", "30")

    with pytest.raises(SettingsInvalid, match="is SAYSO_SPEECH_MAX_S meant"):
        read_settings()


def test_somebody_elses_variable_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_PORT", "tcp://10.0.0.1:80")  # Kubernetes, of a service `sayso`.
    monkeypatch.setenv("SAYSO_VENV", ".venv-other")

    assert read_settings() == Settings()


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_POLL_S", "0")
    monkeypatch.setenv("SAYSO_LINK_S", "1")

    with pytest.raises(SettingsInvalid) as caught:
        read_settings()

    assert len(str(caught.value).splitlines()) == 2


def test_secrets_are_shown_neither_in_the_settings_nor_in_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canary = "canary-0123456789"
    for name in ("API_KEY", "DATABASE_URL", "S3_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"SAYSO_{name}", canary)
    monkeypatch.setenv("REPLICATE_API_TOKEN", canary)

    assert canary not in f"{read_settings()!r}"
    monkeypatch.setenv("SAYSO_API_KEY", canary[:9])
    with pytest.raises(SettingsInvalid) as caught:
        read_settings()
    assert canary[:9] not in str(caught.value)


def test_settings_do_not_change() -> None:
    settings = read_settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.poll_s = 1
