"""The shape of a backend, and the values it trades in. Nothing here knows a particular CLI."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent_runner.agent_events import AgentEvent
from agent_runner.launch import LaunchSpec
from agent_runner.sandbox.confinement import Mount


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """How the CLI is started inside the sandbox. The prompt is its stdin, never an argument."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])  #: small files (under 64 kB) by path inside
    mounts: tuple[Mount, ...] = ()  #: where the CLI itself is installed
    needs_gateway: bool = False  #: whether /run/gw is mounted


@dataclass(frozen=True, slots=True)
class Exit:
    """How the CLI ended by itself."""

    code: int | None
    signal: int | None
    stderr_tail: str = ""


@dataclass(frozen=True, slots=True)
class AgentVerdict:
    """What a backend makes of an end. ``family`` is one of the product's error families; None when all went well."""

    ok: bool
    family: str | None
    sentence: str
    summary: str = ""


class Reader(Protocol):
    """Reads one run of a CLI, line by line."""

    def events(self, line: bytes) -> Sequence[AgentEvent] | None:
        """Return what the line means; None when it means nothing to this backend. Never raises."""
        ...

    def verdict(self, ended: Exit) -> AgentVerdict:
        """Return what the end means, given all lines so far."""
        ...


class Backend(Protocol):
    """One agent CLI."""

    @property
    def name(self) -> str: ...

    def command(self, spec: LaunchSpec) -> AgentCommand:
        """Return how the CLI is started for this attempt."""
        ...

    def reader(self) -> Reader:
        """Return a fresh reader for one run."""
        ...
