"""Who may come in, as a table: by address, by key, by cookie."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers

from sayso.clock import SettableClock
from sayso.errors import AddressRefused, KeyRequired, SaysoError, TooManyTries
from sayso.http.auth import COOKIE, SESSION_S, Access, is_loopback
from sayso.settings import Settings

KEY = "a key of twenty chars"
PUBLIC = "https://sayso.example"

API = "/api/generations"


def access(*, key: str | None = None, clock: SettableClock | None = None) -> Access:
    settings = Settings(api_key=SecretStr(key) if key else None, public_url=PUBLIC)
    return Access(settings, clock or SettableClock())


def outcome(rules: Access, path: str, **headers: str) -> type[SaysoError] | None:
    """What a request meets: None when it may come in."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        rules.check(path, Headers(named))
    except SaysoError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8000", None),
        ("127.3.2.1", None),
        ("localhost", None),
        ("LOCALHOST:8000", None),
        ("[::1]:8000", None),
        ("evil.example", AddressRefused),
        ("127.0.0.1.evil.example", AddressRefused),
        ("localhost.evil.example:8000", AddressRefused),
        ("[::2]:8000", AddressRefused),
        ("10.0.0.1:8000", AddressRefused),
        ("", AddressRefused),
        ("sayso.example", AddressRefused),  # The public host has no key to ask for.
    ],
)
def test_without_a_key_the_host_has_to_be_this_machine(
    host: str, expected: type[SaysoError] | None
) -> None:
    assert outcome(access(), API, host=host) is expected


@pytest.mark.parametrize("path", ["/files/x", "/callbacks/replicate/n"])
def test_what_is_signed_answers_at_the_public_host_as_well(path: str) -> None:
    assert outcome(access(), path, host="sayso.example") is None
    assert outcome(access(), path, host="other.example") is AddressRefused


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"origin": "http://127.0.0.1:8000"}, None),
        ({"origin": "https://sayso.example"}, None),
        ({"origin": "http://127.0.0.1:3000"}, AddressRefused),
        ({"origin": "http://localhost:8000"}, AddressRefused),
        ({"origin": "null"}, AddressRefused),
        ({"origin": "http://["}, AddressRefused),
        ({"origin": "https://evil.example"}, AddressRefused),
        ({"sec_fetch_site": "cross-site"}, AddressRefused),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, None),
        ({"sec_fetch_site": "same-origin"}, None),
    ],
)
def test_without_a_key_pages_of_other_sites_are_refused(
    headers: dict[str, str], expected: type[SaysoError] | None
) -> None:
    assert outcome(access(), API, host="127.0.0.1:8000", **headers) is expected


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer r8_whatever", "Basic eDp5"])
def test_without_a_key_any_token_will_do(authorization: str) -> None:
    assert outcome(access(), API, host="localhost", authorization=authorization) is None


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (f"Bearer {KEY}", None),
        (f"bearer {KEY}", None),
        (f"Token {KEY}", None),
        (f"Basic {KEY}", KeyRequired),
        (KEY, KeyRequired),
        ("Bearer wrong", KeyRequired),
        ("Bearer", KeyRequired),
        ("", KeyRequired),
    ],
)
def test_with_a_key_it_is_asked_for(authorization: str, expected: type[SaysoError] | None) -> None:
    rules = access(key=KEY)

    assert outcome(rules, API, host="any.example", authorization=authorization) is expected


@pytest.mark.parametrize("path", [API, "/v1/predictions", "/metrics", "/api/events", "/nowhere"])
def test_with_a_key_every_other_address_is_closed(path: str) -> None:
    assert outcome(access(key=KEY), path, host="any.example") is KeyRequired


@pytest.mark.parametrize(
    "path", ["/", "/web/page.js", "/livez", "/readyz", "/api/session", "/files/x", "/callbacks/x"]
)
def test_with_a_key_the_page_and_what_is_signed_stay_open(path: str) -> None:
    assert outcome(access(key=KEY), path, host="any.example") is None


def test_the_pages_cookie_lets_in_until_it_expires() -> None:
    clock = SettableClock()
    rules = access(key=KEY, clock=clock)

    cookie = f"{COOKIE}={rules.open_session(KEY, address='1.2.3.4')}"

    assert outcome(rules, API, host="any.example", cookie=cookie) is None
    clock.advance(SESSION_S + 1)
    assert outcome(rules, API, host="any.example", cookie=cookie) is KeyRequired


def test_the_cookie_works_for_our_own_page_alone() -> None:
    rules = access(key=KEY)
    cookie = f"{COOKIE}={rules.open_session(KEY, address='1.2.3.4')}"

    for origin, expected in (
        ("https://any.example", None),
        ("https://evil.example", AddressRefused),
    ):
        met = outcome(rules, API, host="any.example", cookie=cookie, origin=origin)
        assert met is expected


@pytest.mark.parametrize("forged", ["", "1", "99999999999.", "99999999999.00", ".", "x.y", '"'])
def test_a_forged_cookie_is_refused(forged: str) -> None:
    rules = access(key=KEY)

    assert outcome(rules, API, host="a.example", cookie=f"{COOKIE}={forged}") is KeyRequired


def test_a_cookie_made_with_another_key_is_refused() -> None:
    value = access(key="another key, long enough").open_session(
        "another key, long enough", address=""
    )

    assert outcome(access(key=KEY), API, host="a", cookie=f"{COOKIE}={value}") is KeyRequired


def test_an_expiry_that_was_moved_is_refused() -> None:
    rules = access(key=KEY)
    expires, _, mac = rules.open_session(KEY, address="").partition(".")

    met = outcome(rules, API, host="a", cookie=f"{COOKIE}={int(expires) + 1}.{mac}")

    assert met is KeyRequired


def test_wrong_keys_are_counted_for_each_address() -> None:
    clock = SettableClock()
    rules = access(key=KEY, clock=clock)
    for _ in range(5):
        with pytest.raises(KeyRequired):
            rules.open_session("wrong", address="1.2.3.4")

    with pytest.raises(TooManyTries) as caught:
        rules.open_session(KEY, address="1.2.3.4")

    assert 0 < caught.value.retry_after_s <= 60
    assert rules.open_session(KEY, address="5.6.7.8")
    clock.advance(61)
    assert rules.open_session(KEY, address="1.2.3.4")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("192.168.1.1", False)],
)
def test_addresses_to_bind_are_told_apart(host: str, expected: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is expected
