"""What policy is asked, by which resources it answers, and what the expressions of its rules see. Pure values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from dispatch_common.resources import (
    Agent,
    AgentPermissionSet,
    AgentStack,
    AgentStatus,
    PolicyProfile,
    Repository,
)
from dispatch_common.values import Judged, Stage


@dataclass(frozen=True, slots=True, eq=False)
class Policies:
    """Every resource that judging needs, as it is today. Compared by identity: what follows from it is remembered."""

    agents: Mapping[str, Agent] = field(default_factory=dict[str, Agent])
    stacks: Mapping[str, AgentStack] = field(default_factory=dict[str, AgentStack])
    repositories: Mapping[str, Repository] = field(default_factory=dict[str, Repository])
    permission_sets: Mapping[str, AgentPermissionSet] = field(default_factory=dict[str, AgentPermissionSet])
    profiles: Mapping[str, PolicyProfile] = field(default_factory=dict[str, PolicyProfile])
    generation: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and at which stage."""

    judged: Judged
    stage: Stage = Stage.LAUNCH


def facts(question: Question, now: datetime) -> dict[str, Any]:
    """Return what the expressions of rules can see."""
    judged = question.judged
    return {
        "task": {
            "id": judged.task_id.hex,
            "version": judged.task_version,
            "key": judged.key,
            "title": judged.title,
            "source": judged.source,
            "provider": judged.provider,
        },
        "actor": {"id": judged.actor.id, "name": judged.actor.name, "bot": judged.actor.bot},
        "source": judged.source,
        "project": judged.project,
        "role": judged.role,
        "agent": judged.agent or "",
        "repository": judged.repository or "",
        "labels": list(judged.labels),
        "trust": judged.trust.value,
        "priority": judged.priority.value,
        "wake_reason": judged.wake_reason.value,
        "instruction": judged.instruction,
        "stage": question.stage.value,
        "paths": list(judged.paths),
        "now": now,
    }


@lru_cache(maxsize=1024)
def candidates(role: str, agent: str | None, policies: Policies) -> Mapping[str, Agent]:
    """Return the agents that may get the run; those out of service only when there is nobody else."""
    of_role = {
        name: spec for name, spec in sorted(policies.agents.items()) if spec.role == role and agent in {None, name}
    }
    return {name: spec for name, spec in of_role.items() if spec.status is not AgentStatus.INACTIVE} or of_role
