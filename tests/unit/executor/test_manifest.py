"""The launch manifest says what was granted, and holds no secret."""

from datetime import UTC, datetime
from pathlib import Path

from agent_runner.launch import WorkspaceKind, WorkspaceSpec
from dispatch_common import ids
from dispatch_common.events import AttemptRequested
from dispatch_common.values import (
    Actor,
    AgentSpec,
    Grant,
    Limits,
    RepositorySpec,
    TaskSnapshot,
    WakeReason,
)
from services.executor.manifest import Place, manifest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORKSPACE = WorkspaceSpec(kind=WorkspaceKind.EMPTY, upper=Path("/d/a/upper"), home=Path("/d/home"))
PLACE = Place(folder=Path("/d/a"), socket=Path("/d/a/gw.sock"), lease_seconds=20, uid=62_000)


def asked(title: str = "Fix it", limits: Limits | None = None) -> AttemptRequested:
    snapshot = TaskSnapshot(
        source="plane", provider="plane", object_id="1", key="DISP-1", title=title, read_at=NOW, digest="d"
    )
    return AttemptRequested(
        id=ids.fresh(),
        time=NOW,
        run_id=ids.fresh(),
        attempt_id=ids.fresh(),
        fence=3,
        task_id=ids.fresh(),
        task_version=1,
        snapshot=snapshot,
        instruction="",
        wake_reason=WakeReason.TICKET_ASSIGNMENT,
        actor=Actor(id="1"),
        agent=AgentSpec(name="Vega", role="coder", backend="scripted", options={"a": "b"}),
        repository=RepositorySpec(name="sample", url="/r", test_command="make test"),
        grant=Grant(limits=limits or Limits()),
    )


def test_the_granted_limits_are_the_limits():
    granted = Limits(wall_seconds=60, idle_seconds=7, cpus=0.5, memory_mib=256, disk_mib=99, pids=33)
    spec = manifest(asked(limits=granted), WORKSPACE, PLACE)

    assert (spec.limits.wall_seconds, spec.limits.idle_seconds) == (60, 7)
    assert (spec.limits.cpus, spec.limits.memory_mib, spec.limits.disk_mib, spec.limits.pids) == (0.5, 256, 99, 33)
    assert spec.limits.tmp_mib == 128


def test_agent_repository_and_place_are_passed_on():
    request = asked()
    spec = manifest(request, WORKSPACE, PLACE)

    assert (spec.attempt_id, spec.run_id, spec.fence) == (request.attempt_id, request.run_id, 3)
    assert (spec.agent.name, spec.agent.backend, spec.agent.options) == ("Vega", "scripted", {"a": "b"})
    assert spec.test_command == "make test"
    assert spec.sandbox.uid == 62_000
    assert spec.gateway.socket == PLACE.socket
    assert spec.lease.renew_seconds < spec.lease.lease_seconds / 3


def test_the_environment_is_one_line_each_and_tells_the_wake_reason():
    spec = manifest(asked(title="Fix\x00 it\nLD_PRELOAD=/x\u202e"), WORKSPACE, PLACE)

    assert spec.environment["DISPATCH_TASK_TITLE"] == "Fix it LD_PRELOAD=/x"
    assert spec.environment["DISPATCH_WAKE_REASON"] == "ticket_assignment"
    assert spec.environment["DISPATCH_TASK_KEY"] == "DISP-1"


def test_the_spec_survives_its_file():
    spec = manifest(asked(), WORKSPACE, PLACE)

    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
