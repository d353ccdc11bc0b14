"""`dispatch up`, `dispatch run-service` and `dispatch migrate`: the commands that start things."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from dispatch_common import service, telemetry
from dispatch_common.db import migrate as migrate_database
from dispatch_common.errors import InvalidInput
from dispatch_common.settings import Settings
from services.cli import stack

_DATA = typer.Option("--data", help="Folder for all state of this machine.", file_okay=False)
_READY = typer.Option("--ready-file", help="Write a JSON document with the addresses here once all are ready.")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("up")(up)
    app.command("run-service")(run_service)
    app.command("migrate")(migrate)


def up(
    data: Annotated[Path | None, _DATA] = None,
    ready_file: Annotated[Path | None, _READY] = None,
    receiver_port: Annotated[int, typer.Option(help="Port of the webhook-receiver; 0: any free one.")] = -1,
    console_port: Annotated[int, typer.Option(help="Port of the console; 0: any free one.")] = -1,
) -> None:
    """Run everything on this machine until Ctrl-C. State is kept; running agents survive and are adopted again."""
    changes: dict[str, Any] = {"data": data.absolute()} if data else {}
    changes |= {"receiver_port": receiver_port} if receiver_port >= 0 else {}
    changes |= {"console_port": console_port} if console_port >= 0 else {}
    settings = Settings(**changes)
    telemetry.setup(settings, "dispatch")
    uvloop.run(_up(settings, ready_file))


def run_service(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(stack.SERVICES)}.")],
    data: Annotated[Path | None, _DATA] = None,
    ready_file: Annotated[Path | None, _READY] = None,
) -> None:
    """Run one service. DISPATCH_NATS_URL and DISPATCH_DATABASE_URL say where the servers are."""
    settings = Settings(data=data.absolute()) if data else Settings()
    for variable, value in (("DISPATCH_NATS_URL", settings.nats_url), ("DISPATCH_DATABASE_URL", settings.database_url)):
        if not value:
            raise InvalidInput(
                "is not set.", field=variable, remedy="One service needs running servers; see: dispatch up."
            )
    stack.module_of(name)
    telemetry.setup(settings, name)
    uvloop.run(_serve(settings, name, ready_file))


def migrate() -> None:
    """Bring the database schema to the newest version."""
    settings = Settings()
    if not settings.database_url:
        raise InvalidInput("is not set.", field="DISPATCH_DATABASE_URL", remedy="Say which database to migrate.")
    asyncio.run(migrate_database(settings.database_url))
    typer.echo("The schema is at its newest version.")


async def _up(settings: Settings, ready_file: Path | None) -> None:
    own = settings.data / stack.READY_FILE
    async with service.stop_signals() as stop, stack.running(settings) as started:
        document = started.document()
        for path in (own, *([ready_file] if ready_file else [])):
            stack.write_ready(path, document)
        typer.echo(_greeting(document))
        try:
            await service.wait_for(stop, started.watch())
        finally:
            own.unlink(missing_ok=True)
            typer.echo("Stopping: finishing what is in hand.", err=True)


async def _serve(settings: Settings, name: str, ready_file: Path | None) -> None:
    async with service.stop_signals() as stop, stack.running(settings, (name,)) as started:
        if ready_file:
            stack.write_ready(ready_file, started.document())
        await service.wait_for(stop, started.watch())


def _greeting(document: dict[str, Any]) -> str:
    lines = ["", "Agent Dispatch is ready.", ""]
    lines += [
        f"  {title:<10}{document[key]}"
        for title, key in (("Console", "console"), ("Receiver", "receiver"), ("Metrics", "ops"), ("Data", "data"))
        if document.get(key)
    ]
    return "\n".join([*lines, "", "  Next: dispatch get agents · dispatch apply -f FILE · Ctrl-C stops.", ""])
