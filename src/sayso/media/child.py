"""Work on hostile bytes, done in a child process that has little time, memory and no network.

    run_child()    run a task in a child: its result, or what it raised
    TASKS          the functions that a child may be asked to run
    ChildLimits    processor, wall time, memory, file size

The child is started by exec, never by fork, in a session of its own and with an environment of its
own: no secret of ours is in it. It limits itself before it opens any input (`child_main.py`).
What it says comes as lines of JSON, and the parent believes none of it blindly: the lines are
bounded, an error must be one that is for a child to say, and a caller checks the result's shape.
However it ends, its whole process group is gone when `run_child` returns.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final, NoReturn, TypeAlias

from sayso.errors import (
    Canceled,
    ChildCrashed,
    ChildFailed,
    ChildTimedOut,
    InputRejected,
    SaysoError,
)

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Report: TypeAlias = Callable[[Json], None]

# A task is a plain function `(arguments: dict[str, Json], report: Report) -> Json`. The child finds
# it by its name, so nothing of it is imported here.
TASKS: Final[Mapping[str, str]] = {
    "inspect_image": "sayso.engine.tasks:inspect_image",
    "inspect_speech": "sayso.media.tasks:inspect_speech",
    "probe_video": "sayso.media.tasks:probe_video",
    "render": "sayso.engine.tasks:render",
    "inspect_video": "sayso.engine.tasks:inspect_video",
}

# What a child may raise: that the input is bad, or that it is too much.
_MAY_SAY: Final = (InputRejected, ChildFailed)

_GIB: Final = 1 << 30
_LINE_BYTES: Final = 1 << 20
_ALL_LINES_BYTES: Final = 64 << 20
_LAST_WORDS_BYTES: Final = 8192

# One thread for each numeric library: there are several children, and a thread reserves address
# space, as does each of malloc's arenas.
_ENVIRONMENT: Final = {
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
}


@dataclass(frozen=True, kw_only=True)
class ChildLimits:
    """What a child may use; reaching one ends it.

    The system bounds `memory_bytes` (address space) on Linux, not on macOS.
    """

    cpu_s: int = 10
    wall_s: float = 60.0
    memory_bytes: int = _GIB
    file_bytes: int = 64 << 20
    open_files: int = 64


DECODE_LIMITS: Final = ChildLimits()


async def run_child(
    task: str,
    arguments: Mapping[str, Json],
    *,
    limits: ChildLimits = DECODE_LIMITS,
    on_progress: Callable[[Json], None] | None = None,
    cancel: asyncio.Event | None = None,
    tasks: Mapping[str, str] = TASKS,
) -> Json:
    """Run a task in a child and return its result.

    `on_progress` is given what the task reports. Setting `cancel` ends the child and raises
    `Canceled`; canceling the awaiting task ends it as well.

    Raises what the task raised of `InputRejected`; `ChildTimedOut` when it took too long and
    `ChildCrashed` when it died, which for a decoder means that the input was too much for it.
    """
    request: Json = {
        "function": tasks[task],
        "arguments": dict(arguments),
        "limits": asdict(limits),
        "parent_pid": os.getpid(),
    }
    process = await _start()
    last_words = asyncio.create_task(_tail_of(process.stderr))
    try:
        async with asyncio.timeout(limits.wall_s):
            answer = await _unless(cancel, _converse(process, request, on_progress or _ignore))
            if answer is None:
                # Its pipe is closed: it is dying, and its status will say of what.
                await process.wait()
    except TimeoutError:
        raise ChildTimedOut(f"The work took longer than {limits.wall_s:g} s.") from None
    finally:
        await asyncio.shield(_end(process))
    if answer is None:
        _raise_for_death(process, limits, await last_words)
    last_words.cancel()
    return _result_of(answer)


async def _start() -> Process:
    """Start a Python that knows our modules and nothing else of our environment."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "sayso.media.child_main",
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=_ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
        limit=_LINE_BYTES,
    )


async def _unless(cancel: asyncio.Event | None, work: Coroutine[None, None, Json]) -> Json:
    """Await some work; raise `Canceled` when `cancel` is set before it is done."""
    if cancel is None:
        return await work
    working, canceling = asyncio.create_task(work), asyncio.create_task(cancel.wait())
    try:
        await asyncio.wait({working, canceling}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Canceled("The work was canceled.")
        return working.result()
    finally:
        working.cancel()
        canceling.cancel()
        await asyncio.gather(working, canceling, return_exceptions=True)


async def _converse(process: Process, request: Json, on_progress: Report) -> Json:
    """Send the request and read lines up to the last one; None when there is no last one.

    The child's standard input stays open: when it closes, because we are gone, the child ends.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):
        process.stdin.write(json.dumps(request, allow_nan=False).encode() + b"\n")
        await process.stdin.drain()
    heard_bytes = 0
    while heard_bytes <= _ALL_LINES_BYTES:
        try:
            line = await process.stdout.readline()
            if not line:
                return None
            message: Json = json.loads(line, parse_constant=_refuse_constant)
        except ValueError:
            break
        match message:
            case {"progress": progress}:
                on_progress(progress)
            case {"result": _} | {"error": str(), "text": str()}:
                return message
            case _:
                break
        heard_bytes += len(line)
    raise ChildCrashed("The work ended with an answer that makes no sense.")


async def _end(process: Process) -> None:
    """End the child and whatever it started, and wait until it is gone."""
    assert process.stdin is not None
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    await process.wait()


async def _tail_of(stream: asyncio.StreamReader | None) -> str:
    """Return the end of what the child wrote to its standard error."""
    assert stream is not None
    tail = b""
    while chunk := await stream.read(_LAST_WORDS_BYTES):
        tail = (tail + chunk)[-_LAST_WORDS_BYTES:]
    return tail.decode("utf-8", "replace")


def _raise_for_death(process: Process, limits: ChildLimits, last_words: str) -> NoReturn:
    """Say what a child died of; its last words are a note for the log, not for the user."""
    error: SaysoError
    if process.returncode == -signal.SIGXCPU:
        error = ChildTimedOut(f"The work took more than {limits.cpu_s} s of processor time.")
    else:
        error = ChildCrashed("The work ended without a result.")
    error.add_note(f"exit status {process.returncode}\n{last_words}")
    raise error


def _result_of(answer: Json) -> Json:
    match answer:
        case {"result": result}:
            return result
        case {"error": str(code), "text": str(text)}:
            raise _error_of(code, text)
        case _:
            raise ChildCrashed("The work ended with an answer that makes no sense.")


def _error_of(code: str, text: str) -> SaysoError:
    """Return the error that the child named, if it is one that is for a child to say."""
    for root in _MAY_SAY:
        for kind in _classes_from(root):
            if kind.code == code:
                return kind(text)
    return ChildCrashed("The work ended with an error that is not known.")


def _classes_from(root: type[SaysoError]) -> Iterator[type[SaysoError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _classes_from(kind)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _ignore(_progress: Json) -> None:
    """Tell nobody."""
