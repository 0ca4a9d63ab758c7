"""`sayso report spend`: captured credits against what the providers charged, as text or JSON.

The figures are those of `generations.spend`. Like the other commands of an operator it opens the
database itself, beside a service that runs or without one.
"""

from __future__ import annotations

import asyncio
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App

from sayso.command import AsJson, Data, has_database, opened_database, speaking
from sayso.errors import OptionInvalid

if TYPE_CHECKING:
    from sayso.generations.spend import Spend, Sums, Unmatches
    from sayso.settings import Settings

_SHOWN: Final = 5  # Of what is unmatched, in a text.
_COLUMNS: Final = (
    *("day", "model", "done", "failed", "canceled"),
    *("captured", "cost", "unknown", "lost", "margin"),
)
_N_WORDS: Final = 2  # Columns of words stand to the left, those of numbers to the right.

report: Final = App(name="report", help="Say what came of the generations so far.")


@report.command
def spend(
    *,
    since: str | None = None,
    until: str | None = None,
    data: Data = None,
    as_json: AsJson = False,
) -> int:
    """Print what was captured and what the providers charged for it, by day and model.

    Parameters
    ----------
    since
        First day, in UTC, such as 2026-11-01; all days without it.
    until
        Last day; up to now without it.
    """
    with speaking(as_json=as_json) as terminal:
        from sayso.settings import read_settings

        settings = read_settings(data=data)
        days = _day(since), _day(until)
        if not has_database(settings):
            terminal.say(f"note: there is no database in {settings.data}.")
        found = asyncio.run(_spend(settings, *days))
        terminal.result(_spend_text(found), _spend_facts(found))
    return terminal.exit_code


async def _spend(settings: Settings, since: date | None, until: date | None) -> Spend:
    from sayso.generations.spend import Spend, Unmatches, spend_of
    from sayso.wiring import catalogue_of

    if not has_database(settings):
        none = Unmatches(0, 0, ())
        return Spend((), none, none, none)
    free = [model.name for model in catalogue_of(settings).models if not model.costs_us]
    async with opened_database(settings) as db:
        return await db.snapshot(
            lambda tx: spend_of(tx, since=since, until=until, free_models=free)
        )


def _spend_text(spend: Spend) -> str:
    from sayso.credits.rules import dollars

    rows: list[tuple[str, ...]] = [_COLUMNS]
    rows += [(str(line.day), line.model, *_spend_cells(line.sums)) for line in spend.lines]
    rows.append(("total", "", *_spend_cells(spend.total)))
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) if n < _N_WORDS else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    for sentence, unmatches in _unmatches_of(spend).items():
        shown = [
            one.generation_id if one.attempt is None else f"{one.generation_id} ({one.attempt})"
            for one in unmatches.newest[:_SHOWN]
        ]
        rest = ", ..." if unmatches.count > len(shown) else ""
        if unmatches.count:
            amount = f" ({dollars(unmatches.amount)})" if unmatches.amount else ""
            lines.append(f"{sentence}: {unmatches.count}{amount}: {', '.join(shown)}{rest}")
    return "\n".join(lines)


def _spend_cells(sums: Sums) -> tuple[str, ...]:
    from sayso.credits.rules import dollars

    counts = (sums.succeeded, sums.failed, sums.canceled)
    paid, left = (sums.captured, sums.cost), (sums.losses, sums.margin)
    return (*map(str, counts), *map(dollars, paid), str(sums.unknown), *map(dollars, left))


def _unmatches_of(spend: Spend) -> dict[str, Unmatches]:
    return {
        "captured without a cost": spend.captured_without_cost,
        "cost without a capture or a loss": spend.cost_without_capture,
        "attempts whose cost is unknown": spend.cost_unknown,
    }


def _spend_facts(spend: Spend) -> dict[str, Any]:
    return {
        "lines": [
            {"day": line.day.isoformat(), "model": line.model, **_sums_facts(line.sums)}
            for line in spend.lines
        ],
        "total": _sums_facts(spend.total),
        "captured_without_cost": _unmatches_facts(spend.captured_without_cost),
        "cost_without_capture": _unmatches_facts(spend.cost_without_capture),
        "cost_unknown": _unmatches_facts(spend.cost_unknown),
    }


def _sums_facts(sums: Sums) -> dict[str, Any]:
    from sayso.credits.rules import decimal_text

    money = {
        "captured": sums.captured,
        "cost": sums.cost,
        "losses": sums.losses,
        "margin": sums.margin,
    }
    return {
        "succeeded": sums.succeeded,
        "failed": sums.failed,
        "canceled": sums.canceled,
        "cost_unknown": sums.unknown,
        **{name: decimal_text(amount) for name, amount in money.items()},
        **{f"{name}_micros": amount for name, amount in money.items()},
    }


def _unmatches_facts(unmatches: Unmatches) -> dict[str, Any]:
    newest = [
        {
            "prediction_id": one.generation_id,
            "attempt": one.attempt,
            "model": one.model,
            "amount_micros": one.amount,
        }
        for one in unmatches.newest
    ]
    return {"count": unmatches.count, "amount_micros": unmatches.amount, "newest": newest}


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise OptionInvalid(f"{text!r} is not a day, such as 2026-11-01.") from None
