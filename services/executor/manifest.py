"""The launch manifest: what the dispatcher asked for, put into the words a supervisor understands. PURE."""

from dataclasses import dataclass
from pathlib import Path

from agent_runner.launch import (
    AgentLaunch,
    GatewayAddress,
    LaunchLimits,
    LaunchSpec,
    LeaseTerms,
    SandboxKind,
    SandboxSpec,
    WorkspaceSpec,
)
from dispatch_common.events import AttemptRequested
from dispatch_common.values import Limits


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt runs on this host, and how it is confined there."""

    folder: Path
    socket: Path  #: the run gateway's socket of this attempt
    lease_seconds: float = 20
    agent_dir: Path | None = None  #: socket folder for the agent itself
    sandbox: SandboxKind = SandboxKind.BUBBLEWRAP
    uid: int | None = None  #: the sandbox's user, when we are root
    readable: tuple[Path, ...] = ()

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def prompt_file(self) -> Path:
        return self.folder / "prompt.md"


def manifest(asked: AttemptRequested, workspace: WorkspaceSpec, place: Place) -> LaunchSpec:
    """Return the spec of an attempt. It holds no secret: the token is a file of its own."""
    return LaunchSpec(
        org=asked.org,
        run_id=asked.run_id,
        attempt_id=asked.attempt_id,
        fence=asked.fence,
        task_id=asked.task_id,
        task_key=asked.snapshot.key,
        folder=place.folder,
        agent=AgentLaunch(
            name=asked.agent.name,
            backend=asked.agent.backend,
            model=asked.agent.model,
            options=dict(asked.agent.options),
        ),
        gateway=GatewayAddress(token_file=place.token_file, socket=place.socket, agent_dir=place.agent_dir),
        lease=LeaseTerms(lease_seconds=place.lease_seconds, renew_seconds=place.lease_seconds / 4),
        prompt_file=place.prompt_file,
        workspace=workspace,
        limits=limits(asked.grant.limits),
        sandbox=SandboxSpec(kind=place.sandbox, uid=place.uid, gid=place.uid, readable=place.readable),
        environment=environment(asked),
        test_command=asked.repository.test_command if asked.repository else "",
        traceparent=asked.traceparent,
    )


def limits(granted: Limits) -> LaunchLimits:
    """Return the granted limits, field by field; what the grant does not name keeps its default."""
    return LaunchLimits(
        wall_seconds=granted.wall_seconds,
        idle_seconds=granted.idle_seconds,
        cpus=granted.cpus,
        memory_mib=granted.memory_mib,
        disk_mib=granted.disk_mib,
        pids=granted.pids,
        tmp_mib=min(LaunchLimits().tmp_mib, granted.memory_mib // 2),
    )


def environment(asked: AttemptRequested) -> dict[str, str]:
    """Return what the agent may know of its task without reading the prompt. Nothing in it is secret."""
    known = {
        "DISPATCH_TASK_ID": str(asked.task_id),
        "DISPATCH_TASK_KEY": asked.snapshot.key,
        "DISPATCH_TASK_TITLE": _one_line(asked.snapshot.title),
        "DISPATCH_RUN_ID": str(asked.run_id),
        "DISPATCH_ATTEMPT": str(asked.fence),
        "DISPATCH_AGENT": asked.agent.name,
        "DISPATCH_ROLE": asked.agent.role,
        "DISPATCH_WAKE_REASON": asked.wake_reason.value,
    }
    return {name: value for name, value in known.items() if value}


def _one_line(text: str) -> str:
    """An environment variable is C text: no NUL, and nothing that begins a new line in somebody's log."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:500]
