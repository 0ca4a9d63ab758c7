"""Pictures of every kind become upright sRGB pixels, and bad files a typed error."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from sayso.errors import ImageRejected, ImageTooLarge, ImageUnreadable, ImageUnsupported
from sayso.media.image import ImageLimits, Picture, read_picture
from tests.heic_writer import heic_of

Rgb = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 96, 64


def scene() -> Image.Image:
    """A smooth picture with a light corner at the top left, so that any turn or flip shows."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green, blue = 255 - 2 * x, 250 - 3 * y, 60 + x
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8).copy())


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def error_against(picture: Picture, wanted: Image.Image) -> float:
    pixels = np.asarray(wanted.convert("RGB"), np.int16)
    assert picture.rgb.shape == pixels.shape
    return float(np.abs(picture.rgb - pixels).mean())


def codes(picture: Picture) -> list[str]:
    return [notice.code for notice in picture.notices]


SCENE_AS: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(scene(), "JPEG", quality=95, subsampling=0),
    "progressive JPEG": lambda: saved(scene(), "JPEG", quality=95, progressive=True),
    "PNG": lambda: saved(scene(), "PNG"),
    "WebP": lambda: saved(scene(), "WEBP", quality=95),
    "lossless WebP": lambda: saved(scene(), "WEBP", lossless=True),
    "AVIF": lambda: saved(scene(), "AVIF", quality=95),
    "HEIC": lambda: heic_of(np.asarray(scene())),
    "GIF": lambda: saved(scene(), "GIF"),
    "TIFF": lambda: saved(scene(), "TIFF"),
    "LZW TIFF": lambda: saved(scene(), "TIFF", compression="tiff_lzw"),
    "big-endian TIFF": lambda: saved(scene(), "TIFF", big_tiff=True),
    "BMP": lambda: saved(scene(), "BMP"),
}


@pytest.mark.parametrize("kind", SCENE_AS)
def test_each_kind_is_read(kind: str, tmp_path: Path) -> None:
    """By its content: the name claims something else."""
    path = tmp_path / "picture.txt"
    path.write_bytes(SCENE_AS[kind]())

    picture = read_picture(path)

    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.flags.c_contiguous
    assert picture.notices == ()
    assert error_against(picture, scene()) < (6 if kind == "GIF" else 2.5)


def test_path_and_content_give_the_same_pixels(portrait: Path) -> None:
    by_path, by_content = read_picture(portrait), read_picture(portrait.read_bytes())

    assert np.array_equal(by_path.rgb, by_content.rgb)


# Rotation.


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = scene().transpose(undo[orientation]) if orientation in undo else scene()

    picture = read_picture(saved(stored, kind, exif=exif))

    assert error_against(picture, scene()) < 3


def test_heic_rotation_is_applied() -> None:
    turned = scene().transpose(Image.Transpose.ROTATE_90)

    picture = read_picture(heic_of(np.asarray(scene()), quarter_turns=1))

    assert error_against(picture, turned) < 2.5


def test_damaged_exif_is_ignored() -> None:
    content = saved(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01\x02", quality=95)

    assert error_against(read_picture(content), scene()) < 3


# Colours.


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"),
        ("1", "TIFF"),
        ("L", "JPEG"),
        ("L", "PNG"),
        ("L", "AVIF"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("P", "BMP"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("RGBA", "TIFF"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
    ],
)
def test_each_mode_of_colour_is_read(mode: str, kind: str) -> None:
    converted = scene().convert(mode)

    picture = read_picture(saved(converted, kind))

    assert error_against(picture, converted) < 4
    assert picture.notices == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_gray_keeps_its_shades(kind: str) -> None:
    ramp = np.tile(np.linspace(0, 65_535, WIDTH).astype(np.uint16), (HEIGHT, 1))

    picture = read_picture(saved(Image.fromarray(ramp), kind))

    assert np.abs(picture.rgb[:, :, 0] - ramp / 257.0).max() <= 0.51


def test_sixteen_bit_colour_keeps_its_shades() -> None:
    rows = b"".join(
        b"\0" + np.asarray(scene().crop((0, y, WIDTH, y + 1))).astype(">u2").__mul__(257).tobytes()
        for y in range(HEIGHT)
    )

    picture = read_picture(png_of(WIDTH, HEIGHT, depth=16, colour=2, rows=rows))

    assert error_against(picture, scene()) < 0.1


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_float_gray_keeps_its_shades(white: float) -> None:
    ramp = np.tile(np.linspace(0, white, WIDTH).astype(np.float32), (HEIGHT, 1))

    picture = read_picture(saved(Image.fromarray(ramp), "TIFF"))

    assert np.abs(picture.rgb[:, :, 0] - ramp * (255.0 / white)).max() <= 0.51


def test_lab_is_read() -> None:
    lab = ImageCms.profileToProfile(
        scene(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None

    assert error_against(read_picture(saved(lab, "TIFF")), scene()) < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_colours_go_through_the_profile(kind: str) -> None:
    """The profile says that what is stored as red is blue, and the other way round."""
    red, green, blue = scene().split()
    swapped = Image.merge("RGB", (blue, green, red))

    picture = read_picture(saved(swapped, kind, icc_profile=red_for_blue_profile()))

    assert error_against(picture, scene()) < 4
    assert picture.notices == ()


def test_colours_under_transparency_go_through_the_profile() -> None:
    red, green, blue = scene().split()
    half = Image.new("L", scene().size, 128)
    swapped = Image.merge("RGBA", (blue, green, red, half))

    picture = read_picture(saved(swapped, "PNG", icc_profile=red_for_blue_profile()))

    assert (
        error_against(picture, Image.blend(scene(), Image.new("RGB", scene().size, "white"), 0.5))
        < 2
    )


@pytest.mark.parametrize("profile", [b"not a profile", b"\0" * 200])
def test_damaged_profile_is_ignored_with_a_notice(profile: bytes) -> None:
    picture = read_picture(saved(scene(), "PNG", icc_profile=profile))

    assert codes(picture) == ["picture_profile_ignored"]
    assert error_against(picture, scene()) < 1


def test_profile_of_another_colour_space_is_ignored_with_a_notice() -> None:
    content = saved(scene().convert("CMYK"), "TIFF", icc_profile=red_for_blue_profile())

    assert codes(read_picture(content)) == ["picture_profile_ignored"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_transparency_is_put_on_white(kind: str) -> None:
    image = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
    image.paste((200, 30, 40, 255), (0, 0, WIDTH // 2, HEIGHT))

    options = {} if kind in {"PNG", "TIFF"} else {"quality": 100}
    picture = read_picture(saved(image, kind, **options))

    assert codes(picture) == ["picture_transparent"]
    assert picture.rgb[:, WIDTH // 2 + 8 :].min() >= 250
    assert np.abs(picture.rgb[:, : WIDTH // 2 - 8] - (200.0, 30.0, 40.0)).max() < 12


def test_transparent_palette_colour_is_put_on_white() -> None:
    image = Image.new("P", (WIDTH, HEIGHT), 0)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(1, (0, 0, WIDTH // 2, HEIGHT))

    picture = read_picture(saved(image, "PNG", transparency=0))

    assert tuple(picture.rgb[5, 5]) == (10, 200, 30)
    assert tuple(picture.rgb[5, -5]) == (255, 255, 255)


# Animations and great sizes.


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animation_gives_its_first_frame_and_a_notice(kind: str) -> None:
    later = [ImageOps.invert(scene()), Image.new("RGB", scene().size)]

    picture = read_picture(saved(scene(), kind, save_all=True, append_images=later, duration=100))

    assert codes(picture) == ["picture_animated"]
    assert error_against(picture, scene()) < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("times", [3, 8])
def test_great_pictures_are_reduced_with_a_notice(kind: str, times: int) -> None:
    great = scene().resize((WIDTH * times, HEIGHT * times), Image.Resampling.BICUBIC)

    picture = read_picture(saved(great, kind), limits=ImageLimits(side_px=WIDTH))

    assert picture.rgb.shape == (HEIGHT, WIDTH, 3)
    assert codes(picture) == ["picture_reduced"]
    assert f"has {WIDTH * times} x {HEIGHT * times} pixels" in picture.notices[0].text
    assert error_against(picture, scene()) < 3


# Refusals.


NOT_PICTURES = {
    "text": b"This is not a picture at all, and BMP does not make it one.",
    "BM text": b"BM is how this text starts, but it goes on differently.",
    "one byte": b"\xff",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0",
    "mp4": b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41",
    "zip": b"PK\x03\x04\x14\0\0\0\x08\0",
    "zeros": bytes(4096),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
}


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_what_is_no_picture_is_unsupported(name: str) -> None:
    with pytest.raises(ImageUnsupported, match="JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF or BMP"):
        read_picture(NOT_PICTURES[name])


def test_empty_file_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()

    with pytest.raises(ImageUnreadable, match="empty"):
        read_picture(path)


def test_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match=r"ghost\.png cannot be opened: No such file"):
        read_picture(tmp_path / "ghost.png")


def test_folder_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match="Is a directory"):
        read_picture(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "AVIF", "HEIC", "LZW TIFF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_cut_off_file_is_unreadable(kind: str, share: float) -> None:
    content = SCENE_AS[kind]()

    with pytest.raises(ImageUnreadable, match="damaged"):
        read_picture(content[: max(round(len(content) * share), 16)])


def test_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "great.png"
    with path.open("wb") as file:
        file.write(SCENE_AS["PNG"]())
        file.truncate(8_000_000_000)

    with pytest.raises(ImageTooLarge, match="more than 20 MB"):
        read_picture(path)
    with pytest.raises(ImageTooLarge, match="more than 1 MB"):
        read_picture(bytes(2**20 + 1), limits=ImageLimits(size_bytes=2**20))


def bomb_png(side: int) -> bytes:
    """A PNG of one bit per pixel, all of them black: its data would inflate a thousandfold."""
    squeeze = zlib.compressobj(9)
    line = bytes(1 + side // 8)
    packed = b"".join(squeeze.compress(line) for _ in range(side)) + squeeze.flush()
    return png_of(side, side, depth=1, colour=0, packed=packed)


BOMBS: dict[str, Callable[[], bytes]] = {
    "png, 51 megapixels": lambda: png_of(10_200, 5_000, depth=8, colour=2, packed=b""),
    "png, 100 megapixels": lambda: bomb_png(10_000),
    "png, 3600 megapixels": lambda: png_of(60_000, 60_000, depth=1, colour=0, packed=b""),
    "gif, 4295 megapixels": lambda: (
        b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\2\0;"
    ),
    "bmp, 400 megapixels": lambda: (
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 20_000, 20_000, 1, 24, *[0] * 6)
    ),
    "jpeg, 4295 megapixels": lambda: (
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\0\x03\x11\0\xff\xd9"
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_too_many_pixels_are_refused_from_the_header(name: str) -> None:
    with pytest.raises(ImageTooLarge, match="more than 50 megapixels"):
        read_picture(BOMBS[name]())


def test_limits_can_be_raised() -> None:
    limits = ImageLimits(pixels=100_000_001, side_px=128)

    assert read_picture(bomb_png(10_000), limits=limits).rgb.shape == (128, 128, 3)


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(sorted(SCENE_AS)),
    places=st.lists(st.floats(0, 0.999), min_size=1, max_size=4),
    values=st.lists(st.integers(0, 255), min_size=4, max_size=4),
)
def test_damage_never_raises_anything_else(
    kind: str, places: list[float], values: list[int]
) -> None:
    content = bytearray(SCENE_AS[kind]())
    for place, value in zip(places, values, strict=False):
        # Headers lie at the start, and damage there is the most inventive.
        content[int(place**3 * len(content))] = value

    try:
        picture = read_picture(bytes(content), limits=ImageLimits(pixels=1_000_000))
    except ImageRejected:
        return
    assert picture.rgb.ndim == 3


# Files by hand.


def png_of(
    width: int,
    height: int,
    *,
    depth: int,
    colour: int,
    rows: bytes = b"",
    packed: bytes | None = None,
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(rows) if packed is None else packed
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def red_for_blue_profile() -> bytes:
    """An sRGB profile whose primaries for red and blue have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    table, rest = profile[:400], profile[400:]
    table = table.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    return table + rest
