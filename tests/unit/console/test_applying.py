"""What applying changes, as pure functions."""

import pytest

from dispatch_common.resources import ResourceErrors
from services.console.applying import Stored, digest, needed_by, parse, plan

SETS = """
apiVersion: dispatch.dev/v1alpha1
kind: AgentPermissionSet
metadata: {name: build}
spec: {}
---
apiVersion: dispatch.dev/v1alpha1
kind: Agent
metadata: {name: vega}
spec: {role: coder, backend: scripted, permissionSet: build}
"""


def test_what_stands_already_is_unchanged_and_keeps_its_generation() -> None:
    resources = parse([("a.yaml", SETS)], {})
    stored = {(r.kind, r.name): Stored(4, r.document) for r in resources}

    assert [(change.outcome, change.generation) for change in plan(resources, stored)] == [("unchanged", 4)] * 2


def test_what_was_deleted_comes_back_with_a_higher_generation() -> None:
    resources = parse([("a.yaml", SETS)], {})

    (change, _) = plan(resources, {("AgentPermissionSet", "build"): Stored(7, None)})

    assert (change.outcome, change.generation) == ("created", 8)


def test_a_field_that_is_left_out_again_counts_as_changed() -> None:
    resources = parse([("a.yaml", SETS)], {})
    before = {**resources[1].document, "persona": "x"}

    change = plan(resources, {("Agent", "vega"): Stored(1, before)})[1]

    assert (change.outcome, change.fields, change.generation) == ("changed", ("persona",), 2)


def test_every_mistake_of_every_file_is_told_at_once() -> None:
    with pytest.raises(ResourceErrors) as raised:
        parse([("a.yaml", SETS.replace("scripted", "[]")), ("b.yaml", "kind: Nothing")], {})

    assert {problem.file for problem in raised.value.problems} == {"a.yaml", "b.yaml"}


def test_who_needs_a_resource_is_told_by_name() -> None:
    known: dict[str, dict[str, object]] = {}
    for resource in parse([("a.yaml", SETS)], {}):
        known.setdefault(resource.kind, {})[resource.name] = resource.spec

    assert needed_by("AgentPermissionSet", "build", known) == ["Agent/vega spec.permissionSet"]  # type: ignore[arg-type]
    assert needed_by("Agent", "vega", known) == []  # type: ignore[arg-type]


def test_a_digest_does_not_depend_on_the_order_of_fields() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest(None)
