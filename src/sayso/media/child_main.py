"""What runs inside a child: `python -m sayso.media.child_main`, started by `child.run_child`.

In this order, before any input is opened: files that it inherited are closed and standard output is
taken for our messages alone; the child ties its life to its parent's; limits itself; leaves the
network; and only then imports the task and runs it.

It dies with its parent in two ways: the kernel kills it (Linux), and its standard input, whose
other end the parent holds, closes (everywhere). The network is left by a namespace of its own where
the system allows that (Linux, as root or with user namespaces); in any case an audit hook refuses
sockets and processes to Python code. Address space is bounded on Linux; macOS ignores that limit.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from sayso.errors import ChildCrashed, SaysoError

# From linux/prctl.h, linux/sched.h and linux/capability.h.
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWNET: Final = 0x4000_0000
_CLONE_NEWUSER: Final = 0x1000_0000
_CAPABILITY_VERSION_3: Final = 0x2008_0522
# Root in a container reads and writes folders of others by these two; it keeps no more.
_CAP_DAC_OVERRIDE: Final = 1 << 1
_CAP_DAC_READ_SEARCH: Final = 1 << 2

_STANDARD_ERROR: Final = 2
_REQUEST_BYTES: Final = 1 << 20
_CPU_GRACE_S: Final = 2
_CV_NO_MEMORY: Final = -4
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_REFUSED_EVENTS: Final = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
        "os.system",
        "socket.__new__",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendto",
        "subprocess.Popen",
    }
)


def main() -> None:
    """Read a request from standard input, do it, write the answer, and end."""
    _close_what_was_inherited()
    say = _take_over_stdout()
    request = json.loads(_read_line())
    _die_with(request["parent_pid"])
    _limit_myself(request["limits"])
    leave_network()
    threading.Thread(target=_end_when_parent_ends, daemon=True).start()
    sys.addaudithook(_refuse)
    say(_answer_to(request["function"], request["arguments"], say))
    # Nothing is left to do, and libraries may take their time to end.
    os._exit(0)


def leave_network() -> bool:
    """Enter a network namespace that has no way out; tell whether the system allowed it.

    Must be called before a second thread exists.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    is_out = bool(libc.unshare(_CLONE_NEWNET) == 0)
    if not is_out and libc.unshare(_CLONE_NEWNET | _CLONE_NEWUSER) == 0:
        is_out = True
        # Stay who we are; without a map we would be `nobody`, which confuses some libraries.
        with contextlib.suppress(OSError):
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{user} {user} 1")
            _write("/proc/self/gid_map", f"{group} {group} 1")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with contextlib.suppress(AttributeError):
        _drop_capabilities(libc)
    return is_out


def _close_what_was_inherited() -> None:
    """Close all but the three standard files: event loops differ in what they pass on."""
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - plain numbers are wanted.
        if int(name) > _STANDARD_ERROR:
            with contextlib.suppress(OSError):  # The listing's own is closed already.
                os.close(int(name))


def _take_over_stdout() -> Callable[[dict[str, Any]], None]:
    """Keep the pipe to the parent for messages; whatever else is printed goes to standard error."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    lock = threading.Lock()

    def say(message: dict[str, Any]) -> None:
        line = json.dumps(message, allow_nan=False)
        with lock:
            messages.write(line + "\n")

    return say


def _read_line() -> bytes:
    """Read up to the first line's end without a buffer that would swallow the end of file."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65_536)
        line += chunk
        if not chunk or len(line) > _REQUEST_BYTES:
            os._exit(os.EX_DATAERR)
    return line


def _die_with(parent_pid: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # It ended before we asked.
        os._exit(os.EX_UNAVAILABLE)


def _end_when_parent_ends() -> None:
    while os.read(0, 65_536):
        pass
    os._exit(os.EX_UNAVAILABLE)


def _limit_myself(limits: dict[str, Any]) -> None:
    cpu_s = int(limits["cpu_s"])
    # At the soft limit comes SIGXCPU, which nobody catches and by which the parent knows the cause.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + _CPU_GRACE_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for limit, name in (
        (resource.RLIMIT_FSIZE, "file_bytes"),
        (resource.RLIMIT_NOFILE, "open_files"),
    ):
        resource.setrlimit(limit, (int(limits[name]), int(limits[name])))
    memory_bytes = int(limits["memory_bytes"])
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    else:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up what root may do beyond reading and writing files (capset(2), version 3)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; first for the capabilities 0-31, then for 32-63.
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) != 0:
        return
    kept = sets[1] & (_CAP_DAC_OVERRIDE | _CAP_DAC_READ_SEARCH)
    sets[:] = [kept, kept, 0, 0, 0, 0]
    libc.capset(header, sets)


def _refuse(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in _REFUSED_EVENTS:
        raise PermissionError(f"a child may not: {event}")


def _answer_to(
    function_name: str, arguments: dict[str, Any], say: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Run the task; what it raises on purpose becomes an answer, anything else ends the child."""
    module_name, _, name = function_name.partition(":")
    function = getattr(importlib.import_module(module_name), name)
    try:
        return {"result": function(arguments, lambda progress: say({"progress": progress}))}
    except SaysoError as error:
        return {"error": error.code, "text": str(error)}
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "code", None) == _CV_NO_MEMORY:
            return {"error": ChildCrashed.code, "text": "The work needs more memory than it may."}
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return {"error": ChildCrashed.code, "text": "The work found no room on the disk."}
        raise


if __name__ == "__main__":
    main()
