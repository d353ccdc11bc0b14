"""Commands about runs: start one, look at it, ask why, stop it, answer its approval."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.cli import follow, inspecting, output, repository
from services.cli.client import Client
from services.cli.failures import Exit, Failure
from services.cli.options import Json, RunArg, client

_DECISION_SECONDS: Final = 15.0
_ANSWER_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.1
Comment = Annotated[str, typer.Option(help="Kept with the decision.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("run")(run)
    app.command("inspect")(inspect)
    app.command("logs")(logs)
    app.command("why")(why)
    app.command("cancel")(cancel)
    app.command("approve")(approve)
    app.command("deny")(deny)


def run(
    ctx: typer.Context,
    title: Annotated[str, typer.Argument(help="What is to be done, in a line.", show_default=False)],
    repo: Annotated[str, typer.Option("--repo", help="A Repository's name, a path, or a URL.", show_default=False)],
    role: Annotated[str, typer.Option(help="Which kind of agent.", show_default=False)],
    agent: Annotated[str | None, typer.Option(help="A certain agent of that role.")] = None,
    priority: Annotated[str, typer.Option(help="urgent, high, medium, low or none.")] = "none",
    label: Annotated[list[str] | None, typer.Option(help="A label; may be given several times.")] = None,
    body: Annotated[str, typer.Option(help="The whole task, in Markdown.")] = "",
    file: Annotated[
        str | None, typer.Option("--file", "-F", help="Read the body from a file; - for standard input.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key never makes a second task.")
    ] = None,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Show everything until the run ends.")] = False,
    as_json: Json = False,
) -> int:
    """Give an agent a task."""
    if body and file:
        raise Failure(Exit.USAGE, "Both --body and --file are given.", "Give one of them.")
    console = client(ctx)
    task = {
        "title": title,
        "body": _read(file) if file else body,
        "repository": repository.name_of(console, repo),
        "role": role,
        "agent": agent,
        "priority": priority,
        "labels": label or [],
        "idempotency_key": key,
    }
    taken = console.post("/v1/tasks", {name: value for name, value in task.items() if value is not None})
    delivery = _decided(console, taken["delivery"])
    return _started(console, delivery, following=following, as_json=as_json)


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(
            Exit.USAGE, f"{file} cannot be read: {error}.", "Give a text file, or - for standard input."
        ) from error


def _decided(console: Client, delivery_id: str) -> dict[str, Any]:
    """Wait a little for what becomes of the task."""
    deadline = time.monotonic() + _DECISION_SECONDS
    while True:
        delivery = console.get(f"/v1/deliveries/{delivery_id}")
        if delivery["state"] == "decided" or time.monotonic() > deadline:
            return delivery
        time.sleep(_PAUSE_SECONDS)


def _started(console: Client, delivery: dict[str, Any], *, following: bool, as_json: bool) -> int:
    run_ids: list[str] = delivery["runs"]
    if not run_ids:
        if as_json:
            output.data(delivery)
        if delivery["state"] != "decided":
            raise Failure(Exit.UNREACHABLE, "The task is stored and nobody has decided it yet.", "See: dispatch doctor")
        raise Failure(Exit.REFUSED, f"No run was made: {delivery['sentence']}", "See: dispatch get deliveries")
    if following:
        if not as_json:
            output.note(f"Run {run_ids[0][:8]}. Ctrl-C stops watching; the run goes on.")
        return _follow(console, run_ids[0], as_json=as_json)
    if as_json:
        output.data(delivery)
    else:
        output.say(f"Run {run_ids[0][:8]}: {delivery['sentence']}")
        output.note(f"Watch it: dispatch logs -f {run_ids[0][:8]}")
    return Exit.OK


def _follow(console: Client, run_id: str, *, as_json: bool) -> int:
    end = follow.run(console, run_id, show=follow.show_json if as_json else follow.show)
    if as_json:
        output.stream_line({"event": "end", "id": "", "data": end})
        return follow.outcome(end)
    detail = console.get(f"/v1/runs/{run_id}")
    if detail["pull"]:
        output.say("Pull request: ", detail["pull"]["url"] or detail["pull"]["branch"])
    return follow.outcome(end)


def inspect(ctx: typer.Context, run: RunArg, as_json: Json = False) -> None:
    """Show everything that is known of a run."""
    detail = client(ctx).get(f"/v1/runs/{run}")
    output.data(detail) if as_json else inspecting.show(detail)


def logs(
    ctx: typer.Context,
    run: RunArg,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    steps: Annotated[bool, typer.Option("--steps", help="Show the run's steps among the agent's words.")] = False,
    as_json: Json = False,
) -> int:
    """Show what a run's agent said and did."""
    shown = follow.show_json if as_json else follow.show if steps else follow.show_log
    end = follow.run(client(ctx), run, show=shown, follow=following)
    if as_json:
        output.stream_line({"event": "end", "id": "", "data": end})
    return follow.outcome(end) if following else Exit.OK


def why(ctx: typer.Context, run: RunArg, as_json: Json = False) -> None:
    """Say why a run is where it is, what moves it on, and who must act."""
    answer = client(ctx).get(f"/v1/runs/{run}/why")
    output.data(answer) if as_json else inspecting.show_why(answer)


def cancel(
    ctx: typer.Context,
    run: RunArg,
    comment: Comment = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has ended.")] = False,
    as_json: Json = False,
) -> int:
    """Stop a run."""
    console = client(ctx)
    answer = console.post(f"/v1/runs/{run}/cancel", {"comment": comment})
    if not wait:
        output.data(answer) if as_json else output.say(answer["sentence"])
        return Exit.OK
    end = follow.run(console, answer["run"], show=lambda _: None)
    output.data(end) if as_json else output.say(output.state(end["state"]), f": {end['sentence']}")
    return Exit.OK if end["state"] == "cancelled" else Exit.RUN_FAILED


def approve(ctx: typer.Context, run: RunArg, comment: Comment = "", as_json: Json = False) -> int:
    """Say yes to what a run waits for."""
    return _answer(client(ctx), run, "approve", comment, as_json=as_json)


def deny(ctx: typer.Context, run: RunArg, comment: Comment = "", as_json: Json = False) -> int:
    """Say no to what a run waits for."""
    return _answer(client(ctx), run, "deny", comment, as_json=as_json)


def _answer(console: Client, run: str, verb: str, comment: str, *, as_json: bool) -> int:
    """Give the answer, and wait a little for policy's word on whether it counts."""
    accepted = console.post(f"/v1/runs/{run}/{verb}", {"comment": comment})
    deadline = time.monotonic() + _ANSWER_SECONDS
    judged = None
    while judged is None and time.monotonic() < deadline:
        approvals = console.get(f"/v1/runs/{accepted['run']}")["approvals"]
        answers = [answer for approval in approvals for answer in approval["answers"]]
        judged = next((answer for answer in answers if answer["id"] == accepted["answer"]), None)
        if judged is None:
            time.sleep(_PAUSE_SECONDS)
    if as_json:
        output.data({**accepted, "judged": judged})
    else:
        output.say(judged["sentence"] if judged else accepted["sentence"])
    return Exit.REFUSED if judged is not None and not judged["counted"] else Exit.OK
