"""What the demo prints: for people on a terminal, or one JSON object per line for programs. Decides nothing."""

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

import orjson
from rich.console import Console
from rich.text import Text

_PLAIN_WIDTH: Final = 110
_TIME: Final = 9
_LABEL: Final = 18
_MARGIN: Final = _TIME + 2 + _LABEL + 1
_OUTPUT_LINES: Final = 12
_STYLES: Final = {
    "title": "bold", "note": "", "scene": "cyan", "step": "bold green", "agent": "magenta", "output": "dim",
    "result": "bold", "failure": "bold red",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened. ``seconds`` counts from the moment the label was put on."""

    kind: str  #: title, intro, note, scene, step, agent, output, result, diff, command, failure
    text: str
    label: str = ""
    seconds: float | None = None
    then: str = ""  #: what happens next
    facts: dict[str, Any] = field(default_factory=dict[str, Any])  #: for programs


class Show(Protocol):
    """Where lines go."""

    def tell(self, line: Line) -> None: ...


class JsonLines:
    """One JSON object per line."""

    def tell(self, line: Line) -> None:
        fields = {name: value for name, value in asdict(line).items() if value not in ("", None, {})}
        sys.stdout.write(orjson.dumps(fields).decode() + "\n")
        sys.stdout.flush()


class Terminal:
    """Plain lines in three columns; colour where the terminal has it and NO_COLOR does not forbid it."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)

    def tell(self, line: Line) -> None:
        match line.kind:
            case "title":
                self._console.print()
                self._print(Text(printable(line.text), style="bold"))
            case "diff":
                for each in line.text.splitlines():
                    self._print(Text("  " + printable(each), style=_diff_style(each)))
            case "command" | "intro":
                self._print(Text("  " + printable(line.text)))
            case "output":
                for each in _shortened(line.text):
                    self._columns(line, "│   " + printable(each), style="dim")
            case _:
                self._columns(line, ("│ " if line.kind == "agent" else "") + printable(line.text))
                if line.then:
                    self._columns(Line("note", ""), "→ " + printable(line.then), style="dim")

    def _columns(self, line: Line, text: str, *, style: str = "") -> None:
        seconds = "" if line.seconds is None else f"{line.seconds:.3f} s"
        label = printable(line.label)
        indent = text[: len(text) - len(text.lstrip("│ "))]
        room = max(30, self._console.width - _MARGIN)
        lines = textwrap.wrap(text, room, subsequent_indent=indent, break_long_words=True) or [""]
        head = Text(f"{seconds:>{_TIME}}  ", style="dim")
        head.append(f"{label:<{_LABEL}} ", style=_STYLES.get(line.kind, ""))
        for each in lines:
            self._print(head + Text(each, style=style))
            head = Text(" " * _MARGIN)

    def _print(self, text: Text) -> None:
        text.rstrip()
        self._console.print(text, soft_wrap=True)


def printable(text: str) -> str:
    """Return a text that cannot move the cursor or change colours, whoever wrote it."""
    return "".join(each if each.isprintable() else "\t" if each == "\t" else " " for each in text)


def _shortened(text: str) -> Iterator[str]:
    lines = text.rstrip().splitlines()
    yield from lines[:_OUTPUT_LINES]
    if len(lines) > _OUTPUT_LINES:
        yield f"… {len(lines) - _OUTPUT_LINES} more lines"


def _diff_style(line: str) -> str:
    if line.startswith(("+++", "---", "diff ", "index ")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
