"""Why a question can only be answered with no: what it names does not exist, or does not fit together. Pure."""

from collections.abc import Container, Iterator
from functools import lru_cache
from typing import Final

from dispatch_common.resources import Agent, AgentPermissionSet, covers, matches
from dispatch_common.values import Reason
from services.policy.question import Policies, candidates

#: Branches are made by the publisher under this pattern; a permission set must cover it.
RESULT_REF: Final = "agent/*"
_APPLY: Final = "Apply it, or name another one."


@lru_cache(maxsize=1024)
def refusals(
    role: str, agent: str | None, repository: str | None, source: str, policies: Policies
) -> tuple[Reason, ...]:
    """Return why these can be answered with nothing but no: something does not exist or does not fit."""
    found = [*_agent(role, agent, policies), *_repository(repository, source, policies)]
    for name, spec in candidates(role, agent, policies).items():
        permissions = policies.permission_sets.get(spec.permission_set)
        if permissions is None:
            sentence = f"Agent '{name}' names the AgentPermissionSet '{spec.permission_set}', and there is none."
            found.append(Reason(code="permission-set.unknown", sentence=sentence, next_action=_APPLY))
        else:
            found += _not_permitted(repository, spec.permission_set, permissions)
        found += _missing(name, spec, policies)
    return tuple(dict.fromkeys(found))


def _agent(role: str, agent: str | None, policies: Policies) -> Iterator[Reason]:
    named = policies.agents.get(agent) if agent else None
    roles = sorted({spec.role for spec in policies.agents.values()})
    if agent and named is None:
        have = f"Agents: {', '.join(sorted(policies.agents)) or 'none'}."
        sentence = f"There is no agent '{agent}'."
        yield Reason(code="agent.unknown", sentence=sentence, next_action=f"Name one there is. {have}")
    elif named is not None and named.role != role:
        sentence = f"Agent '{agent}' has the role '{named.role}', not '{role}'."
        yield Reason(code="agent.other-role", sentence=sentence, next_action="Name another agent, or none.")
    elif role not in roles:
        remedy = f"Change the label, or apply an Agent with this role. Roles: {', '.join(roles) or 'none'}."
        yield Reason(code="role.unknown", sentence=f"No agent has the role '{role}'.", next_action=remedy)


def _repository(repository: str | None, source: str, policies: Policies) -> Iterator[Reason]:
    if repository is None:
        remedy = f"Map its project to a Repository in Source '{source}', or set defaultRepository there."
        yield Reason(code="repository.none", sentence="The task names no repository.", next_action=remedy)
    elif repository not in policies.repositories:
        remedy = f"{_APPLY} Repositories: {', '.join(sorted(policies.repositories)) or 'none'}."
        sentence = f"There is no Repository '{repository}'."
        yield Reason(code="repository.unknown", sentence=sentence, next_action=remedy)


def _not_permitted(repository: str | None, name: str, permissions: AgentPermissionSet) -> Iterator[Reason]:
    by = f"AgentPermissionSet/{name}"
    if repository and not any(matches(pattern, repository) for pattern in permissions.repositories):
        sentence = f"{by} does not cover the repository '{repository}'."
        yield Reason(code="repository.not-permitted", sentence=sentence, next_action="Add it to 'repositories' there.")
    if not any(covers(pattern, RESULT_REF) for pattern in permissions.refs):
        sentence = f"{by} does not allow branches {RESULT_REF}, where results are published."
        yield Reason(code="ref.not-permitted", sentence=sentence, next_action=f"Add '{RESULT_REF}' to 'refs' there.")


def _missing(name: str, agent: Agent, policies: Policies) -> Iterator[Reason]:
    references: tuple[tuple[str, str | None, Container[str]], ...] = (
        ("PolicyProfile", agent.profile, policies.profiles),
        ("AgentStack", agent.stack, policies.stacks),
    )
    for kind, wanted, known in references:
        if wanted and wanted not in known:
            sentence = f"Agent '{name}' names the {kind} '{wanted}', and there is none."
            yield Reason(code="reference.unknown", sentence=sentence, next_action=_APPLY)
