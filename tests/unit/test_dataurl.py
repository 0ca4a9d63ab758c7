"""`data:` URLs are decoded as browsers do, but within a limit that is known beforehand."""

import base64
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.errors import DownloadTooLarge, UrlRefused
from sayso.media.dataurl import decode_data_url, is_data_url


@pytest.mark.parametrize(
    ("url", "content"),
    [
        ("data:image/png;base64,aGVsbG8=", b"hello"),
        ("data:image/png;base64,aGVsbG8", b"hello"),
        ("DATA:IMAGE/PNG;BASE64,aGVsbG8=", b"hello"),
        ("data:image/png;base64,aGVs\nbG8=\n", b"hello"),
        ("data:image/png;base64,aGVsbG8%3D", b"hello"),
        ("data:image/png;base64,-_-_", b"\xfb\xff\xbf"),
        ("data:image/png;base64,+/+/", b"\xfb\xff\xbf"),
        ("data:audio/ogg;codecs=opus;base64,aGVsbG8=", b"hello"),
        ("data:audio/wav,a%00b", b"a\0b"),
        ("data:video/mp4;base64,", b""),
        ("data:application/octet-stream;base64,aGVsbG8=", b"hello"),
    ],
)
def test_content_is_decoded(url: str, content: bytes) -> None:
    assert is_data_url(url)
    assert decode_data_url(url, max_bytes=100) == content


@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:,hello",
        "data:image/png;base64",
        "data:;base64,aGVsbG8=",
        "data:text/html,<script>",
        "data:image/svg+xml;base64,aGVsbG8=",
        "data:application/json,{}",
        "data:image;base64,aGVsbG8=",
        "data:image/png;base64,a",
        "data:image/png;base64,aGVs!G8=",
        "data:image/png;base64,aG=VsbG8",
        "data:image/png;base64,ａＧＶｓ",
        "data:audio/wav,é",
        "data:image/png" + ";a=b" * 200 + ";base64,aGVsbG8=",
    ],
)
def test_a_damaged_or_unfit_url_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        decode_data_url(url, max_bytes=100)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_the_limit_is_exact(content: bytes, max_bytes: int) -> None:
    url = "data:image/png;base64," + base64.b64encode(content).decode()

    if len(content) <= max_bytes:
        assert decode_data_url(url, max_bytes=max_bytes) == content
    else:
        with pytest.raises(DownloadTooLarge):
            decode_data_url(url, max_bytes=max_bytes)


@given(st.text(max_size=200))
def test_any_text_is_either_refused_or_within_the_limit(text: str) -> None:
    try:
        content = decode_data_url("data:image/png;base64," + text, max_bytes=50)
    except (UrlRefused, DownloadTooLarge):
        return
    assert len(content) <= 50


@pytest.mark.parametrize("head", ["data:image/png;base64,", "data:image/png,"])
def test_too_much_is_refused_before_it_is_decoded(head: str) -> None:
    url = head + "A" * 20_000_000
    tracemalloc.start()
    try:
        with pytest.raises(DownloadTooLarge, match="more than 1 MB"):
            decode_data_url(url, max_bytes=1 << 20)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 1_000_000
