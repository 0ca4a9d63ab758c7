"""How right, in noise too, how cheap and how still the mouth is: `python benchmarks/visemes.py`.

Reads the labelled clips, the scoring tool and Rhubarb's cues that lie in `../shared` beside the
repository; without them it only measures cost and stillness, and says so. Every figure stands
beside one measured in the same run: Rhubarb's scores, or the cost of decoding the same sound.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sayso.engine.features import HOP
from sayso.engine.shapes import SIL
from sayso.engine.visemes import VisemeTrack, find_visemes
from sayso.media.audio import SPEECH_RATE_HZ, Pcm, read_speech

SHARED: Final = Path(__file__).parent.parent.parent / "shared"
LABELLED: Final = SHARED / "media" / "labelled"
SCORER: Final = SHARED / "tools" / "score_visemes.py"
EXAMPLE: Final = Path(__file__).parent.parent / "examples" / "speech.ogg"

ENGLISH: Final = ["msajc*", "arctic*", "bobby"]
RUSSIAN: Final = ["ru_*"]
TRANSCRIPTS: Final = {
    "msajc003": "amongst her friends she was considered beautiful",
    "msajc010": "it is futile to offer any further resistance",
    "msajc012": "the chill wind caused them to shiver violently",
    "arctic_a0009": "he turned sharply and faced gregson across the table",
    "bobby": "bobby ripped the ledger",
}
LONG_S: Final = 600
# The scorer's group of f and v.
LIP_TEETH: Final = 1
# One draw of noise may be three points of accuracy better or worse than the next.
DRAWS: Final = 3


def main() -> None:
    if LABELLED.exists() and SCORER.exists():
        print_scores()
        print_noise()
    else:
        print("No labelled clips beside the repository: scores left out.\n")
    print_stillness()
    print_cost()


# --- How right ---


def print_scores() -> None:
    scorer = _scorer()
    print("| clips | method | acc | tol | bal | v15 | clos rec | clos prec | open r | lag ms |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for clips, patterns in (("English", ENGLISH), ("Russian", RUSSIAN)):
        for peer in ("rhubarb-phonetic", "rhubarb-words"):
            _print_row(scorer, clips, peer, LABELLED / "peers" / peer, patterns)
        for method in ("phones", "net", "fused"):
            _print_ours(scorer, clips, patterns, method)
    _print_ours(scorer, "English", ENGLISH, "transcript")
    print()


def _scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_visemes", SCORER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["score_visemes"] = module
    spec.loader.exec_module(module)
    return module


def _print_ours(scorer: ModuleType, clips: str, patterns: list[str], method: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for pattern in patterns:
            for path in sorted(LABELLED.glob(f"{pattern}.wav")):
                _write_cues(_track(path, method), Path(folder) / f"{path.stem}.cues.json")
        _print_row(scorer, clips, method, Path(folder), patterns)


def _track(path: Path, method: Any) -> VisemeTrack:
    if method == "transcript":
        return find_visemes(read_speech(path), transcript=TRANSCRIPTS[path.stem])
    return find_visemes(read_speech(path), method=method)


def _write_cues(track: VisemeTrack, path: Path) -> None:
    content = {"cues": track.cues(), "open": track.open.tolist()}
    path.write_text(json.dumps(content), encoding="utf-8")


def _print_row(
    scorer: ModuleType, clips: str, method: str, cues: Path, patterns: list[str]
) -> None:
    tallies = scorer.score_folder(LABELLED, cues, patterns)
    total = sum(tallies.values(), scorer.Tally())
    figures = scorer.figures(total)
    names = [name for name in scorer.FIGURES if name != "sil mot"]
    print("|", " | ".join([clips, method, *(scorer.as_text(n, figures[n]) for n in names)]), "|")


# --- How right in noise ---


def print_noise() -> None:
    """Print what steady noise leaves of the scores, and of f and v, which it hides first."""
    scorer = _scorer()
    print(f"Each clip with {DRAWS} draws of noise; `draws`: the worst and the best one's acc.\n")
    print(
        "| clips | pink noise | method | acc | draws | tol | clos rec | f, v found | f, v right |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for clips, patterns in (("English", ENGLISH), ("Russian", RUSSIAN)):
        for ratio_db in (20, 10):
            for method in ("phones", "net", "fused"):
                draws = [
                    tally_in_noise(scorer, patterns, ratio_db, method, draw=draw)
                    for draw in range(DRAWS)
                ]
                total = sum(draws, scorer.Tally())
                figures = scorer.figures(total)
                shown = [scorer.as_text(name, figures[name]) for name in ("acc", "tol", "clos rec")]
                accs = sorted(100 * scorer.figures(tally)["acc"] for tally in draws)
                shown.insert(1, f"{accs[0]:.1f} to {accs[-1]:.1f}")
                shown += [f"{100 * share:.0f}" for share in lip_teeth(total)]
                print(f"| {clips} | {ratio_db} dB | {method} |", " | ".join(shown), "|")
    print()


def tally_in_noise(
    scorer: ModuleType,
    patterns: list[str],
    ratio_db: float,
    method: Any = "auto",
    *,
    draw: int = 0,
) -> Any:
    """Score the clips with pink noise so many dB under their speech; each draw is other noise."""
    total = scorer.Tally()
    paths = sorted(path for pattern in patterns for path in LABELLED.glob(f"{pattern}.wav"))
    for seed, path in enumerate(paths):
        speech = read_speech(path)
        noise_seed = seed + draw * len(paths)
        noisy = replace(speech, samples=with_pink_noise(speech.samples, ratio_db, noise_seed))
        track = find_visemes(noisy, method=method)
        truth = scorer.read_truth(path.with_suffix(".truth.json"))
        cues = scorer.to_frames(track.cues(), len(truth), gap=scorer.SIL)
        total += scorer.count(truth, cues, scorer.resized(np.asarray(track.open), len(truth)))
    return total


def lip_teeth(total: Any) -> tuple[float, float]:
    """Return which share of f and v was found, and which share of what was shown as such was."""
    confusion = total.confusion
    return (
        float(confusion[LIP_TEETH, LIP_TEETH] / confusion[LIP_TEETH].sum()),
        float(confusion[LIP_TEETH, LIP_TEETH] / max(confusion[:, LIP_TEETH].sum(), 1)),
    )


def with_pink_noise(samples: Pcm, ratio_db: float, seed: int) -> Pcm:
    """Add pink noise, measured against the frames in which somebody speaks."""
    sound = samples / 32_768
    noise = pink_noise(len(sound), np.random.default_rng(seed))
    frames = sound[: len(sound) // HOP * HOP].reshape(-1, HOP)
    speech_power = float(np.percentile(np.square(frames).mean(axis=1), 80))
    noise *= np.sqrt(speech_power / np.square(noise).mean()) * 10 ** (-ratio_db / 20)
    return ((sound + noise).clip(-1, 1) * 32_767).astype(np.int16)


def pink_noise(n: int, random: np.random.Generator) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(random.normal(0, 1, n)) / np.sqrt(np.arange(n // 2 + 1).clip(20))
    return np.asarray(np.fft.irfft(spectrum, n))


# --- How still ---


def print_stillness() -> None:
    print("| nobody speaks: 6 s of | frames with a moving mouth, % |")
    print("|---|---|")
    for name, sound in _sounds_without_speech():
        track = _track_of(sound)
        moving = (track.open > 0.02) | (track.viseme != SIL)
        print(f"| {name} | {100 * moving.mean():.1f} |")
    print()


def _sounds_without_speech() -> Iterable[tuple[str, NDArray[np.float64]]]:
    n = 6 * SPEECH_RATE_HZ
    random = np.random.default_rng(1)
    times = np.arange(n) / SPEECH_RATE_HZ
    white = random.normal(0, 1, n)
    pink = pink_noise(n, np.random.default_rng(2))
    yield "digital silence", np.zeros(n)
    yield "white noise, -60 dB", white * 1e-3
    yield "white noise, -20 dB", white * 0.1
    yield "pink noise, -20 dB", pink / pink.std() * 0.1
    yield "a 440 Hz sine", 0.5 * np.sin(2 * np.pi * 440 * times)
    yield "a 220 Hz sine", 0.1 * np.sin(2 * np.pi * 220 * times)


def _track_of(sound: NDArray[np.float64]) -> VisemeTrack:
    with tempfile.TemporaryDirectory() as folder:
        return find_visemes(read_speech(_written(Path(folder) / "sound.wav", sound)))


def _written(path: Path, sound: NDArray[np.float64]) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, SPEECH_RATE_HZ, 0, "NONE", ""))
        out.writeframes((sound.clip(-1, 1) * 32_767).astype("<i2").tobytes())
    return path


# --- How cheap ---


def print_cost() -> None:
    """Measure ten minutes of the example in a child, so that its peak memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        once = read_speech(EXAMPLE).samples / 32_768
        path = _written(
            Path(folder) / "long.wav", np.resize(once, LONG_S * SPEECH_RATE_HZ - SPEECH_RATE_HZ)
        )
        command = [sys.executable, __file__, "--measure", str(path)]
        measured = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print("| ten minutes of speech | CPU s per s | times decoding it | peak memory, MB |")
    print("|---|---|---|---|")
    for name, cost_s in measured["cost_s"].items():
        ratio = cost_s / measured["cost_s"]["decode"]
        memory = measured["peak_mb"][name]
        print(f"| {name} | {cost_s / LONG_S:.4f} | {ratio:.0f} | {memory:.0f} |")


def measure(path: Path) -> None:
    """Print the CPU seconds of each method on a file, and the peak memory after it, as JSON."""
    cost_s: dict[str, float] = {}
    peak_mb: dict[str, float] = {}

    def run(name: str, work: Callable[[], object]) -> None:
        begun = time.process_time()
        work()
        cost_s[name] = time.process_time() - begun
        peak_mb[name] = _peak_mb()

    run("decode", lambda: read_speech(path))
    speech = read_speech(path)
    run("net", lambda: find_visemes(speech, method="net"))
    run("fused", lambda: find_visemes(speech, method="fused"))
    print(json.dumps({"cost_s": cost_s, "peak_mb": peak_mb}))


def _peak_mb() -> float:
    """Return this process's peak memory; the usual figure counts its parent's on Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
    else:
        main()
