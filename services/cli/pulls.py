"""`dispatch pulls`: the pull requests of local repositories."""

from typing import Annotated, Any, Final

import typer
from rich.text import Text

from services.cli import output
from services.cli.failures import Exit, Failure
from services.cli.get import show_pulls
from services.cli.options import Json, client

group: Final = typer.Typer(help="List, view and merge pull requests of local repositories.", no_args_is_help=True)
PullArg = Annotated[
    str, typer.Argument(help="REPOSITORY/NUMBER, as the list shows it.", metavar="PULL", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="pulls")


@group.command("list")
def list_pulls(
    ctx: typer.Context,
    repo: Annotated[str | None, typer.Option(help="Only pulls of this repository.")] = None,
    state: Annotated[str | None, typer.Option(help="open, merged or closed.")] = None,
    as_json: Json = False,
) -> None:
    """List pull requests, newest first."""
    show_pulls(client(ctx), repo, state, as_json=as_json)


def path_of(pull: str) -> str:
    """Return the route of a pull."""
    repository, slash, number = pull.rpartition("/")
    if not slash or not number.isdigit() or not repository:
        raise Failure(
            Exit.USAGE, f"'{pull}' is not a pull.", "Write REPOSITORY/NUMBER, as 'dispatch pulls list' shows."
        )
    return f"/v1/pulls/{repository}/{number}"


@group.command("view")
def view(ctx: typer.Context, pull: PullArg, as_json: Json = False) -> None:
    """Show a pull request with its diff."""
    found = client(ctx).get(path_of(pull))
    output.data(found) if as_json else _show(found)


def _show(pull: dict[str, Any]) -> None:
    output.say(Text(f"{pull['id']}  ", style="bold"), output.line(pull["title"]), "  ", output.state(pull["state"]))
    output.say(f"{pull['head']} into {pull['base']}, by {pull['created_by']}", style="dim")
    output.say("")
    output.say(pull["body"].rstrip())
    output.say("")
    for file in pull["files"]:
        count = f"+{file['added']} -{file['removed']}" if file["added"] is not None else "binary"
        output.say(f"{count:>12}  {output.line(file['path'])}")
    output.say("")
    for line in pull["diff"].splitlines():
        output.say(line, style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1], ""))
    if pull["truncated"]:
        output.note("The diff is longer; see it with git.")


@group.command("merge")
def merge(ctx: typer.Context, pull: PullArg, as_json: Json = False) -> None:
    """Merge a pull request with a merge commit."""
    merged = client(ctx).post(f"{path_of(pull)}/merge")
    output.data(merged) if as_json else output.say(f"{merged['id']} is merged: {merged['merge_commit'][:12]}")
