"""What commands print: tables for people, JSON for programs. Text from outside cannot steer the terminal."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dispatch_common import clock
from services.cli.failures import Failure

#: Characters that move the cursor, ring, or turn the direction of writing.
_TURNS: Final = {
    "\u202a",
    "\u202b",
    "\u202c",
    "\u202d",
    "\u202e",
    "\u2066",
    "\u2067",
    "\u2068",
    "\u2069",
    "\u200e",
    "\u200f",
}
STATE_STYLES: Final = {
    "completed": "green",
    "merged": "green",
    "created": "green",
    "done": "green",
    "failed": "red",
    "denied": "red",
    "refused": "red",
    "problem": "red",
    "running": "blue",
    "preparing": "blue",
    "assigned": "blue",
    "verifying": "blue",
    "publishing": "blue",
    "open": "blue",
    "awaiting_approval": "yellow",
    "awaiting_answer": "yellow",
    "parked": "yellow",
    "cancelling": "yellow",
    "pending": "yellow",
    "warning": "yellow",
}
_WIDE: Final = 180


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # Not to a terminal: nothing is cut off at eighty columns.
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _WIDE)


def clean(text: str) -> str:
    """Return text without anything that a terminal would obey."""
    return "".join(
        char if char in "\n\t" or not (unicodedata.category(char) == "Cc" or char in _TURNS) else "\ufffd"
        for char in text
    )


def line(text: str) -> str:
    """Return text as one clean line."""
    return " ".join(clean(text).split())


def state(value: str) -> Text:
    """Return a state in its colour."""
    return Text(line(value).replace("_", " "), style=STATE_STYLES.get(value, ""))


def say(*parts: str | Text, style: str = "", err: bool = False) -> None:
    """Print one line for people."""
    whole = Text(style=style)
    for part in parts:
        whole.append_text(part) if isinstance(part, Text) else whole.append(clean(part))
    _console(stderr=err).print(whole, soft_wrap=True)


def note(text: str) -> None:
    """Print an aside, where it disturbs no program that reads the output."""
    say(text, style="dim", err=True)


def data(value: Any) -> None:
    """Print JSON for programs: one document, or one line each for ``stream``."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def stream_line(value: Any) -> None:
    """Print one JSON line and let it through at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, empty: str) -> None:
    """Print a table, or ``empty`` when there are no rows. The last column takes what room there is."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        last = number == len(columns) - 1
        made.add_column(column.upper(), no_wrap=True, overflow="ellipsis", ratio=1 if last else None)
    count = 0
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(line(cell)) for cell in row))
        count += 1
    if count:
        _console().print(made)
    else:
        note(empty)


def facts(pairs: Iterable[tuple[str, str | Text]]) -> None:
    """Print names and values below each other; empty values are left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(Text(f"{name:<{width}}  ", style="dim"), value if isinstance(value, Text) else clean(value))


def age(moment: str | None, now: datetime | None = None) -> str:
    """Return how long ago a moment was: 40s, 5m, 3h, 2d."""
    if not moment:
        return ""
    seconds = max(0.0, ((now or clock.now()) - datetime.fromisoformat(moment)).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:.0f}s"


def at(moment: str) -> str:
    """Return a moment's local time of day."""
    return datetime.fromisoformat(moment).astimezone().strftime("%H:%M:%S")


def failure(error: Failure, *, as_json: bool) -> None:
    """Print what went wrong to standard error: in the API's own shape for programs."""
    if as_json:
        body = {
            "code": error.error or error.code.name.lower(),
            "message": error.message,
            "field": error.field,
            "remedy": error.remedy,
            "problems": error.problems,
        }
        sys.stderr.write(json.dumps({"error": body}) + "\n")
        return
    say(Text("Error: ", style="red bold"), error.message, err=True)
    for problem in error.problems if len(error.problems) > 1 or any(p.get("file") for p in error.problems) else []:
        say("  ", _where(problem), str(problem.get("message", "")), err=True)
        if problem.get("remedy"):
            say("    ", str(problem["remedy"]), style="dim", err=True)
    if error.remedy:
        say("  ", error.remedy, style="dim", err=True)


def _where(problem: dict[str, Any]) -> Text:
    parts = [str(problem[key]) for key in ("file", "line", "column") if problem.get(key)]
    place = ":".join(parts)
    field = f"{problem['field']}: " if problem.get("field") else ""
    return Text(clean(f"{place}: {field}" if place else field), style="bold")
