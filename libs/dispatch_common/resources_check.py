"""Whether the names that resources use exist, among what is applied and what is known already. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from dispatch_common.resources_grants import AgentPermissionSet, PolicyProfile
from dispatch_common.resources_spec import Agent, AgentStack, Repository, Source, TriggerRule
from dispatch_common.resources_types import Spec
from dispatch_common.resources_yaml import Problem, Resource

Path = tuple[str | int, ...]
Reference = tuple[Path, str, str]


def check(resources: Sequence[Resource], known: Mapping[str, Mapping[str, Spec]] | None = None) -> list[Problem]:
    """Return every reference that names nothing in ``resources`` nor in ``known`` (kind -> name -> spec)."""
    names: dict[str, dict[str, Spec]] = {kind: dict(specs) for kind, specs in (known or {}).items()}
    for resource in resources:
        names.setdefault(resource.kind, {})[resource.name] = resource.spec
    return [problem for resource in resources for problem in _of(resource, names)]


def _of(resource: Resource, names: Mapping[str, Mapping[str, Spec]]) -> Iterator[Problem]:
    for path, kind, name in _references(resource.spec):
        there = names.get(kind, {})
        if name not in there:
            close = get_close_matches(name, there, n=1)
            hint = f"Did you mean '{close[0]}'? " if close else ""
            yield resource.problem(
                path, f"there is no {kind} '{name}'", f"{hint}Apply it first or in the same command."
            )
    match resource.spec:
        case Agent() as agent:
            yield from _backend(resource, agent, names)
        case TriggerRule(role=str() as role):
            roles = {spec.role for spec in names.get("Agent", {}).values() if isinstance(spec, Agent)}
            if role not in roles:
                have = f"Roles: {', '.join(sorted(roles))}." if roles else ""
                yield resource.problem(
                    ("spec", "role"), f"no Agent has the role '{role}'", f"Apply an Agent with it. {have}".rstrip()
                )
        case _:
            pass


def _references(spec: Spec) -> Iterator[Reference]:
    """Yield where a spec names another resource, of which kind, and the name."""
    match spec:
        case Agent():
            yield from _named(("spec", "permissionSet"), AgentPermissionSet, spec.permission_set)
            yield from _named(("spec", "profile"), PolicyProfile, spec.profile)
            yield from _named(("spec", "stack"), AgentStack, spec.stack)
        case Source():
            yield from _named(("spec", "defaultRepository"), Repository, spec.default_repository)
            for project, mapped in spec.projects.items():
                yield from _named(("spec", "projects", project, "repository"), Repository, mapped.repository)
        case TriggerRule():
            for number, source in enumerate(spec.sources):
                yield from _named(("spec", "sources", number), Source, source)
            yield from _named(("spec", "agent"), Agent, spec.agent)
        case _:
            pass


def _named(path: Path, kind: type[Spec], name: str | None) -> Iterator[Reference]:
    if name is not None:
        yield path, kind.kind, name


def _backend(resource: Resource, agent: Agent, names: Mapping[str, Mapping[str, Spec]]) -> Iterator[Problem]:
    stack = names.get(AgentStack.kind, {}).get(agent.stack or "")
    if agent.backend is None and not (isinstance(stack, AgentStack) and stack.backend):
        yield resource.problem(
            ("spec", "backend"),
            "neither the agent nor its stack names a backend",
            "Add 'backend: scripted', for example.",
        )
