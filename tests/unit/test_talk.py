"""How far a video is: each stage tells its share on the caller's thread, and may be ended there."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from sayso.engine.talk import Progress, TalkOptions, make_video
from sayso.media.audio import write_beginning

SMALL = TalkOptions(long_side_px=128, fps=10)


class EnoughError(Exception):
    """What a caller raises who does not want to wait any longer."""


def test_each_stage_tells_its_share_on_the_calling_thread(
    portrait: Path, speech: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    threads: set[threading.Thread] = set()

    def on_progress(step: Progress) -> None:
        told.append(step)
        threads.add(threading.current_thread())

    make_video(portrait, speech, tmp_path / "out.mp4", options=SMALL, on_progress=on_progress)

    heard = [step.done for step in told if step.stage == "listening"]
    assert heard[0] == 0
    assert heard[-1] == 100
    assert len(heard) > 3  # A long recording must not look stuck.
    assert all(one <= next_one for one, next_one in pairwise(heard))
    assert list(dict.fromkeys(step.stage for step in told)) == ["reading", "listening", "rendering"]
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize(("crop", "code"), [("picture", ["face_small_in_video"]), ("face", [])])
def test_a_face_that_is_lost_in_its_picture_is_told(
    portrait: Path, speech: Path, tmp_path: Path, crop: Literal["picture", "face"], code: list[str]
) -> None:
    """A photo of a landscape with somebody in it."""
    person = Image.open(portrait)
    landscape = Image.new("RGB", (5 * person.width, 2 * person.height), "gray")
    landscape.paste(person, (person.width, person.height))
    landscape.save(tmp_path / "landscape.jpg")
    second = tmp_path / "second.wav"
    write_beginning(speech, second, seconds=0.5)

    talk = make_video(
        tmp_path / "landscape.jpg", second, tmp_path / "out.mp4", options=TalkOptions(crop=crop)
    )

    assert [notice.code for notice in talk.notices] == code


def test_it_may_be_ended_while_it_listens(portrait: Path, speech: Path, tmp_path: Path) -> None:
    def on_progress(step: Progress) -> None:
        if step.stage == "listening" and step.done:
            raise EnoughError

    with pytest.raises(EnoughError):
        make_video(portrait, speech, tmp_path / "out.mp4", options=SMALL, on_progress=on_progress)

    assert list(tmp_path.iterdir()) == []
