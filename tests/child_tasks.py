"""What a child may be made to do in tests: good work, and every kind of bad."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sayso.errors import FaceTurned, InsufficientCredits

Arguments = dict[str, Any]
Report = Callable[[Any], None]


def echo(arguments: Arguments, report: Report) -> Any:
    sys.stdout.write("printed by some library\n")
    for n in range(3):
        report({"done": n})
    return arguments


def reject(arguments: Arguments, report: Report) -> Any:
    raise FaceTurned("The face is turned by 70°.")


def claim_poverty(arguments: Arguments, report: Report) -> Any:
    raise InsufficientCredits("There is no money.")


def stumble(arguments: Arguments, report: Report) -> Any:
    raise KeyError("a bug")


def spin(arguments: Arguments, report: Report) -> Any:
    report("spinning")
    while True:
        pass


def sleep(arguments: Arguments, report: Report) -> Any:
    report({"pid": os.getpid(), "group": os.getpgid(0)})
    time.sleep(60)


def ignore_signals_and_sleep(arguments: Arguments, report: Report) -> Any:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return sleep(arguments, report)


def allocate(arguments: Arguments, report: Report) -> Any:
    blocks = []
    while True:
        blocks.append(bytearray(50 << 20))


def allocate_natively(arguments: Arguments, report: Report) -> Any:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    taken = 0
    while (block := libc.malloc(ctypes.c_size_t(64 << 20))) and taken < 1 << 40:
        taken += 64 << 20
        assert block
    return taken


def crash(arguments: Arguments, report: Report) -> Any:
    sys.stderr.write("last words\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def leave(arguments: Arguments, report: Report) -> Any:
    os._exit(0)


def write_much(arguments: Arguments, report: Report) -> Any:
    with Path(arguments["path"]).open("wb") as file:
        file.writelines(b"x" * (1 << 20) for _ in range(1000))


def open_many(arguments: Arguments, report: Report) -> Any:
    held = []
    with contextlib.suppress(OSError):
        while True:
            held.append(open("/dev/null", "rb"))  # noqa: PTH123, SIM115
    return len(held)


def raise_limits(arguments: Arguments, report: Report) -> Any:
    import resource  # noqa: PLC0415

    told = {}
    for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE"):
        limit = getattr(resource, name)
        try:
            resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            told[name] = "raised"
        except (ValueError, OSError):
            told[name] = "kept"
    return told


def reach_out(arguments: Arguments, report: Report) -> Any:
    """Try each way out; say what happened."""

    def connect() -> object:
        return socket.create_connection(("127.0.0.1", arguments["port"]), timeout=5)

    def connect_natively() -> object:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        port = arguments["port"].to_bytes(2, "big")
        address = (2).to_bytes(2, sys.byteorder) + port + bytes([127, 0, 0, 1]) + bytes(8)
        if libc.connect(descriptor, address, len(address)) != 0:
            raise OSError(ctypes.get_errno(), "native connect")
        return None

    ways: dict[str, Callable[[], object]] = {
        "connect": connect,
        "resolve": lambda: socket.getaddrinfo("localhost", 80),
        "socket": socket.socket,
        "spawn": lambda: subprocess.run(["true"], check=False),
        "system": lambda: os.system("true"),
        "fork": os.fork,
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "native": connect_natively,
    }
    told = {}
    for name, way in ways.items():
        try:
            way()
            told[name] = "went out"
        except OSError as error:
            told[name] = type(error).__name__
    return told


def look_around(arguments: Arguments, report: Report) -> Any:
    return {
        "environment": dict(os.environ),
        "session": os.getsid(0) == os.getpid(),
        "user": os.getuid(),
        "descriptors": sorted(int(p.name) for p in Path("/proc/self/fd").iterdir()),
    }


def talk_nonsense(arguments: Arguments, report: Report) -> Any:
    line = arguments["line"].encode() * arguments.get("times", 1)
    for descriptor in range(3, 10):
        with contextlib.suppress(OSError):
            os.write(descriptor, line + b"\n")
    time.sleep(60)


def talk_for_ever(arguments: Arguments, report: Report) -> Any:
    while True:
        report("x" * 500_000)


def answer_without_json(arguments: Arguments, report: Report) -> Any:
    return float("nan")


def report_from_threads(arguments: Arguments, report: Report) -> Any:
    threads = [threading.Thread(target=report, args=("x" * 5000,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return json.loads("[1]")
