"""What the operator gives each kind of child: settings in, `ChildLimits` out.

Apart from `child.py`, which the engine's tasks know: the engine knows no settings.
"""

from __future__ import annotations

import math
from typing import Final

from sayso.media.child import ChildLimits
from sayso.settings import Settings

# Processor time is the limit; the wall clock only ends a child that sleeps or starves.
_WALL_PER_CPU: Final = 6.0


def decode_limits(settings: Settings) -> ChildLimits:
    """Return what a child that looks at an input may use."""
    return ChildLimits(
        cpu_s=settings.decode_cpu_s,
        wall_s=_WALL_PER_CPU * settings.decode_cpu_s,
        memory_bytes=settings.decode_memory_bytes,
    )


def render_limits(settings: Settings, *, speech_s: float) -> ChildLimits:
    """Return what a child that renders a video of so much speech may use."""
    cpu_s = math.ceil(settings.render_cpu_s + settings.render_cpu_per_speech_s * speech_s)
    return ChildLimits(
        cpu_s=cpu_s,
        wall_s=_WALL_PER_CPU * cpu_s,
        memory_bytes=settings.render_memory_bytes,
        file_bytes=settings.render_file_bytes,
    )
