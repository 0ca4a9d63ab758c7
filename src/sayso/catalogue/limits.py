"""What a model says of the files that it takes, checked before anything is held.

    PortraitLimits, SpeechLimits    the limits that a model states; what it does not state is None
    .check()                        whether a stored file keeps them

A model whose provider would refuse a file minutes later refuses it here at once, in words that say
what to do. A format is the ending of a stored file (`artifacts.keys`), found in its content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from sayso.errors import (
    ImageTooLarge,
    ImageTooSmall,
    ImageUnsupported,
    SpeechTooLarge,
    SpeechTooLong,
    SpeechTooShort,
    SpeechUnsupported,
)

PortraitFormat = Literal["jpg", "png", "webp", "avif", "heic", "gif", "tiff", "bmp"]
SpeechFormat = Literal["wav", "mp3", "ogg", "flac", "m4a", "aac", "mp4", "webm"]
Bytes = Annotated[int, Field(gt=0)]
Pixels = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]

_MB: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PortraitLimits:
    """What a model says of its picture; no `formats` are all of them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    max_bytes: Bytes | None = None
    min_side_px: Pixels | None = None
    max_side_px: Pixels | None = None
    formats: tuple[PortraitFormat, ...] = ()

    def check(
        self, model: str, *, suffix: str, size_bytes: int, width: int | None, height: int | None
    ) -> None:
        """Raise `ImageUnsupported`, `ImageTooLarge` or `ImageTooSmall` for what it does not take.

        `width` and `height` are in pixels, None where nobody measured them.
        """
        if self.formats and suffix not in self.formats:
            raise ImageUnsupported(
                f"{model} takes {_listed(self.formats)}; this is {_kind(suffix)}."
            )
        if self.max_bytes is not None and size_bytes > self.max_bytes:
            raise ImageTooLarge(
                f"{model} takes pictures of {self.max_bytes / _MB:g} MB at most;"
                f" this has {size_bytes / _MB:.1f} MB."
            )
        if width is None or height is None:
            return
        said = f"this one is {width} x {height}."
        if self.min_side_px is not None and min(width, height) < self.min_side_px:
            raise ImageTooSmall(
                f"{model} takes pictures of at least {self.min_side_px} pixels a side; {said}"
            )
        if self.max_side_px is not None and max(width, height) > self.max_side_px:
            raise ImageTooLarge(
                f"{model} takes pictures of at most {self.max_side_px} pixels a side; {said}"
            )


@dataclass(frozen=True, kw_only=True)
class SpeechLimits:
    """What a model says of its recording; no `formats` are all of them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    min_s: Seconds | None = None
    max_bytes: Bytes | None = None
    formats: tuple[SpeechFormat, ...] = ()

    def check(
        self, model: str, *, suffix: str, size_bytes: int, duration_s: float, max_s: float
    ) -> None:
        """Raise what fits of `SpeechTooLong`, `SpeechTooShort`, `SpeechTooLarge` for a recording.

        `max_s` is the model's longest speech. Raises `SpeechUnsupported` for another format.
        """
        lasts = f"this is {duration_s:.1f} s."
        if duration_s > max_s:
            raise SpeechTooLong(f"{model} takes {max_s:g} s of speech at most; {lasts}")
        if self.min_s is not None and duration_s < self.min_s:
            raise SpeechTooShort(f"{model} takes {self.min_s:g} s of speech at least; {lasts}")
        if self.formats and suffix not in self.formats:
            raise SpeechUnsupported(
                f"{model} takes {_listed(self.formats)}; this is {_kind(suffix)}."
            )
        if self.max_bytes is not None and size_bytes > self.max_bytes:
            raise SpeechTooLarge(
                f"{model} takes recordings of {self.max_bytes / _MB:g} MB at most; this has"
                f" {size_bytes / _MB:.1f} MB. The same as MP3 is smaller."
            )


def _listed(formats: tuple[str, ...]) -> str:
    return ", ".join(name.upper() for name in formats)


def _kind(suffix: str) -> str:
    return "of another kind" if suffix == "bin" else suffix.upper()
