"""Names of stored files cannot leave their folder, and links cannot be made by anybody else."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.artifacts.keys import ArtifactKey, artifact_key, content_type_of, parse_key
from sayso.artifacts.links import FileLinks, LinkSecret
from sayso.errors import ArtifactMissing, LinkExpired, LinkRefused

SHA = "ab" * 32
KEY = artifact_key("alice", "video", sha256=SHA, suffix="mp4")
NEW = LinkSecret("k2", b"2" * 32)
OLD = LinkSecret("k1", b"1" * 32)
LINKS = FileLinks([NEW, OLD])
NOON_S = 1_800_000_000.0 - 1_800_000_000.0 % 3600


def parts_of(link: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(link)
    return parts.path.removeprefix("/files/"), dict(parse_qsl(parts.query))


def test_a_key_names_account_kind_and_content() -> None:
    assert f"alice/video/{SHA}.mp4" == KEY
    assert parse_key(KEY) == KEY
    assert content_type_of(KEY) == "video/mp4"


def test_a_suffix_that_we_do_not_serve_becomes_bytes() -> None:
    for suffix in ("html", "svg", "", "../x", "mp4/.."):
        key = artifact_key("alice", "file", sha256=SHA, suffix=suffix)
        assert content_type_of(key) == "application/octet-stream"


@pytest.mark.parametrize("account", ["", "..", "a/b", "Alice", "a" * 65, "-a", "a\n"])
def test_an_account_that_does_not_fit_is_refused(account: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        artifact_key(account, "video", sha256=SHA, suffix="mp4")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "../../etc/passwd",
        f"../video/{SHA}.mp4",
        f"alice/../video/{SHA}.mp4",
        f"alice/video/../{SHA}.mp4",
        f"alice/video/{SHA}.mp4/..",
        f"alice//{SHA}.mp4",
        f"/alice/video/{SHA}.mp4",
        f"alice/video/{SHA}.mp4\n",
        f"alice/video/{SHA}.mp4\0",
        f"alice/video/{SHA}.html",
        f"alice/video/{SHA}.mp4#1",
        f"alice\\video\\{SHA}.mp4",
        f"alice/%2e%2e/{SHA}.mp4",
        f"alice/video/{SHA[:-1]}.mp4",
        f"alice/video/{SHA.upper()}.mp4",
        f"alice/secrets/{SHA}.mp4",
        f"ａlice/video/{SHA}.mp4",
    ],
)
def test_what_is_no_key_is_missing(text: str) -> None:
    with pytest.raises(ArtifactMissing):
        parse_key(text)


@given(st.text())
def test_no_text_leaves_the_folder(text: str) -> None:
    try:
        key = parse_key(text)
    except ArtifactMissing:
        return
    assert ".." not in key
    assert not key.startswith("/")


def test_a_link_of_ours_is_taken() -> None:
    key_text, query = parts_of(LINKS.sign(KEY, now_s=NOON_S))

    assert LINKS.verify(key_text, query, now_s=NOON_S) == KEY
    assert set(query) == {"expires", "signature"}


def test_links_made_within_an_hour_are_equal() -> None:
    links = {LINKS.sign(KEY, now_s=NOON_S + minute * 60) for minute in range(1, 61)}

    assert len(links) == 1


@given(st.floats(0, 4e9), st.integers(600, 604_800))
def test_a_link_lives_at_least_its_lifetime_and_at_most_an_hour_more(
    now_s: float, lifetime_s: int
) -> None:
    _, query = parts_of(LINKS.sign(KEY, now_s=now_s, lifetime_s=lifetime_s))

    assert int(query["expires"]) % 3600 == 0
    assert 0 <= int(query["expires"]) - now_s - lifetime_s < 3600 + 1e-3


def test_an_expired_link_is_told_apart_from_a_forged_one() -> None:
    key_text, query = parts_of(LINKS.sign(KEY, now_s=NOON_S))
    end_s = float(query["expires"])

    assert LINKS.verify(key_text, query, now_s=end_s - 1) == KEY
    with pytest.raises(LinkExpired):
        LINKS.verify(key_text, query, now_s=end_s)
    with pytest.raises(LinkRefused) as caught:
        LINKS.verify(key_text, query | {"expires": str(int(end_s) + 3600)}, now_s=end_s)
    assert not isinstance(caught.value, LinkExpired)


def test_a_link_of_an_earlier_secret_is_taken_and_of_a_removed_one_is_not() -> None:
    key_text, query = parts_of(FileLinks([OLD]).sign(KEY, now_s=NOON_S))

    assert LINKS.verify(key_text, query, now_s=NOON_S) == KEY
    with pytest.raises(LinkRefused):
        FileLinks([NEW]).verify(key_text, query, now_s=NOON_S)


def test_a_nonce_is_part_of_what_is_signed() -> None:
    link = LINKS.sign(KEY, now_s=NOON_S, nonce="attempt-1")
    key_text, query = parts_of(link)

    assert LINKS.verify(key_text, query, now_s=NOON_S) == KEY
    assert link != LINKS.sign(KEY, now_s=NOON_S, nonce="attempt-2")
    for forged in ({**query, "nonce": "attempt-2"}, {k: query[k] for k in query if k != "nonce"}):
        with pytest.raises(LinkRefused):
            LINKS.verify(key_text, forged, now_s=NOON_S)
    with pytest.raises(ValueError, match="nonce"):
        LINKS.sign(KEY, now_s=NOON_S, nonce="a\nb")


@pytest.mark.parametrize(
    "change",
    [
        {"signature": ""},
        {"signature": "k2"},
        {"signature": "k2."},
        {"signature": "k3.AAAA"},
        {"signature": "k2.é"},
        {"expires": ""},
        {"expires": "-1"},
        {"expires": "1e9"},
        {"expires": "٣"},
        {"expires": "9" * 13},
    ],
)
def test_a_changed_query_is_refused(change: dict[str, str]) -> None:
    key_text, query = parts_of(LINKS.sign(KEY, now_s=NOON_S))

    with pytest.raises(LinkRefused):
        LINKS.verify(key_text, query | change, now_s=NOON_S)


def test_a_link_does_not_open_another_file() -> None:
    other = artifact_key("bob", "video", sha256=SHA, suffix="mp4")
    _, query = parts_of(LINKS.sign(KEY, now_s=NOON_S))

    with pytest.raises(LinkRefused):
        LINKS.verify(other, query, now_s=NOON_S)
    with pytest.raises(LinkRefused):
        LINKS.verify(KEY, {}, now_s=NOON_S)


def test_the_signature_of_a_known_link_does_not_change() -> None:
    # Computed with openssl from the message of `_signature`.
    link = LINKS.sign(ArtifactKey(KEY), now_s=NOON_S, lifetime_s=3600)

    assert link == (
        f"/files/{KEY}?expires=1800003600&signature=k2.yibsOEhDQMwD7M1Hi3Vw1E8WsvdlpMfC1bXGR24CW_o"
    )


def test_weak_secrets_are_refused_and_none_is_printed() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        LinkSecret("k1", b"short")
    with pytest.raises(ValueError, match="id of letters"):
        LinkSecret("k.1", b"1" * 32)
    with pytest.raises(ValueError, match="without a secret"):
        FileLinks([])
    assert "111" not in repr(OLD)
