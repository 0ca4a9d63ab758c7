"""How good the videos are: every gate of `sayso inspect`, on real portraits and real speech.

Each portrait speaks one recording at 512 px through the whole engine, and the finished MP4 is
measured. The ratio beside each figure of lip-sync is to the same figure for the speech turned in
time: what a mouth that moves like speech, but not this speech, would reach. The sample is always
measured; the portraits beside the repository where they are present.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sayso.engine.quality import GATES, Quality, inspect_video
from sayso.engine.talk import TalkOptions, make_video

ROOT: Final = Path(__file__).resolve().parent.parent
MEDIA: Final = ROOT.parent / "shared" / "media"
SIZE_PX: Final = 512
# A voice that fits, of several languages.
SPEECH_OF: Final = {
    "sally_ride.jpg": "en_libri_f.wav",
    "hopper.jpg": "en_libri_f.wav",
    "lincoln.jpg": "en_jfk.wav",
    "julia_jackson.jpg": "de_biwasee.wav",
    "mona_lisa.jpg": "fr_lesmis.wav",
    "gypsy_girl.jpg": "en_libri_f.wav",
    "madeleine.jpg": "fr_lesmis.wav",
    "cartoon_man.png": "ru_festvox.wav",
}
SHOWN: Final = (
    *("sync_r", "sync_lag_ms", "loudness_r", "closure", "closure_share", "activity"),
    *("flicker", "flicker_p999", "border_ssim", "background_ssim"),
    *("face_ssim", "shape_distance", "colour_shift", "sharpness"),
)


def main() -> None:
    bounds = {gate.figure: gate for gate in GATES}
    print("| clip | " + " | ".join(SHOWN) + " | r / chance | misses |")
    print("|---" * (len(SHOWN) + 3) + "|")
    asked = (f"{bounds[name].way} {bounds[name].bound:g}" for name in SHOWN)
    print("| gate | " + " | ".join(asked) + " | | |")
    with tempfile.TemporaryDirectory() as folder:
        for portrait, speech in pairs():
            video = Path(folder) / f"{portrait.stem}.mp4"
            make_video(portrait, speech, video, options=TalkOptions(long_side_px=SIZE_PX))
            quality = inspect_video(video, portrait=portrait, speech=speech)
            print(row_of(f"{portrait.stem} / {speech.stem}", quality), flush=True)


def pairs() -> Iterator[tuple[Path, Path]]:
    """Give (portrait, speech), the sample first."""
    yield ROOT / "examples" / "portrait.jpg", ROOT / "examples" / "speech.ogg"
    if not MEDIA.is_dir():
        print(f"no portraits at {MEDIA.name}: the sample alone", file=sys.stderr)
        return
    for portrait, speech in SPEECH_OF.items():
        yield MEDIA / "portraits" / portrait, MEDIA / "speech" / speech


def row_of(name: str, quality: Quality) -> str:
    figures = quality.as_dict()
    shown = ("-" if figures[key] is None else f"{figures[key]:.3g}" for key in SHOWN)
    ratio = "-"
    if quality.sync_r is not None and quality.sync_over_chance is not None:
        chance = quality.sync_r - quality.sync_over_chance
        ratio = f"{quality.sync_r / chance:.1f}"
    misses = [sentence.split(" ")[0] for sentence in quality.failures()]
    return f"| {name} | " + " | ".join(shown) + f" | {ratio} | {', '.join(misses) or 'none'} |"


if __name__ == "__main__":
    main()
