"""What is seen between parted lips: the dark of the mouth, the tongue and both rows of teeth.

    build_interior(bgr, anatomy, tone)                -> Interior     textures, once per portrait
    paint_interior(interior, frame, ...)              -> float32[h, w, 3]   a frame's inside

Each part is a texture in the mouth's own centimetres (x across, y down from the line on which the
lips meet), premultiplied BGRA. Per frame a part is laid into the picture by one affine map: the
upper teeth move with the skull, the lower teeth and the tongue with the jaw. Where the portrait
itself shows teeth, they replace the drawn ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.fields import Anatomy
from sayso.engine.lipline import PLACES, LipLine, MouthFrame
from sayso.engine.teeth import draw_row, teeth_in
from sayso.engine.tone import Tone

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]
Texture = npt.NDArray[np.uint8]

# The textures' extent in the mouth's centimetres.
LEFT_CM: Final = -4.2
TOP_CM: Final = -1.8
WIDE_CM: Final = 8.4
HIGH_CM: Final = 4.2

# Colours under white light, BGR.
_CAVITY: Final = np.array([26.0, 25.0, 60.0])
_TONGUE: Final = np.array([86.0, 86.0, 150.0])
# Shade may be a little darker than all that the picture shows.
_DEEPEST: Final = 0.8
_BLUSH: Final = np.array([-0.30, -0.16, 0.30])

# Drawn teeth are kept only from this far above the lower edge of what the portrait itself shows.
_BEYOND_CM: Final = 0.25
_HARDLY: Final = 0.05


@dataclass(frozen=True, eq=False)
class Interior:
    """The textures, uint8[h, w, 4] premultiplied BGRA, and the plain colour behind them.

    `blush` float32[3] (BGR) tints what lies in the shade: the light there has touched the lips.
    No shade is darker than `black` float32[3].
    """

    px_per_cm: float
    upper: Texture
    lower: Texture
    tongue: Texture
    tip: Texture
    cavity: Pixels
    blush: Pixels
    black: Pixels


def build_interior(bgr: npt.NDArray[np.uint8], anatomy: Anatomy, tone: Tone) -> Interior:
    """Draw the inside of the mouth of a working picture, BGR uint8[h, w, 3]."""
    scale = float(np.clip(2.0 * anatomy.mouth.px_per_cm, 20.0, 72.0))
    x, y = _texture_grid(scale)
    curve = _line_curve(anatomy.lips, anatomy.mouth)
    level = float(curve(0.0))
    blur_cm = 0.45 / anatomy.mouth.px_per_cm
    straight = x - anatomy.midline_cm
    upper = draw_row(straight, y - curve(x), tone, upper=True, blur_cm=blur_cm)
    lower = draw_row(straight, y - curve(x), tone, upper=False, blur_cm=blur_cm)
    if anatomy.lips.is_open:
        shown = teeth_in(bgr, anatomy, x, y)
        lowest = anatomy.lips.at(x / anatomy.mouth.half_width_cm, anatomy.lips.lower)
        upper[..., 3] *= y > lowest / anatomy.mouth.px_per_cm - _BEYOND_CM
        upper = _over(shown.upper, upper) if shown.lower is None else shown.upper
        lower = lower if shown.lower is None else shown.lower
    return Interior(
        px_per_cm=scale,
        upper=_texture(upper),
        lower=_texture(lower),
        tongue=_texture(_tongue(x, y - level, tone, middle=(0.0, 0.52), radii=(1.9, 0.85))),
        tip=_texture(_tongue(x, y - level, tone, middle=(0.0, 0.30), radii=(1.2, 0.24))),
        cavity=tone.of(_CAVITY).astype(np.float32),
        blush=(tone.colourful * _BLUSH).astype(np.float32),
        black=(_DEEPEST * tone.black).astype(np.float32),
    )


def _texture_grid(scale: float) -> tuple[Floats, Floats]:
    """Return the centimetres of each texel's middle."""
    xs = LEFT_CM + (np.arange(round(WIDE_CM * scale)) + 0.5) / scale
    ys = TOP_CM + (np.arange(round(HIGH_CM * scale)) + 0.5) / scale
    x, y = np.meshgrid(xs, ys)
    return x, y


def _line_curve(lips: LipLine, mouth: MouthFrame) -> np.polynomial.Polynomial:
    """Return the lip line's overall bend, cm over cm: teeth follow it, but not its every wave."""
    x = PLACES * mouth.half_width_cm
    bend = np.polynomial.Polynomial.fit(x, lips.seam / mouth.px_per_cm, 2).convert()
    # Only half of it: teeth stand on a jaw, not on a lip.
    level, slope, square = (*bend.coef, 0.0, 0.0)[:3]
    return np.polynomial.Polynomial([level, 0.5 * slope, 0.5 * square])


def _texture(bgra: Floats) -> Texture:
    bgra = bgra.copy()
    bgra[..., :3] *= bgra[..., 3:]
    bgra[..., 3] *= 255.0
    return np.clip(np.round(bgra), 0, 255).astype(np.uint8)


def _smooth01(t: Floats) -> Floats:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def _tongue(
    x: Floats, y: Floats, tone: Tone, *, middle: tuple[float, float], radii: tuple[float, float]
) -> Floats:
    """Draw a soft dome with a groove along its middle."""
    u, v = (x - middle[0]) / radii[0], (y - middle[1]) / radii[1]
    dome = 1.0 - u**2 - v**2
    alpha = _smooth01(dome / 0.45)
    light = 0.62 + 0.38 * np.sqrt(np.clip(dome, 0.0, 1.0)) - 0.14 * np.exp(-((x / 0.16) ** 2))
    colour = tone.of(_TONGUE * light[..., np.newaxis])
    return np.concatenate([colour, alpha[..., np.newaxis]], axis=-1)


def _over(front: Floats, back: Floats) -> Floats:
    """Lay one picture over another, float64[h, w, 4] BGRA each, alpha 0..1."""
    cover = front[..., 3:]
    alpha = cover + back[..., 3:] * (1.0 - cover)
    colour = front[..., :3] * cover + back[..., :3] * back[..., 3:] * (1.0 - cover)
    return np.concatenate([colour / np.maximum(alpha, 1e-6), alpha], axis=-1)


@dataclass(frozen=True)
class Placement:
    """Where the skull is in a frame.

    `turn` float64[2, 2] takes the mouth's centimetres to pixels, `origin` float64[2] is where the
    mouth's middle lies; `jaw_cm` is how far the jaw has dropped, `uplift_cm` how far the lips'
    shape lifts the upper teeth, `tongue` 0..1 raises the tongue's tip.
    """

    turn: Floats
    origin: Floats
    jaw_cm: float
    tongue: float
    uplift_cm: float = 0.0


def paint_interior(
    interior: Interior, place: Placement, corner: tuple[int, int], size: tuple[int, int]
) -> tuple[Pixels, Pixels]:
    """Paint the inside for the box at `corner` (left, top) of `size` (width, height) px.

    Returns its colours, float32[h, w, 3] BGR, and where the upper teeth are, float32[h, w] 0..1.
    """
    width, height = size
    frame = np.empty((height, width, 3), np.float32)
    frame[:] = interior.cavity
    jaw = place.jaw_cm

    def lay(texture: Texture, down_cm: float, share: float = 1.0) -> Pixels:
        matrix = _texel_to_box(interior, place, corner, down_cm)
        layer = cv2.warpAffine(texture, matrix, size, flags=cv2.INTER_LINEAR).astype(np.float32)
        cover = layer[..., 3:] * np.float32(share / 255.0)
        np.multiply(frame, 1.0 - cover, out=frame)
        np.add(frame, layer[..., :3] * np.float32(share), out=frame)
        return cover[..., 0]

    tip = place.tongue
    lay(interior.tongue, 0.86 * jaw + 0.12 - 0.25 * tip)
    lay(interior.lower, 0.94 * jaw)
    teeth = lay(interior.upper, -place.uplift_cm)
    if tip > _HARDLY:
        # The tip comes out under the upper teeth's edge.
        lay(interior.tip, 0.5 * jaw - 0.22, tip)
    return frame, teeth


def _texel_to_box(
    interior: Interior, place: Placement, corner: tuple[int, int], down_cm: float
) -> Floats:
    """Return the affine map, float64[2, 3], from texels to the pixels of the box."""
    per_texel = place.turn / interior.px_per_cm
    # Texel (i, j) has its middle at (i + .5) / scale centimetres from the texture's corner.
    start = np.array([LEFT_CM, TOP_CM + down_cm]) + 0.5 / interior.px_per_cm
    shift = place.turn @ start + place.origin - np.array(corner)
    return np.concatenate([per_texel, shift[:, np.newaxis]], axis=1)
