"""What applying or deleting resources would change, and whether it may. PURE."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from dispatch_common.resources import Problem, Resource, ResourceErrors, Spec, check, read

Key = tuple[str, str]
Known = Mapping[str, Mapping[str, Spec]]


@dataclass(frozen=True, slots=True)
class Stored:
    """A resource as it is stored; ``spec`` None: it was deleted."""

    generation: int
    spec: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one resource."""

    kind: str
    name: str
    outcome: Literal["created", "changed", "unchanged", "deleted"]
    generation: int
    spec: dict[str, Any] | None
    fields: tuple[str, ...] = ()


def parse(files: Sequence[tuple[str, str]], known: Known) -> list[Resource]:
    """Return the resources of all files, or raise ResourceErrors with every mistake in all of them."""
    resources: list[Resource] = []
    problems: list[Problem] = []
    for name, text in files:
        good, bad = read(text, name)
        resources += good
        problems += bad
    problems += _twice(resources)
    problems += check(resources, known)
    if problems:
        raise ResourceErrors(problems)
    return resources


def _twice(resources: Sequence[Resource]) -> Iterator[Problem]:
    """Say where a resource stands a second time, in another file (``read`` says it within one)."""
    first: dict[Key, Resource] = {}
    for resource in resources:
        earlier = first.setdefault((resource.kind, resource.name), resource)
        if earlier is not resource and earlier.file != resource.file:
            yield resource.problem(
                ("metadata", "name"),
                f"{resource.kind} '{resource.name}' is also in {earlier.file}, line {earlier.line}",
                "Keep one of them.",
            )


def plan(resources: Sequence[Resource], stored: Mapping[Key, Stored]) -> list[Change]:
    """Return what applying does to each resource; a generation grows only when something differs."""
    return [_change(resource, stored.get((resource.kind, resource.name))) for resource in resources]


def _change(resource: Resource, before: Stored | None) -> Change:
    spec = resource.document
    if before is None or before.spec is None:
        generation = before.generation + 1 if before else 1
        return Change(resource.kind, resource.name, "created", generation, spec)
    differs = tuple(sorted(key for key in spec.keys() | before.spec.keys() if spec.get(key) != before.spec.get(key)))
    if not differs:
        return Change(resource.kind, resource.name, "unchanged", before.generation, spec)
    return Change(resource.kind, resource.name, "changed", before.generation + 1, spec, differs)


def needed_by(kind: str, name: str, known: Known) -> list[str]:
    """Return which resources would name nothing any more without this one."""
    rest = {each: dict(specs) for each, specs in known.items()}
    rest.get(kind, {}).pop(name, None)
    resources = [Resource(each, other, spec) for each, specs in rest.items() for other, spec in specs.items()]
    before = {problem.field for problem in check(_all(known), known)}
    return sorted({problem.field for problem in check(resources, rest)} - before)


def _all(known: Known) -> list[Resource]:
    return [Resource(kind, name, spec) for kind, specs in known.items() for name, spec in specs.items()]


def digest(spec: dict[str, Any] | None) -> str:
    """Return the digest of a spec, by its canonical JSON."""
    return hashlib.sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).hexdigest()
