"""The fifteen mouth shapes (visemes) and what each looks like.

The set and its order are those of Oculus' lip-sync SDK, which much animation software knows.
`OPENING` and `WIDTH` are animators' values for a neutral speaker: how far the jaw is open (0
closed, 1 as in "father") and how far the corners are drawn apart (1) or together (-1, as in "who").
"""

from __future__ import annotations

from typing import Final

import numpy as np

VISEMES: Final = (
    "sil",
    "PP",
    "FF",
    "TH",
    "DD",
    "kk",
    "CH",
    "SS",
    "nn",
    "RR",
    "aa",
    "E",
    "ih",
    "oh",
    "ou",
)
NUMBER: Final = {viseme: number for number, viseme in enumerate(VISEMES)}
SIL: Final = NUMBER["sil"]
PP: Final = NUMBER["PP"]
FF: Final = NUMBER["FF"]

_LOOKS: Final = {
    "sil": (0.0, 0.0),
    "PP": (0.0, 0.0),
    "FF": (0.12, 0.0),
    "TH": (0.25, 0.0),
    "DD": (0.2, 0.1),
    "kk": (0.3, 0.1),
    "CH": (0.2, -0.5),
    "SS": (0.12, 0.2),
    "nn": (0.25, 0.1),
    "RR": (0.3, -0.4),
    "aa": (1.0, 0.1),
    "E": (0.6, 0.4),
    "ih": (0.35, 0.6),
    "oh": (0.7, -0.6),
    "ou": (0.3, -1.0),
}
_GROUPS: Final = (
    ("sil", "PP"),
    ("FF",),
    ("TH", "DD", "kk", "CH", "SS", "nn", "ih"),
    ("aa", "E"),
    ("RR", "oh", "ou"),
)
GROUP: Final = np.array(
    [next(place for place, names in enumerate(_GROUPS) if viseme in names) for viseme in VISEMES]
)
"""What a viewer can tell apart, 0 to 4: closed, lip-teeth, narrow, open, round."""

OPENING: Final = np.array([_LOOKS[viseme][0] for viseme in VISEMES], np.float32)
WIDTH: Final = np.array([_LOOKS[viseme][1] for viseme in VISEMES], np.float32)
