"""One seed again: `python -m tests.simulation 17 [BUG]` tells what happened and what is wrong."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import structlog

from sayso.db.connect import open_database
from sayso.db.upgrade import upgrade
from tests.simulation.bugs import BUGS
from tests.simulation.world import live


async def make_template(path: Path) -> Path:
    """Make a migrated, empty database."""
    db = await open_database(f"sqlite:///{path}")
    await upgrade(db)
    await db.close()
    return path


def main() -> int:
    seed = int(sys.argv[1])
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = asyncio.run(make_template(folder / "template.db"))
        if len(sys.argv) > 2:
            with BUGS[sys.argv[2]]():
                verdict, story = live(seed, folder, template)
        else:
            verdict, story = live(seed, folder, template)
    lines = [*story.lines, str(dict(verdict.counts)), *(verdict.wrong or ["nothing is wrong"])]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
