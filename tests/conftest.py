"""What all tests share: where the media lies, and what a missing tool means.

A test whose tool or media is missing skips with a reason; with `SAYSO_REQUIRE` set to a list of
words (`tools`, as continuous integration does), a skip for such a reason is a failure instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests never speak with the real Replicate, whoever runs them.
os.environ.pop("REPLICATE_API_TOKEN", None)

# A busy machine is slow and nothing else; and whoever runs the tests runs the same ones.
settings.register_profile(
    "sayso",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("sayso")

pytest_plugins = ["tests.databases", "tests.services"]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SHARED_MEDIA = ROOT.parent / "shared" / "media"


@pytest.fixture(scope="session")
def portrait() -> Path:
    """The repository's own sample picture."""
    return EXAMPLES / "portrait.jpg"


@pytest.fixture(scope="session")
def speech() -> Path:
    """The repository's own sample recording."""
    return EXAMPLES / "speech.ogg"


@pytest.fixture(scope="session")
def shared_media() -> Path:
    """Portraits and labelled speech for evaluation, kept beside the repository."""
    if not SHARED_MEDIA.is_dir():
        pytest.skip("the evaluation media is not on this machine")
    return SHARED_MEDIA


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Give the path of a program, or skip (fail where tools are required)."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"{name} is not installed")
        assert path is not None
        return path

    return find


def missing(reason: str) -> None:
    """Skip the test because a tool is missing, or fail it where tools are required."""
    if "tools" in os.environ.get("SAYSO_REQUIRE", "").split():
        pytest.fail(f"required here: {reason}")
    pytest.skip(reason)
