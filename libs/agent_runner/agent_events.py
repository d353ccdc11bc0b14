"""The events of an agent, the same for every backend, and the line that carries one. Values only."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, TypeAdapter

from agent_runner.wire import Wire


class Text(Wire):
    """Words of the agent for people."""

    kind: Literal["text"] = "text"
    text: str


class Thinking(Wire):
    """Words of the agent for itself."""

    kind: Literal["thinking"] = "thinking"
    text: str


class ToolCall(Wire):
    """The agent uses a tool. ``call`` pairs it with its ToolResult."""

    kind: Literal["toolCall"] = "toolCall"
    call: str
    tool: str  #: shell, write, edit, read, test, commit, or the CLI's own name
    input: dict[str, Any] = Field(default_factory=dict)


class ToolResult(Wire):
    """What the tool answered. A ToolCall without one was under way when the agent ended."""

    kind: Literal["toolResult"] = "toolResult"
    call: str
    ok: bool
    output: str = ""
    truncated: bool = False


class UsageSeen(Wire):
    """Tokens as the CLI itself counts them; the gateway's own count is the truth."""

    kind: Literal["usage"] = "usage"
    input_tokens: int = 0
    output_tokens: int = 0
    money_microusd: int | None = None


class Question(Wire):
    """The agent asks a person."""

    kind: Literal["question"] = "question"
    question: str  #: its id within the attempt
    text: str


class ErrorSeen(Wire):
    """Something went wrong in the agent; it may go on."""

    kind: Literal["error"] = "error"
    text: str
    family: str | None = None


class SandboxViolation(Wire):
    """The agent tried what the sandbox forbids, or hit a limit. ``what``: memory, pids, disk, host, …"""

    kind: Literal["sandboxViolation"] = "sandboxViolation"
    what: str
    text: str


class Done(Wire):
    """The agent says that it is finished."""

    kind: Literal["done"] = "done"
    ok: bool
    summary: str = ""


AgentEvent = Annotated[
    Text | Thinking | ToolCall | ToolResult | UsageSeen | Question | ErrorSeen | SandboxViolation | Done,
    Field(discriminator="kind"),
]
AGENT_EVENT: Final[TypeAdapter[AgentEvent]] = TypeAdapter(AgentEvent)


class EventLine(Wire):
    """One line of the stream. ``seq`` counts from 1 within the attempt, without gaps."""

    attempt: UUID
    seq: int
    at: AwareDatetime
    event: AgentEvent
