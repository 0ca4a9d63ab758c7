"""The picture's own light and colour, for what is drawn into it.

    read_tone(bgr, points)   -> Tone
    tone.of(colours)         -> the same colours as this picture would show them

Teeth as white as a studio's look pasted into a dim photograph, pink gums absurd in a sepia one. So
the brightness of skin and of the whites of the eyes sets the light, the skin's hue the cast, and
where colour follows from lightness alone (black-and-white, sepia, a yellowed varnish) so does ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sayso.engine.cielab import bgr_of, lab_of

Bgr = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

# Mesh points around the skin over the upper lip, of both cheeks, and of both eyes' openings.
_OVER_LIP: Final = (98, 327, 410, 37, 0, 267, 186)
_CHEEKS: Final = ((50, 101, 205, 187), (280, 330, 425, 411))
_EYES: Final = (
    (33, 160, 159, 158, 133, 153, 145, 144),
    (362, 385, 386, 387, 263, 373, 374, 380),
)
# Skin as a well lit colour photograph shows it, BGR.
_SKIN: Final = np.array([140.0, 155.0, 195.0])
_LUMA: Final = np.array([0.114, 0.587, 0.299])
# Lightness is binned; a bin of fewer pixels says nothing.
_ENOUGH: Final = 12
# In a face in black-and-white or sepia 97 % of the colours are this near to the one that their
# lightness has (CIELAB); even in the plainest colour pictures, lips and eyes are twice as far.
_TINTED: Final = 3.5
# Even in full colour a part of the hue is the light's: teeth in a yellow room are yellowish.
_MOST_OWN_HUE: Final = 0.7
# A picture without anything dark says nothing about how dark its shadows would be.
_BRIGHTEST_BLACK: Final = 45.0
_GAIN: Final = (0.38, 1.02)


@dataclass(frozen=True, eq=False)
class Tone:
    """How a picture shows a colour.

    `gain` and `cast` (BGR factors) light it, `ramp` (float64[256, 3], BGR by lightness) replaces
    its hue by the share 1 - `colourful`, and nothing is darker than `black` (BGR).
    """

    gain: float
    cast: Floats
    ramp: Floats
    colourful: float
    black: Floats

    def of(self, colours: Floats) -> Floats:
        """Return colours (BGR 0..255 under white light, float64[..., 3]) in the picture's tone."""
        lit = np.clip(colours * self.gain * self.cast, 0.0, 255.0)
        luma = lit @ _LUMA
        toned = _interpolated(luma, np.arange(256.0), self.ramp)
        mixed = self.colourful * lit + (1.0 - self.colourful) * toned
        return np.maximum(mixed, self.black)


def read_tone(bgr: Bgr, points: Floats) -> Tone:
    """Read the tone of a picture, BGR uint8[h, w, 3], around the face with the given points."""
    ramp, spread = _lightness_ramp(_polygon_pixels(bgr, points, tuple(range(len(points)))))
    skin = _median_colour(bgr, points)
    return Tone(
        gain=_gain(bgr, points),
        cast=_cast(skin),
        ramp=ramp,
        colourful=_MOST_OWN_HUE * float(np.clip((spread - _TINTED) / _TINTED, 0.0, 1.0)),
        black=_black(bgr, ramp),
    )


def _polygon_pixels(bgr: Bgr, points: Floats, numbers: tuple[int, ...]) -> Floats:
    """Return the pixels within the hull of some mesh points, float64[n, 3]; at least one."""
    mask = np.zeros(bgr.shape[:2], np.uint8)
    hull = cv2.convexHull(np.round(points[list(numbers), :2]).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 255)
    pixels = bgr[mask > 0]
    return pixels.astype(np.float64) if len(pixels) else np.full((1, 3), 128.0)


def _gain(bgr: Bgr, points: Floats) -> float:
    """Return how bright the light on the mouth is, 1 for a well lit photograph.

    Skin may be dark in good light; the whites of the eyes then tell.
    """
    skin = float(np.percentile(_polygon_pixels(bgr, points, _OVER_LIP) @ _LUMA, 70))
    whites = max(
        float(np.percentile(_polygon_pixels(bgr, points, eye).min(axis=1), 90)) for eye in _EYES
    )
    by_skin = skin / float(_SKIN @ _LUMA)
    by_whites = whites / 185.0
    return float(np.clip(max(by_skin, 0.5 * (by_skin + by_whites)), *_GAIN))


def _median_colour(bgr: Bgr, points: Floats) -> Floats:
    pixels = np.concatenate([_polygon_pixels(bgr, points, cheek) for cheek in _CHEEKS])
    return np.asarray(np.median(pixels, axis=0))


def _cast(skin: Floats) -> Floats:
    """Return half of the skin's departure from plain skin, as factors that keep the luma."""
    ratio = np.sqrt(np.clip((skin + 4.0) / _SKIN, 0.1, 2.0))
    return np.asarray(ratio / float(ratio @ _LUMA))


def _lightness_ramp(face: Floats) -> tuple[Floats, float]:
    """Return the face's usual colour for each lightness, and how far its colours stray from it."""
    lab = lab_of(face.astype(np.uint8)).astype(np.float64)
    edges = np.linspace(0.0, 100.0, 17)
    bins = np.clip(np.digitize(lab[:, 0], edges) - 1, 0, 15)
    filled = [index for index in range(16) if np.count_nonzero(bins == index) >= _ENOUGH]
    middles = np.array([0.0, *((edges[i] + edges[i + 1]) / 2 for i in filled), 100.0])
    usual = np.zeros((len(middles), 2))
    # Black and white have no hue.
    usual[1:-1] = [np.median(lab[bins == i, 1:], axis=0) for i in filled]
    strays = lab[:, 1:] - _interpolated(lab[:, 0], middles, usual)
    gray = lab_of(np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(256, 3)).astype(np.float64)
    gray[:, 1:] = _interpolated(gray[:, 0], middles, usual)
    return bgr_of(gray), float(np.percentile(np.linalg.norm(strays, axis=1), 97))


def _interpolated(at: Floats, places: Floats, values: Floats) -> Floats:
    return np.stack([np.interp(at, places, values[:, c]) for c in range(values.shape[1])], axis=-1)


def _black(bgr: Bgr, ramp: Floats) -> Floats:
    """Return the darkest colour of the picture: a faded print's black is a brown."""
    luma = cv2.resize(bgr, (64, 64), interpolation=cv2.INTER_AREA).reshape(-1, 3) @ _LUMA
    darkest = min(0.8 * float(np.percentile(luma, 1)), _BRIGHTEST_BLACK)
    return np.asarray(ramp[round(darkest)])
