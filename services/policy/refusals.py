"""Why a question can only be answered with no: what it names does not exist, or does not fit together. Pure."""

from collections.abc import Iterator
from typing import Final

from dispatch_common.resources import Agent, AgentPermissionSet, covers, matches
from dispatch_common.values import Judged, Reason
from services.policy.question import Policies, candidates

#: Branches are made by the publisher under this pattern; a permission set must cover it.
RESULT_REF: Final = "agent/*"


def refusals(judged: Judged, policies: Policies) -> Iterator[Reason]:
    """Yield why the question cannot be answered with anything but no: what it names does not exist or does not fit."""
    roles = sorted({agent.role for agent in policies.agents.values()})
    named = policies.agents.get(judged.agent) if judged.agent else None
    if judged.agent and named is None:
        have = f"Agents: {', '.join(sorted(policies.agents)) or 'none'}."
        yield Reason(
            code="agent.unknown",
            sentence=f"There is no agent '{judged.agent}'.",
            next_action=f"Name one there is. {have}",
        )
    elif named is not None and named.role != judged.role:
        sentence = f"Agent '{judged.agent}' has the role '{named.role}', not '{judged.role}'."
        yield Reason(code="agent.other-role", sentence=sentence, next_action="Name another agent, or none.")
    elif judged.role not in roles:
        have = f"Roles: {', '.join(roles) or 'none'}."
        yield Reason(
            code="role.unknown",
            sentence=f"No agent has the role '{judged.role}'.",
            next_action=f"Change the label, or apply an Agent with this role. {have}",
        )
    yield from _repository_refusals(judged, policies)
    for name, agent in candidates(judged, policies).items():
        permissions = policies.permission_sets.get(agent.permission_set)
        if permissions is None:
            sentence = (
                f"Agent '{name}' has the AgentPermissionSet '{agent.permission_set}', and there is none of that name."
            )
            yield Reason(code="permission-set.unknown", sentence=sentence, next_action="Apply it, or name another one.")
        else:
            yield from _not_permitted(judged, agent.permission_set, permissions)
        yield from _missing(name, agent, policies)


def _repository_refusals(judged: Judged, policies: Policies) -> Iterator[Reason]:
    if judged.repository is None:
        yield Reason(
            code="repository.none",
            sentence="The task names no repository.",
            next_action=f"Map its project to a Repository in Source '{judged.source}', or set defaultRepository there.",
        )
    elif judged.repository not in policies.repositories:
        have = f"Repositories: {', '.join(sorted(policies.repositories)) or 'none'}."
        sentence = f"There is no Repository '{judged.repository}'."
        yield Reason(code="repository.unknown", sentence=sentence, next_action=f"Apply it, or name another one. {have}")


def _not_permitted(judged: Judged, name: str, permissions: AgentPermissionSet) -> Iterator[Reason]:
    by = f"AgentPermissionSet/{name}"
    if judged.repository and not any(matches(pattern, judged.repository) for pattern in permissions.repositories):
        sentence = f"{by} does not cover the repository '{judged.repository}'."
        yield Reason(code="repository.not-permitted", sentence=sentence, next_action="Add it to 'repositories' there.")
    if not any(covers(pattern, RESULT_REF) for pattern in permissions.refs):
        sentence = f"{by} does not allow branches {RESULT_REF}, where results are published."
        yield Reason(code="ref.not-permitted", sentence=sentence, next_action=f"Add '{RESULT_REF}' to 'refs' there.")


def _missing(name: str, agent: Agent, policies: Policies) -> Iterator[Reason]:
    for kind, wanted, known in (
        ("PolicyProfile", agent.profile, policies.profiles),
        ("AgentStack", agent.stack, policies.stacks),
    ):
        if wanted and wanted not in known:
            sentence = f"Agent '{name}' names the {kind} '{wanted}', and there is none of that name."
            yield Reason(code="reference.unknown", sentence=sentence, next_action="Apply it, or name another one.")
