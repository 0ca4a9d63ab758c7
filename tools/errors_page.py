"""Write docs/reference/errors.md from the error tree, its statuses and its docstrings.

    python tools/errors_page.py

A test holds the page to what this makes of the code.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Final

from sayso import errors
from sayso.http.errors import status_of

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference" / "errors.md"

HEAD: Final = """# Errors

Every error has a stable code and a sentence for the person who meets it.
On the command line the sentence goes to standard error.
With `--json` standard output gets `{"error": ..., "code": ...}` as well.
Over HTTP the body is `application/problem+json`: `type title status detail code`.
It also has `error`, which repeats `detail`.

An error that is a kind of another may be handled as that one.
This page is made from the code by `tools/errors_page.py`.
"""


def page() -> str:
    """Return the page's text."""
    return "\n".join([HEAD, *sections(errors.SaysoError)])


def sections(kind: type[errors.SaysoError]) -> list[str]:
    """Return the section of a class and those of the classes below it."""
    status = status_of(kind)
    text = " ".join((inspect.getdoc(kind) or "").split())
    above = kind.__mro__[1]
    below = f", a kind of `{above.code}`" if issubclass(above, errors.SaysoError) else ""
    own = [
        f"## `{kind.code}`",
        "",
        f"{text}",
        f"`{kind.__name__}`{below}; HTTP {status}.",
        "",
    ]
    return own + [line for sub in kind.__subclasses__() for line in sections(sub)]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
