"""`dispatch get`: lists of everything."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from services.cli import output
from services.cli.client import Client
from services.cli.options import Json, Limit, client

group: Final = typer.Typer(
    help="List tasks, runs, agents, deliveries, approvals, pulls or resources.", no_args_is_help=True
)
Row = Sequence[str | Text]
_LARGEST_PAGE: Final = 500


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="get")


def listed(console: Client, path: str, limit: int, **params: Any) -> dict[str, Any]:
    """Return up to ``limit`` items, page by page."""
    items: list[Any] = []
    cursor: str | None = None
    while True:
        size = min(limit - len(items), _LARGEST_PAGE)
        page = console.get(path, limit=size, cursor=cursor, **params)
        items += page["items"]
        cursor = page["next"]
        if cursor is None or len(items) >= limit:
            return {"items": items, "next": cursor}


def _print(page: dict[str, Any], as_json: bool, columns: Sequence[str], row: Callable[[Any], Row], empty: str) -> None:
    if as_json:
        output.data(page)
        return
    output.table(columns, [row(item) for item in page["items"]], empty=empty)
    if page.get("next"):
        output.note(f"There are more than {len(page['items'])}; see --limit.")


@group.command("runs")
def runs(
    ctx: typer.Context,
    state: Annotated[list[str] | None, typer.Option(help="Only these states; may be given several times.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Only runs that have not ended.")] = False,
    agent: Annotated[str | None, typer.Option(help="Only runs of this agent.")] = None,
    role: Annotated[str | None, typer.Option(help="Only runs of this role.")] = None,
    task: Annotated[str | None, typer.Option(help="Only runs of this task.")] = None,
    repo: Annotated[str | None, typer.Option(help="Only runs in this repository.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    filters = {
        "state": state or None,
        "live": live or None,
        "agent": agent,
        "role": role,
        "task": task,
        "repository": repo,
    }
    page = listed(client(ctx), "/v1/runs", limit, **filters)
    _print(
        page,
        as_json,
        ("run", "state", "age", "agent", "task", "title", "because"),
        lambda run: (
            run["short"],
            output.state(run["state"]),
            output.age(run["created_at"]),
            run["agent"] or run["role"],
            run["task"]["key"],
            _short(run["task"]["title"]),
            run["sentence"],
        ),
        "No runs.",
    )


def _short(text: str) -> str:
    text = output.line(text)
    return text if len(text) <= 40 else f"{text[:39]}…"


@group.command("tasks")
def tasks(
    ctx: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only tasks of this source.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List tasks, newest first."""
    _print(
        listed(client(ctx), "/v1/tasks", limit, source=source),
        as_json,
        ("task", "source", "priority", "version", "runs", "live", "title"),
        lambda task: (
            task["key"],
            task["source"],
            task["priority"],
            str(task["version"]),
            str(task["runs"]),
            (task["live_run"] or "")[:8],
            task["title"],
        ),
        "No tasks.",
    )


@group.command("agents")
def agents(ctx: typer.Context, as_json: Json = False) -> None:
    """List agents with their slots and what they are busy with."""
    _print(
        client(ctx).get("/v1/agents"),
        as_json,
        ("agent", "role", "status", "slots", "backend", "busy with"),
        lambda agent: (
            agent["name"],
            agent["role"],
            agent["status"],
            f"{agent['in_use']}/{agent['slots']}",
            agent["backend"],
            ", ".join(f"{run['short']} {run['key']}" for run in agent["runs"]),
        ),
        "No agents. Apply some: dispatch apply -f FILE",
    )


@group.command("deliveries")
def deliveries(
    ctx: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only deliveries of this source.")] = None,
    outcome: Annotated[str | None, typer.Option(help="created, coalesced, cancelled, ignored or refused.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List what came in and what became of it, refused requests too."""
    _print(
        listed(client(ctx), "/v1/deliveries", limit, source=source, outcome=outcome),
        as_json,
        ("delivery", "age", "source", "event", "outcome", "why"),
        lambda each: (
            each["id"][:8],
            output.age(each["received_at"]),
            each["source"],
            each["event"],
            output.state(each["outcome"] or each["state"]),
            each["sentence"],
        ),
        "No deliveries.",
    )


@group.command("approvals")
def approvals(
    ctx: typer.Context,
    state: Annotated[str, typer.Option(help="pending, granted, refused, expired, void or all.")] = "pending",
    as_json: Json = False,
) -> None:
    """List approvals that wait."""
    _print(
        client(ctx).get("/v1/approvals", state=None if state == "all" else state),
        as_json,
        ("run", "state", "stage", "asked by", "expires", "because"),
        lambda each: (
            each["run"][:8],
            output.state(each["state"]),
            each["stage"],
            each["requested_by"],
            each["expires_at"][:16].replace("T", " "),
            " ".join(reason["sentence"] for reason in each["reasons"]),
        ),
        "Nothing waits for approval.",
    )


@group.command("pulls")
def pulls(
    ctx: typer.Context,
    repo: Annotated[str | None, typer.Option(help="Only pulls of this repository.")] = None,
    state: Annotated[str | None, typer.Option(help="open, merged or closed.")] = None,
    as_json: Json = False,
) -> None:
    """List pull requests of local repositories."""
    show_pulls(client(ctx), repo, state, as_json=as_json)


def show_pulls(console: Client, repo: str | None, state: str | None, *, as_json: bool) -> None:
    """Print the list of pulls."""
    _print(
        console.get("/v1/pulls", repository=repo, state=state),
        as_json,
        ("pull", "state", "age", "branch", "title"),
        lambda pull: (
            pull["id"],
            output.state(pull["state"]),
            output.age(pull["created_at"]),
            pull["head"],
            pull["title"],
        ),
        "No pull requests.",
    )


@group.command("resources")
def resources(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    as_json: Json = False,
) -> None:
    """List resources."""
    _print(
        client(ctx).get("/v1/resources", kind=kind),
        as_json,
        ("kind", "name", "generation", "age", "by"),
        lambda each: (
            each["kind"],
            each["name"],
            str(each["generation"]),
            output.age(each["applied_at"]),
            each["applied_by"],
        ),
        "No resources. Apply some: dispatch apply -f FILE",
    )
