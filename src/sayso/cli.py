"""The `sayso` command: generate, visemes, inspect, doctor; the service's are in `service_cli.py`.

Exit codes, the same for every command:

    0    done
    1    something broke that should not have (a traceback is worth an issue)
    2    the command line makes no sense
    3    an input was refused; the sentence says why, `--json` gives its code
    4    the file system said no (disk full, no permission, no such folder)
    5    `doctor`, `inspect` or `verify-ledger` found something wrong
    130  stopped by Ctrl-C; nothing is left behind
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import MissingArgumentError, UnusedCliTokensError
from cyclopts.validators import Number

from sayso import __version__
from sayso.command import (
    EXIT_FINDINGS,
    EXIT_USAGE,
    AsJson,
    Quiet,
    require_files,
    require_video_name,
    require_writable,
    speaking,
)
from sayso.errors import OptionInvalid
from sayso.service_cli import Server, generate_at, register
from sayso.terminal import Terminal

if TYPE_CHECKING:
    from sayso.engine.talk import Progress, Talk

_FIRST_BYTES: Final = 512
"""Enough of a file to see what kind of picture it is."""

app = App(
    name="sayso",
    help="Make a portrait speak: a face image and a speech recording in, a lip-synced video out.",
    version=__version__,
)


def main() -> None:
    """Run the command line and leave with its exit code."""
    # The frames are drawn in threads of our own; those of numpy's BLAS would spin beside them.
    os.putenv("OPENBLAS_NUM_THREADS", "1")
    # A file's name may have letters that the terminal's encoding lacks.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # It is a file.
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(
            arguments,
            exit_on_error=False,
            print_error=False,
            verbose=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        Terminal(as_json="--json" in arguments).error(OptionInvalid.code, _usage(error))
        return EXIT_USAGE
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
    server: Server = None,
    model: str | None = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Make PORTRAIT say SPEECH and write the video; direct and free unless a server is named.

    Parameters
    ----------
    portrait
        A picture with a face: JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF or BMP.
    speech
        A recording, or a video with sound, of 0.2 s to 10 min.
    output
        Where the MP4 goes; it appears only when it is whole.
    size
        The longest side of the video in pixels, 128 to 1920.
    crop
        The whole picture, or a square around the face.
    fps
        Frames per second, 10 to 60.
    face
        Which face to animate when there are several, counted from the left; else the largest.
    seed
        Moves the idle head and the blinks; without it the inputs decide.
    transcript
        A text file with the words that are said: the lips become more exact.
    model
        A model of the server; its default one without it.
    as_json
        Print the result as one JSON object.
    quiet
        Print nothing but errors.
    """
    with speaking(as_json=as_json, quiet=quiet) as terminal:
        require_files(portrait, speech)
        _require_order(portrait, speech)
        require_video_name(output, portrait, speech)
        words = _read_text(transcript)
        if server is not None:
            given = _options_given(
                size=size, crop=crop, fps=fps, face=face, seed=seed, transcript=words
            )
            generate_at(terminal, server, (portrait, speech), output, model=model, options=given)
            return terminal.exit_code
        if model is not None:
            raise OptionInvalid("--model needs --server: without one our own engine does the work.")
        from sayso.engine.talk import TalkOptions, make_video

        options = TalkOptions(
            fps=fps,
            long_side_px=size,
            crop=crop,
            face=face,
            seed=seed,
            transcript=words,
        )
        begun = time.monotonic()
        with terminal.heeding_ctrl_c():
            show = _show_in(terminal)
            talk = make_video(portrait, speech, output, options=options, on_progress=show)
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
    """Write the mouth cues of SPEECH as JSON: which shape when, and how open the mouth is.

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
    with speaking(quiet=quiet) as terminal:
        from sayso.engine.visemes import find_visemes
        from sayso.media.audio import read_speech

        require_files(speech)
        if output is not None:
            require_writable(output, speech)
        terminal.progress("listening", 0)
        heard = read_speech(speech)
        with terminal.heeding_ctrl_c():
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
            output.write_text(text + "\n", encoding="utf-8")
            terminal.say(f"{output}: {len(cues)} cues, {heard.duration_s:.1f} s")
    return terminal.exit_code


@app.command
def inspect(
    video: Path,
    *,
    portrait: Path | None = None,
    speech: Path | None = None,
    face: int | None = None,
    frames: Annotated[int | None, Parameter(validator=Number(gte=48))] = None,
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
    face
        Which of the portrait's faces speaks, counted from the left; else the largest.
    frames
        Look at no more than so many frames, spread over the video; at all of them without it.
    as_json
        Print the figures as one JSON object.
    """
    with speaking(as_json=as_json) as terminal:
        from sayso.engine.quality import inspect_video

        require_files(*filter(None, (video, portrait, speech)))
        quality = inspect_video(
            video, portrait=portrait, speech=speech, face=face, most_frames=frames
        )
        failures = quality.failures()
        facts = {**quality.as_dict(), "failures": list(failures)}
        terminal.result(quality.table(), facts)
        terminal.exit_code = EXIT_FINDINGS if failures else 0
    return terminal.exit_code


@app.command
def doctor(*, as_json: AsJson = False) -> int:
    """Say what works on this machine; exit code 5 when something needed does not.

    Parameters
    ----------
    as_json
        Print the findings as one JSON object.
    """
    with speaking(as_json=as_json) as terminal:
        from sayso.checkup import check_machine, check_places, check_settings

        findings = (*check_machine(), *check_settings(), *check_places())
        text = "\n".join(finding.line() for finding in findings)
        terminal.result(text, {finding.name: asdict(finding) for finding in findings})
        terminal.exit_code = EXIT_FINDINGS if any(not f.works for f in findings) else 0
    return terminal.exit_code


def _usage(error: CycloptsError) -> str:
    """Return what is wrong with a command line, and where help is, as one line."""
    command = " ".join(("sayso", *(error.command_chain or ())))
    text = " ".join(str(error).split())
    match error:
        case MissingArgumentError(argument=argument, keyword=None) if argument is not None:
            text = f"{command} needs {argument.name.removeprefix('--').upper()}."
        case UnusedCliTokensError(unused_tokens=[first, *_]):
            text = f"{command} has no use for {first!r}."
        case MissingArgumentError(keyword=option):
            text = f"{option} needs a value; one that begins with a dash goes with it: {option}=..."
    return f"{text} See {command} --help."


def _require_order(portrait: Path, speech: Path) -> None:
    """Refuse inputs that were exchanged: each alone would only be called unreadable."""
    if _is_picture(speech) and not _is_picture(portrait):
        raise OptionInvalid(
            f"The portrait comes first, then the speech; {speech} is a picture and {portrait} none."
        )


def _is_picture(path: Path) -> bool:
    from sayso.errors import ImageRejected
    from sayso.media.image import kind_of

    with path.open("rb") as file:
        try:
            kind_of(file.read(_FIRST_BYTES))
        except ImageRejected:
            return False
    return True


def _options_given(**options: object) -> dict[str, object]:
    """Return what differs from the defaults: another model may not have these options at all."""
    defaults = {"size": 720, "crop": "picture", "fps": 25}
    return {
        name: value for name, value in options.items() if value not in {None, defaults.get(name)}
    }


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


register(app)
