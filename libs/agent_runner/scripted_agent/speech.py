"""What the scripted agent says on stdout: one JSON object per line, in its own format."""

import json
import sys
from typing import Any

_LONGEST = 20_000


class Speech:
    """Numbers the tool calls and writes the lines."""

    def __init__(self) -> None:
        self._calls = 0

    def line(self, what: str, **fields: Any) -> None:
        sys.stdout.write(json.dumps({"scripted": what, **fields}) + "\n")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        self.line("say", text=text)

    def calls(self, tool: str, **arguments: Any) -> str:
        """Announce a tool call; return the id that its answer repeats."""
        self._calls += 1
        call = f"call-{self._calls}"
        self.line("tool", call=call, tool=tool, input=arguments)
        return call

    def answers(self, call: str, ok: bool, output: str = "") -> None:
        self.line("tool-result", call=call, ok=ok, output=output[-_LONGEST:], cut=len(output) > _LONGEST)
