"""The contract of the supervisor: what an executor hands it (LaunchSpec) and what it says to the run gateway.

Values only: nothing here does input or output, and nothing here knows a service. Grow a class by optional fields.

The gateway speaks HTTP (a unix socket on one machine); every request carries ``Authorization: Bearer <token>`` and
``Dispatch-Fence: <n>``. Bodies are JSON, an error is ``{"error": "<sentence>"}``:

    POST /v1/lease           LeaseAsk -> LeaseGranted        asked before the agent starts, then every renew_seconds
    POST /v1/started         StartedReport -> 200            the agent's process is alive; may be repeated
    POST /v1/events          NDJSON of EventLine -> EventsTaken    idempotent by seq; acked_seq: highest without a gap
    PUT  /v1/blobs/{sha256}  raw bytes -> BlobStored         idempotent; 422 when the digest does not fit the bytes
    POST /v1/result          ResultReport -> 200             its blobs were stored before; may be repeated

409: a newer attempt exists. 401 or 410: the token is not valid any more. On each of the three the supervisor kills
everything and leaves. 429, 5xx and an unreachable socket: it tries again, as long as its lease lives (a result: for
ever).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from uuid import UUID

from agent_runner.agent_events import (
    AGENT_EVENT,
    AgentEvent,
    Done,
    ErrorSeen,
    EventLine,
    Question,
    SandboxViolation,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UsageSeen,
)
from agent_runner.launch import (
    AgentLaunch,
    GatewayAddress,
    LaunchLimits,
    LaunchSpec,
    LeaseTerms,
    SandboxKind,
    SandboxSpec,
    WorkspaceKind,
    WorkspaceSpec,
)
from agent_runner.wire import Wire

__all__ = [
    "AGENT_EVENT",
    "FENCED",
    "FENCE_HEADER",
    "JOURNAL_FILE",
    "LOCK_FILE",
    "LOG_FILE",
    "OUT_DIR",
    "RESULT_FILE",
    "REVOKED",
    "SPEC_FILE",
    "STOP_FILE",
    "SUPERVISOR_FILE",
    "AgentEvent",
    "AgentLaunch",
    "Blob",
    "BlobStored",
    "CommandRun",
    "Commit",
    "Done",
    "ErrorSeen",
    "EventLine",
    "EventsTaken",
    "FileChange",
    "GatewayAddress",
    "LaunchLimits",
    "LaunchSpec",
    "LeaseAsk",
    "LeaseGranted",
    "LeaseTerms",
    "Outcome",
    "Phase",
    "Question",
    "ResultManifest",
    "ResultReport",
    "SandboxKind",
    "SandboxSpec",
    "SandboxViolation",
    "StartedReport",
    "StopAsk",
    "SupervisorNote",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "UsageReport",
    "UsageSeen",
    "Wire",
    "WorkspaceKind",
    "WorkspaceSpec",
    "headers",
]

FENCE_HEADER: Final = "Dispatch-Fence"
#: Answers after which nothing this attempt does counts any more.
FENCED: Final = 409
REVOKED: Final = frozenset({401, 410})

# Names of files in the attempt's folder.
SPEC_FILE: Final = "spec.json"
SUPERVISOR_FILE: Final = "supervisor.json"  #: SupervisorNote
RESULT_FILE: Final = "result.json"  #: ResultReport, from when the agent is dead until for ever
STOP_FILE: Final = "stop.json"  #: StopAsk, written by a launcher before it signals the supervisor
LOCK_FILE: Final = "supervisor.lock"  #: held (flock) by the supervisor as long as it lives
LOG_FILE: Final = "supervisor.log"
JOURNAL_FILE: Final = "events.ndjson"
OUT_DIR: Final = "out"  #: bundle, manifest, stdout and stderr, as files


class StopAsk(Wire):
    """The attempt shall end now."""

    sentence: str


class LeaseAsk(Wire):
    """The supervisor lives. ``seq``: the last event on its disk."""

    seq: int = 0


class LeaseGranted(Wire):
    """The lease, counted by the supervisor from before it asked."""

    lease_seconds: float
    stop: StopAsk | None = None


class StartedReport(Wire):
    """The agent's process is alive. ``isolation`` says what really confines it, one sentence each."""

    supervisor_pid: int
    agent_pid: int
    base_commit: str | None = None
    isolation: tuple[str, ...] = ()


class EventsTaken(Wire):
    """Every event up to ``acked_seq`` is kept by the gateway. ``stop`` as in a lease, to save a round."""

    acked_seq: int
    stop: StopAsk | None = None


class Blob(Wire):
    """A blob that the gateway has."""

    digest: str  #: sha256 hex
    size: int


BlobStored = Blob


class Outcome(StrEnum):
    """How the attempt ended, as the supervisor saw it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"  #: because it was asked to


class UsageReport(Wire):
    """What the attempt used, as the host measured it; tokens as the CLI counted them."""

    wall_ms: int = 0
    cpu_ms: int = 0
    peak_memory_mib: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money_microusd: int | None = None


class ResultReport(Wire):
    """How an attempt ended and what it left. Nothing of it lives when this is posted.

    ``family`` is a suggestion (a value of the product's error families); the gateway's own record may know better.
    """

    outcome: Outcome
    family: str | None = None
    sentence: str
    summary: str = ""  #: the agent's own last words
    exit_code: int | None = None
    signal: int | None = None
    base_commit: str | None = None
    commit: str | None = None  #: None: nothing was changed
    bundle: Blob | None = None
    manifest: Blob | None = None
    stdout: Blob | None = None
    stderr: Blob | None = None
    files_changed: int = 0
    last_seq: int = 0
    usage: UsageReport = UsageReport()


# --- what is in the manifest blob ---


class FileChange(Wire):
    """One changed file; None counts: binary."""

    path: str
    added: int | None
    removed: int | None


class Commit(Wire):
    """One commit between the base and the result."""

    commit: str
    author: str
    subject: str


class CommandRun(Wire):
    """One command of the agent, from its tool calls."""

    command: str
    ok: bool | None  #: None: it was under way when the agent ended
    test: bool = False


class ResultManifest(Wire):
    """What an attempt did, for people and for the publisher. Made from the agent's own words: not to be trusted."""

    base_commit: str | None = None
    commit: str | None = None
    files: tuple[FileChange, ...] = ()
    files_truncated: bool = False
    commits: tuple[Commit, ...] = ()
    commands: tuple[CommandRun, ...] = ()
    tests: tuple[CommandRun, ...] = ()
    garbage_lines: int = 0  #: lines of stdout that the backend did not understand
    dropped_events: int = 0  #: events that were over the limit of the journal
    usage: UsageReport = UsageReport()


# --- what the supervisor leaves on disk for whoever adopts it ---


class Phase(StrEnum):
    """Where a supervisor stands."""

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"  #: the agent is dead or dying; collecting and delivering
    DONE = "done"  #: the gateway has the result, or nobody wants it


class SupervisorNote(Wire):
    """supervisor.json. A pid means nothing without the start time that goes with it (field 22 of /proc/PID/stat)."""

    attempt_id: UUID
    pid: int
    pid_started: int
    phase: Phase
    agent_pid: int | None = None
    agent_pid_started: int | None = None
    last_seq: int = 0
    acked_seq: int = 0
    sentence: str = ""


def headers(token: str, fence: int) -> Mapping[str, str]:
    """Return what every request to the gateway carries."""
    return {"Authorization": f"Bearer {token}", FENCE_HEADER: str(fence)}
