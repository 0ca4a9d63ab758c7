"""Our own rules, which no linter knows; prints each breach and exits 1 when there is one.

    python tools/lint_rules.py

R1  A function that takes `tx` is not async; an async function takes no `tx` (the `tx` rule).
R2  Only `settings.py` reads the environment.
R3  Only `clock.py` asks for the date; nothing else calls `time.time` or `datetime.now`.
R4  No function is longer than 120 lines.
R5  No module is called utils, helpers, common, misc or manager.
R6  Locks name no address of a package index.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LONGEST_FUNCTION: Final = 120  # lines
VAGUE_NAMES: Final = frozenset({"utils", "helpers", "common", "misc", "manager"})
ENVIRONMENT_READERS: Final = frozenset({"src/sayso/settings.py"})
CLOCKS: Final = frozenset({"src/sayso/clock.py"})
DATE_CALLS: Final = frozenset({"time.time", "time.time_ns", "datetime.now", "datetime.utcnow"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> int:
    """Check every module of the product; return the exit code."""
    breaches = [*breaches_in_locks()]
    for path in sorted((ROOT / "src").rglob("*.py")):
        breaches.extend(breaches_in(path))
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


def breaches_in(path: Path) -> Iterator[str]:
    """Yield the breaches of one module."""
    name = path.relative_to(ROOT).as_posix()
    if path.stem in VAGUE_NAMES:
        yield f"{name}: R5 a module's name says what it is about"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield from (f"{name}:{node.lineno}: {breach}" for breach in about_function(node))
        elif isinstance(node, ast.Attribute | ast.Call):
            yield from (f"{name}:{node.lineno}: {breach}" for breach in about_access(node, name))


def about_function(node: Function) -> Iterator[str]:
    """Yield what is wrong with a function as a whole."""
    arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    if isinstance(node, ast.AsyncFunctionDef) and "tx" in arguments:
        yield f"R1 `{node.name}` is async and takes `tx`"
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > LONGEST_FUNCTION:
        yield f"R4 `{node.name}` has {length} lines"


def about_access(node: ast.Attribute | ast.Call, name: str) -> Iterator[str]:
    """Yield what is wrong with one access or call."""
    if isinstance(node, ast.Attribute):
        if dotted(node) in {"os.environ", "os.getenv"} and name not in ENVIRONMENT_READERS:
            yield "R2 only settings.py reads the environment"
    elif dotted(node.func) in DATE_CALLS and name not in CLOCKS:
        yield f"R3 `{dotted(node.func)}` is for clock.py alone"


def dotted(node: ast.expr) -> str:
    """Return `a.b` of an attribute of a name, else an empty string."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def breaches_in_locks() -> Iterator[str]:
    """Yield each line of a lock that names an address or an index option."""
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        for number, line in enumerate(lock.read_text(encoding="utf-8").splitlines(), 1):
            if "://" in line or line.startswith(("--index", "--extra-index", "--find-links")):
                yield f"{lock.relative_to(ROOT)}:{number}: R6 a lock names no index"


if __name__ == "__main__":
    sys.exit(main())
