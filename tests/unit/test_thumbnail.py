"""A portrait's thumbnail: cut around the face, small in every sense, and nothing but pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sayso.media.image import read_picture
from sayso.media.thumbnail import LARGEST_BYTES, SIDE_PX, is_webp, thumbnail_of

Rgb = npt.NDArray[np.uint8]

GREEN, RED, BLUE, GREY = (0, 200, 0), (200, 0, 0), (0, 0, 200), (120, 120, 120)


def canvas(width: int, height: int, colour: tuple[int, int, int] = GREEN) -> Rgb:
    return np.full((height, width, 3), colour, np.uint8)


def decoded(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "WEBP"
        assert image.size == (SIDE_PX, SIDE_PX)
        assert image.mode == "RGB"
        return image.copy()


def colour_at(image: Image.Image, x: float, y: float) -> str:
    """Which colour lies at a place, by shares of the side."""
    pixel = image.getpixel((int(x * (SIDE_PX - 1)), int(y * (SIDE_PX - 1))))
    assert isinstance(pixel, tuple)
    return ("red", "green", "blue")[int(np.argmax(pixel))]


def test_the_cut_is_around_the_face_with_air(portrait: Path) -> None:
    """The whole face is in it, but neither a small speck nor the frame's edge to edge."""
    rgb = canvas(1000, 800)
    rgb[300:400, 600:700] = RED

    seen = decoded(thumbnail_of(rgb, (600, 300, 700, 400)))

    is_red = np.asarray(seen)[..., 0] > 100
    assert 0.2 < is_red.mean() < 0.4
    assert not is_red[0].any()
    assert not is_red[-1].any()
    assert not is_red[:, 0].any()
    assert not is_red[:, -1].any()
    assert colour_at(seen, 0.5, 0.55) == "red"
    assert len(thumbnail_of(read_picture(portrait).rgb, None)) <= LARGEST_BYTES


@pytest.mark.parametrize(
    ("face", "place"),
    [
        ((0, 0, 100, 100), (0.0, 0.0)),
        ((900, 0, 1000, 100), (1.0, 0.0)),
        ((0, 700, 100, 800), (0.0, 1.0)),
        ((900, 700, 1000, 800), (1.0, 1.0)),
        ((-50, -50, 50, 50), (0.0, 0.0)),
        ((950, 750, 1080, 860), (1.0, 1.0)),
    ],
)
def test_a_face_at_the_border_stays_within_the_picture(
    face: tuple[float, float, float, float], place: tuple[float, float]
) -> None:
    """The detector's box may go beyond the picture's edge; the cut may not."""
    left, top, right, bottom = (max(0, round(edge)) for edge in face)
    rgb = canvas(1000, 800)
    rgb[top:bottom, left:right] = RED

    assert colour_at(decoded(thumbnail_of(rgb, face)), *place) == "red"


def test_a_face_larger_than_the_picture_is_wide_takes_all_of_it() -> None:
    rgb = canvas(400, 300)
    rgb[:, 200:] = RED

    seen = decoded(thumbnail_of(rgb, (40, -20, 390, 330)))

    assert {colour_at(seen, 0.02, 0.5), colour_at(seen, 0.98, 0.5)} == {"green", "red"}


def test_without_a_face_a_wide_picture_gives_its_middle() -> None:
    rgb = canvas(900, 300, BLUE)
    rgb[:, 300:600] = RED

    seen = decoded(thumbnail_of(rgb, None))

    assert [colour_at(seen, x, 0.5) for x in (0.02, 0.5, 0.98)] == ["red", "red", "red"]


def test_without_a_face_a_tall_picture_gives_where_a_head_would_be() -> None:
    rgb = canvas(300, 1100, BLUE)
    rgb[200:500] = RED

    seen = decoded(thumbnail_of(rgb, None))

    assert [colour_at(seen, 0.5, y) for y in (0.02, 0.5, 0.98)] == ["red", "red", "red"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (7, 4096), (4096, 4096)])
def test_every_shape_gives_a_square(shape: tuple[int, int]) -> None:
    assert np.ptp(np.asarray(decoded(thumbnail_of(canvas(*shape, GREY), None)))) <= 6


@settings(deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    edges=st.tuples(*[st.floats(-400, 700)] * 4),
)
def test_no_box_is_too_odd(
    width: int, height: int, edges: tuple[float, float, float, float]
) -> None:
    decoded(thumbnail_of(canvas(width, height), edges))


@pytest.mark.parametrize(
    "values", [np.arange(256), np.array([0, 255])], ids=["grey noise", "black and white"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_cannot_be_compressed_is_small_all_the_same(values: Rgb, channels: int) -> None:
    noise = np.random.default_rng(1).choice(values, (SIDE_PX, SIDE_PX, channels))
    rgb = np.broadcast_to(noise, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)

    content = thumbnail_of(rgb, None)

    decoded(content)
    assert 1000 < len(content) <= LARGEST_BYTES


def test_a_picture_on_its_side_is_upright_in_its_thumbnail() -> None:
    """As the camera stored it: EXIF says that the right edge is the top."""
    stored = canvas(300, 300)
    stored[:, 200:] = RED
    exif = Image.Exif()
    exif[0x0112] = 8
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "JPEG", quality=95, exif=exif)

    seen = decoded(thumbnail_of(read_picture(file.getvalue()).rgb, None))

    assert (colour_at(seen, 0.5, 0.1), colour_at(seen, 0.5, 0.9)) == ("red", "green")


def test_what_is_transparent_is_white() -> None:
    file = io.BytesIO()
    picture = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    picture.paste((200, 0, 0, 255), (0, 0, 100, 200))
    picture.save(file, "PNG")

    seen = decoded(thumbnail_of(read_picture(file.getvalue()).rgb, None))

    assert colour_at(seen, 0.2, 0.5) == "red"
    assert seen.getpixel((SIDE_PX - 4, SIDE_PX // 2)) == (255, 255, 255)


def test_nothing_but_pixels_is_in_it(tmp_path: Path) -> None:
    """Neither where a photo was taken nor whose camera it was."""
    exif = Image.Exif()
    exif[0x010E] = "a secret garden"
    Image.fromarray(canvas(200, 200)).save(tmp_path / "a.jpg", exif=exif, comment=b"a secret note")

    content = thumbnail_of(read_picture(tmp_path / "a.jpg").rgb, None)

    assert b"secret" not in content
    assert [kind for kind in (b"EXIF", b"XMP ", b"ICCP") if kind in content] == []


def test_a_webp_is_known_by_its_first_bytes() -> None:
    assert is_webp(thumbnail_of(canvas(10, 10), None))
    for other in (b"", b"RIFF", b"RIFF1234WAVE", b"\x89PNG\r\n\x1a\n", b"<svg"):
        assert not is_webp(other)
