"""What every command of `sayso` shares: how it ends, and how it refuses.

speaking()          turns what a command raises into a sentence and an exit code
Command             the terminal of one command, with its exit code
require_...()       refuses files that cannot be read or written before any work is done
opened_database()   the database of an installation, for the commands of its operator
EXIT_...            the exit codes; `cli.py` says what they mean
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from cyclopts import Parameter

from sayso.errors import (
    InputRejected,
    InsufficientCredits,
    LedgerRefused,
    OptionInvalid,
    SaysoError,
    ServiceRefused,
)
from sayso.terminal import Terminal

if TYPE_CHECKING:
    from sayso.db.connect import Database
    from sayso.settings import Settings

EXIT_BROKEN: Final = 1
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 3
EXIT_FILES: Final = 4
EXIT_FINDINGS: Final = 5
EXIT_INTERRUPTED: Final = 130

AsJson: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--json",
        negative=(),
        show_default=False,
        help="Print the result as one JSON object.",
    ),
]
Data: TypeAlias = Annotated[
    Path | None,
    Parameter(help="Folder of the database and the files; SAYSO_DATA or ./data without it."),
]
Quiet: TypeAlias = Annotated[
    bool,
    Parameter(
        name=["--quiet", "-q"], negative=(), show_default=False, help="Print nothing but errors."
    ),
]

_VIDEO_SUFFIXES: Final = frozenset({".mp4", ".m4v", ""})


class Command(Terminal):
    """A terminal that remembers how its command ended, and whether it was to be stopped."""

    exit_code = 0
    _is_stopped = False

    def progress(self, stage: str, percent: float) -> None:
        """Show how far a stage is; raise `KeyboardInterrupt` if Ctrl-C has not been heeded yet."""
        if self._is_stopped:
            raise KeyboardInterrupt
        super().progress(stage, percent)

    @contextmanager
    def heeding_ctrl_c(self) -> Iterator[None]:
        """Stop at the next progress at the latest.

        What Ctrl-C raises is lost where it happens to meet a callback from C code: of presses while
        frames are encoded one in twenty-five was.
        """

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._is_stopped = True
            raise KeyboardInterrupt

        is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not is_heeded or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def speaking(*, as_json: bool = False, quiet: bool = False) -> Iterator[Command]:
    """Turn what a command raises into a sentence and an exit code."""
    with Command(as_json=as_json, quiet=quiet) as terminal:
        try:
            yield terminal
        except OptionInvalid as error:
            terminal.error(error.code, str(error))
            terminal.exit_code = EXIT_USAGE
        except (InputRejected, InsufficientCredits, LedgerRefused) as error:
            terminal.error(error.code, str(error))
            terminal.exit_code = EXIT_REFUSED
        except ServiceRefused as error:
            # What the service says of an input is what a command on this machine would say.
            terminal.error(error.service_code or error.code, str(error))
            terminal.exit_code = EXIT_REFUSED if error.is_about_input else EXIT_BROKEN
        except SaysoError as error:
            terminal.error(error.code, str(error))
            terminal.exit_code = EXIT_BROKEN
        except BrokenPipeError:
            # Whoever reads has seen enough, as `head` does, and nobody is left to tell anything.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            terminal.exit_code = EXIT_FILES
        except OSError as error:
            terminal.error("file_system", _about_files(error))
            terminal.exit_code = EXIT_FILES
        except KeyboardInterrupt:
            terminal.error("interrupted", "Stopped; nothing is left behind.")
            terminal.exit_code = EXIT_INTERRUPTED


def _about_files(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}."


def require_files(*paths: Path) -> None:
    """Refuse inputs that are not there, or are folders, before anything is read."""
    for path in paths:
        if not path.is_file():
            number = errno.EISDIR if path.is_dir() else errno.ENOENT
            raise OSError(number, os.strerror(number), str(path))


def require_video_name(output: Path, *inputs: Path) -> None:
    """Refuse an output that would not do for an MP4, or would overwrite what it is made of."""
    if output.suffix.lower() not in _VIDEO_SUFFIXES:
        better = output.with_suffix(".mp4")
        raise OptionInvalid(f"The video is an MP4: name it {better} instead of {output}.")
    require_writable(output, *inputs)


def require_writable(output: Path, *inputs: Path) -> None:
    """Refuse an output that cannot be written, or is an input, before any work is done for it."""
    folder = output.parent
    if not folder.is_dir():
        raise OptionInvalid(f"The folder {folder} for the output does not exist.")
    if output.is_dir():
        raise OptionInvalid(f"{output} is a folder; --output names a file.")
    if output.exists():
        if not output.is_file():
            raise OptionInvalid(f"{output} is not an ordinary file; --output names one.")
        if any(output.samefile(path) for path in inputs):
            raise OptionInvalid(f"{output} is an input; --output names another file.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def has_database(settings: Settings) -> bool:
    """Whether the database is there already; one on a server is its own affair."""
    require_data_folder(settings.data)
    return settings.database_url is not None or settings.database_file.is_file()


def require_data_folder(data: Path) -> None:
    """Refuse a file where the folder of an installation should be."""
    if data.exists() and not data.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(data))


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database of an installation, migrated; nothing else of it is started."""
    from sayso.db.connect import open_database
    from sayso.db.upgrade import upgrade

    if settings.database_url is None:
        require_data_folder(settings.data)
        settings.data.mkdir(parents=True, exist_ok=True)
    db = await open_database(settings.database)
    try:
        await upgrade(db)
        yield db
    finally:
        await db.close()
