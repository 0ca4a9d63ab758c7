"""A child does its work within its limits, or is gone; and nothing that it does hurts us."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from sayso.errors import Canceled, ChildCrashed, ChildTimedOut, FaceTurned
from sayso.media.child import TASKS, ChildLimits, Json, run_child
from tests import child_tasks

pytestmark = pytest.mark.anyio

NAMES = {
    name: f"tests.child_tasks:{name}"
    for name, value in vars(child_tasks).items()
    if getattr(value, "__module__", "") == "tests.child_tasks"
}
LIMITS = ChildLimits(cpu_s=5, wall_s=20, memory_bytes=512 << 20, file_bytes=1 << 20)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux does this")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    # As the service runs; its subprocesses are its own.
    return "asyncio", {"use_uvloop": True}


async def run(task: str, arguments: dict[str, Json] | None = None, **options: Any) -> Any:
    return await run_child(task, arguments or {}, **{"limits": LIMITS, "tasks": NAMES, **options})


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")


async def until_gone(pid: int, *, within_s: float = 30) -> bool:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if not is_alive(pid):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_work_is_done_reported_and_answered() -> None:
    progress: list[Json] = []

    result = await run("echo", {"a": [1, "ü", None]}, on_progress=progress.append)

    assert result == {"a": [1, "ü", None]}
    assert progress == [{"done": 0}, {"done": 1}, {"done": 2}]


async def test_reports_of_threads_do_not_mix() -> None:
    progress: list[Json] = []

    assert await run("report_from_threads", on_progress=progress.append) == [1]
    assert progress == ["x" * 5000] * 20


async def test_an_error_of_ours_crosses_the_pipe() -> None:
    with pytest.raises(FaceTurned, match="turned by 70°"):
        await run("reject")


async def test_an_error_that_is_not_for_a_child_to_say_is_a_crash() -> None:
    with pytest.raises(ChildCrashed, match="not known"):
        await run("claim_poverty")


async def test_a_bug_is_a_crash_with_its_traceback_as_a_note() -> None:
    with pytest.raises(ChildCrashed) as caught:
        await run("stumble")

    assert "KeyError" not in str(caught.value)
    assert "KeyError: 'a bug'" in caught.value.__notes__[0]


async def test_too_much_processor_time_ends_it() -> None:
    limits = ChildLimits(cpu_s=1, wall_s=20)

    with pytest.raises(ChildTimedOut, match="1 s of processor time"):
        await run("spin", limits=limits)


async def test_too_much_wall_time_ends_it() -> None:
    began_s = time.monotonic()

    with pytest.raises(ChildTimedOut, match=r"longer than 0\.7 s"):
        await run("sleep", limits=ChildLimits(wall_s=0.7))

    assert time.monotonic() - began_s < 30  # It sleeps for a minute.


@linux_only
@pytest.mark.parametrize("task", ["allocate", "allocate_natively"])
async def test_memory_ends_at_its_limit(task: str) -> None:
    if task == "allocate":
        with pytest.raises(ChildCrashed, match="more memory"):
            await run(task)
    else:
        assert 0 < await run(task) < 512 << 20


async def test_a_file_ends_at_its_limit(tmp_path: Path) -> None:
    with pytest.raises(ChildCrashed):
        await run("write_much", {"path": str(tmp_path / "large")})

    assert (tmp_path / "large").stat().st_size <= 1 << 20


@linux_only
async def test_a_full_disk_is_called_one() -> None:
    with pytest.raises(ChildCrashed, match="no room on the disk"):
        await run("write_much", {"path": "/dev/full"})


async def test_open_files_end_at_their_limit() -> None:
    assert 0 < await run("open_many") < 64


@linux_only
async def test_limits_cannot_be_raised_again() -> None:
    told = await run("raise_limits")

    assert set(told.values()) == {"kept"}


async def test_a_crash_is_told_with_its_last_words() -> None:
    with pytest.raises(ChildCrashed) as caught:
        await run("crash")

    assert f"exit status {-signal.SIGSEGV}" in caught.value.__notes__[0]
    assert "last words" in caught.value.__notes__[0]


async def test_an_end_without_an_answer_is_a_crash() -> None:
    with pytest.raises(ChildCrashed, match="without a result"):
        await run("leave")


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "null",
        "{}",
        '{"result": NaN}',
        '{"error": 5, "text": "a"}',
        '{"error": "no_such_code", "text": "a"}',
        '{"error": "canceled", "text": "a"}',
    ],
)
async def test_nonsense_is_not_believed(line: str) -> None:
    with pytest.raises(ChildCrashed):
        await run("talk_nonsense", {"line": line})


async def test_a_line_without_end_is_not_kept() -> None:
    with pytest.raises(ChildCrashed, match="makes no sense"):
        await run("talk_nonsense", {"line": "x", "times": 2 << 20})


async def test_a_result_that_is_not_json_is_a_crash() -> None:
    with pytest.raises(ChildCrashed):
        await run("answer_without_json")


async def test_endless_talk_is_ended() -> None:
    with pytest.raises(ChildCrashed, match="makes no sense"):
        await run("talk_for_ever", limits=ChildLimits(cpu_s=20, wall_s=60))


async def test_there_is_no_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        told = await run("reach_out", {"port": server.getsockname()[1]})

    native = told.pop("native")
    assert set(told.values()) == {"PermissionError"}
    if sys.platform == "linux" and os.geteuid() == 0:
        assert native != "went out"


@linux_only
async def test_it_knows_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", "canary")
    monkeypatch.setenv("SAYSO_API_KEY", "canary")

    told = await run("look_around")

    assert "canary" not in str(told["environment"])
    assert told["session"]
    assert told["user"] == os.getuid()
    # Standard input, output and error, the messages, and the folder being listed.
    assert told["descriptors"] == [0, 1, 2, 3, 4]


async def test_cancel_ends_it_at_once() -> None:
    cancel, pids = asyncio.Event(), list[Any]()

    def started(progress: Any) -> None:
        pids.append(progress["pid"])
        cancel.set()

    began_s = time.monotonic()
    with pytest.raises(Canceled):
        await run("ignore_signals_and_sleep", on_progress=started, cancel=cancel)

    assert time.monotonic() - began_s < 30  # It sleeps for a minute.
    assert not is_alive(pids[0])


async def test_canceling_the_task_ends_it_as_well() -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run("sleep", on_progress=lambda p: started.set_result(p["pid"])))
    pid = await started
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await until_gone(pid)


async def test_what_a_listener_raises_ends_it() -> None:
    pids: list[Any] = []

    def raising(progress: Any) -> None:
        pids.append(progress["pid"])
        raise LookupError("a listener's own")

    with pytest.raises(LookupError):
        await run("sleep", on_progress=raising)
    assert not is_alive(pids[0])


async def test_cancel_after_the_end_changes_nothing() -> None:
    assert await run("echo", {"a": 1}, cancel=asyncio.Event()) == {"a": 1}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_it_dies_with_its_parent(number: int) -> None:
    parent_code = textwrap.dedent("""
        import asyncio
        from sayso.media.child import run_child
        asyncio.run(run_child(
            "sleep", {}, tasks={"sleep": "tests.child_tasks:sleep"},
            on_progress=lambda progress: print(progress["pid"], flush=True),
        ))
    """)
    root = Path(__file__).parents[2]
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        parent_code,
        stdout=subprocess.PIPE,
        cwd=root,
        env={"PYTHONPATH": f"{root / 'src'}:{root}"},
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert is_alive(pid)

    parent.send_signal(number)

    assert await until_gone(pid)
    await parent.wait()


async def test_many_at_once_all_answer() -> None:
    results = await asyncio.gather(*(run("echo", {"n": n}) for n in range(6)))

    assert results == [{"n": n} for n in range(6)]


def test_each_task_of_ours_is_named_by_module_and_function() -> None:
    for task, name in TASKS.items():
        assert name.startswith("sayso."), task
        assert name.count(":") == 1
