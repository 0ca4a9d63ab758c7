"""Turn the beginning of a video into a small moving picture, for a page that plays no video.

    python -m tools.animation VIDEO.mp4 OUT.webp [--width 360] [--seconds 6]

The README's face is `sayso generate examples/portrait.jpg examples/speech.ogg --crop face`, so.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import av
from PIL import Image

# Every second frame: the lips are still followed, at half the size of the file.
STEP: Final = 2
QUALITY: Final = 60


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the moving picture that the command line asks for."""
    options = _parser().parse_args(arguments)
    with av.open(str(options.video)) as container:
        rate = float(container.streams.video[0].average_rate or 25)
        count = round(options.seconds * rate / STEP)
        first, *others = islice(_pictures(container, options.width), count)
    first.save(
        options.out,
        save_all=True,
        append_images=others,
        duration=round(1000 * STEP / rate),
        loop=0,
        quality=QUALITY,
        method=6,
    )


def _pictures(container: av.container.InputContainer, width: int) -> Iterator[Image.Image]:
    for frame in islice(container.decode(video=0), 0, None, STEP):
        picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
        height = round(width * picture.height / picture.width)
        yield picture.resize((width, height), Image.Resampling.LANCZOS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="animation", description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=360, help="of the picture, px")
    parser.add_argument("--seconds", type=float, default=6, help="how much of the video")
    return parser


if __name__ == "__main__":
    main()
