"""What an executor hands a supervisor: the LaunchSpec and its parts. Values only; a spec never holds a secret."""

from enum import StrEnum
from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import Field

from agent_runner.wire import Wire


class AgentLaunch(Wire):
    """Which agent CLI runs, and how."""

    name: str  #: Vega
    backend: str  #: scripted, claude, codex, …
    model: str | None = None
    options: dict[str, str] = Field(default_factory=dict)


class GatewayAddress(Wire):
    """Where the run gateway listens. The token is in a file of mode 0600, never in argv, environment or this spec."""

    token_file: Path
    socket: Path | None = None  #: a unix socket; None: ``url`` is reached over TCP
    url: str = "http://gateway"
    agent_dir: Path | None = None  #: socket directory for the agent CLI (LLM proxy, egress), mounted at /run/gw


class LeaseTerms(Wire):
    """How long an attempt may live unheard, and how often it says that it lives."""

    lease_seconds: float = 20
    renew_seconds: float = 5


class WorkspaceKind(StrEnum):
    """How a run gets its view of the repository."""

    OVERLAY = "overlay"  #: ``base`` below, ``upper`` above: milliseconds, whatever the size
    CLONE = "clone"  #: ``upper`` is a clone that borrows the mirror's objects
    EMPTY = "empty"  #: no repository; ``upper`` is an empty folder


class WorkspaceSpec(Wire):
    """The repository as the agent sees it. The agent writes only to ``upper``, ``work`` and ``home``."""

    kind: WorkspaceKind
    upper: Path  #: what the agent changes (overlay), or the whole repository (clone, empty)
    home: Path  #: private HOME, kept per agent and task
    base: Path | None = None  #: the immutable prepared checkout (overlay)
    work: Path | None = None  #: overlayfs' own folder, beside ``upper``
    objects: Path | None = None  #: the mirror's objects, mounted read-only at the same path
    inside: str = "/repo"
    branch: str | None = None  #: agent/<run8>, checked out when the agent starts
    base_commit: str | None = None


class LaunchLimits(Wire):
    """What the attempt may use. Times in seconds, sizes in MiB."""

    wall_seconds: float = 1800
    idle_seconds: float = 600
    cpus: float = 2.0
    memory_mib: int = 4096
    disk_mib: int = 4096  #: repository changes and HOME together
    pids: int = 512
    tmp_mib: int = 512  #: size of /tmp inside; counts as memory
    output_mib: int = 8  #: of stdout and of stderr, each: head and tail are kept
    stop_grace_seconds: float = 5  #: between SIGTERM and SIGKILL
    collect_seconds: float = 120
    bundle_mib: int = 256


class SandboxKind(StrEnum):
    """How the agent is confined."""

    BUBBLEWRAP = "bubblewrap"
    NONE = "none"  #: not at all; only when asked for by name


class SandboxSpec(Wire):
    """The confinement. ``uid`` is the unprivileged user of a sandbox that root starts; None: the caller's own."""

    kind: SandboxKind = SandboxKind.BUBBLEWRAP
    uid: int | None = None
    gid: int | None = None
    overlay_by: Literal["mount", "bubblewrap"] = "mount"  #: who mounts the overlay; bubblewrap can since 0.11
    disable_userns: bool = True  #: no user namespaces inside; not every bubblewrap can
    cgroups: bool = True  #: use them where this host lets us
    readable: tuple[Path, ...] = ()  #: more of the system, read-only at the same path (a tool chain outside /usr)


class LaunchSpec(Wire):
    """All that a supervisor needs for one attempt; a file of mode 0600 in the attempt's folder. Holds no secret."""

    version: Literal[1] = 1
    org: str = "default"
    run_id: UUID
    attempt_id: UUID
    fence: int
    task_id: UUID
    task_key: str  #: what people call the task: DISP-1
    folder: Path  #: the attempt's folder; the agent sees nothing of it
    agent: AgentLaunch
    gateway: GatewayAddress
    lease: LeaseTerms = LeaseTerms()
    prompt_file: Path
    workspace: WorkspaceSpec
    limits: LaunchLimits = LaunchLimits()
    sandbox: SandboxSpec = SandboxSpec()
    environment: dict[str, str] = Field(
        default_factory=dict
    )  #: DISPATCH_TASK_ID, DISPATCH_RUN_ID, DISPATCH_WAKE_REASON, …
    test_command: str = ""
    author_email: str = "agent@agent-dispatch.invalid"
    traceparent: str | None = None
