"""The columns of a motion row: what one frame's face does.

`motion` writes such rows, `fields` gives most columns a displacement, `render` draws a row. The
shapes of the mouth are 0..1 (0 is rest, 1 is far); angles are radians, shifts centimetres of a
standard head.
"""

from __future__ import annotations

from typing import Final

MOUTH: Final = (
    "jaw",  # The jaw drops; chin and lower lip ride on it.
    "seal",  # The lips meet although the jaw is down.
    "spread",  # The corners go out and up: "ee".
    "pucker",  # The corners come in, the lips come forward: "oo".
    "uplip",  # The upper lip rises and shows its teeth.
    "lowlip",  # The lower lip drops and shows its teeth.
    "press",  # The lips roll onto each other: "mm".
    "fv",  # The lower lip goes under the upper teeth: "f".
)
# The skull's own motion, and the brows'.
SKULL: Final = ("yaw", "pitch", "roll", "shift_x", "shift_y")
# Columns that displace skin come first, in the order of the rig's fields.
MOVING: Final = (*MOUTH, *SKULL, "brow")
COLUMNS: Final = (
    *MOVING,
    "tongue",  # The tongue's tip rises to the teeth: "th", "l".
    "blink",
)
COLUMN: Final = {name: index for index, name in enumerate(COLUMNS)}
