"""How far a model says it is, and what of its logs customers see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayso.providers.replicate_progress import percent_of, shown_logs


@pytest.mark.parametrize(
    ("logs", "percent"),
    [
        (None, None),
        ("", None),
        ("Using seed: 1234", None),
        (" 45%|####5     | 45/100 [00:12<00:15,  3.6it/s]", 45),
        ("Rendering:  45%|####5     | 45/100", 45),
        ("  0%|          | 0/20 [00:00<?, ?it/s]\r  5%|5    | 1/20\r 10%|#    | 2/20", 10),
        ("100%|##########| 20/20", 100),
        ("Processing frame 45/100", 45),
        ("frame: 45 of 90", 50),
        ("Step 3/20", 15),
        ("step 3 of 20\nsaving", 15),
        ("Chunk 2/4", 50),
        ("3/20 done", None),
        ("progress: 45%", None),
        ("frame 45/0", None),
        ("frame 200/100", 100),
        ("Downloading model:  80%|########  | 8/10", None),
        ("Loading checkpoint shards: 100%|##########| 2/2\n 10%|#         | 2/20", 10),
        (" 10%|#         | 2/20\nLoading checkpoint shards: 100%|##########| 2/2", 10),
        ("no\nlines\nof\nuse", None),
    ],
)
def test_the_last_line_that_counts_says_how_far(logs: str | None, percent: int | None) -> None:
    assert percent_of(logs) == percent


@given(st.text())
def test_any_logs_can_be_read(logs: str) -> None:
    percent = percent_of(logs)
    assert percent is None or 0 <= percent <= 100
    shown_logs(logs)


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", ["9", "frame ", "5%", "https:", "\x1b[", "r8_", " 1/", "steps"])
def test_hostile_logs_take_no_time(piece: str) -> None:
    percent_of(piece * 200_000)
    shown_logs(piece * 200_000)


@pytest.mark.parametrize(
    ("logs", "shown"),
    [
        (None, None),
        ("", None),
        ("Using seed: 1234\n", "Using seed: 1234\n"),
        ("got https://x.example.com/a?token=b now", "got <address> now"),
        ("image data:image/png;base64,AAAA", "image <address>"),
        ("token r8_abcdefghijklmnopqrstuvwxyz0123", "token <secret>"),
        ("Authorization: Bearer abc.def", "Authorization: <secret>"),
        ("\x1b[31mred\x1b[0m\x00", "red"),
        (" 0%\r50%\r\n", " 0%\n50%\n"),
    ],
)
def test_logs_are_shown_without_addresses_and_secrets(logs: str | None, shown: str | None) -> None:
    assert shown_logs(logs) == shown


def test_only_the_end_is_shown_and_begins_with_a_whole_line() -> None:
    logs = "".join(f"line {number}\n" for number in range(10_000))
    shown = shown_logs(logs)

    assert shown is not None
    assert len(shown) <= 4_000
    assert shown.endswith("line 9999\n")
    assert shown.startswith("line ")
