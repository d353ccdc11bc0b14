"""Options that several commands share."""

from typing import Annotated

import typer

from services.cli.client import Client

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunArg = Annotated[
    str, typer.Argument(help="The run's id, or the beginning of one.", metavar="RUN", show_default=False)
]
Limit = Annotated[int, typer.Option(help="How many, at most.", min=1, max=500)]


def client(ctx: typer.Context) -> Client:
    """Return the client of the console that this command speaks to."""
    return ctx.obj()
