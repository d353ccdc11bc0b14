"""Follows a run or all facts: prints what comes, takes up again where it was when the connection breaks."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson
from httpx_sse import SSEError
from rich.text import Text

from services.cli import output
from services.cli.client import Client
from services.cli.failures import Exit, Failure

#: How long a console may be away before following gives up.
_PATIENCE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.5
_LONGEST_BLOCK: Final = 40
_MARKS: Final = {"thinking": "…", "text": "│", "question": "?", "error": "!", "sandboxViolation": "!", "done": "■"}


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream, decoded."""

    name: str
    id: str
    data: Any


def events(client: Client, path: str, *, last_id: str | None = None, **params: Any) -> Generator[Event]:
    """Yield events until ``end``. A broken connection is taken up where it was; a refusal is raised."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    following = params.get("follow", "true") != "false"
    while True:
        try:
            with client.events(path, last_id=last_id, **params) as source:
                for event in source.iter_sse():
                    deadline = time.monotonic() + _PATIENCE_SECONDS
                    last_id = event.id or last_id
                    if event.data:
                        yield Event(event.event, event.id, orjson.loads(event.data))
                    if event.event == "end":
                        return
        except Failure as error:
            if error.code is not Exit.UNREACHABLE or not following or time.monotonic() > deadline:
                raise
        except (httpx.TransportError, SSEError) as error:
            if time.monotonic() > deadline:
                raise Failure(Exit.UNREACHABLE, "The stream broke and did not come back.", "Is it running?") from error
        time.sleep(_PAUSE_SECONDS)


def run(client: Client, run_id: str, *, show: Callable[[Event], None], follow: bool = True) -> dict[str, Any]:
    """Show a run's events and return what its ``end`` says."""
    for event in events(client, f"/v1/runs/{run_id}/events", follow="true" if follow else "false"):
        if event.name == "end":
            return event.data
        show(event)
    return {}


def outcome(end: dict[str, Any]) -> Exit:
    """Return the exit code that a run's end means."""
    match end.get("state"):
        case "completed":
            return Exit.OK
        case "denied":
            return Exit.REFUSED
        case _:
            return Exit.RUN_FAILED


def show_json(event: Event) -> None:
    """Print an event for programs."""
    output.stream_line({"event": event.name, "id": event.id, "data": event.data})


def show(event: Event) -> None:
    """Print an event for people."""
    match event.name:
        case "step":
            show_step(event.data)
        case "agent":
            show_agent(event.data)
        case "reset":
            output.note(f"Some of what the agent said was lost: {event.data['reason']}.")
        case _:
            pass


def show_log(event: Event) -> None:
    """Print only what the agent said and did."""
    if event.name != "step":
        show(event)


def show_step(step: dict[str, Any]) -> None:
    """Print one step of a run."""
    state = output.state(step["to_state"])
    output.say(Text(f"{output.at(step['at'])}  ", style="dim"), _padded(state, 18), output.line(step["sentence"]))
    if step.get("next_action"):
        output.say(" " * 28, f"→ {output.line(step['next_action'])}", style="dim")


def _padded(text: Text, width: int) -> Text:
    text.append(" " * max(1, width - len(text.plain)))
    return text


def show_agent(line: dict[str, Any]) -> None:
    """Print one event of the agent."""
    event: dict[str, Any] = line["event"]
    when = Text(f"{output.at(line['at'])}  ", style="dim")
    match event.get("kind"):
        case "toolCall":
            output.say(when, Text("▸ ", style="cyan"), str(event.get("tool", "")), " ", _input(event.get("input")))
        case "toolResult":
            good = bool(event.get("ok"))
            output.say(when, Text("✓" if good else "✗", style="green" if good else "red"), _block(event.get("output")))
        case "usage":
            output.say(
                when, f"· {event.get('input_tokens', 0)} tokens in, {event.get('output_tokens', 0)} out", style="dim"
            )
        case kind:
            words = str(event.get("text") or event.get("summary") or "")
            style = "red" if kind in ("error", "sandboxViolation") else "dim" if kind == "thinking" else ""
            output.say(when, Text(f"{_MARKS.get(str(kind), '·')} "), Text(output.clean(words), style=style))


def _input(value: Any) -> str:
    text = orjson.dumps(value).decode() if value else ""
    return text if len(text) <= 160 else f"{text[:157]}..."


def _block(text: Any) -> str:
    lines = str(text or "").rstrip().splitlines()
    if len(lines) > _LONGEST_BLOCK:
        lines = [*lines[:_LONGEST_BLOCK], f"… {len(lines) - _LONGEST_BLOCK} more lines"]
    if len(lines) <= 1:
        return f" {lines[0]}" if lines else ""
    return "".join(f"\n            {each}" for each in lines)
