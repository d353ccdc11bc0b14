"""Notices what the agent does while its events pass: commands, tests, tokens, violations. PURE bookkeeping."""

from typing import Final

from agent_runner.agent_events import AgentEvent, SandboxViolation, ToolCall, ToolResult, UsageSeen
from agent_runner.protocol import CommandRun

_MOST: Final = 2000


class Observer:
    """One attempt, as its events tell it."""

    def __init__(self, test_command: str) -> None:
        self._test_command = test_command
        self._calls: dict[str, CommandRun] = {}
        self.violations: list[SandboxViolation] = []
        self.input_tokens = 0
        self.output_tokens = 0
        self.money_microusd: int | None = None
        self.garbage_lines = 0

    def see(self, event: AgentEvent) -> None:
        match event:
            case ToolCall(call=call, tool=tool, input={"command": str(command)}) if len(self._calls) < _MOST:
                self._calls[call] = CommandRun(command=command[:4000], ok=None, test=self._is_test(tool, command))
            case ToolResult(call=call, ok=ok) if call in self._calls:
                self._calls[call] = self._calls[call].model_copy(update={"ok": ok})
            case UsageSeen():
                self._count(event)
            case SandboxViolation():
                self.violations.append(event)
            case _:
                pass

    @property
    def commands(self) -> tuple[CommandRun, ...]:
        return tuple(self._calls.values())

    @property
    def tests(self) -> tuple[CommandRun, ...]:
        return tuple(each for each in self._calls.values() if each.test)

    def _is_test(self, tool: str, command: str) -> bool:
        return tool == "test" or bool(self._test_command and self._test_command in command)

    def _count(self, usage: UsageSeen) -> None:
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        if usage.money_microusd is not None:
            self.money_microusd = (self.money_microusd or 0) + usage.money_microusd
