"""Builders of what policy judges: the demo's catalog as it is, questions about it, approvals and answers."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from dispatch_common import resources
from dispatch_common.resources import Agent, AgentPermissionSet, AgentStack, PolicyProfile, Repository, Resource
from dispatch_common.values import Actor, Grant, Judged, Priority, Stage, Trust, WakeReason
from services.policy.approval import Approval, Base
from services.policy.question import Policies, Question

CATALOG = Path(__file__).parents[2] / "services" / "demo" / "catalog"
NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
ALICE = Actor(id="8c61d381-9e47-45f3-afa0-fe7cb1376ae3", name="alice")
BOB = Actor(id="principal:bob", name="bob")
BASE = Base("sample", "/srv/agent-dispatch/sample.git", "main", "a" * 40)


@cache
def catalog() -> tuple[Resource, ...]:
    """The demo's catalog."""
    return tuple(
        each for path in sorted(CATALOG.glob("*.yaml")) for each in resources.load(path.read_text(), path.name)
    )


def policies(*extra: Resource, without: str = "") -> Policies:
    """The catalog's policies, with resources added or replaced and one (kind/name) taken away."""
    found: dict[str, dict[str, Any]] = {}
    for each in (*catalog(), *extra):
        if f"{each.kind}/{each.name}" != without:
            found.setdefault(each.kind, {})[each.name] = each.spec
    return Policies(
        agents=found.get(Agent.kind, {}),
        stacks=found.get(AgentStack.kind, {}),
        repositories=found.get(Repository.kind, {}),
        permission_sets=found.get(AgentPermissionSet.kind, {}),
        profiles=found.get(PolicyProfile.kind, {}),
        generation="1",
    )


def resource(kind: str, name: str, **spec: Any) -> Resource:
    """One resource, its fields named as in YAML."""
    return resources.parse_spec(kind, name, spec)


def judged(**changes: Any) -> Judged:
    """What policy is asked about: Alice's task for a coder."""
    plain = Judged(
        task_id=UUID(int=1),
        task_version=1,
        source="plane-local",
        provider="plane",
        project="DISP",
        key="DISP-1",
        title="Say hello",
        labels=("agent:coder",),
        priority=Priority.NONE,
        trust=Trust.MEMBER,
        role="coder",
        agent=None,
        repository="sample",
        instruction="",
        wake_reason=WakeReason.TICKET_ASSIGNMENT,
        actor=ALICE,
    )
    return plain.model_copy(update=changes)


def question(*, stage: Stage = Stage.LAUNCH, **changes: Any) -> Question:
    """A question about ``judged(**changes)``."""
    return Question(judged(**changes), stage)


def approval(**changes: Any) -> Approval:
    """A pending approval that Alice's task needs."""
    plain: dict[str, Any] = {
        "id": UUID(int=7),
        "run_id": UUID(int=2),
        "ask": 1,
        "stage": Stage.LAUNCH,
        "digest": "d1",
        "grant": Grant(),
        "requester": ALICE,
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=24),
        "base": BASE,
    }
    return Approval(**{**plain, **changes})
