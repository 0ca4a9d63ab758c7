"""`data:` URLs (RFC 2397): small files inside a JSON body, decoded by us within a limit.

How long the content will be is known from the text, so an oversized one is refused before it is
decoded. What is in it is decided by the decoder, as for every file: the media type in front is
only checked for being of a kind that could be a picture, a recording or a video.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from sayso.errors import DownloadTooLarge, UrlRefused
from sayso.media.intake import in_megabytes

_HEAD: Final = re.compile(
    r"data:(?P<type>[a-z0-9.+-]+/[a-z0-9.+-]+)(?:;[a-z0-9-]+=[^;,]{0,100}){0,5}(?P<base64>;base64)?",
    re.IGNORECASE,
)
_MAX_HEAD_LENGTH: Final = 600
_TYPES: Final = re.compile(
    r"(image|audio|video)/(?!svg)[a-z0-9.+-]+|application/(octet-stream|ogg)"
)
_BLANKS: Final = b" \t\r\n\f"
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


def is_data_url(text: str) -> bool:
    """Tell whether a URL carries its content itself."""
    return text[:5].lower() == "data:"


def decode_data_url(text: str, *, max_bytes: int) -> bytes:
    """Return the content of a `data:` URL.

    Raises `DownloadTooLarge` before decoding more than the limit, `UrlRefused` for a URL that is
    malformed or of a kind that is no media.
    """
    comma = text.find(",", 0, _MAX_HEAD_LENGTH)
    head = _HEAD.fullmatch(text[:comma]) if comma >= 0 else None
    if head is None:
        raise UrlRefused("The data: URL does not begin with a media type and a comma.")
    if _TYPES.fullmatch(head["type"].lower()) is None:
        raise UrlRefused("The data: URL is not a picture, a recording or a video.")
    is_base64 = head["base64"] is not None
    if _decoded_length(text, comma + 1, is_base64=is_base64) > max_bytes:
        raise DownloadTooLarge(f"The data: URL holds more than {in_megabytes(max_bytes)}.")
    try:
        content = unquote_to_bytes(text[comma + 1 :].encode("ascii"))
        content = _from_base64(content) if is_base64 else content
    except (UnicodeEncodeError, binascii.Error):
        raise UrlRefused("The data: URL is damaged: its content cannot be decoded.") from None
    if len(content) > max_bytes:
        raise DownloadTooLarge(f"The data: URL holds more than {in_megabytes(max_bytes)}.")
    return content


def _decoded_length(text: str, start: int, *, is_base64: bool) -> int:
    """Return a length that the content is not shorter than, but for blanks, from the text alone."""
    characters = len(text) - start - 2 * text.count("%", start)
    if not is_base64:
        return characters
    blanks = sum(text.count(chr(blank), start) for blank in _BLANKS)
    return (characters - blanks) * 3 // 4 - 2


def _from_base64(content: bytes) -> bytes:
    """Decode base64 as browsers do: blanks are skipped, padding may be missing, either alphabet."""
    content = content.translate(_URL_SAFE, _BLANKS).rstrip(b"=")
    return base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
