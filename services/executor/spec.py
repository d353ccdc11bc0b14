"""Where attempts live on this host, and what of a launch depends on the host and the moment. PURE."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from agent_runner.protocol import LaunchLimits, LaunchSpec, SandboxSpec, WorkspaceSpec
from dispatch_common.events import AttemptRequested
from services.executor.context import Bundle
from services.executor.manifest import Place, manifest

#: What is kept back of the deadline, so that a result can still come: the grace, the collecting, the delivery.
_FOR_THE_END: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Ground:
    """This host, as far as launches need to know it."""

    attempts: Path
    sockets: Path
    sandbox: SandboxSpec
    lease: timedelta

    def place(self, attempt_id: UUID) -> Place:
        """Return where an attempt lives, the same after every restart."""
        return Place(
            folder=self.attempts / str(attempt_id),
            socket=self.sockets / f"{attempt_id.hex[:16]}.sock",
            lease_seconds=self.lease.total_seconds(),
        )


def spec_of(
    asked: AttemptRequested, ground: Ground, workspace: WorkspaceSpec, bundle: Bundle, *, now: datetime
) -> LaunchSpec:
    """Return the spec of an attempt on this host, now."""
    spec = manifest(asked, workspace, ground.place(asked.attempt_id))
    return spec.model_copy(
        update={
            "sandbox": ground.sandbox,
            "limits": before(spec.limits, asked.deadline, now),
            "environment": {**spec.environment, **bundle.environment},
        }
    )


def before(limits: LaunchLimits, deadline: datetime | None, now: datetime) -> LaunchLimits:
    """Return the limits with a wall clock that ends before the deadline."""
    if deadline is None:
        return limits
    left = max(1.0, (deadline - now - _FOR_THE_END).total_seconds())
    return limits.model_copy(update={"wall_seconds": min(limits.wall_seconds, left)})
