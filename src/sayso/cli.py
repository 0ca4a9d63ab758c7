"""The `sayso` command: generate, visemes, inspect, demo, doctor.

Exit codes, the same for every command:

    0    done
    1    something broke that should not have (a traceback is worth an issue)
    2    the command line makes no sense
    3    an input was refused; the sentence says why, `--json` gives its code
    4    the file system said no (disk full, no permission, no such folder)
    5    `doctor` or `inspect` found something wrong
    130  stopped by Ctrl-C; nothing is left behind
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from cyclopts import App, Parameter

from sayso import __version__
from sayso.errors import InputRejected, OptionInvalid, SaysoError
from sayso.terminal import Terminal

if TYPE_CHECKING:
    from sayso.engine.talk import Progress, Talk

EXIT_BROKEN: Final = 1
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 3
EXIT_FILES: Final = 4
EXIT_FINDINGS: Final = 5
EXIT_INTERRUPTED: Final = 130

app = App(
    name="sayso",
    help="Make a portrait speak: a face image and a speech recording in, a lip-synced video out.",
    version=__version__,
)

AsJson: TypeAlias = Annotated[
    bool, Parameter(name="--json", negative=(), help="Print the result as one JSON object.")
]
Quiet: TypeAlias = Annotated[
    bool, Parameter(name=["--quiet", "-q"], negative=(), help="Print nothing but errors.")
]


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    code = app(arguments, exit_on_error=True, result_action="return_value")
    return code if isinstance(code, int) else 0


@app.command
def generate(
    portrait: Path,
    speech: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("out.mp4"),
    size: int = 720,
    crop: Literal["picture", "face"] = "picture",
    fps: int = 25,
    face: int | None = None,
    seed: int | None = None,
    transcript: Path | None = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Make PORTRAIT say SPEECH and write the video; direct and free, no server.

    Parameters
    ----------
    portrait
        A picture with a face: JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF or BMP.
    speech
        A recording, or a video with sound, of 0.2 s to 10 min.
    output
        Where the MP4 goes; it appears only when it is whole.
    size
        The longest side of the video in pixels.
    crop
        The whole picture, or a square around the face.
    fps
        Frames per second.
    face
        Which face to animate when there are several: 1 is the largest.
    seed
        Moves the idle head and the blinks; without it the inputs decide.
    transcript
        A text file with the words that are said: the lips become more exact.
    as_json
        Print the result as one JSON object.
    quiet
        Print nothing but errors.
    """
    with _speaking(as_json=as_json, quiet=quiet) as terminal:
        from sayso.engine.talk import TalkOptions, make_video

        options = TalkOptions(
            fps=fps,
            long_side_px=size,
            crop=crop,
            face=face,
            seed=seed,
            transcript=_read_text(transcript),
        )
        _require_files(portrait, speech)
        _require_folder(output)
        begun = time.monotonic()
        talk = make_video(portrait, speech, output, options=options, on_progress=_show_in(terminal))
        terminal.note(talk.notices)
        terminal.result(_sentence(talk, time.monotonic() - begun), _facts(talk, begun))
    return terminal.exit_code


@app.command
def visemes(
    speech: Path,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    transcript: Path | None = None,
    quiet: Quiet = False,
) -> int:
    """Write the mouth cues of SPEECH as JSON: who, when, and how open the mouth is.

    The object holds `cues`, a list of [start_s, end_s, viseme] over the whole recording, and
    `open`, the mouth opening from 0 to 1 every 10 ms.

    Parameters
    ----------
    speech
        A recording, or a video with sound.
    output
        Where the JSON goes; standard output without it.
    transcript
        A text file with the words that are said.
    quiet
        Print nothing but errors.
    """
    with _speaking(quiet=quiet) as terminal:
        from sayso.engine.visemes import find_visemes
        from sayso.media.audio import read_speech

        _require_files(speech)
        heard = read_speech(speech)
        track = find_visemes(
            heard,
            transcript=_read_text(transcript),
            on_progress=lambda share: terminal.progress("listening", 100 * share),
        )
        terminal.note((*heard.notices, *track.notices))
        cues = [[round(start, 3), round(end, 3), name] for start, end, name in track.cues()]
        opening = [round(float(value), 3) for value in track.open]
        text = json.dumps({"cues": cues, "open": opening, "method": track.method})
        if output is None:
            print(text)
        else:
            _require_folder(output)
            output.write_text(text + "\n", encoding="utf-8")
            terminal.say(f"{output}: {len(cues)} cues, {heard.duration_s:.1f} s")
    return terminal.exit_code


@app.command
def inspect(
    video: Path,
    *,
    portrait: Path | None = None,
    speech: Path | None = None,
    as_json: AsJson = False,
) -> int:
    """Print the quality figures of VIDEO; exit code 5 when one of them misses its gate.

    Parameters
    ----------
    video
        An MP4 that Sayso made.
    portrait
        The picture it was made of: adds identity, border and background.
    speech
        The recording it was made of: adds lip-sync and closure.
    as_json
        Print the figures as one JSON object.
    """
    with _speaking(as_json=as_json) as terminal:
        from sayso.engine.quality import inspect_video

        _require_files(*filter(None, (video, portrait, speech)))
        quality = inspect_video(video, portrait=portrait, speech=speech)
        failures = quality.failures()
        facts = {**quality.as_dict(), "failures": list(failures)}
        terminal.result(quality.table(), facts)
        terminal.exit_code = EXIT_FINDINGS if failures else 0
    return terminal.exit_code


@app.command
def demo(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("demo.mp4"),
    examples: Path = Path("examples"),
) -> int:
    """Make demo.mp4 of the sample portrait and speech, and say where it is.

    Parameters
    ----------
    output
        Where the MP4 goes.
    examples
        The folder with portrait.jpg and speech.ogg.
    """
    return generate(examples / "portrait.jpg", examples / "speech.ogg", output=output, crop="face")


@app.command
def doctor(*, as_json: AsJson = False) -> int:
    """Say what works on this machine; exit code 5 when something needed does not.

    Parameters
    ----------
    as_json
        Print the findings as one JSON object.
    """
    with _speaking(as_json=as_json) as terminal:
        from sayso.checkup import check_machine

        findings = check_machine()
        text = "\n".join(finding.line() for finding in findings)
        terminal.result(text, {finding.name: asdict(finding) for finding in findings})
        terminal.exit_code = EXIT_FINDINGS if any(not f.works for f in findings) else 0
    return terminal.exit_code


class _Command(Terminal):
    """A terminal that remembers how its command ended."""

    exit_code = 0


@contextmanager
def _speaking(*, as_json: bool = False, quiet: bool = False) -> Iterator[_Command]:
    """Turn what a command raises into a sentence and an exit code."""
    with _Command(as_json=as_json, quiet=quiet) as terminal:
        try:
            yield terminal
        except OptionInvalid as error:
            terminal.error(error.code, str(error))
            terminal.exit_code = EXIT_USAGE
        except InputRejected as error:
            terminal.error(error.code, str(error))
            terminal.exit_code = EXIT_REFUSED
        except SaysoError as error:
            terminal.error(error.code, str(error))
            terminal.exit_code = EXIT_BROKEN
        except OSError as error:
            terminal.error("file_system", _about_files(error))
            terminal.exit_code = EXIT_FILES
        except KeyboardInterrupt:
            terminal.error("interrupted", "Stopped; nothing is left behind.")
            terminal.exit_code = EXIT_INTERRUPTED


def _about_files(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}."


def _require_files(*paths: Path) -> None:
    """Refuse inputs that are not there, or are folders, before anything is read."""
    for path in paths:
        if not path.is_file():
            number = errno.EISDIR if path.is_dir() else errno.ENOENT
            raise OSError(number, os.strerror(number), str(path))


def _require_folder(output: Path) -> None:
    """Refuse an output without a folder before any work is done for it."""
    folder = output.parent
    if not folder.is_dir():
        raise OptionInvalid(f"The folder {folder} for the output does not exist.")
    if output.is_dir():
        raise OptionInvalid(f"{output} is a folder; --output names a file.")


def _read_text(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OptionInvalid(f"The transcript {path} is not text in UTF-8.") from error


def _show_in(terminal: Terminal) -> Callable[[Progress], None]:
    return lambda step: terminal.progress(step.stage, 100 * step.done / step.total)


def _sentence(talk: Talk, took_s: float) -> str:
    return (
        f"{talk.path}: {talk.duration_s:.1f} s, {talk.width}x{talk.height} at {talk.fps} fps, "
        f"made in {took_s:.1f} s ({took_s / talk.duration_s:.2f} of its length)"
    )


def _facts(talk: Talk, begun: float) -> dict[str, object]:
    return {
        "path": str(talk.path),
        "duration_s": round(talk.duration_s, 3),
        "frames": talk.n_frames,
        "fps": talk.fps,
        "width": talk.width,
        "height": talk.height,
        "visemes": talk.method,
        "seed": talk.seed,
        "took_s": round(time.monotonic() - begun, 3),
        "notices": [asdict(notice) for notice in talk.notices],
    }
