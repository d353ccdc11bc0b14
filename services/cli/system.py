"""Commands about the system itself: is it well, and what happens."""

import dataclasses
from importlib.util import find_spec
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from rich.text import Text

from dispatch_common.settings import Settings
from services.cli import follow, output
from services.cli.failures import Exit
from services.cli.options import Json, client

_THIS_MACHINE: Final = ("127.0.0.1", "localhost", "::1")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("doctor")(doctor)
    app.command("events")(events)


def doctor(ctx: typer.Context, as_json: Json = False) -> int:
    """Say what is wrong: what is stuck, put aside, lagging or away, and which isolation is real here."""
    console = client(ctx)
    report = console.get("/v1/doctor")
    if not report["isolation"] and urlsplit(console.place.url).hostname in _THIS_MACHINE:
        report["isolation"] = isolation(Settings())
    output.data(report) if as_json else _show(report)
    return Exit.OK if report["healthy"] else Exit.RUN_FAILED


def isolation(settings: Settings) -> list[dict[str, Any]]:
    """Return which isolation and limits are real on this machine, as far as its executor's code is installed."""
    if find_spec("services.executor.launchers.report") is None:
        return []
    from agent_runner.protocol import SandboxKind
    from services.executor.launchers.report import limits_report

    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    return [dataclasses.asdict(limit) for limit in limits_report(settings.data, SandboxKind(settings.sandbox))]


def _show(report: dict[str, Any]) -> None:
    waiting = sum(each["waiting"] for each in report["outbox"])
    live = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(report["runs"].items()))
    output.facts(
        (
            ("database", report["database"]),
            ("broker", report["broker"]),
            ("streams", ", ".join(f"{each['name']} {each['messages']} messages" for each in report["streams"])),
            ("facts that wait", str(waiting)),
            ("live runs", live or "none"),
        )
    )
    for limit in report["isolation"]:
        mark = Text("✓ ", style="green") if limit["real"] else Text("✗ ", style="red")
        output.say(mark, f"{limit['name']}: ", output.line(limit["sentence"]))
        if limit["remedy"]:
            output.say("  ", output.line(limit["remedy"]), style="dim")
    for finding in report["findings"]:
        output.say(output.state(finding["level"]), ": ", output.line(finding["sentence"]))
        if finding["remedy"]:
            output.say("  ", output.line(finding["remedy"]), style="dim")
    for letter in report["dead_letters"][:10]:
        output.say(f"  {letter['service']} {letter['subject']} ", output.line(letter["reason"]), style="dim")
    output.say("All is well." if report["healthy"] else "Something needs a person.")


def events(
    ctx: typer.Context,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now.")] = False,
    as_json: Json = False,
) -> None:
    """Show facts: what the broker still has, or with -f what happens from now on."""
    params = {"from": "now", "follow": "true"} if following else {"from": "start", "follow": "false"}
    for event in follow.events(client(ctx), "/v1/events", **params):
        if as_json:
            follow.show_json(event)
        elif event.name == "fact":
            fact = event.data
            about = str(fact.get("subject", ""))[:8]
            output.say(f"{output.at(fact['time'])}  {about:<8}  ", fact["type"], f"  {_told(fact['data'])}")
        elif event.name == "reset":
            output.note(f"History was lost: {event.data['reason']}.")


def _told(data: dict[str, Any]) -> str:
    return output.line(
        str(data.get("sentence") or data.get("outcome") or data.get("state") or data.get("verdict") or "")
    )
