"""Stores speak SQLAlchemy Core (decision 0004): nothing of ours imports the ORM."""

from __future__ import annotations

import ast

from tests.conftest import ROOT


def test_nothing_imports_the_orm() -> None:
    sources = sorted((ROOT / "src").rglob("*.py"))
    importing = {
        path.relative_to(ROOT).as_posix()
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if _names(node) & {"sqlalchemy.orm", "sqlalchemy.ext.asyncio.session"}
    }
    assert len(sources) > 10
    assert importing == set()


def _names(node: ast.AST) -> set[str]:
    match node:
        case ast.Import(names=names):
            return {alias.name for alias in names}
        case ast.ImportFrom(module=str(module), names=names):
            return {module, *(f"{module}.{alias.name}" for alias in names)}
        case _:
            return set()
