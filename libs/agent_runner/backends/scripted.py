"""The backend of the built-in scripted agent: brings the program into the sandbox and reads its lines."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

from pydantic import ValidationError

from agent_runner.agent_events import (
    AgentEvent,
    Done,
    ErrorSeen,
    Question,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UsageSeen,
)
from agent_runner.backends.shape import AgentCommand, AgentVerdict, Backend, Exit, Reader
from agent_runner.launch import LaunchSpec

_HOME: Final = "/opt/agents"
_START: Final = f"import sys; sys.path.insert(0, {_HOME!r}); from scripted_agent.__main__ import main; sys.exit(main())"

_Line = Mapping[str, Any]
_MEANING: Final[Mapping[str, Callable[[_Line], AgentEvent]]] = {
    "say": lambda line: Text(text=line["text"]),
    "think": lambda line: Thinking(text=line["text"]),
    "tool": lambda line: ToolCall(call=line["call"], tool=line["tool"], input=line.get("input", {})),
    "tool-result": lambda line: ToolResult(
        call=line["call"], ok=line["ok"], output=line.get("output", ""), truncated=line.get("cut", False)
    ),
    "usage": lambda line: UsageSeen(input_tokens=line.get("input", 0), output_tokens=line.get("output", 0)),
    "ask": lambda line: Question(question=line["question"], text=line["text"]),
    "error": lambda line: ErrorSeen(text=line["text"], family=line.get("family")),
    "done": lambda line: Done(ok=line["ok"], summary=line.get("summary", "")),
}


@cache
def _program() -> Mapping[str, bytes]:
    package = files("agent_runner.scripted_agent")
    return {
        f"{_HOME}/scripted_agent/{each.name}": each.read_bytes()
        for each in package.iterdir()
        if each.name.endswith(".py")
    }


class ScriptedReader:
    """Reads one run of the scripted agent."""

    def __init__(self) -> None:
        self._done: Done | None = None
        self._error: ErrorSeen | None = None

    def events(self, line: bytes) -> Sequence[AgentEvent] | None:
        try:
            found: Any = json.loads(line)
            event = _MEANING[cast("dict[str, Any]", found)["scripted"]](found)
        except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
            return None
        if isinstance(event, Done):
            self._done = event
        elif isinstance(event, ErrorSeen):
            self._error = event
        return (event,)

    def verdict(self, ended: Exit) -> AgentVerdict:
        summary = self._done.summary if self._done else ""
        if self._done is not None and self._done.ok and ended.code == 0:
            return AgentVerdict(True, None, summary, summary)
        family = self._error.family if self._error else None
        return AgentVerdict(False, family or "unknown", self._why(ended), summary)

    def _why(self, ended: Exit) -> str:
        if self._done is not None and not self._done.ok:
            return self._done.summary
        if self._error is not None:
            return self._error.text
        if ended.signal is not None:
            return f"The agent was killed by signal {ended.signal}."
        return f"The agent ended with exit code {ended.code} before it said that it was done."


class Scripted:
    """The scripted agent as a backend."""

    @property
    def name(self) -> str:
        return "scripted"

    def command(self, spec: LaunchSpec) -> AgentCommand:
        return AgentCommand(
            argv=("python3", "-I", "-B", "-c", _START),
            environment={"DISPATCH_TEST_COMMAND": spec.test_command} if spec.test_command else {},
            files=_program(),
        )

    def reader(self) -> Reader:
        return ScriptedReader()


SCRIPTED: Final[Backend] = Scripted()
