"""Every command and code block of the documents runs, and the references are complete.

The `sh` blocks of one document are one script, run in an empty folder that holds links to the
repository's files; `python` blocks run one after another in one namespace. A `text` or `console`
block shows what is seen and is not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from cyclopts import App

from sayso import cli, errors
from sayso.engine.quality import GATES
from tools import errors_page

ROOT: Final = Path(__file__).resolve().parent.parent.parent
DOCUMENTS: Final = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
BLOCK: Final = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
FILE: Final = re.compile(r"`((?:src|tests|tools|benchmarks|docs|examples)/[\w./-]*\w)/?`")
# These set up, test or benchmark the repository itself; running them from a test would recurse.
NOT_FROM_A_TEST: Final = re.compile(r"^\./run (test|check|fix|bench|soak|lock)\b.*$", re.MULTILINE)
LINKED: Final = ("run", "pyproject.toml", "requirements", "src", "examples", "docs", "README.md")
SECONDS: Final = 240


def blocks(document: Path, language: str) -> list[str]:
    found = BLOCK.findall(document.read_text(encoding="utf-8"))
    return [text for kind, text in found if kind == language]


def named(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a checkout, in which commands may leave files."""
    for name in LINKED:
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize(
    "document", [pytest.param(d, id=named(d)) for d in DOCUMENTS if blocks(d, "sh")]
)
def test_shell_blocks_run(document: Path, checkout: Path) -> None:
    script = NOT_FROM_A_TEST.sub(":", "\n".join(blocks(document, "sh")))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SAYSO_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SAYSO_VENV": str(Path(sys.prefix)),
    }

    ended = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert ended.returncode == 0, f"{script}\n{ended.stdout}\n{ended.stderr}"


def test_run_takes_names_from_where_the_caller_is(checkout: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "my pictures"
    elsewhere.mkdir()
    (elsewhere / "me.ogg").symlink_to(ROOT / "examples/speech.ogg")

    ended = subprocess.run(
        [str(checkout / "run"), "quote", "me.ogg"],
        cwd=elsewhere,
        env={**os.environ, "SAYSO_VENV": str(Path(sys.prefix))},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert ended.stdout == "sayso/portrait: 10 s x $0.01 = $0.10\n", ended.stderr


@pytest.mark.parametrize(
    "document", [pytest.param(d, id=named(d)) for d in DOCUMENTS if blocks(d, "python")]
)
def test_python_blocks_run(document: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    namespace: dict[str, object] = {"__name__": "document"}

    for block in blocks(document, "python"):
        exec(compile(block, named(document), "exec"), namespace)


@pytest.mark.parametrize("document", [pytest.param(d, id=named(d)) for d in DOCUMENTS])
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = LINK.findall(document.read_text(encoding="utf-8"))

    missing = [target for target in targets if not (document.parent / target).exists()]

    assert not missing


@pytest.mark.parametrize("document", [pytest.param(d, id=named(d)) for d in DOCUMENTS])
def test_files_that_are_named_are_there(document: Path) -> None:
    files = FILE.findall(document.read_text(encoding="utf-8"))

    missing = [file for file in files if not (ROOT / file).exists()]

    assert not missing


def test_what_is_said_to_be_decided_in_a_file_is_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| `(src/\S+\.py)` \| (`.+`) \|$", page, re.MULTILINE)

    missing = [
        f"{file}: {name}"
        for file, names in rows
        for name in re.findall(r"`(\w+)`", names)
        if not re.search(
            rf"^(?:(?:async )?def |class )?{name}\b", (ROOT / file).read_text(), re.MULTILINE
        )
    ]

    assert rows
    assert not missing


def test_every_folder_of_the_code_is_introduced() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = [path.parent.name for path in (ROOT / "src/sayso").glob("*/__init__.py")]

    missing = [name for name in folders if f"| `src/sayso/{name}` |" not in page]

    assert folders
    assert not missing


def commands(app: App, prefix: str = "sayso") -> Iterator[tuple[str, App]]:
    """Each command with its words, those inside a group as well."""
    for name in app:
        if not name.startswith("-"):
            if app[name].default_command is not None:
                yield f"{prefix} {name}", app[name]
            yield from commands(app[name], f"{prefix} {name}")


def test_every_command_has_a_heading_in_the_reference() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    every = [words for words, _ in commands(cli.app)]

    missing = [words for words in every if f"## `{words}`" not in page]

    assert every
    assert not missing


def test_every_option_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")

    missing = [
        name
        for _, command in commands(cli.app)
        for argument in command.assemble_argument_collection()
        for name in argument.names
        if name.startswith("--") and f"`{name}" not in page
    ]

    assert not missing


def test_the_errors_reference_is_what_the_code_says() -> None:
    written = errors_page.PAGE.read_text(encoding="utf-8")

    assert written == errors_page.page(), "python tools/errors_page.py renews it"


def test_every_quality_gate_is_in_its_page() -> None:
    page = (ROOT / "docs/concepts/quality.md").read_text(encoding="utf-8")

    missing = [g.figure for g in GATES if not re.search(rf"`{g.figure}` \| \S+ {g.bound:g} ", page)]

    assert not missing


def test_error_codes_are_unique() -> None:
    every = codes(errors.SaysoError)

    assert len(every) == len(set(every))


def codes(kind: type[errors.SaysoError]) -> list[str]:
    """The codes of a class and of all below it."""
    return [kind.code, *(code for below in kind.__subclasses__() for code in codes(below))]
