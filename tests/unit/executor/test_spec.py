"""What a supervisor is told: the same place after every restart, and a wall clock that ends before the deadline."""

from datetime import timedelta
from pathlib import Path

from agent_runner.protocol import LaunchLimits, SandboxKind, SandboxSpec, WorkspaceKind, WorkspaceSpec
from services.executor import context
from services.executor.spec import Ground, before, spec_of
from tests.support.executing import NOON, a_request

GROUND = Ground(
    Path("/data/attempts"), Path("/data/gateway"), SandboxSpec(kind=SandboxKind.NONE), timedelta(seconds=20)
)
EMPTY = WorkspaceSpec(kind=WorkspaceKind.EMPTY, upper=Path("/u"), home=Path("/h"))


def test_the_place_is_the_same_after_every_restart() -> None:
    asked = a_request()
    bundle = context.bundle(asked, {}, None, "n")

    first, second = (spec_of(asked, GROUND, EMPTY, bundle, now=NOON) for _ in range(2))

    assert first == second
    assert first.folder == Path("/data/attempts") / str(asked.attempt_id)
    assert first.gateway.socket is not None
    assert len(str(first.gateway.socket)) < 60
    assert first.environment["DISPATCH_TASK_FOLDER"] == ".dispatch/tasks/DISP-1"
    assert first.sandbox.kind is SandboxKind.NONE


def test_the_wall_clock_ends_in_time_for_a_result_before_the_deadline() -> None:
    limits = LaunchLimits(wall_seconds=600)

    assert before(limits, None, NOON).wall_seconds == 600
    assert before(limits, NOON + timedelta(hours=1), NOON).wall_seconds == 600
    assert before(limits, NOON + timedelta(seconds=100), NOON).wall_seconds == 70
    assert before(limits, NOON, NOON).wall_seconds == 1
