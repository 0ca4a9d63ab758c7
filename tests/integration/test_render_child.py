"""The engine in its child: progress as it goes, a whole video or a reason, nothing in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sayso.errors import Canceled, OptionInvalid, SpeechTooLong
from sayso.media.child import Json, run_child
from sayso.media.limits import render_limits
from sayso.media.probe import judge, probe_video
from sayso.settings import Settings
from tests.recordings import tone, write_recording

pytestmark = pytest.mark.anyio

LIMITS = render_limits(Settings(), speech_s=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def arguments(portrait: Path, tmp_path: Path) -> dict[str, Json]:
    return {
        "portrait": str(portrait),
        "speech": str(write_recording(tmp_path / "tone.wav", tone(0.6))),
        "output": str(tmp_path / "out" / "video.mp4"),
        "options": {"fps": 25, "long_side_px": 256, "seed": 1},
    }


@pytest.fixture
def output(arguments: dict[str, Json]) -> Path:
    path = Path(str(arguments["output"]))
    path.parent.mkdir()
    return path


async def test_a_video_is_rendered_with_progress(arguments: dict[str, Json], output: Path) -> None:
    progress: list[Any] = []

    result: Any = await run_child("render", arguments, limits=LIMITS, on_progress=progress.append)

    assert result["n_frames"] == 15
    assert max(result["width"], result["height"]) == 256
    assert progress[0] == {"stage": "reading", "done": 0, "total": 100}
    assert progress[-1] == {"stage": "rendering", "done": 15, "total": 15}
    probe = probe_video(output)
    assert probe.n_frames == 15
    assert judge(probe, speech_s=0.6, is_ours=True) == ()


async def test_a_render_is_measured_where_that_is_asked_for(
    arguments: dict[str, Json], output: Path
) -> None:
    measured: Any = await run_child("render", {**arguments, "measure": True}, limits=LIMITS)
    plain: Any = await run_child("render", arguments, limits=LIMITS)

    assert plain["quality"] is None
    assert (measured["quality"]["n_frames"], measured["quality"]["video_codec"]) == (15, "h264")
    assert measured["quality"]["length_difference_s"] < 0.1
    assert measured["quality"]["face_share"] == 1.0
    assert is_there(output)


async def test_a_canceled_render_leaves_no_video(arguments: dict[str, Json], output: Path) -> None:
    cancel = asyncio.Event()

    with pytest.raises(Canceled):
        await run_child(
            "render", arguments, limits=LIMITS, cancel=cancel, on_progress=lambda _: cancel.set()
        )

    assert not is_there(output)


async def test_what_the_engine_refuses_is_refused_here(
    arguments: dict[str, Json], output: Path
) -> None:
    with pytest.raises(SpeechTooLong):
        await run_child("render", {**arguments, "speech_limits": {"longest_s": 0.3}}, limits=LIMITS)
    with pytest.raises(OptionInvalid):
        await run_child("render", {**arguments, "options": {"fps": 1000}}, limits=LIMITS)
    assert not is_there(output)


def is_there(path: Path) -> bool:
    return path.exists()
