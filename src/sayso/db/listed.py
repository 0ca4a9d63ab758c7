"""`column IN (these ids)` with one parameter: the statement is the same for any number of them.

    _ROWS = select(...).where(among(table.c.id))
    tx.execute(_ROWS, {"ids": listed(ids)})

SQLAlchemy's own `in_` writes a parameter for each id, so each count is a statement of its own to be
compiled, and to be planned by PostgreSQL. Here the ids travel as one text of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Boolean, Column, ColumnElement, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class _Listed(FunctionElement[Any]):
    """The elements of a JSON array of texts, as a subquery."""

    name = "listed"
    inherit_cache = True


@compiles(_Listed, "sqlite")
def _for_sqlite(element: _Listed, compiler: SQLCompiler, **keywords: Any) -> str:
    array = compiler.process(element.clauses, **keywords)
    return f"(SELECT value FROM json_each({array}))"  # noqa: S608 (a placeholder, not a value)


@compiles(_Listed, "postgresql")
def _for_postgresql(element: _Listed, compiler: SQLCompiler, **keywords: Any) -> str:
    array = compiler.process(element.clauses, **keywords)
    return f"(SELECT jsonb_array_elements_text(CAST({array} AS JSONB)))"


def among(column: Column[Any], *, name: str = "ids") -> ColumnElement[bool]:
    """Return the condition; its parameter is called `name` and takes what `listed` returns."""
    ids = _Listed(bindparam(name, type_=Text))
    return column.op("IN", is_comparison=True, return_type=Boolean())(ids)


def listed(ids: Iterable[str]) -> str:
    """Return ids as the parameter of `among`."""
    return json.dumps(list(ids))
