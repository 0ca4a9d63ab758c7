"""What the command line refuses at once, and how it says so: before any work, with nothing left."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from shutil import copy

import pytest

from sayso.cli import run
from sayso.command import Command

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portrait: Path, speech: Path) -> Path:
    """An empty place to work in, with the two inputs in it."""
    monkeypatch.chdir(tmp_path)
    copy(portrait, "me.jpg")
    copy(speech, "me.ogg")
    return tmp_path


def refusal(capsys: Capture, *words: str, code: int = 2) -> str:
    """Run a command that is refused; return its one line."""
    assert run(list(words)) == code
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    return line


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["me.ogg", "me.jpg"])
def test_an_input_is_never_overwritten(capsys: Capture, folder: Path, name: str) -> None:
    """Under a name of its own, too: who has one photo has no other."""
    (folder / "link.mp4").symlink_to(folder / name)

    line = refusal(capsys, "generate", "me.jpg", "me.ogg", "-o", "link.mp4")

    assert "link.mp4 is an input" in line
    assert names(folder) == ["link.mp4", "me.jpg", "me.ogg"]


@pytest.mark.parametrize("name", ["talk.avi", "talk.webm", "me.jpg", "talk.mp3"])
def test_a_video_is_not_given_the_name_of_something_else(
    capsys: Capture, folder: Path, name: str
) -> None:
    line = refusal(capsys, "generate", "me.jpg", "me.ogg", "-o", name)

    assert f"name it {Path(name).stem}.mp4" in line
    assert names(folder) == ["me.jpg", "me.ogg"]


def test_a_device_is_not_replaced_by_a_video(capsys: Capture, folder: Path) -> None:
    os.mkfifo(folder / "pipe.mp4")

    line = refusal(capsys, "generate", "me.jpg", "me.ogg", "-o", "pipe.mp4")

    assert "pipe.mp4 is not an ordinary file" in line
    assert (folder / "pipe.mp4").is_fifo()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_takes_nothing_is_found_before_the_work(
    capsys: Capture, folder: Path
) -> None:
    (folder / "locked").mkdir(mode=0o500)

    line = refusal(capsys, "generate", "me.jpg", "me.ogg", "-o", "locked/out.mp4", code=4)

    assert "locked: Permission denied." in line


@pytest.mark.parametrize(
    ("output", "reason"),
    [("missing/cues.json", "does not exist"), ("me.ogg", "is an input")],
)
def test_cues_are_not_listened_for_in_vain(capsys: Capture, output: str, reason: str) -> None:
    assert reason in refusal(capsys, "visemes", "me.ogg", "-o", output)


def test_exchanged_inputs_are_called_that(capsys: Capture) -> None:
    line = refusal(capsys, "generate", "me.ogg", "me.jpg")

    assert "The portrait comes first, then the speech; me.jpg is a picture" in line


@pytest.mark.parametrize("address", ["localhost:8000", "http://", "ftp://host", "sayso"])
def test_what_is_no_address_is_not_called_silent(capsys: Capture, address: str) -> None:
    words = ("generate", "me.jpg", "me.ogg", "--server", address)

    assert f"such as http://127.0.0.1:8000; '{address}' is none" in refusal(capsys, *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("generate",), "sayso generate needs PORTRAIT. See sayso generate --help."),
        (("generate", "me.jpg"), "sayso generate needs SPEECH. See sayso generate --help."),
        (("generate", "me.jpg", "me.ogg", "more"), "sayso generate has no use for 'more'."),
        (("generate", "me.jpg", "me.ogg", "-o", "-"), "-o needs a value"),
        (("generate", "me.jpg", "me.ogg", "--siez", "9"), "Did you mean --size?"),
        (("genrate",), 'Did you mean "generate"?'),
        (("credits", "grant"), "sayso credits grant needs AMOUNT."),
        (("inspect", "me.ogg", "--frames", "3"), "Must be >= 48."),
    ],
)
def test_a_command_line_without_sense_is_told_so_in_a_line(
    capsys: Capture, words: tuple[str, ...], said: str
) -> None:
    assert said in refusal(capsys, *words)


def test_programs_are_told_so_in_json(capsys: Capture) -> None:
    assert run(["generate", "me.jpg", "--json"]) == 2

    assert json.loads(capsys.readouterr().out) == {
        "error": "sayso generate needs SPEECH. See sayso generate --help.",
        "code": "option_invalid",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify-ledger",), "there is no database in typo: nothing was checked"),
        (("report", "spend"), "note: there is no database in typo."),
    ],
)
def test_who_looks_into_the_wrong_folder_is_told_so(
    capsys: Capture, folder: Path, words: tuple[str, ...], said: str
) -> None:
    assert run([*words, "--data", "typo"]) == 0

    seen = capsys.readouterr()
    assert said in seen.out + seen.err
    assert not (folder / "typo").exists()


def test_who_grants_into_a_new_folder_is_told_so_once(capsys: Capture) -> None:
    for _ in range(2):
        assert run(["credits", "grant", "1", "--data", "new"]) == 0

    said = capsys.readouterr().err.splitlines()
    assert said == ["note: there was no database in new; a new one begins."]


@pytest.mark.parametrize("words", [("credits", "show"), ("verify-ledger",), ("serve",)])
def test_a_file_is_no_place_for_an_installation(capsys: Capture, words: tuple[str, ...]) -> None:
    line = refusal(capsys, *words, "--data", "me.jpg", code=4)

    assert line == "error: me.jpg: Not a directory."


def test_ctrl_c_is_heeded_though_something_swallows_it() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    terminal = Command(quiet=True)

    try:
        with terminal.heeding_ctrl_c():
            terminal.progress("rendering", 10)
            with suppress(KeyboardInterrupt):  # As a callback from C code does.
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                terminal.progress("rendering", 20)

        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_both_days_of_the_report_are_explained(capsys: Capture) -> None:
    run(["report", "spend", "--help"])

    text = capsys.readouterr().out
    assert "First day" in text
    assert "Last day" in text
