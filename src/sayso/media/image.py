"""Pictures that people hand us, of any common kind, as upright sRGB pixels.

    read_picture(path or bytes) -> Picture

What a file is, its content says, not its name. Bytes and pixels are counted before anything is
decoded. Then: rotation (EXIF), first frame of an animation, colours to sRGB (ICC profiles, CMYK,
Lab), 16 bits to 8, transparency on white, and very large pictures reduced.
Whatever was changed in a way that shows is told by a notice.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pi_heif
from PIL import Image, ImageCms, ImageOps

from sayso.errors import ImageTooLarge, ImageUnreadable, ImageUnsupported, Notice

KINDS: Final = ("JPEG", "PNG", "WebP", "AVIF", "HEIC", "GIF", "TIFF", "BMP")

_PILLOW_FORMATS: Final = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "WebP": "WEBP",
    "AVIF": "AVIF",
    "HEIC": "HEIF",
    "GIF": "GIF",
    "TIFF": "TIFF",
    "BMP": "BMP",
}
_FIRST_BYTES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"})
# Pillow itself opens nothing larger, whatever our limit.
_PILLOW_PIXELS: Final = 2 * (Image.MAX_IMAGE_PIXELS or 0)
_REDUCED_AT_ONCE: Final = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"})
_OPAQUE: Final = 255
_WHITE_16_BIT: Final = 65_535
_BMP_HEADER_SIZES: Final = frozenset({12, 40, 52, 56, 64, 108, 124})

# What Pillow and the libraries below it raise for damaged files, beside `OSError`; a fuzz test
# looks for more.
_DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
)


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """How much of a picture we take on.

    `size_bytes` and `pixels` refuse a file; `side_px` only reduces what was read, because no face
    gains from more and memory does not grow on trees.
    """

    size_bytes: int = 20 * 1024 * 1024
    pixels: int = 50_000_000
    side_px: int = 4096


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture: `rgb` is uint8[h, w, 3], sRGB, upright and C-contiguous."""

    rgb: npt.NDArray[np.uint8]
    notices: tuple[Notice, ...] = ()


def read_picture(source: Path | bytes, *, limits: ImageLimits = ImageLimits()) -> Picture:
    """Read a picture file or its content.

    Raises `ImageTooLarge` (before decoding), `ImageUnsupported` (not one of `KINDS`) and
    `ImageUnreadable` (missing, empty or damaged).
    """
    content = _content_of(source, limits)
    kind = kind_of(content)
    with warnings.catch_warnings():
        # Pillow's warnings are about metadata that we drop, and bombs, which our limit refuses.
        warnings.simplefilter("ignore")
        try:
            return _decode(content, kind, limits)
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(_too_many_pixels(limits)) from error
        except _DAMAGE as error:
            raise ImageUnreadable(
                f"The picture is damaged: it starts as {kind} but cannot be read to its end."
            ) from error


# From a file to a known kind.


def _content_of(source: Path | bytes, limits: ImageLimits) -> bytes:
    if isinstance(source, bytes):
        content = source
    else:
        try:
            with source.open("rb") as file:
                content = file.read(limits.size_bytes + 1)
        except OSError as error:
            raise ImageUnreadable(
                f"The picture {source.name} cannot be opened: {error.strerror}."
            ) from error
    if len(content) > limits.size_bytes:
        raise ImageTooLarge(
            f"The picture has more than {limits.size_bytes / 2**20:g} MB, which is the limit."
        )
    if not content:
        raise ImageUnreadable("The picture is an empty file.")
    return content


def kind_of(content: bytes) -> str:
    """Return which of `KINDS` a file's first bytes say it is, or raise `ImageUnsupported`."""
    for start, kind in _FIRST_BYTES:
        if content.startswith(start):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[:2] == b"BM" and content[14:15] and content[14] in _BMP_HEADER_SIZES:
        return "BMP"
    if content[4:8] == b"ftyp":
        brands = _brands(content)
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIC_BRANDS:
            return "HEIC"
    raise ImageUnsupported(
        f"This is not a picture of a kind that can be read: {', '.join(KINDS[:-1])} or {KINDS[-1]}."
    )


def _brands(content: bytes) -> frozenset[bytes]:
    """Return the brands of an ISO media file's `ftyp` box: the major and the compatible ones."""
    length = min(int.from_bytes(content[:4], "big"), 256)
    fields = [content[at : at + 4] for at in range(8, length, 4)]
    return frozenset(fields[:1] + fields[2:])


# From a known kind to pixels.


def _decode(content: bytes, kind: str, limits: ImageLimits) -> Picture:
    _know_heic()
    notices = []
    with Image.open(io.BytesIO(content), formats=[_PILLOW_FORMATS[kind]]) as image:
        if image.width * image.height > limits.pixels:
            raise ImageTooLarge(_too_many_pixels(limits))
        if kind != "JPEG" and getattr(image, "n_frames", 1) > 1:
            notices.append(
                Notice("picture_animated", "The picture is animated; its first frame is used.")
            )
        # A JPEG can be decoded at half its size or less, which saves most of the time.
        size = image.size
        image.draft(None, (limits.side_px, limits.side_px))
        image.load()
        if image.mode in _REDUCED_AT_ONCE and "transparency" not in image.info:
            # Before anything is copied: 50 megapixels are 200 MB each time.
            image.thumbnail((limits.side_px, limits.side_px), Image.Resampling.LANCZOS)
        upright = _upright(image)
    colours, found = _to_rgb(upright)
    notices += found
    if max(size) > limits.side_px:
        colours.thumbnail((limits.side_px, limits.side_px), Image.Resampling.LANCZOS)
        notices.append(
            Notice(
                "picture_reduced",
                f"The picture has {size[0]} x {size[1]} pixels; it was reduced"
                f" to {max(colours.size)} pixels on its long side.",
            )
        )
    return Picture(np.array(colours, np.uint8, order="C"), tuple(notices))


@lru_cache(maxsize=1)
def _know_heic() -> None:
    pi_heif.register_heif_opener()


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:
        # Damaged EXIF data says nothing about the pixels.
        return image.copy()


def _to_rgb(image: Image.Image) -> tuple[Image.Image, list[Notice]]:
    """Return the picture in mode RGB, in sRGB, on white; and what the user should know of that."""
    notices = []
    image = _to_eight_bits(image)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema()[0] == _OPAQUE:
            alpha = None
    try:
        image = _to_srgb(image)
    except (ImageCms.PyCMSError, OSError, ValueError):
        image = image.convert("RGB")
        notices.append(
            Notice(
                "picture_profile_ignored",
                "The picture's colour profile cannot be used; its colours may be slightly off.",
            )
        )
    if alpha is not None:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        image = white
        notices.append(
            Notice("picture_transparent", "The picture's transparent parts were put on white.")
        )
    return image, notices


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Return a picture whose channels have 8 bits; Pillow's own conversion would clip the rest."""
    if image.mode not in {"I", "F"} and not image.mode.startswith("I;"):
        return image
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0.0, neginf=0.0)
    top = values.max()
    if image.mode == "F":
        white = 1.0 if top <= 1.0 else max(float(top), 255.0)
    else:
        # Mode I holds 16-bit gray more often than 32-bit.
        white = float(_WHITE_16_BIT if top <= _WHITE_16_BIT else 2**31 - 1)
    gray = Image.fromarray(np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8))
    # A profile of 16-bit gray fits 8-bit gray.
    gray.info.update({key: image.info[key] for key in ("icc_profile",) if key in image.info})
    return gray


def _to_srgb(image: Image.Image) -> Image.Image:
    """Return the picture in mode RGB by its ICC profile, or plainly if it has none."""
    if image.mode == "LAB":
        return _through_profile(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    profile = image.info.get("icc_profile")
    if not profile or image.mode == "1":
        return image.convert("RGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if space == "GRAY":
        return _through_profile(image.convert("L"), source)
    if space == "CMYK" and image.mode == "CMYK":
        return _through_profile(image, source)
    if space == "RGB" and image.mode != "CMYK":
        return _through_profile(image.convert("RGB"), source)
    # A profile of another colour space than the pixels'.
    raise ValueError(f"a {space} profile on {image.mode} pixels")


def _through_profile(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None
    return converted


def _too_many_pixels(limits: ImageLimits) -> str:
    most = min(limits.pixels, _PILLOW_PIXELS)
    return f"The picture has more than {most / 1e6:.3g} megapixels, which is the limit."
