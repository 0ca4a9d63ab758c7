"""A webhook is taken from who signed it, as it was signed, and not for long."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.errors import SignatureRefused
from sayso.webhooks.signing import Delivery, new_secret, signed_headers, verify

# The example of Replicate's and Svix's documents.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
BODY = b'{"test": 2432232314}'
NOW_S = 1614265330.0
OTHER = new_secret(b"other secret of 32 bytes or so..")


def test_the_documents_example_is_taken() -> None:
    assert verify([SECRET], HEADERS, BODY, now_s=NOW_S) == Delivery(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    )


def test_the_documents_example_is_made() -> None:
    made = signed_headers(
        [SECRET],
        delivery_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        sent_at_s=1614265330,
        body=BODY,
    )

    assert made == HEADERS


def changed(**headers: str) -> dict[str, str]:
    return HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}


FORGED = {
    "body changed": (HEADERS, b'{"test": 2432232315}'),
    "body written again": (HEADERS, b'{"test":2432232314}'),
    "body empty": (HEADERS, b""),
    "id changed": (changed(webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJeK"), BODY),
    "id missing": ({k: HEADERS[k] for k in HEADERS if k != "webhook-id"}, BODY),
    "id takes the time in": (changed(webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek.1"), BODY),
    "time changed": (changed(webhook_timestamp="1614265331"), BODY),
    "time missing": ({k: HEADERS[k] for k in HEADERS if k != "webhook-timestamp"}, BODY),
    "time with a sign": (changed(webhook_timestamp="+1614265330"), BODY),
    "time with a fraction": (changed(webhook_timestamp="1614265330.0"), BODY),
    "time in other digits": (changed(webhook_timestamp="١٦١٤٢٦٥٣٣٠"), BODY),
    "time beyond numbers": (changed(webhook_timestamp="9" * 5000), BODY),
    "signature missing": ({k: HEADERS[k] for k in HEADERS if k != "webhook-signature"}, BODY),
    "signature of another key": (
        signed_headers([OTHER], delivery_id="a", sent_at_s=1614265330, body=BODY),
        BODY,
    ),
    "signature cut": (changed(webhook_signature=HEADERS["webhook-signature"][:-1]), BODY),
    "signature without version": (
        changed(webhook_signature=HEADERS["webhook-signature"].removeprefix("v1,")),
        BODY,
    ),
    "another version": (
        changed(webhook_signature=HEADERS["webhook-signature"].replace("v1", "v1a")),
        BODY,
    ),
    "an older version": (
        changed(webhook_signature=HEADERS["webhook-signature"].replace("v1", "v0")),
        BODY,
    ),
    "signature not text of ours": (changed(webhook_signature="v1,é"), BODY),
    "right one behind too many": (
        changed(webhook_signature="v1,AAAA " * 40 + HEADERS["webhook-signature"]),
        BODY,
    ),
    "no headers": ({}, BODY),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_delivery_is_refused(case: str) -> None:
    headers, body = FORGED[case]

    with pytest.raises(SignatureRefused):
        verify([SECRET], headers, body, now_s=NOW_S)


@pytest.mark.parametrize(("late_s", "is_taken"), [(-301, 0), (-300, 1), (300, 1), (301, 0)])
def test_a_delivery_is_taken_for_five_minutes(late_s: int, is_taken: int) -> None:
    if is_taken:
        assert verify([SECRET], HEADERS, BODY, now_s=NOW_S + late_s).sent_at_s == NOW_S
    else:
        with pytest.raises(SignatureRefused, match="too long ago"):
            verify([SECRET], HEADERS, BODY, now_s=NOW_S + late_s)


def test_while_a_secret_is_replaced_both_are_taken() -> None:
    headers = signed_headers([OTHER, SECRET], delivery_id="a", sent_at_s=int(NOW_S), body=BODY)

    assert headers["webhook-signature"].count("v1,") == 2
    for secrets in ([SECRET], [OTHER], [SECRET, OTHER]):
        assert verify(secrets, headers, BODY, now_s=NOW_S).delivery_id == "a"


def test_unknown_versions_beside_the_right_one_are_ignored() -> None:
    headers = changed(webhook_signature=f"v2,x {HEADERS['webhook-signature']} v1a,y")

    assert verify([SECRET], headers, BODY, now_s=NOW_S).sent_at_s == NOW_S


def test_without_a_secret_nothing_is_taken_or_made() -> None:
    with pytest.raises(SignatureRefused):
        verify([], HEADERS, BODY, now_s=NOW_S)
    with pytest.raises(ValueError, match="needs a secret"):
        signed_headers([], delivery_id="a", sent_at_s=0, body=BODY)


@pytest.mark.parametrize("delivery_id", ["", "a.b", "a b", "ä", "a\n", "a" * 257])
def test_an_id_that_could_not_be_verified_is_not_signed(delivery_id: str) -> None:
    with pytest.raises(ValueError, match="without dots"):
        signed_headers([SECRET], delivery_id=delivery_id, sent_at_s=0, body=BODY)


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64 at all!", SECRET.removeprefix("whsec_")],
)
def test_a_secret_that_nobody_issued_is_an_operators_mistake(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        verify([secret], HEADERS, BODY, now_s=NOW_S)


def test_a_new_secret_holds_its_bytes() -> None:
    secret = new_secret(bytes(range(32)))

    assert base64.b64decode(secret.removeprefix("whsec_")) == bytes(range(32))
    with pytest.raises(ValueError, match="16 random bytes"):
        new_secret(b"short")


@given(
    key=st.binary(min_size=16, max_size=64),
    delivery_id=st.from_regex(r"\A[A-Za-z0-9_-]{1,40}\Z"),
    sent_at_s=st.integers(0, 10**11),
    body=st.binary(max_size=200),
    flipped=st.integers(0, 10_000),
)
def test_what_is_signed_verifies_and_one_flipped_bit_does_not(
    key: bytes, delivery_id: str, sent_at_s: int, body: bytes, flipped: int
) -> None:
    secret = new_secret(key)
    headers = signed_headers([secret], delivery_id=delivery_id, sent_at_s=sent_at_s, body=body)

    assert verify([secret], headers, body, now_s=sent_at_s) == Delivery(delivery_id, sent_at_s)
    other = bytearray(body + b"\0")
    other[flipped % len(other)] ^= 1 << flipped % 8
    with pytest.raises(SignatureRefused):
        verify([secret], headers, bytes(other), now_s=sent_at_s)
