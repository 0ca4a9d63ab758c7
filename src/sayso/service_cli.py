"""The commands of the service: serve, worker, demo, quote, credits, verify-ledger.

    register()      add them to the command line
    generate_at()   `sayso generate --server URL`

`serve` and `worker` run until SIGTERM or Ctrl-C. `credits` and `verify-ledger` are the operator's:
they open the database themselves, beside a service that runs or without one. `report_cli.py` has
the report on what came in and what went out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import App, Parameter

from sayso.command import (
    EXIT_BROKEN,
    EXIT_FINDINGS,
    AsJson,
    Command,
    Data,
    has_database,
    opened_database,
    require_data_folder,
    require_files,
    require_video_name,
    speaking,
)
from sayso.errors import Notice
from sayso.report_cli import report

if TYPE_CHECKING:
    from sayso.credits.rules import Entry
    from sayso.credits.service import Credits
    from sayso.settings import Settings

Server: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="Address of a service to use, such as http://127.0.0.1:8000; SAYSO_API_KEY is sent"
        " there if set."
    ),
]

_credits = App(name="credits", help="Show what the local account has, or give it more.")


def register(app: App) -> None:
    """Add the service's commands to the command line."""
    for command in (serve, worker, demo, quote):
        app.command(command)
    app.command(verify_ledger, name="verify-ledger")
    app.command(_credits)
    app.command(report)


def serve(*, host: str = "127.0.0.1", port: int = 8000, data: Data = None) -> int:
    """Run the service: the page, the API and the renders, until Ctrl-C.

    Parameters
    ----------
    host
        Address to bind; anything but this machine needs SAYSO_API_KEY.
    port
        Port to bind; 0 takes a free one.
    """
    with speaking() as terminal:
        from sayso.http import serving

        settings = _long_running(data)

        async def main() -> None:
            await serving.serve(
                settings,
                host=host,
                port=port,
                stop=serving.until_signaled(),
                on_ready=lambda url: print(f"Sayso is at {url} (Ctrl-C stops it)", flush=True),
            )

        serving.run_on_loop(main())
        terminal.say("Stopped; what was not finished goes on at the next start.")
    return terminal.exit_code


def worker(*, data: Data = None) -> int:
    """Run reconciler and renders without doors, beside services on the same database."""
    with speaking() as terminal:
        from sayso.http import serving

        settings = _long_running(data)

        async def main() -> None:
            stop = serving.until_signaled()
            async with serving.opened_services(settings):
                print("The worker is ready (Ctrl-C stops it)", flush=True)
                await stop.wait()

        serving.run_on_loop(main())
        terminal.say("Stopped; what was not finished goes on elsewhere.")
    return terminal.exit_code


def demo(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("demo.mp4"),
    examples: Path = Path("examples"),
) -> int:
    """Make demo.mp4 of the sample through a service of its own, and say what it cost.

    Parameters
    ----------
    output
        Where the MP4 goes.
    examples
        The folder with portrait.jpg and speech.ogg.
    """
    with speaking() as terminal, TemporaryDirectory(prefix="sayso-demo-") as folder:
        from sayso.http.serving import running_service
        from sayso.logs import set_up_logs

        inputs = (examples / "portrait.jpg", examples / "speech.ogg")
        require_files(*inputs)
        require_video_name(output, *inputs)
        settings = _demo_settings(Path(folder))
        set_up_logs(settings)
        with running_service(settings) as url:
            terminal.say(f"A service of its own runs at {url}.")
            generate_at(
                terminal, url, inputs, output, model="sayso/portrait", options={"crop": "face"}
            )
    return terminal.exit_code


def quote(
    speech: Path,
    *,
    model: str | None = None,
    server: Server = None,
    as_json: AsJson = False,
) -> int:
    """Say what a video of SPEECH would cost; nothing is held.

    Parameters
    ----------
    speech
        A recording, or a video with sound.
    model
        A name of the catalogue; the default model without it.
    """
    with speaking(as_json=as_json) as terminal:
        require_files(speech)
        facts = _quote_at(server, speech, model) if server else _quote_here(speech, model)
        cost = facts["cost"]
        terminal.result(
            f"{facts['model']}: {cost['seconds']} s x ${cost['rate']} = ${cost['amount']}", facts
        )
    return terminal.exit_code


@_credits.command
def show(*, data: Data = None, as_json: AsJson = False) -> int:
    """Show balance, open holds and the newest entries of the local account."""
    with speaking(as_json=as_json) as terminal:
        settings = _settings(data)
        _note_a_new_one(terminal, settings)
        text, facts = asyncio.run(_statement(settings))
        terminal.result(text, facts)
    return terminal.exit_code


@_credits.command
def grant(amount: str, *, reason: str = "granted by the operator", data: Data = None) -> int:
    """Give the local account AMOUNT dollars.

    Parameters
    ----------
    amount
        Such as 5 or 2.50.
    reason
        What the entry says.
    """
    with speaking() as terminal:
        from sayso.credits.rules import dollars, parse_dollars

        micros = parse_dollars(amount)
        settings = _settings(data)
        _note_a_new_one(terminal, settings)

        async def main() -> int:
            async with _ledger(settings) as ledger:
                account_id = await ledger.open_local_account()
                balance = await ledger.grant(account_id, micros, reason=reason)
                return balance.available

        available = asyncio.run(main())
        terminal.result(f"granted {dollars(micros)}, available {dollars(available)}", {})
    return terminal.exit_code


def verify_ledger(*, data: Data = None, as_json: AsJson = False) -> int:
    """Check every invariant of the ledger; exit code 5 when one does not hold."""
    with speaking(as_json=as_json) as terminal:
        settings = _settings(data)

        async def main() -> list[dict[str, Any]]:
            async with _ledger(settings) as ledger:
                return [asdict(violation) for violation in await ledger.verify()]

        is_there = has_database(settings)
        found = asyncio.run(main()) if is_there else []
        lines = [" ".join(str(value) for value in violation.values()) for violation in found]
        if not is_there:
            lines = [f"there is no database in {settings.data}: nothing was checked"]
        terminal.result("\n".join(lines) or "the ledger is in order", {"violations": found})
        terminal.exit_code = EXIT_FINDINGS if found else 0
    return terminal.exit_code


def generate_at(
    terminal: Command,
    server: str,
    inputs: tuple[Path, Path],
    output: Path,
    *,
    model: str | None,
    options: Mapping[str, object],
) -> None:
    """Make a video of a portrait and a speech by a service, and save it."""
    from sayso.client import ServiceClient

    begun = time.monotonic()
    with ServiceClient(server, key=_key()) as client:
        portrait = client.upload(inputs[0], "portrait")
        speech = client.upload(inputs[1], "speech")
        order = {"imageUrl": portrait["url"], "audioUrl": speech["url"], "options": dict(options)}
        if model is not None:
            order["model"] = model
        with terminal.heeding_ctrl_c():
            body = client.generate(order, on_body=lambda body: _show(terminal, body))
        if body["status"] == "succeeded":
            client.download(body["output"], output)
        credits_after = client.get("/api/credits")
    terminal.note(Notice(**warning) for warning in (*portrait["warnings"], *speech["warnings"]))
    facts = {**body, "path": str(output), "balance": credits_after["balance"]}
    if body["status"] != "succeeded":
        terminal.error("generation_failed", body["error"] or "The generation was canceled.")
        terminal.exit_code = EXIT_BROKEN
        return
    took_s = time.monotonic() - begun
    terminal.result(
        f"{output}: {speech['duration']:.1f} s of speech by {body['model']} in {took_s:.1f} s\n"
        + _way_of_the_credits(body, credits_after),
        facts,
    )


def _show(terminal: Command, body: Mapping[str, Any]) -> None:
    progress = body["progress"]
    terminal.progress(progress["stage"] or body["status"], progress["percent"])


def _way_of_the_credits(body: Mapping[str, Any], credits_after: Mapping[str, Any]) -> str:
    hold = body["credits"]
    if hold is None:
        return f"free, balance ${credits_after['balance']}"
    return (
        f"held ${body['cost']['amount']} -> {hold['state']} ${hold['amount']}, "
        f"balance ${credits_after['balance']}"
    )


def _quote_at(server: str, speech: Path, model: str | None) -> dict[str, Any]:
    from sayso.client import ServiceClient

    with ServiceClient(server, key=_key()) as client:
        upload = client.upload(speech, "speech")
        order = {"audioUrl": upload["url"]} | ({} if model is None else {"model": model})
        return client.post("/api/quote", order)


def _quote_here(speech: Path, model: str | None) -> dict[str, Any]:
    from sayso.credits.rules import Micros, billed_seconds, decimal_text, price
    from sayso.media.audio import read_speech
    from sayso.wiring import catalogue_of

    settings = _settings(None)
    providers = ["replicate"] if settings.replicate_api_token else []
    chosen = catalogue_of(settings, providers=providers).choose(model)
    duration_s = read_speech(speech).duration_s
    seconds = billed_seconds(duration_s)
    amount = price(seconds, Micros(chosen.rate_micros))
    return {
        "model": chosen.name,
        "duration": round(duration_s, 3),
        "cost": {
            "amount": decimal_text(amount),
            "amount_micros": amount,
            "seconds": seconds,
            "rate": decimal_text(chosen.rate_micros),
        },
    }


async def _statement(settings: Settings) -> tuple[str, dict[str, Any]]:
    from sayso.clock import iso
    from sayso.credits.rules import decimal_text, dollars

    async with _ledger(settings) as ledger:
        statement = await ledger.statement(await ledger.open_local_account(), limit=20)
    balance = statement.balance
    parts = {"balance": balance.total, "held": balance.held, "available": balance.available}
    lines = [", ".join(f"{name} {dollars(amount)}" for name, amount in parts.items())]
    lines += [
        f"{iso(entry.created_at)[:19]}Z  {dollars(entry.amount):>12}  {_what_for(entry)}"
        for entry in statement.entries
    ]
    facts = {
        "balance": decimal_text(balance.total),
        "held": decimal_text(balance.held),
        "available": decimal_text(balance.available),
        "entries": [asdict(entry) for entry in statement.entries],
        "open_holds": [asdict(hold) for hold in statement.open_holds],
    }
    return "\n".join(lines), facts


def _what_for(entry: Entry) -> str:
    """Return what a line of the statement is about: its reason, or what was paid with it."""
    return entry.reason or " ".join(filter(None, (entry.kind, entry.generation_id)))


@asynccontextmanager
async def _ledger(settings: Settings) -> AsyncIterator[Credits]:
    """Open the ledger of an installation."""
    from sayso.clock import SystemClock
    from sayso.credits.service import Credits
    from sayso.ids import Ids

    clock = SystemClock()
    async with opened_database(settings) as db:
        yield Credits(db, clock=clock, ids=Ids(clock.now))


def _settings(data: Path | None) -> Settings:
    from sayso.settings import read_settings

    return read_settings(data=data)


def _note_a_new_one(terminal: Command, settings: Settings) -> None:
    """Say that there is no database yet: it may be that `--data` names the wrong folder."""
    if not has_database(settings):
        terminal.say(f"note: there was no database in {settings.data}; a new one begins.")


def _key() -> str | None:
    key = _settings(None).api_key
    return None if key is None else key.get_secret_value()


def _long_running(data: Path | None) -> Settings:
    from sayso.logs import set_up_logs

    settings = _settings(data)
    require_data_folder(settings.data)
    set_up_logs(settings)
    return settings


def _demo_settings(folder: Path) -> Settings:
    """Return settings that leave nothing behind, whatever the environment says."""
    from sayso.settings import Settings

    return Settings(
        data=folder,
        database_url=None,
        storage=None,
        api_key=None,
        public_url=None,
        render_children=1,
        log_level="warning",
    )
