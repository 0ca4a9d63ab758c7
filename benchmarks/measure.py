"""What it costs to measure a video before it is delivered, and what a sample of its frames misses.

Each portrait speaks one recording. The finished MP4 is measured twice: all of its frames, as
`sayso inspect` does, and the sample that a receipt is made of. The ratios are processor time of
measuring to that of the render in the same run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.quality import pairs
from sayso.engine.quality import SAMPLE_FRAMES, inspect_video
from sayso.engine.talk import make_video

T = TypeVar("T")


def main() -> None:
    print(
        "| clip | speech | render | all frames | a sample"
        " | sync_r of all | of the sample | difference |"
    )
    print("|---" * 8 + "|")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for portrait, speech in pairs():
            video = Path(folder) / "video.mp4"
            talk, render_s = timed(partial(make_video, portrait, speech, video))
            # Elsewhere the speech has to be heard for it as well.
            measure = partial(inspect_video, video, speech=speech)
            every, all_s = timed(measure)
            brief = partial(measure, track=talk.track, most_frames=SAMPLE_FRAMES)
            sample, sample_s = timed(brief)
            assert every.sync_r is not None
            assert sample.sync_r is not None
            difference = sample.sync_r - every.sync_r
            worst = max(worst, abs(difference))
            print(
                f"| {portrait.stem} / {speech.stem} | {talk.duration_s:.1f} s | {render_s:.1f} s"
                f" | {all_s / render_s:.2f} | {sample_s / render_s:.2f}"
                f" | {every.sync_r:.3f} | {sample.sync_r:.3f} | {difference:+.3f} |",
                flush=True,
            )
    print(f"\nThe largest difference of sync_r is {worst:.3f}.")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what some work gives, and the processor time that it took."""
    begun_s = time.process_time()
    result = work()
    return result, time.process_time() - begun_s


if __name__ == "__main__":
    main()
