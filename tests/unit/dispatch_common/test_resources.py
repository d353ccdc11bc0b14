"""The kinds: what they mean, that they are stored and read back the same, and that their schemas are fresh."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_common.resources import (
    KINDS,
    Agent,
    AgentStack,
    LimitsPart,
    Repository,
    Source,
    TriggerRule,
    check,
    covers,
    json_schemas,
    load,
    matches,
    stored,
)
from dispatch_common.resources_types import branch
from dispatch_common.values import Limits
from tests.support.policies import catalog, resource

SCHEMAS = Path(__file__).parents[3] / "docs" / "resources"


def test_the_catalog_has_the_five_agents_and_every_name_it_uses() -> None:
    agents = {each.name for each in catalog() if each.kind == "Agent"}

    assert agents == {"vega", "rigel", "altair", "lyra", "sirius"}
    assert {each.kind for each in catalog()} == set(KINDS)
    assert check(catalog()) == []


def test_what_is_stored_reads_back_the_same() -> None:
    for each in catalog():
        assert stored(KINDS[each.kind], each.document) == each.spec


def test_references_to_nothing_are_told_with_their_place() -> None:
    text = """apiVersion: dispatch.dev/v1alpha1
kind: Agent
metadata: {name: x}
spec:
  role: coder
  permissionSet: bild
  profile: carefull
  stack: nothing
"""
    told = check(load(text, "x.yaml"), {each.kind: {each.name: each.spec} for each in catalog()})

    assert [(p.line, p.field) for p in told] == [
        (6, "Agent/x spec.permissionSet"),
        (7, "Agent/x spec.profile"),
        (8, "Agent/x spec.stack"),
        (4, "Agent/x spec.backend"),
    ]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (resource("TriggerRule", "t", labels=["x"], role="poet"), "no Agent has the role 'poet'"),
        (resource("TriggerRule", "t", labels=["x"], role="coder", sources=["jira"]), "there is no Source 'jira'"),
        (resource("TriggerRule", "t", labels=["x"], agent="vego"), "there is no Agent 'vego'"),
        (resource("Source", "s", provider="api", defaultRepository="r"), "there is no Repository 'r'"),
        (
            resource("Source", "s", provider="api", projects={"p": {"identifier": "P", "repository": "q"}}),
            "there is no Repository 'q'",
        ),
    ],
)
def test_every_kind_of_reference_is_checked(made: object, message: str) -> None:
    assert [p.message for p in check([*catalog(), made])] == [message]  # type: ignore[list-item]


def test_a_close_name_is_offered() -> None:
    (told,) = check([*catalog(), resource("TriggerRule", "t", labels=["x"], agent="vego")])

    assert told.remedy.startswith("Did you mean 'vega'?")


@pytest.mark.parametrize("name", sorted(json_schemas()))
def test_schemas_are_fresh(name: str) -> None:
    assert (SCHEMAS / name).read_text() == json_schemas()[name], "run 'make docs'"


def test_no_schema_is_left_over() -> None:
    assert {path.name for path in SCHEMAS.glob("*.json")} == set(json_schemas())


class TestAgents:
    def test_take_from_their_stack_what_they_do_not_say(self) -> None:
        stack = AgentStack(backend="claude", model="big", image="img:1", options={"a": "1", "b": "1"}, skills=("x",))
        made = Agent(role="coder", permission_set="p", options={"b": "2"}, skills=("y", "x")).as_value("vega", stack)

        assert (made.backend, made.model, made.skills) == ("claude", "big", ("y", "x"))
        assert made.options == {"a": "1", "b": "2", "image": "img:1"}

    def test_win_over_their_stack(self) -> None:
        made = Agent(role="coder", permission_set="p", backend="codex", model="small")

        assert made.as_value("vega", AgentStack(backend="claude", model="big")).backend == "codex"
        assert made.as_value("vega", None).model == "small"


class TestTriggerRules:
    @pytest.mark.parametrize(
        ("label", "role"),
        [
            ("agent:coder", "coder"),
            ("agent:", None),
            ("agents:coder", None),
            ("my agent:coder", None),
            ("agent:*", "*"),
        ],
    )
    def test_a_star_is_the_role(self, label: str, role: str | None) -> None:
        assert TriggerRule(labels=("agent:*",)).role_for(label) == role

    def test_a_rule_with_a_role_gives_that_role(self) -> None:
        assert TriggerRule(labels=("bug", "x*"), role="coder").role_for("bug") == "coder"
        assert TriggerRule(labels=("bug", "x*"), role="coder").role_for("x-1") == "coder"


class TestQuantities:
    @pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2h0m1s", 7201)])
    def test_durations(self, text: str, seconds: int) -> None:
        assert LimitsPart.model_validate({"wall": text}).wall == seconds

    @pytest.mark.parametrize(("text", "mib"), [("512Mi", 512), ("4Gi", 4096)])
    def test_sizes(self, text: str, mib: int) -> None:
        assert LimitsPart.model_validate({"memory": text}).memory == mib

    @pytest.mark.parametrize(("value", "cpus"), [("500m", 0.5), ("2", 2.0), (1.5, 1.5), (2, 2.0)])
    def test_cpus(self, value: object, cpus: float) -> None:
        assert LimitsPart.model_validate({"cpu": value}).cpu == cpus

    def test_are_written_back_as_people_write_them(self) -> None:
        assert LimitsPart(wall=90, memory=512).model_dump(mode="json", exclude_none=True) == {
            "wall": "90s",
            "memory": "512Mi",
        }

    def test_stand_in_for_defaults(self) -> None:
        assert LimitsPart(wall=60).over(Limits()) == Limits(wall_seconds=60)


PARTS = st.sampled_from(["a", "b", "src", "*", "**", "a*", "?", "*.py", "x.py"])
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
PATHS = st.lists(st.sampled_from(["a", "b", "src", "x.py", "ab", "c.txt"]), min_size=1, max_size=5).map("/".join)


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "path", "covered"),
        [
            ("docs/**", "docs/a/b.md", True),
            ("docs/**", "docs", False),
            ("docs/*", "docs/a/b.md", False),
            ("**/*.md", "a.md", True),
            ("**/*.md", "a/b/c.md", True),
            ("*.md", "a/b.md", False),
            ("a?c", "abc", True),
            ("a?c", "a/c", False),
            ("a.c", "abc", False),
        ],
    )
    def test_match(self, pattern: str, path: str, covered: bool) -> None:
        assert matches(pattern, path) is covered

    @pytest.mark.parametrize(
        ("wide", "narrow", "covered"),
        [
            ("*", "**", False),
            ("a/*", "a/**", False),
            ("?", "*", False),
            ("a?", "a*", False),
            ("*/x", "**/x", False),
            ("*", "?", True),
            ("**", "*", True),
            ("a/**", "a/*", True),
            ("**/*.py", "src/x.py", True),
            ("*.pypi.org", "files.pypi.org", True),
            ("pypi.org", "*.pypi.org", False),
        ],
    )
    def test_cover_others(self, wide: str, narrow: str, covered: bool) -> None:
        assert covers(wide, narrow) is covered

    @given(wide=PATTERNS, narrow=PATTERNS, path=PATHS)
    def test_that_cover_another_match_all_that_it_matches(self, wide: str, narrow: str, path: str) -> None:
        if covers(wide, narrow) and matches(narrow, path):
            assert matches(wide, path)

    @given(pattern=PATTERNS)
    def test_cover_themselves_and_everything_covers_them(self, pattern: str) -> None:
        assert covers(pattern, pattern)
        assert covers("**", pattern)


@given(st.text(max_size=30))
def test_a_branch_name_is_never_an_option_or_a_path_out(text: str) -> None:
    try:
        name = branch(text)
    except ValueError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", name)
    assert ".." not in name
    assert not any(part.startswith(("-", ".")) or not part for part in name.split("/"))


def test_a_repository_says_what_a_run_needs() -> None:
    made = Repository(url="/srv/x", test_command="make test").as_value("sample")

    assert (made.name, made.url, made.default_branch, made.test_command) == ("sample", "/srv/x", "main", "make test")


def test_roles_of_a_source_are_planes_numbers() -> None:
    assert Source(provider="api", minimum_role="admin").minimum_role.level == 20  # type: ignore[arg-type]
